"""Generated data on disk, in files of a few items each: what an interruption costs, and what processes share out."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from gan2shape_hub.atomic import atomic_file
from gan2shape_hub.training.trainer import Job


def make_chunks(job: Job, count: int, make: Callable[[range], dict[str, Tensor]], size: int) -> list[Path]:
    """Files of ``size`` items each in the job's folder, ``count`` items or more in all, made where they are not there
    yet.

    Args:
        make: tensors by name of the items in a range, the first dimension being theirs; an item must be the same
            whichever range it is made in. Every process makes its part of the files.
    """
    folder, accelerator = job.folder, job.accelerator
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    starts = range(0, count, size)
    begun, made = time.perf_counter(), 0
    for number, first in enumerate(starts):
        path, last = folder / f"{first:06d}.safetensors", min(first + size, count)
        paths.append(path)
        if number % accelerator.num_processes != accelerator.process_index or items(path) >= last - first:
            continue
        tensors = {name: value.cpu().contiguous() for name, value in make(range(first, last)).items()}
        with atomic_file(path) as part:
            save_file(tensors, part)
        made += last - first
        each = (time.perf_counter() - begun) / made
        left = (count - last) / accelerator.num_processes * each / 60
        job.log(f"{folder.name} {last}/{count} ({each:.2f} s each, {left:.0f} min left)")
    accelerator.wait_for_everyone()
    return paths


def items(path: Path) -> int:
    """How many items a file holds; 0 where there is none."""
    if not path.exists():
        return 0
    with safe_open(path, "pt") as file:
        return file.get_slice(next(iter(file.keys()))).get_shape()[0]


def read_chunks(paths: list[Path], name: str, count: int) -> Tensor | None:
    """The first ``count`` items of the tensor ``name`` of all files; None where the files have no such tensor."""
    parts = []
    for path in paths:
        with safe_open(path, "pt") as file:
            if name not in file.keys():  # noqa: SIM118 (no mapping)
                return None
            parts.append(file.get_tensor(name))
    return torch.cat(parts)[:count]
