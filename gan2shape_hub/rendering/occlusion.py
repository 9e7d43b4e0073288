"""What of the light around a point of a sheet is hidden by the sheet itself: ambient occlusion and soft shadows.

In a handful of directions along the picture the highest elevation of the relief is found, its horizon (as Bavoil 2008
has it on screens). Light from below a horizon does not arrive. Costs are linear in pixels: steps grow with distance.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from gan2shape_hub.config import CameraConfig
from gan2shape_hub.rendering.camera import focal_px

DIRECTIONS = 12
"""Around a point."""
ELEVATIONS = 6
"""Light from the camera's half of each direction is added up at so many heights."""
REACH = 0.35
"""Of the sheet's side: what is further away hides nothing."""
GROWTH = 1.25
"""Of one step's length over that before it."""


def horizons(depth: Tensor, camera: CameraConfig, directions: int = DIRECTIONS, reach: float = REACH) -> Tensor:
    """(directions, H, W) sine of the horizon's elevation over the picture's plane, -1..1, seen from each pixel of the
    sheet ``depth`` (H, W); direction k is at 2 pi k / directions from x (right) toward y (down)."""
    height, width = depth.shape
    distances, length = [], 1.0
    while length <= max(reach * width, 1):
        distances.append(length)
        length = max(length + 1, length * GROWTH)
    pad = math.ceil(distances[-1]) + 1
    z = F.pad(depth[None], (pad,) * 4, mode="replicate")[0]
    focal = focal_px(width, camera.fov_deg)
    column, row = (torch.arange(-pad, n + pad).to(depth) - (n - 1) / 2 for n in (width, height))
    around = torch.stack((z * column / focal, z * row[:, None] / focal, z))
    here = around[:, pad:-pad, pad:-pad]
    answer = []
    for k in range(directions):
        angle = 2 * math.pi * k / directions
        highest = torch.full_like(depth, -1.0)
        for distance in distances:
            dx, dy = round(distance * math.cos(angle)), round(distance * math.sin(angle))
            there = around[:, pad + dy : pad + dy + height, pad + dx : pad + dx + width]
            x, y, z = there - here
            highest = torch.maximum(highest, -z * (x * x + y * y + z * z).clamp_min(1e-20).rsqrt())
        answer.append(highest)
    return torch.stack(answer)


def visible(horizon: Tensor, toward: Tensor, softness: float) -> Tensor:
    """(H, W) in 0..1: how much of a lamp in direction ``toward`` (3,), unit, is above the ``horizon`` (K, H, W).

    ``softness`` is the sine over which it rises, half of the lamp's height: shadows have penumbrae.
    """
    count = len(horizon)
    x, y, z = (float(v) for v in toward)
    at = math.atan2(y, x) / (2 * math.pi) * count % count if x or y else 0.0
    first, part = int(at) % count, at - int(at)
    hidden = torch.lerp(horizon[first], horizon[(first + 1) % count], part)
    # A lamp at the camera stands above all sides alike.
    hidden = torch.lerp(horizon.mean(0), hidden, min(math.hypot(x, y) / softness, 1))
    return ((-z - hidden) / (2 * softness) + 0.5).clamp(0, 1)


def occlusion(horizon: Tensor, normals: Tensor, radiance: Callable[[Tensor], Tensor] | None = None) -> Tensor:
    """(H, W) in 0..1: how much of the light that a surface would receive arrives.

    Args:
        horizon: (K, H, W) of `horizons`.
        normals: (3, H, W) as `normals_from_depth` has them.
        radiance: of directions (3, N) to (N,), 0 or more; None: 1 everywhere, which is ambient occlusion, weighted by
            the cosine.
    """
    count = len(horizon)
    half = 1 / (2 * ELEVATIONS)
    # The lowest lie behind the picture's plane: what faces sideways sees them.
    sines = [(2 * i + 1) * half for i in range(-ELEVATIONS // 2, ELEVATIONS)]
    arrives, whole = torch.zeros_like(normals[0]), torch.zeros_like(normals[0])
    for k in range(count):
        angle = 2 * math.pi * k / count
        rays = [(math.sqrt(1 - s * s) * math.cos(angle), math.sqrt(1 - s * s) * math.sin(angle), -s) for s in sines]
        strengths = [1.0] * len(rays) if radiance is None else radiance(normals.new_tensor(rays).T).tolist()
        for sine, toward, strength in zip(sines, rays, strengths, strict=True):
            received = sum(-n * t for n, t in zip(normals, toward, strict=True)).clamp_min(0) * strength
            whole += received
            arrives += received * ((sine - horizon[k]) / (2 * half) + 0.5).clamp(0, 1)
    return torch.where(whole > 1e-6, arrives / whole.clamp_min(1e-6), 1.0)
