"""Measure what drawn views do for a model's sides: faces turned to both sides, without and with them.

Distances of the checkpoint's perceptual network and of dlib's face recognition (``pip install
'gan2shape-hub[evaluation]'``; nothing is trained on it) to the picture that the generator makes at that angle, render
and encoder included, and to the input; and how much of the model at that angle a picture ever showed. The drawn views
come from the same generator, so the first says that they fit, and the last two say more.

Example:
    python scripts/measure_sides.py --count 20 --output out/sides
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from pathlib import Path
from statistics import fmean


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkpoint", default=None, help="folder or Hub id (default: the face checkpoint)")
    parser.add_argument("--preset", default="instant", help="a schedule of the checkpoint (default: instant)")
    parser.add_argument("--count", type=int, default=20, help="faces (default: 20)")
    parser.add_argument("--seed", type=int, default=2000, help="of the first face (default: 2000)")
    parser.add_argument("--photographs", nargs="*", type=Path, default=[], help="these in the place of generated faces")
    parser.add_argument("--yaw", type=float, default=45.0, help="degrees to either side (default: 45)")
    parser.add_argument("--output", "-o", type=Path, required=True, help="folder for pictures and report.json")
    options = parser.parse_args(arguments)
    if options.count < 1:
        parser.error(f"--count is {options.count}, must be 1 or more")
    from gan2shape_hub.evaluation.pinned import EvaluationError

    try:
        measure(options)
    except (OSError, ValueError, EvaluationError) as error:
        print(f"measure_sides: {error}", file=sys.stderr)
        return 1
    return 0


def measure(options: argparse.Namespace) -> None:
    """Every face is written when it is done, and not measured again."""
    from PIL import Image

    from gan2shape_hub import GAN2ShapePipeline, hub
    from gan2shape_hub.evaluation.identity import IdentityJudge
    from gan2shape_hub.evaluation.sides import SIDE, measure_side
    from gan2shape_hub.results.image_files import to_pil

    judge = IdentityJudge()
    pipeline = GAN2ShapePipeline.from_pretrained(options.checkpoint or hub.default_checkpoint())
    options.output.mkdir(parents=True, exist_ok=True)
    faces = []
    seeds = range(options.seed, options.seed + options.count)
    for given in options.photographs or seeds:
        name = given.stem if isinstance(given, Path) else str(given)
        path = options.output / f"{name}.json"
        if not path.exists():
            face = given if isinstance(given, Path) else pipeline.sample(seed=given)
            result = pipeline(face, preset=options.preset)
            own, rows = to_pil(result.source), []
            strip = Image.new("RGB", (6 * SIDE, SIDE))
            for k, yaw in enumerate((-options.yaw, options.yaw)):
                turned = result.rotate(yaw, through_gan=True)
                strip.paste(turned.resize((SIDE, SIDE)), (3 * k * SIDE + 2 * SIDE, 0))
                for number, sides in enumerate((False, True)):
                    one = measure_side(result.viewer, yaw, turned, own, pipeline.perceptual, judge, sides=sides)
                    strip.paste(one.picture, ((3 * k + number) * SIDE, 0))
                    values = {name: getattr(one, name) for name in MEASURES}
                    rows.append({"sides": sides, "yaw_deg": yaw} | {n: v for n, v in values.items() if v == v})
            strip.save(path.with_suffix(".png"))
            path.write_text(json.dumps(rows) + "\n")
        faces += json.loads(path.read_text())
        print(f"{name} done", file=sys.stderr, flush=True)
    report = {}
    for sides in (False, True):
        chosen = [row for row in faces if row["sides"] is sides]
        report["with" if sides else "without"] = {name: mean([row.get(name) for row in chosen]) for name in MEASURES}
    (options.output / "report.json").write_text(json.dumps(report, indent=1) + "\n")
    print(table(report))


MEASURES = {
    "perceptual": "perceptual distance to the generator's turned picture",
    "to_turned": "dlib's distance to it",
    "to_input": "dlib's distance to the input",
    "seen": "share of pixels that a picture showed well",
}


def mean(values: list) -> float:
    known = [value for value in values if value is not None]
    return fmean(known) if known else math.nan


def table(report: dict) -> str:
    """Markdown."""
    lines = ["| | without | with drawn views |", "|---|---|---|"]
    return "\n".join(
        lines + [f"| {text} | {report['without'][n]:.3f} | {report['with'][n]:.3f} |" for n, text in MEASURES.items()]
    )


if __name__ == "__main__":
    sys.exit(main())
