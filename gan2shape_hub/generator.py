"""What the method asks of a GAN. Bring your own: any ``torch.nn.Module`` with these members will do."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor, nn


@runtime_checkable
class Generator(Protocol):
    """A style-based generator: z is mapped to w, and w (one, or one a layer) to an image.

    D is ``latent_dim``, L ``num_latents``. Latents are (B, D), the same for every layer, or (B, L, D). Images are
    (B, 3, side, side) in about -1..1. Weights, ``latent_mean`` and latents share one dtype and device; images have
    that dtype. With the weights frozen, images are differentiable in the latents.
    """

    latent_dim: int
    """D."""
    num_latents: int
    """L, the layers that may have a latent of their own."""
    latent_mean: Tensor
    """(D) mean of W."""

    def __call__(self, w: Tensor) -> Tensor:
        """Latents (B, D) or (B, L, D) -> images (B, 3, T, T) at the generator's full side T."""

    def mapping(self, z: Tensor) -> Tensor:
        """Standard normal z (B, D) -> w (B, D). For ``projection.space`` "mapping_tail" it has ``layers`` and takes
        ``start`` and ``stop``, numbers of layers, as ``MappingNetwork`` does."""

    def truncate(self, w: Tensor, psi: float) -> Tensor:
        """``latent_mean + psi * (w - latent_mean)``."""

    def image_at(self, w: Tensor, size: int) -> Tensor:
        """Latents (B, D) or (B, L, D) -> images (B, 3, size, size): cheaper than the full ones where there is a way,
        else those, scaled down."""

    def parameters(self, recurse: bool = True) -> Iterator[nn.Parameter]:
        """As ``torch.nn.Module`` has it, and so are ``state_dict``, ``to``, ``float``, ``eval``, ``requires_grad_``."""


class ComponentGenerator(Generator, Protocol):
    """A generator that knows the principal components of its W, as ``projection.space`` "pca" and walks need."""

    component_basis: Tensor
    """(n, D) orthonormal rows, the commonest direction first."""
    component_std: Tensor
    """(n) standard deviation of W along each."""


def tap_sizes(generator: Any) -> tuple[int, ...]:
    """Sides below the full one at which ``image_at`` is cheap; empty where the generator does not say."""
    return tuple(getattr(generator, "tap_sizes", ()))


@torch.no_grad()
def sample_latents(
    generator: Generator,
    count: int,
    rng: torch.Generator,
    truncation: float | tuple[float, float] = 1.0,
) -> Tensor:
    """Latents (count, D) of ``count`` random z, on the generator's device and in its dtype.

    Args:
        rng: on the CPU, so that a seed means the same latents on every device.
        truncation: psi in 0..1, 1 being none; or the range that each latent's own psi is drawn from.
    """
    mean, latents = generator.latent_mean, []
    if not isinstance(truncation, tuple):
        z = torch.randn(count, generator.latent_dim, generator=rng)
        latents = [generator.mapping(part.to(mean)) for part in z.split(4096)]
        w = torch.cat(latents)
        return w if truncation == 1 else generator.truncate(w, truncation)
    for _ in range(count):  # z and psi in turn, so that more latents begin with the same ones
        z = torch.randn(1, generator.latent_dim, generator=rng).to(mean)
        psi = float(torch.empty(()).uniform_(*truncation, generator=rng))
        latents.append(generator.truncate(generator.mapping(z), psi))
    return torch.cat(latents)
