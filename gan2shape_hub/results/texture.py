"""The photograph as a texture of the canonical sheet, as sharp as the photograph is.

The method works at 128 pixels; its albedo is as blurred as that. A mesh should carry the photograph instead: every
texel of the canonical texture is looked up where the input view shows it. What that view does not show (behind the
nose of a turned head, outside the frame) is filled from the shaded albedo, brought to the colours at the seam.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import torch
import torch.nn.functional as F
from torch import Tensor

from gan2shape_hub.config import CameraConfig
from gan2shape_hub.rendering.camera import Pose, project, unproject
from gan2shape_hub.rendering.details import blur
from gan2shape_hub.rendering.renderer import visible_from
from gan2shape_hub.rendering.shading import Light, normals_from_depth, shade

FORESHORTENING = (0.2, 0.5)
"""Confidence rises from 0 to 1 between these ratios of a surface's size in the photograph to that in the texture: seen
more edge-on than that, the photograph smears."""


FRINGE = 1 / 100
"""Part of a texture's side along an object's outline where its colours are mixed with the background's."""
CROWN, NAPE = 0.35, 0.75
"""Parts of an object's height: its crown is above the one, its back has the crown's colour above the other."""


@dataclass(frozen=True)
class BakedTexture:
    """A texture in the canonical frame; texel (0, 0) and (T-1, T-1) are the corner pixels of the depth map."""

    image: Tensor
    """(3, T, T) in -1..1."""
    confidence: Tensor
    """(1, T, T) in 0..1: 1 where the photograph shows the texel, 0 where it was filled from the albedo."""
    alpha: Tensor
    """(1, T, T) in 0..1: 1 on the object."""
    sides: Tensor | None = None
    """(1, T, T) in 0..1: how far the colour is a turned picture's (`results.sides`); None: nowhere."""

    @cached_property
    def object(self) -> Tensor:
        """(3, T, T) in -1..1: the object's colours, drawn out over what the background shines through or is all of, and
        what was filled beside it."""
        known = eroded(((self.alpha - 0.75) * 4).clamp(0, 1), round(FRINGE * self.alpha.shape[-1]))
        known = known * (2 * self.confidence).clamp(max=1)
        if self.sides is not None:
            known = torch.maximum(known, self.sides)
        return extrapolate(self.image[None], known[None])[0]


@torch.no_grad()
def bake_texture(
    source: Tensor,
    depth: Tensor,
    albedo: Tensor,
    pose: Pose,
    light: Light,
    camera: CameraConfig,
    *,
    alpha: Tensor | None = None,
    size: int | None = None,
) -> BakedTexture:
    """Resample a photograph into the canonical frame.

    Args:
        source: (3, P, P) in -1..1, the square that was shrunk (antialiased, edges aligned) to the working size S.
        depth: (S, S) canonical depth, scene units.
        albedo: (3, S, S) in -1..1, canonical.
        pose: from the canonical frame to the photograph's view, batch of one.
        light: the photograph's, batch of one.
        camera: of ``depth``.
        alpha: (M, M) in 0..1 where ``source`` shows the object; None: all of it.
        size: side T of the texture; None takes P, at most 1024.

    Returns:
        :class:`BakedTexture` on the device of ``depth``. Needs about 80 MB of memory at T = 1024.
    """
    sheet = depth.shape[-1]
    if depth.shape != (sheet, sheet) or albedo.shape != (3, sheet, sheet) or source.dim() != 3:
        raise ValueError(
            f"depth {tuple(depth.shape)}, albedo {tuple(albedo.shape)} and source {tuple(source.shape)} "
            "must be (S, S), (3, S, S) and (3, P, P)."
        )
    # The pinned border is no surface: it would shade and hide what is beside it.
    depth = without_border(depth, camera)
    if size is None:
        size = min(source.shape[-1], 1024)
    fine = upsample_depth(depth, size)
    points = pose.apply(unproject(fine[None], camera), camera)
    pixels = project(points, camera, (sheet, sheet))[0]
    # Pixel i of the small image covers the photograph's pixels from i P/S to (i+1) P/S: edges align, not the centres
    # of the corner pixels. Getting this wrong shifts the texture by half a small pixel, 4 of 1024, at the border.
    lookup = (2 * pixels + 1) / sheet - 1
    photo = F.grid_sample(source[None], lookup[None], "bicubic", "border", align_corners=False).clamp(-1, 1)
    cover = torch.ones_like(fine)[None]
    if alpha is not None:
        cover = F.grid_sample(alpha[None, None].to(fine), lookup[None], padding_mode="border", align_corners=False)[0]
    del points, pixels, lookup, fine

    confidence = _confidence(depth, pose, camera)
    fill, _ = shade(albedo[None], normals_from_depth(depth[None], camera), light)
    fill = fill.clamp(-1, 1)
    # Carry the difference of colours at the seam into what is hidden. Smoothed first: it is the colour that is matched,
    # and finer differences (a lock of hair at the seam) would be drawn out into streaks.
    difference = (shrink(photo, (sheet, sheet)) - fill) * confidence
    radius = max(2.0, sheet / 20)
    known = smooth(confidence, radius)
    difference = smooth(difference, radius) / known.clamp_min(1e-6)
    fill = fill + extrapolate(difference, (known * 4).clamp(max=1))

    weight = F.interpolate(confidence, (size, size), mode="bilinear", align_corners=True)
    fill = F.interpolate(fill, (size, size), mode="bicubic", align_corners=True)
    image = (fill + weight * (photo - fill)).clamp(-1, 1)
    return BakedTexture(image=image[0], confidence=weight[0], alpha=cover.clamp(0, 1))


