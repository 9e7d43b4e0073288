"""The pictures and measured tables of README.md and docs/.

Pictures are made from generated faces of the given seeds, all of them shown as they come out; tables are written
between the pages' markers, so that no number is typed by hand: from docs/results/benchmark.json (scripts/benchmark.py
--json), docs/results/facemesh*.json, scan*.json, identity*.json and inversion.json (the report.json of the commands of
scripts/evaluate.py).

Examples:
    python scripts/make_figures.py                              pictures from checkpoints/face, then the tables
    python scripts/make_figures.py --seeds 7,8,9 --preset balanced
    python scripts/make_figures.py --photograph                 only the page on a photograph (scikit-image's portrait)
    python scripts/make_figures.py --tables                     only the tables
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
FIGURES, RESULTS = ROOT / "docs" / "figures", ROOT / "docs" / "results"
PAGES = (ROOT / "README.md", ROOT / "docs" / "results.md")

CLAY_TURNS = ((0.0, 0.0), (45.0, 0.0))
TURNS = ((-40.0, 0.0), (-20.0, 0.0), (20.0, 0.0), (40.0, 0.0))
"""(yaw, pitch) in degrees away from the photograph's view."""
PHOTOGRAPH_YAW = 15.0
GAN_YAWS = (-30.0, -15.0, 15.0, 30.0)
LIGHTS = ("left", "right")


# -- pictures ----------------------------------------------------------------------------------------------------------


def make_pictures(checkpoint: str, seeds: list[int], preset: str | None, tile: int) -> list[Path]:
    """Reconstruct the generated face of every seed and write ``docs/figures``:

    overview.png (a row a face: input, shape, turned, relit), through_gan.png (the same faces turned and relit by the
    generator) and contact_sheet.png (everything about the first face).
    """
    from gan2shape_hub import GAN2ShapePipeline
    from gan2shape_hub.results.contact_sheet import contact_sheet
    from gan2shape_hub.results.image_files import write_image
    from gan2shape_hub.results.layout import page

    pipeline = GAN2ShapePipeline.from_pretrained(checkpoint)
    results = []
    for seed in seeds:
        print(f"make_figures: seed {seed} ...", file=sys.stderr, flush=True)
        results.append(pipeline(pipeline.sample(seed=seed), preset=preset))
    text = {
        "seeds": ", ".join(map(str, seeds)),
        "preset": results[0].report.preset,
        "version": results[0].report.versions["gan2shape_hub"],
    }
    pictures = {
        "overview.png": page([overview_row(result, tile) for result in results], tile=tile),
        "through_gan.png": page([gan_row(result) for result in results], tile=tile),
        "contact_sheet.png": contact_sheet(results[0].viewer, tile=tile),
    }
    FIGURES.mkdir(parents=True, exist_ok=True)
    return [write_image(FIGURES / name, picture, text) for name, picture in pictures.items()]


def make_photograph(checkpoint: str, preset: str | None, tile: int) -> list[Path]:
    """docs/figures/photograph.png: what becomes of a photograph, step by step, and what can be done with it."""
    from PIL import Image
    from skimage import data

    from gan2shape_hub import GAN2ShapePipeline
    from gan2shape_hub.results.image_files import write_image
    from gan2shape_hub.results.layout import page

    print("make_figures: photograph ...", file=sys.stderr, flush=True)
    pipeline = GAN2ShapePipeline.from_pretrained(checkpoint)
    result = pipeline(Image.fromarray(data.astronaut()), preset=preset, tuned=True)
    text = {"photograph": "skimage.data.astronaut(), NASA, public domain", "preset": result.report.preset}
    FIGURES.mkdir(parents=True, exist_ok=True)
    return [write_image(FIGURES / "photograph.png", page(photograph_rows(result, tile), tile=tile), text)]


