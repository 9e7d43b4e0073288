"""NumPy's scalars and arrays in pickles, read without NumPy's own constructors: stand-ins that hold numbers or nothing.

A pickle of NumPy's names a dtype, then a scalar of it or an array, whose bytes follow as its state. Only numbers are
read; an array of texts or objects becomes a record without a value, since no network is made of those.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor

KINDS = frozenset({"f2", "f4", "f8", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "b1"})
"""NumPy's names of the numbers that are read."""
SLACK = 4096
"""Single bytes are written once, however often they are there."""


class NumpyType:
    """Stands in for ``numpy.dtype``."""

    def __init__(self, name: str = "", *_: Any) -> None:
        self.name, self.order = name, "<"

    def __setstate__(self, state: Any) -> None:
        self.order = state[1] if state[1] in ("<", ">") else "<"

    @property
    def dtype(self) -> np.dtype | None:
        return np.dtype(self.order + self.name) if self.name in KINDS else None


class NumpyArray:
    """Stands in for ``numpy.ndarray``; ``value`` is None for what holds no numbers."""

    value: np.ndarray | None = None
    budget: list[int]
    """Bytes that the arrays of the file may still hold, all of them together."""

    def __setstate__(self, state: Any) -> None:
        _, shape, kind, fortran, data = state
        self.fill(data, kind, shape, "F" if fortran else "C")

    @cached_property
    def tensor(self) -> Tensor | None:
        """A copy, one however often a file names the array."""
        if self.value is None:
            return None
        return torch.from_numpy(self.value.astype(self.value.dtype.newbyteorder("=")))

    def fill(self, data: Any, kind: Any, shape: Any, order: str) -> None:
        """ValueError where the file's arrays hold more than the file: some bytes are then read again and again."""
        self.value = _array(data, kind, shape, order)
        self.budget[0] -= 0 if self.value is None else self.value.nbytes
        if self.budget[0] < 0:
            raise ValueError("the arrays hold more than the file")


class NumpyScalar:
    """Stands in for a scalar that is no number."""


def _array(data: Any, kind: Any, shape: Any, order: str) -> np.ndarray | None:
    """ValueError where the bytes are more or fewer than the shape says."""
    dtype = kind.dtype if isinstance(kind, NumpyType) else None
    if dtype is None or not isinstance(data, (bytes, bytearray, str)):
        return None
    data = data.encode("latin1") if isinstance(data, str) else data  # as Python 2 wrote them
    if len(data) != math.prod(shape) * dtype.itemsize:
        raise ValueError("an array has more or fewer bytes than its shape says")
    return np.frombuffer(data, dtype).reshape(shape, order=order)


def stand_ins(size: int) -> dict[tuple[str, str], Any]:
    """(module, name) -> the stand-in, for one file of ``size`` bytes: files may set attributes on what they get."""
    type_, array_, scalar_ = (type(base.__name__, (base,), {}) for base in (NumpyType, NumpyArray, NumpyScalar))
    array_.budget = [size + SLACK]

    def reconstruct(*_: Any) -> NumpyArray:
        return array_()

    def from_buffer(data: Any, kind: Any, shape: Any, order: str) -> NumpyArray:
        made = array_()
        made.fill(data, kind, shape, "F" if order == "F" else "C")
        return made

    def scalar(kind: Any, data: Any = b"") -> Any:
        found = _array(data, kind, (), "C")
        return scalar_() if found is None else found.item()

    def no_bytes() -> bytes:  # of an empty array, in the oldest protocols
        return b""

    known: dict[tuple[str, str], Callable[..., Any]] = {("numpy", "dtype"): type_, ("numpy", "ndarray"): array_}
    for core in ("numpy.core", "numpy._core"):
        known[f"{core}.multiarray", "_reconstruct"] = reconstruct
        known[f"{core}.multiarray", "scalar"] = scalar
        known[f"{core}.numeric", "_frombuffer"] = from_buffer
    return known | {("builtins", "bytes"): no_bytes, ("__builtin__", "bytes"): no_bytes}


def as_tensor(value: Any) -> Tensor | None:
    """A tensor or a `NumpyArray` of numbers as a tensor; None for anything else."""
    return value.tensor if isinstance(value, NumpyArray) else value if isinstance(value, Tensor) else None
