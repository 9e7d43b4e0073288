"""How photographs differ from what a generator makes: exposure, colour, lamps, sharpness, noise, things in front."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from gan2shape_hub.rendering.details import blur

SMALLEST = 40 / 128
"""Of a photograph that was enlarged, in parts of the side."""


def with_faults(images: Tensor, rng: torch.Generator) -> Tensor:
    """Images (B, 3, S, S) in -1..1 as a careless photographer would have taken them; every one has its own faults."""
    count, size = len(images), images.shape[-1]

    def draw(channels: int = 1) -> Tensor:
        return torch.rand(count, channels, 1, 1, generator=rng).to(images)

    x = (images.clamp(-1, 1) / 2 + 0.5).clamp_min(1e-3) ** (2 ** (1.6 * draw() - 0.8))
    x = x * (0.7 + 0.24 * draw(3) + 0.3 * draw()) + 0.12 * (draw() - 0.5)
    x = x * (_lamp(draw(), size) * 0.9 * draw() * (draw() < 0.5)).exp()
    grey = (draw() < 0.15).to(x)
    x = x * (1 - grey) + x.mean(1, keepdim=True) * grey
    x = torch.cat([_softened(one, float(amount)) for one, amount in zip(x.split(1), draw(), strict=True)])
    noise = torch.randn(x.shape, generator=rng).to(x)
    x = x + 0.06 * draw() * noise
    x = torch.where(_occluder(draw, size) & (draw() < 0.2), draw(3), x)
    return x.clamp(0, 1) * 2 - 1


def _softened(image: Tensor, amount: float) -> Tensor:
    """Three in ten out of focus, two in ten enlarged, the others as they are."""
    if amount < 0.3:
        return blur(image, (0.5 + 5 * amount) * image.shape[-1] / 128)
    if amount < 0.5:
        side = round((SMALLEST + (1 - SMALLEST) * (amount - 0.3) / 0.2) * image.shape[-1])
        small = F.interpolate(image, (side, side), mode="bilinear", antialias=True)
        return F.interpolate(small, image.shape[-2:], mode="bicubic")
    return image


def _lamp(angle: Tensor, size: int) -> Tensor:
    """A ramp (B, 1, size, size) in about -1..1 that rises along ``angle`` (B, 1, 1, 1), turns."""
    u = torch.linspace(-1, 1, size, device=angle.device)
    return torch.cos(2 * math.pi * angle) * u[None, :] + torch.sin(2 * math.pi * angle) * u[:, None]


def _occluder(draw, size: int) -> Tensor:
    """An ellipse (B, 1, size, size), somewhere."""
    x, y, wide, high = draw() * 1.6 - 0.8, draw() * 1.6 - 0.6, 0.08 + 0.25 * draw(), 0.08 + 0.25 * draw()
    u = torch.linspace(-1, 1, size, device=x.device)
    return ((u[None, :] - x) / wide).square() + ((u[:, None] - y) / high).square() < 1
