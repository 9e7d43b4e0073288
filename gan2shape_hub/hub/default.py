"""Which checkpoint is meant where none is named."""

from __future__ import annotations

import os
from pathlib import Path

from .errors import CheckpointError
from .layout import INDEX

VARIABLE = "GAN2SHAPE_CHECKPOINT"
"""Environment variable: a folder or the id of a Hub repository."""
FOLDER = Path("checkpoints") / "face"
BESIDE = Path(__file__).resolve().parents[2]
"""Where the package lies: a clone of the repository, or among installed packages."""


def default_checkpoint() -> str:
    """What ``GAN2SHAPE_CHECKPOINT`` names, else ``checkpoints/face`` in the current folder or beside the package, as in
    a clone of the repository; CheckpointError says what to do where there is neither."""
    if named := os.environ.get(VARIABLE, "").strip():
        return named
    for place in (Path.cwd(), BESIDE):
        if (place / FOLDER / INDEX).is_file():
            return str(place / FOLDER)
    raise CheckpointError(
        f"no checkpoint was named and {FOLDER.as_posix()} is not here: give a folder or a Hub id as --checkpoint or in "
        f"{VARIABLE}, or work in a clone of the repository, which brings one."
    )
