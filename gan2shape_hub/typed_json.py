"""Frozen dataclasses from and to plain JSON data, checked: what is malformed is a ConfigError that names the key."""

from __future__ import annotations

import dataclasses
import types
import typing
from typing import Any

from gan2shape_hub.errors import ConfigError


def check(ok: bool, name: str, value: Any, allowed: str) -> None:
    """ConfigError unless ``ok``."""
    if not ok:
        raise ConfigError(f"{name} is {value}, must be {allowed}.")


def choice(name: str, value: str, allowed: tuple[str, ...]) -> None:
    """ConfigError unless ``value`` is one of ``allowed``."""
    check(value in allowed, name, repr(value), f"one of {', '.join(allowed)}")


def from_dict(cls: type, data: Any, where: str = "") -> Any:
    """Build the dataclass ``cls`` from plain JSON data; unknown keys, missing keys and wrong types are ConfigErrors."""
    if not isinstance(data, dict):
        raise ConfigError(f"{where or cls.__name__} must be an object, got {type(data).__name__}.")
    fields = {f.name: f for f in dataclasses.fields(cls)}
    hints = typing.get_type_hints(cls)
    for key in data:
        if key not in fields:
            raise ConfigError(f"unknown key '{_join(where, key)}': known keys are {', '.join(sorted(fields))}.")
    for name, f in fields.items():
        has_default = f.default is not dataclasses.MISSING or f.default_factory is not dataclasses.MISSING
        if name not in data and not has_default:
            raise ConfigError(f"missing key '{_join(where, name)}'.")
    return cls(**{key: _coerce(hints[key], value, _join(where, key)) for key, value in data.items()})


def _coerce(hint: Any, value: Any, where: str) -> Any:
    origin = typing.get_origin(hint)
    if dataclasses.is_dataclass(hint):
        return from_dict(hint, value, where)
    if origin in (types.UnionType, typing.Union):
        if value is None and type(None) in typing.get_args(hint):
            return None
        return _coerce(next(h for h in typing.get_args(hint) if h is not type(None)), value, where)
    if origin is tuple:
        args = typing.get_args(hint)
        if not isinstance(value, (list, tuple)):
            raise ConfigError(f"'{where}' must be a list, got {value!r}.")
        if args[-1] is Ellipsis:
            return tuple(_coerce(args[0], v, f"{where}[{i}]") for i, v in enumerate(value))
        if len(value) != len(args):
            raise ConfigError(f"'{where}' must have {len(args)} values, got {len(value)}.")
        return tuple(_coerce(a, v, f"{where}[{i}]") for i, (a, v) in enumerate(zip(args, value, strict=True)))
    if origin is dict:
        if not isinstance(value, dict):
            raise ConfigError(f"'{where}' must be an object, got {value!r}.")
        return {k: _coerce(typing.get_args(hint)[1], v, _join(where, k)) for k, v in value.items()}
    if hint is float and isinstance(value, (int, float)) and not isinstance(value, bool):
        if not -1e300 < value < 1e300:  # NaN compares false
            raise ConfigError(f"'{where}' must be a finite number, got {str(value)[:20]}.")
        return float(value)
    if hint in (int, str, bool) and type(value) is hint:
        return value
    raise ConfigError(f"'{where}' must be of type {getattr(hint, '__name__', hint)}, got {value!r}.")


def _join(where: str, key: str) -> str:
    return f"{where}.{key}" if where else key
