"""Measurements for a card: files written by hand after measuring, and reports of ``scripts/evaluate.py``."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from gan2shape_hub.config import ConfigError, from_dict


class CardError(ValueError):
    """A card cannot be made; the message names the file or key and what is allowed."""


@dataclass(frozen=True)
class Metric:
    """One measured number: ``type`` is short and stable (``pearson``, ``psnr``), ``name`` says exactly what it is."""

    type: str
    name: str
    value: float
    dataset: str
    dataset_type: str = "generated-images"
    split: str = "test"
    unit: str = ""
    indexed: bool = True
    """Whether the front matter's ``model-index`` holds it; not, where it is no property of this checkpoint."""

    def __post_init__(self) -> None:
        if not math.isfinite(self.value):
            raise ConfigError(f"metric '{self.name}' is {self.value}, must be a finite number: leave it out instead.")


@dataclass(frozen=True)
class Figure:
    """An image file of the checkpoint's folder, such as ``figures/contact_sheet.png``."""

    path: str
    caption: str
    source: str = ""
    """File, relative to the facts, that ``scripts/make_cards.py`` copies there."""


@dataclass(frozen=True)
class Results:
    """What was measured: ``docs/results/<category>.json``."""

    metrics: tuple[Metric, ...] = ()
    figures: tuple[Figure, ...] = ()
    protocol: str = ""
    """How it was measured, with the command that repeats it (Markdown)."""
    checkpoint: str = ""
    """``hub.fingerprint`` of the checkpoint that was measured; empty: not recorded."""


def load_results(files: str | Path | Iterable[str | Path], checkpoint: str = "") -> Results:
    """Read and join measurements; no results where a file does not exist, CardError where it is wrong.

    A file holds ``Results``, or is a ``report.json`` of ``scripts/evaluate.py``. Measurements of another
    state of the checkpoint than ``checkpoint`` (its fingerprint; empty: not compared) say so, and stay out of the
    ``model-index``.
    """
    files = [files] if isinstance(files, str | Path) else list(files)
    found = [_read(Path(file)) for file in files if Path(file).exists()]
    found = [_judged(results, checkpoint) for results in found]
    return Results(
        tuple(metric for results in found for metric in results.metrics),
        tuple(figure for results in found for figure in results.figures),
        "\n\n".join(results.protocol for results in found if results.protocol),
    )


def outdated(files: Iterable[str | Path], checkpoint: str) -> list[Path]:
    """The files whose measurements are of another state of the checkpoint than ``checkpoint``, its fingerprint."""
    return [Path(file) for file in files if _read(Path(file)).checkpoint not in ("", checkpoint)]


def _read(file: Path) -> Results:
    try:
        data = json.loads(file.read_text(encoding="utf-8"))
        if isinstance(data, dict) and {"depth", "seeds", "settings"} <= data.keys():
            return _of_report(data)
        if isinstance(data, dict) and "settings" in data and {"generated", "photographs"} & data.keys():
            return _of_inversion(data)
        return from_dict(Results, data)
    except (json.JSONDecodeError, ConfigError) as error:
        raise CardError(f"{file}: {error}") from None
    except (KeyError, TypeError, ValueError) as error:
        raise CardError(f"{file} is no report of this version's scripts/evaluate.py ({error!r}).") from None


def _judged(results: Results, checkpoint: str) -> Results:
    if not checkpoint or results.checkpoint in ("", checkpoint):
        return results
    remark = f"Measured on an earlier state of this checkpoint ({results.checkpoint}; the present one is {checkpoint})."
    metrics = tuple(replace(metric, indexed=False) for metric in results.metrics)
    return replace(results, metrics=metrics, protocol=f"{results.protocol} {remark}".strip())


def _of_report(report: dict[str, Any]) -> Results:
    """The numbers of a face mesh report (``evaluation.face_report.summarise``) that describe the checkpoint."""
    from gan2shape_hub.evaluation.face_report import ELLIPSOID  # here: the judge's modules take a while to import

    settings, name, seeds = report["settings"], report["name"], report["seeds"]
    protocol = settings["protocol"]
    preset, truncation = protocol["preset"], protocol["truncation"]
    faces = f"{report['faces']} generated faces, seeds {min(seeds)} to {max(seeds)}, truncation {truncation:g}"
    rotation, lights = report.get("rotation", {}), report.get("relighting", {})
    turn = "error of the head's turn against the wanted yaw, mean"
    rows = [
        ("pearson", "depth against the face mesh, Pearson correlation, mean", report["depth"][name]["mean"], ""),
        ("pearson-p10", "the same, 10th percentile over the faces", report["depth"][name]["p10"], ""),
        ("psnr", "reconstruction inside the mask, PSNR, mean", report["psnr_db"]["mean"], "dB"),
        ("psnr-face", "reconstruction inside the face's outline, PSNR, mean", report["psnr_face_db"]["mean"], "dB"),
        ("yaw-error-gan", f"turned through the GAN: {turn}", _at(rotation, "gan", "all", "mean_error_deg"), "degrees"),
        ("yaw-error-mesh", f"turned mesh: {turn}", _at(rotation, "rendered", "all", "mean_error_deg"), "degrees"),
        (
            "relighting",
            "relit through the GAN: share of faces that brighten at every step",
            _at(lights, "gan", "rising"),
            "",
        ),
    ]
    metrics = [
        Metric(kind, f"`{preset}`: {text}", round(value, 4), faces, unit=unit)
        for kind, text, value, unit in rows
        if value is not None
    ]
    start = report["depth"][ELLIPSOID]["mean"]
    if start is not None:
        text = "for comparison, the ellipsoid that shapes start from without networks: the same correlation, mean"
        metrics.insert(2, Metric("pearson-ellipsoid", text, round(start, 4), faces, indexed=False))
    command = f"python scripts/evaluate.py facemesh --preset {preset} --count {report['faces']} --seed {min(seeds)}"
    text = (
        f"`{preset}`: faces that the generator made and no training saw, judged by MediaPipe's face mesh, on which "
        f"nothing was trained: `{command} --truncation {truncation:g} --output out/{preset}`."
    )
    return Results(tuple(metrics), protocol=text, checkpoint=str(settings["checkpoint"]))


def _of_inversion(report: dict[str, Any]) -> Results:
    """How closely pictures are found again in the generator (``evaluation.inversion.summarise_inversion``)."""
    metrics = []
    if "generated" in report:
        found = report["generated"]
        faces = f"{found['faces']} generated faces, {found['names'][0]} to {found['names'][-1]}"
        text = "inversion: the generator's picture of the latent that was found, PSNR, mean"
        metrics.append(Metric("psnr-inversion", text, round(found["psnr_db"]["mean"], 4), faces, unit="dB"))
    for photograph in report.get("photographs", ()):
        for key, text in (("psnr_db", "inversion of a photograph, PSNR"), ("tuned_db", "the same with pivotal tuning")):
            if photograph[key] is not None:
                kind = "psnr-inversion-tuned" if key == "tuned_db" else "psnr-inversion-photograph"
                value = round(photograph[key], 4)
                metrics.append(Metric(kind, text, value, photograph["name"], "photographs", unit="dB"))
    protocol = "Inversion: `python scripts/evaluate.py inversion`, at the size of the sheet."
    return Results(tuple(metrics), protocol=protocol, checkpoint=str(report["settings"]["checkpoint"]))


def _at(data: dict[str, Any], *keys: str) -> float | None:
    for key in keys:
        data = data.get(key) if data else None
    return data
