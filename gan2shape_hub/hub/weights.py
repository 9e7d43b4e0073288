"""State dicts in safetensors files: one file or shards, read strictly and written byte for byte reproducibly."""

from __future__ import annotations

import json
import os
import re
import struct
from dataclasses import dataclass
from pathlib import Path

import torch
from huggingface_hub import split_torch_state_dict_into_shards
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from .errors import CheckpointError
from .layout import RESTORE, read_json, shard_index_name, weights_name

_HEADER_LIMIT = 100_000_000
"""The format's own bound on the header, in bytes."""


_STORED = {"F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}
"""The format's names of floating point types."""
_DTYPES = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}
"""Short names, which ``torch`` does not have."""


def check_dtype(dtype: torch.dtype | str) -> torch.dtype:
    """``dtype`` (or its name, as in ``"float16"``, ``"fp16"``); ValueError where weights cannot be loaded as it."""
    found = dtype if isinstance(dtype, torch.dtype) else _DTYPES.get(dtype, getattr(torch, str(dtype), None))
    if found not in _DTYPES.values():
        raise ValueError(f"dtype is {dtype!r}, must be float32, float16 or bfloat16.")
    return found


_Entry = tuple[tuple[int, ...], str]
"""Shape and type of a tensor in a file, the type by the format's name."""


@dataclass(frozen=True)
class WeightFiles:
    """The files of one component's weights and the shape of every tensor in them."""

    file_of: dict[str, Path]
    shape_of: dict[str, tuple[int, ...]]
    dtype: torch.dtype | None
    """Of all floating point tensors; None where they differ."""
    main: Path
    """The single file, or the index of the shards: what an error names."""


def write_weights(
    folder: Path, state: dict[str, Tensor], *, variant: str | None, dtype: torch.dtype | None, max_shard_size: int | str
) -> None:
    """Write ``state`` into ``folder``; floating point tensors as ``dtype`` where one is given."""
    cast = {}
    for name in sorted(state):
        tensor = state[name].detach()
        keep = dtype is None or not tensor.is_floating_point()
        # channels-last weights are stored in the standard order: the file must not depend on how they were last used
        cast[name] = tensor.to("cpu", tensor.dtype if keep else dtype).contiguous()
    split = split_torch_state_dict_into_shards(
        cast, filename_pattern=weights_name(variant), max_shard_size=max_shard_size
    )
    shards = split.filename_to_tensors or {weights_name(variant).format(suffix=""): []}
    for file, names in shards.items():
        # One metadata key only: the order of several is not reproducible.
        _save(_unshared({name: cast[name] for name in names}), folder / file)
    if split.is_sharded:
        index = {"metadata": {"total_size": split.metadata["total_size"]}, "weight_map": split.tensor_to_filename}
        text = json.dumps(index, indent=2, sort_keys=True) + "\n"
        (folder / shard_index_name(variant)).write_text(text, encoding="utf-8")


def _save(tensors: dict[str, Tensor], file: Path) -> None:
    """Write ``file``; what the system refuses is the OSError it is, which safetensors wraps in words of its own."""
    try:
        save_file(tensors, file, metadata={"format": "pt"})
    except SafetensorError as error:
        number = re.search(r"\(os error (\d+)\)", str(error))
        if number is None:
            raise
        raise OSError(int(number[1]), os.strerror(int(number[1]))) from None


