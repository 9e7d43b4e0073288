"""The released files of GAN2Shape to a full category checkpoint.

StyleGAN2 is a rosinality file; the shape nets are ``*_pretrain.pth`` (netD, netA, netV, netL, netEnc, with or without
a ``module.`` prefix); the view and light Gaussians are ``{mean, cov}``. Only the first is required: without shape nets
the method starts from the ellipsoid, without Gaussians from the preset's.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from gan2shape_hub.config import GaussianConfig
from gan2shape_hub.models.component import Component
from gan2shape_hub.models.shape_nets import MAX_SIZE, MIN_SIZE, EDDeconv, Encoder, ResEncoder
from gan2shape_hub.presets import category_preset

from . import rosinality
from .rosinality import load_torch_file, strip_module_prefix
from .verify import ConversionError, Report, Tensors, configure, finish, load_strictly

SIZES = [2**i for i in range(MIN_SIZE.bit_length() - 1, MAX_SIZE.bit_length())]


def convert(
    stylegan2: str | Path,
    category: str,
    output: str | Path,
    shape_nets: str | Path | None = None,
    view_mvn: str | Path | None = None,
    light_mvn: str | Path | None = None,
    overwrite: bool = False,
    license_id: str = "unknown",
) -> Report:
    """Write the checkpoint folder ``output``; ConversionError or ConfigError in one sentence."""
    category_preset(category)
    generator, discriminator, report = rosinality.read_file(stylegan2)
    components: dict[str, nn.Module] = {"generator": generator}
    if discriminator is not None:
        components["discriminator"] = discriminator
    changes: dict[str, Any] = {}
    size = None
    if shape_nets is not None:
        nets, size = read_shape_nets(shape_nets, report)
        components |= nets
    else:
        report.notes.append("No shape nets were given: every reconstruction starts from the ellipsoid.")
    if view_mvn is not None:
        changes["view_gaussian"] = read_gaussian(view_mvn, 6, report)
    if light_mvn is not None:
        changes["light_gaussian"] = read_gaussian(light_mvn, 4, report)
    config = configure(category, generator, license_id, image_size=size, **changes)
    report.source = ", ".join(Path(p).name for p in (stylegan2, shape_nets, view_mvn, light_mvn) if p is not None)
    finish(output, config, components, report, overwrite)
    return report


def read_shape_nets(path: str | Path, report: Report) -> tuple[dict[str, Component], int]:
    """Networks of a ``*_pretrain.pth`` by component name, and the image size they are for.

    ConversionError where it holds none, or one that is not of the released architecture.
    """
    data = load_torch_file(path)
    if not isinstance(data, dict):
        raise ConversionError(f"{path} holds a {type(data).__name__}, expected a dictionary with netD, netA, ...")
    builders: dict[str, tuple[str, Callable[[Tensors, int], Component]]] = {
        "netD": ("depth_net", lambda t, s: _decoder(t, s, 1, None)),
        "netA": ("albedo_net", lambda t, s: _decoder(t, s, 3, "tanh")),
        "netV": ("view_net", lambda t, s: _encoder(t, s, 6)),
        "netL": ("light_net", lambda t, s: _encoder(t, s, 4)),
        "netEnc": ("latent_encoder", _residual),
    }
    networks: dict[str, Component] = {}
    sizes: dict[str, int] = {}
    for key, (name, build) in builders.items():
        state = data.get(key)
        if not isinstance(state, dict):
            report.notes.append(f"{Path(path).name} has no {key}.")
            continue
        where = f"{path} ({key})"
        t = Tensors(strip_module_prefix(state), where)
        networks[name], sizes[key] = _fit(t, build, where)
        report.unused += [f"{key}.{tensor}" for tensor in t.unused()]
    if not networks:
        raise ConversionError(f"{path} holds none of netD, netA, netV, netL, netEnc: it is no file of shape nets.")
    if len(set(sizes.values())) > 1:
        listed = ", ".join(f"{key} {size}" for key, size in sizes.items())
        raise ConversionError(f"{path} holds nets for different image sizes ({listed}): they do not belong together.")
    report.unused += sorted(str(key) for key in data if key not in builders)
    return networks, next(iter(sizes.values()))


def _fit(t: Tensors, build: Callable[[Tensors, int], Component], where: str) -> tuple[Component, int]:
    """The network of the size whose tensor names are the file's, with its tensors; ConversionError if there is none."""
    for size in SIZES:
        with torch.device("meta"):
            names = set(build(t, size).state_dict())
        if names == set(t.tensors):
            network = build(t, size)
            state = {name: t.take(name) for name in t.tensors}
            load_strictly(network, state, where)
            return network.requires_grad_(False).eval(), size
    raise ConversionError(f"{where} is not of the released architecture at {SIZES[0]} to {SIZES[-1]} pixels.")


def _width(t: Tensors) -> int:
    shape = t.shape("network.0.weight")
    if len(shape) != 4 or shape[1:] != (3, 4, 4) or shape[0] < 1:
        raise ConversionError(f"{t.where}: tensor network.0.weight has shape {shape}, expected (nf, 3, 4, 4).")
    return shape[0]


def _decoder(t: Tensors, size: int, channels: int, activation: str | None) -> EDDeconv:
    # Layers on the way down: 3 a halving but the last, which has 2, then a convolution and a ReLU; the transposed
    # convolution that leads back from 1 x 1 stands at this index and starts from the bottleneck's channels.
    back = f"network.{3 * (size.bit_length() - 3) + 1}.weight"
    bottleneck = t.shape(back)[0] if back in t and len(t.shape(back)) == 4 else 1
    return EDDeconv(3, channels, size, nf=_width(t), bottleneck=bottleneck, activation=activation)


def _encoder(t: Tensors, size: int, outputs: int) -> Encoder:
    return Encoder(3, outputs, size, nf=_width(t))


def _residual(t: Tensors, size: int) -> ResEncoder:
    last = max((n for n in t.tensors if n.count(".") == 2), key=lambda n: int(n.split(".")[1]))
    return ResEncoder(3, t.shape(last)[0], size, nf=_width(t))


def read_gaussian(path: str | Path, dimensions: int, report: Report) -> GaussianConfig:
    """A ``{mean, cov}`` file as configuration; ConversionError unless it is a finite Gaussian of that many numbers."""
    data = load_torch_file(path)
    if not isinstance(data, dict) or not all(isinstance(data.get(key), Tensor) for key in ("mean", "cov")):
        raise ConversionError(f"{path} is not a Gaussian: expected a dictionary with the tensors mean and cov.")
    mean, covariance = data["mean"].double().flatten(), data["cov"].double()
    if mean.shape != (dimensions,) or covariance.shape != (dimensions, dimensions):
        shapes = f"mean {tuple(data['mean'].shape)} and cov {tuple(covariance.shape)}"
        raise ConversionError(f"{path} has {shapes}, expected {dimensions} numbers.")
    if not torch.allclose(covariance, covariance.T, atol=1e-6) or not torch.isfinite(covariance).all():
        raise ConversionError(f"{path}: cov is not a finite symmetric matrix.")
    report.unused += sorted(f"{Path(path).name}: {key}" for key in data if key not in ("mean", "cov"))
    try:
        return GaussianConfig(tuple(mean.tolist()), tuple(tuple(row) for row in covariance.tolist()))
    except ValueError as error:
        raise ConversionError(f"{path}: {error}") from None
