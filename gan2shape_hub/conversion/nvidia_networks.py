"""StyleGAN2 networks under the names of NVIDIA's PyTorch repositories, to ours.

Weights are stored before equalised learning rate, as in rosinality's port; the differences are the names, activations
clamped at ``conv_clamp``, and where the demodulation's constant is added.
"""

from __future__ import annotations

import math
import re
from typing import Any

import torch
from torch import Tensor

from gan2shape_hub.models.stylegan2 import StyleGAN2Generator
from gan2shape_hub.models.stylegan2_discriminator import StyleGAN2Discriminator

from .restricted_pickle import Network
from .rosinality import MAPPING_GAIN, SQRT2, strip_module_prefix
from .verify import (
    ConversionError,
    Report,
    Tensors,
    UnsupportedNetwork,
    load_strictly,
    mapping_width,
    set_latent_mean,
)

DEFAULT_CLAMP = 256.0
"""``conv_clamp`` of NVIDIA's training; a state dict does not say, a pickle does."""
_LINEAR = ("affine", "skip", "out", "embed")
"""Layers without an activation, by the last part of their name."""


def _tensors(network: Any, where: str) -> Tensors:
    if isinstance(network, Network):
        return Tensors(network.tensors(), where)
    if isinstance(network, dict):
        return Tensors(strip_module_prefix(network), where)
    raise ConversionError(f"{where} is a {type(network).__name__}, expected a network.")


def _clamp(network: Any, default: float | None, where: str) -> float | None:
    """The one ``conv_clamp`` of all layers of a pickled network; the default for a state dict."""
    if not isinstance(network, Network):
        return default
    # The residual connections of a discriminator have none, by design.
    values = {
        module.state["conv_clamp"]
        for name, module in network.modules()
        if "conv_clamp" in module.state and not name.endswith(".skip")
    }
    if len(values) > 1:
        raise UnsupportedNetwork(f"{where} clamps its layers differently ({values}): this is not supported.")
    value = values.pop() if values else None
    return None if value is None else float(value)


def _refuse_others(t: Tensors, network: Any, where: str) -> None:
    if any(name.startswith(("synthesis.input.", "synthesis.L0_")) for name in t.tensors):
        raise UnsupportedNetwork(f"{where} is a StyleGAN3 network: only StyleGAN2 networks can be converted.")
    modules = network.modules() if isinstance(network, Network) else []
    embeds = any(name.startswith("mapping.embed.") for name in t.tensors)
    if embeds or (modules and bool(network.attribute("c_dim", 0))):
        raise UnsupportedNetwork(
            f"{where} is a conditional network (c_dim > 0): only unconditional ones can be converted."
        )
    for name, module in modules:
        usual = "linear" if name.rpartition(".")[2] in _LINEAR else "lrelu"
        activation = module.state.get("activation", usual)
        if activation != usual:
            raise UnsupportedNetwork(
                f"{where} has the activation {activation!r} in {name}: only leaky ReLU networks can be converted."
            )


def _resolutions(names: list[str], pattern: str, where: str) -> list[int]:
    found = sorted({int(m[1]) for name in names if (m := re.match(pattern, name))})
    if not found or found != [4 * 2**i for i in range(len(found))]:
        raise ConversionError(f"{where} has no complete StyleGAN2 network: its blocks are {found or 'missing'}.")
    return found


