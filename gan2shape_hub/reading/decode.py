"""An image file to a PIL image that is not decoded yet, with its size looked at first."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import BinaryIO

from PIL import Image, JpegImagePlugin, UnidentifiedImageError

from gan2shape_hub.errors import Cancelled, InputError
from gan2shape_hub.reading.formats import NAMES, SUFFIXES_OF
from gan2shape_hub.reading.jpeg import count_scans
from gan2shape_hub.reading.source import StoppableStream, reason

MIN_SIDE = 32
"""Shorter sides (pixels) carry too little to reconstruct from and are refused."""
REDUCIBLE = 8
"""A JPEG can be decoded at a half, a quarter or an eighth of its sides, in the memory of the small picture."""
MAX_REDUCED = 400_000_000
"""Pixels of a JPEG that is decoded reduced: panoramas of telephones and sensors of 200 megapixels."""
_HEIF_BRANDS = frozenset((b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1"))


@dataclass(frozen=True)
class PixelLimits:
    """Width times height."""

    decoded: int
    """Of a picture that is decoded whole; larger ones are refused."""
    kept: int
    """Of the picture that is returned; larger ones are reduced by a whole number."""

    @property
    def reduced(self) -> int:
        """Of a JPEG that can be decoded reduced."""
        return max(min(MAX_REDUCED, self.kept * REDUCIBLE**2), self.decoded)


def open_picture(stream: BinaryIO, label: str, limits: PixelLimits) -> Image.Image:
    """Open without decoding: one of the known formats, within the limits, set to be decoded reduced where it can be.
    Every read of the decoder is a place to stop.

    InputError: no picture of a known format, damaged, too large or too small, or a JPEG that never ends.
    """
    head = stream.read(16)
    stream.seek(0)
    stoppable = StoppableStream(stream)
    try:
        if head.startswith(b"\xff\xd8\xff"):
            return _open_jpeg(stoppable, label, limits)
        if head[4:8] == b"ftyp" and head[8:12] in _HEIF_BRANDS:
            image = _open_heif(stoppable, label)
        else:
            image = _open_other(stoppable, label, limits)
    except (InputError, Cancelled):
        raise
    except Exception as error:  # damaged headers surface as all kinds of exceptions
        raise InputError(
            f"{label} is corrupt or truncated ({reason(error)}): download or save it again.", code="corrupt"
        ) from None
    check_size(label, *image.size, limits.decoded)
    return image


def check_size(label: str, width: int, height: int, max_pixels: int) -> None:
    """InputError where a picture is too large or too small."""
    if width * height > max_pixels:
        raise InputError(
            f"{label} is {width} x {height} pixels, must have at most {max_pixels:,} in all: scale it down first.",
            code="too-large",
        )
    if min(width, height) < MIN_SIDE:
        raise InputError(
            f"{label} is {width} x {height} pixels, must be at least {MIN_SIDE} on each side: use a larger original.",
            code="too-small",
        )


def _open_jpeg(stream: BinaryIO, label: str, limits: PixelLimits) -> Image.Image:
    several = count_scans(stream, label) > 1
    stream.seek(0)
    image = JpegImagePlugin.JpegImageFile(stream)  # of several pictures in a file (MPO) the first
    # Where there are several scans, the decoder holds the whole picture's coefficients, whatever size it makes.
    check_size(label, *image.size, limits.decoded if several else limits.reduced)
    (width, height), factor = image.size, 1
    while factor < REDUCIBLE and -(-width // factor) * -(-height // factor) > limits.kept:
        factor *= 2
    if factor > 1:
        image.draft(None, (max(width // factor, 1), max(height // factor, 1)))
    return image


def _open_heif(stream: BinaryIO, label: str) -> Image.Image:
    try:
        from pillow_heif import HeifImageFile
    except ImportError:
        raise InputError(
            f"{label} is a HEIC photograph: pip install 'gan2shape-hub[heic]', or convert it to JPEG or PNG first.",
            code="heic",
        ) from None
    return HeifImageFile(stream)  # not registered with Pillow: that is the caller's


def _open_other(stream: BinaryIO, label: str, limits: PixelLimits) -> Image.Image:
    Image.init()
    formats = [name for name in SUFFIXES_OF if name in Image.OPEN and name != "HEIF"]
    try:
        with warnings.catch_warnings():
            # Between once and twice Pillow's own limit it only warns; ours decides there.
            warnings.simplefilter("ignore")
            return Image.open(stream, formats=formats)
    except Image.DecompressionBombError:
        raise InputError(
            f"{label} has over {2 * (Image.MAX_IMAGE_PIXELS or 0):,} pixels, must have at most {limits.decoded:,}: "
            "scale it down first.",
            code="too-large",
        ) from None
    except UnidentifiedImageError:
        raise InputError(
            f"{label} is not an image in a known format: pass a {NAMES} file.", code="not-an-image"
        ) from None
