"""Arrays and tensors as pictures: their kind, shape and size are looked at before a single value."""

from __future__ import annotations

import numpy as np
import torch
from PIL import Image

from gan2shape_hub.errors import InputError
from gan2shape_hub.reading.decode import check_size

_ROWS = 2**22
"""Values that are converted at a time: what a conversion needs beside its result does not grow with the picture."""


def plain_tensor(tensor: torch.Tensor, name: str, code: str = "bad-array") -> torch.Tensor:
    """``tensor`` without its gradient where it has values that can be read one by one, else InputError with ``code``:
    nested, sparse, quantised and complex ones, and such as have no values at all (the meta device)."""
    kinds = (
        ("nested", tensor.is_nested, "pass one picture, unbound from it"),
        ("sparse", tensor.layout != torch.strided, "call its to_dense() first"),
        ("quantised", tensor.is_quantized, "call its dequantize() first"),
        ("on the meta device", tensor.is_meta, "it has no values, pass one on a real device"),
        ("complex", tensor.is_complex(), "pass real numbers"),
    )
    for kind, given, remedy in kinds:
        if given:
            raise InputError(f"{name} is of type Tensor ({kind}): {remedy}.", code=code)
    return tensor.detach().resolve_neg()


def tensor_to_pil(tensor: torch.Tensor, name: str, max_pixels: int) -> Image.Image:
    """(H, W), (C, H, W) or (1, C, H, W) with C = 1, 3 or 4; see ``array_to_pil``."""
    tensor = plain_tensor(tensor, name)
    shape = tuple(tensor.shape)
    if tensor.ndim == 4 and shape[0] == 1:
        tensor = tensor[0]
    if tensor.ndim == 3 and tensor.shape[0] in (1, 3, 4):
        tensor = tensor.permute(1, 2, 0)
    elif tensor.ndim != 2:
        raise InputError(
            f"{name} is a tensor of shape {shape}, must be (H, W) or (C, H, W) with 1, 3 or 4 channels: "
            "pass one image, channels first.",
            code="bad-array",
        )
    if tensor.numel():
        check_size(name, tensor.shape[1], tensor.shape[0], max_pixels)
    tensor = tensor.cpu()
    return array_to_pil((tensor.float() if tensor.is_floating_point() else tensor).numpy(), name, max_pixels)


def array_to_pil(array: np.ndarray, name: str, max_pixels: int) -> Image.Image:
    """(H, W), (H, W, 1), (H, W, 3) or (H, W, 4) of uint8, uint16 or floating point in 0..1; any byte order."""
    if array.ndim == 3 and array.shape[2] == 1:
        array = array[..., 0]
    if array.ndim not in (2, 3) or (array.ndim == 3 and array.shape[2] not in (3, 4)) or array.size == 0:
        raise InputError(
            f"{name} has shape {array.shape}, must be (H, W) or (H, W, C) with 1, 3 or 4 channels: "
            "pass one image, channels last (tensors: channels first).",
            code="bad-array",
        )
    if array.dtype.kind != "f" and (array.dtype.kind != "u" or array.dtype.itemsize > 2):
        raise InputError(
            f"{name} has type {array.dtype}, must be uint8, uint16 or floating point: convert it first.",
            code="bad-array",
        )
    check_size(name, array.shape[1], array.shape[0], max_pixels)
    pixels = np.empty(array.shape, np.uint8)
    step = max(_ROWS // (array.size // len(array)), 1)
    for first in range(0, len(array), step):
        pixels[first : first + step] = _to_bytes(np.asarray(array[first : first + step]), name)
    return Image.fromarray(pixels)


def _to_bytes(rows: np.ndarray, name: str) -> np.ndarray:
    if rows.dtype.kind == "u":
        return rows if rows.dtype.itemsize == 1 else np.round(rows / np.float32(257))
    if not np.isfinite(rows).all():
        raise InputError(f"{name} has values that are NaN or infinite: replace them first.", code="bad-array")
    low, high = float(rows.min()), float(rows.max())
    if low < -1e-3 or high > 1 + 1e-3:
        raise InputError(
            f"{name} has floating point values from {low:g} to {high:g}, must be in 0..1: rescale it, "
            "or pass uint8 for 0..255.",
            code="bad-array",
        )
    return np.round(rows.astype(np.float32).clip(0, 1) * 255)
