"""A folder of files <-> a category's configuration and networks."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn.modules.module import register_module_parameter_registration_hook

from gan2shape_hub.arguments import user_path
from gan2shape_hub.atomic import ExportError, atomic_file, atomic_folder
from gan2shape_hub.cards import minimal_card
from gan2shape_hub.config import CategoryConfig, ConfigError
from gan2shape_hub.models.component import Component

from .errors import CheckpointError
from .layout import (
    CARD,
    CHECKPOINT_FILES,
    CONFIG,
    INDEX,
    RECIPE,
    RESTORE,
    SLOTS,
    UPGRADE,
    Index,
    check_version,
    component_class,
    read_index,
    read_json,
)
from .weights import WeightFiles, inspect_weights, read_weights, write_weights


def save_components(
    folder: str | os.PathLike,
    config: CategoryConfig,
    components: dict[str, nn.Module],
    *,
    card: str | None = None,
    recipe: str | None = None,
    variant: str | None = None,
    dtype: torch.dtype | Mapping[str, torch.dtype] | None = None,
    max_shard_size: int | str = "5GB",
    overwrite: bool = True,
) -> Path:
    """Write a checkpoint; it appears in ``folder`` whole or not at all, and the same call gives the same bytes.

    Args:
        components: component name (see ``layout.SLOTS``) -> network; the generator is required.
        card: text of README.md; None keeps the card that is there, or writes a plain one.
        recipe: text of recipe.json; None keeps the one that is there.
        variant: part of the weights' file names, such as ``"fp16"``.
        dtype: store floating point tensors as this (``torch.float16``, ``torch.bfloat16``), or component name -> dtype;
            None, or a component without one: as they are.
        max_shard_size: bytes, or a text such as ``"5GB"``; larger components are split.
        overwrite: replace a checkpoint that is there; files that are no part of one (``.git``, figures) stay.

    Returns the folder. CheckpointError (an OSError) where ``folder`` holds something else or cannot be written,
    ValueError for a component that has no place in a checkpoint.
    """
    folder = user_path(folder)
    index = _index_of(components)
    _check_target(folder, overwrite)
    dtypes = dtype if isinstance(dtype, Mapping) else dict.fromkeys(components, dtype)
    if card is None:
        old = folder / CARD
        card = old.read_text(encoding="utf-8") if old.exists() else minimal_card(config)
    if recipe is None and (folder / RECIPE).is_file():
        recipe = (folder / RECIPE).read_text(encoding="utf-8")
    with _explained(), atomic_folder(folder, own=CHECKPOINT_FILES) as new:
        (new / CONFIG).write_text(config.to_json(), encoding="utf-8")
        (new / INDEX).write_text(index.to_json(), encoding="utf-8")
        (new / CARD).write_text(card, encoding="utf-8")
        if recipe is not None:
            (new / RECIPE).write_text(recipe, encoding="utf-8")
        for slot in sorted(components):
            place = new / slot
            place.mkdir()
            network = components[slot]
            text = json.dumps(
                {"_class_name": type(network).__name__, **network.config}, indent=2, sort_keys=True, allow_nan=False
            )
            (place / CONFIG).write_text(text + "\n", encoding="utf-8")
            options = {"variant": variant, "dtype": dtypes.get(slot), "max_shard_size": max_shard_size}
            write_weights(place, network.state_dict(), **options)
            for file in place.iterdir():  # safetensors makes files that nobody else may read
                shutil.copymode(place / CONFIG, file)
    return folder


def stored_dtypes(components: dict[str, nn.Module]) -> dict[str, torch.dtype]:
    """Component name -> dtype of the files that it came from, of those that memory holds in float32: saved so, a
    checkpoint does not grow."""
    stored = {name: getattr(network, "stored_dtype", None) for name, network in components.items()}
    in_float32 = {name for name, network in components.items() if _dtypes_of(network) == {torch.float32}}
    return {name: dtype for name, dtype in stored.items() if dtype is not None and name in in_float32}


def _dtypes_of(network: nn.Module) -> set[torch.dtype]:
    return {tensor.dtype for tensor in network.state_dict().values() if tensor.is_floating_point()}


def write_card(folder: str | os.PathLike, card: str) -> None:
    """Replace README.md of a checkpoint, whole or not at all."""
    with _explained(), atomic_file(Path(folder) / CARD) as part:
        part.write_text(card, encoding="utf-8")


@contextmanager
def _explained() -> Iterator[None]:
    """What cannot be written is the same sentence, under the name that this package's errors have."""
    try:
        yield
    except ExportError as error:
        raise CheckpointError(str(error)) from None


