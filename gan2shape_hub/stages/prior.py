"""The ellipsoid that a shape starts from, and the fit of the depth net to it (paper section 3.2)."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from gan2shape_hub.config import CategoryConfig
from gan2shape_hub.run import Run
from gan2shape_hub.stages.preview import scene_preview
from gan2shape_hub.state import State


def ellipsoid_box(config: CategoryConfig, mask: Tensor | None) -> tuple[float, float, float, float]:
    """(top, left, bottom, right) in pixels: of the object mask (S, S) where there is one that is neither empty nor
    everything (an opaque image's), else the category's default, with the category's corrections."""
    size, prior = config.image_size, config.prior
    inside = torch.zeros(size, size, dtype=torch.bool) if mask is None else mask > 0.5
    if bool(inside.any()) and not bool(inside.all()):
        rows, columns = torch.nonzero(inside.any(dim=1)).flatten(), torch.nonzero(inside.any(dim=0)).flatten()
        top, bottom = float(rows[0]), float(rows[-1])
        left, right = float(columns[0]), float(columns[-1])
    else:
        top, left, bottom, right = (x * (size - 1) for x in prior.default_box)
    height, width = bottom - top, right - left
    top -= prior.extend_top * height
    bottom = size - 1.0 if prior.bottom_to_edge else bottom + prior.extend_bottom * height
    return top, left + prior.shrink_sides * width, bottom, right - prior.shrink_sides * width


def ellipsoid_depth(config: CategoryConfig, mask: Tensor | None = None) -> Tensor:
    """Depth (S, S) of the prior: a cap of a sphere of ``prior.radius``, stretched to the box; ``far`` outside it.

    ``mask``: (S, S) object mask or None for the category's default box.
    """
    size, prior = config.image_size, config.prior
    top, left, bottom, right = ellipsoid_box(config, mask)
    half_width = max((right - left) / 2, 1.0)
    ratio = max(bottom - top, 2.0) / max(right - left, 2.0)
    v, u = torch.meshgrid(torch.arange(size).float(), torch.arange(size).float(), indexing="ij")
    distance = torch.hypot(u - (left + right) / 2, (v - (top + bottom) / 2) / ratio) / half_width
    # The cap's rim, at distance 1, lies (far - near) behind its tip.
    rim = math.sqrt(max(prior.radius**2 - (prior.radius - (prior.far - prior.near)) ** 2, 0.0))
    cap = prior.near + prior.radius - (prior.radius**2 - (distance * rim).square()).clamp_min(0).sqrt()
    return torch.where(distance <= 1, cap, torch.full_like(cap, prior.far))


def fit_prior(state: State, run: Run) -> State:
    """Train the depth net until it says the ellipsoid for every target."""
    targets, nets = state.targets, state.nets.learning("depth")
    masks = targets.masks if run.config.use_mask and targets.masks is not None else [None] * len(targets)
    prior = torch.stack([ellipsoid_depth(run.config, None if m is None else m[0].cpu()) for m in masks])
    prior = prior.to(run.device)
    optimizer = run.optimizer(nets.parameters("depth"), run.schedule.learning_rate)
    batch = min(run.schedule.batch_size, len(targets))
    span = run.config.camera.max_depth - run.config.camera.min_depth
    now = scene_preview(targets.images[0], lambda: nets.predict_scene(targets.images[:1], run.config), run.config)
    for iteration in range(run.iterations):
        pick = run.integers(len(targets), batch) if len(targets) > batch else torch.arange(batch, device=run.device)
        with run.autocast():
            depth = nets.predict_depth(targets.images[pick], run.config)
        error = (depth - prior[pick]) / span
        # Mean squared error alone leaves a speckle that is nothing in depth and everything in the normals.
        speckle = error.diff(dim=-1).abs().mean() + error.diff(dim=-2).abs().mean()
        loss = error.square().mean() + speckle
        optimizer.step(loss)
        run.tick(iteration, loss.detach(), now)
    return state.replace(nets=nets.frozen(), scene=None)
