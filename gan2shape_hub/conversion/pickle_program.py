"""What a pickle would do, looked at before it does it: how many steps, and how much they could cost.

A few hundred bytes may ask for gigabytes, or for hours: tuples of twice the same tuple, thirty levels deep, whose hash
visits a billion; a place in the memo far behind its end; texts longer than the file. Nothing is built here.
"""

from __future__ import annotations

import io
import pickletools
import zipfile
from pathlib import Path
from typing import BinaryIO

from .verify import ConversionError

STEPS = 2_000_000
"""Of a pickle at most; those of networks have some ten thousand."""
TUPLE = 200
"""Values that a tuple holds at most, counted through the tuples in it."""
_CALLS = frozenset({"REDUCE", "BUILD", "NEWOBJ", "NEWOBJ_EX", "OBJ", "INST", "EXT1", "EXT2", "EXT4"})
_TUPLES = frozenset({"TUPLE", "TUPLE1", "TUPLE2", "TUPLE3", "FROZENSET"})
_LEGACY_PICKLES = 5
"""Pickles that a file begins with as ``torch.save`` wrote it before it wrote archives: magic number, protocol, system,
the object, names of the storages."""


class _Bounded:
    """A stream that is asked for no more than there is."""

    def __init__(self, stream: BinaryIO, size: int) -> None:
        self._stream, self._size, self.readline = stream, size, stream.readline
        self.tell = stream.tell

    def read(self, count: int = -1) -> bytes:
        if count > self._size - self._stream.tell():
            raise EOFError
        return self._stream.read(count)


def check_program(stream: BinaryIO, size: int, *, calls: bool = True) -> None:
    """Read one pickle of ``stream``, whose whole size is ``size`` bytes, and build nothing.

    Args:
        calls: whether it may call anything; what holds numbers alone does not.

    Raises:
        ConversionError: it is too long, nests too much, or calls something. What is damaged raises any exception.
    """
    weights: list[int | None] = []  # of what lies on the stack; None: a mark
    memo: dict[int, int | None] = {}
    for step, (code, argument, _) in enumerate(pickletools.genops(_Bounded(stream, size))):
        name = code.name
        if step >= STEPS or (isinstance(argument, int) and "PUT" in name and argument > STEPS):
            raise ConversionError("it is a pickle of more steps than any network has.")
        if name == "FRAME" and argument > size:
            raise EOFError
        if not calls and name in _CALLS:
            raise ConversionError("tensor data in it holds something that is no tensor.")
        if name in ("PUT", "BINPUT", "LONG_BINPUT", "MEMOIZE"):
            memo[len(memo) if name == "MEMOIZE" else int(argument)] = weights[-1]
            continue
        if name in ("GET", "BINGET", "LONG_BINGET"):
            weights.append(memo[int(argument)])
            continue
        if name == "DUP":
            weights.append(weights[-1])
            continue
        taken = _take(weights, code)
        if pickletools.markobject in code.stack_after:
            weights.append(None)
        elif code.stack_after:
            held = sum(taken) if name in _TUPLES else 0
            if held > TUPLE:
                raise ConversionError("it nests tuples as no network does.")
            weights.append(1 + held)


def _take(weights: list[int | None], code: pickletools.OpcodeInfo) -> list[int]:
    """Take off the stack what ``code`` takes."""
    single, taken = list(code.stack_before), []
    if pickletools.markobject in single:
        single = single[: single.index(pickletools.markobject)]
        while (weight := weights.pop()) is not None:
            taken.append(weight)
    for _ in single:
        taken.append(weights.pop() or 0)
    return taken


def check_storage(data: bytes) -> None:
    """ConversionError unless ``data`` is one storage as torch pickles it inside of other pickles."""
    stream = io.BytesIO(data)
    try:
        for _ in range(_LEGACY_PICKLES):
            check_program(stream, len(data), calls=False)
    except ConversionError:
        raise
    except Exception:
        raise ConversionError("tensor data in it holds something that is no tensor.") from None


def check_torch_file(path: Path) -> None:
    """ConversionError where a ``torch.save`` file, archive or older, could cost more than its size says. What is
    damaged, or no such file at all, is left to who reads it."""
    try:
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:
                if any(member.compress_type != zipfile.ZIP_STORED for member in archive.infolist()):
                    raise ConversionError("it is compressed, which torch.save does not do: save it again.")
                for name in archive.namelist():
                    if name.endswith("/data.pkl"):
                        data = archive.read(name)
                        check_program(io.BytesIO(data), len(data))
        else:
            with path.open("rb") as stream:
                for _ in range(_LEGACY_PICKLES):
                    check_program(stream, path.stat().st_size)
    except ConversionError:
        raise
    except Exception:  # damaged files raise anything
        return
