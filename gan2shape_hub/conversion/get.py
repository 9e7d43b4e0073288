"""Public weights, or somebody's own, by a name, an address or a path, to a checkpoint folder."""

from __future__ import annotations

import os
import zipfile
from collections.abc import Callable
from pathlib import Path

from torch import nn

from gan2shape_hub.arguments import user_path
from gan2shape_hub.hub import CheckpointError, default_checkpoint, load_components, read_components, resolve
from gan2shape_hub.hub.download import download
from gan2shape_hub.models.stylegan2 import StyleGAN2Generator
from gan2shape_hub.models.stylegan2_discriminator import StyleGAN2Discriminator
from gan2shape_hub.presets import category_preset
from gan2shape_hub.reading.source import is_address

from . import checkpoint, nvidia, rosinality
from .public import PUBLIC, PublicWeights
from .verify import ConversionError, Report, check_output


class LicenceNotAccepted(ConversionError):
    """The weights have terms that nobody has accepted yet."""


def get(
    what: str,
    output: str | Path,
    *,
    accept_licence: bool = False,
    category: str | None = None,
    license_id: str = "unknown",
    perceptual: str | os.PathLike | None = None,
    overwrite: bool = False,
    cache_dir: str | os.PathLike | None = None,
    say: Callable[[str], None] = lambda text: None,
) -> Report:
    """Fetch weights, where they are not in the cache, and write the checkpoint folder ``output`` of them.

    Args:
        what: a name of ``public.PUBLIC``, an address, or a path, of any format that is read here.
        accept_licence: that the terms of public weights are accepted.
        category: constants to start from (``presets.PRESETS``); default: those of the public weights.
        license_id: of weights of one's own; public ones bring theirs.
        perceptual: folder or Hub id of a checkpoint whose perceptual network is taken along.
        cache_dir: of downloads; default: the Hub's cache.
        say: is told what was fetched.

    Raises:
        LicenceNotAccepted, ConversionError, ConfigError, CheckpointError: one sentence each.
    """
    known = PUBLIC.get(what)
    category = category or (known.category if known else None)
    if category is None:
        raise ConversionError(f"'{what}' is of no known category: pass --category.{_hint(what)}")
    category_preset(category)
    check_output(Path(output), overwrite)  # before minutes of download
    if known is not None:
        _check_accepted(known, accept_licence)
        path = download(known.address, cache_dir=cache_dir, say=say)
    elif is_address(what):
        path = download(what, cache_dir=cache_dir, say=say)
    else:
        path = user_path(what)
        if not path.is_file():
            raise ConversionError(f"'{what}' is neither a name, an address nor a file.{_hint(what)}")
    read, network = read_any(path), None
    if perceptual is not None:
        network = _perceptual(perceptual)
        read[2].notes.append(f"The perceptual network is that of {Path(perceptual).name}.")
    return checkpoint.write(
        read,
        category,
        output,
        license_id=license_id if known is None else "other",
        space="pca",
        overwrite=overwrite,
        origin=known,
        perceptual=network,
    )


def perceptual_at_hand() -> Path | None:
    """The folder of the default checkpoint where it is here and has a perceptual network."""
    try:
        folder = Path(default_checkpoint())
        return folder if folder.is_dir() and "perceptual" in read_components(folder) else None
    except CheckpointError:
        return None


def _perceptual(where: str | os.PathLike) -> nn.Module:
    _, parts = load_components(resolve(where, only=("perceptual",)), only=("perceptual",))
    if "perceptual" not in parts:
        raise ConversionError(f"{where} has no perceptual network: choose another checkpoint, or leave it out.")
    return parts["perceptual"]


def read_any(path: Path) -> tuple[StyleGAN2Generator, StyleGAN2Discriminator | None, Report]:
    """Networks of a file of any of the formats; ConversionError in a sentence."""
    if path.suffix in (".pt", ".pth") or zipfile.is_zipfile(path):
        try:
            return rosinality.read_file(path)
        except rosinality.OtherFile:
            pass
    return nvidia.read_file(path)


def _check_accepted(weights: PublicWeights, accepted: bool) -> None:
    if not accepted:
        raise LicenceNotAccepted(
            f"'{weights.name}' ({weights.title.lower()}, about {weights.megabytes} MB) is under the "
            f"{weights.terms.title} ({weights.terms.link}), not for commercial use, trained on: {weights.data} Read "
            "it, and pass --accept-licence."
        )


def _hint(what: str) -> str:
    return "" if is_address(what) or Path(what).suffix else f" The names are {', '.join(PUBLIC)}."
