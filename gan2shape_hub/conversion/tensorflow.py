"""Networks of NVIDIA's TensorFlow repositories (stylegan2, stylegan2-ada) to components, without TensorFlow.

Their variables become what NVIDIA's PyTorch port would hold: kernels (height, width, in, out) are turned round, those
that double the size are mirrored too (TensorFlow's transposed convolution was given them so), and the biases of
styles count from 1. Nothing is clamped, and the demodulation's constant is added after equalised learning rate.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from torch import Tensor

from gan2shape_hub.models.stylegan2 import StyleGAN2Generator
from gan2shape_hub.models.stylegan2_discriminator import StyleGAN2Discriminator

from . import nvidia_networks
from .numpy_records import NumpyArray, as_tensor
from .restricted_pickle import GraphNetwork
from .rosinality import MAPPING_GAIN
from .verify import ConversionError, Report, UnsupportedNetwork

_ONLY: dict[str, tuple[Any, ...]] = {
    "nonlinearity": ("lrelu",),
    "mapping_nonlinearity": ("lrelu",),
    "resample_kernel": ([1, 3, 3, 1],),
    "normalize_latents": (True,),
    "use_wscale": (True,),
    "label_size": (0,),
    "num_channels": (3,),
}
"""Arguments of a graph that decide what it computes, and the values of them that there is a counterpart for."""
_HARMLESS = re.compile(
    r"d?latent_size|dlatent_(broadcast|avg_beta)|w_avg_beta|resolution|fmap_\w+|label_fmaps|num_fp16_res|conv_clamp"
    r"|mapping_(layers|fmaps|lrmul|func)|synthesis_func|dtype|fused_modconv|randomize_noise|use_noise|structure"
    r"|truncation_\w+|style_mixing_prob|is_\w+|mbstd_(group_size|num_features)|freeze_layers|(func_)?name"
)
"""Those that the variables show, that are read below, or that matter in training alone."""

_LAYERS = {"Conv": "conv1", "Conv0_up": "conv0", "Conv1": "conv1", "ToRGB": "torgb"}
_D_LAYERS = {"FromRGB": "fromrgb", "Conv0": "conv0", "Conv1_down": "conv1", "Skip": "skip"}


def convert_generator(network: GraphNetwork, report: Report, where: str) -> StyleGAN2Generator:
    """Generator of a TensorFlow pickle (G or Gs); UnsupportedNetwork, ConversionError in one sentence."""
    values, arguments = _variables(network, where), _arguments(network, where, "skip")
    if "synthesis/4x4/Conv/mod_weight" not in values or "synthesis/4x4/ToRGB/weight" not in values:
        raise UnsupportedNetwork(
            f"{where} is not a StyleGAN2 generator of the skip architecture ({network.build_func_name}): only its "
            "configurations E and F can be converted."
        )
    state = _renamed(values, _generator_name, report, "G", where)
    return nvidia_networks.convert_generator(
        state,
        report,
        where,
        conv_clamp=_clamp(arguments),
        mapping_gain=float(arguments.get("mapping_lrmul", MAPPING_GAIN)),
        demod_eps_per_fan_in=False,
    )


def convert_discriminator(network: GraphNetwork, report: Report, where: str) -> StyleGAN2Discriminator:
    """Discriminator of a TensorFlow pickle; UnsupportedNetwork, ConversionError in one sentence."""
    values, arguments = _variables(network, where), _arguments(network, where, "resnet")
    state = _renamed(values, _discriminator_name, report, "D", where)
    # What groups are where nothing is said changed between the two repositories.
    group = arguments.get("mbstd_group_size", None if network.build_func_name == "D_main" else 4)
    return nvidia_networks.convert_discriminator(state, report, where, _clamp(arguments), group)


def _variables(network: GraphNetwork, where: str) -> dict[str, Tensor]:
    """Values by name, those of components behind the component's name."""
    found = {}
    for prefix, part in network.parts():
        for name, value in part.variables.items():
            tensor = as_tensor(value)
            if tensor is not None:
                found[prefix + name] = tensor
            elif isinstance(value, (int, float)):  # a NumPy scalar
                found[prefix + name] = Tensor([value])
    if not found:
        raise ConversionError(f"{where} has no variables.")
    return found


