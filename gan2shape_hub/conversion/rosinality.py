"""rosinality/stylegan2-pytorch files (``.pt`` with ``g_ema``, ``d``, ``latent_avg``) to components.

Encoders that were trained with such a generator (pSp, e4e, ReStyle) carry it as their ``decoder``, and are read for it.
That port stores weights before equalised learning rate; here every constant gain is folded in (see
``models/stylegan2.py``). Sizes and widths are read off the tensors.
"""

from __future__ import annotations

import argparse
import itertools
import math
import re
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from gan2shape_hub.models.stylegan2 import StyleGAN2Generator
from gan2shape_hub.models.stylegan2_discriminator import StyleGAN2Discriminator
from gan2shape_hub.presets import category_preset

from . import checkpoint, numpy_records
from .numpy_records import as_tensor
from .pickle_program import check_torch_file
from .verify import (
    ConversionError,
    Report,
    Tensors,
    load_strictly,
    mapping_width,
    optional_discriminator,
    set_latent_mean,
)

MAPPING_GAIN = 0.01
"""Learning rate multiplier of the mapping network."""
SQRT2 = math.sqrt(2)


class OtherFile(ConversionError):
    """A readable file without a generator of this format."""


def convert(
    path: str | Path,
    category: str,
    output: str | Path,
    size: int | None = None,
    overwrite: bool = False,
    license_id: str = "unknown",
    space: str = "mapping_tail",
) -> Report:
    """Write the checkpoint folder ``output`` from a rosinality ``.pt``; ConversionError, ConfigError: one sentence.

    ``space``: where step 2 moves latents, see ``components.with_space``.
    """
    category_preset(category)  # before reading a large file
    read = read_file(path, size)
    return checkpoint.write(read, category, output, license_id=license_id, space=space, overwrite=overwrite)


def load_torch_file(path: str | Path) -> Any:
    """Contents of a ``torch.save`` file, tensors and plain containers only; ConversionError in one sentence."""
    path = Path(path)
    if not path.is_file():
        raise ConversionError(f"{path} is not there: check the path.")
    try:
        check_torch_file(path)
        # Training checkpoints of rosinality carry their command line as an (inert) Namespace.
        numpy_names = [
            (stand_in, ".".join(name)) for name, stand_in in numpy_records.stand_ins(path.stat().st_size).items()
        ]
        with torch.serialization.safe_globals([argparse.Namespace, *numpy_names]):
            return torch.load(path, map_location="cpu", weights_only=True)
    except ConversionError as error:
        raise ConversionError(f"{path} was refused: {error}") from None
    except Exception as error:  # torch raises many kinds for damaged files
        wanted = re.search(r"GLOBAL ([\w.]+)", str(error))
        if wanted:
            raise ConversionError(
                f"{path} was refused: it asks for {wanted[1]}, and only tensors and plain containers are read."
            ) from None
        raise ConversionError(f"{path} is not a readable PyTorch file: it is damaged or of another format.") from None


def strip_module_prefix(state: dict[str, Any]) -> dict[str, Any]:
    """Names without the ``module.`` that DataParallel puts before them."""
    return {re.sub(r"^module\.", "", str(name)): value for name, value in state.items()}


def read_file(
    path: str | Path, size: int | None = None
) -> tuple[StyleGAN2Generator, StyleGAN2Discriminator | None, Report]:
    """Generator and (where the file has one) discriminator of a rosinality file, and the report.

    ``size`` is inferred; where it is given it must agree. ConversionError in one sentence for anything unusable.
    """
    data = load_torch_file(path)
    report = Report(source=f"{Path(path).name} (rosinality/stylegan2-pytorch)")
    if not isinstance(data, dict):
        raise ConversionError(f"{path} holds a {type(data).__name__}, expected a dictionary with g_ema and d.")
    if "input.input" in strip_module_prefix(data):  # the state dict of a generator alone
        data = {"g_ema": data}
    elif isinstance(data.get("state_dict"), dict):
        data = _decoder(data, report)
    entry = next((key for key in ("g_ema", "g") if isinstance(data.get(key), dict)), None)
    if entry is None:
        raise OtherFile(f"{path} has no g_ema: it is not a rosinality StyleGAN2 file.")
    if entry == "g":
        report.notes.append("The file has no g_ema: the raw generator g was taken.")
    generator = convert_generator(data[entry], report, f"{path} ({entry})")
    if size is not None and size != generator.image_size:
        raise ConversionError(f"{path} makes images of {generator.image_size} pixels, not the {size} of --size.")
    set_latent_mean(generator, _latent_mean(data, report), report, "latent_avg")
    state = data.get("d")
    make = (lambda: convert_discriminator(state, report, f"{path} (d)")) if isinstance(state, dict) else None
    discriminator = optional_discriminator(make, generator, Path(path), report)
    report.unused += sorted(str(key) for key in data if key not in (entry, "d", "latent_avg"))
    return generator, discriminator, report


