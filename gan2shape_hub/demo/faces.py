"""The faces that the page offers, each with its result, which was made beforehand (scripts/make_examples.py)."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from gan2shape_hub.typed_json import from_dict

FOLDER = Path(__file__).parent / "examples"


@dataclass(frozen=True)
class Face:
    """A photograph beside the list, or a seed of the generator, and where its result is."""

    name: str
    words: str
    """Who it is."""
    licence: str
    photograph: str = ""
    seed: int = 0
    tuned: bool = False
    """Whether the generator was adapted to the photograph."""

    def file(self, kind: str) -> str:
        """Name of a file of its result: "jpg" (the square), "glb" (textured) or "shape.glb" (bare)."""
        return f"{self.name}{'-' if '.' in kind else '.'}{kind}"


@dataclass(frozen=True)
class Faces:
    """The whole list, and what its results were made with."""

    made: str
    checkpoint: str
    preset: str
    faces: tuple[Face, ...]

    def named(self, name: str) -> Face:
        """The first one where nobody has that name."""
        return next((face for face in self.faces if face.name == name), self.faces[0])

    def told(self, face: Face) -> str:
        """How its result was made."""
        adapted = ", adapted to the person" if face.tuned else ""
        return f"Made beforehand with the preset {self.preset}{adapted}"


def load() -> Faces:
    return from_dict(Faces, json.loads((FOLDER / "faces.json").read_text(encoding="utf-8")))
