"""Others can bring a GAN: the protocol, and a generator that has nothing but it."""

import dataclasses

import pytest
import torch
import torch.nn.functional as F
from conftest import tiny_config, tiny_generator
from torch import nn

from gan2shape_hub import GAN2ShapePipeline
from gan2shape_hub.config import ProjectionConfig
from gan2shape_hub.generator import Generator, sample_latents
from gan2shape_hub.models.stylegan2 import StyleGAN2Generator


class Blobs(nn.Module):
    """Two layers: the first latent says where a blob is, the second its colour."""

    latent_dim, num_latents = 8, 2

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(8, 8)
        self.background = nn.Parameter(torch.tensor(-0.2))
        with torch.no_grad():
            self.linear.weight.copy_(torch.eye(8))
            self.linear.bias.fill_(0.1)
        self.register_buffer("latent_mean", torch.full((8,), 0.1))
        self.register_buffer("component_basis", torch.eye(8)[:4])
        self.register_buffer("component_std", torch.ones(4))

    def mapping(self, z):
        return self.linear(z)

    def truncate(self, w, psi):
        return self.latent_mean + psi * (w - self.latent_mean)

    def forward(self, w):
        place, colour = (w, w) if w.ndim == 2 else w.unbind(1)
        at = torch.linspace(-1, 1, 64).to(w)
        x, y = (0.3 * place[:, i, None, None, None] for i in (0, 1))
        blob = torch.exp(-((at - x) ** 2 + (at[:, None] - y) ** 2) / 0.3)
        return torch.tanh(colour[:, 2:5, None, None]) * blob + self.background

    def image_at(self, w, size):
        return F.adaptive_avg_pool2d(self(w), size)


@pytest.fixture
def pipeline(narrow_nets):
    config = tiny_config(projection=ProjectionConfig(space="pca", components=4))
    return GAN2ShapePipeline(config, Blobs(), device="cpu")


@pytest.mark.parametrize(
    "generator", [Blobs(), tiny_generator(), StyleGAN2Generator(32, channels=[8, 8, 8, 8], latent_dim=16)]
)
def test_generators_have_what_the_protocol_says(generator):
    assert isinstance(generator, Generator)
    w = sample_latents(generator, 2, torch.Generator().manual_seed(0))
    assert w.shape == (2, generator.latent_dim)
    every = w[:, None].expand(-1, generator.num_latents, -1)
    for latents in (w, every):
        assert generator(latents).shape[:2] == (2, 3)
        assert generator.image_at(latents, 32).shape == (2, 3, 32, 32)
    assert torch.allclose(generator(w), generator(every), atol=1e-5)
    assert torch.allclose(generator.truncate(w, 0.0), generator.latent_mean.expand_as(w), atol=1e-6)
    assert not isinstance(nn.Linear(2, 2), Generator)


def test_a_foreign_generator_runs_through_the_pipeline(pipeline):
    schedule = dataclasses.replace(pipeline.config.schedule(), tune_iterations=2)
    sample = pipeline.sample(seed=3)
    results = pipeline([sample, sample.image], preset=schedule, tuned=True, align=False)
    for result in results:
        assert torch.isfinite(result.depth).all()
        assert result.rotate(20, through_gan=True).size == (64, 64)
    assert results[1].latent.shape == (1, 2, 8)
    assert results[1].inversion_db > 0


def test_more_latents_begin_with_the_same_ones():
    generator = tiny_generator()

    def draw(count, truncation):
        return sample_latents(generator, count, torch.Generator().manual_seed(4), truncation)

    for truncation in (1.0, 0.5, (0.5, 0.9)):
        assert torch.allclose(draw(3, truncation)[:2], draw(2, truncation), atol=1e-6)
    mean = generator.latent_mean
    assert torch.allclose(draw(3, 0.5) - mean, 0.5 * (draw(3, 1.0) - mean), atol=1e-6)
    shares = (draw(3, (0.5, 0.9)) - mean).norm(dim=1)
    assert (shares > 0).all()
    assert not draw(2, 1.0).requires_grad
