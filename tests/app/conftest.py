"""The end of a run that had a server, a browser and worker threads in it."""

from __future__ import annotations

import os
import sys

_STATUS: list[int] = []


def pytest_sessionfinish(session, exitstatus) -> None:
    _STATUS.append(int(exitstatus))


def pytest_unconfigure(config) -> None:
    """Leave at once with pytest's own status: a worker thread inside a library while the interpreter is taken down ends
    the process with an abort, whatever the tests said."""
    if _STATUS and "playwright" in sys.modules:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(_STATUS[-1])
