"""Panoramas that light a scene, as linear radiance: Radiance's .hdr, or any photograph (Ward 1991, "Real Pixels")."""

from __future__ import annotations

import re
from io import BytesIO
from os import PathLike

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from gan2shape_hub.arguments import user_path
from gan2shape_hub.errors import InputError
from gan2shape_hub.reading.decode import PixelLimits, open_picture

MAX_PIXELS = 1 << 25
"""8192 x 4096."""
SIDE = 256
"""Rows that are kept: light of nine numbers needs no more."""
_SIZE = re.compile(rb"-Y (\d{1,5}) \+X (\d{1,5})\n")


def read_panorama(path: str | PathLike) -> Tensor:
    """(3, H, W) linear radiance of 0 or more; a photograph's is 1 at its white.

    InputError, one sentence: no such file, no picture, damaged, too large, or OpenEXR.
    """
    path = user_path(path)
    try:
        data = path.read_bytes() if path.stat().st_size <= 4 * MAX_PIXELS + 65536 else None
    except OSError as error:
        raise InputError(f"{path.name} cannot be read ({error.strerror}): check the path.", code="unreadable") from None
    if data is None:
        raise InputError(f"{path.name} is too large: scale it to 8192 x 4096 or less.", code="too-large")
    if data.startswith(b"v/1\x01"):
        raise InputError(f"{path.name} is OpenEXR: save it as Radiance .hdr.", code="not-an-image")
    if data.startswith((b"#?RADIANCE", b"#?RGBE")):
        linear = _radiance(data, path.name)
    else:
        picture = open_picture(BytesIO(data), path.name, PixelLimits(MAX_PIXELS, MAX_PIXELS))
        picture.thumbnail((2 * SIDE, SIDE), Image.Resampling.BOX)
        encoded = np.asarray(picture.convert("RGB"), np.float32) / 255
        linear = np.where(encoded <= 0.04045, encoded / 12.92, ((encoded + 0.055) / 1.055) ** 2.4)
    return torch.from_numpy(linear.astype(np.float32)).permute(2, 0, 1).contiguous()


def _radiance(data: bytes, name: str) -> np.ndarray:
    """(H, W, 3) float32 of a .hdr file, averaged down by a whole number."""
    found = _SIZE.search(data, 0, 8192)
    if found is None:
        raise InputError(f"{name} has no size that is known (-Y rows +X columns): save it again.", code="corrupt")
    height, width = (int(n) for n in found.groups())
    if height * width > MAX_PIXELS or min(height, width) < 2:
        raise InputError(f"{name} is {width} x {height} pixels: scale it to 8192 x 4096 or less.", code="too-large")
    factor, at = max(1, height // SIDE), found.end()
    kept = [np.zeros((width // factor, 3), np.float32) for _ in range(height // factor)]
    try:
        for row in range(len(kept) * factor):
            line, at = _scanline(data, at, width)
            scale = np.ldexp(1.0, line[:, 3].astype(np.int32) - 136) * (line[:, 3] > 0)
            colours = (line[:, :3] * scale[:, None])[: len(kept[0]) * factor]
            kept[row // factor] += colours.reshape(-1, factor, 3).sum(1) / factor**2
    except (IndexError, ValueError):
        raise InputError(f"{name} is corrupt or truncated: download or save it again.", code="corrupt") from None
    return np.stack(kept)


def _scanline(data: bytes, at: int, width: int) -> tuple[np.ndarray, int]:
    """One row (W, 4) of red, green, blue and exponent, and where the next begins."""
    if not (data[at] == data[at + 1] == 2 and data[at + 2] < 128 and 8 <= width < 32768):
        flat = np.frombuffer(data, np.uint8, 4 * width, at)
        return flat.reshape(width, 4), at + 4 * width
    if data[at + 2] << 8 | data[at + 3] != width:
        raise ValueError
    at += 4
    line = np.empty((4, width), np.uint8)
    for channel in line:
        filled = 0
        while filled < width:
            count = data[at]
            run = count > 128
            count = count - 128 if run else count
            if not 0 < count <= width - filled:
                raise ValueError
            if run:
                channel[filled : filled + count] = data[at + 1]
                at += 2
            else:
                channel[filled : filled + count] = np.frombuffer(data, np.uint8, count, at + 1)
                at += 1 + count
            filled += count
    return line.T, at
