"""The caller's settings of torch, put aside while this package works and given back as they were."""

from __future__ import annotations

import functools
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from types import FunctionType
from typing import ParamSpec, TypeVar

import torch
from torch import nn

P, T = ParamSpec("P"), TypeVar("T")
LOADED_IN = os.getpid()
"""The process that loaded this module; another one was forked from it."""


@contextmanager
def own_surroundings() -> Iterator[None]:
    """Gradients on, no inference mode, no autocast, float32 and the CPU as defaults, whatever the caller has set; one
    thread in a process that was forked, where waiting for the others of OpenMP, which were not, never ends."""
    with ExitStack() as stack:
        if os.getpid() != LOADED_IN and (threads := torch.get_num_threads()) > 1:
            torch.set_num_threads(1)
            stack.callback(torch.set_num_threads, threads)
        stack.enter_context(torch.inference_mode(False))
        stack.enter_context(torch.enable_grad())
        for kind in ("cpu", "cuda", "mps", "xpu"):
            if torch.is_autocast_enabled(kind):
                stack.enter_context(torch.autocast(kind, enabled=False))
        if torch.get_default_device().type != "cpu":
            stack.enter_context(torch.device("cpu"))
        stack.enter_context(_single_precision)
        yield


class _SinglePrecision:
    """float32 as the default, which all threads share: the first one in sets it, the last one out gives it back."""

    def __init__(self) -> None:
        self._lock, self._inside, self._before = threading.Lock(), 0, torch.float32

    def __enter__(self) -> None:
        with self._lock:
            if self._inside == 0:
                self._before = torch.get_default_dtype()
                torch.set_default_dtype(torch.float32)
            self._inside += 1

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._inside -= 1
            if self._inside == 0:
                torch.set_default_dtype(self._before)


_single_precision = _SinglePrecision()


def in_own_surroundings(function: Callable[P, T]) -> Callable[P, T]:
    """``function`` under `own_surroundings`."""

    @functools.wraps(function)
    def inner(*args: P.args, **kwargs: P.kwargs) -> T:
        with own_surroundings():
            return function(*args, **kwargs)

    return inner


def class_in_own_surroundings(cls: type[T]) -> type[T]:
    """``cls`` with all its public methods and properties under `own_surroundings`; the same class."""
    for name, member in list(vars(cls).items()):
        if name.startswith("_"):
            continue
        if isinstance(member, property):
            setattr(cls, name, property(in_own_surroundings(member.fget), doc=member.__doc__))
        elif isinstance(member, functools.cached_property):
            wrapped = functools.cached_property(in_own_surroundings(member.func))
            wrapped.__set_name__(cls, name)
            setattr(cls, name, wrapped)
        elif isinstance(member, FunctionType):
            setattr(cls, name, in_own_surroundings(member))
    return cls


def ordinary_(module: nn.Module) -> nn.Module:
    """``module`` with ordinary tensors in the place of such as were made in inference mode, which nothing can be
    differentiated through; the same module."""
    for part in module.modules():
        for name, parameter in part._parameters.items():
            if parameter is not None and parameter.is_inference():
                part._parameters[name] = nn.Parameter(parameter.detach().clone(), parameter.requires_grad)
        for name, buffer in part._buffers.items():
            if buffer is not None and buffer.is_inference():
                part._buffers[name] = buffer.clone()
    return module
