"""Directions of W along which heads turn, found without labels.

The view net learns from renders of the current shape, whose views are known. Read on many generated images and
regressed on their latents, its (weak, shrunken) predictions still point along the directions of W that turn the head;
walking along them turns it far beyond what the projection of crude renders dares, and keeps the person. How many
degrees a step is, is measured with the current shape: the yaw of the warped photograph that looks most like the walked
image.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from gan2shape_hub.config import CategoryConfig
from gan2shape_hub.generator import ComponentGenerator
from gan2shape_hub.models.latent_projection import along
from gan2shape_hub.models.perceptual import masked_l1
from gan2shape_hub.models.shape import ShapeNets
from gan2shape_hub.records import PseudoViews
from gan2shape_hub.rendering import Pose, render_view
from gan2shape_hub.run import Run
from gan2shape_hub.state import State

PITCH, YAW = 0, 1
"""Coordinates of a view."""
SMALLEST_STEP = 0.02
"""View units (1.2 degrees of 60): a direction that turns the object less than this a step does not turn it."""


@dataclass(frozen=True)
class ViewDirections:
    """Unit directions (2, components) of pitch and yaw in normalised principal components of W, and the view units that
    a step of length 1 along each stands for (2)."""

    directions: Tensor
    units: Tensor


def with_directions(config: CategoryConfig, found: ViewDirections) -> CategoryConfig:
    """``config`` whose projections start from latents walked along ``found``."""
    projection = dataclasses.replace(
        config.projection,
        view_directions=tuple(tuple(round(float(x), 5) for x in row) for row in found.directions),
        view_units=tuple(round(float(x), 5) for x in found.units),
    )
    return dataclasses.replace(config, projection=projection)


def normalised_components(generator: ComponentGenerator, latents: Tensor) -> Tensor:
    """Coordinates (N, components) of latents (N, D) in units of their standard deviations."""
    return (latents - generator.latent_mean) @ generator.component_basis.T / generator.component_std


@torch.no_grad()
def find_view_directions(
    state: State, run: Run, log: Callable[[str], None], ridge: float = 20.0
) -> ViewDirections | None:
    """Regress the view net's pitch and yaw of the targets (1,000 or more) on their latents, and measure the step."""
    targets = state.targets
    coordinates = normalised_components(state.generator, targets.latents)
    views = torch.cat([state.nets.predict_view(chunk, run.config) for chunk in targets.images.split(32)])
    gram = coordinates.T @ coordinates + ridge * torch.eye(coordinates.shape[1], device=run.device)
    directions = []
    for axis in (PITCH, YAW):
        wanted = views[:, axis] - views[:, axis].mean()
        weight = torch.linalg.solve(gram, coordinates.T @ wanted)
        directions.append(F.normalize(weight, dim=0))
    found = ViewDirections(torch.stack(directions), torch.ones(2, device=run.device))
    units = [measure_step(state, found, axis, run) for axis in (PITCH, YAW)]
    log(f"a step along pitch, yaw is {units[0] * 60:.1f}, {units[1] * 60:.1f} degrees")
    if min(abs(unit) for unit in units) < SMALLEST_STEP:
        log("no direction of W turns the object: projected views only")
        return None
    return ViewDirections(found.directions, torch.tensor(units, device=run.device))


