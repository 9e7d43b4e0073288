"""Measured tables between the markers of the pages, so that no number is typed by hand.

Read from a folder of results: benchmark.json (scripts/benchmark.py --json), facemesh*.json, scan*.json, identity*.json
and inversion.json (the report.json of the commands of scripts/evaluate.py). What is missing leaves its cells empty.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

PRESETS = ("instant", "fast", "balanced", "paper")
SCAN_GROUP = "yaw 0 and +17, as photographed"
"""The pictures of the scan whose means are told first: from the front and a little from the side, on both grounds."""
SCAN = (("mad_fitted_deg", "{:.1f}°"), ("rmse_percent", "{:.2f} %"), ("correlation", "{:.3f}"), ("scale", "{:.2f}"))
FACE_MESH = (("mean", "{:.3f}"), ("inner", "{:.3f}"), ("inner_identity", "{:.2f}"))


def fill_tables(results: Path, pages: Iterable[Path]) -> list[Path]:
    """Write every table of the reports in ``results`` between its markers; the ``pages`` that changed. A table without
    measurements becomes empty."""
    benchmark = _read(results / "benchmark.json").get("parts", {})
    reports = [_read(file) for file in sorted(results.glob("facemesh*.json"))]
    scans = [_read(file) for file in sorted(results.glob("scan*.json"))]
    tables: dict[str, Callable[[], str]] = {
        "presets": lambda: presets_table(benchmark.get("pipeline", {})),
        "steps": lambda: steps_table(benchmark.get("pipeline", {})),
        "benchmark": lambda: benchmark_table(benchmark),
        "quality": lambda: quality_table(reports, scans),
        "evaluation": lambda: evaluation_tables(reports),
        "scan": lambda: scan_table(scans),
        "identity": lambda: identity_table([_read(file) for file in sorted(results.glob("identity*.json"))]),
        "inversion": lambda: inversion_table(_read(results / "inversion.json")),
    }
    changed = []
    for page in pages:
        old = new = page.read_text(encoding="utf-8")
        for name, table in tables.items():
            new = fill(new, name, table())
        if new != old:
            page.write_text(new, encoding="utf-8")
            changed.append(page)
    return changed


def fill(text: str, name: str, content: str) -> str:
    """``text`` with what stands between ``<!-- measured: name -->`` and ``<!-- end: name -->`` replaced."""
    pattern = re.compile(rf"(<!-- measured: {name} -->\n).*?(<!-- end: {name} -->)", re.DOTALL)
    body = f"\n{content}\n\n" if content else ""
    return pattern.sub(lambda match: match[1] + body + match[2], text)


def presets_table(measures: dict[str, Any]) -> str:
    """What the main job takes with each preset that was measured."""
    rows = [
        (
            f"`{preset}`",
            f"{measures[f'{preset}_reconstruct_s']:.1f} s",
            _text(measures.get(f"{preset}_photograph_s"), "{:.1f} s"),
            f"{measures[f'{preset}_import_s'] + measures[f'{preset}_load_s']:.1f} s",
            f"{measures[f'{preset}_export_s']:.1f} s",
            f"{measures[f'{preset}_peak_gb']:.2f} GB",
        )
        for preset in _presets(measures)
    ]
    if not rows:
        return ""
    head = ("preset", "a generated face", "a photograph", "start and load", "save everything", "peak memory")
    return markdown(head, rows) + "\n\n" + where(measures)


def steps_table(measures: dict[str, Any]) -> str:
    """Where the time of a reconstruction goes, preset by preset."""
    from gan2shape_hub.plan import LABELS

    rows = []
    for preset in _presets(measures):
        for step, name in LABELS.items():
            count = measures.get(f"{preset}_step_{step}_iterations")
            if count:
                seconds = measures[f"{preset}_step_{step}_s"]
                rows.append((f"`{preset}`", name, str(count), f"{seconds:.1f} s", f"{1000 * seconds / count:.0f} ms"))
    return markdown(("preset", "step", "iterations", "time", "an iteration"), rows) if rows else ""


def benchmark_table(parts: dict[str, dict[str, Any]]) -> str:
    """Every measure of the parts but the pipeline, which has tables of its own."""
    from benchmark import table

    shown = {name: measures for name, measures in parts.items() if name != "pipeline"}
    if not shown:
        return ""
    return table(shown) + "\n\n" + "\n".join(f"- {name}: {where(measures)}" for name, measures in shown.items())


def quality_table(reports: Sequence[dict[str, Any]], scans: Sequence[dict[str, Any]]) -> str:
    """How right the shapes of each preset are: on the scan of a real head, and on most generated faces that were
    judged by the face mesh; the ellipsoid that a shape starts from last."""
    from gan2shape_hub.evaluation.face_report import ELLIPSOID

    heads = {_preset(scan): scan["means"].get(SCAN_GROUP, {}) for scan in scans}
    largest = {_preset(report): report for report in sorted(reports, key=lambda report: report["faces"])}
    rows = [
        (f"`{preset}`", *_scores(heads.get(preset, {}), SCAN), *_mesh_scores(largest.get(preset)))
        for preset in sorted({*heads, *largest}, key=_order)
    ]
    if not rows:
        return ""
    if largest:
        most = max(largest.values(), key=lambda report: report["faces"])
        rows.append((ELLIPSOID, *("",) * len(SCAN), *_mesh_scores(most, ELLIPSOID)))
    head = ("preset", "scan: angle", "error", "correlation", "scale")
    return markdown((*head, "face mesh: correlation", "inner points", "identity", "faces"), rows)


def _preset(report: dict[str, Any]) -> str:
    """What a report was made with: its run's preset; its name, where it does not say."""
    return report.get("settings", {}).get("protocol", {}).get("preset", report["name"])