def back_colours(colours: Tensor, alpha: Tensor, rows: int) -> Tensor:
    """What nobody has seen of an object's back, invented: the front's own pixels along the outline, its colours drawn
    inwards, and toward the middle those of its upper edge with their grain (a head's hair).

    Args:
        colours: (3, T, T) in -1..1, the front's, and ``alpha`` (1, T, T) in 0..1 where the object is on it.
        rows: height of the answer.

    Returns:
        (3, rows, T) in -1..1.
    """
    side = 128
    small, cover = (shrink(x[None], (side, side)) for x in (colours, alpha))
    solid = (cover > 0.9).float()
    edge, core = (1 - F.max_pool2d(1 - solid, 2 * n + 1, 1, n) for n in (2, 7))
    band = edge * (1 - core)
    near = smooth(extrapolate(small, band), 4)
    top = solid[0, 0].amax(1).argmax()
    at = (torch.arange(side).to(small) - top) / (side - top)
    crown = band * (1 - at / CROWN).clamp(0, 1)[:, None]
    hair = (small * crown).sum((2, 3), keepdim=True) / crown.sum().clamp_min(1e-6)
    inner = smooth(edge, 2) * ((NAPE - at) / 0.15).clamp(0, 1)[:, None] * (crown.sum() > 0)
    back = near + inner * (hair - near)

    def enlarged(maps: Tensor) -> Tensor:
        return F.interpolate(maps, (rows, colours.shape[-1]), mode="bilinear", align_corners=True)[0]

    across = torch.nonzero(solid[0, 0, min(side - 1, top + side // 12)])[:, 0].float()
    place = (top + side / 12) / side, (across.mean() / side if len(across) else 0.5)
    back = enlarged(back) + enlarged(inner) * enlarged(grain(colours, *map(float, place))[None])
    outline = enlarged(1 - smooth(solid, 1.5))
    return (back + outline * (enlarged(shrink(colours[None], (rows, colours.shape[-1]))) - back)).clamp(-1, 1)


def grain(colours: Tensor, top: float, left: float) -> Tensor:
    """(3, T, T // 2), about 0: texture as ``colours`` (3, T, T) have it around a place in 0..1, without end: a patch,
    strewn at random (spot noise: van Wijk 1991, Galerne et al. 2011)."""
    side = colours.shape[-1]
    patch = side // 10
    y, x = (int(min(max(at * side - patch / 2, 0), side - patch)) for at in (top, left))
    spot = colours[:, y : y + patch, x : x + patch]
    spot = spot - smooth(spot[None], patch / 8)[0]
    strength = spot.square().mean().sqrt()
    window = torch.hann_window(patch, periodic=False).to(spot)
    spot = spot * window[:, None] * window
    spot = spot * (strength / spot.square().sum((1, 2)).mean().sqrt().clamp_min(1e-6))
    size = side, side // 2
    seeds = torch.randn(size, generator=torch.Generator().manual_seed(0)).to(spot)
    return torch.fft.irfft2(torch.fft.rfft2(spot, size) * torch.fft.rfft2(seeds), size)


def without_border(depth: Tensor, camera: CameraConfig) -> Tensor:
    """(..., W) with the pinned border columns replaced by their inner neighbours: no cliff in normals and pictures."""
    width = depth.shape[-1]
    columns = border_columns(width, camera)
    inner = torch.arange(width, device=depth.device).clamp(columns, width - 1 - columns)
    return depth[..., inner]


def border_columns(width: int, camera: CameraConfig) -> int:
    """Pinned columns on each side of a depth map that is ``width`` pixels wide (as `rendering.pinned_border`)."""
    return max(1, round(camera.border_px * width / 128)) if camera.border_px > 0 else 0


def upsample_depth(depth: Tensor, size: int) -> Tensor:
    """(H, W) -> (size, size) bicubic, corner pixels onto corner pixels, without ringing at depth cliffs."""
    if depth.shape == (size, size):
        return depth
    fine = F.interpolate(depth[None, None], (size, size), mode="bicubic", align_corners=True)[0, 0]
    low = -F.max_pool2d(-depth[None, None], 3, 1, 1)[0, 0]
    high = F.max_pool2d(depth[None, None], 3, 1, 1)[0, 0]
    steps = torch.arange(size, device=depth.device)
    rows = (steps * (depth.shape[0] - 1) // (size - 1))[:, None]
    cols = (steps * (depth.shape[1] - 1) // (size - 1))[None]
    return fine.clamp(low[rows, cols], high[rows, cols])


def _confidence(depth: Tensor, pose: Pose, camera: CameraConfig) -> Tensor:
    """(1, 1, S, S) in 0..1: seen by ``pose``, and not much more edge-on than in the texture.

    Feathered inwards, so that what is not seen stays 0.
    """
    normals = normals_from_depth(depth[None], camera)
    points = unproject(depth[None], camera)
    here = (normals * F.normalize(points, dim=-1).movedim(-1, 1)).sum(1, keepdim=True)
    turned = torch.einsum("bij,bjhw->bhwi", pose.rotation, normals)
    there = (turned * F.normalize(pose.apply(points, camera), dim=-1)).sum(-1)[:, None]
    low, high = FORESHORTENING
    facing = ((there / here.clamp_min(0.05) - low) / (high - low)).clamp(0, 1)
    seen = visible_from(depth[None], pose, camera) * (facing > 0)
    # Shrink by two pixels of 128 (the silhouette's pixels mix object and background) and soften by as much.
    pixel = max(1, round(depth.shape[-1] / 128))
    seen = smooth(-_pool_max(-seen, 4 * pixel + 1), 2.0 * pixel)
    return seen * smooth(facing, 1.0 * pixel)


def eroded(mask: Tensor, reach: int) -> Tensor:
    """(…, H, W): the least of ``mask`` within ``reach`` pixels up, down and aside."""
    tall = -F.max_pool2d(-mask, (2 * reach + 1, 1), 1, (reach, 0))
    return -F.max_pool2d(-tall, (1, 2 * reach + 1), 1, (0, reach))


def _pool_max(x: Tensor, kernel: int) -> Tensor:
    return F.max_pool2d(F.pad(x, (kernel // 2,) * 4, mode="replicate"), kernel, 1)


def smooth(x: Tensor, radius: float) -> Tensor:
    """Separable blur of (B, C, H, W) with support 2 * ceil(radius) + 1, borders replicated."""
    return blur(x, radius / 1.5, math.ceil(radius))


def shrink(x: Tensor, size: tuple[int, int]) -> Tensor:
    """Antialiased (…, T, T) -> (…, S, S), corner pixels onto corner pixels."""
    if x.shape[-2:] == size:
        return x
    if x.shape[-1] < size[1]:
        return F.interpolate(x, size, mode="bilinear", align_corners=True)
    return F.interpolate(x, size, mode="bilinear", align_corners=True, antialias=True)


def extrapolate(values: Tensor, weight: Tensor) -> Tensor:
    """Push-pull: keep ``values`` (1, C, H, W) where ``weight`` (1, 1, H, W) is 1, spread them smoothly elsewhere."""
    if min(values.shape[-2:]) <= 2:
        total = weight.sum((2, 3), keepdim=True)
        mean = (values * weight).sum((2, 3), keepdim=True) / total.clamp_min(1e-6)
        return mean.expand_as(values)
    coarse_weight = F.avg_pool2d(weight, 2, ceil_mode=True)
    coarse_values = F.avg_pool2d(values * weight, 2, ceil_mode=True) / coarse_weight.clamp_min(1e-6)
    coarse = extrapolate(coarse_values, (coarse_weight * 4).clamp(max=1))
    spread = F.interpolate(coarse, values.shape[-2:], mode="bilinear", align_corners=False)
    return weight * values + (1 - weight) * spread
