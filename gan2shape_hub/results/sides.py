"""What a photograph shows edge-on, from pictures of the same object that was turned.

A canonical texture holds a cheek or a temple on a few texels, which the photograph smears. Where a turned picture sees
the surface more frontally its colours are taken, brought to the photograph's along the seam. The photograph wins where
it sees well.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from gan2shape_hub.config import CameraConfig, DetailsConfig
from gan2shape_hub.rendering.camera import Pose, project, unproject
from gan2shape_hub.rendering.details import blur
from gan2shape_hub.rendering.registration import register
from gan2shape_hub.rendering.renderer import visible_from
from gan2shape_hub.rendering.shading import normals_from_depth
from gan2shape_hub.rendering.transfer import box_importance
from gan2shape_hub.results import wide
from gan2shape_hub.results.texture import (
    BakedTexture,
    eroded,
    extrapolate,
    shrink,
    smooth,
    upsample_depth,
    without_border,
)

FRONTAL = (0.35, 0.6)
"""Between these cosines of the angle at which it sees a surface, a picture's word grows from none to all."""
OWN = (0.15, 0.35)
"""The same for the photograph, whose word comes first: it shows this very head, ears and locks in their places."""
BETTER = (0.0, 0.15)
"""By how much a turned picture's cosine has to be larger than the photograph's."""
RELIEF = 2.0
"""Pixels of a 128 pixel sheet over which the surface is smoothed first: strands of hair face everywhere."""
FRINGE = 1 / 64
"""Part of a picture's side along its object's outline that is left out: background shines through there."""
OUTLIER = 0.5
"""Logarithm of colours' ratio from which on a pair says nothing of the light: it is not the same thing."""
BESIDE = 0.1
"""What a pixel counts outside the category's box when poses are found: hair may not turn as a head does."""
NECK = (0.05, 0.17)
"""Parts of the sheet's side above the lower edge of the category's box between which turned pictures fade out."""
ASTRAY_DEG = 20.0
"""A picture whose pose is found so far from where it was expected is left out."""
GAIN = 0.6
"""Logarithm of the factor at most by which a picture's colours are changed."""


@dataclass(frozen=True)
class SideView:
    """A picture of the object from another side, aligned to the sheet."""

    image: Tensor
    """(3, T, T) in -1..1."""
    alpha: Tensor
    """(1, M, M) in 0..1 on the object."""
    pose: Pose
    """Canonical frame to this view, batch of one."""


@dataclass(frozen=True)
class Sides:
    """Pictures of one object from its sides."""

    views: tuple[SideView, ...]
    turning: Tensor
    """(1, S, S) in 0..1: how far each pixel of the canonical sheet turns with the object; a neck hardly does."""

    @property
    def widened(self) -> Sides:
        """The same for a sheet with margins (`results.wide`), of which they show nothing."""

        def larger(view: SideView) -> SideView:
            alpha = F.pad(view.alpha, (wide.margin(view.alpha.shape[-1]),) * 4)
            return replace(view, image=wide.widened(view.image), alpha=alpha)

        return Sides(tuple(map(larger, self.views)), wide.widened(self.turning))

    def to(self, device: torch.device | str) -> Sides:
        """The same on ``device``."""
        views = (SideView(v.image.to(device), v.alpha.to(device), v.pose.to(device)) for v in self.views)
        return Sides(tuple(views), self.turning.to(device))


@torch.no_grad()
def align_sides(
    images: Tensor,
    alphas: Tensor,
    starts: Pose,
    baked: BakedTexture,
    depth: Tensor,
    pose: Pose,
    camera: CameraConfig,
    config: DetailsConfig,
    box: tuple[float, float, float, float],
) -> Sides:
    """Find where pictures were taken from.

    Args:
        images: (N, 3, T, T) in -1..1; alphas (N, 1, M, M) in 0..1 on their object.
        starts: N poses to begin at.
        baked: the photograph as a texture of the sheet ``depth`` (S, S), seen from ``pose``.
        camera: of the sheet.
        config: what of the pictures is compared.
        box: (top, left, bottom, right) in 0..1 of what turns on the sheet; what is below it, a neck, does not.
    """
    depth = without_border(depth, camera)
    side = depth.shape[-1]
    known = shrink((baked.confidence * baked.alpha)[None], (side, side)) * facing(depth, pose, camera)
    known = known * box_importance(box, side, BESIDE).to(depth)
    weight = torch.cat([known * facing(depth, starts.index(n), camera) for n in range(len(images))])
    colours = shrink(baked.image[None], (side, side))
    found = register(colours, weight, depth[None], images, starts, camera, config)
    below = (torch.arange(side).to(depth) / (side - 1) - box[2])[:, None].expand(side, side)
    turning = ramp(-below, *NECK)[None]
    images, alphas = found.aligned(images), found.aligned(alphas)
    # What ends far from where it was expected has found something else.
    turns = (found.pose.rotation @ starts.rotation.transpose(1, 2)).diagonal(dim1=1, dim2=2).sum(1)
    near = [n for n, trace in enumerate(turns.tolist()) if trace >= 1 + 2 * math.cos(math.radians(ASTRAY_DEG))]
    return Sides(tuple(SideView(images[n], alphas[n], found.pose.index(n)) for n in near), turning)


