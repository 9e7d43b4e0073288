"""Principal components of W: the space in which encoders that were pretrained in an hour move latents."""

from __future__ import annotations

import torch
from torch import Tensor

from gan2shape_hub.config import ConfigError, ProjectionConfig
from gan2shape_hub.generator import Generator, sample_latents
from gan2shape_hub.models.stylegan2 import StyleGAN2Generator

SPACES = ("mapping_tail", "pca")
"""Values of ``projection.space``, the first one the paper's."""


@torch.no_grad()
def latent_statistics(
    generator: Generator, count: int, samples: int = 40_000, seed: int = 0
) -> tuple[Tensor, Tensor, Tensor]:
    """Mean of W (D), its first principal directions (count, D) and their standard deviations (count), in float64."""
    w = sample_latents(generator, samples, torch.Generator().manual_seed(seed)).double()
    mean = w.mean(dim=0)
    values, vectors = torch.linalg.eigh((w - mean).T @ (w - mean) / (samples - 1))
    basis = vectors.flip(1)[:, :count].T
    # Sign convention: the largest entry of a direction is positive, so that a rebuild gives the same basis.
    basis = basis * basis.gather(1, basis.abs().argmax(dim=1, keepdim=True)).sign()
    return mean, basis, values.flip(0)[:count].clamp_min(0).sqrt()


def with_space(generator: StyleGAN2Generator, space: str) -> tuple[StyleGAN2Generator, dict[str, ProjectionConfig]]:
    """The generator as ``space`` needs it, and what ``space`` changes of a category's configuration.

    ``mapping_tail`` changes nothing; ``pca`` adds the first 64 principal components (fewer where the latent is
    smaller), with the bounds that the face checkpoint was trained with. ConfigError for another ``space``.
    """
    if space not in SPACES:
        raise ConfigError(f"space is {space!r}, must be one of {', '.join(SPACES)}.")
    if space == "mapping_tail":
        return generator, {}
    count = min(64, generator.latent_dim)
    _, basis, std = latent_statistics(generator, count)
    new = StyleGAN2Generator(**{**generator.config, "components": count})
    state = {**generator.state_dict(), "component_basis": basis.float(), "component_std": std.float()}
    new.load_state_dict(state, strict=True)
    projection = ProjectionConfig(space="pca", components=count, clamp=1.5, offset_weight=0.1, texture="image")
    return new, {"projection": projection}
