"""Stopping a run from outside of it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from gan2shape_hub.errors import Cancelled

LOOK_EVERY_S = 0.05


class CancelToken:
    """Handed to a run, it stops it: ``token.cancel()`` from any thread ends ``pipeline(..., cancel=token)`` with
    ``Cancelled`` within a second. One token may stop several runs; a token that was used stays used."""

    def __init__(self) -> None:
        self._event = threading.Event()

    def cancel(self) -> None:
        self._event.set()

    @property
    def cancelled(self) -> bool:
        return self._event.is_set()

    def check(self) -> None:
        """Cancelled where somebody has asked for it."""
        if self.cancelled:
            raise Cancelled("cancelled from outside.")


class StopsBetweenOperations(TorchFunctionMode):
    """While entered, every operation of torch that this thread runs is a place to stop, by ``Cancelled``, as soon as
    ``stop_wanted()`` is true.

    Between two iterations, and before the first one and after the last, there may be seconds in which nobody asks: a
    full image and its gradient, a look for faces. Only the thread that enters it is watched, and no network is touched.
    """

    def __init__(self, stop_wanted: Callable[[], Any]) -> None:
        super().__init__()
        self._stop_wanted, self._looked = stop_wanted, 0.0

    def look(self) -> None:
        now = time.monotonic()
        if now - self._looked > LOOK_EVERY_S:
            self._looked = now
            if self._stop_wanted():
                raise Cancelled("cancelled from outside.")

    def __torch_function__(self, func: Callable, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        self.look()
        if func is not torch.Tensor.backward:
            return func(*args, **(kwargs or {}))
        with _WithinBackward(self.look):  # one call from here, hundreds of operations inside
            return func(*args, **(kwargs or {}))


class _WithinBackward(TorchDispatchMode):
    """Looks at every operation below autograd, which costs more: for backward passes alone."""

    def __init__(self, look: Callable[[], None]) -> None:
        super().__init__()
        self._look = look

    def __torch_dispatch__(self, func: Callable, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        self._look()
        return func(*args, **(kwargs or {}))


def place_to_stop() -> None:
    """Stops where a run is to stop, by ``Cancelled``: for loops that do without operations of torch."""
    torch.empty(0)


def stoppable(token: CancelToken | None) -> AbstractContextManager:
    """`StopsBetweenOperations` where there is a token; Cancelled where it was used before."""
    if token is None:
        return nullcontext()
    token.check()
    return StopsBetweenOperations(lambda: token.cancelled)
