"""An edited square back into the photograph that it was cut from."""

from __future__ import annotations

import numpy as np
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from gan2shape_hub.arguments import finite
from gan2shape_hub.records import Alignment
from gan2shape_hub.results.image_files import to_pil
from gan2shape_hub.results.texture import smooth

FEATHER = 0.12
"""Part of the square's side over which the edit fades into the photograph, on each side."""
COLOUR_SIDE = 48
"""Pixels of the pictures whose colours are compared: finer differences are the person's and not the light's."""


def paste(
    edited: Image.Image | Tensor, alignment: Alignment, *, feather: float = FEATHER, mask: Image.Image | None = None
) -> Image.Image:
    """Lay ``edited`` over the photograph, through the inverse of the alignment.

    Args:
        edited: the square after an edit, a PIL image or a tensor (3, T, T) in -1..1; any side.
        alignment: where the square lies.
        feather: 0..0.5 of the side: the edit fades in from the square's edge to this depth.
        mask: mode ``L``, any size, 255 where the edit shall show at most; it is multiplied with the feathered square.

    Returns:
        The photograph's size and mode; pixels beyond the square are exactly its own, alpha stays as it was.

    Raises:
        ValueError: ``feather`` is out of range, or ``edited`` is not square.
    """
    feather = finite(feather, "feather")
    if not 0 <= feather <= 0.5:
        raise ValueError(f"feather is {feather}, must be between 0 and 0.5.")
    square = (to_pil(edited) if isinstance(edited, Tensor) else edited).convert("RGB")
    if square.width != square.height:
        raise ValueError(f"edited is {square.width} x {square.height} pixels, must be square.")
    photograph = alignment.photograph
    width, height = photograph.size
    corners = alignment.matrix @ np.array([[0, 1, 0, 1], [0, 0, 1, 1], [1, 1, 1, 1]], dtype=np.float64)
    low, high = np.floor(corners.min(1)), np.ceil(corners.max(1))
    left, top = (int(v) for v in np.clip(low, 0, (width, height)))
    right, bottom = (int(v) for v in np.clip(high, 0, (width, height)))
    if left >= right or top >= bottom:
        return photograph.copy()

    # Shrink to the square's own size in the photograph first: the warp itself does not average.
    side = max(min(square.width, round(alignment.side)), 1)
    if side < square.width:
        square = square.resize((side, side), Image.Resampling.LANCZOS)
    window = feathered_square(side, feather)
    if mask is not None:
        limit = np.asarray(mask.convert("L").resize((side, side), Image.Resampling.BILINEAR), dtype=np.float32) / 255
        window = Image.fromarray(np.round(np.asarray(window) * limit).astype(np.uint8))

    inverse = alignment.inverse * side
    inverse = np.concatenate((inverse[:, :2], inverse[:, :2] @ np.array([[left], [top]]) + inverse[:, 2:]), 1)
    size = (right - left, bottom - top)
    coefficients = tuple(inverse.ravel())
    patch = square.transform(size, Image.Transform.AFFINE, coefficients, Image.Resampling.BICUBIC)
    weight = window.transform(size, Image.Transform.AFFINE, coefficients, Image.Resampling.BILINEAR)

    result = photograph.convert("RGB")
    result.paste(patch, (left, top), weight)
    if photograph.mode == "RGBA":
        result.putalpha(photograph.getchannel("A"))
    return result


def feathered_square(side: int, feather: float) -> Image.Image:
    """Mask (mode ``L``): 0 at the edge, rising smoothly to 255 at ``feather`` times ``side`` from it."""
    distance = np.arange(side) + 0.5
    distance = np.minimum(distance, side - distance) / side
    ramp = np.clip(distance / feather, 0, 1) if feather else np.ones(side)
    ramp = ramp * ramp * (3 - 2 * ramp)
    return Image.fromarray(np.round(255 * ramp[:, None] * ramp[None]).astype(np.uint8))


def keep_colours(edited: Tensor, before: Tensor, photograph: Tensor) -> Tensor:
    """``edited`` with the photograph's large-scale colours: what the generator's picture ``before`` the edit is darker,
    paler or warmer than the photograph is made up for. All (1, 3, any, any) in -1..1; as large as ``edited``."""
    small = [F.interpolate(x, (COLOUR_SIDE,) * 2, mode="area") for x in (photograph, before)]
    miss = smooth(small[0] - small[1], COLOUR_SIDE / 12)
    return (edited + F.interpolate(miss, edited.shape[-2:], mode="bicubic", align_corners=False)).clamp(-1, 1)


def to_mask(cover: Tensor) -> Image.Image:
    """A map (S, S) in 0..1 as the soft mask (mode ``L``) of a paste: a little larger, so that it fades outside."""
    reach = 2 * max(cover.shape[-1] // 32, 1) + 1
    grown = F.max_pool2d(cover[None, None], reach, stride=1, padding=reach // 2)
    soft = smooth(grown, reach / 2)[0, 0].clamp(0, 1)
    return Image.fromarray((soft * 255).round().byte().cpu().numpy())
