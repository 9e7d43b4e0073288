"""Principal components of W beside a converted generator: what pretraining moves latents in."""

from __future__ import annotations

import pytest
import stylegan2_originals as originals
import torch

from gan2shape_hub import GAN2ShapePipeline
from gan2shape_hub.config import ConfigError
from gan2shape_hub.conversion import rosinality
from gan2shape_hub.conversion.components import latent_statistics, with_space
from gan2shape_hub.hub import load_components

WIDTHS, SIZE, DIM = [12, 10, 8, 8], 32, 16


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    folder = tmp_path_factory.mktemp("converted")
    g, d = originals.rosinality_weights(SIZE, WIDTHS, dim=DIM)
    torch.save({"g_ema": g, "d": d, "latent_avg": torch.full((DIM,), 0.25)}, folder / "gan.pt")
    for space in ("mapping_tail", "pca"):
        rosinality.convert(folder / "gan.pt", "cat", folder / space, space=space)
    return folder


def test_the_generator_stays_what_it_is(folders):
    _, plain = load_components(folders / "mapping_tail", only=("generator",))
    config, more = load_components(folders / "pca", only=("generator",))
    assert (config.projection.space, config.projection.components) == ("pca", DIM)
    assert plain["generator"].config["components"] == 0
    assert not hasattr(plain["generator"], "component_basis")
    w = torch.randn(2, DIM, generator=torch.Generator().manual_seed(0))
    assert torch.equal(more["generator"](w), plain["generator"](w))
    assert torch.equal(more["generator"].latent_mean, torch.full((DIM,), 0.25))  # the file's, not a sample's


def test_components_explain_latents_of_other_seeds(folders):
    generator = load_components(folders / "pca", only=("generator",))[1]["generator"]
    basis, std = generator.component_basis, generator.component_std
    assert torch.allclose(basis @ basis.T, torch.eye(DIM), atol=1e-5)
    assert bool((std[:-1] >= std[1:]).all())
    w = generator.mapping(torch.randn(8000, DIM, generator=torch.Generator().manual_seed(9)))
    coordinates = (w - w.mean(0)) @ basis.T / std
    assert torch.allclose(coordinates.std(0), torch.ones(DIM), atol=0.06)
    assert (torch.corrcoef(coordinates.T) - torch.eye(DIM)).abs().max() < 0.08
    again = latent_statistics(generator, 4)
    assert torch.allclose(again[1].float(), basis[:4], atol=1e-5)


def test_a_pipeline_takes_it(folders):
    pipeline = GAN2ShapePipeline.from_pretrained(folders / "pca", device="cpu")
    assert pipeline.config.projection.components == len(pipeline.generator.component_std)


def test_other_spaces_are_refused(folders):
    generator = load_components(folders / "pca", only=("generator",))[1]["generator"]
    with pytest.raises(ConfigError, match="space is 'wplus', must be one of mapping_tail, pca"):
        with_space(generator, "wplus")
