"""NumPy's scalars and arrays in pickles, read without NumPy's own constructors: stand-ins that hold numbers or nothing.

A pickle of NumPy's names a dtype, then a scalar of it or an array, whose bytes follow as its state. Only numbers are
read; an array of texts or objects becomes a record without a value, since no network is made of those.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

KINDS = frozenset({"f2", "f4", "f8", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "b1"})
"""NumPy's names of the numbers that are read."""


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

    def __setstate__(self, state: Any) -> None:
        _, shape, kind, fortran, data = state
        self.value = _array(data, kind, shape, "F" if fortran else "C")


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


def stand_ins() -> dict[tuple[str, str], Any]:
    """(module, name) -> the stand-in, fresh ones at every call: a file may set attributes on what it is handed."""
    type_, array_, scalar_ = (type(base.__name__, (base,), {}) for base in (NumpyType, NumpyArray, NumpyScalar))

    def reconstruct(*_: Any) -> NumpyArray:
        return array_()

    def from_buffer(data: Any, kind: Any, shape: Any, order: str) -> NumpyArray:
        made = array_()
        made.value = _array(data, kind, shape, "F" if order == "F" else "C")
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
    if isinstance(value, NumpyArray) and value.value is not None:
        return torch.from_numpy(value.value.astype(value.value.dtype.newbyteorder("=")))
    return value if isinstance(value, Tensor) else None
