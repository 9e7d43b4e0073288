"""The benchmark of identity: generated faces, relit and turned through the GAN, against the picture they came from.

The pipeline is passed in: this module only calls its public methods and those of the reconstruction it returns.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from PIL import Image

from gan2shape_hub.evaluation.identity import IdentityJudge, descriptor_distance
from gan2shape_hub.results.layout import Tile, page

LIGHTS = {
    "from the left": (1.0, 0.0),
    "from the right": (-1.0, 0.0),
    "from above": (0.0, 1.0),
    "from below": (0.0, -1.0),
    "from the upper left": (0.7, 0.7),
    "from the upper right": (-0.7, 0.7),
}
"""Directions (x, y) that the rays travel."""
YAWS_DEG = (-20.0, 20.0)


@dataclass(frozen=True)
class IdentityResult:
    """Distances of one face's edited pictures to its own picture; None where the judge found no face."""

    seed: int
    relit: dict[str, float | None]
    """By the name of the light."""
    turned: dict[str, float | None]
    """By the yaw in degrees."""

    def to_json(self) -> dict[str, Any]:
        return dataclasses.asdict(self)

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> IdentityResult:
        return cls(**values)


def measure_identity(
    pipeline: Any, judge: IdentityJudge, seed: int, preset: str | None, truncation: float
) -> tuple[IdentityResult, Image.Image]:
    """Reconstruct the generated face ``seed``, edit it and judge: the numbers, and a strip of pictures to look at."""
    sample = pipeline.sample(seed=seed, truncation=truncation)
    result = pipeline(sample, preset=preset, seed=0)
    own = judge.descriptor(sample.image)
    relit = result.relight(list(LIGHTS.values()), through_gan=True)
    turned = result.rotate(list(YAWS_DEG), through_gan=True)
    names = [*LIGHTS, *(f"{yaw:+g}" for yaw in YAWS_DEG)]
    far = [descriptor_distance(own, judge.descriptor(picture)) for picture in (*relit, *turned)]
    tiles = [Tile(f"seed {seed}", sample.image)]
    tiles += [Tile(f"{n}: {d:.2f}", p) for n, d, p in zip(names, far, (*relit, *turned), strict=True)]
    found = {name: d if math.isfinite(d) else None for name, d in zip(names, far, strict=True)}
    split = {lit: {n: d for n, d in found.items() if (n in LIGHTS) == lit} for lit in (True, False)}
    return IdentityResult(seed, relit=split[True], turned=split[False]), page([tiles], tile=192)


def summarise_identity(results: Sequence[IdentityResult], name: str) -> dict[str, Any]:
    """The report: mean and largest distance by light and by turn and over all of each; ``name`` heads its rows."""
    parts = {}
    for part in ("relit", "turned"):
        rows = [getattr(r, part) for r in results]
        parts[part] = {"all": _distances([d for row in rows for d in row.values()])}
        parts[part] |= {key: _distances([row[key] for row in rows]) for key in rows[0]}
    return {"name": name, "faces": len(results), "seeds": [r.seed for r in results], **parts}


def _distances(values: Sequence[float | None]) -> dict[str, Any]:
    found = [v for v in values if v is not None]
    return {
        "mean": sum(found) / len(found) if found else None,
        "max": max(found, default=None),
        "pictures": len(values),
        "lost": len(values) - len(found),
    }


def identity_tables(reports: Sequence[dict[str, Any]]) -> str:
    """Reports of `summarise_identity` as one Markdown table."""
    lines = [
        "| through the GAN | faces | mean distance | largest | pictures | without a face |",
        "|---|---|---|---|---|---|",
    ]
    for report in reports:
        for part, label in (("relit", "relit"), ("turned", "turned by")):
            for key, row in report[part].items():
                numbers = " | ".join("-" if row[k] is None else f"{row[k]:.2f}" for k in ("mean", "max"))
                what = f"{label} {key}" if key != "all" else f"{label.split()[0]}, all"
                lines.append(
                    f"| {report['name']}: {what} | {report['faces']} | {numbers} | {row['pictures']} | {row['lost']} |"
                )
    return "\n".join(lines)
