"""Any image the user has, to the prepared square that the other stages work on.

Reading is defensive: whatever is wrong with an image is reported by one sentence (:class:`InputError`) that names
the image and says what to do about it; whatever can be handled (rotation tags, palettes, CMYK, 16 bits, colour
profiles, transparency, the first frame of an animation) is handled.
"""

from __future__ import annotations

import os
import warnings
from dataclasses import dataclass
from typing import BinaryIO, TypeAlias

import numpy as np
import torch
from PIL import Image, ImageOps, JpegImagePlugin

from gan2shape_hub.errors import Cancelled, InputError, InputWarning
from gan2shape_hub.reading.arrays import array_to_pil, tensor_to_pil
from gan2shape_hub.reading.decode import MIN_SIDE, PixelLimits, check_size, open_picture
from gan2shape_hub.reading.jpeg import count_scans
from gan2shape_hub.reading.pixels import to_rgb
from gan2shape_hub.reading.source import download, held, is_address, open_path, reason

__all__ = ["MAX_PIXELS", "MIN_SIDE", "ImageSource", "Prepared", "load_image", "prepare_square"]

MAX_PIXELS = 80_000_000
"""Default limit of :func:`load_image`: beyond any ordinary photograph, 240 MB once decoded."""
MATTE = 128
"""Grey level (0..255) behind transparent pixels: the middle of the range, so that it pulls no colour either way."""

ImageSource: TypeAlias = str | os.PathLike[str] | bytes | BinaryIO | Image.Image | np.ndarray | torch.Tensor


@dataclass(frozen=True)
class Prepared:
    """A photograph cut and scaled to the squares the stages need."""

    image: torch.Tensor
    """(1, 3, S, S) in -1..1, what the networks see."""
    source: torch.Tensor
    """(1, 3, T, T) in -1..1, S <= T <= ``source_size``: the same square as sharp as the photograph allows."""
    mask: torch.Tensor | None
    """(1, 1, S, S) in 0..1, the photograph's alpha channel; None where it is opaque."""


def load_image(
    source: ImageSource, *, max_pixels: int = MAX_PIXELS, kept_pixels: int | None = None, name: str = "image"
) -> Image.Image:
    """Read an image from a file, an address, bytes, a PIL image, an array or a tensor.

    Args:
        source: a path, a ``file://``, ``http://`` or ``https://`` address; bytes or a file that is open for reading
            them; a PIL image of any mode; an array (H, W), (H, W, 1), (H, W, 3) or (H, W, 4); or a tensor (H, W) or
            (C, H, W) with C = 1, 3 or 4, or a batch of one of them. uint8 is 0..255, uint16 is 0..65535, floating
            point is 0..1.
        max_pixels: width times height above which the image is refused, before it is decoded. JPEG files may have 400
            million (progressive ones may not): they are decoded reduced.
        kept_pixels: of the image that is returned; a larger one is reduced by a whole number. Default: ``max_pixels``.
        name: what error messages call a ``source`` that is not a path.

    Returns:
        An ``RGB`` image in sRGB, or ``RGBA`` where some pixels are transparent; upright (EXIF rotation applied). The
        caller's own image is never modified. Of an animation it is the first frame, with a ``UserWarning``.

    Raises:
        InputError: the file is missing, unreadable, truncated or not an image; it is too large or has a side below 32
            pixels; an array has another shape or type, or values that are not finite or in range.
    """
    limits = PixelLimits(max_pixels, min(kept_pixels or max_pixels, max_pixels))
    if isinstance(source, Image.Image):
        _check_open(source, name, limits)
        return _converted(source, name, limits)
    if isinstance(source, torch.Tensor):
        return _converted(tensor_to_pil(source, name, max_pixels), name, limits)
    if isinstance(source, np.ndarray):
        return _converted(array_to_pil(source, name, max_pixels), name, limits)
    if isinstance(source, (str, os.PathLike)):
        name, stream = f"'{source}'", download(source) if is_address(source) else open_path(source)
    else:
        stream = held(source, name)
    if stream is None:
        raise InputError(
            f"{name} is of type {type(source).__name__}: pass a path, an address, bytes, a PIL image, a numpy array or "
            "a torch tensor.",
            code="bad-array",
        )
    with stream:
        return _converted(open_picture(stream, name, limits), name, limits)