def convert_generator(
    network: Any,
    report: Report,
    where: str,
    conv_clamp: float | None = DEFAULT_CLAMP,
    mapping_gain: float = MAPPING_GAIN,
    demod_eps_per_fan_in: bool = True,
) -> StyleGAN2Generator:
    """Generator of a pickled network or a state dict of its names.

    The last three arguments say what a state dict does not: a pickle's own clamp and gains count. ConversionError.
    """
    t = _tensors(network, where)
    _refuse_others(t, network, where)
    sizes = _resolutions(list(t.tensors), r"synthesis\.b(\d+)\.", where)
    t.check_kernels("resample_filter", lambda name: 1.0)
    for size in sizes:
        if f"synthesis.b{size}.torgb.weight" not in t or f"synthesis.b{size}.skip.weight" in t:
            raise UnsupportedNetwork(f"{where} is not of the skip architecture: only that one can be converted.")
    layers = 1
    while f"mapping.fc{layers}.weight" in t:
        layers += 1
    latent_dim = mapping_width(t, [f"mapping.fc{i}.weight" for i in range(layers)])
    channels = [t.shape(f"synthesis.b{size}.conv1.weight")[0] for size in sizes]
    generator = StyleGAN2Generator(
        sizes[-1],
        channels=channels,
        latent_dim=latent_dim,
        mapping_layers=layers,
        conv_clamp=_clamp(network, conv_clamp, where),
        demod_eps_per_fan_in=demod_eps_per_fan_in,
    )
    new: dict[str, Tensor] = {"latent_mean": torch.zeros(latent_dim)}
    for i in range(layers):
        gain = mapping_gain
        if isinstance(network, Network):
            gain = float(network.attribute(f"mapping.fc{i}.bias_gain", mapping_gain))
        weight = t.take(f"mapping.fc{i}.weight", (latent_dim, latent_dim))
        new[f"mapping.layers.{i}.weight"] = weight * (gain / math.sqrt(latent_dim))
        new[f"mapping.layers.{i}.bias"] = t.take(f"mapping.fc{i}.bias", (latent_dim,)) * gain
    new["const"] = t.take("synthesis.b4.const", (channels[0], 4, 4))
    layer = 0
    for level, size in enumerate(sizes):
        c_out = channels[level]
        for name in ("conv1",) if level == 0 else ("conv0", "conv1"):
            c_in = channels[level - 1] if name == "conv0" else c_out
            old, ours = f"synthesis.b{size}.{name}", f"convs.{layer}"
            new[f"{ours}.weight"] = t.take(f"{old}.weight", (c_out, c_in, 3, 3)) / math.sqrt(9 * c_in)
            new[f"{ours}.bias"] = t.take(f"{old}.bias", (c_out,)) * SQRT2
            if f"{old}.noise_const" in t:
                new[f"{ours}.noise"] = t.take(f"{old}.noise_const", (size, size))
                new[f"{ours}.noise_strength"] = t.take(f"{old}.noise_strength").reshape(()) * SQRT2
            else:  # trained with use_noise=False
                new[f"{ours}.noise"], new[f"{ours}.noise_strength"] = torch.zeros(size, size), torch.zeros(())
            new |= _affine(t, old, ours, c_in, latent_dim)
            layer += 1
        old, ours = f"synthesis.b{size}.torgb", f"to_rgbs.{level}"
        rgb = t.shape(f"{old}.weight")[0]
        if rgb != 3:
            raise UnsupportedNetwork(f"{where} makes images of {rgb} channels: only RGB can be converted.")
        # the style's 1 / sqrt(in) is folded into the weight it multiplies
        new[f"{ours}.weight"] = t.take(f"{old}.weight", (3, c_out, 1, 1))[:, :, 0, 0] / math.sqrt(c_out)
        new[f"{ours}.bias"] = t.take(f"{old}.bias", (3,))
        new |= _affine(t, old, ours, c_out, latent_dim)
    load_strictly(generator, new, where)
    mean = t.take("mapping.w_avg") if "mapping.w_avg" in t else None
    set_latent_mean(generator, mean, report, "mapping.w_avg")
    report.unused += [f"G.{name}" for name in t.unused()]
    return generator


def _affine(t: Tensors, old: str, ours: str, channels: int, latent_dim: int) -> dict[str, Tensor]:
    return {
        f"{ours}.style.weight": t.take(f"{old}.affine.weight", (channels, latent_dim)) / math.sqrt(latent_dim),
        f"{ours}.style.bias": t.take(f"{old}.affine.bias", (channels,)),
    }


