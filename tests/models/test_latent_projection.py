"""From encodings to latents: the formula, its fixed points, its bounds and its gradient."""

import dataclasses

import pytest
import torch
from conftest import tiny_generator
from torch import nn

from gan2shape_hub.config import ProjectionConfig
from gan2shape_hub.models.latent_projection import LatentProjection, difference
from gan2shape_hub.models.stylegan2 import StyleGAN2Generator

TAIL = [ProjectionConfig(space="mapping_tail", first_layer=k, relative=False) for k in (5, 0, 8)]
PCA = ProjectionConfig(space="pca", components=8, clamp=1.5, relative=False)


def randn(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


class Linear(nn.Module):
    """An encoder: images (B, 3, S, S) -> (B, n)."""

    def __init__(self, n, size=4):
        super().__init__()
        torch.manual_seed(3)
        self.layer = nn.Linear(3 * size * size, n)

    def forward(self, x):
        return self.layer(x.flatten(1))


@pytest.fixture(scope="module")
def generator():
    torch.manual_seed(1)
    generator = tiny_generator()
    for layer in generator.mapping.layers:  # as after training: biases matter
        layer.bias.data.normal_(0, 0.5)
    return generator


@pytest.mark.parametrize("config", [*TAIL, PCA], ids=lambda c: f"{c.space}-{c.first_layer}")
def test_a_zero_encoding_is_a_zero_offset(generator, config):
    projection = LatentProjection(generator, config)
    offset, penalised = projection.offset(torch.zeros(2, projection.encoding_size))
    assert offset.abs().max() < 2e-6
    assert penalised.abs().max() < 2e-6


@pytest.mark.parametrize("config", [*TAIL, PCA], ids=lambda c: f"{c.space}-{c.first_layer}")
def test_a_zero_encoding_is_a_zero_offset_under_autocast(generator, config):
    """The tail's output and its constant must be rounded alike, or every projection is off by the difference."""
    projection = LatentProjection(generator, config)
    with torch.autocast("cpu", torch.bfloat16):
        offset, _ = projection.offset(torch.zeros(2, projection.encoding_size))
    assert offset.abs().max() < 2e-6
    assert offset.dtype == torch.float32


@pytest.mark.parametrize("config", [TAIL[0], PCA], ids=lambda c: c.space)
def test_offsets_have_single_precision_under_autocast(generator, config):
    projection = LatentProjection(generator, config)
    encoding = randn(3, projection.encoding_size)
    expected, _ = projection.offset(encoding)
    with torch.autocast("cpu", torch.bfloat16):
        found, _ = projection.offset(encoding)
    assert torch.allclose(found, expected, atol=1e-6)


@pytest.mark.parametrize("config", TAIL, ids=lambda c: f"first_layer={c.first_layer}")
def test_mapping_tail_is_the_methods_formula(generator, config):
    """offset = tail(E + h_mean) - w_mean; h_mean and w_mean are the tail's input and output at z = 0."""
    projection = LatentProjection(generator, config)
    assert projection.encoding_size == 16
    layers = generator.mapping.layers

    def run(x, layers):
        for layer in layers:
            x = layer(x)
            x = torch.where(x > 0, x, 0.2 * x) * 2**0.5
        return x

    def norm(x):
        return x / (x.square().mean(1, keepdim=True) + 1e-8).sqrt()

    k = config.first_layer
    h_mean = run(torch.zeros(1, 16), layers[:k])
    encoding = randn(3, 16)
    h = encoding + h_mean
    h = norm(h) if k == 0 else h  # the whole mapping network, pixel norm included
    offset, penalised = projection.offset(encoding)
    assert torch.allclose(offset, run(h, layers[k:]) - run(h_mean, layers[k:]), atol=1e-5)
    assert torch.equal(penalised, offset)


def test_pca_offsets_are_bounded_components(generator):
    projection = LatentProjection(generator, PCA)
    assert projection.encoding_size == 8
    encoding = torch.zeros(3, 8)
    encoding[0, 2], encoding[1, 2], encoding[2, 5] = 0.01, 1000, -1000
    offset, normalised = projection.offset(encoding)
    direction, std = generator.component_basis, generator.component_std
    assert torch.allclose(offset[0], 0.01 * std[2] * direction[2], rtol=1e-3)  # small: as it is
    assert torch.allclose(offset[1], 1.5 * std[2] * direction[2], atol=1e-6)  # large: the clamp, in deviations
    assert torch.allclose(offset[2], -1.5 * std[5] * direction[5], atol=1e-6)
    assert normalised.abs().max() <= 1.5
    # The penalty is on normalised components: each costs the same, however little of W it spans.
    assert torch.allclose(normalised[1].abs().sum(), normalised[2].abs().sum())


@pytest.mark.parametrize("config", [TAIL[0], PCA], ids=lambda c: c.space)
@pytest.mark.parametrize("relative", [False, True])
@pytest.mark.parametrize("plus", [False, True], ids=["w", "w+"])
def test_project(generator, config, relative, plus):
    config = ProjectionConfig(config.space, relative=relative, components=8, clamp=1.5)
    projection = LatentProjection(generator, config)
    encoder = Linear(projection.encoding_size).requires_grad_(False)
    pseudo, original = randn(2, 3, 4, 4), randn(2, 3, 4, 4, seed=1)
    latent = randn(2, 4, 16, seed=2) if plus else randn(2, 16, seed=2)
    encoding = encoder(pseudo) - encoder(original) if relative else encoder(pseudo)
    offset, penalised = projection.offset(encoding)
    found, penalty = projection.project(encoder, pseudo, latent, original)
    assert found.shape == latent.shape
    assert torch.allclose(found, latent + (offset[:, None] if plus else offset), atol=1e-5)
    assert penalty == pytest.approx(float(penalised.square().mean()), rel=1e-4)


@pytest.mark.parametrize("config", [TAIL[0], TAIL[1], PCA], ids=["tail", "mapping", "pca"])
def test_relative_form_keeps_the_latent_of_an_unchanged_image(generator, config):
    config = ProjectionConfig(config.space, config.first_layer, relative=True, components=8)
    projection = LatentProjection(generator, config)
    encoder = Linear(projection.encoding_size)
    image, latent = randn(2, 3, 4, 4), randn(2, 16, seed=2)
    found, penalty = projection.project(encoder, image, latent, image)
    assert torch.allclose(found, latent, atol=2e-6)
    assert penalty < 1e-10


@pytest.mark.parametrize("config", [TAIL[0], TAIL[1], PCA], ids=["tail", "mapping", "pca"])
def test_gradients_reach_the_encoder_and_nothing_else(generator, config):
    projection = LatentProjection(generator, config)
    encoder = Linear(projection.encoding_size)
    latent = randn(2, 16, seed=2)
    found, penalty = projection.project(encoder, randn(2, 3, 4, 4), latent, randn(2, 3, 4, 4, seed=1))
    (found.square().sum() + penalty).backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in encoder.parameters())
    assert all(p.grad is None for p in generator.parameters())