@torch.no_grad()
def add_sides(baked: BakedTexture, sides: Sides, depth: Tensor, pose: Pose, camera: CameraConfig) -> BakedTexture:
    """``baked`` with the colours of ``sides`` where they see the sheet ``depth`` (S, S) better than ``pose`` does."""
    depth = without_border(depth, camera)
    side, size = depth.shape[-1], baked.image.shape[-1]
    middling = min(size, max((view.image.shape[-1] for view in sides.views), default=size))  # no sharper than pictures
    fine = upsample_depth(depth, middling)
    own = facing(depth, pose, camera) * shrink(baked.confidence[None], (side, side))
    told = shrink(baked.image[None], (side, side)), own * shrink(baked.alpha[None], (side, side))
    total, colours = torch.zeros_like(own), baked.image.new_zeros(1, 3, middling, middling)
    for view in sides.views:
        cosine = facing(depth, view.pose, camera)
        cover = _sample(_inner(view.alpha), depth, view.pose, camera, side, "zeros")
        better = ramp(cosine, *FRONTAL) * ramp(cosine - own, *BETTER) * cover * sides.turning[None]
        picture = _sample(view.image, fine, view.pose, camera, side, "border")
        gain = _gain(told, (shrink(picture, (side, side)), cosine * cover))
        picture = (picture / 2 + 0.5) * _enlarged(gain, middling) * 2 - 1
        weight = smooth(better, side / 64)
        colours += _enlarged(weight, middling) * picture
        total += weight
    # A texel that the photograph sees well is the photograph's, however well others see it.
    share = (1 - smooth(ramp(own, *OWN), side / 64)) * total.clamp(max=1)
    colours = _enlarged(colours / _enlarged(total, middling).clamp_min(1e-4), size)
    share = _enlarged(share, size)
    image = (baked.image[None] + share * (colours - baked.image[None])).clamp(-1, 1)
    return replace(baked, image=image[0], sides=share[0])


def facing(depth: Tensor, pose: Pose, camera: CameraConfig) -> Tensor:
    """(1, 1, S, S) in 0..1: the cosine of the angle at which ``pose`` sees each pixel of the sheet ``depth`` (S, S), 0
    where something hides it."""
    even = blur(depth[None, None], RELIEF * depth.shape[-1] / 128)[:, 0]
    normals = torch.einsum("bij,bjhw->bhwi", pose.rotation, normals_from_depth(even, camera))
    rays = F.normalize(pose.apply(unproject(depth[None], camera), camera), dim=-1)
    return (normals * rays).sum(-1)[:, None].clamp_min(0) * visible_from(depth[None], pose, camera)


def ramp(values: Tensor, low: float, high: float) -> Tensor:
    """0 below ``low``, 1 above ``high``, a line between."""
    return ((values - low) / (high - low)).clamp(0, 1)


def _sample(picture: Tensor, depth: Tensor, pose: Pose, camera: CameraConfig, side: int, padding: str) -> Tensor:
    """(1, C, T, T): what ``picture`` (C, any, any) shows from ``pose`` at each pixel of ``depth`` (T, T), the sheet of
    ``side`` pixels enlarged corner onto corner."""
    pixels = project(pose.apply(unproject(depth[None], camera), camera), camera, (side, side))
    lookup = (2 * pixels + 1) / side - 1
    return F.grid_sample(picture[None], lookup, padding_mode=padding, align_corners=False)


def _inner(alpha: Tensor) -> Tensor:
    """(1, M, M): ``alpha`` (1, M, M) without its fringe."""
    return eroded(ramp(alpha, 0.5, 0.9), max(1, round(FRINGE * alpha.shape[-1])))


def _gain(one: tuple[Tensor, Tensor], other: tuple[Tensor, Tensor]) -> Tensor:
    """(1, 3, S, S): the factor, smooth, that brings the colours of ``other`` to those of ``one``; each is colours
    (1, 3, S, S) in -1..1 and how well they are seen (1, 1, S, S)."""
    log = (one[0] / 2 + 0.55).log() - (other[0] / 2 + 0.55).log()
    weight = one[1] * other[1] * torch.exp(-(log.abs().amax(1, keepdim=True) / OUTLIER).square())
    radius = max(2.0, log.shape[-1] / 12)
    known = smooth(weight, radius)
    mean = smooth(log * weight, radius) / known.clamp_min(1e-6)
    return extrapolate(mean, (known * 8).clamp(max=1)).clamp(-GAIN, GAIN).exp()


def _enlarged(maps: Tensor, size: int) -> Tensor:
    return F.interpolate(maps, (size, size), mode="bilinear", align_corners=True)
