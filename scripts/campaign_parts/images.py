"""Damaged picture files, odd arrays and tensors, and masks of all kinds."""

from __future__ import annotations

import functools
import io
import random
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from campaign_parts.damage import damaged
from PIL import Image

from gan2shape_hub.config import CategoryConfig
from gan2shape_hub.given_mask import given_masks
from gan2shape_hub.records import Alignment
from gan2shape_hub.stages.align import align_center
from gan2shape_hub.stages.prepare import load_image

FORMATS: dict[str, tuple[str, ...]] = {
    "PNG": ("1", "L", "LA", "P", "RGB", "RGBA", "I;16"),
    "JPEG": ("L", "RGB", "CMYK"),
    "WEBP": ("RGB", "RGBA"),
    "TIFF": ("1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "F", "I;16", "LAB", "YCbCr"),
    "GIF": ("L", "P", "RGB"),
    "BMP": ("1", "L", "P", "RGB"),
    "JPEG2000": ("L", "RGB", "RGBA"),
    "AVIF": ("RGB", "RGBA"),
    "ICO": ("RGBA",),
    "PPM": ("L", "RGB"),
    "EPS": ("RGB",),
    "PDF": ("RGB",),
}
"""What files are made in; the last four are formats that are not taken."""
DTYPES = ("uint8", "uint16", "int8", "int64", "float16", "float32", "float64", "bool", "complex64", "longdouble")
ODD_DTYPES = ("O", "U3", "S2", "M8[s]", ">f4", ">u2", "V5")
TORCH_DTYPES = (
    "uint8",
    "int16",
    "int64",
    "float16",
    "bfloat16",
    "float32",
    "float64",
    "bool",
    "complex64",
    "float8_e5m2",
)


def case(rng: random.Random, folder: Path) -> Callable[[], object]:
    """Three files to an array and a mask."""
    kind = rng.randrange(5)
    if kind < 3:
        path = folder / f"photo.{rng.choice(('jpg', 'png', 'webp', 'tif', 'heic', 'gif', 'x'))}"
        data = file_of(*rng.choice([(f, mode) for f, modes in FORMATS.items() for mode in modes]), rng.randrange(4))
        data = data if rng.random() < 0.1 else damaged(rng, data)
        path.write_bytes(data)
        source = rng.choice((path, str(path), data, io.BytesIO(data), path.as_uri()))
        return lambda: load_image(source)
    value = rng.choice((array, tensor, picture))(rng)
    if kind == 3:
        return lambda: load_image(value)
    mask = rng.choice((value, [value], (value, value), str(folder / "missing.png"), b"", 3, {}, None))
    config, cut = CategoryConfig(category="face", image_size=32), rng.choice((None, _square()))
    return lambda: given_masks(mask, [cut], config)


@functools.lru_cache(256)
def file_of(kind: str, mode: str, variant: int) -> bytes:
    """A whole file, of one of four sizes and ways to write it."""
    side, options = (33, 40, 64, 97)[variant], {}
    if kind == "JPEG":
        options = {"progressive": variant % 2 == 1, "quality": 60 + 10 * variant}
    elif kind == "TIFF" and mode not in ("F", "I;16", "LAB"):
        options = {"compression": (None, "tiff_lzw", "tiff_deflate", "packbits")[variant]}
    elif kind in ("GIF", "WEBP", "PNG") and variant > 1:
        options = {"save_all": True, "append_images": [Image.new(mode, (side, 50))]}
    exif = Image.Exif()
    exif[0x0112] = 1 + 2 * variant  # the camera was turned
    if kind in ("JPEG", "PNG", "WEBP"):
        options["exif"] = exif
    noise = np.random.default_rng(variant).integers(0, 255, (50, side), dtype=np.uint8)
    grey = Image.fromarray(noise)
    image = {"I;16": lambda: Image.fromarray(noise.astype(np.uint16) * 256), "LAB": lambda: Image.new("LAB", grey.size)}
    made, out = (
        image.get(mode, lambda: grey.convert("RGB").convert(mode) if mode != "LA" else grey.convert("LA"))(),
        io.BytesIO(),
    )
    made.save(out, kind, **options)
    return out.getvalue()


def array(rng: random.Random) -> np.ndarray:
    """Of any type and shape, sometimes a view, or one of more pixels than there is memory."""
    shape, dtype = _shape(rng), rng.choice(DTYPES if rng.random() < 0.8 else ODD_DTYPES)
    scale = rng.choice((1, 1, 255, 70000, -3, 1e30))
    values = np.asarray(np.random.default_rng(rng.randrange(100)).random(shape)) * scale
    with np.errstate(all="ignore"):
        made = np.zeros(shape, dtype) if dtype in ("V5", "M8[s]") else np.asarray(values, dtype)
    if made.dtype.kind == "f" and made.size and rng.random() < 0.2:
        made.flat[0] = rng.choice((np.nan, np.inf, -np.inf))
    if made.ndim and made.size:
        made = rng.choice((made, made, made[::-1], made.T, np.broadcast_to(made.flat[:1], (60_000, 60_000))))
    return made


def tensor(rng: random.Random) -> torch.Tensor:
    """Of any type, shape and layout."""
    made = torch.rand(_shape(rng)).to(getattr(torch, rng.choice(TORCH_DTYPES)))
    match rng.randrange(8):
        case 0:
            return made.to("meta")
        case 1 if made.ndim:
            return made.float().to_sparse()
        case 2:
            return torch.quantize_per_tensor(made.float(), 0.1, 0, torch.quint8)
        case 3:
            return made.float().requires_grad_()
        case 4:
            return torch.nested.nested_tensor([torch.rand(3, 40), torch.rand(5, 40)])
        case 5:
            return torch.zeros(1, 1).expand(60_000, 60_000)
    return made


def picture(rng: random.Random) -> Image.Image:
    """A PIL image of any mode, sometimes closed."""
    mode = rng.choice(
        ("1", "L", "LA", "La", "P", "PA", "RGB", "RGBA", "RGBa", "CMYK", "YCbCr", "LAB", "HSV", "I", "F", "I;16")
    )
    image = Image.new(mode, rng.choice(((40, 40), (33, 70), (0, 0), (1, 9000), (31, 32))))
    if rng.random() < 0.1:
        image.close()
    return image


def _shape(rng: random.Random) -> tuple[int, ...]:
    side = rng.choice((0, 1, 31, 32, 40))
    shapes = (
        (),
        (3,),
        (40, 40),
        (40, side),
        (40, 40, 3),
        (3, 40, side),
        (1, 3, 40, 40),
        (2, 3, 40, 40),
        (40, 40, side),
    )
    return rng.choice((*shapes, (1,) * 9))


@functools.cache
def _square() -> Alignment:
    return align_center(Image.new("RGB", (50, 40)))
