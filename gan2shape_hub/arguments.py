"""What people hand over and ask for, checked: numbers of Python, NumPy or torch, paths, optional packages."""

from __future__ import annotations

import math
import operator
import os
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from gan2shape_hub.errors import MissingPackage


def whole(value: Any, name: str, low: int, high: int) -> int:
    """``value`` as an int in ``low`` .. ``high``; else ValueError, one sentence that calls it ``name``."""
    try:
        number = operator.index(plain(value))
    except TypeError:
        raise ValueError(f"{name} is {value!r}, must be a whole number.") from None
    if not low <= number <= high:
        raise ValueError(f"{name} is {number}, must be between {low} and {high}.")
    return number


def finite(value: Any, name: str) -> float:
    """``value`` as a finite float; else ValueError, one sentence that calls it ``name``."""
    try:
        if isinstance(value, (str, bytes)):
            raise TypeError
        number = float(plain(value))
    except (TypeError, ValueError, OverflowError):
        raise ValueError(f"{name} is {value!r}, must be a number.") from None
    if not math.isfinite(number):
        raise ValueError(f"{name} is {number}, must be a finite number.")
    return number


def is_many(value: Any) -> bool:
    """Whether ``value`` holds several things: a list, a tuple, a range, an array or a tensor; no text."""
    if isinstance(value, (str, bytes)):
        return False
    return getattr(value, "ndim", 0) > 0 if hasattr(value, "ndim") else hasattr(value, "__iter__")


def plain(value: Any) -> Any:
    """Arrays and tensors as the lists and numbers that they hold; all else as it is."""
    return value.tolist() if hasattr(value, "tolist") else value


def require(module: str, extra: str, what: str) -> None:
    """MissingPackage where ``what`` needs ``module``, of this package's ``extra``, and it is not installed."""
    if find_spec(module) is None:
        raise MissingPackage(f"{what} needs {module}: pip install 'gan2shape-hub[{extra}]'.")


def user_path(path: str | os.PathLike) -> Path:
    """``path`` with ``~`` and ``~name`` as the home folders that they mean, where there are such."""
    try:
        return Path(path).expanduser()
    except RuntimeError:  # no such user: the name of a file, then
        return Path(path)


def listed(image: Any) -> list[Any]:
    """What the pipeline was given, as a list."""
    return list(image) if isinstance(image, (list, tuple)) else [image]