def _arguments(network: GraphNetwork, where: str, architecture: str) -> dict[str, Any]:
    """Arguments of the graph and its components; UnsupportedNetwork for one that changes what it computes."""
    merged: dict[str, Any] = {}
    for _, part in network.parts():
        merged |= part.static_kwargs
    for name, value in {"architecture": architecture, **merged}.items():
        value = value.value.tolist() if isinstance(value, NumpyArray) and value.value is not None else value
        value = list(value) if isinstance(value, tuple) else value
        allowed = (architecture,) if name == "architecture" else _ONLY.get(name)
        if value not in allowed if allowed is not None else not _HARMLESS.fullmatch(name):
            raise UnsupportedNetwork(f"{where} was made with {name} {value!r}, for which there is no counterpart here.")
    return merged


def _clamp(arguments: dict[str, Any]) -> float | None:
    value = arguments.get("conv_clamp")
    return None if value is None else float(value)


def _renamed(
    values: dict[str, Tensor],
    rename: Callable[[str, Tensor], tuple[str, Tensor] | None],
    report: Report,
    kind: str,
    where: str,
) -> dict[str, Tensor]:
    """A state dict in the names and layouts of the PyTorch port."""
    state: dict[str, Tensor] = {}
    for name, value in values.items():
        try:
            found = rename(name, value)
        except (RuntimeError, IndexError):
            shape = tuple(value.shape)
            raise ConversionError(f"{where}: tensor {name} has {shape} for a shape, which it cannot have.") from None
        if found is None:
            report.unused.append(f"{kind}.{name}")
        else:
            state[found[0]] = found[1]
    return state


def _generator_name(name: str, value: Tensor) -> tuple[str, Tensor] | None:
    if name == "dlatent_avg":
        return "mapping.w_avg", value
    if m := re.fullmatch(r"mapping/Dense(\d+)/(weight|bias)", name):
        return f"mapping.fc{m[1]}.{m[2]}", value.T if m[2] == "weight" else value
    if m := re.fullmatch(r"synthesis/noise(\d+)", name):
        number = int(m[1])
        return f"synthesis.b{2 ** ((number + 5) // 2)}.conv{(number + 1) % 2}.noise_const", value[0, 0]
    if name == "synthesis/4x4/Const/const":
        return "synthesis.b4.const", value[0]
    if not (m := re.fullmatch(r"synthesis/(\d+)x\1/(Conv|Conv0_up|Conv1|ToRGB)/(\w+)", name)):
        return None
    layer = f"synthesis.b{m[1]}.{_LAYERS[m[2]]}"
    if m[3] == "weight":
        return f"{layer}.weight", _kernel(value.flip(0, 1) if m[2] == "Conv0_up" else value)
    if m[3] == "mod_weight":
        return f"{layer}.affine.weight", value.T
    if m[3] == "mod_bias":
        return f"{layer}.affine.bias", value + 1
    return f"{layer}.{m[3]}", value


def _discriminator_name(name: str, value: Tensor) -> tuple[str, Tensor] | None:
    if m := re.fullmatch(r"(4x4/Dense0|Output)/(weight|bias)", name):
        layer = "b4.out" if m[1] == "Output" else "b4.fc"
        return f"{layer}.{m[2]}", value.T if m[2] == "weight" else value
    if m := re.fullmatch(r"4x4/Conv/(weight|bias)", name):
        return f"b4.conv.{m[1]}", _kernel(value) if m[1] == "weight" else value
    if m := re.fullmatch(r"(\d+)x\1/(FromRGB|Conv0|Conv1_down|Skip)/(weight|bias)", name):
        return f"b{m[1]}.{_D_LAYERS[m[2]]}.{m[3]}", _kernel(value) if m[3] == "weight" else value
    return None


def _kernel(value: Tensor) -> Tensor:
    """(height, width, in, out) -> (out, in, height, width)."""
    return value.permute(3, 2, 0, 1)
