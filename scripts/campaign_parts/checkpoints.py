"""Damaged checkpoint folders."""

from __future__ import annotations

import functools
import json
import random
import shutil
import struct
import tempfile
from collections.abc import Callable
from pathlib import Path

import torch
from campaign_parts.children import SECRET
from campaign_parts.damage import ODD, damaged, damaged_json
from torch import nn

from gan2shape_hub import hub
from gan2shape_hub.config import CategoryConfig
from gan2shape_hub.models.mobile_stylegan import MobileStyleGANGenerator
from gan2shape_hub.models.perceptual import PerceptualNetwork


def case(rng: random.Random, folder: Path) -> Callable[[], object]:
    """One or two files of a small checkpoint are damaged, exchanged, linked or gone."""
    place = folder / "checkpoint"
    for name, data in whole().items():
        (place / name).parent.mkdir(parents=True, exist_ok=True)
        (place / name).write_bytes(data)
    for _ in range(rng.choice((1, 1, 2))):
        _damage(rng, folder, place)
    return lambda: hub.load_components(hub.resolve(str(place)))


@functools.cache
def whole() -> dict[str, bytes]:
    """The files of the checkpoint, name -> bytes."""
    with torch.random.fork_rng(), tempfile.TemporaryDirectory() as temporary:
        torch.manual_seed(0)
        networks = {
            "generator": MobileStyleGANGenerator((16, 16, 16, 8), latent_dim=16, taps=((32, 2, (6, 4)),), components=8),
            "perceptual": PerceptualNetwork(widths=(4, 6, 8), max_size=32),
        }
        config = CategoryConfig(category="face", image_size=32)
        folder = hub.save_components(Path(temporary) / "checkpoint", config, networks, max_shard_size="20KB")
        return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


@functools.cache
def loaded() -> tuple[CategoryConfig, dict[str, nn.Module]]:
    """The checkpoint itself."""
    with tempfile.TemporaryDirectory() as temporary:
        for name, data in whole().items():
            (Path(temporary) / name).parent.mkdir(parents=True, exist_ok=True)
            (Path(temporary) / name).write_bytes(data)
        return hub.load_components(temporary)


def _damage(rng: random.Random, folder: Path, place: Path) -> None:
    files = sorted(path for path in place.rglob("*") if path.is_file() and path.name != "README.md")
    if not files:
        return
    file, other = rng.choice(files), rng.choice(files)
    data = file.read_bytes()
    kind = rng.randrange(10)
    if kind == 0:
        file.unlink()
    elif kind == 1:
        file.unlink()
        file.symlink_to(rng.choice((folder.parent / f"{SECRET}.json", Path("/dev/zero"), file, folder)))
    elif kind == 2:
        shutil.copyfile(other, folder / "held")
        shutil.move(folder / "held", file)
    elif kind == 3:
        file.unlink()
        file.mkdir()
    elif file.suffix == ".json" and kind < 8:
        try:
            changed = damaged_json(rng, json.loads(data))
        except (ValueError, RecursionError):  # of an earlier damage
            changed = rng.choice(ODD)
        file.write_text(json.dumps(changed), encoding="utf-8")
    elif file.suffix == ".safetensors" and kind < 7:
        file.write_bytes(_with_other_header(rng, data))
    else:
        file.write_bytes(damaged(rng, data))


def _with_other_header(rng: random.Random, data: bytes) -> bytes:
    try:
        (length,) = struct.unpack("<Q", data[:8])
        header = json.loads(data[8 : 8 + length])
        text = json.dumps(damaged_json(rng, header)).encode()
    except (ValueError, struct.error, RecursionError):
        text, length = b"{}", 0
    return struct.pack("<Q", rng.choice((len(text), len(text), len(text), 2**63, 0, 10**8))) + text + data[8 + length :]