def photograph_rows(result, size: int) -> list[list]:
    """Tiles of a photograph's reconstruction: how it was read; turned and relit; and put back into the photograph."""
    from gan2shape_hub.results.edit import rotate_poses
    from gan2shape_hub.results.image_files import to_pil
    from gan2shape_hub.results.layout import Tile
    from gan2shape_hub.results.views import clay_views, frame_poses, middle, textured_views

    camera, sheet, yaw = result.config.camera, result.sheet, PHOTOGRAPH_YAW
    turns = ((0.0, 0.0), (-35.0, 0.0), (35.0, 0.0))
    turned = rotate_poses(turns, camera, start=result.pose, pivot=middle(sheet))
    poses = frame_poses(turned, sheet, camera)
    clay = list(clay_views(sheet, poses.index(slice(0, 1)), camera, size))
    textured = textured_views(sheet, result.texture, poses.index(slice(1, 3)), camera, size)
    first = [Tile("photograph", _central_square(result.alignment.photograph)), Tile("aligned", to_pil(result.source))]
    first += [Tile(f"the GAN's, {result.inversion_db:.1f} dB", result.inverted), Tile("shape", to_pil(clay[0]))]
    first += [Tile(_turn("mesh", y), to_pil(view)) for (y, _), view in zip(turns[1:], textured, strict=True)]
    gan = result.rotate([-yaw, yaw], through_gan=True)
    second = [Tile(_turn("GAN", y), picture) for y, picture in zip((-yaw, yaw), gan, strict=True)]
    second.append(Tile("light: left", result.relight("left", size=size)))
    edits = [
        (f"turned {-yaw:+.0f}°, put back", {"yaw_deg": -yaw, "through_gan": True}),
        (f"turned {yaw:+.0f}°, put back", {"yaw_deg": yaw, "through_gan": True}),
        ("relit, put back", {"light": "left"}),
    ]
    second += [Tile(label, _around(result.edit_photograph(**edit), result.alignment)) for label, edit in edits]
    return [first, second]


def _central_square(picture):
    side = min(picture.size)
    left, top = (picture.width - side) // 2, (picture.height - side) // 2
    return picture.crop((left, top, left + side, top + side))


def _around(picture, alignment):
    """The part of a photograph around the reconstructed square, twice as large."""
    x, y = alignment.matrix @ (0.5, 0.5, 1.0)
    side = int(min(2 * alignment.side, *picture.size))
    left = int(min(max(x - side / 2, 0), picture.width - side))
    top = int(min(max(y - side / 2, 0), picture.height - side))
    return picture.crop((left, top, left + side, top + side))


def overview_row(result, size: int) -> list:
    """Tiles: the input, the bare shape from two sides, the textured mesh from four, the photograph under two lights."""
    from gan2shape_hub.results.edit import rotate_poses
    from gan2shape_hub.results.image_files import to_pil
    from gan2shape_hub.results.layout import Tile
    from gan2shape_hub.results.views import clay_views, frame_poses, middle, textured_views

    camera, sheet = result.config.camera, result.sheet
    # Framed together, so that the face keeps its size from tile to tile.
    turned = rotate_poses(CLAY_TURNS + TURNS, camera, start=result.pose, pivot=middle(sheet))
    poses = frame_poses(turned, sheet, camera)
    count = len(CLAY_TURNS)
    clay = clay_views(sheet, poses.index(slice(0, count)), camera, size)
    textured = textured_views(sheet, result.texture, poses.index(slice(count, None)), camera, size)
    tiles = [Tile("input", to_pil(result.source))]
    tiles += [Tile(_turn("shape", yaw), to_pil(view)) for (yaw, _), view in zip(CLAY_TURNS, clay, strict=True)]
    tiles += [Tile(_turn("mesh", yaw), to_pil(view)) for (yaw, _), view in zip(TURNS, textured, strict=True)]
    relit = result.relight(list(LIGHTS), size=size)
    return tiles + [Tile(f"light: {name}", view) for name, view in zip(LIGHTS, relit, strict=True)]


def gan_row(result) -> list:
    """Tiles: the input, then turned and relit through the generator (synthesised at its full size)."""
    from gan2shape_hub.results.image_files import to_pil
    from gan2shape_hub.results.layout import Tile

    turned = result.rotate(list(GAN_YAWS), through_gan=True)
    relit = result.relight(list(LIGHTS), through_gan=True)
    tiles = [Tile("input", to_pil(result.source))]
    tiles += [Tile(_turn("GAN", yaw), view) for yaw, view in zip(GAN_YAWS, turned, strict=True)]
    return tiles + [Tile(f"GAN, light: {name}", view) for name, view in zip(LIGHTS, relit, strict=True)]


def _turn(what: str, yaw: float) -> str:
    return f"{what}, yaw {yaw:+.0f}°" if yaw else what


# -- tables ------------------------------------------------------------------------------------------------------------


