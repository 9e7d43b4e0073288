"""The benchmark on a real head: one scan, photographed from several sides, on two backgrounds and under two lights.

The pipeline is passed in: this module only calls it and the public methods of the reconstruction it returns.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from PIL import Image

from gan2shape_hub.errors import InputError
from gan2shape_hub.evaluation.scan import GREY, SIDE_LIGHT, WHITE, Scan, ScanScore, photograph, score
from gan2shape_hub.results.image_files import depth_to_pil, to_pil
from gan2shape_hub.results.layout import Tile, page

YAWS_DEG = (-30.0, -17.0, 0.0, 17.0, 30.0)
BACKGROUNDS = {"grey": GREY, "white": WHITE}
LIGHTS = {"as photographed": None, "from the side": SIDE_LIGHT}
COLUMNS = (
    ("mad_fitted_deg", "MAD after scale and tilt", 1),
    ("mad_deg", "MAD, degrees", 1),
    ("rmse_percent", "RMSE, % of the face's width", 2),
    ("correlation", "correlation", 3),
    ("scale", "scale", 2),
    ("side", "SIDE x 100", 3),
)


@dataclass(frozen=True)
class Shot:
    """How one picture of the scan is taken; names are keys of BACKGROUNDS and LIGHTS."""

    yaw_deg: float
    background: str
    light: str

    @property
    def name(self) -> str:
        return f"yaw {self.yaw_deg:+g}, {self.background}, {self.light}"


SHOTS = tuple(Shot(yaw, ground, light) for light in LIGHTS for ground in BACKGROUNDS for yaw in YAWS_DEG)
GROUPS: dict[str, Callable[[Shot], bool]] = {
    "all": lambda shot: True,
    "yaw 0 and +17, as photographed": lambda shot: shot.yaw_deg in (0, 17) and LIGHTS[shot.light] is None,
    **{f"on {name}": (lambda shot, name=name: shot.background == name) for name in BACKGROUNDS},
    **{f"lit {name}": (lambda shot, name=name: shot.light == name) for name in LIGHTS},
    "turned by 30": lambda shot: abs(shot.yaw_deg) == 30,
}
"""Pictures that have means of their own."""


@dataclass(frozen=True)
class ShotResult:
    """One reconstructed picture of the scan."""

    shot: Shot
    seconds: float
    cpu_seconds: float
    """Of the processor, over all threads: what the time says on a machine that does other work too."""
    psnr_db: float | None
    """Of the inversion."""
    score: ScanScore | None
    """None where the picture could not be used or the result does not show the face."""
    problem: str | None = None
    """Why there is no score."""

    def to_json(self) -> dict[str, Any]:
        """Plain numbers, strings and None; `from_json` undoes it."""
        return dataclasses.asdict(self)

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> ShotResult:
        found = None if values["score"] is None else ScanScore(**values["score"])
        return cls(**{**values, "shot": Shot(**values["shot"]), "score": found})


def measure_shot(pipeline: Any, scan: Scan, shot: Shot, preset: str | None) -> tuple[ShotResult, Image.Image]:
    """Photograph ``scan``, reconstruct the picture and judge it: the numbers, and a strip of pictures to look at."""
    picture = photograph(scan, shot.yaw_deg, BACKGROUNDS[shot.background], LIGHTS[shot.light])
    tiles = [Tile(shot.name, picture.image), Tile("true depth", depth_to_pil(picture.depth))]
    begun = time.perf_counter(), time.process_time()
    result, found, problem = None, None, None
    try:
        result = pipeline(picture.image, preset=preset)
    except InputError as error:
        problem = str(error)
    seconds, cpu_seconds = time.perf_counter() - begun[0], time.process_time() - begun[1]
    if result is not None:
        try:
            found = score(result, picture)
        except ValueError as error:
            problem = str(error)
        tiles += [
            Tile("aligned", to_pil(result.source)),
            Tile("depth", depth_to_pil(result.view_depth, result.mask)),
            Tile("shape", result.render(shaded_only=True, size=256)),
            Tile("turned by 40", result.render(yaw_deg=40, shaded_only=True, size=256)),
            Tile("turned by -40", result.render(yaw_deg=-40, shaded_only=True, size=256)),
        ]
    quality = None if result is None else result.inversion_db
    numbers = ShotResult(shot, round(seconds, 1), round(cpu_seconds, 1), quality, found, problem)
    return numbers, page([tiles], tile=192)


def summarise_scan(results: Sequence[ShotResult], name: str) -> dict[str, Any]:
    """The report of ``results``: every picture, and means over those of GROUPS that were taken; ``name`` heads it."""
    means = {}
    for group, belongs in GROUPS.items():
        scores = [r.score for r in results if r.score is not None and belongs(r.shot)]
        taken = sum(belongs(r.shot) for r in results)
        if scores:
            values = {f.name: [getattr(s, f.name) for s in scores] for f in dataclasses.fields(ScanScore)}
            means[group] = {"pictures": taken, "lost": taken - len(scores)}
            means[group] |= {key: sum(column) / len(column) for key, column in values.items()}
    cpu = sum(r.cpu_seconds for r in results) / len(results)
    return {"name": name, "pictures": [r.to_json() for r in results], "means": means, "cpu_seconds": cpu}


def scan_tables(reports: Sequence[dict[str, Any]]) -> str:
    """Means of every report of `summarise_scan` as one Markdown table, then every picture in a table a report."""
    head = ("", "pictures", *(label for _, label, _ in COLUMNS))
    rows = [
        (f"{report['name']}: {group}", str(means["pictures"]), *_numbers(means))
        for report in reports
        for group, means in report["means"].items()
    ]
    parts = [_table(head, rows)]
    for report in reports:
        rows = [
            (Shot(**p["shot"]).name, "-" if p["psnr_db"] is None else f"{p['psnr_db']:.1f}", *_numbers(p["score"]))
            for p in report["pictures"]
        ]
        parts.append(_table((f"{report['name']}: picture", "inversion, dB", *head[2:]), rows))
    return "\n\n".join(parts)


def _numbers(values: dict[str, Any] | None) -> tuple[str, ...]:
    return tuple("-" if values is None else f"{values[key]:.{digits}f}" for key, _, digits in COLUMNS)


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    return "\n".join("| " + " | ".join(line) + " |" for line in (head, ("---",) * len(head), *rows))
