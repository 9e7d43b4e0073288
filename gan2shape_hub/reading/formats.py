"""The formats that are read, and no others: Pillow knows forty, one of which starts Ghostscript."""

from __future__ import annotations

SUFFIXES_OF = {
    "JPEG": (".jpg", ".jpeg", ".jpe", ".jfif", ".mpo"),
    "PNG": (".png",),
    "WEBP": (".webp",),
    "TIFF": (".tif", ".tiff"),
    "BMP": (".bmp",),
    "GIF": (".gif",),
    "JPEG2000": (".jp2", ".j2k"),
    "AVIF": (".avif",),
    "HEIF": (".heic", ".heif", ".hif"),
    "PPM": (".ppm", ".pgm"),
}
"""Pillow's name of a format -> suffixes of its files, lower case. HEIF is pillow-heif's, the extra ``heic``."""
SUFFIXES = frozenset(suffix for suffixes in SUFFIXES_OF.values() for suffix in suffixes)
NAMES = "JPEG, PNG, WebP, TIFF, BMP, GIF, JPEG 2000, AVIF or HEIC"
"""For sentences."""


def is_photograph(name: str) -> bool:
    """Whether a file of this name is one, by its suffix. Names that begin with a dot are none: macOS keeps notes about
    ``IMG_1.JPG`` in ``._IMG_1.JPG``."""
    return not name.startswith(".") and any(name.lower().endswith(suffix) for suffix in SUFFIXES)