def fill_tables() -> list[Path]:
    """Write every table between its markers; pages that changed. A table without measurements becomes empty."""
    benchmark = _read(RESULTS / "benchmark.json").get("parts", {})
    reports = [_read(file) for file in sorted(RESULTS.glob("facemesh*.json"))]
    tables: dict[str, Callable[[], str]] = {
        "presets": lambda: presets_table(benchmark.get("pipeline", {})),
        "steps": lambda: steps_table(benchmark.get("pipeline", {})),
        "benchmark": lambda: benchmark_table(benchmark),
        "quality": lambda: quality_table(reports),
        "evaluation": lambda: evaluation_tables(reports),
        "scan": lambda: scan_table([_read(file) for file in sorted(RESULTS.glob("scan*.json"))]),
        "identity": lambda: identity_table([_read(file) for file in sorted(RESULTS.glob("identity*.json"))]),
        "inversion": lambda: inversion_table(_read(RESULTS / "inversion.json")),
    }
    changed = []
    for page in PAGES:
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
            f"{measures[f'{preset}_import_s'] + measures[f'{preset}_load_s']:.1f} s",
            f"{measures[f'{preset}_reconstruct_s']:.1f} s",
            f"{measures[f'{preset}_export_s']:.1f} s",
            f"{measures[f'{preset}_total_s']:.1f} s",
            f"{measures[f'{preset}_peak_gb']:.2f} GB",
            _goals(preset, measures),
        )
        for preset in _presets(measures)
    ]
    if not rows:
        return ""
    head = ("preset", "start and load", "reconstruct", "save everything", "in all", "peak memory", "goal")
    return markdown(head, rows) + "\n\n" + where(measures)


def _goals(preset: str, measures: dict[str, Any]) -> str:
    from benchmark import GOALS

    named = {"in all": (f"{preset}_total_s", "s"), "memory": (f"{preset}_peak_gb", "GB")}
    return "; ".join(
        f"{name} {GOALS['pipeline', key]:g} {unit}: {'met' if measures[key] <= GOALS['pipeline', key] else 'missed'}"
        for name, (key, unit) in named.items()
        if ("pipeline", key) in GOALS
    )


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


def quality_table(reports: list[dict[str, Any]]) -> str:
    """Agreement with the face mesh in a line a report, the ellipsoid that a shape starts from last."""
    from gan2shape_hub.evaluation.face_report import ELLIPSOID

    if not reports:
        return ""
    head = ("depth against the face mesh", "faces", "correlation", "10th percentile", "inner points", "identity")
    head += ("error of a turn through the GAN",)
    rows = [_quality(f"`{report['name']}`", report["depth"][report["name"]], report) for report in reports]
    return markdown(head, [*rows, _quality(ELLIPSOID, reports[0]["depth"][ELLIPSOID], None)])


def _quality(name: str, depth: dict[str, Any], report: dict[str, Any] | None) -> tuple[str, ...]:
    turn = (report or {}).get("rotation", {}).get("gan", {}).get("all", {}).get("mean_error_deg")
    # Reports that were written before the inner points were judged do without them.
    values = (depth.get(key) for key in ("mean", "p10", "inner", "inner_identity"))
    numbers = ("" if value is None else f"{value:.3f}" for value in values)
    return (name, str(depth["faces"]), *numbers, "" if turn is None else f"{turn:.1f}°")


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


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkpoint", default=str(ROOT / "checkpoints" / "face"), help="folder or Hub id")
    parser.add_argument("--seeds", default="7,8,9", help="of the generated faces, separated by commas")
    parser.add_argument("--preset", help="default: the checkpoint's")
    parser.add_argument("--tile", type=int, default=176, help="side of a picture's tile, pixels")
    parser.add_argument("--photograph", action="store_true", help="only the page on a photograph")
    parser.add_argument("--tables", action="store_true", help="only the tables, no pictures")
    options = parser.parse_args(arguments)
    try:
        seeds = [int(seed) for seed in options.seeds.split(",")]
    except ValueError:
        parser.error(f"--seeds is '{options.seeds}', must be whole numbers separated by commas, such as 7,8,9")
    try:
        files = []
        if not options.tables and not options.photograph:
            files += make_pictures(options.checkpoint, seeds, options.preset, options.tile)
        if not options.tables:
            files += make_photograph(options.checkpoint, options.preset, options.tile)
        files += fill_tables()
    except (OSError, ValueError) as error:
        print(f"make_figures: {error}", file=sys.stderr)
        return 1
    print("\n".join(str(file.relative_to(ROOT)) for file in files))
    return 0


if __name__ == "__main__":
    sys.exit(main())
