"""Step 1: fit the albedo so that the current shape, view and light render the input (paper section 3.3, step 1)."""

from __future__ import annotations

import torch

from gan2shape_hub.models.perceptual import feature_loss, masked_l1
from gan2shape_hub.models.shape import ShapeNets
from gan2shape_hub.records import Scene, Targets
from gan2shape_hub.rendering.scene import render_scene, smoothness
from gan2shape_hub.run import Run
from gan2shape_hub.stages.preview import scene_preview


def decompose(
    nets: ShapeNets, targets: Targets, iterations: int, run: Run, *, mirror: bool = False, scene: Scene | None = None
) -> None:
    """Train ``nets.albedo`` for ``iterations``; depth, view and light stay as they are: those of ``scene`` (of all
    targets), else what the networks say."""
    config, weights = run.config, run.config.loss
    optimizer = run.optimizer(nets.train("albedo"), run.schedule.learning_rate)
    batch = min(run.schedule.batch_size, len(targets))
    with torch.no_grad():
        single = nets.predict_scene(targets.images, config) if scene is None and len(targets) <= batch else None
        features = [run.image_features(image[None]) for image in targets.images]
    for iteration in range(iterations):
        pick = run.integers(len(targets), batch) if len(targets) > batch else torch.arange(batch, device=run.device)
        chosen = targets.select(pick)
        with torch.no_grad(), run.accelerator.autocast():
            if scene is not None:
                known = scene.select(pick)
            else:
                known = single if single is not None else nets.predict_scene(chosen.images, config)
        with run.accelerator.autocast():
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
        optimizer.zero_grad(set_to_none=True)
        run.accelerator.backward(loss)
        optimizer.step()
        run.tick("decompose", iteration, iterations, loss.detach(), scene_preview(nets, targets, config))
