"""A picture of any mode to 8 bits of sRGB, with alpha where some pixels are transparent."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image, ImageCms

from gan2shape_hub.errors import InputError

_PREMULTIPLIED = {"La": "LA", "RGBa": "RGBA"}
"""Modes that Pillow turns back by one way only."""


def to_rgb(image: Image.Image, label: str) -> Image.Image:
    """A decoded image to sRGB ``RGB``, or ``RGBA`` where it has transparent pixels; itself where it is that already.

    InputError: values that are not finite, or of more than 16 bits.
    """
    if image.mode == "F" or image.mode.startswith("I"):
        image = _deep_grey(image, label)
    if image.mode in _PREMULTIPLIED:
        image = image.convert(_PREMULTIPLIED[image.mode])
    image = _to_srgb(image)
    if image.has_transparency_data:
        image = image.convert("RGBA")
        lowest_alpha = image.getchannel("A").getextrema()[0]
        if lowest_alpha < 255:
            return image
    return image if image.mode == "RGB" else image.convert("RGB")


def _deep_grey(image: Image.Image, label: str) -> Image.Image:
    """Greyscale with more than 8 bits -> ``L``. PIL's own conversion would clip at 255 and return white."""
    values = np.asarray(image)
    if image.mode == "F":
        if not np.isfinite(values).all():
            raise InputError(f"{label} has values that are NaN or infinite: replace them first.", code="bad-array")
        low, high = float(values.min()), float(values.max())
        if low < 0 or high > 255:
            raise InputError(
                f"{label} has floating point values from {low:g} to {high:g}, must be in 0..1 or 0..255: rescale them.",
                code="bad-array",
            )
        grey = values * (255 if high <= 1 else 1)
    else:
        low, high = int(values.min()), int(values.max())
        if low < 0 or high > 65535:
            raise InputError(
                f"{label} has values from {low} to {high}, must be 8 or 16 bits: save it again as such.",
                code="bad-array",
            )
        grey = values / 257  # 65535 / 255
    return Image.fromarray(np.round(grey).astype(np.uint8))


def _to_srgb(image: Image.Image) -> Image.Image:
    """Apply an embedded colour profile (wide-gamut phones, printing CMYK); without one, colours are taken as sRGB."""
    profile = image.info.get("icc_profile")
    if not profile or image.mode not in ("RGB", "RGBA", "CMYK"):
        return image
    target = "RGBA" if image.mode == "RGBA" else "RGB"
    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        return ImageCms.profileToProfile(image, source, ImageCms.createProfile("sRGB"), outputMode=target)
    except (ImageCms.PyCMSError, OSError, ValueError):
        return image  # a broken or foreign profile: a slight cast is better than no result
