"""Images, depth maps and normal maps as files, and as pictures to look at."""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image, PngImagePlugin
from torch import Tensor

from gan2shape_hub.atomic import atomic_file

# Ten evenly spaced colours of matplotlib's "magma" (CC0): lightness rises evenly, so equal steps of depth look equal.
_MAGMA = "000004 180f3d 440f76 721f81 9e2f7f cd4071 f1605d fd9668 feca8d fcfdbf"


def to_pil(image: Tensor) -> Image.Image:
    """(3, H, W) or (1, 3, H, W) in -1..1 -> RGB; one channel -> L; four, of which the last is in 0..1 -> RGBA. Values
    outside are clamped."""
    image = image.detach()
    planes = image[0] if image.dim() == 4 else image
    if len(planes) == 4:
        return Image.merge("RGBA", (*to_pil(planes[:3]).split(), mask_to_pil(planes[3])))
    # Plane by plane, which Pillow interleaves several times as fast as tensors are permuted.
    levels = (planes.float().cpu().clamp(-1, 1) + 1).mul_(127.5).round_().to(torch.uint8).numpy()
    bands = [Image.fromarray(level) for level in levels]
    return bands[0] if len(bands) == 1 else Image.merge("RGB", bands)


def mask_to_pil(mask: Tensor) -> Image.Image:
    """(H, W) or (..., H, W) of one map in 0..1 -> L."""
    mask = mask.detach().float().cpu().reshape(mask.shape[-2:])
    return Image.fromarray((mask.clamp(0, 1) * 255).round().to(torch.uint8).numpy())


def normals_to_pil(normals: Tensor, mask: Tensor | None = None) -> Image.Image:
    """(3, H, W) or (1, 3, H, W) normals as `rendering.normals_from_depth` gives them -> RGB normal map. Outside
    ``mask`` (H, W) it faces the viewer.

    Red, green and blue are the outward normal's x (right), y (up) and z (toward the viewer), -1..1 to 0..255, as
    OpenGL normal maps have it; a surface facing the viewer is (128, 128, 255).
    """
    x, y, z = (normals[0] if normals.dim() == 4 else normals).detach().float().cpu()
    if mask is not None:
        inside = mask.detach().cpu().reshape(x.shape) > 0.5
        x, y, z = x * inside, y * inside, torch.where(inside, z, 1.0)
    # Those normals are inward in a frame with y down: outward and y up negates x, and y and z twice.
    return to_pil(torch.stack((-x, y, z)))


def depth_to_pil(depth: Tensor, mask: Tensor | None = None) -> Image.Image:
    """(H, W) depth -> RGB picture, near bright and far dark, contrast stretched between the 1st and 99th percentile.

    Pixels outside ``mask`` (H, W), or not finite, become the far colour and do not count for the contrast.
    """
    values = depth.detach().float().cpu().numpy()
    valid = np.isfinite(values)
    if mask is not None:
        valid &= mask.detach().cpu().reshape(values.shape).numpy() > 0.5
    near, far = np.percentile(values[valid], (1, 99)) if valid.any() else (0.0, 1.0)
    nearness = np.where(valid, (far - values) / max(far - near, 1e-9), 0).clip(0, 1)
    stops = np.array([[int(c[i : i + 2], 16) for i in (0, 2, 4)] for c in _MAGMA.split()], dtype=float)
    at = np.linspace(0, 1, len(stops))
    rgb = np.stack([np.interp(nearness, at, stops[:, k]) for k in range(3)], -1)
    return Image.fromarray(rgb.round().astype(np.uint8))


PNG_LEVEL = 1
"""Of zlib: photographs hardly get smaller beyond it, and take three times as long."""


TEXTURE_LEVEL = 4
"""Of a model's texture, which people send around: a seventh smaller."""


def png_bytes(
    image: Image.Image, info: PngImagePlugin.PngInfo | None = None, *, compress_level: int = PNG_LEVEL
) -> bytes:
    """A PNG file in memory."""
    data = io.BytesIO()
    image.save(data, "PNG", compress_level=compress_level, pnginfo=info)
    return data.getvalue()


def write_image(path: str | Path, image: Image.Image, text: dict[str, str] | None = None) -> Path:
    """PNG (or what the suffix says), atomically; ``text`` goes into PNG text fields."""
    info = PngImagePlugin.PngInfo()
    for key, value in (text or {}).items():
        info.add_text(key, value)
    # Encoded in memory first: a full disk then shows as the system's own error, not as Pillow's "encoder error -2".
    kind = Image.registered_extensions().get(Path(path).suffix.lower(), "PNG")
    if kind == "PNG":
        encoded = png_bytes(image, info)
    else:
        data = io.BytesIO()
        image.save(data, kind)
        encoded = data.getvalue()
    with atomic_file(path) as part:
        part.write_bytes(encoded)
    return Path(path)


@dataclass(frozen=True)
class DepthScale:
    """How a 16-bit depth PNG stores depth: depth = far - (value - 1) / 65534 * (far - near); value 0 is no data."""

    near: float
    far: float


def write_depth_png(
    path: str | Path, depth: Tensor, *, mask: Tensor | None = None, near: float | None = None, far: float | None = None
) -> DepthScale:
    """16-bit greyscale PNG, near bright and far dark as in `depth_to_pil`; its scale is in the PNG's text fields
    (`DepthScale`).

    Args:
        depth: (H, W) scene units.
        mask: (H, W); outside it, and where depth is not finite, the value is 0 (no data).
        near, far: depths stored as 65535 and 1; None takes the smallest and largest valid depth.
    """
    values = depth.detach().cpu().double().numpy()
    valid = np.isfinite(values)
    if mask is not None:
        valid &= mask.detach().cpu().reshape(values.shape).numpy() > 0.5
    known = values[valid] if valid.any() else np.zeros(1)
    near = float(known.min()) if near is None else near
    far = float(known.max()) if far is None else far
    unit = np.where(valid, (far - values) / max(far - near, 1e-12), 0).clip(0, 1)
    stored = np.where(valid, np.round(unit * 65534) + 1, 0).astype(np.uint16)
    text = {
        "depth_at_1": repr(far),
        "depth_at_65535": repr(near),
        "depth_formula": "depth = depth_at_1 + (value - 1) / 65534 * (depth_at_65535 - depth_at_1); value 0 is no data",
        "depth_unit": "scene units along the viewing axis, larger depths are further",
    }
    write_image(path, Image.fromarray(stored), text)
    return DepthScale(near, far)


def read_depth_png(path: str | Path) -> np.ndarray:
    """(H, W) float64 depth of a file by `write_depth_png`; NaN where it holds no data."""
    with Image.open(path) as image:
        first, last = float(image.text["depth_at_1"]), float(image.text["depth_at_65535"])
        stored = np.asarray(image).astype(np.float64)
    return np.where(stored > 0, first + (stored - 1) / 65534 * (last - first), np.nan)


def write_depth_npy(path: str | Path, depth: Tensor) -> Path:
    """``depth`` (H, W) as float32 NPY, no pickle; scene units, larger is further."""
    with atomic_file(path) as part, part.open("wb") as out:
        np.save(out, depth.detach().cpu().numpy().astype(np.float32), allow_pickle=False)
    return Path(path)
