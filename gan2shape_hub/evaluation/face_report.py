"""Statistics over many judged faces, as a dictionary for JSON and as Markdown tables."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

from gan2shape_hub.evaluation.edits import summarise_relighting, summarise_turns
from gan2shape_hub.evaluation.face_depth import percentile, tabulate
from gan2shape_hub.evaluation.face_protocol import FaceResult

NEAR_FRONTAL_DEG = 30.0
"""Turns that end within this yaw are reported separately: generators of aligned faces hold few heads beyond."""
COLUMNS = ("mean", "p10", "std", "inner", "identity", "inner_identity")
ELLIPSOID, AVERAGE = "ellipsoid prior", "average face in the judge's pose"


def summarise(results: Sequence[FaceResult], name: str) -> dict[str, Any]:
    """The report of ``results``; ``name`` heads its row of the depth table. NaN becomes None."""
    shapes = {
        name: tabulate([r.face for r in results]).as_dict(),
        ELLIPSOID: tabulate([r.prior for r in results]).as_dict(),
        AVERAGE: tabulate([r.average for r in results]).as_dict(),
    }
    report: dict[str, Any] = {"name": name, "faces": len(results), "seeds": [r.seed for r in results], "depth": shapes}
    report["seconds"] = _distribution([r.seconds for r in results])
    report["psnr_db"] = _distribution([r.psnr_db for r in results])
    report["psnr_face_db"] = _distribution([r.psnr_face_db for r in results])
    ways = ("gan", "rendered")
    turns = {way: [t for r in results for t in r.turns.get(way, ())] for way in ways}
    if turns["gan"]:
        report["rotation"] = {
            way: {
                "all": dataclasses.asdict(summarise_turns(turns[way])),
                "near_frontal": dataclasses.asdict(summarise_turns(turns[way], NEAR_FRONTAL_DEG)),
            }
            for way in ways
        }
    lights = {way: [r.lights[way] for r in results if way in r.lights] for way in ways}
    if lights["gan"]:
        report["relighting"] = {way: dataclasses.asdict(summarise_relighting(lights[way])) for way in ways}
    return _without_nan(report)


def _distribution(values: Sequence[float]) -> dict[str, float]:
    finite = [v for v in values if math.isfinite(v)]
    return {
        "mean": sum(finite) / len(finite) if finite else math.nan,
        "median": percentile(finite, 0.5),
        "p10": percentile(finite, 0.1),
        "p90": percentile(finite, 0.9),
    }


def _without_nan(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _without_nan(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_without_nan(v) for v in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def markdown(report: dict[str, Any], others: Sequence[dict[str, Any]] = ()) -> str:
    """Tables of a report of :func:`summarise`; the depth rows of ``others`` (earlier reports) stand between."""
    lines = [
        f"## Face mesh benchmark: {report['name']}",
        "",
        f"{report['faces']} generated faces, seeds {min(report['seeds'])} to {max(report['seeds'])}, "
        f"{report['depth'][report['name']]['faces']} seen by the judge.",
        "",
        "| depth | correlation: mean | 10th percentile | std | inner | identity | inner | amplitude (mesh) |",
        "|---|---|---|---|---|---|---|---|",
    ]
    rows = [(report["name"], report["depth"][report["name"]])]
    rows += [(other["name"], other["depth"][other["name"]]) for other in others]
    rows += [(name, report["depth"][name]) for name in (ELLIPSOID, AVERAGE)]
    for name, row in rows:
        # Reports that were written before the inner points were judged do without them.
        numbers = " | ".join(_number(row.get(k), 3) for k in COLUMNS)
        lines.append(f"| {name} | {numbers} | {_number(row['amplitude'], 2)} ({_number(row['mesh_amplitude'], 2)}) |")
    lines += ["", "| per face | mean | median | 10th percentile | 90th percentile |", "|---|---|---|---|---|"]
    for key, label, digits in (
        ("seconds", "seconds, reconstruction", 1),
        ("psnr_db", "PSNR inside the mask, dB", 1),
        ("psnr_face_db", "PSNR inside the face's outline, dB", 1),
    ):
        numbers = " | ".join(_number(report[key][k], digits) for k in ("mean", "median", "p10", "p90"))
        lines.append(f"| {label} | {numbers} |")
    if "rotation" in report:
        lines += ["", "| rotation | slope | mean error, degrees | pictures | without a face |", "|---|---|---|---|---|"]
        for way, label in (("gan", "through the GAN"), ("rendered", "rendered mesh")):
            for key, where in (("all", ""), ("near_frontal", f", ending within {NEAR_FRONTAL_DEG:.0f} degrees")):
                row = report["rotation"][way][key]
                numbers = f"{_number(row['slope'], 2)} | {_number(row['mean_error_deg'], 1)}"
                lines.append(f"| {label}{where} | {numbers} | {row['pictures']} | {row['lost']} |")
    if "relighting" in report:
        lines += ["", "| relighting | rising at every step | rank correlation | ratio gain | faces |"]
        lines.append("|---|---|---|---|---|")
        for way, label in (("gan", "through the GAN"), ("rendered", "rendered")):
            row = report["relighting"][way]
            rising = "-" if row["rising"] is None else f"{row['rising']:.0%}"
            numbers = f"{_number(row['rank_correlation'], 2)} | {_number(row['ratio_gain'], 2)}"
            lines.append(f"| {label} | {rising} | {numbers} | {row['faces']} |")
    return "\n".join(lines) + "\n"


def _number(value: float | None, digits: int) -> str:
    return "-" if value is None else f"{value:.{digits}f}"