@torch.no_grad()
def measure_step(state: State, found: ViewDirections, axis: int, run: Run, faces: int = 16) -> float:
    """View units of a step of length 1: median over faces and both senses of the best photometric match."""
    config, size, generator = run.config, run.config.image_size, state.generator
    grid = torch.linspace(-0.75, 0.75, 61)
    values = []
    for k in range(faces):
        chosen = state.targets.select(torch.tensor([k], device=run.device))
        depth = state.nets.predict_depth(chosen.images, config)
        views = torch.zeros(len(grid), 6)
        views[:, axis] = grid
        warped = render_view(
            depth.expand(len(grid), -1, -1),
            chosen.images.expand(len(grid), -1, -1, -1),
            Pose.from_view(views.to(run.device), config.camera),
            config.camera,
        )
        inner = torch.zeros_like(warped.mask)
        inner[..., size // 4 : -size // 5, size // 4 : -size // 4] = 1  # the face, where the shape is not background
        for sense in (-1.5, 1.5):
            steps = torch.zeros(1, 2, device=run.device)
            steps[0, axis] = sense
            latents = chosen.latents + along(generator, steps, found.directions)
            walked = run.gan_image(generator, latents, size).clamp(-1, 1)
            small, other = F.avg_pool2d(warped.image, 4), F.avg_pool2d(walked, 4)
            mask = F.avg_pool2d(warped.mask * inner, 4)
            losses = torch.stack([masked_l1(small[i : i + 1], other, mask[i : i + 1]) for i in range(len(grid))])
            values.append(float(grid[int(losses.argmin())]) / sense)
    return float(torch.tensor(values).median())


@torch.no_grad()
def with_measured_units(
    config: CategoryConfig, nets: ShapeNets, views: Tensor, turns: Tensor, log: Callable[[str], None]
) -> CategoryConfig:
    """``config`` whose ``view_units`` are those in which the trained view network sees the walks turn the object.

    Args:
        views: (N, V, 3, S, S) in -1..1, V views of N identities.
        turns: (N, V, 2), their pitch and yaw in the old units.
    """
    found = torch.stack([nets.predict_view(one, config)[:, :2] for one in views])
    found, turns = (x - x.mean(dim=1, keepdim=True) for x in (found, turns.to(found)))
    slope = (found * turns).sum(dim=(0, 1)) / turns.square().sum(dim=(0, 1)).clamp_min(1e-8)
    units = tuple(
        round(float(unit * max(factor, 0.1)), 5)
        for unit, factor in zip(config.projection.view_units, slope, strict=True)
    )
    log(f"a step along pitch, yaw is {', '.join(f'{u * config.camera.view_angle_deg:.1f}' for u in units)} degrees")
    return dataclasses.replace(config, projection=dataclasses.replace(config.projection, view_units=units))


@torch.no_grad()
def collect_turned_views(state: State, found: ViewDirections, count: int, run: Run, limit: float = 0.45) -> PseudoViews:
    """``count`` generated views of every target, turned by up to ``limit`` (yaw, view units) and half of it (pitch)."""
    images, views, targets, generator = [], [], state.targets, state.generator
    coordinates = normalised_components(generator, targets.latents) @ found.directions.T  # (K, 2)
    for k in range(len(targets)):
        own = coordinates[k] * found.units
        wanted = torch.stack([run.uniform(-limit / 2, limit / 2, count), run.uniform(-limit, limit, count)], dim=1)
        # Steps go to a wanted view, not by it: an already turned head is not turned out of sight.
        steps = (wanted - own.clamp(-limit, limit)) / found.units
        steps = steps.clamp(-2.5, 2.5)
        latent = targets.latents[k] + along(generator, steps, found.directions)
        images.append(run.gan_image(generator, latent, run.config.image_size).clamp(-1, 1))
        view = torch.zeros(count, 6, device=run.device)
        view[:, :2] = own + steps * found.units
        views.append(view.clamp(-1, 1))
    stacked = torch.stack(images)
    return PseudoViews(
        images=stacked,
        masks=torch.ones_like(stacked[:, :, :1]),
        views=torch.stack(views),
        lights=torch.zeros(*stacked.shape[:2], 4, device=run.device),
    )


def warm_up_view(
    state: State,
    pseudo: PseudoViews,
    found: ViewDirections,
    iterations: int,
    run: Run,
    log: Callable[[str], None],
) -> State:
    """Teach the view net the pitch and yaw that the directions say of the inputs and of the turned views."""
    targets, nets = state.targets, state.nets.learning("view")
    own = torch.zeros(len(targets), 6, device=run.device)
    own[:, :2] = normalised_components(state.generator, targets.latents) @ found.directions.T * found.units
    images = torch.cat([targets.images, pseudo.images.flatten(0, 1)])
    views = torch.cat([own, pseudo.views.flatten(0, 1)]).clamp(-0.8, 0.8)
    optimizer = torch.optim.Adam(nets.parameters("view"), lr=5e-4)
    for iteration in range(iterations):
        pick = run.integers(len(images), 16)
        loss = F.smooth_l1_loss(nets.predict_view(images[pick], run.config)[:, :2], views[pick, :2], beta=0.1)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        if (iteration + 1) % 50 == 0:
            log(f"view of generated images {iteration + 1}/{iterations}: {loss:.4f}")
    return state.replace(nets=nets.frozen(), scene=None)
