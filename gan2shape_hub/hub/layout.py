"""Which files make up a checkpoint, and which class may stand in which place.

A checkpoint is a folder, local or a Hub repository::

    config.json                 CategoryConfig
    model_index.json            {"_class_name": "GAN2ShapePipeline", "_format_version": 1, "generator": "...", ...}
    README.md                   model card
    recipe.json                 optional: what made the weights
    <component>/config.json     {"_class_name": "...", constructor arguments}
    <component>/model[.variant].safetensors, or shards with model.safetensors.index[.variant].json
"""

from __future__ import annotations

import importlib
import json
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gan2shape_hub.config import FORMAT_VERSION
from gan2shape_hub.models.component import Component

from .errors import CheckpointError

PIPELINE_CLASS = "GAN2ShapePipeline"
CONFIG, INDEX, CARD = "config.json", "model_index.json", "README.md"
RECIPE = "recipe.json"
"""What made the weights (``training/recipe.py``), where they were made here."""

CLASSES: dict[str, str] = {
    "MobileStyleGANGenerator": "gan2shape_hub.models.mobile_stylegan",
    "StyleGAN2Generator": "gan2shape_hub.models.stylegan2",
    "StyleGAN2Discriminator": "gan2shape_hub.models.stylegan2_discriminator",
    "EDDeconv": "gan2shape_hub.models.shape_nets",
    "SheetUNet": "gan2shape_hub.models.sheet_unet",
    "Encoder": "gan2shape_hub.models.shape_nets",
    "ResEncoder": "gan2shape_hub.models.shape_nets",
    "PerceptualNetwork": "gan2shape_hub.models.perceptual",
    "SelfieMasker": "gan2shape_hub.models.selfie_masker",
    "AverageSheet": "gan2shape_hub.models.average_sheet",
}
"""Class name -> module. An explicit table: a downloaded file never decides what is imported."""

SLOTS: dict[str, tuple[str, ...]] = {
    "generator": ("MobileStyleGANGenerator", "StyleGAN2Generator"),
    "discriminator": ("StyleGAN2Discriminator",),
    "depth_net": ("EDDeconv", "SheetUNet"),
    "albedo_net": ("EDDeconv", "SheetUNet"),
    "view_net": ("Encoder",),
    "light_net": ("Encoder",),
    "latent_encoder": ("ResEncoder",),
    "perceptual": ("PerceptualNetwork",),
    "masker": ("SelfieMasker",),
    "average_sheet": ("AverageSheet",),
}
"""Component name -> classes that may fill it."""
COMPONENT_FILES = (CONFIG, "model.safetensors", "model[.-]*.safetensors", "model.safetensors.index*.json")
"""Patterns of the files of a component."""
CHECKPOINT_FILES = frozenset(
    {CONFIG, INDEX, CARD, RECIPE, *(f"{slot}/{file}" for slot in SLOTS for file in COMPONENT_FILES)}
)
"""Patterns of the files in a folder that are the checkpoint's; all else there is somebody's own."""
REQUIRED = ("generator",)
JSON_LIMIT = 16_000_000
"""Bytes of a JSON file at most; an index of a hundred thousand tensors has fewer."""

UPGRADE = "upgrade the gan2shape-hub package"
_VARIANT = re.compile(r"[A-Za-z0-9_]+")


@dataclass(frozen=True)
class Index:
    """``model_index.json``: the class of every component the checkpoint has."""

    components: dict[str, str]

    def to_json(self) -> str:
        data = {"_class_name": PIPELINE_CLASS, "_format_version": FORMAT_VERSION, **self.components}
        return json.dumps(data, indent=2, sort_keys=True) + "\n"


def component_class(slot: str, class_name: Any, file: Path) -> type[Component]:
    """The class that ``file`` asks for in the place ``slot``; CheckpointError where it may not stand there."""
    if slot not in SLOTS:
        raise CheckpointError(
            f"{file} names an unknown component '{slot}': known ones are {', '.join(SLOTS)}; or {UPGRADE}."
        )
    if not isinstance(class_name, str) or class_name not in CLASSES:
        raise CheckpointError(
            f"{file} asks for the unknown class '{class_name}' as {slot}: known ones are {', '.join(SLOTS[slot])}; "
            f"or {UPGRADE}."
        )
    if class_name not in SLOTS[slot]:
        raise CheckpointError(
            f"{file} puts a {class_name} in the place of {slot}, which takes {' or '.join(SLOTS[slot])}: "
            "the component belongs elsewhere or to another pipeline, restore the right one."
        )
    return getattr(importlib.import_module(CLASSES[class_name]), class_name)


