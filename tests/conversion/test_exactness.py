"""Converted networks against the originals' forward passes, with random weights of every kind."""

from pathlib import Path

import pytest
import stylegan2_originals as originals
import torch

from gan2shape_hub.conversion import nvidia, rosinality
from gan2shape_hub.conversion.verify import Report

TABLES = Path(__file__).parents[1] / "data" / "released_layouts.txt"
WIDTHS = {32: [24, 20, 16, 12], 64: [24, 20, 16, 12, 8]}


def table(section):
    lines = TABLES.read_text().split(f"[{section}]\n")[1].split("\n\n")[0].splitlines()
    rows = [line.split() for line in lines if line.strip()]
    return {name: () if shape == "scalar" else tuple(int(n) for n in shape.split("x")) for name, shape in rows}


def agree(ours, theirs, tolerance=1e-5):
    assert ours.shape == theirs.shape
    assert (ours - theirs).abs().max() <= tolerance * theirs.abs().max()


def test_originals_have_the_released_names():
    widths = [512, 512, 512, 512, 256, 128]
    g, d = originals.rosinality_layouts(128, widths)
    assert g == table("rosinality g_ema at 128, channel multiplier 1")
    assert d == table("rosinality d at 128, channel multiplier 1")
    g, d = originals.nvidia_layouts(128, widths)
    assert g == table("nvidia stylegan2-ada-pytorch G at 128, channel_base 16384")
    assert d == table("nvidia D at 128")


def latents(size, dim, batch=3):
    rng = torch.Generator().manual_seed(5)
    num = 2 * (size.bit_length() - 2)
    return torch.randn(batch, dim, generator=rng), torch.randn(batch, num, dim, generator=rng)


@pytest.mark.parametrize("size", [32, 64])
def test_rosinality_generator(size):
    weights, _ = originals.rosinality_weights(size, WIDTHS[size], dim=48)
    report = Report("test")
    generator = rosinality.convert_generator(weights, report, "test")
    assert generator.image_size == size
    assert generator.config["channels"] == WIDTHS[size]
    assert not report.unused
    z, wplus = latents(size, 48)
    w = originals.rosinality_mapping(weights, z)
    agree(generator.mapping(z), w)
    flat = w[:, None].repeat(1, generator.num_latents, 1)
    agree(generator(w), originals.rosinality_synthesis(weights, flat))
    agree(generator(wplus), originals.rosinality_synthesis(weights, wplus))
    agree(generator(wplus, noise="none"), originals.rosinality_synthesis(weights, wplus, noise=False))


@pytest.mark.parametrize("size", [32, 64])
@pytest.mark.parametrize("batch", [1, 4, 8])
def test_rosinality_discriminator(size, batch):
    _, weights = originals.rosinality_weights(size, WIDTHS[size])
    discriminator = rosinality.convert_discriminator(weights, Report("test"), "test")
    x = torch.rand(batch, 3, size, size) * 2 - 1
    logits, features = originals.rosinality_discriminator(weights, x)
    agree(discriminator(x), logits, 1e-4)  # sums of cancelling terms
    ours = discriminator.features(x, len(features))
    for a, b in zip(ours, features, strict=True):
        agree(a, b)


@pytest.mark.parametrize("size", [32, 64])
@pytest.mark.parametrize("clamp", [None, 256.0, 0.7])
def test_nvidia_generator(size, clamp):
    weights, _ = originals.nvidia_weights(size, WIDTHS[size], dim=48)
    report = Report("test")
    generator = nvidia.convert_generator(weights, report, "test", clamp)
    assert generator.config["channels"] == WIDTHS[size]
    assert not report.unused
    z, wplus = latents(size, 48)
    w = originals.nvidia_mapping(weights, z)
    agree(generator.mapping(z), w)
    agree(generator.latent_mean, weights["mapping.w_avg"])
    flat = w[:, None].repeat(1, generator.num_latents, 1)
    agree(generator(w), originals.nvidia_synthesis(weights, flat, clamp))
    agree(generator(wplus), originals.nvidia_synthesis(weights, wplus, clamp))
    agree(generator(wplus, noise="none"), originals.nvidia_synthesis(weights, wplus, clamp, noise=False))


@pytest.mark.parametrize("size", [32, 64])
@pytest.mark.parametrize("clamp", [None, 256.0, 0.7])
def test_nvidia_discriminator(size, clamp):
    _, weights = originals.nvidia_weights(size, WIDTHS[size])
    discriminator = nvidia.convert_discriminator(weights, Report("test"), "test", clamp)
    x = torch.rand(4, 3, size, size) * 2 - 1
    logits, features = originals.nvidia_discriminator(weights, x, clamp)
    agree(discriminator(x), logits, 1e-4)  # sums of cancelling terms
    for a, b in zip(discriminator.features(x, len(features)), features, strict=True):
        agree(a, b)


def test_demodulation_constant_follows_the_origin():
    """With nearly silent styles the constant dominates, and the two ports differ."""
    ros, _ = originals.rosinality_weights(32, WIDTHS[32], dim=48)
    nvi, _ = originals.nvidia_weights(32, WIDTHS[32], dim=48)
    for weights in (ros, nvi):
        for name in weights:
            if ".modulation." in name or ".affine." in name:
                weights[name] = weights[name] * 1e-5
    _, wplus = latents(32, 48)
    agree(rosinality.convert_generator(ros, Report(""), "")(wplus), originals.rosinality_synthesis(ros, wplus), 1e-4)
    agree(nvidia.convert_generator(nvi, Report(""), "")(wplus), originals.nvidia_synthesis(nvi, wplus), 1e-4)


def test_half_precision_storage():
    """Effective weights survive a half precision file: images move by less than a grey level in 256."""
    weights, _ = originals.rosinality_weights(32, WIDTHS[32], dim=48)
    generator = rosinality.convert_generator(weights, Report("test"), "test")
    z, _ = latents(32, 48)
    before = generator(generator.mapping(z))
    generator.half().float()
    after = generator(generator.mapping(z))
    assert (after - before).abs().max() < 2e-3 * before.abs().max()
    assert all(torch.isfinite(p).all() for p in generator.parameters())