def convert_discriminator(
    network: Any,
    report: Report,
    where: str,
    conv_clamp: float | None = DEFAULT_CLAMP,
    mbstd_group: int | None = 4,
) -> StyleGAN2Discriminator:
    """Discriminator of a pickled network or a state dict of its names; the last two arguments are for the latter."""
    t = _tensors(network, where)
    if any(name.startswith("mapping.") for name in t.tensors):
        raise UnsupportedNetwork(
            f"{where} is a conditional network (c_dim > 0): only unconditional ones can be converted."
        )
    _refuse_others(t, network, where)
    sizes = _resolutions(list(t.tensors), r"b(\d+)\.", where)
    t.check_kernels("resample_filter", lambda name: 1.0)
    residual = all(f"b{size}.skip.weight" in t for size in sizes[1:]) and "b4.fromrgb.weight" not in t
    if len(sizes) < 2 or not residual:
        raise UnsupportedNetwork(f"{where} is not of the residual architecture: only that one can be converted.")
    top = t.shape("b4.conv.weight")[0]
    channels = [top] + [t.shape(f"b{size}.conv0.weight")[0] for size in sizes[1:]]
    mbstd = t.shape("b4.conv.weight")[1] - top
    group = network.attribute("b4.mbstd.group_size", 4) if isinstance(network, Network) else mbstd_group
    discriminator = StyleGAN2Discriminator(
        sizes[-1],
        channels=channels,
        conv_clamp=_clamp(network, conv_clamp, where),
        mbstd_group=2**20 if group is None else int(group),  # None: the whole batch is one group
        mbstd_channels=max(mbstd, 0),
    )
    first = f"b{sizes[-1]}.fromrgb"
    new = {
        "from_rgb.weight": t.take(f"{first}.weight", (channels[-1], 3, 1, 1)) * (SQRT2 / math.sqrt(3)),
        "from_rgb.bias": t.take(f"{first}.bias", (channels[-1],)) * SQRT2,
    }
    for i, level in enumerate(range(len(sizes) - 1, 0, -1)):
        old, block, c_in, c_out = f"b{sizes[level]}", f"blocks.{i}", channels[level], channels[level - 1]
        scale = 1 / math.sqrt(9 * c_in)
        new[f"{block}.conv1.weight"] = t.take(f"{old}.conv0.weight", (c_in, c_in, 3, 3)) * (SQRT2 * scale)
        new[f"{block}.conv1.bias"] = t.take(f"{old}.conv0.bias", (c_in,)) * SQRT2
        # sqrt 2 of the activation and sqrt 1/2 of the residual sum cancel
        new[f"{block}.conv2.weight"] = t.take(f"{old}.conv1.weight", (c_out, c_in, 3, 3)) * scale
        new[f"{block}.conv2.bias"] = t.take(f"{old}.conv1.bias", (c_out,))
        new[f"{block}.skip.weight"] = t.take(f"{old}.skip.weight", (c_out, c_in, 1, 1)) / math.sqrt(2 * c_in)
    weight = t.take("b4.conv.weight", (top, top + mbstd, 3, 3))
    new["final_conv.weight"] = weight * (SQRT2 / math.sqrt(9 * (top + mbstd)))
    new["final_conv.bias"] = t.take("b4.conv.bias", (top,)) * SQRT2
    new["final_linear.weight"] = t.take("b4.fc.weight", (top, 16 * top)) / math.sqrt(16 * top) * SQRT2
    new["final_linear.bias"] = t.take("b4.fc.bias", (top,)) * SQRT2
    new["logit.weight"] = t.take("b4.out.weight", (1, top)) / math.sqrt(top)
    new["logit.bias"] = t.take("b4.out.bias", (1,))
    load_strictly(discriminator, new, where)
    report.unused += [f"D.{name}" for name in t.unused()]
    return discriminator
