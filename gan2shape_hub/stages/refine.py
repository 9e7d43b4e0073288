"""Step 3: one shape must explain the input and all projected views (paper section 3.3, step 3)."""

from __future__ import annotations

import torch
from torch import Tensor

from gan2shape_hub.models.perceptual import feature_loss, masked_l1
from gan2shape_hub.models.shape import ShapeNets
from gan2shape_hub.records import Targets
from gan2shape_hub.rendering.scene import render_scene, smoothness
from gan2shape_hub.run import Run
from gan2shape_hub.stages.preview import scene_preview
from gan2shape_hub.state import State


def refine(state: State, run: Run) -> State:
    """Train depth, albedo, view and light together on the targets and their projected views.

    Every iteration renders a few inputs and, of each, a few of its projected views; each image under the view and
    light that the networks read off it, all from the depth and albedo of its input. ``mirror`` of the round renders
    the mirrored depth and albedo in every other iteration (at random), which is half the price of rendering both each
    time. The views are used up.
    """
    targets, pseudo = state.targets, state.views
    names = ("depth", "albedo", "view", "light")
    nets = state.nets.learning(*names)
    optimizer = run.optimizer(nets.parameters(*names), run.schedule.learning_rate)
    input_features = _features(targets.images, run)
    pseudo_features = _features(pseudo.images.flatten(0, 1), run)
    views = pseudo.images.shape[1]
    scenes = min(len(targets), max(1, run.schedule.batch_size // 2))
    per_scene = max(1, run.schedule.batch_size // scenes)
    now = scene_preview(targets.images[0], lambda: nets.predict_scene(targets.images[:1], run.config), run.config)
    for iteration in range(run.iterations):
        pick = torch.randperm(len(targets), generator=run.rng)[:scenes].to(run.device)
        which = run.integers(views, scenes, per_scene)
        flat = (pick[:, None] * views + which).flatten()
        loss = refine_loss(
            nets,
            targets.select(pick),
            pseudo.images.flatten(0, 1)[flat],
            pseudo.masks.flatten(0, 1)[flat],
            [[f[pick] for f in input_features], [f[flat] for f in pseudo_features]],
            mirror=run.round.mirror and run.coin(),
            run=run,
        )
        optimizer.step(loss)
        run.tick(iteration, loss.detach(), now)
    return state.replace(nets=nets.frozen(), scene=None, views=None)


def refine_loss(
    nets: ShapeNets,
    targets: Targets,
    pseudo: Tensor,
    pseudo_masks: Tensor,
    features: list[list[Tensor]],
    *,
    mirror: bool,
    run: Run,
) -> Tensor:
    """Loss of one iteration.

    Args:
        targets: n inputs. pseudo: (n m, 3, S, S) projected views, the m of the first input first; pseudo_masks:
            (n m, 1, S, S). features: those of the inputs and of the projected views, in float16 or float32.
    """
    config, weights = run.config, run.config.loss
    n = len(targets)
    everything = torch.cat([targets.images, pseudo])
    with run.autocast():
        depth = nets.predict_depth(targets.images, config)
        albedo = nets.albedo(targets.images).float()
        view = nets.predict_view(everything, config)
        light = nets.predict_light(everything, config)
    if mirror:
        depth, albedo = depth.flip(-1), albedo.flip(-1)
    own = torch.arange(n, device=depth.device)
    owner = torch.cat([own, own.repeat_interleave(len(pseudo) // n)])
    rendered, diffuse = render_scene(depth, albedo, view, light, config.camera, owner)
    mask = rendered.mask
    if config.use_mask and targets.masks is not None:
        # As in the reference, the input is explained with its background, a projected view within the object.
        mask = mask * torch.cat([torch.ones_like(targets.masks), pseudo_masks])
    loss = masked_l1(rendered.image[:n], everything[:n], mask[:n])
    loss = loss + masked_l1(rendered.image[n:], everything[n:], mask[n:])
    if run.perceptual is not None:
        maps = run.image_features(rendered.image)
        for part, wanted in zip((slice(0, n), slice(n, None)), features, strict=True):
            found = [m[part] for m in maps]
            loss = loss + weights.perceptual_weight * feature_loss(found, [f.float() for f in wanted], mask[part])
    return loss + weights.smoothness_weight * (smoothness(depth) + smoothness(diffuse))


@torch.no_grad()
def _features(images: Tensor, run: Run) -> list[Tensor]:
    """Features of many images, computed once and kept in half precision."""
    chunks = [[f.half() for f in run.image_features(chunk)] for chunk in images.split(16)]
    return [torch.cat(maps) for maps in zip(*chunks, strict=True)]
