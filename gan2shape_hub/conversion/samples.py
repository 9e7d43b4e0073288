"""Pictures of a converted generator: whether it came over, and what of its square they fill."""

from __future__ import annotations

import torch
from PIL import Image
from torch import Tensor

from gan2shape_hub.generator import Generator, sample_latents

BLACK = 0.1
"""Above -1, what is black in a bar all the same."""


@torch.no_grad()
def sample_images(generator: Generator, truncation: float, count: int = 12, seed: int = 0) -> Tensor:
    """Samples (N, 3, S, S) of z from ``seed``, truncated, in -1..1."""
    w = sample_latents(generator, count, torch.Generator().manual_seed(seed), truncation)
    return torch.cat([generator(one) for one in w.split(1)]).clamp(-1, 1)


def sample_sheet(images: Tensor, columns: int = 4) -> Image.Image:
    """Images (N, 3, S, S) in -1..1 as one picture."""
    pixels = ((images + 1) * 127.5).round().byte()
    rows, size = len(images) // columns, images.shape[-1]
    sheet = pixels.view(rows, columns, 3, size, size).permute(0, 3, 1, 4, 2).reshape(rows * size, columns * size, 3)
    return Image.fromarray(sheet.numpy())


def frame_of(images: Tensor) -> tuple[float, float]:
    """Height and width, in parts of the side, of what lies between black bars that all ``images`` (N, 3, S, S) have on
    both sides; 1 where there are none. In steps of a 32nd: a bar's edge is soft."""
    dark = (images + 1).abs().amax(1) < BLACK  # (N, S, S)
    size, parts = images.shape[-1], []
    for axis in (2, 1):
        empty = (dark.float().mean(axis) > 0.97).all(0).tolist()
        bar = min(_leading(empty), _leading(empty[::-1]))
        steps = round(32 * bar / size)
        parts.append(1 - 2 * steps / 32 if bar < size / 2 else 1.0)
    height, width = parts
    return (height, width) if max(parts) == 1 else (1.0, 1.0)


def _leading(values: list[bool]) -> int:
    return next((i for i, value in enumerate(values) if not value), len(values))
