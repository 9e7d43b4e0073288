"""A scene's layers continued beyond the sheet's frame, so that a model holds all that a photograph shows of an object.

The sheet is seen by its own, canonical camera; a head that the photograph shows nearer or lower reaches beyond it.
There the sheet goes on as it ends.
"""

from __future__ import annotations

import math
from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor

from gan2shape_hub.config import CameraConfig
from gan2shape_hub.rendering.camera import Pose, project, unproject
from gan2shape_hub.results.mesh import Window

MARGIN = 5 / 32
"""Of the sheet's side, on each side."""
FRAYED = 2 / 128
"""Of the sheet's side: so near to its edge the sheet bends, since nothing beyond holds it."""


def margin(side: int) -> int:
    """Pixels by which a sheet of ``side`` pixels goes on."""
    return round(MARGIN * side)


def wide_camera(camera: CameraConfig, side: int) -> CameraConfig:
    """The camera of a sheet of ``side`` pixels with its margins: the same focal length, more to see."""
    spread = math.tan(math.radians(camera.fov_deg) / 2) * (side - 1 + 2 * margin(side)) / (side - 1)
    return replace(camera, fov_deg=2 * math.degrees(math.atan(spread)), border_px=0)


def widened(maps: Tensor) -> Tensor:
    """(C, S, S) with margins that repeat the border."""
    return F.pad(maps[None], (margin(maps.shape[-1]),) * 4, mode="replicate")[0]


def widened_depth(depth: Tensor) -> Tensor:
    """(S, S) with margins that go on as the sheet is a little inside its edge, smoother and smoother, since its noise
    would be drawn out into pleats."""
    kernel = depth.new_tensor([[[0.25, 0.5, 0.25]]])

    def smoothed(line: Tensor) -> Tensor:
        for _ in range(4):
            line = F.conv1d(F.pad(line[None, None], (1, 1), mode="replicate"), kernel)[0, 0]
        return line

    frayed, reach = round(FRAYED * depth.shape[-1]), margin(depth.shape[-1])
    depth = depth[frayed:-frayed, frayed:-frayed] if frayed else depth
    for _ in range(reach + frayed):
        depth = torch.cat((smoothed(depth[0])[None], depth, smoothed(depth[-1])[None]))
        depth = torch.cat((smoothed(depth[:, 0])[:, None], depth, smoothed(depth[:, -1])[:, None]), 1)
    return depth


def without_ceiling(alpha: Tensor) -> Tensor:
    """A widened mask (S, S) that ends where the photograph ends above, where hair that it cuts is no hair."""
    rows = round(alpha.shape[-1] * MARGIN / (1 + 2 * MARGIN))
    return torch.cat((torch.zeros_like(alpha[:rows]), alpha[rows:]))


def window(depth: Tensor, alpha: Tensor, pose: Pose, camera: CameraConfig) -> Window:
    """The part of a widened sheet ``depth`` (S, S) whose object, ``alpha`` (M, M), the photograph shows: cut straight
    along rows and columns, where half of the object's points are outside."""
    side = depth.shape[-1]
    edge = round(side * MARGIN / (1 + 2 * MARGIN)) - 0.5
    pixels = project(pose.apply(unproject(depth[None], camera), camera), camera, (side, side))
    lookup = (2 * pixels + 1) / side - 1
    there = F.grid_sample(alpha[None, None].to(depth), lookup, align_corners=False)[0, 0] > 0.5
    x, y = pixels[0].unbind(-1)

    def limits(outside_low: Tensor, outside_high: Tensor, dim: int) -> tuple[int, int]:
        count = there.sum(dim).clamp_min(1)
        low = (there & outside_low).sum(dim) / count > 0.5
        high = (there & outside_high).sum(dim) / count > 0.5
        first = int(torch.nonzero(low).max()) + 1 if low.any() else 0
        last = int(torch.nonzero(high).min()) - 1 if high.any() else side - 1
        return first, last

    left, right = limits(x < edge, x > side - 1 - edge, 0)
    _, bottom = limits(torch.zeros_like(there), y > side - 1 - edge, 1)
    return Window(0, bottom, left, right)
