"""MobileStyleGAN (FFHQ, 1024 x 1024) out of the ``random-face`` wheel's OpenVINO files.

The wheel is read as an archive (nothing of it is installed or run). The networks are OpenVINO IR: an XML graph whose
constants carry module names, and a blob of little-endian fp32 values.
"""

from __future__ import annotations

import hashlib
import math
import zipfile
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import torch
from torch import Tensor

from gan2shape_hub.conversion.components import latent_statistics
from gan2shape_hub.conversion.verify import ConversionError, Report, finish
from gan2shape_hub.models.mobile_stylegan import MobileStyleGANGenerator
from gan2shape_hub.presets import shipped_face_config

WHEEL_SHA256 = "e5d10e2be7df63f06123855ec591ca35dcb1d059eba47ddcb175d7d26b4019b5"
PACKAGE = "random-face==2021.7.21.1"


def convert(wheel: str | Path, output: str | Path, overwrite: bool = False) -> Report:
    """Write the checkpoint folder ``output`` (category face) from the random-face wheel; its tap heads are untrained.

    ConversionError in one sentence. ``gan2shape train --from-wheels`` makes the shipped checkpoint from it.
    """
    generator = read_generator(Path(wheel))
    report = Report(
        source=f"{Path(wheel).name} (MobileStyleGAN, FFHQ)",
        notes=["The tap heads are untrained: run gan2shape train."],
    )
    finish(output, shipped_face_config(), {"generator": generator}, report, overwrite)
    return report


def check_sha256(path: Path, expected: str, package: str = PACKAGE) -> None:
    """Raise ConversionError unless the file at ``path`` has this hash."""
    try:
        digest = hashlib.sha256(Path(path).read_bytes()).hexdigest()
    except OSError as error:
        raise ConversionError(f"cannot read {path}: {error.strerror}.") from None
    if digest != expected:
        raise ConversionError(f"{path} has sha256 {digest}, expected {expected}: download {package} again.")


def read_generator(wheel: Path, *, verify_hash: bool = True) -> MobileStyleGANGenerator:
    """The wheel's generator in fp32, its latent statistics filled in; tap heads are left untrained."""
    if verify_hash:
        check_sha256(wheel, WHEEL_SHA256)
    with zipfile.ZipFile(wheel) as archive:
        mapping = _read_ir(archive, "random_face/data/MappingNetwork")
        synthesis = _read_ir(archive, "random_face/data/SynthesisNetwork")
    generator = MobileStyleGANGenerator()
    state = generator.state_dict()
    state.update(_mapping_state(mapping))
    state.update(_synthesis_state(synthesis, generator.config["channels"]))
    generator.load_state_dict(state, strict=True)
    generator.requires_grad_(False).eval()
    set_latent_statistics(generator)
    return generator


@torch.no_grad()
def set_latent_statistics(generator: MobileStyleGANGenerator, samples: int = 40_000, seed: int = 0) -> None:
    """Fill in the mean of W and its first principal components (directions and standard deviations)."""
    mean, basis, std = latent_statistics(generator, generator.component_basis.shape[0], samples, seed)
    generator.latent_mean.copy_(mean)
    generator.component_basis.copy_(basis)
    generator.component_std.copy_(std)


def _read_ir(archive: zipfile.ZipFile, stem: str) -> list[tuple[str, np.ndarray]]:
    """Constants of an IR network in the order of its graph: (name, array)."""
    try:
        graph = ElementTree.fromstring(archive.read(stem + ".xml"))
        blob = archive.read(stem + ".bin")
    except KeyError:
        raise ConversionError(f"the archive has no {stem}.xml/.bin: it is not {PACKAGE}.") from None
    constants = []
    for layer in graph.find("layers"):
        if layer.attrib["type"] != "Const":
            continue
        data = layer.find("data").attrib
        dtype = {"f32": "<f4", "i64": "<i8", "i32": "<i4"}.get(data["element_type"])
        if dtype is None:
            raise ConversionError(f"{stem}.xml has a constant of type {data['element_type']}: it is not {PACKAGE}.")
        offset, size = int(data["offset"]), int(data["size"])
        shape = [int(d) for d in data["shape"].split(",") if d.strip()]
        array = np.frombuffer(blob[offset : offset + size], dtype).reshape(shape)
        constants.append((layer.attrib["name"], array))
    return constants


