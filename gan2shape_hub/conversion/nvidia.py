"""NVIDIA's StyleGAN2 files to components: ``.pkl`` of stylegan2 (TensorFlow), stylegan2-ada-pytorch and stylegan3, or
the latter two's state dicts as ``.pt`` / ``.safetensors``.

StyleGAN3 and conditional networks are refused.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from torch import Tensor

from gan2shape_hub.models.stylegan2 import StyleGAN2Generator
from gan2shape_hub.models.stylegan2_discriminator import StyleGAN2Discriminator
from gan2shape_hub.presets import category_preset

from . import checkpoint, tensorflow
from .nvidia_networks import DEFAULT_CLAMP, convert_discriminator, convert_generator
from .restricted_pickle import Network, load_network_pickle
from .rosinality import load_torch_file, strip_module_prefix
from .tensorflow import GraphNetwork
from .verify import ConversionError, Report, optional_discriminator

_GENERATORS = ("G_ema", "G")


def convert(
    path: str | Path,
    category: str,
    output: str | Path,
    size: int | None = None,
    conv_clamp: float | None = DEFAULT_CLAMP,
    overwrite: bool = False,
    license_id: str = "unknown",
    space: str = "mapping_tail",
) -> Report:
    """Write the checkpoint folder ``output`` from an NVIDIA file; ConversionError or ConfigError in a sentence.

    ``space``: where step 2 moves latents, see ``components.with_space``.
    """
    category_preset(category)  # before reading a large file
    read = read_file(path, size, conv_clamp)
    return checkpoint.write(read, category, output, license_id=license_id, space=space, overwrite=overwrite)


def read_file(
    path: str | Path, size: int | None = None, conv_clamp: float | None = DEFAULT_CLAMP
) -> tuple[StyleGAN2Generator, StyleGAN2Discriminator | None, Report]:
    """Generator and (where the file has one) discriminator of an NVIDIA file, and the report.

    ``conv_clamp`` counts only for state dicts (None: no clamping). ConversionError in one sentence.
    """
    path = Path(path)
    data = _read(path)
    name = next((key for key in _GENERATORS if key in data), None)
    if name is None:
        raise ConversionError(f"{path} has no generator (G_ema): it is no StyleGAN2 file of NVIDIA's.")
    graph = isinstance(data[name], GraphNetwork)
    report = Report(source=f"{path.name} (NVIDIA, {'TensorFlow' if graph else 'PyTorch'})")
    if name == "G":
        report.notes.append("The file has no G_ema: the raw generator G was taken.")
    generator = _generator(data[name], report, f"{path} ({name})", conv_clamp)
    if size is not None and size != generator.image_size:
        raise ConversionError(f"{path} makes images of {generator.image_size} pixels, not the {size} of --size.")
    network = data.get("D")
    make = None if network is None else (lambda: _discriminator(network, report, f"{path} (D)", conv_clamp))
    discriminator = optional_discriminator(make, generator, path, report)
    report.unused += sorted(str(key) for key in data if key not in (name, "D"))
    return generator, discriminator, report


def _generator(network: Any, report: Report, where: str, clamp: float | None) -> StyleGAN2Generator:
    if isinstance(network, GraphNetwork):
        return tensorflow.convert_generator(network, report, where)
    return convert_generator(network, report, where, clamp)


def _discriminator(network: Any, report: Report, where: str, clamp: float | None) -> StyleGAN2Discriminator:
    if isinstance(network, GraphNetwork):
        return tensorflow.convert_discriminator(network, report, where)
    return convert_discriminator(network, report, where, clamp)


def _read(path: Path) -> dict[str, Any]:
    """{'G_ema': Network or state dict, 'D': ..., other keys} of any of the three kinds of file."""
    if path.suffix == ".safetensors":
        return _group(_load_safetensors(path), path)
    if path.suffix in (".pt", ".pth"):
        data = load_torch_file(path)
        if not isinstance(data, dict):
            raise ConversionError(f"{path} holds a {type(data).__name__}, expected a state dict.")
        return data if any(isinstance(data.get(key), dict) for key in (*_GENERATORS, "D")) else _group(data, path)
    data = load_network_pickle(path)
    if isinstance(data, (Network, GraphNetwork)):
        return {"G_ema": data}
    if isinstance(data, (tuple, list)) and len(data) == 3 and all(isinstance(one, GraphNetwork) for one in data):
        return dict(zip(("G", "D", "G_ema"), data, strict=True))
    if not isinstance(data, dict):
        raise ConversionError(f"{path} holds a {type(data).__name__}, expected a dictionary with G_ema and D.")
    return data


def _load_safetensors(path: Path) -> dict[str, Tensor]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    if not path.is_file():
        raise ConversionError(f"{path} is not there: check the path.")
    try:
        return load_file(path)
    except (SafetensorError, OSError, ValueError):
        raise ConversionError(f"{path} is not a readable safetensors file: it is damaged or truncated.") from None


def _group(flat: dict[str, Any], path: Path) -> dict[str, Any]:
    """Sort a flat state dict into networks: by a ``G_ema.`` / ``G.`` / ``D.`` prefix, or by NVIDIA's own names."""
    groups: dict[str, Any] = {}
    for name, value in strip_module_prefix(flat).items():
        head, _, rest = name.partition(".")
        if head in (*_GENERATORS, "D") and rest:
            groups.setdefault(head, {})[rest] = value
        elif head in ("synthesis", "mapping"):
            groups.setdefault("G_ema", {})[name] = value
        elif re.fullmatch(r"b\d+", head):
            groups.setdefault("D", {})[name] = value
        else:
            groups[name] = value
    if not groups:
        raise ConversionError(f"{path} holds no tensors.")
    return groups