def test_an_impossible_projection_is_named_when_it_is_made():
    stylegan2 = StyleGAN2Generator(8, channels=[4, 4], latent_dim=6)
    with pytest.raises(ValueError, match=r"projection\.space is 'pca'.*StyleGAN2Generator.*mapping_tail"):
        LatentProjection(stylegan2, PCA)
    with pytest.raises(ValueError, match=r"projection\.first_layer is 9, must be 0 to 8"):
        LatentProjection(stylegan2, ProjectionConfig("mapping_tail", first_layer=9))
    with pytest.raises(ValueError, match=r"projection\.components is 9.*has 8"):
        LatentProjection(tiny_generator(), ProjectionConfig("pca", components=9))


@pytest.mark.parametrize("config", [TAIL[0], PCA], ids=lambda c: c.space)
def test_what_an_inversion_missed_is_not_taken_for_an_edit(generator, config):
    """A photograph that the generator cannot quite make keeps its latent all the same, and an edit moves it as much."""
    config = dataclasses.replace(config, relative=True)
    projection = LatentProjection(generator, config)
    encoder, latent = Linear(projection.encoding_size), randn(2, generator.latent_dim)
    original, photograph = randn(2, 3, 4, 4, seed=1), randn(2, 3, 4, 4, seed=2)
    gap = difference(encoder, photograph, original)
    kept, penalty = projection.project(encoder, photograph, latent, original, gap)
    assert (kept - latent).abs().max() < 1e-5
    assert float(penalty.detach()) < 1e-10
    edit = 0.3 * randn(2, 3, 4, 4, seed=3)
    moved, _ = projection.project(encoder, photograph + edit, latent, original, gap)
    expected, _ = projection.project(encoder, original + edit, latent, original)
    assert torch.allclose(moved, expected, atol=1e-5)
    assert (moved - latent).abs().max() > 1e-3
