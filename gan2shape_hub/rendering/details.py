"""What of an image travels with a surface that turns: its fine contrast. The light does not."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from gan2shape_hub.config import DetailsConfig


def blur(x: Tensor, sigma: float, reach: int | None = None) -> Tensor:
    """(B, C, H, W) under a separable Gaussian of ``sigma`` pixels, cut off beyond ``reach`` (by default 2.5 sigma), its
    border repeated."""
    reach = max(1, round(2.5 * sigma)) if reach is None else reach
    at = torch.arange(-reach, reach + 1, dtype=x.dtype, device=x.device)
    kernel = torch.exp(-0.5 * (at / sigma) ** 2)
    kernel, channels = kernel / kernel.sum(), x.shape[1]
    x = F.pad(x, (reach,) * 4, mode="replicate")
    x = F.conv2d(x, kernel.view(1, 1, 1, -1).expand(channels, 1, 1, -1), groups=channels)
    return F.conv2d(x, kernel.view(1, 1, -1, 1).expand(channels, 1, -1, 1), groups=channels)


def details(images: Tensor, config: DetailsConfig) -> Tensor:
    """Images (B, 3, S, S) in -1..1 without their light: differences from the surroundings over the local contrast,
    about -1..1 (local contrast normalisation).

    When a head turns under a light that stays, shadows and highlights stay too. Compared as they are, views ask for a
    surface that moves as little as the highlights do: a hollow forehead. Widths follow the image's side S.

    Returns:
        (B, 3, S, S) in -limit/2..limit/2, differentiable.
    """
    scale = images.shape[-1] / 128
    rest = images - blur(images, config.coarse * scale)
    contrast = blur(rest.square().mean(dim=1, keepdim=True), 1.5 * config.coarse * scale).clamp_min(0).sqrt()
    fine = blur(rest, config.fine * scale) if config.fine * scale > 0.3 else rest
    return (fine / (contrast + config.floor)).clamp(-config.limit, config.limit) / 2