def weights_name(variant: str | None) -> str:
    """File name pattern of weights; ``{suffix}`` is empty, or ``-00001-of-00002`` for a shard."""
    if variant is None:
        return "model{suffix}.safetensors"
    if not _VARIANT.fullmatch(variant):
        raise ValueError(f"variant is {variant!r}, must be letters, digits and underscores, such as 'fp16'.")
    return f"model.{variant}{{suffix}}.safetensors"


def shard_index_name(variant: str | None) -> str:
    weights_name(variant)  # checks the name
    return "model.safetensors.index.json" if variant is None else f"model.safetensors.index.{variant}.json"


def file_patterns(variant: str | None, only: tuple[str, ...] | None = None) -> list[str]:
    """Patterns, for the Hub client, of the files that loading needs (the card is not among them)."""
    shards = weights_name(variant).format(suffix="-?????-of-?????")
    names = (CONFIG, weights_name(variant).format(suffix=""), shards, shard_index_name(variant))
    return [CONFIG, INDEX, *(f"{slot}/{name}" for slot in SLOTS if only is None or slot in only for name in names)]


def read_json(file: Path) -> dict[str, Any]:
    """The object in ``file``; CheckpointError where it is missing, not JSON or not an object."""
    try:
        _check_link(file)
        if file.stat().st_size > JSON_LIMIT:
            raise CheckpointError(f"{file} is larger than {JSON_LIMIT:,} bytes: {RESTORE}.")
        data = json.loads(file.read_text(encoding="utf-8"), parse_constant=_no_number)
    except CheckpointError:  # an OSError too
        raise
    except FileNotFoundError:
        raise CheckpointError(f"{file} is missing: {RESTORE}.") from None
    except (ValueError, RecursionError) as error:  # not UTF-8, not JSON, numbers of thousands of digits, nested deeply
        raise CheckpointError(f"{file} is not valid JSON ({str(error).splitlines()[0]}): {RESTORE}.") from None
    except OSError as error:
        raise CheckpointError(f"{file} cannot be read ({error.strerror}): check its permissions.") from None
    if not isinstance(data, dict):
        raise CheckpointError(f"{file} holds a {type(data).__name__} instead of an object: {RESTORE}.")
    return data


def _check_link(file: Path) -> None:
    """CheckpointError where ``file`` is a link out of its folder, other than into the Hub's cache: messages about what
    it holds would show somebody else's file."""
    real, folder = Path(os.path.realpath(file)), file.parent.resolve()  # a link may lead to itself
    blobs = real.parent.name == "blobs" and real.parent.parent in folder.parents
    if not (real.is_relative_to(folder) or blobs):
        raise CheckpointError(f"{file} is a link to another folder: put the file itself there.")


def _no_number(name: str) -> float:
    raise ValueError(f"{name} is no number of JSON")


RESTORE = "save the checkpoint again, or download it again with force_download=True"


def read_index(folder: Path) -> Index:
    """The checked ``model_index.json`` of ``folder``."""
    file = folder / INDEX
    if not folder.is_dir():
        raise CheckpointError(f"{folder} is not a folder: check the path, or give the id of a Hub repository.")
    if not file.exists():
        raise CheckpointError(
            f"{file} is missing, so this is no checkpoint of GAN2Shape: give the folder that holds {INDEX}."
        )
    data = read_json(file)
    pipeline = data.pop("_class_name", None)
    if pipeline != PIPELINE_CLASS:
        raise CheckpointError(
            f"{file} belongs to another pipeline ({pipeline}): choose a checkpoint whose _class_name is "
            f"{PIPELINE_CLASS}."
        )
    check_version(data.pop("_format_version", None), file)
    components = {}
    for slot, class_name in data.items():
        if slot.startswith("_"):
            raise CheckpointError(f"{file} has an unknown key '{slot}': remove it, or {UPGRADE}.")
        if slot not in SLOTS or class_name not in SLOTS[slot]:
            component_class(slot, class_name, file)  # raises the fitting error
        components[slot] = class_name
    for slot in REQUIRED:
        if slot not in components:
            raise CheckpointError(f"{file} has no {slot}, which every checkpoint needs: {RESTORE}.")
    return Index(components)


def check_version(version: Any, file: Path) -> None:
    """CheckpointError where ``file`` was written in a format newer than this version reads."""
    if type(version) is not int or version < 1:
        raise CheckpointError(f"{file} has format version {version!r}, must be 1 to {FORMAT_VERSION}: {RESTORE}.")
    if version > FORMAT_VERSION:
        raise CheckpointError(
            f"{file} has the newer format version {version}, this version reads up to {FORMAT_VERSION}: {UPGRADE}."
        )
