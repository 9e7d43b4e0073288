"""A depth sheet out of normals: the least squares surface, by conjugate gradients behind a cosine transform.

The camera is a perspective one, and the unknown is the logarithm of the depth: with the ray q = (x, y, 1) of a pixel
and the normal n, n . d(z q) = 0 says that d(log z)/du = -n_x / (f n . q), whatever the depth (Durou et al., "Normal
integration: a survey", 2018). So the equations are linear, and exact for a pinhole.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from gan2shape_hub.config import CameraConfig
from gan2shape_hub.rendering.camera import focal_px, pixel_rays

STEEPEST = 0.1
"""Of the cosine between a normal and its pixel's ray: what is steeper is taken for this, an edge that hides something.
"""
FLOOR = 1e-3
"""Weight of the equations between pixels of no weight: the surface goes on there without creases."""


def depth_from_normals(
    normals: Tensor,
    weight: Tensor,
    anchor: Tensor,
    camera: CameraConfig,
    *,
    blocks: int = 16,
    tie: float = 0.02,
    iterations: int = 60,
    tolerance: float = 1e-4,
) -> Tensor:
    """The depth (H, W) whose normals are nearest to ``normals``.

    Args:
        normals: (3, H, W) outward unit normals in the camera's frame (z below 0 towards it). Where they are not finite
            they count for nothing.
        weight: (H, W), 0 or more, of every pixel's normal; edges of what has weight are free.
        anchor: (H, W) depth in scene units, whose means over blocks the result keeps, more or less, where it has
            weight: normals do not know how far away a surface is, and little of its bulge.
        blocks: side of these blocks in pixels of a sheet of 128; in proportion in others.
        tie: how much they count. 0 leaves only the mean over all that has weight.
        iterations: at most so many; fewer where the residual falls below ``tolerance`` of its start. Some 15 do, at
            any size, and each costs four products with a (W, W) matrix.

    Returns:
        depth, of the dtype and on the device of ``anchor``. ValueError for shapes that do not belong together.
    """
    height, width = anchor.shape
    if normals.shape != (3, height, width) or weight.shape != (height, width):
        raise ValueError(
            f"normals {tuple(normals.shape)} and weight {tuple(weight.shape)} do not belong to an anchor of "
            f"{tuple(anchor.shape)}: they must be (3, H, W) and (H, W)."
        )
    finite = normals.isfinite().all(0) & weight.isfinite()
    frontal = normals.new_tensor([0.0, 0.0, -1.0])[:, None, None]
    normals, weight = torch.where(finite, normals, frontal), torch.where(finite, weight, 0.0)
    x, y = pixel_rays((height, width), camera, anchor)
    towards = (normals[0] * x + normals[1] * y + normals[2]).clamp(max=-STEEPEST)
    # In pixels, so that slopes and depths are of the same size whatever the focal length: f log z.
    focal = focal_px(width, camera.fov_deg)
    slope_x, slope_y = -normals[0] / towards, -normals[1] / towards
    wanted = ((slope_x[:, 1:] + slope_x[:, :-1]) / 2, (slope_y[1:] + slope_y[:-1]) / 2)
    weights = (torch.minimum(weight[:, 1:], weight[:, :-1]) + FLOOR, torch.minimum(weight[1:], weight[:-1]) + FLOOR)
    side = max(round(blocks * width / 128), 1)
    level = focal * anchor.log()
    # Depths in pixels grow with the sheet's side, slopes do not: the same tie for every side.
    tied = _blocks(weight, side) * (tie * (128 / width) ** 2)
    surface = _solve(wanted, weights, level, (side, tied), iterations, tolerance)
    # A depth that is scaled as a whole has the same normals: the object's mean is the anchor's.
    surface = surface + ((level - surface) * weight).sum() / weight.sum().clamp_min(1e-6)
    return (surface / focal).exp()


def _solve(
    wanted: tuple[Tensor, Tensor],
    weights: tuple[Tensor, Tensor],
    level: Tensor,
    tied: tuple[int, Tensor],
    iterations: int,
    tolerance: float,
) -> Tensor:
    """The surface (H, W) with the ``wanted`` differences along x (H, W-1) and y (H-1, W), whose block means stay near
    those of ``level``: conjugate gradients, preconditioned by the same problem with equal weights."""
    side, tie = tied

    def pull(along_x: Tensor, along_y: Tensor) -> Tensor:  # the transposed differences
        return (
            F.pad(along_x, (1, 0))
            - F.pad(along_x, (0, 1))
            + F.pad(along_y, (0, 0, 1, 0))
            - F.pad(along_y, (0, 0, 0, 1))
        )

    def to_blocks(surface: Tensor) -> Tensor:
        # A block's mean, spread over its pixels: the gradient of half the sum of squares of the means, by pixels.
        return _spread(_blocks(surface, side) * tie, side, surface.shape)

    def apply(surface: Tensor) -> Tensor:
        slopes = weights[0] * surface.diff(dim=1), weights[1] * surface.diff(dim=0)
        return pull(*slopes) + to_blocks(surface)

    right = pull(weights[0] * wanted[0], weights[1] * wanted[1]) + to_blocks(level)
    precondition = _inverse_laplacian(level, float((weights[0].mean() + weights[1].mean()) / 2), float(tie.mean()))
    surface = level.clone()
    residual = right - apply(surface)
    start = residual.norm()
    step = direction = precondition(residual)
    energy = (residual * step).sum()
    for _ in range(iterations):
        if not bool(residual.norm() > tolerance * start):
            break
        pushed = apply(direction)
        length = energy / (direction * pushed).sum()
        surface, residual = surface + length * direction, residual - length * pushed
        step = precondition(residual)
        before, energy = energy, (residual * step).sum()
        direction = step + energy / before * direction
    return surface


def _inverse_laplacian(like: Tensor, weight: float, tie: float) -> Callable[[Tensor], Tensor]:
    """The solution of ``weight`` times the Laplace equation with free edges and ``tie`` times the identity: a cosine
    transform (DCT-II, orthonormal) along both axes, as products with its matrix, which every device does fast."""
    rows, columns = (_cosines(n, like) for n in like.shape)
    frequencies = [2 - 2 * torch.cos(math.pi * torch.arange(n, device=like.device) / n) for n in like.shape]
    eigenvalues = weight * (frequencies[0][:, None] + frequencies[1][None]) + max(tie, 1e-6)
    inverse = (1 / eigenvalues).to(like)
    return lambda values: rows.T @ ((rows @ values @ columns.T) * inverse) @ columns


def _cosines(n: int, like: Tensor) -> Tensor:
    place, order = torch.arange(n, dtype=torch.float64) + 0.5, torch.arange(n, dtype=torch.float64)
    matrix = torch.cos(math.pi / n * place[None] * order[:, None]) * math.sqrt(2 / n)
    matrix[0] /= math.sqrt(2)
    return matrix.to(like.dtype).to(like.device)  # not every device has float64


def _blocks(values: Tensor, side: int) -> Tensor:
    """Means over blocks of ``side`` pixels, those at the right and lower edge of what is left."""
    return F.avg_pool2d(values[None, None], side, ceil_mode=True, count_include_pad=False)[0, 0]


def _spread(values: Tensor, side: int, shape: torch.Size) -> Tensor:
    wide = values.repeat_interleave(side, 0).repeat_interleave(side, 1)
    return wide[: shape[0], : shape[1]]
