"""What is known of a finished run: enough to repeat it, and to judge it."""

from __future__ import annotations

import dataclasses
import platform
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch

from gan2shape_hub.config import ScheduleConfig
from gan2shape_hub.run import StepRecord
from gan2shape_hub.version import __version__


def versions() -> dict[str, str]:
    """Of this package, of PyTorch and of Python."""
    return {"gan2shape_hub": __version__, "torch": torch.__version__, "python": platform.python_version()}


@dataclass(frozen=True)
class InputReport:
    """What was reconstructed: a sample (``sample_seed``, ``truncation``), a ``latent``, or a photograph (the rest)."""

    sample_seed: int | None = None
    truncation: float | None = None
    latent: list[Any] | None = None
    """Nested lists of shape (1, D) or (1, L, D)."""
    image: str | None = None
    """The photograph's path; None where it came as pixels."""
    faces: int | None = None
    """How many faces the photograph shows."""
    square: tuple[float, ...] | None = None
    """The six numbers of ``Alignment.matrix``, row by row."""


POOR_DB = 18.0
"""Below it the generator's picture of a photograph shows something else, where faces cannot be compared."""


@dataclass(frozen=True)
class RunReport:
    """One image's report; the images of a joint run share all but ``input``, ``psnr_db``, ``unlikeness`` and
    ``number``."""

    category: str
    preset: str
    """A name of the checkpoint's, or "custom"."""
    seed: int | None
    """None where a generator was given in its place."""
    mixed_precision: str
    schedule: ScheduleConfig
    device: str
    steps: tuple[StepRecord, ...]
    """In order; losses are those of a step's first and last iteration."""
    seconds: float
    """Of the whole run."""
    input: InputReport = field(default_factory=InputReport)
    psnr_db: float | None = None
    """Of the generator's picture against the photograph; None for a latent, which is exact."""
    unlikeness: float | None = None
    """How far the photograph's face and the generator's are apart (``models/likeness.py``); None: not known."""
    number: int = 1
    """Which image of a joint run this is, from 1 to ``images``."""
    images: int = 1
    versions: Mapping[str, str] = field(default_factory=versions)
    checkpoint: str | None = None
    """Where the networks came from, as far as the caller says so."""
    warnings: tuple[str, ...] = ()
    """What the caller was warned of, as far as it says so."""

    def shows_another(self, unlike_limit: float) -> bool:
        """Whether the generator's picture of the photograph shows somebody else: by its face (``unlikeness`` in 0..2
        against the limit), where faces can be compared, else by its PSNR."""
        if self.unlikeness is not None:
            return self.unlikeness > unlike_limit
        return self.psnr_db is not None and self.psnr_db < POOR_DB

    def to_dict(self) -> dict[str, Any]:
        """The content of result.json: plain values, the input's beside the others; what does not apply is left out."""
        told = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        given, number, images = told.pop("input"), told.pop("number"), told.pop("images")
        told["schedule"] = dataclasses.asdict(self.schedule)
        told["steps"] = [dataclasses.asdict(step) for step in self.steps]
        told["versions"] = dict(self.versions)
        told["warnings"] = list(self.warnings)
        told |= {"joint": {"image": number, "images": images} if images > 1 else None, **dataclasses.asdict(given)}
        always = {f.name for f in dataclasses.fields(self)} - {"checkpoint", "warnings", "unlikeness"}
        return {name: value for name, value in told.items() if name in always or value not in (None, [])}
