"""What the command lines share."""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

PRESETS = "instant, fast, balanced or paper (default: the checkpoint's)"


def add_checkpoint(parser: argparse.ArgumentParser) -> None:
    """``--checkpoint``, of which ``hub.default_checkpoint`` is the default."""
    parser.add_argument(
        "--checkpoint", help="folder or Hub id (default: GAN2SHAPE_CHECKPOINT, or the folder checkpoints/face)"
    )


def check_output(folder: Path) -> None:
    """OSError in one sentence where ``folder`` cannot be written, before a run of minutes and not after it."""
    place = folder.absolute()
    while not place.exists() and place != place.parent:
        place = place.parent
    if not place.is_dir():
        raise OSError(f"cannot write '{folder}' ('{place}' is a file): choose another folder.")
    if not os.access(place, os.W_OK | os.X_OK):
        raise OSError(f"cannot write '{folder}' (no permission in '{place}'): choose a folder you may write to.")


def require(module: str, extra: str, what: str) -> None:
    """OSError in one sentence where ``module`` of the package's ``extra`` is not installed."""
    if find_spec(module) is None:
        raise OSError(f"{what} needs {module}: pip install 'gan2shape-hub[{extra}]'.")


@contextmanager
def progress(quiet: bool = False) -> Iterator[Callable[[float, str, str], None]]:
    """Gives ``show(fraction, what, detail="")``: one line of standard error that is written over.

    ``fraction`` 0..1 of everything is done, ``what`` says what a run does, ``detail`` (a count, a loss) changes often.
    Where standard error is no terminal there is a line when something else begins, and one at the end.
    """
    begun, terminal, last = time.monotonic(), sys.stderr.isatty(), ""

    def show(fraction: float, what: str, detail: str = "") -> None:
        nonlocal last
        if quiet:
            return
        line = f"{fraction:4.0%} {what} {detail}".rstrip()
        if terminal:
            left = (time.monotonic() - begun) * (1 / fraction - 1) if fraction else 0
            room = shutil.get_terminal_size().columns - 1
            sys.stderr.write(f"\r{f'{line}, {left:.0f} s left'[:room]:{room}}")
            sys.stderr.flush()
        elif what != last or fraction >= 1:
            print(line, file=sys.stderr, flush=True)
        last = what

    try:
        yield show
    finally:
        if last and terminal:
            print(file=sys.stderr)  # what comes next begins on a new line
