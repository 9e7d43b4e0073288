"""How well pictures are found again in the generator, and whether they can still be turned (``scripts/evaluate.py``).

Only what inversion does is measured: the shape comes from the pretrained networks as they are, without refinement. The
pipeline is passed in; this module calls its public methods and those of the reconstruction it returns.
"""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from PIL import Image

from gan2shape_hub.config import RoundConfig, ScheduleConfig
from gan2shape_hub.evaluation.depth_metrics import psnr_db
from gan2shape_hub.evaluation.edits import Turn, summarise_turns
from gan2shape_hub.evaluation.face_protocol import as_tensor
from gan2shape_hub.evaluation.facemesh import FaceMesh
from gan2shape_hub.evaluation.head_pose import head_pose, turn_deg
from gan2shape_hub.results.image_files import to_pil
from gan2shape_hub.results.layout import Tile, page

YAWS_DEG = (-25.0, -12.5, 0.0, 12.5, 25.0)


@dataclass(frozen=True)
class Inverted:
    """One picture. PSNRs in dB at the sheet's size, of the whole generator's picture of the latent."""

    name: str
    psnr_db: float
    object_db: float
    """Where the object mask is above 0.5."""
    tuned_db: float | None
    """After pivotal tuning; None where it was not asked for."""
    seconds: float
    cpu_seconds: float
    """Of the processor, over all threads: what the time says on a machine that does other work too."""
    tuned_seconds: float | None
    tuned_cpu_seconds: float | None
    """Inversion and tuning together."""
    turns: tuple[Turn, ...]
    """Turned through the GAN, judged against the picture; empty where the judge found no face in it."""
    known: tuple[Turn, ...] = ()
    """The same turns from the latent that made the picture: what can be hoped for. Empty for photographs."""

    def to_json(self) -> dict[str, Any]:
        return dataclasses.asdict(self)

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> Inverted:
        turns = {name: tuple(Turn(**t) for t in values[name]) for name in ("turns", "known")}
        return cls(**{**values, **turns})


def inversion_only(schedule: ScheduleConfig) -> ScheduleConfig:
    """``schedule`` without a step that changes the networks."""
    return dataclasses.replace(schedule, rounds=(RoundConfig(0, 0, 0),))


def measure_inversion(
    pipeline: Any,
    mesh: FaceMesh,
    name: str,
    picture: Image.Image,
    preset: str | None,
    *,
    sample: Any = None,
    tuned: bool = False,
    yaws_deg: Sequence[float] = YAWS_DEG,
) -> tuple[Inverted, Image.Image]:
    """Find ``picture`` in the generator: the numbers, and a strip of pictures to look at.

    Args:
        picture: a photograph, aligned by the pipeline; or the image of ``sample``, taken as it is.
        preset: whose iterations are run; None: the checkpoint's default.
        sample: the Sample that the picture is of, whose latent is turned for comparison.
        tuned: also measure pivotal tuning.
    """
    schedule = inversion_only(pipeline.config.schedule(preset))
    begun = _clocks()
    result = pipeline(picture, preset=schedule, align=sample is None)
    seconds, cpu_seconds = _since(begun)
    mark = mesh.landmarks(result.source)
    start = math.nan if mark is None else head_pose(mark)[0]
    tiles = [Tile(name, to_pil(result.source)), Tile(f"inverted, {result.inversion_db:.1f} dB", result.inverted)]

    def turned(reconstruction: Any) -> tuple[tuple[Turn, ...], list[Image.Image]]:
        if mark is None:
            return (), []
        pictures = [reconstruction.rotate(yaw, through_gan=True) for yaw in yaws_deg]
        found = [mesh.landmarks(as_tensor(p)) for p in pictures]
        measured = [None if f is None else turn_deg(mark, f)[0] for f in found]
        return tuple(Turn(y, m, start) for y, m in zip(yaws_deg, measured, strict=True)), pictures

    turns, pictures = turned(result)
    shown = (0, len(yaws_deg) - 1)
    tiles += [Tile(_turn_label(turns[i]), pictures[i]) for i in shown if pictures]
    known: tuple[Turn, ...] = ()
    if sample is not None:
        known, _ = turned(pipeline(sample, preset=schedule))
    tuned_db, tuned_seconds, tuned_cpu = None, None, None
    if tuned:
        begun = _clocks()
        closer = pipeline(picture, preset=schedule, align=sample is None, tuned=True)
        tuned_seconds, tuned_cpu = _since(begun)
        tuned_db = closer.inversion_db
        tiles.append(Tile(f"tuned, {tuned_db:.1f} dB", closer.inverted))
        tiles.append(Tile("tuned, yaw +25°", closer.rotate(25.0, through_gan=True)))
    small = _small(result.inverted, result.image.shape[-1])
    inside = F.interpolate(result.object_mask[None, None].cpu(), small.shape[-2:], mode="area")[0, 0].gt(0.5).float()
    numbers = Inverted(
        name=name,
        psnr_db=result.inversion_db,
        object_db=round(psnr_db(small, result.image.cpu(), inside), 2),
        tuned_db=tuned_db,
        seconds=seconds,
        cpu_seconds=cpu_seconds,
        tuned_seconds=tuned_seconds,
        tuned_cpu_seconds=tuned_cpu,
        turns=turns,
        known=known,
    )
    return numbers, page([tiles], tile=192)


