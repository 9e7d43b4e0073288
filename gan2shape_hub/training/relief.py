"""How deep the relief is and how far objects are turned: what light says of them.

A deeper relief that turns less looks much like a flatter one that turns more: turned views alone know little more than
the product. The brightness of a matte surface follows its normals, which know the relief by itself. So the average
object is made flatter and deeper, and its angles smaller and larger, its lights fitted anew each time, and that is kept
which leaves least of the log ratios unexplained. No label is needed for it, and no judge.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from gan2shape_hub.config import CameraConfig, CategoryConfig
from gan2shape_hub.models.shape import ShapeNets
from gan2shape_hub.rendering.camera import Pose
from gan2shape_hub.rendering.photometric import fit_lights, harmonics
from gan2shape_hub.rendering.renderer import warp_depth
from gan2shape_hub.rendering.shading import normals_from_depth
from gan2shape_hub.rendering.transfer import box_importance
from gan2shape_hub.stages.photometric import Evidence
from gan2shape_hub.training.recipe import PosesRecipe
from gan2shape_hub.training.view_pool import ViewPool

STEEP = 0.25
"""Cosine of the slant beyond which a frontal view's normals count for nothing: they are the silhouette's."""


@dataclass(frozen=True)
class Relief:
    """Factors of the average sheet's relief, about the depth ``pivot`` (scene units), and of the angles that the view
    network reads, about ``middle`` (2), view units.

    The pivot is the object's own middle: how far that lies before the axis about which it turns stays as it is.
    """

    relief: float
    angle: float
    pivot: float
    middle: Tensor

    def camera(self, camera: CameraConfig) -> CameraConfig:
        """The camera whose range of depths, and with it what the networks say, has this relief."""
        near, far = (self.pivot + self.relief * (z - self.pivot) for z in (camera.min_depth, camera.max_depth))
        return dataclasses.replace(camera, min_depth=round(near, 5), max_depth=round(far, 5))

    def sheet(self, depth: Tensor) -> Tensor:
        """A depth (S, S) with this relief."""
        return self.pivot + self.relief * (depth - self.pivot)

    def views(self, views: Tensor) -> Tensor:
        """Readings (..., 6) with these angles."""
        middle = self.middle.to(views)
        turned = middle + self.angle * (views[..., :2] - middle)
        return torch.cat((turned, views[..., 2:]), -1)


@torch.no_grad()
def read_views(pool: ViewPool, nets: ShapeNets, config: CategoryConfig) -> Tensor:
    """What the view network says of every view of the pool, cut out: (N, V, 6)."""
    device, every = next(nets.view.parameters()).device, torch.arange(pool.images.shape[1])
    found = []
    for identity in range(len(pool)):
        images, masks = pool.masked(torch.full_like(every, identity), every)
        found.append(nets.predict_view((images * masks).to(device), config).cpu())
    return torch.stack(found)


@torch.no_grad()
def find_relief(
    pool: ViewPool,
    readings: Tensor,
    sheet: Tensor,
    config: CategoryConfig,
    recipe: PosesRecipe,
    log: Callable[[str], None],
) -> Relief:
    """The relief and the angles that explain the pool's lit views best on the average ``sheet`` (S, S), between the
    recipe's by a parabola; ``readings`` (N, V, 6) are `read_views`."""
    middle = torch.stack((readings[..., 0].mean(), readings.new_zeros(())))
    box = box_importance(config.prior.default_box, config.image_size, 0.0)[0, 0].to(sheet)
    pivot = float((sheet * box).sum() / box.sum())
    yaw = readings[..., 1].abs() * config.camera.view_angle_deg
    front = yaw < recipe.front_deg
    turned = (yaw >= recipe.turned_deg[0]) & (yaw < recipe.turned_deg[1])
    error = torch.zeros(len(recipe.reliefs), len(recipe.angles))
    for views, along, angles in ((front, STEEP, (1.0,)), (turned, None, recipe.angles)):
        which = views.nonzero().tolist()
        if not which:
            continue
        found = torch.zeros(len(recipe.reliefs), len(angles))
        for identity, view in which:
            for i, relief in enumerate(recipe.reliefs):
                for j, angle in enumerate(angles):
                    trial = Relief(relief, angle, pivot, middle)
                    found[i, j] += _unexplained(
                        pool, identity, view, readings[identity, view], sheet, trial, along, config
                    )
        found = found / len(which)
        log(f"unexplained in {len(which)} {'frontal' if along else 'turned'} views by relief {recipe.reliefs}:")
        for j, angle in enumerate(angles):
            log(f"  angle {angle:g}: {', '.join(f'{float(x):.4f}' for x in found[:, j])}")
        error = error + found
    i, j = divmod(int(error.argmin()), error.shape[1])
    best = Relief(_lowest(recipe.reliefs, error[:, j], i), _lowest(recipe.angles, error[i], j), pivot, middle)
    log(f"relief times {best.relief:.3f}, angles times {best.angle:.3f}")
    return best


def _unexplained(
    pool: ViewPool,
    identity: int,
    view: int,
    reading: Tensor,
    sheet: Tensor,
    trial: Relief,
    steep: float | None,
    config: CategoryConfig,
) -> float:
    """Share of the log ratios' power of a view that no light explains on the trial's sheet."""
    device, camera = sheet.device, trial.camera(config.camera)
    images, masks = pool.masked(torch.tensor([identity]), torch.tensor([view]))
    pose = Pose.from_view(trial.views(reading[None]).to(device), camera)
    depth, there = warp_depth(trial.sheet(sheet)[None], pose, camera)
    normals = -normals_from_depth(depth, camera)[0]
    ratios = pool.ratios(identity, view).to(device).float()
    flat = dataclasses.replace(config, photometric=dataclasses.replace(config.photometric, grazing_power=0.0))
    evidence = Evidence.of(ratios, images[0].to(device), depth[0], masks[0, 0].to(device), flat)
    frontal = -normals[2].flatten()
    seen = (frontal > steep).float() if steep is not None else frontal.clamp_min(0) * there.flatten()
    weight, order = evidence.told * seen, config.photometric.order
    lights, _ = fit_lights(evidence.ratios, normals.flatten(1), weight, order, config.photometric.ridge)
    left = evidence.ratios - lights @ harmonics(normals.flatten(1), order).T
    power = (evidence.ratios.square() * weight).sum(1)
    return float(((left.square() * weight).sum(1) / power.clamp_min(1e-9)).mean())


def _lowest(places: tuple[float, ...], values: Tensor, at: int) -> float:
    """Where the parabola through the lowest of ``values`` and its neighbours is lowest; its own place at the ends."""
    if not 0 < at < len(places) - 1:
        return places[at]
    x, y = torch.tensor(places[at - 1 : at + 2], dtype=torch.float64), values[at - 1 : at + 2].double()
    a, b, _ = torch.linalg.solve(torch.stack((x * x, x, torch.ones_like(x)), 1), y)
    return float((-b / (2 * a)).clamp(x[0], x[2])) if a > 0 else places[at]
