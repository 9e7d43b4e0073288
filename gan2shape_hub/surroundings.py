"""The caller's settings of torch, put aside while this package works and given back as they were."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import ParamSpec, TypeVar

import torch
from torch import nn

P, T = ParamSpec("P"), TypeVar("T")


@contextmanager
def own_surroundings() -> Iterator[None]:
    """Gradients on, no inference mode, no autocast, float32 and the CPU as defaults, whatever the caller has set."""
    dtype = torch.get_default_dtype()
    with ExitStack() as stack:
        stack.enter_context(torch.inference_mode(False))
        stack.enter_context(torch.enable_grad())
        for kind in ("cpu", "cuda", "mps", "xpu"):
            if torch.is_autocast_enabled(kind):
                stack.enter_context(torch.autocast(kind, enabled=False))
        if torch.get_default_device().type != "cpu":
            stack.enter_context(torch.device("cpu"))
        if dtype != torch.float32:
            stack.callback(torch.set_default_dtype, dtype)
            torch.set_default_dtype(torch.float32)
        yield


def in_own_surroundings(function: Callable[P, T]) -> Callable[P, T]:
    """``function`` under `own_surroundings`."""

    @functools.wraps(function)
    def inner(*args: P.args, **kwargs: P.kwargs) -> T:
        with own_surroundings():
            return function(*args, **kwargs)

    return inner


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
