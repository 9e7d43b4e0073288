"""A generator whose truth is known: a dome under a lamp that components of W move, in some layers and not in others."""

from __future__ import annotations

import torch
from conftest import tiny_config
from torch import Tensor, nn

from gan2shape_hub.config import CategoryConfig, ProjectionConfig
from gan2shape_hub.models.shape import ShapeNets
from gan2shape_hub.rendering.renderer import raw_to_depth
from gan2shape_hub.rendering.shading import normals_from_depth

SIZE, COMPONENTS, LAYERS = 32, 8, 5
LIT = (2, 3)
"""The layers in which the lamp is moved."""
MIXED = torch.tensor([[0.8, 0.6, 0.0], [-0.6, 0.8, 0.0], [0.0, 0.0, -1.0]])
"""What steps along components 0, 1 and 2 add to the light from the left, from above and from the front."""
TURNING = 3
"""A component that carries light from the left, too, and is known to turn the object."""


def dome(height: float = 2.0, ridge: float = 0.0) -> Tensor:
    """Raw depth (1, 1, S, S) of a bump, with a nose of ``ridge``."""
    axis = torch.linspace(-1, 1, SIZE)
    square = axis[:, None] ** 2 + axis**2
    nose = ridge * torch.exp(-(axis[:, None] ** 2) / 0.1 - axis**2 / 0.02)
    return (-height * torch.exp(-square / 0.4) - nose)[None, None]


class Lamps(nn.Module):
    """Grey pictures of a dome. Layer 0 shifts stripes, layer 1 does nothing, layers 2 and 3 move the lamp by components
    0 to 3 and change spots by the others, layer 4 does nothing."""

    latent_dim, num_latents = COMPONENTS, LAYERS

    def __init__(self, raw: Tensor, lit: tuple[int, ...] = LIT) -> None:
        super().__init__()
        self.register_buffer("latent_mean", torch.zeros(COMPONENTS))
        self.register_buffer("component_basis", torch.eye(COMPONENTS).flip(0))
        self.register_buffer("component_std", torch.linspace(1.5, 0.5, COMPONENTS))
        self.lit = lit
        rng = torch.Generator().manual_seed(5)
        spots = torch.randn(1, COMPONENTS - 4, 6, 6, generator=rng)
        self.spots = torch.nn.functional.interpolate(spots, (SIZE, SIZE), mode="bicubic")[0]
        normals = normals_from_depth(raw_to_depth(raw[:, 0], config().camera), config().camera)[0]
        self.normals = normals  # inward: to the left, upward and to the front outward

    def mapping(self, z: Tensor) -> Tensor:
        return (z * self.component_std) @ self.component_basis

    def truncate(self, w: Tensor, psi: float) -> Tensor:
        return psi * w

    def forward(self, w: Tensor) -> Tensor:
        wide = w if w.ndim == 3 else w[:, None].expand(-1, LAYERS, -1)
        steps = wide @ self.component_basis.T / self.component_std  # (B, L, K)
        moved = sum(steps[:, layer] for layer in self.lit) if self.lit else steps[:, 0] * 0
        lamp = moved[:, :3] @ MIXED + moved[:, TURNING : TURNING + 1] * torch.tensor([1.0, 0.0, 0.0])
        shading = 0.2 * torch.einsum("bc,chw->bhw", lamp, self.normals)
        spots = 0.05 * torch.einsum("bk,khw->bhw", moved[:, 4:], self.spots)
        at = torch.arange(SIZE)[None, None] + 1.5 * steps[:, 0].sum(1)[:, None, None]
        stripes = 0.3 * torch.sin(at * 1.3).expand(-1, SIZE, -1)
        brightness = 0.2 * torch.exp(shading + spots + stripes)
        return (brightness.clamp(0, 1) ** (1 / 2.2) * 2 - 1)[:, None].expand(-1, 3, -1, -1)

    def image_at(self, w: Tensor, size: int) -> Tensor:
        assert size == SIZE
        return self(w)


class Says(nn.Module):
    """A network that says the same of every image."""

    def __init__(self, value: Tensor) -> None:
        super().__init__()
        self.value = nn.Parameter(value, requires_grad=False)

    def forward(self, images: Tensor) -> Tensor:
        return self.value.expand(len(images), *self.value.shape[1:])


def nets(raw: Tensor) -> ShapeNets:
    """Networks that see the sheet ``raw`` (1, 1, S, S) from the front in every image."""
    nothing = Says(torch.zeros(1, 3, SIZE, SIZE))
    return ShapeNets(Says(raw), nothing, Says(torch.zeros(1, 6)), Says(torch.zeros(1, 4)), nothing)


def config(**projection) -> CategoryConfig:
    values = {"space": "pca", "components": COMPONENTS, **projection}
    return tiny_config(projection=ProjectionConfig(**values), add_mean=False)


def turning() -> tuple[tuple[float, ...], ...]:
    return (tuple(float(i == TURNING) for i in range(COMPONENTS)),)


def everywhere(images: Tensor) -> Tensor:
    """A masker: all of it is object."""
    return torch.ones_like(images[:, :1])


class Everywhere(nn.Module):
    """The same as a component."""

    def forward(self, images: Tensor) -> Tensor:
        return everywhere(images)
