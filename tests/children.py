"""Processes of their own for tests. A server imports what takes seconds once, and forks every child in milliseconds."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(
    [
        *("gan2shape_hub.pipeline", "gan2shape_hub.cli.reconstruct", "gan2shape_hub.training.program"),
        *("torch._dynamo", "torch.distributed.tensor"),  # which torch imports for the first optimizer and network
    ]
)


class Child:
    """``call(*arguments)``, both of which can be pickled, in a process with one thread and ``environment``."""

    def __init__(self, call: Callable[..., int], *arguments: object, environment: dict[str, str] | None = None) -> None:
        self._folder = tempfile.TemporaryDirectory()
        places = [Path(self._folder.name) / name for name in ("out", "err")]
        for place in places:
            place.touch()
        self.out, self.err = places
        self.process = CONTEXT.Process(target=_run, args=(places, environment or {}, call, arguments), daemon=True)
        self.process.start()

    def wait(self, timeout_s: float = 300.0) -> tuple[int, str, str]:
        """Exit code (minus the signal's number where one ended it), standard output and error."""
        self.process.join(timeout_s)
        if self.process.exitcode is None:
            self.process.kill()
            raise AssertionError(f"no end after {timeout_s} s: {self.err.read_text()}")
        said = self.process.exitcode, self.out.read_text(), self.err.read_text()
        self._folder.cleanup()
        return said


def _run(places: list[Path], environment: dict[str, str], call: Callable[..., int], arguments: tuple) -> None:
    for number, place in enumerate(places, start=1):
        file = os.open(place, os.O_WRONLY | os.O_APPEND)
        os.dup2(file, number)
        os.close(file)
    # A shell that runs the tests in the background has its children ignore Ctrl-C.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.environ.update(environment)

    import torch

    torch.set_num_threads(1)  # OpenMP's other threads do not live through a fork
    sys.exit(call(*arguments))
