"""Bundle adjustment: the person's own relief and the exact poses of turned views, searched together.

An addition to the paper, for checkpoints that know directions of W along which the object turns. The networks know what
the objects of a category have in common; what is the person's own shows in how the generator turns them. Each view's
pose may move a little here, and so may a coarse relief over the networks' depth; views explain each other with their
own pixels. Both are held: networks that also learnt from a crowd's brightness know more than these views alone
(docs/face-history.md).
"""

from __future__ import annotations

import dataclasses

import torch
import torch.nn.functional as F
from torch import Tensor

from gan2shape_hub.models.perceptual import feature_loss, masked_l1
from gan2shape_hub.models.shape import ShapeNets
from gan2shape_hub.records import Scene
from gan2shape_hub.rendering.camera import Pose
from gan2shape_hub.rendering.details import details
from gan2shape_hub.rendering.scene import smoothness
from gan2shape_hub.rendering.shading import normals_from_depth
from gan2shape_hub.rendering.transfer import box_importance, transfer
from gan2shape_hub.run import Run
from gan2shape_hub.stages.preview import scene_preview
from gan2shape_hub.state import State


def adjust(state: State, run: Run) -> State:
    """Adjust depth and view of the scenes to the turned views; albedo and light stay."""
    targets, scene, adjusted = state.targets, state.seen(run.config), []
    each = run.iterations // len(targets)
    for k in range(len(targets)):
        one = scene.select(slice(k, k + 1))
        adjusted.append(_adjust_one(state.nets, state.turned[k], targets.images[k], one, each, k * each, run))
    return state.replace(scene=Scene.cat(adjusted))


def _adjust_one(
    nets: ShapeNets, views: Tensor, image: Tensor, scene: Scene, iterations: int, first: int, run: Run
) -> Scene:
    """``scene`` (a batch of one) as ``views`` (1 + M, 3, S, S) show it, the first of them being its own view; ``first``
    iterations were done for other images."""
    config, camera, constants, size = run.config, run.config.camera, run.config.adjust, views.shape[-1]
    middle, half = (camera.max_depth + camera.min_depth) / 2, (camera.max_depth - camera.min_depth) / 2
    raw = torch.atanh(((scene.depth - middle) / half).clamp(-0.999, 0.999))
    relief = torch.zeros(1, 1, constants.grid, constants.grid, device=views.device, requires_grad=True)
    moved = torch.zeros(len(views), 6, device=views.device, requires_grad=True)
    rates = (constants.relief_rate, constants.view_rate)
    optimizer = torch.optim.Adam([{"params": [relief]}, {"params": [moved]}], betas=(0.9, 0.95))
    importance = box_importance(config.prior.default_box, config.image_size, constants.background).to(views.device)
    with torch.no_grad():
        start = nets.predict_view(views, config)
        views = details(views, config.details)
        features = run.image_features(views)

    def shape() -> Tensor:
        fine = F.interpolate(relief, (size, size), mode="bicubic", align_corners=True)[:, 0]
        return middle + half * torch.tanh(raw + fine)

    def now() -> Scene:
        return dataclasses.replace(scene, depth=shape(), view=(scene.view + moved[:1]).clamp(-1, 1))

    for iteration in range(iterations):
        for group, rate in zip(optimizer.param_groups, rates, strict=True):
            group["lr"] = rate * (1 - 0.8 * iteration / iterations)
        depth = shape()
        seen = depth.flip(-1) if (iteration + 1) % constants.mirror_every == 0 else depth
        others = 1 + torch.randperm(len(views) - 1, generator=run.rng)[: constants.partners].to(views.device)
        own = torch.zeros_like(others)
        source, target = torch.cat([own, others]), torch.cat([others, own])
        pose = start + moved
        drawn, weight = transfer(
            views[source],
            seen.expand(len(source), -1, -1),
            Pose.from_view(pose[source], camera),
            Pose.from_view(pose[target], camera),
            camera,
            importance,
        )
        loss = masked_l1(drawn, views[target], weight)
        if features:
            wanted = [f[target] for f in features]
            loss = loss + config.loss.perceptual_weight * feature_loss(run.image_features(drawn), wanted, weight)
        regular = constants.smoothness * smoothness(normals_from_depth(depth, camera))
        regular = regular + constants.relief * relief.square().mean()
        optimizer.zero_grad(set_to_none=True)
        (loss + regular).backward()
        optimizer.step()
        run.tick(first + iteration, loss.detach(), scene_preview(image, now, config))
    with torch.no_grad():
        return now()
