"""An edited square back into the photograph that it was cut from."""

from __future__ import annotations

import numpy as np
from PIL import Image
from torch import Tensor

from gan2shape_hub.records import Alignment
from gan2shape_hub.results.image_files import to_pil

FEATHER = 0.12
"""Part of the square's side over which the edit fades into the photograph, on each side."""


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
