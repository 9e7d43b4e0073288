"""The whole method on converted StyleGAN2 networks: discriminator features, mapping tail, masks, every preset's way."""

import dataclasses

import pytest
import stylegan2_originals as originals
import torch

from gan2shape_hub import GAN2ShapePipeline
from gan2shape_hub.config import RoundConfig
from gan2shape_hub.conversion import gan2shape
from gan2shape_hub.models.shape_nets import EDDeconv, Encoder, ResEncoder

DIM = 16


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """A released archive in small: StyleGAN2 at 64 pixels, shape nets at 32."""
    folder = tmp_path_factory.mktemp("release")
    g, d = originals.rosinality_weights(64, [8, 8, 8, 8, 8], dim=DIM)
    torch.save({"g_ema": g, "d": d, "latent_avg": torch.zeros(DIM)}, folder / "gan.pt")
    torch.manual_seed(0)
    nets = {
        "netD": EDDeconv(3, 1, 32, nf=8, bottleneck=8),
        "netA": EDDeconv(3, 3, 32, nf=8, bottleneck=8, activation="tanh"),
        "netV": Encoder(3, 6, 32, nf=4),
        "netL": Encoder(3, 4, 32, nf=4),
        "netEnc": ResEncoder(3, DIM, 32, nf=4),
    }
    torch.save({k: v.state_dict() for k, v in nets.items()}, folder / "nets.pth")
    return folder


@pytest.mark.parametrize("category", ["face", "cat", "car", "church"])
def test_three_steps(category, files, tmp_path):
    gan2shape.convert(files / "gan.pt", category, tmp_path / category, shape_nets=files / "nets.pth")
    pipeline = GAN2ShapePipeline.from_pretrained(tmp_path / category, device="cpu")
    config = pipeline.config
    assert config.projection.space == "mapping_tail"
    assert config.loss.discriminator_layers == 3
    paper = config.schedule("paper")
    tiny = dataclasses.replace(
        paper,
        rounds=tuple(
            RoundConfig(min(r.decompose, 2), min(r.explore, 2), min(r.refine, 2), mirror=r.mirror)
            for r in paper.rounds[:2]
        ),
        batch_size=2,
        collected_batches=2,
    )
    steps = set()
    asked = []
    features = pipeline.discriminator.features
    pipeline.discriminator.features = lambda x, n: asked.append(n) or features(x, n)
    mask = torch.zeros(32, 32)
    mask[4:28, 6:26] = 1
    sample = pipeline.sample(seed=1)
    result = pipeline(sample, preset=tiny, mask=mask, callback=lambda p: steps.add((p.round, p.step)) or True)
    assert {(r, s) for r in (0, 1) for s in ("decompose", "explore", "refine")} <= steps
    assert set(asked) == {3}
    assert torch.isfinite(result.depth).all()
    assert result.depth.shape[-2:] == (32, 32)


def test_public_names(files, tmp_path):
    gan2shape.convert(files / "gan.pt", "face", tmp_path / "face")
    pipeline = GAN2ShapePipeline.from_pretrained(tmp_path / "face", device="cpu")
    z = torch.randn(4, DIM)
    generator = pipeline.generator
    w = generator.mapping(z)
    assert torch.allclose(generator.mapping(generator.mapping(z, stop=5), start=5), w, atol=1e-6)
    images = generator(w)
    assert images.shape == (4, 3, 64, 64)
    assert torch.allclose(generator(w[:, None].expand(-1, 10, -1)), images, atol=1e-5)
    assert pipeline.discriminator(images).shape == (4, 1)
    assert len(pipeline.discriminator.features(images, 4)) == 4
