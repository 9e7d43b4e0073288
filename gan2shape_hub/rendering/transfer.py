"""A picture's own pixels, carried by the sheet to where another view sees them."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from gan2shape_hub.config import CameraConfig
from gan2shape_hub.rendering.camera import Pose, project, unproject
from gan2shape_hub.rendering.renderer import warp_depth


def transfer(
    images: Tensor,
    depth: Tensor,
    source: Pose,
    target: Pose,
    camera: CameraConfig,
    importance: Tensor | None = None,
    tolerance: float = 0.006,
) -> tuple[Tensor, Tensor]:
    """What ``images`` (N, C, S, S), seen from ``source``, look like from ``target``, if the sheet is ``depth``.

    Differentiable in depth and poses.

    Args:
        depth: (N, S, S) canonical.
        importance: (1, 1, S, S) weight of the sheet's pixels, by default 1.
        tolerance: scene units by which a point may lie behind the source's surface and still count as seen.

    Returns:
        image (N, C, S, S) and weight (N, 1, S, S), 0 where the sheet is not there or the source did not see it.
    """
    size = depth.shape[-1]
    seen_depth, mask = warp_depth(depth, target, camera)
    canonical = target.inverse().apply(unproject(seen_depth, camera), camera)
    there = source.apply(canonical, camera)
    scale = 2 / (size - 1)
    grid = project(there, camera, (size, size)) * scale - 1
    image = F.grid_sample(images, grid, padding_mode="border", align_corners=True)
    with torch.no_grad():
        front, _ = warp_depth(depth, source, camera)
        nearest = F.grid_sample(front[:, None], grid, padding_mode="border", align_corners=True)
        visible = (there[..., 2][:, None] <= nearest + tolerance) & (grid.abs() <= 1).all(-1)[:, None]
        weight = mask * visible
        if importance is not None:
            place = project(canonical, camera, (size, size)) * scale - 1
            weight = weight * F.grid_sample(
                importance.expand(len(depth), -1, -1, -1), place, padding_mode="border", align_corners=True
            )
    return image, weight


def box_importance(box: tuple[float, float, float, float], size: int, background: float) -> Tensor:
    """(1, 1, size, size): 1 in the ellipse of ``box`` ((top, left, bottom, right) in 0..1), ``background`` outside, a
    soft edge between."""
    top, left, bottom, right = box
    at = torch.arange(size) / (size - 1)
    y = (at[:, None] - (top + bottom) / 2) / ((bottom - top) / 2)
    x = (at[None] - (left + right) / 2) / ((right - left) / 2)
    inside = torch.sigmoid((1 - (x.square() + y.square()).sqrt()) * 10)
    return (background + (1 - background) * inside)[None, None]