def _decoder(data: dict[str, Any], report: Report) -> dict[str, Any]:
    """The generator in the checkpoint of an encoder (pSp, e4e, ReStyle), as a file of its own would hold it."""
    states: dict[str, dict[str, Any]] = {}
    for name, value in strip_module_prefix(data["state_dict"]).items():
        part, _, rest = name.partition(".")
        states.setdefault(part, {})[rest] = value
    if "decoder" not in states:
        return data
    report.notes.append("The file is an encoder's, of which the generator (decoder) was taken.")
    report.unused += sorted(set(states) - {"decoder"})
    others = {key: value for key, value in data.items() if key not in ("state_dict", "d")}
    return {**others, "g_ema": states["decoder"]}


def _latent_mean(data: dict[str, Any], report: Report) -> Tensor | None:
    """The file's ``latent_avg``; of encoders, which have one a layer, the mean."""
    value = as_tensor(data.get("latent_avg"))
    if value is None:
        return None
    rows = value.detach().float().reshape(-1, value.shape[-1] if value.ndim else 1)
    if (rows - rows[0]).abs().max() > 1e-4:
        report.notes.append("latent_avg differs among the layers: the mean of them was taken.")
    return rows.mean(0)


def convert_generator(state: dict[str, Any], report: Report, where: str) -> StyleGAN2Generator:
    """Generator of a ``g_ema`` state dict; ``latent_mean`` is left to the caller."""
    t = Tensors(strip_module_prefix(state), where)
    if "input.input" not in t:
        raise ConversionError(f"{where} has no tensor input.input: it is not a rosinality StyleGAN2 generator.")
    t.check_kernels(".kernel", lambda name: 4.0)
    # Mapping layers are style.1 ... style.8 where the pixel norm is style.0, style.0 ... style.7 where it is not.
    styles = sorted(int(m[1]) for n in t.tensors if (m := re.fullmatch(r"style\.(\d+)\.weight", n)))
    if not styles or styles != list(range(styles[0], styles[0] + len(styles))):
        raise ConversionError(f"{where} has no complete mapping network (style.N.weight).")
    latent_dim = mapping_width(t, [f"style.{n}.weight" for n in styles])
    levels = 1
    while f"to_rgbs.{levels - 1}.bias" in t:
        levels += 1
    names = ["conv1"] + [f"convs.{i}" for i in range(2 * levels - 2)]
    channels = [t.shape(f"{name}.conv.weight")[1] for name in (names[0], *names[2::2])]
    generator = StyleGAN2Generator(
        4 * 2 ** (levels - 1), channels=channels, latent_dim=latent_dim, mapping_layers=len(styles)
    )
    new: dict[str, Tensor] = {"latent_mean": torch.zeros(latent_dim)}
    for i, n in enumerate(styles):
        weight = t.take(f"style.{n}.weight", (latent_dim, latent_dim))
        new[f"mapping.layers.{i}.weight"] = weight * (MAPPING_GAIN / math.sqrt(latent_dim))
        new[f"mapping.layers.{i}.bias"] = t.take(f"style.{n}.bias", (latent_dim,)) * MAPPING_GAIN
    new["const"] = t.take("input.input", (1, channels[0], 4, 4))[0]
    rng = torch.Generator().manual_seed(0)
    for i, name in enumerate(names):
        level, before = (i + 1) // 2, i // 2
        c_out, c_in, side = channels[level], channels[before], 4 * 2**level
        weight = t.take(f"{name}.conv.weight", (1, c_out, c_in, 3, 3))[0]
        new[f"convs.{i}.weight"] = weight / math.sqrt(9 * c_in)
        new[f"convs.{i}.bias"] = t.take(f"{name}.activate.bias", (c_out,)) * SQRT2
        new[f"convs.{i}.noise_strength"] = t.take(f"{name}.noise.weight").reshape(()) * SQRT2
        new |= _style(t, f"{name}.conv.modulation", f"convs.{i}.style", c_in, latent_dim)
        if f"noises.noise_{i}" in t:
            new[f"convs.{i}.noise"] = t.take(f"noises.noise_{i}", (1, 1, side, side))[0, 0]
        else:  # early files carry no noise maps: theirs were drawn afresh for every image
            new[f"convs.{i}.noise"] = torch.randn(side, side, generator=rng)
    if "noises.noise_0" not in t:
        report.notes.append("The file has no noise maps: fixed ones were drawn (seed 0).")
    for i, name in enumerate(["to_rgb1"] + [f"to_rgbs.{i}" for i in range(levels - 1)]):
        c = channels[i]
        new[f"to_rgbs.{i}.weight"] = t.take(f"{name}.conv.weight", (1, 3, c, 1, 1))[0, :, :, 0, 0] / math.sqrt(c)
        new[f"to_rgbs.{i}.bias"] = t.take(f"{name}.bias", (1, 3, 1, 1)).reshape(3)
        new |= _style(t, f"{name}.conv.modulation", f"to_rgbs.{i}.style", c, latent_dim)
    load_strictly(generator, new, where)
    report.unused += [f"g_ema.{name}" for name in t.unused()]
    return generator


