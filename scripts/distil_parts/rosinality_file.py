"""A generator and a discriminator as a file of rosinality/stylegan2-pytorch: what ``conversion/rosinality.py`` reads,
written. Constant gains that components hold folded in are taken out again.
"""

from __future__ import annotations

import math
from pathlib import Path

import torch
from torch import Tensor

from gan2shape_hub.atomic import atomic_file
from gan2shape_hub.conversion.rosinality import MAPPING_GAIN, SQRT2
from gan2shape_hub.models.stylegan2 import StyleGAN2Generator
from gan2shape_hub.models.stylegan2_discriminator import StyleGAN2Discriminator
from gan2shape_hub.models.stylegan2_ops import fir_kernel


def write(path: Path, generator: StyleGAN2Generator, discriminator: StyleGAN2Discriminator) -> None:
    """Write ``path`` (.pt) with ``g_ema``, ``d`` and ``latent_avg``, whole or not at all."""
    data = {
        "g_ema": {name: value.detach().clone() for name, value in generator_state(generator).items()},
        "d": {name: value.detach().clone() for name, value in discriminator_state(discriminator).items()},
        "latent_avg": generator.latent_mean.clone(),
    }
    with atomic_file(path) as part:
        torch.save(data, part)


def generator_state(generator: StyleGAN2Generator) -> dict[str, Tensor]:
    """The ``g_ema`` state dict: tensors by the port's names, before equalised learning rate."""
    state, dim = {}, generator.latent_dim
    kernel = fir_kernel(4.0, generator.const)

    def modulated(name: str, weight: Tensor, style: torch.nn.Linear) -> None:
        """``weight`` (C_out, C_in, k, k)."""
        state[f"{name}.weight"] = weight[None] * math.sqrt(weight[0].numel())
        state[f"{name}.modulation.weight"] = style.weight * math.sqrt(dim)
        state[f"{name}.modulation.bias"] = style.bias

    for i, layer in enumerate(generator.mapping.layers):
        state[f"style.{i + 1}.weight"] = layer.weight * (math.sqrt(dim) / MAPPING_GAIN)
        state[f"style.{i + 1}.bias"] = layer.bias / MAPPING_GAIN
    state["input.input"] = generator.const[None]
    for i, conv in enumerate(generator.convs):
        name = f"convs.{i - 1}" if i else "conv1"
        modulated(f"{name}.conv", conv.weight, conv.style)
        state[f"{name}.activate.bias"] = conv.bias / SQRT2
        state[f"{name}.noise.weight"] = conv.noise_strength.reshape(1) / SQRT2
        state[f"noises.noise_{i}"] = conv.noise[None, None]
        if conv.up:
            state[f"{name}.conv.blur.kernel"] = kernel
    for i, to_rgb in enumerate(generator.to_rgbs):
        name = f"to_rgbs.{i - 1}" if i else "to_rgb1"
        modulated(f"{name}.conv", to_rgb.weight[:, :, None, None], to_rgb.style)
        state[f"{name}.bias"] = to_rgb.bias.view(1, 3, 1, 1)
        if i:
            state[f"{name}.upsample.kernel"] = kernel
    return state


def discriminator_state(discriminator: StyleGAN2Discriminator) -> dict[str, Tensor]:
    """The ``d`` state dict."""
    first, last = discriminator.from_rgb, discriminator.final_conv
    kernel = fir_kernel(1.0, first.weight)
    state = {"convs.0.0.weight": first.weight * (math.sqrt(3) / SQRT2), "convs.0.1.bias": first.bias / SQRT2}
    for i, block in enumerate(discriminator.blocks):
        name, c_in = f"convs.{i + 1}", block.conv1.in_channels
        state[f"{name}.conv1.0.weight"] = block.conv1.weight * (math.sqrt(9 * c_in) / SQRT2)
        state[f"{name}.conv1.1.bias"] = block.conv1.bias / SQRT2
        state[f"{name}.conv2.0.kernel"] = state[f"{name}.skip.0.kernel"] = kernel
        state[f"{name}.conv2.1.weight"] = block.conv2.weight * math.sqrt(9 * c_in)
        state[f"{name}.conv2.2.bias"] = block.conv2.bias
        state[f"{name}.skip.1.weight"] = block.skip.weight * math.sqrt(2 * c_in)
    state["final_conv.0.weight"] = last.weight * (math.sqrt(9 * last.in_channels) / SQRT2)
    state["final_conv.1.bias"] = last.bias / SQRT2
    linear, logit = discriminator.final_linear, discriminator.logit
    state["final_linear.0.weight"] = linear.weight * (math.sqrt(linear.in_features) / SQRT2)
    state["final_linear.0.bias"] = linear.bias / SQRT2
    state["final_linear.1.weight"] = logit.weight * math.sqrt(logit.in_features)
    state["final_linear.1.bias"] = logit.bias
    return state
