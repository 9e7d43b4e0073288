"""What every conversion ends with: an atomic checkpoint folder that was loaded back, compared and sampled."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor, nn

from gan2shape_hub.atomic import atomic_folder
from gan2shape_hub.config import CategoryConfig
from gan2shape_hub.generator import Generator, sample_latents
from gan2shape_hub.hub import load_components, save_components
from gan2shape_hub.hub.card import SAMPLES
from gan2shape_hub.hub.layout import CHECKPOINT_FILES, INDEX
from gan2shape_hub.models.stylegan2 import StyleGAN2Generator
from gan2shape_hub.models.stylegan2_discriminator import StyleGAN2Discriminator
from gan2shape_hub.presets import category_preset

from .card import card
from .numpy_records import as_tensor
from .public import PublicWeights
from .samples import frame_of, sample_images, sample_sheet


class ConversionError(ValueError):
    """A file cannot be converted; the message is one sentence that says which file and why."""


class UnsupportedNetwork(ConversionError):
    """A network is whole, and of a kind that has no counterpart here."""


@dataclass
class Report:
    """What a conversion did: ``unused`` names what the file held and the checkpoint does not, ``notes`` the rest."""

    source: str
    unused: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def lines(self) -> list[str]:
        """The report as short lines for a terminal or a model card."""
        unused = ", ".join(self.unused) if self.unused else "nothing"
        return [f"Converted from {self.source}.", *self.notes, f"Not used: {unused}."]


def check_output(output: Path, overwrite: bool) -> None:
    """ConversionError where writing ``output`` would destroy something that is not a checkpoint."""
    if output.exists() and not output.is_dir():
        raise ConversionError(f"{output} is a file: choose another --output.")
    if not overwrite and output.is_dir() and any(output.iterdir()) and not (output / INDEX).is_file():
        raise ConversionError(
            f"{output} exists and is not a checkpoint: choose another --output, or pass --overwrite to replace it."
        )


def configure(
    category: str, generator: Generator, license_id: str, image_size: int | None = None, **changes: object
) -> CategoryConfig:
    """The category's preset for this generator: sheets no larger than its images, and no more discriminator maps than
    images of that size have; ``changes`` replace other fields."""
    preset = category_preset(category)
    size = image_size or min(preset.image_size, generator.image_size)
    maps = min(preset.loss.discriminator_layers, min(size, generator.image_size).bit_length() - 3)
    loss = dataclasses.replace(preset.loss, discriminator_layers=max(maps, 1))
    return dataclasses.replace(preset, image_size=size, license=license_id, loss=loss, **changes)


def finish(
    output: str | Path,
    config: CategoryConfig,
    components: dict[str, nn.Module],
    report: Report,
    overwrite: bool = False,
    origin: PublicWeights | None = None,
) -> None:
    """Write the checkpoint, load it back, compare every tensor, sample ``samples.png``, then rename it into place.

    Bars around all samples, as around LSUN's cars, become the configuration's ``frame``. ``origin`` is for the card.
    ConversionError where the samples are not finite or a tensor changed on the way.
    """
    output = Path(output)
    check_output(output, overwrite)  # before minutes of work
    images = sample_images(components["generator"], config.truncation)
    if not torch.isfinite(images).all():
        raise ConversionError("the converted generator makes images that are not finite: the file's weights are bad.")
    frame = frame_of(images)
    if min(frame) < 1:
        config = dataclasses.replace(config, frame=frame)
        height, width = frame
        report.notes.append(f"Its pictures fill {height:.0%} of the square's height and {width:.0%} of its width.")
    text = card(config, components, report.lines(), origin)
    try:
        with atomic_folder(output, own=CHECKPOINT_FILES) as part:
            save_components(part, config, components, card=text)
            loaded_config, loaded = load_components(part, dtype=None)
            if loaded_config != config:
                raise ConversionError(
                    "config.json did not come back as it was written: this is a bug, please report it."
                )
            compare(components, loaded)
            sample_sheet(images).save(part / SAMPLES)
    except OSError as error:  # one sentence already
        raise ConversionError(str(error)) from None


def compare(written: dict[str, nn.Module], loaded: dict[str, nn.Module]) -> None:
    """ConversionError naming the first tensor that is not the same, to the bit, in ``loaded`` as in ``written``."""
    for name, module in written.items():
        if name not in loaded:
            raise ConversionError(f"component {name} did not come back from the checkpoint: please report it.")
        after = loaded[name].state_dict()
        before = module.state_dict()
        for key, tensor in before.items():
            same = key in after and tensor.dtype == after[key].dtype and torch.equal(tensor, after[key])
            if not same:
                raise ConversionError(f"tensor {name}.{key} did not come back as it was written: please report it.")
        if extra := sorted(set(after) - set(before)):
            raise ConversionError(f"tensor {name}.{extra[0]} appeared on the way: please report it.")


def set_latent_mean(generator: Generator, stored: Tensor | None, report: Report, name: str) -> None:
    """Fill ``latent_mean`` with the file's, or with the mean of 65,536 mapped latents (seed 0) where it has none."""
    if stored is not None:
        if stored.numel() != generator.latent_dim:
            raise ConversionError(f"{name} has {stored.numel()} numbers, expected {generator.latent_dim}.")
        generator.latent_mean.copy_(stored.reshape(-1))
        return
    w = sample_latents(generator, 65_536, torch.Generator().manual_seed(0))
    generator.latent_mean.copy_(w.mean(0))
    report.notes.append(f"The file has no {name}: the mean latent is that of 65,536 samples.")