def summarise_inversion(generated: Sequence[Inverted], photographs: Sequence[Inverted]) -> dict[str, Any]:
    """The report: means over generated faces, every photograph by name. NaN becomes None."""
    report: dict[str, Any] = {}
    if generated:
        values = torch.tensor([r.psnr_db for r in generated])
        report["generated"] = {
            "faces": len(generated),
            "names": [r.name for r in generated],
            "psnr_db": {
                "mean": float(values.mean()),
                "min": float(values.min()),
                "std": float(values.std(correction=0)),
            },
            "object_db": sum(r.object_db for r in generated) / len(generated),
            "seconds": sum(r.seconds for r in generated) / len(generated),
            "cpu_seconds": sum(r.cpu_seconds for r in generated) / len(generated),
            "rotation": _rotation([t for r in generated for t in r.turns]),
            "rotation_known": _rotation([t for r in generated for t in r.known]),
        }
    if photographs:
        report["photographs"] = [
            {**{k: v for k, v in r.to_json().items() if k not in ("turns", "known")}, "rotation": _rotation(r.turns)}
            for r in photographs
        ]
    return report


def inversion_tables(report: dict[str, Any]) -> str:
    """The report as Markdown."""
    rows = []
    if "generated" in report:
        g = report["generated"]
        p = g["psnr_db"]
        rows.append(
            f"| {g['faces']} generated faces, mean (lowest) | {p['mean']:.1f} ({p['min']:.1f}) | {g['object_db']:.1f} "
            f"|  | {g['cpu_seconds']:.0f} |  | {_shown(g['rotation'])} |"
        )
        rows.append(f"| the same, their own latents |  |  |  |  |  | {_shown(g['rotation_known'])} |")
    for r in report.get("photographs", ()):
        tuned, cpu = "", ""
        if r["tuned_db"] is not None:
            tuned, cpu = f"{r['tuned_db']:.1f}", f"{r['tuned_cpu_seconds']:.0f}"
        rows.append(
            f"| {r['name']} | {r['psnr_db']:.1f} | {r['object_db']:.1f} | {tuned} | {r['cpu_seconds']:.0f} | {cpu} "
            f"| {_shown(r['rotation'])} |"
        )
    head = (
        "| picture | PSNR, dB | inside the object | tuned | CPU seconds | with tuning | turned through the GAN: slope, "
        "mean error |\n|---|---|---|---|---|---|---|"
    )
    return "\n".join((head, *rows))


def _rotation(turns: Sequence[Turn]) -> dict[str, Any] | None:
    if not turns:
        return None
    values = dataclasses.asdict(summarise_turns(turns))
    return {k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in values.items()}


def _shown(rotation: dict[str, Any] | None) -> str:
    if rotation is None or rotation["slope"] is None:
        return "no face found"
    return f"{rotation['slope']:.2f}, {rotation['mean_error_deg']:.1f}°"


def _turn_label(turn: Turn) -> str:
    return f"{turn.requested_deg:+.0f}: {'lost' if turn.measured_deg is None else f'{turn.measured_deg:+.0f}'}"


def _small(picture: Image.Image, side: int) -> torch.Tensor:
    return as_tensor(picture.resize((side, side), Image.Resampling.BOX))


def _clocks() -> tuple[float, float]:
    return time.perf_counter(), time.process_time()


def _since(begun: tuple[float, float]) -> tuple[float, float]:
    return round(time.perf_counter() - begun[0], 1), round(time.process_time() - begun[1], 1)