def _style(t: Tensors, name: str, new: str, channels: int, latent_dim: int) -> dict[str, Tensor]:
    return {
        f"{new}.weight": t.take(f"{name}.weight", (channels, latent_dim)) / math.sqrt(latent_dim),
        f"{new}.bias": t.take(f"{name}.bias", (channels,)),
    }


def convert_discriminator(state: dict[str, Any], report: Report, where: str) -> StyleGAN2Discriminator:
    """Discriminator of a ``d`` state dict."""
    t = Tensors(strip_module_prefix(state), where)
    t.check_kernels(".kernel", lambda name: 1.0)
    channels = [t.shape("convs.0.0.weight")[0]]
    while f"convs.{len(channels)}.skip.1.weight" in t:
        channels.append(t.shape(f"convs.{len(channels)}.skip.1.weight")[0])
    top = channels[-1]
    mbstd = t.shape("final_conv.0.weight")[1] - top
    discriminator = StyleGAN2Discriminator(
        4 * 2 ** (len(channels) - 1), channels=channels[::-1], mbstd_channels=max(mbstd, 0)
    )
    new = {
        "from_rgb.weight": t.take("convs.0.0.weight", (channels[0], 3, 1, 1)) * (SQRT2 / math.sqrt(3)),
        "from_rgb.bias": t.take("convs.0.1.bias", (channels[0],)) * SQRT2,
    }
    for i, (c_in, c_out) in enumerate(itertools.pairwise(channels)):
        old, block = f"convs.{i + 1}", f"blocks.{i}"
        scale = 1 / math.sqrt(9 * c_in)
        new[f"{block}.conv1.weight"] = t.take(f"{old}.conv1.0.weight", (c_in, c_in, 3, 3)) * (SQRT2 * scale)
        new[f"{block}.conv1.bias"] = t.take(f"{old}.conv1.1.bias", (c_in,)) * SQRT2
        # sqrt 2 of the activation and 1 / sqrt 2 of the residual sum cancel
        new[f"{block}.conv2.weight"] = t.take(f"{old}.conv2.1.weight", (c_out, c_in, 3, 3)) * scale
        new[f"{block}.conv2.bias"] = t.take(f"{old}.conv2.2.bias", (c_out,))
        new[f"{block}.skip.weight"] = t.take(f"{old}.skip.1.weight", (c_out, c_in, 1, 1)) / math.sqrt(2 * c_in)
    weight = t.take("final_conv.0.weight", (top, top + mbstd, 3, 3))
    new["final_conv.weight"] = weight * (SQRT2 / math.sqrt(9 * (top + mbstd)))
    new["final_conv.bias"] = t.take("final_conv.1.bias", (top,)) * SQRT2
    new["final_linear.weight"] = t.take("final_linear.0.weight", (top, 16 * top)) / math.sqrt(16 * top) * SQRT2
    new["final_linear.bias"] = t.take("final_linear.0.bias", (top,)) * SQRT2
    new["logit.weight"] = t.take("final_linear.1.weight", (1, top)) / math.sqrt(top)
    new["logit.bias"] = t.take("final_linear.1.bias", (1,))
    load_strictly(discriminator, new, where)
    report.unused += [f"d.{name}" for name in t.unused()]
    return discriminator