def _check_open(image: Image.Image, name: str, limits: PixelLimits) -> None:
    """InputError where a PIL image is too large or small, or would never be decoded."""
    check_size(name, *image.size, limits.decoded)
    undecoded = getattr(image, "fp", None) if isinstance(image, JpegImagePlugin.JpegImageFile) else None
    if undecoded is not None and not undecoded.closed:
        count_scans(undecoded, name)


def _converted(image: Image.Image, label: str, limits: PixelLimits) -> Image.Image:
    """``image`` decoded, upright, ``RGB`` or ``RGBA``, and of as many pixels as are kept."""
    _warn_if_animated(label, image)
    try:
        # exif_transpose decodes lazily opened files and returns a copy, so the caller's image stays as it is.
        image = to_rgb(ImageOps.exif_transpose(image), label)
    except (InputError, Cancelled):
        raise
    except Exception as error:  # decoders raise anything: OSError, SyntaxError, struct.error, zlib.error, ...
        if getattr(image, "fp", None) is None or getattr(image.fp, "closed", False):
            raise InputError(
                f"{label} is a closed image: open it again, or pass its path.", code="unreadable"
            ) from None
        raise InputError(
            f"{label} is corrupt or truncated ({reason(error)}): download or save it again.", code="corrupt"
        ) from None
    factor = 1
    while -(-image.width // factor) * -(-image.height // factor) > limits.kept:
        factor += 1
    return image.reduce(factor) if factor > 1 else image


def prepare_square(image: Image.Image, size: int = 128, *, source_size: int = 1024, center_crop: int = 0) -> Prepared:
    """Cut the central square out of ``image`` and scale it to the sizes the stages work at.

    Args:
        image: ``RGB`` or ``RGBA``, as :func:`load_image` returns it; transparent pixels become mid-grey.
        size: side S of ``Prepared.image``, pixels.
        source_size: largest side T of ``Prepared.source``; a smaller photograph is not blown up beyond S.
        center_crop: side of the square to keep, in pixels of ``image``; 0 keeps the largest one there is.

    Returns:
        :class:`Prepared`; every scaling is antialiased.

    Raises:
        InputError: ``image`` has another mode, or ``center_crop`` is negative.
    """
    if image.mode not in ("RGB", "RGBA"):
        raise InputError(f"image has mode {image.mode}, must be RGB or RGBA: read it with load_image first.")
    if center_crop < 0:
        raise InputError(f"center_crop is {center_crop}, must be 0 (no crop) or a number of pixels.")
    width, height = image.size
    side = min(width, height, center_crop or width)
    left, top = (width - side) // 2, (height - side) // 2
    square = image.crop((left, top, left + side, top + side))

    mask = None
    if square.mode == "RGBA":
        alpha = square.getchannel("A")
        matte = Image.new("RGB", square.size, (MATTE,) * 3)
        matte.paste(square, mask=alpha)
        square = matte
        mask = torch.from_numpy(np.array(_resize(alpha, size), dtype=np.float32) / 255)[None, None]

    sharp = _resize(square, max(size, min(side, source_size)))
    return Prepared(image=_to_tensor(_resize(square, size)), source=_to_tensor(sharp), mask=mask)


def _resize(image: Image.Image, side: int) -> Image.Image:
    # Lanczos as Pillow does it widens its kernel when shrinking, so it is antialiased. Masks use BOX: no overshoot.
    kernel = Image.Resampling.BOX if image.mode == "L" else Image.Resampling.LANCZOS
    return image.copy() if image.size == (side, side) else image.resize((side, side), kernel)


def _to_tensor(image: Image.Image) -> torch.Tensor:
    """PIL RGB -> (1, 3, H, W) in -1..1."""
    return torch.from_numpy(np.array(image, dtype=np.float32) / 127.5 - 1).permute(2, 0, 1)[None].contiguous()


def _warn_if_animated(label: str, image: Image.Image) -> None:
    # Phones write a preview or a depth map beside the photograph, which is nothing to warn about.
    try:
        several = image.format not in ("MPO", "HEIF") and getattr(image, "is_animated", False)
    except Exception:  # the second frame is looked at: it may be damaged, in whatever way
        several = True
    if several:
        text = f"{label} has several frames: only the first one is used."
        warnings.warn(InputWarning(text, code="several-frames"), stacklevel=4)