def _mapping_state(constants: list[tuple[str, np.ndarray]]) -> dict[str, Tensor]:
    weights = [a for _, a in constants if a.shape == (512, 512)]
    biases = [a for _, a in constants if a.shape == (512,)]
    if len(weights) != 8 or len(biases) != 8:
        raise ConversionError(f"the mapping network has {len(weights)} layers, expected 8: it is not {PACKAGE}.")
    state = {}
    for i, (weight, bias) in enumerate(zip(weights, biases, strict=True)):
        state[f"mapping.layers.{i}.weight"] = _tensor(weight)
        state[f"mapping.layers.{i}.bias"] = _tensor(bias)
    return state


def _synthesis_state(constants: list[tuple[str, np.ndarray]], channels: list[int]) -> dict[str, Tensor]:
    named = dict(constants)
    # Unnamed constants stand in graph order: pointwise weights as (Cout, Cin, 1, 1), noise maps as (1, 1, S, S).
    pointwise = [a for n, a in constants if n.startswith("Mul_") and a.ndim == 4 and a.shape[2] == 1]
    noise = [a for n, a in constants if n.isdigit() and a.ndim == 4 and a.shape[:2] == (1, 1) and a.shape[2] > 1]
    first = [a for n, a in constants if n.startswith("Mul_") and a.shape == (512, 512, 3, 3)]
    if len(pointwise) != 14 or len(noise) != 15 or len(first) != 1:
        raise ConversionError(f"the synthesis network has {len(pointwise)} layers, expected 14: it is not {PACKAGE}.")
    state = {"input": _tensor(named["m.input.input"])}
    order = _subband_order(channels[0])
    _style(state, "style", named, "m.conv1.conv", 1 / math.sqrt(9 * channels[0]))
    state["conv"] = _tensor(first[0])[order]
    state["bias"] = _tensor(named["m.conv1.bias"]).flatten()[order]
    state["noise"] = _tensor(noise[0])
    for i in range(len(channels) - 1):
        block, source = f"blocks.{i}", f"m.layers.{i}"
        _style(state, f"{block}.style", named, f"{source}.up", 1.0, _subband_order(channels[i]))
        for k in (1, 2):
            layer, origin = f"{block}.conv{k}", f"{source}.conv{k}"
            depthwise = _tensor(named[f"{origin}.conv.weight_dw"]).reshape(-1, 1, 3, 3)
            # The second layer's output is split into wavelet sub-bands by the next block: store them contiguously.
            last = i == len(channels) - 2
            order = _subband_order(channels[i + 1]) if k == 2 and not last else torch.arange(channels[i + 1])
            _style(state, f"{layer}.style", named, f"{origin}.conv", 1 / math.sqrt(9 * len(depthwise)))
            state[f"{layer}.depthwise"] = depthwise
            state[f"{layer}.pointwise"] = _tensor(pointwise[2 * i + k - 1])[order]
            state[f"{layer}.bias"] = _tensor(named[f"{origin}.bias"]).flatten()[order]
            state[f"{layer}.noise"] = _tensor(noise[2 * i + k])
    _style(state, "style_rgb", named, f"m.layers.{len(channels) - 2}.to_img.conv", 1 / math.sqrt(channels[-1]))
    state["to_rgb"] = _tensor(named[f"m.layers.{len(channels) - 2}.to_img.conv.weight"])[_subband_order(12)]
    state["bias_rgb"] = _tensor(named[f"m.layers.{len(channels) - 2}.to_img.bias"]).flatten()[_subband_order(12)]
    return state


def _style(
    state: dict[str, Tensor],
    target: str,
    named: dict[str, np.ndarray],
    source: str,
    gain: float,
    order: Tensor | None = None,
) -> None:
    weight = _tensor(named[f"{source}.modulation.weight"]) * gain
    bias = _tensor(named[f"{source}.modulation.bias"]).flatten() * gain
    state[f"{target}.weight"] = weight if order is None else weight[order]
    state[f"{target}.bias"] = bias if order is None else bias[order]


def _subband_order(channels: int) -> Tensor:
    """Channels as the wheel stores them (C low, then per channel its three highs) to four contiguous groups."""
    c = channels // 4
    highs = c + torch.arange(3 * c).reshape(c, 3)
    return torch.cat([torch.arange(c), highs.T.flatten()])


def _tensor(array: np.ndarray) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(array).copy()).float()