def _order(preset: str) -> tuple[int, str]:
    return (PRESETS.index(preset) if preset in PRESETS else len(PRESETS), preset)


def _mesh_scores(report: dict[str, Any] | None, row: str | None = None) -> tuple[str, ...]:
    if report is None:
        return ("",) * (len(FACE_MESH) + 1)
    depth = report["depth"][row or report["name"]]
    return (*_scores(depth, FACE_MESH), str(depth["faces"]))


def _scores(values: dict[str, Any], columns: Sequence[tuple[str, str]]) -> tuple[str, ...]:
    """``values`` by the columns' keys and formats; reports of earlier versions lack some."""
    return tuple(_text(values.get(key), form) for key, form in columns)


def _text(value: float | None, form: str) -> str:
    return "" if value is None else form.format(value)


def evaluation_tables(reports: list[dict[str, Any]]) -> str:
    """Everything that scripts/evaluate.py says of each report."""
    from gan2shape_hub.evaluation.face_report import markdown as whole

    return "\n\n".join(whole(report).strip().replace("## ", "### ", 1) for report in reports)


def scan_table(reports: list[dict[str, Any]]) -> str:
    from gan2shape_hub.evaluation.scan_protocol import scan_tables

    return scan_tables(reports) if reports else ""


def identity_table(reports: list[dict[str, Any]]) -> str:
    from gan2shape_hub.evaluation.identity_protocol import identity_tables

    return identity_tables(reports) if reports else ""


def inversion_table(report: dict[str, Any]) -> str:
    from gan2shape_hub.evaluation.inversion import inversion_tables

    return inversion_tables(report) if report else ""


def where(measures: dict[str, Any]) -> str:
    """The machine of a measurement, as a sentence."""
    m = measures["machine"]
    chip = m["accelerator"] or f"{m['cores']} CPU cores ({m['processor']}, {m['system']}), {m['threads']} threads"
    return f"Measured on {chip}; Python {m['python']}, PyTorch {m['torch']}; load before the run {m['load']}."


def markdown(head: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    lines = [head, ("---",) * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _presets(measures: dict[str, Any]) -> list[str]:
    return [key.removesuffix("_total_s") for key in measures if key.endswith("_total_s")]


def _read(file: Path) -> dict[str, Any]:
    return json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}
