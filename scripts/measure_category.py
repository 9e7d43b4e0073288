"""Measure a category that has no judge of its shapes, and draw a figure, for its model card.

Generated images that no training saw (seeds from 1000 on) are reconstructed; how well the rendered scenes agree with
them is written to a file that the card reads, and the contact sheet of the first one into the checkpoint's folder. That
agreement says that a scene explains its image, not that the shape is right: look at the contact sheet. For faces,
scripts/evaluate.py has a judge.

Examples:
    python scripts/measure_category.py checkpoints/cat --output docs/results/cat.json
    python scripts/measure_category.py checkpoints/cat --preset balanced --count 100 --output docs/results/cat.json
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
from pathlib import Path

FIGURE = "figures/contact_sheet.png"


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", type=Path, help="checkpoint folder")
    parser.add_argument("--preset", default="fast", help="a schedule of the checkpoint (default: fast)")
    parser.add_argument("--count", type=int, default=20, help="images (default: 20)")
    parser.add_argument("--seed", type=int, default=1000, help="of the first image; training uses those below 1000")
    parser.add_argument("--truncation", type=float, default=0.7, help="variety of the images, 0..1 (default: 0.7)")
    parser.add_argument("--device", help="cpu, cuda, mps, ... (default: what accelerate finds)")
    parser.add_argument("--output", "-o", type=Path, required=True, metavar="FILE.json", help="file to write")
    options = parser.parse_args(arguments)
    if options.count < 1:
        parser.error(f"--count is {options.count}, must be 1 or more")
    try:
        metrics = measure(options)
    except (OSError, ValueError, FloatingPointError) as error:
        print(f"measure_category: {error}", file=sys.stderr)
        return 1
    for metric in metrics:
        print(f"{metric.name}: {metric.value:.2f} {metric.unit}")
    print(f"{options.output}, {options.checkpoint / FIGURE}")
    return 0


def measure(options: argparse.Namespace) -> list:
    """The metrics; they and the figure are written on the way."""
    from gan2shape_hub import GAN2ShapePipeline, cards, hub
    from gan2shape_hub.atomic import atomic_file
    from gan2shape_hub.evaluation.category import measure_category, summary
    from gan2shape_hub.results.contact_sheet import contact_sheet
    from gan2shape_hub.results.image_files import write_image

    pipeline = GAN2ShapePipeline.from_pretrained(options.checkpoint, device=options.device)
    fingerprint = hub.fingerprint(options.checkpoint)  # before: of what is in memory

    def after(seed: int, result: object) -> None:
        print(f"seed {seed} done", file=sys.stderr, flush=True)
        if seed == options.seed:
            (options.checkpoint / FIGURE).parent.mkdir(exist_ok=True)
            write_image(options.checkpoint / FIGURE, contact_sheet(result.viewer))

    seeds = range(options.seed, options.seed + options.count)
    found = measure_category(pipeline, seeds, preset=options.preset, truncation=options.truncation, after=after)
    values = summary(found)
    last = options.seed + options.count - 1
    images = f"{options.count} generated images, seeds {options.seed} to {last}, truncation {options.truncation:g}"
    metrics = [
        cards.Metric(kind, f"`{options.preset}`: the rendered scene against the image, PSNR, {which}",
                     round(values[kind], 3), images, unit="dB")
        for kind, which in (("psnr", "mean"), ("psnr-p10", "10th percentile over the images"))
    ]  # fmt: skip
    command = (
        f"python scripts/measure_category.py {options.checkpoint.as_posix()} --preset {options.preset} "
        f"--count {options.count} --seed {options.seed} --truncation {options.truncation:g} "
        f"--output {options.output.as_posix()}"
    )
    results = cards.Results(
        tuple(metrics),
        (cards.Figure(FIGURE, f"The generated image of seed {options.seed}: layers, shape, texture, other lights"),),
        f"Images that the generator made and no training saw: `{command}`. It says that the scenes explain the images, "
        "not that the shapes are right.",
        fingerprint,
    )
    with atomic_file(options.output) as part:
        part.write_text(json.dumps(dataclasses.asdict(results), indent=2, allow_nan=False) + "\n", encoding="utf-8")
    return metrics


if __name__ == "__main__":
    sys.exit(main())