def _unshared(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Tied tensors as copies, because the format stores no sharing and each name must load by itself."""
    seen: set[int] = set()
    out = {}
    for name, tensor in tensors.items():
        pointer = tensor.untyped_storage().data_ptr()
        out[name] = tensor.clone() if pointer in seen else tensor
        seen.add(pointer)
    return out


def inspect_weights(folder: Path, variant: str | None) -> WeightFiles:
    """Find and check the weight files of a component without reading a tensor.

    CheckpointError where one is missing, truncated, or not safetensors.
    """
    single = folder / weights_name(variant).format(suffix="")
    if single.exists():
        held = _read_header(single)
        return _weight_files({name: single for name in held}, held, single)
    index = folder / shard_index_name(variant)
    if not index.exists():
        raise CheckpointError(f"{single} is missing: {_other_variants(folder, variant) or RESTORE}.")
    weight_map = read_json(index).get("weight_map")
    if not isinstance(weight_map, dict) or not all(isinstance(v, str) for v in weight_map.values()):
        raise CheckpointError(f"{index} has no weight_map of tensor names to file names: {RESTORE}.")
    found: dict[str, _Entry] = {}
    for file in sorted(set(weight_map.values())):
        if Path(file).name != file:  # an index must not reach outside its folder
            raise CheckpointError(f"{index} points outside its folder ('{file}'): {RESTORE}.")
        held = _read_header(folder / file)
        listed = {name for name, where in weight_map.items() if where == file}
        if held.keys() != listed:
            name = min(held.keys() ^ listed)
            raise CheckpointError(f"{folder / file} and {index.name} disagree about tensor '{name}': {RESTORE}.")
        found.update(held)
    return _weight_files({name: folder / file for name, file in weight_map.items()}, found, index)


def _weight_files(file_of: dict[str, Path], held: dict[str, _Entry], main: Path) -> WeightFiles:
    dtypes = {dtype for _, dtype in held.values()} & _STORED.keys()
    dtype = _STORED[dtypes.pop()] if len(dtypes) == 1 else None
    return WeightFiles(file_of, {name: shape for name, (shape, _) in held.items()}, dtype, main)


def _other_variants(folder: Path, variant: str | None) -> str:
    found = set()
    for file in [*folder.glob("model*.safetensors"), *folder.glob("model.safetensors.index*.json")]:
        parts = file.name.replace("safetensors.index.", "").split(".")
        found.add(None if len(parts) == 2 else parts[1].split("-")[0])
    found.discard(variant)
    if not found:
        return ""
    return "pass " + " or ".join(f"variant={v!r}" for v in sorted(found, key=str)) + ", which it has"


def _read_header(file: Path) -> dict[str, _Entry]:
    """Names, shapes and types of the tensors; checks that the file is as long as its header says."""
    try:
        size = file.stat().st_size
        with file.open("rb") as stream:
            start = stream.read(8)
            length = struct.unpack("<Q", start)[0] if len(start) == 8 else 0
            raw = stream.read(length) if 2 <= length <= _HEADER_LIMIT else b""
    except FileNotFoundError:
        raise CheckpointError(f"{file} is missing: {RESTORE}.") from None
    except OSError as error:
        raise CheckpointError(f"{file} cannot be read ({error.strerror}): check its permissions.") from None
    if start[:7] == b"version":
        raise CheckpointError(f"{file} is a Git LFS pointer, not the weights: fetch them with `git lfs pull`.")
    if raw[:1] != b"{":
        raise CheckpointError(f"{file} is not a safetensors file: {RESTORE}.")
    if len(raw) < length:
        raise CheckpointError(f"{file} is truncated ({size} bytes, within its header): {RESTORE}.")
    try:
        header = json.loads(raw)
        header.pop("__metadata__", None)
        held = {name: (tuple(int(n) for n in entry["shape"]), str(entry["dtype"])) for name, entry in header.items()}
        expected = 8 + length + max((entry["data_offsets"][1] for entry in header.values()), default=0)
    except (ValueError, KeyError, TypeError, AttributeError, IndexError, OverflowError, RecursionError):
        raise CheckpointError(f"{file} is not a safetensors file (its header is damaged): {RESTORE}.") from None
    if size < expected:
        raise CheckpointError(f"{file} is truncated ({size} of {expected} bytes): {RESTORE}.")
    if size > expected:
        raise CheckpointError(f"{file} is damaged ({size} bytes instead of {expected}): {RESTORE}.")
    return held


def _finite(tensor: Tensor) -> bool:
    """Whether all is finite, without memory of its own: NaN is both extremes wherever it occurs."""
    return tensor.numel() == 0 or all(bool(extreme.isfinite()) for extreme in tensor.aminmax())


def read_weights(files: WeightFiles, *, dtype: torch.dtype | None, device: torch.device) -> dict[str, Tensor]:
    """Every tensor, on ``device``; floating point ones as ``dtype`` (None: as stored).

    Memory holds the result and one tensor besides.
    """
    state = {}
    for name, file in sorted(files.file_of.items()):
        try:
            # Opened for every tensor: pages of a mapped file count as the process's memory until it is closed.
            with safe_open(file, framework="pt", device="cpu") as stream:
                tensor = stream.get_tensor(name)
                keep = dtype is None or not tensor.is_floating_point()
                if tensor.is_floating_point() and not _finite(tensor):
                    raise CheckpointError(f"{file} holds NaN or infinity in tensor '{name}': {RESTORE}.")
                # Always a fresh allocation: a view of the mapped file is neither aligned (libraries then choose other
                # kernels, whose last bits differ) nor safe if the file changes.
                state[name] = tensor.to(device, tensor.dtype if keep else dtype, copy=True)
        except SafetensorError as error:
            raise CheckpointError(f"{file} is not a valid safetensors file ({error}): {RESTORE}.") from None
    return state