class Tensors:
    """A state dict read once: every tensor is checked as it is taken, and what nobody took is known at the end."""

    def __init__(self, tensors: dict[str, Tensor], where: str) -> None:
        self.where = where
        self.tensors = {k: t for k, v in tensors.items() if (t := as_tensor(v)) is not None}
        self.taken: set[str] = set()

    def __contains__(self, name: str) -> bool:
        return name in self.tensors

    def shape(self, name: str) -> tuple[int, ...]:
        if name not in self.tensors:
            raise ConversionError(f"{self.where} has no tensor {name}: it is not a network of the expected kind.")
        return tuple(self.tensors[name].shape)

    def take(self, name: str, shape: tuple[int, ...] | None = None) -> Tensor:
        """The tensor in float32; ConversionError where it is missing, of another shape or not finite."""
        found = self.shape(name)
        if shape is not None and found != tuple(shape):
            raise ConversionError(f"{self.where}: tensor {name} has shape {found}, expected {tuple(shape)}.")
        value = self.tensors[name].detach().to("cpu", torch.float32)
        if not torch.isfinite(value).all():
            raise ConversionError(f"{self.where}: tensor {name} holds values that are not finite.")
        self.taken.add(name)
        return value

    def check_kernels(self, suffix: str, gain: Callable[[str], float | None]) -> None:
        """Every tensor called ``*suffix`` must be [1, 3, 3, 1] x [1, 3, 3, 1] of sum ``gain(name)``."""
        taps = torch.tensor([1.0, 3.0, 3.0, 1.0])
        expected = torch.outer(taps, taps) / 64
        for name in [n for n in self.tensors if n.endswith(suffix)]:
            kernel = self.take(name)
            if kernel.shape != (4, 4) or not torch.allclose(kernel, expected * gain(name), atol=1e-5):
                raise UnsupportedNetwork(
                    f"{self.where}: filter {name} is not [1, 3, 3, 1]: networks with other filters are not supported."
                )

    def unused(self) -> list[str]:
        return sorted(set(self.tensors) - self.taken)


def mapping_width(t: Tensors, names: list[str]) -> int:
    """Numbers of a latent, of the mapping network's weights (out, in) called ``names``; UnsupportedNetwork where its
    layers differ in width."""
    shapes = [t.shape(name) for name in names]
    widths = [shapes[0][-1], *(shape[0] for shape in shapes)]
    if len(set(widths)) > 1:
        raise UnsupportedNetwork(
            f"{t.where} maps latents z of {widths[0]} numbers through {', '.join(map(str, widths[1:-1]))} to w of "
            f"{widths[-1]}: only networks in which all have as many can be converted."
        )
    return widths[0]


def optional_discriminator(
    make: Callable[[], StyleGAN2Discriminator] | None, generator: StyleGAN2Generator, path: Path, report: Report
) -> StyleGAN2Discriminator | None:
    """What ``make`` gives (None: the file has none), or None with a note where it is of an unsupported kind: runs can
    do without. ConversionError where it is damaged, or for images of another size than the generator's."""
    if make is None:
        report.notes.append("The file has no discriminator: feature losses will be off.")
        return None
    try:
        discriminator = make()
    except UnsupportedNetwork as error:
        reason = str(error).replace(str(path), path.name)  # the card is for others
        report.notes.append(f"The discriminator was left out, so that feature losses will be off: {reason}")
        return None
    if discriminator.image_size != generator.image_size:
        raise ConversionError(
            f"{path} has a generator of {generator.image_size} and a discriminator of {discriminator.image_size} "
            "pixels: they do not belong together."
        )
    return discriminator


def load_strictly(module: nn.Module, state: dict[str, Tensor], where: str) -> None:
    """``load_state_dict`` with every name and shape checked; ConversionError names the first that does not fit."""
    own = module.state_dict()
    for name, tensor in own.items():
        if name not in state:
            raise ConversionError(f"{where} has no tensor {name}.")
        if state[name].shape != tensor.shape:
            shapes = f"{tuple(state[name].shape)}, expected {tuple(tensor.shape)}"
            raise ConversionError(f"{where}: tensor {name} has shape {shapes}.")
    if extra := sorted(set(state) - set(own)):
        raise ConversionError(f"{where} has a tensor {extra[0]} that the network does not.")
    module.load_state_dict(state, strict=True)
