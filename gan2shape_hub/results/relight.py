"""The light of a picture changed by what is known of its shape: the picture times new over old shading."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from gan2shape_hub.config import CameraConfig
from gan2shape_hub.rendering.environment import GAMMA, Environment
from gan2shape_hub.rendering.occlusion import horizons, occlusion, visible
from gan2shape_hub.rendering.shading import Light, normals_from_depth
from gan2shape_hub.results.texture import smooth, without_border

SHADING_BLUR = 1.0
"""Pixels of a 128 pixel sheet: finer relief is too noisy to cast light on a photograph."""
EDGE = 0.08
"""Part of the sheet's side, along its edges, where nothing is known of the normals."""
RATIO_LIMITS = (0.4, 2.0)
"""Bounds that new over old shading approaches: beyond them the photograph's noise is all there is to amplify."""
TERMINATOR = 0.3
"""Cosine within which a surface that turns away from the light darkens softly: a lamp has a size, and skin lets light
through."""
PENUMBRA = 0.18
"""Sine over which a shadow of a lamp rises: lamps are large, and so are the errors of a shape."""
SHADOW_SIDE = 256
"""Pixels of a sheet's side up to which its shadows are found: they are soft."""


@dataclass(frozen=True, eq=False)
class Relief:
    """What light needs to know of a sheet of S x S pixels."""

    normals: Tensor
    """(1, 3, S, S) as `normals_from_depth` has them, of the smoothed sheet: a ratio of shadings shows every bump."""
    horizon: Tensor
    """(K, S, S) as `horizons` has it."""
    ambient: Tensor
    """(1, 1, S, S) in 0..1: what of even light from all around arrives."""

    @classmethod
    @torch.no_grad()
    def of(cls, depth: Tensor, camera: CameraConfig) -> Relief:
        """Of a canonical sheet ``depth`` (S, S); ``camera`` is its."""
        size = depth.shape[-1]
        sheet = smooth(without_border(depth, camera)[None, None], SHADING_BLUR * size / 128)
        normals = normals_from_depth(sheet[:, 0], camera)
        side = min(size, SHADOW_SIDE)
        small = F.interpolate(sheet, (side, side), mode="bilinear", align_corners=True)[0, 0]
        horizon = horizons(small, camera)
        facing = normals_from_depth(small[None], camera)[0]
        ambient = occlusion(horizon, facing)[None, None]
        horizon = _resized(horizon[None], size)[0]
        return cls(normals, horizon, _resized(ambient, size).clamp(0, 1))


@torch.no_grad()
def relight(
    texture: Tensor, relief: Relief, old: Light, new: Light | Environment, matte: Tensor | None = None
) -> Tensor:
    """Change the light of a texture and keep its sharpness: multiply it by new over old shading.

    The background is lit as a wall that faces the camera: no view of it says how it bends.

    Args:
        texture: (3, T, T) in -1..1, canonical, lit by ``old`` (a baked photograph).
        relief: of the sheet.
        old, new: batches of one.
        matte: (1, 1, any, any) canonical, in 0..1: 1 on the object. None: all of it.

    Returns:
        (3, T, T) in -1..1; ``texture`` itself where old and new shading agree. Brightening approaches white instead
        of clipping; the ratio stays within `RATIO_LIMITS`.
    """
    ratio, wall = shading_ratio(relief, old, new), wall_ratio(old, new)
    if matte is not None:
        ratio = wall + _resized(matte, ratio.shape[-1]) * (ratio - wall)
    return multiplied(texture, _resized(ratio, texture.shape[-1])[0])


@torch.no_grad()
def shading_ratio(relief: Relief, old: Light, new: Light | Environment) -> Tensor:
    """(1, 1 or 3, S, S): new over old shading of the canonical sheet, at its edges that of a wall."""
    wall, size = wall_ratio(old, new), relief.ambient.shape[-1]
    at = torch.arange(size, device=wall.device, dtype=wall.dtype) / max(size - 1, 1)
    inner = _step(torch.minimum(at, 1 - at) / EDGE)
    ratio = _softly(_hidden_shading(relief, new), _hidden_shading(relief, old))
    return wall + inner[:, None] * inner * (ratio - wall)


def wall_ratio(old: Light, new: Light | Environment) -> Tensor:
    """(1, 1 or 3, 1, 1): new over old shading of what faces the camera and is hidden from nothing."""
    facing = old.direction.new_tensor([0.0, 0.0, 1.0])[None, :, None, None]
    return _softly(_shading(facing, new), _shading(facing, old))


def multiplied(picture: Tensor, ratio: Tensor) -> Tensor:
    """Colours in -1..1 times a ratio of lights, soft toward white."""
    colour = (picture / 2 + 0.5).clamp(0, 1)
    headroom = (1 - colour).clamp_min(1e-4)
    brighter = colour + headroom * (1 - torch.exp(-colour * (ratio - 1).clamp_min(0) / headroom))
    return torch.where(ratio > 1, brighter, colour * ratio).clamp(0, 1) * 2 - 1


def _resized(maps: Tensor, size: int) -> Tensor:
    """(1, 1, S, S) -> (1, 1, size, size), corner pixels onto corner pixels, between the values that there are."""
    if maps.shape[-1] == size:
        return maps
    low, high = maps.amin(), maps.amax()
    return F.interpolate(maps, (size, size), mode="bicubic", align_corners=True).clamp(low, high)


def _step(x: Tensor) -> Tensor:
    x = x.clamp(0, 1)
    return x * x * (3 - 2 * x)


def _softly(new: Tensor, old: Tensor) -> Tensor:
    """``new`` over ``old`` shading, drawn softly into `RATIO_LIMITS`."""
    ratio = (new / old.clamp_min(0.05)).clamp_min(1e-3).log()
    low, high = (math.log(limit) for limit in RATIO_LIMITS)
    return torch.where(ratio < 0, low * torch.tanh(ratio / low), high * torch.tanh(ratio / high)).exp()


def _shading(normals: Tensor, light: Light | Environment, shadow: Tensor | float = 1.0) -> Tensor:
    """(B, 1 or 3, H, W): what colours are multiplied by. Of a lamp ambient + diffuse * max(0, n . direction), its bend
    rounded off over `TERMINATOR`; ``shadow`` is what of its diffuse light arrives."""
    if isinstance(light, Environment):
        return light.shading(normals)
    cosine = (normals * light.direction[:, :, None, None]).sum(1, keepdim=True)
    diffuse = (cosine + (cosine.square() + TERMINATOR**2).sqrt()) / 2 * shadow
    return light.ambient[:, None, None, None] + light.diffuse[:, None, None, None] * diffuse


def _hidden_shading(relief: Relief, light: Light | Environment) -> Tensor:
    """`_shading` of a sheet, less what it hides from itself."""
    if isinstance(light, Environment):
        hidden = _soft(occlusion(relief.horizon, relief.normals[0], light.seen), relief)
        return light.shading(relief.normals) * hidden.clamp_min(0).pow(1 / GAMMA)
    shadow = _soft(visible(relief.horizon, -light.direction[0], PENUMBRA), relief)
    ambient = light.ambient[:, None, None, None] * (relief.ambient.pow(1 / GAMMA) - 1)
    return _shading(relief.normals, light, shadow) + ambient


def _soft(hidden: Tensor, relief: Relief) -> Tensor:
    """(1, 1, S, S) of a map (S, S) whose steps from one horizon to the next are smoothed away."""
    return smooth(hidden[None, None], SHADING_BLUR * relief.ambient.shape[-1] / 128)
