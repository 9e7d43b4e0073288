"""StyleGAN2's mapping network with effective (already scaled) weights, callable in parts."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class MappingNetwork(nn.Module):
    """Pixel norm, then ``num_layers`` x [linear, leaky ReLU 0.2, x sqrt 2]: z (B, D) -> w (B, D).

    ``mapping(z, stop=k)`` runs the first k layers, ``mapping(h, start=k)`` the tail from layer k; the pixel norm
    belongs to the start at 0. ``mapping(mapping(z, stop=k), start=k) == mapping(z)``.
    """

    def __init__(self, latent_dim: int = 512, num_layers: int = 8) -> None:
        super().__init__()
        self.latent_dim = latent_dim
        self.layers = nn.ModuleList(nn.Linear(latent_dim, latent_dim) for _ in range(num_layers))

    def forward(self, z: Tensor, *, start: int = 0, stop: int | None = None) -> Tensor:
        stop = len(self.layers) if stop is None else stop
        if not 0 <= start <= stop <= len(self.layers):
            raise ValueError(f"start={start}, stop={stop}: must be 0 <= start <= stop <= {len(self.layers)}.")
        if z.ndim != 2 or z.shape[1] != self.latent_dim:
            raise ValueError(f"z has shape {tuple(z.shape)}, must be (B, {self.latent_dim}).")
        if start == 0:
            # In float32 where z is shorter: float16 has no 1e-8, and z = 0 would become NaN.
            wide = z.to(torch.promote_types(z.dtype, torch.float32))
            z = (wide * torch.rsqrt(wide.square().mean(dim=1, keepdim=True) + 1e-8)).to(z.dtype)
        for layer in self.layers[start:stop]:
            z = F.leaky_relu(layer(z), 0.2) * math.sqrt(2.0)
        return z
