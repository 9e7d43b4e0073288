"""Distil a checkpoint's generator into a StyleGAN2 in rosinality's file layout: a generator of the paper's kind where
none can be downloaded, to take through ``gan2shape get`` and ``gan2shape train`` as any other (docs/new-category.md)
and to compare schedules on.

It learns by regression on latents of which the teacher's images are known, coarse to fine, then together with a
discriminator. Resumable: the same command goes on where it was stopped.

Examples:
    python scripts/distil_stylegan2.py checkpoints/face --work runs/stylegan2 --output runs/face128.pt
    accelerate launch --num_processes 2 scripts/distil_stylegan2.py checkpoints/face --work runs/it --output face.pt
"""

from __future__ import annotations

import argparse
import dataclasses
import sys
import time
from collections.abc import Sequence
from pathlib import Path

sys.path[:0] = [str(Path(__file__).resolve().parent), str(Path(__file__).resolve().parent.parent)]


def parser() -> argparse.ArgumentParser:
    main_parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    main_parser.add_argument("checkpoint", type=Path, help="folder of the teacher; its perceptual network is used too")
    main_parser.add_argument("--work", type=Path, required=True, metavar="DIR", help="folder of the resumable state")
    main_parser.add_argument("--output", type=Path, required=True, metavar="FILE.pt", help="the file to write")
    main_parser.add_argument(
        "--part", type=float, default=1.0, metavar="P", help="this part of all steps and images (0.001: a trial)"
    )
    main_parser.add_argument("--seed", type=int, default=0)
    main_parser.add_argument("--device", help="default: what accelerate finds")
    return main_parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; 0, or 1 with one sentence on standard error."""
    args = parser().parse_args(argv)
    try:
        run(args)
    except (OSError, ValueError, FloatingPointError) as error:
        print(f"distil: {' '.join(str(error).split())}", file=sys.stderr)
        return 1
    return 0


def run(args: argparse.Namespace) -> None:
    from distil_parts import rosinality_file
    from distil_parts.student import Distillation, distil

    from gan2shape_hub import hub
    from gan2shape_hub.accelerator import make_accelerator

    if not 0 < args.part <= 1:
        raise ValueError(f"--part is {args.part:g}, must be above 0 and at most 1.")
    accelerator = make_accelerator(args.device, "no")

    def log(text: str) -> None:
        if accelerator.is_main_process:
            line = f"{time.strftime('%H:%M:%S')} {text}"
            print(line, flush=True)
            with (args.work / "log.txt").open("a", encoding="utf-8") as out:
                out.write(f"{line}\n")

    def fewer(training):
        return dataclasses.replace(training, steps=max(round(training.steps * args.part), 1))

    whole = Distillation(seed=args.seed)
    recipe = dataclasses.replace(
        whole,
        images=max(round(whole.images * args.part), 1),
        regression=tuple(fewer(training) for training in whole.regression),
        adversarial=fewer(whole.adversarial),
    )
    args.work.mkdir(parents=True, exist_ok=True)
    components = hub.load_components(args.checkpoint, device=accelerator.device)[1]
    generator, discriminator = distil(
        components["generator"],
        components.get("perceptual"),
        recipe,
        args.work,
        accelerator,
        log,
    )
    if accelerator.is_main_process:
        rosinality_file.write(args.output, generator, discriminator)
        log(f"wrote {args.output}, {args.output.stat().st_size / 1e6:.1f} MB")


if __name__ == "__main__":
    sys.exit(main())
