"""Step 1: fit the albedo so that the current shape, view and light render the input (paper section 3.3, step 1)."""

from __future__ import annotations

import dataclasses

import torch

from gan2shape_hub.models.perceptual import feature_loss, masked_l1
from gan2shape_hub.records import Scene
from gan2shape_hub.rendering.scene import render_scene, resized, resized_scene, smoothness
from gan2shape_hub.run import Run
from gan2shape_hub.stages.preview import scene_preview
from gan2shape_hub.state import State


def decompose(state: State, run: Run) -> State:
    """Train the albedo net; depth, view and light of the scenes stay as they are. ``mirror_decompose`` of the round
    renders the mirrored depth and albedo in every other iteration (at random)."""
    config, weights, mirror = run.config, run.config.loss, run.round.mirror_decompose
    targets, nets, full = state.targets, state.nets.learning("albedo"), state.seen(config)
    scene = resized_scene(full, config.image_size)  # what the networks work at; a finer sheet waits
    optimizer = run.optimizer(nets.parameters("albedo"), run.schedule.learning_rate)
    batch = min(run.schedule.batch_size, len(targets))
    with torch.no_grad():
        features = [run.image_features(image[None]) for image in targets.images]

    def first() -> Scene:
        return dataclasses.replace(scene.select(slice(1)), albedo=nets.albedo(targets.images[:1]).float())

    for iteration in range(run.iterations):
        pick = run.integers(len(targets), batch) if len(targets) > batch else torch.arange(batch, device=run.device)
        chosen, known = targets.select(pick), scene.select(pick)
        with run.autocast():
            albedo = nets.albedo(chosen.images).float()
        depth = known.depth
        if mirror and run.coin():
            depth, albedo = depth.flip(-1), albedo.flip(-1)
        view, diffuse = render_scene(depth, albedo, known.view, known.light, config.camera)
        # The background too is explained, as in the reference; the object's mask is for the pseudo views.
        mask = view.mask
        loss = masked_l1(view.image, chosen.images, mask)
        if run.perceptual is not None:
            wanted = [torch.cat(maps) for maps in zip(*(features[int(i)] for i in pick), strict=True)]
            loss = loss + weights.perceptual_weight * feature_loss(run.image_features(view.image), wanted, mask)
        loss = loss + weights.smoothness_weight * (smoothness(depth) + smoothness(diffuse))
        optimizer.step(loss)
        run.tick(iteration, loss.detach(), scene_preview(targets.images[0], first, config))
    with torch.no_grad():
        albedo = torch.cat([nets.albedo(image).float() for image in targets.images.split(1)])
    albedo = resized(albedo, full.depth.shape[-1])
    return state.replace(nets=nets.frozen(), scene=dataclasses.replace(full, albedo=albedo))
