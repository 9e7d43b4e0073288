"""Directions of W along which the object turns, found without labels.

The view net learns from renders of a rough shape, whose views are known. Read on many generated images and regressed on
their latents, its (weak, shrunken) predictions still point along the directions of W that turn the object; walking
along them turns it far beyond what the projection of crude renders dares, and keeps the object. How many degrees a step
is, is measured with the rough shape: the yaw of the warped picture that looks most like the walked one.
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
from gan2shape_hub.models.latent_projection import along, gan_image
from gan2shape_hub.models.perceptual import masked_l1
from gan2shape_hub.models.shape import ShapeNets
from gan2shape_hub.rendering import Pose, render_view
from gan2shape_hub.rendering.transfer import box_importance

PITCH, YAW = 0, 1
"""Coordinates of a view."""
SENSES = (-1.5, 1.5)
"""Steps that are measured."""


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


def view_directions(coordinates: Tensor, views: Tensor, ridge: float) -> Tensor:
    """Unit directions (2, components) of pitch and yaw: views (N, 2 or more), as a view net says them of N images,
    regressed on the images' normalised components (N, components)."""
    gram = coordinates.T @ coordinates + ridge * torch.eye(coordinates.shape[1], device=coordinates.device)
    wanted = views[:, :2] - views[:, :2].mean(dim=0)
    return F.normalize(torch.linalg.solve(gram, coordinates.T @ wanted).T, dim=1)


def find_view_directions(
    latents: Tensor,
    views: Tensor,
    sheet: Tensor,
    generator: ComponentGenerator,
    config: CategoryConfig,
    log: Callable[[str], None],
    *,
    ridge: float = 20.0,
    measured: int = 16,
    smallest_step_deg: float = 1.2,
) -> ViewDirections | None:
    """The directions along which the object turns, and how far a step goes.

    Args:
        latents: (N, D) of generated images, a thousand or more; views: (N, 6), what the view net says of them.
        sheet: (S, S), the rough shape.
        measured: of the first so many latents the step is measured.

    Returns:
        None, with a line to ``log``, where a step turns the object by ``smallest_step_deg`` or less.
    """
    directions = view_directions(normalised_components(generator, latents), views, ridge)
    angle = config.camera.view_angle_deg
    units = [measure_step(latents[:measured], directions, axis, sheet, generator, config) for axis in (PITCH, YAW)]
    log(f"a step along pitch, yaw is {units[0] * angle:.1f}, {units[1] * angle:.1f} degrees")
    if min(abs(unit) for unit in units) * angle <= smallest_step_deg:
        log("no direction of W turns the object")
        return None
    return ViewDirections(directions, directions.new_tensor(units))


@torch.no_grad()
def measure_step(
    latents: Tensor,
    directions: Tensor,
    axis: int,
    sheet: Tensor,
    generator: ComponentGenerator,
    config: CategoryConfig,
) -> float:
    """View units of a step of length 1: median over objects (N, D) and both senses of the best photometric match."""
    size, reach = config.image_size, 63.0 / config.camera.view_angle_deg
    grid = torch.linspace(-reach, reach, 61)
    views = torch.zeros(len(grid), 6)
    views[:, axis] = grid
    pose = Pose.from_view(views.to(sheet.device), config.camera)
    inner = F.avg_pool2d(box_importance(config.prior.default_box, size, 0.0).to(sheet), 4)
    values = []
    for latent in latents.split(1):
        image = gan_image(generator, latent, size, config.crop_fraction).clamp(-1, 1)
        warped = render_view(sheet.expand(len(grid), -1, -1), image.expand(len(grid), -1, -1, -1), pose, config.camera)
        small, mask = F.avg_pool2d(warped.image, 4), F.avg_pool2d(warped.mask, 4) * inner
        for sense in SENSES:
            steps = torch.zeros(1, 2, device=sheet.device)
            steps[0, axis] = sense
            walked = gan_image(generator, latent + along(generator, steps, directions), size, config.crop_fraction)
            other = F.avg_pool2d(walked.clamp(-1, 1), 4)
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