def read_components(folder: str | os.PathLike) -> dict[str, str]:
    """Component -> class, as a checkpoint lists them."""
    return dict(read_index(Path(folder)).components)


def fingerprint(folder: str | os.PathLike) -> str:
    """Short hash of a checkpoint's configuration and weights, by which measurements name what they measured."""
    folder, digest = Path(folder), hashlib.sha256()
    for path in sorted(folder.rglob("*")):
        if path.suffix in (".json", ".safetensors") and path != folder / RECIPE and path.is_file():
            digest.update(path.relative_to(folder).as_posix().encode())
            digest.update(hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()[:16]


def _index_of(components: dict[str, nn.Module]) -> Index:
    if "generator" not in components:
        raise ValueError("components has no 'generator', which every checkpoint needs.")
    for slot, network in components.items():
        name = type(network).__name__
        if slot not in SLOTS:
            raise ValueError(f"unknown component '{slot}': known ones are {', '.join(SLOTS)}.")
        if not isinstance(network, Component) or name not in SLOTS[slot]:
            allowed = " or ".join(SLOTS[slot]) or "nothing that can be saved"
            raise ValueError(f"component '{slot}' is a {name}, must be {allowed}.")
    return Index({slot: type(network).__name__ for slot, network in components.items()})


def _check_target(folder: Path, overwrite: bool) -> None:
    if folder.exists() and not folder.is_dir():
        raise CheckpointError(f"{folder} is a file: choose the name of a folder.")
    if not folder.is_dir() or not any(folder.iterdir()):
        return
    if not overwrite:
        raise CheckpointError(f"{folder} is not empty: choose another folder, or pass overwrite=True.")
    try:
        read_index(folder)
    except CheckpointError:
        # A damaged or newer checkpoint is replaced too, somebody's other folder never.
        if not (folder / INDEX).is_file() or '"GAN2ShapePipeline"' not in (folder / INDEX).read_text(
            "utf-8", "replace"
        ):
            raise CheckpointError(
                f"{folder} is not empty and no checkpoint of GAN2Shape: choose a new or an empty folder."
            ) from None


def load_components(
    folder: str | os.PathLike,
    *,
    variant: str | None = None,
    dtype: torch.dtype | None = torch.float32,
    device: str | torch.device = "cpu",
    overrides: dict[str, nn.Module | None] | None = None,
    only: tuple[str, ...] | None = None,
    low_memory: bool = True,
) -> tuple[CategoryConfig, dict[str, nn.Module]]:
    """Read a checkpoint strictly: every file is checked before any network is built.

    Args:
        device: every tensor goes there straight from its file, without a copy of the whole in between.
        dtype: floating point tensors are converted to this; None keeps what is stored.
        overrides: networks to use instead of the checkpoint's, by name; None leaves an optional one out. The files
            of overridden components are not looked at.
        only: names of the components to load; None: all there are.
        low_memory: networks are built without memory and weights go straight from the file to their place, one tensor
            at a time: memory holds one copy. False: a network is built as its constructor does it, and then filled,
            which takes a second copy of it for a moment; the result is the same to the bit.

    Returns the configuration and the networks by name, in evaluation mode, without gradients. CheckpointError (an
    OSError) names the file and the remedy.
    """
    folder = Path(folder)
    overrides = dict(overrides or {})
    for name in (*overrides, *(only or ())):
        if name not in SLOTS:
            raise ValueError(f"unknown component '{name}': known ones are {', '.join(SLOTS)}.")
    index = read_index(folder)
    config = read_config(folder)
    plans = {
        slot: _plan(folder / slot, slot, class_name, variant)
        for slot, class_name in sorted(index.components.items())
        if slot not in overrides and (only is None or slot in only)
    }
    networks: dict[str, nn.Module] = {}
    for slot, (cls, arguments, files) in plans.items():
        networks[slot] = _build(folder / slot, cls, arguments, files, dtype, torch.device(device), low_memory)
    networks.update({name: network for name, network in overrides.items() if network is not None})
    return config, networks


def read_config(folder: str | os.PathLike) -> CategoryConfig:
    """``config.json`` of a checkpoint; CheckpointError names the file and the key."""
    file = Path(folder) / CONFIG
    data = read_json(file)
    check_version(data.get("format_version", 1), file)  # first: a newer format explains unknown keys
    try:
        return CategoryConfig.from_json(json.dumps(data))
    except ConfigError as error:
        raise CheckpointError(f"{file}: {str(error).rstrip('.')}; correct it, or {UPGRADE}.") from None


def _plan(folder: Path, slot: str, class_name: str, variant: str | None) -> tuple[type, dict[str, Any], WeightFiles]:
    file = folder / CONFIG
    arguments = read_json(file)
    own = arguments.pop("_class_name", None)
    if own != class_name:
        raise CheckpointError(
            f"{file} is the configuration of a {own}, but {INDEX} lists a {class_name} as {slot}: the component "
            "comes from another pipeline or checkpoint, restore the right one."
        )
    return component_class(slot, class_name, file), arguments, inspect_weights(folder, variant)


def _build(
    folder: Path,
    cls: type[Component],
    arguments: dict[str, Any],
    files: WeightFiles,
    dtype: torch.dtype | None,
    device: torch.device,
    low_memory: bool,
) -> nn.Module:
    try:
        with torch.device("meta"), _at_most(2 * len(files.shape_of) + 100):
            network = cls.from_config(arguments)
    except (ValueError, TypeError, IndexError, KeyError, RuntimeError, OverflowError, MemoryError) as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(".")
        raise CheckpointError(f"{folder / CONFIG}: {reason}; correct it, or {UPGRADE}.") from None
    _check_shapes(network, files)
    if not low_memory or _has_unsaved_tensors(network):
        # Tensors that no file holds are computed by the constructor, so it has to run for real.
        with torch.random.fork_rng(devices=[]):
            network = cls.from_config(arguments)
    network.load_state_dict(read_weights(files, dtype=dtype, device=device), strict=True, assign=True)
    if dtype is not None:
        network.to(dtype=dtype)
    network.stored_dtype = files.dtype
    return network.to(device).requires_grad_(False).eval()


@contextmanager
def _at_most(tensors: int) -> Iterator[None]:
    """ValueError once this thread has built a network of more parameters than that: one that a file describes may have
    millions of layers, which its weights do not have."""
    builder, left = threading.get_ident(), tensors

    def count(*_: Any) -> None:
        nonlocal left
        if threading.get_ident() == builder:
            left -= 1
            if left < 0:
                raise ValueError("it describes more layers than there are weights")

    handle = register_module_parameter_registration_hook(count)
    try:
        yield
    finally:
        handle.remove()


def _check_shapes(network: nn.Module, files: WeightFiles) -> None:
    expected = {name: tuple(t.shape) for name, t in network.state_dict().items()}
    for name in sorted(expected.keys() - files.shape_of.keys()):
        raise CheckpointError(f"{files.main} lacks tensor '{name}' of {type(network).__name__}: {RESTORE}.")
    for name in sorted(files.shape_of.keys() - expected.keys()):
        raise CheckpointError(
            f"{files.main} has tensor '{name}', which {type(network).__name__} does not: its {CONFIG} belongs to "
            f"other weights, {RESTORE}."
        )
    for name, shape in expected.items():
        if files.shape_of[name] != shape:
            raise CheckpointError(
                f"{files.file_of[name]} holds tensor '{name}' of shape {list(files.shape_of[name])}, but {CONFIG} "
                f"beside it says {list(shape)}: the component is of another size, {RESTORE}."
            )


def _has_unsaved_tensors(network: nn.Module) -> bool:
    """Whether the constructor makes tensors that the state dict does not hold."""
    saved = network.state_dict().keys()
    held = {name for name, _ in (*network.named_buffers(), *network.named_parameters())}
    plain = any(isinstance(v, torch.Tensor) for module in network.modules() for v in vars(module).values())
    return plain or bool(held - saved)
