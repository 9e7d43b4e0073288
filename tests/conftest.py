"""The real classes at tiny size, shared by all tests."""

from __future__ import annotations

import os
import sys

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import pytest
import torch

from gan2shape_hub import GAN2ShapePipeline
from gan2shape_hub.config import CategoryConfig, ProjectionConfig, RoundConfig, ScheduleConfig
from gan2shape_hub.conversion.random_face import set_latent_statistics
from gan2shape_hub.models import shape_nets
from gan2shape_hub.models.mobile_stylegan import MobileStyleGANGenerator
from gan2shape_hub.models.perceptual import PerceptualNetwork
from gan2shape_hub.models.shape import ShapeNets

if "PYTEST_XDIST_WORKER" in os.environ:  # one of several that share the cores
    torch.set_num_threads(1)
elif "OMP_NUM_THREADS" not in os.environ:
    torch.set_num_threads(max(1, min(2, os.cpu_count() or 1)))


def tiny_generator(seed: int = 0) -> MobileStyleGANGenerator:
    """Latents of 16 numbers to 64 pixels, with a tap at 32; random weights, but images that differ with the latent."""
    with torch.random.fork_rng(), torch.no_grad():
        torch.manual_seed(seed)
        generator = MobileStyleGANGenerator((16, 16, 16, 8), latent_dim=16, taps=((32, 2, (6, 4)),), components=8)
        for layer in generator.mapping.layers:
            layer.weight.normal_(0, 1 / 4)
            layer.bias.normal_(0, 0.1)
        for block in generator.blocks:
            for layer in (block.style, block.conv1.style, block.conv2.style):
                layer.weight.normal_(0, 0.3)
        generator.style_rgb.weight.normal_(0, 0.3)
        set_latent_statistics(generator, samples=500)
        w = generator.mapping(torch.randn(16, 16))
        full, tap, head = generator(w).std(), generator.image_at(w, 32).std(), generator.tap_heads["32"]
        for tensors, std in (
            ((generator.to_rgb, generator.bias_rgb), full),
            ((head.conv_in.weight[:3], head.conv_in.bias[:3], head.convs[-1].weight, head.convs[-1].bias), tap),
        ):
            for tensor in tensors:
                tensor.mul_(0.4 / std)
    return generator.requires_grad_(False).eval()


def tiny_config(**changes) -> CategoryConfig:
    schedule = ScheduleConfig(
        rounds=(RoundConfig(2, 2, 2, mirror=True),),
        prior_iterations=2,
        batch_size=2,
        collected_batches=2,
        invert_iterations=4,
    )
    values = dict(
        category="face",
        image_size=32,
        projection=ProjectionConfig(space="pca", components=8),
        schedules={"fast": schedule},
        default_preset="fast",
    )
    return CategoryConfig(**{**values, **changes})


def tiny_pipeline(seed: int = 0, **changes) -> GAN2ShapePipeline:
    config = tiny_config(**changes)
    nets = ShapeNets.create(config, 8, seed=seed, width=8, encoder_width=8)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        perceptual = PerceptualNetwork(widths=(4, 6, 8), max_size=32)
    return GAN2ShapePipeline(
        config,
        tiny_generator(seed),
        depth_net=nets.depth,
        albedo_net=nets.albedo,
        view_net=nets.view,
        light_net=nets.light,
        latent_encoder=nets.encoder,
        perceptual=perceptual,
        device="cpu",
    )


@pytest.fixture
def pipeline() -> GAN2ShapePipeline:
    return tiny_pipeline()


@pytest.fixture
def narrow_nets(monkeypatch) -> None:
    """Networks that a checkpoint lacks are made at the release's width, 128 channels at 32 pixels: too slow here."""
    monkeypatch.setattr(shape_nets, "default_width", lambda image_size: 8)


_STATUS: list[int] = []


def pytest_sessionfinish(session, exitstatus) -> None:
    _STATUS.append(int(exitstatus))


def pytest_unconfigure(config) -> None:
    """Leave at once with pytest's own status: a worker thread inside a library while the interpreter is taken down ends
    the process with an abort, whatever the tests said."""
    if _STATUS and "playwright" in sys.modules:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(_STATUS[-1])
