"""What the command lines share."""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from gan2shape_hub.plan import in_words

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


class Pace:
    """How fast something goes, which begins at its first fraction above 0: what comes before is no part of the pace."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._begun: tuple[float, float] | None = None

    def left(self, fraction: float) -> float | None:
        """Seconds left at ``fraction`` (0..1); None where too little was seen to say so, and at the end."""
        now = self._clock()
        if self._begun is None and fraction > 0:
            self._begun = now, fraction
        if self._begun is None or fraction >= 1:
            return None
        seconds, done = now - self._begun[0], fraction - self._begun[1]
        return seconds * (1 - fraction) / done if seconds >= 2 and done >= 0.03 else None


@contextmanager
def progress(quiet: bool = False) -> Iterator[Callable[[float, str, str], None]]:
    """Gives ``show(fraction, what, detail="")``: one line of standard error that is written over.

    ``fraction`` 0..1 of everything is done, ``what`` says what a run does, ``detail`` (a count, a loss) changes often.
    Where standard error is no terminal there is a line when something else begins, and one at the end. How long it
    takes is told once enough of it was seen to say so.
    """
    terminal, last, moving = sys.stderr.isatty(), "", Pace()

    def show(fraction: float, what: str, detail: str = "") -> None:
        nonlocal last
        if quiet:
            return
        line = f"{fraction:4.0%} {what} {detail}".rstrip()
        if terminal:
            left = moving.left(fraction)
            line += "" if left is None else f", about {in_words(left)} left"
            room = shutil.get_terminal_size().columns - 1
            sys.stderr.write(f"\r{line[:room]:{room}}")
            sys.stderr.flush()
        elif what != last or fraction >= 1:
            print(line, file=sys.stderr, flush=True)
        last = what

    try:
        yield show
    finally:
        if last and terminal:
            print(file=sys.stderr)  # what comes next begins on a new line
