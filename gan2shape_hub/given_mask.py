"""The object mask that a user gives, in any form and of any size, to the square that is reconstructed."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from gan2shape_hub.config import CategoryConfig
from gan2shape_hub.errors import InputError
from gan2shape_hub.reading.arrays import plain_tensor
from gan2shape_hub.reading.decode import check_size
from gan2shape_hub.records import Alignment
from gan2shape_hub.stages.align import cut_square
from gan2shape_hub.stages.mask import MIN_COVER, cover
from gan2shape_hub.stages.prepare import MAX_PIXELS, load_image

SAME_SHAPE = 0.01
"""Difference of width over height, in parts, up to which a mask is one of the photograph at another resolution."""
LARGEST_CUT = 1024
"""Pixels of the largest square that is cut out of a photograph (``stages/align.py``)."""


def given_masks(mask: Any, cuts: Sequence[Alignment | None], config: CategoryConfig) -> Tensor | None:
    """Object masks (K, 1, S, S) in 0..1, float32, of what the user gave for K images; None where nothing was given.

    Args:
        mask: one for all images, or a list of K, or an array or tensor (K, H, W) or (K, 1, H, W). Each is what
            ``load_image`` reads from a file, or a PIL image (its alpha channel where it has transparent pixels, else
            its brightness), an array or a tensor (H, W), (1, H, W) or (1, 1, H, W): booleans, floating point in 0..1,
            integers of 0 and 1, or uint8 to 255. A mask with the photograph's proportions is the photograph's, and the
            same square is cut out of it as out of the photograph (0 beyond the border); any other has to be square and
            is that square's.
        cuts: where each image was cut out of its photograph; None for generated images, whose masks are square.

    Raises:
        InputError: in one sentence what is wrong with a mask.
    """
    if mask is None:
        return None
    count = len(cuts)
    if isinstance(mask, Tensor):
        mask = plain_tensor(mask, "mask", code="bad-mask")
    if not isinstance(mask, (list, tuple)):
        stacked = isinstance(mask, (Tensor, np.ndarray)) and mask.ndim > 2 and len(mask) == count > 1
        mask = list(mask) if stacked else [mask]
    if len(mask) not in (1, count):
        raise InputError(
            f"mask is a list of {len(mask)} for {count} images: pass one for all, or one each.", code="bad-mask"
        )
    read = [_read(one, "mask" if len(mask) == 1 else f"mask {k + 1}", count).cpu() for k, one in enumerate(mask)]
    if len(read) == 1:
        read *= count
    return torch.cat([_fitted(one, cut, config) for one, cut in zip(read, cuts, strict=True)])


def masker_answer(mask: Any, config: CategoryConfig) -> Tensor:
    """What a masker answered for one image, as (1, 1, S, S) float32; InputError where it is no mask."""
    try:
        return _fitted(_read(mask, "mask", 1), None, config)
    except InputError as error:
        raise InputError(f"the masker's answer is no mask: {error}", code="bad-mask") from None


def check_cover(mask: Tensor) -> None:
    """InputError where ``mask`` (1, 1, S, S) leaves too little of the square to reconstruct anything from."""
    share = float(cover(mask))
    if share == 0:
        raise InputError("mask is empty: it must be 1 on the object.", code="empty-mask")
    if share < MIN_COVER:
        raise InputError(
            f"mask covers {share:.2%} of the square, must cover at least {MIN_COVER:.0%}: it must be 1 on the object.",
            code="empty-mask",
        )


def _read(mask: Any, name: str, count: int) -> Tensor:
    """(1, 1, H, W) in 0..1."""
    if isinstance(mask, Tensor):
        mask = plain_tensor(mask, name, code="bad-mask")
    elif isinstance(mask, np.ndarray) and mask.dtype.kind in "bifu":
        _check_pixels(mask.shape, name)
        plain = mask.dtype.kind in "bu" and mask.dtype.itemsize == 1  # of the others torch knows half
        mask = torch.from_numpy(np.array(mask, dtype=None if plain else np.float32))
    elif isinstance(mask, (str, os.PathLike, bytes, Image.Image)) or hasattr(mask, "read"):
        image = load_image(mask, name=name)
        mask = torch.from_numpy(np.array(image.getchannel("A") if image.mode == "RGBA" else image.convert("L")))
    else:
        kind = type(mask).__name__ + (f" ({mask.dtype})" if isinstance(mask, np.ndarray) else "")
        raise InputError(
            f"{name} is of type {kind}: pass a path, a PIL image, an array or a tensor of numbers.", code="bad-mask"
        )
    shape = tuple(mask.shape)
    _check_pixels(shape, name)
    if mask.ndim not in (2, 3, 4) or any(n != 1 for n in shape[:-2]) or mask.numel() == 0:
        several = "" if count == 1 else f" or ({count}, H, W)"
        raise InputError(f"{name} has shape {shape}, must be (H, W){several}.", code="bad-mask")
    values = mask.float().reshape(1, 1, *shape[-2:])
    if mask.dtype == torch.uint8 and values.max() > 1:
        values = values / 255
    if not bool(((values >= 0) & (values <= 1)).all()):  # NaN compares false
        raise InputError(f"{name} has values outside 0..1: pass 1 on the object and 0 elsewhere.", code="bad-mask")
    return values


def _check_pixels(shape: tuple[int, ...], name: str) -> None:
    if len(shape) >= 2 and math.prod(shape) > MAX_PIXELS:
        check_size(name, shape[-1], math.prod(shape[:-1]), MAX_PIXELS)


def _fitted(values: Tensor, cut: Alignment | None, config: CategoryConfig) -> Tensor:
    """(1, 1, S, S) of a mask (1, 1, H, W) of the photograph or of its square."""
    size = config.image_size
    height, width = values.shape[-2:]
    photograph = None if cut is None else cut.photograph.size
    if photograph is not None and _is_the_photographs(width, height, photograph):
        values = _cut_like(cut, values)
        side = values.shape[-1]
        crop = round(side * config.crop_fraction)
        first = (side - crop) // 2
        values = values[..., first : first + crop, first : first + crop]
    elif width != height:
        also = "" if photograph is None else f" or with the photograph's {photograph[0]} x {photograph[1]}"
        raise InputError(
            f"mask is {width} x {height} pixels, must be square{also}: pass a mask of the same picture.",
            code="bad-mask",
        )
    if values.shape[-1] == size:
        return values
    return F.interpolate(values, (size, size), mode="bilinear", align_corners=False, antialias=True).clamp(0, 1)


def _is_the_photographs(width: int, height: int, photograph: tuple[int, int]) -> bool:
    """A square photograph's masks are recognised by their very size, or by being larger than any square that is cut
    (the photograph may have been read reduced): other square ones are the cut square's."""
    if photograph[0] == photograph[1]:
        return width == height and (width == photograph[0] or min(width, *photograph) > LARGEST_CUT)
    return abs(width * photograph[1] / (height * photograph[0]) - 1) < SAME_SHAPE and width != height


def _cut_like(cut: Alignment, values: Tensor) -> Tensor:
    """The square (1, 1, T, T) of a photograph's mask, cut as a transparent photograph's alpha channel is."""
    mask = Image.fromarray((values[0, 0] * 255).round().to(torch.uint8).numpy())
    carrier = Image.new("RGBA", cut.photograph.size)
    carrier.putalpha(mask.resize(cut.photograph.size, Image.Resampling.BILINEAR))
    alpha = cut_square(carrier, cut.matrix, cut.square.width).getchannel("A")
    return torch.from_numpy(np.array(alpha, dtype=np.float32) / 255)[None, None]
