"""Make a category's checkpoint: taps, turns, light, average object, networks, out of nothing but its generator.

Phases run in order, each resumable: the same command goes on where it was stopped, and ends with the same weights. The
work folder holds the state, a log, the recipe, and of every phase a page of pictures and the checkpoint after it.

Examples:
    gan2shape train checkpoints/face --from-wheels --work runs/face
    gan2shape train checkpoints/cat --work runs/cat --quick
    gan2shape train checkpoints/cat --work runs/cat --recipe cat.json
    gan2shape train checkpoints/face --work runs/again --recipe checkpoints/face/recipe.json
    gan2shape train checkpoints/face --work runs/light --phases light,average
    accelerate launch --num_processes 2 scripts/train.py checkpoints/face --work runs/face
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path

RECIPE, LOG = "recipe.json", "log.txt"


def parser() -> argparse.ArgumentParser:
    main_parser = argparse.ArgumentParser(
        prog="gan2shape train",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    main_parser.add_argument("checkpoint", type=Path, help="folder with a generator at least; written at the end")
    main_parser.add_argument("--work", type=Path, required=True, metavar="DIR", help="folder of the resumable state")
    main_parser.add_argument(
        "--recipe", type=Path, metavar="FILE.json", help="what is done, and how much of it (default: the work folder's)"
    )
    main_parser.add_argument("--quick", action="store_true", help="little of everything, to see what comes of it")
    main_parser.add_argument(
        "--phases", default="", metavar="A,B", help="only these, after what has been done of those before them"
    )
    main_parser.add_argument("--redo", metavar="PHASE", help="forget this phase and all after it, and do them again")
    main_parser.add_argument(
        "--from-wheels",
        nargs="?",
        const="",
        metavar="DIR",
        help="faces: make a checkpoint that is not there from public wheels (in DIR; default: downloaded)",
    )
    main_parser.add_argument("--device", help="default: what accelerate finds")
    main_parser.add_argument("--precision", default="no", choices=("no", "bf16"), help="autocast of the networks")
    return main_parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; 0, or 1 with one sentence on standard error."""
    args = parser().parse_args(argv)
    try:
        run(args)
        return 0
    except KeyboardInterrupt:
        message = "stopped: the work folder keeps what was saved, the same command goes on from there."
    except (OSError, ValueError, FloatingPointError) as error:
        message = " ".join(str(error).split())
    print(f"train: {message}", file=sys.stderr)
    return 1


def run(args: argparse.Namespace) -> None:
    import torch

    from gan2shape_hub import hub
    from gan2shape_hub.accelerator import make_accelerator
    from gan2shape_hub.atomic import atomic_file
    from gan2shape_hub.presets import after_training
    from gan2shape_hub.training.context import Context
    from gan2shape_hub.training.program import choose, redo, run_program

    phases = choose([name for name in args.phases.split(",") if name])
    recipe = _recipe(args)
    accelerator = make_accelerator(args.device, args.precision)
    main_process, begun = accelerator.is_main_process, time.monotonic()

    def log(text: str) -> None:
        if main_process:
            line = f"{time.strftime('%H:%M:%S')} {text}"
            print(line, flush=True)
            with (args.work / LOG).open("a", encoding="utf-8") as out:
                out.write(f"{line}\n")

    if main_process:
        args.work.mkdir(parents=True, exist_ok=True)
        if args.redo:
            redo(args.work, args.redo)
        if args.from_wheels is not None and not args.checkpoint.exists():
            _from_wheels(args)
        with atomic_file(args.work / RECIPE) as part:
            part.write_text(recipe.to_json(), encoding="utf-8")
    accelerator.wait_for_everyone()
    config, components = hub.load_components(args.checkpoint, device=accelerator.device)
    log(f"{args.checkpoint}: {', '.join(phase.name for phase in phases)}, {accelerator.num_processes} processes")
    made = run_program(Context(config, components, recipe, args.work, accelerator, log), phases)
    if main_process:
        # A strip of depth 0.14 at distance 1 has no bits to spare: the average sheet stays in float32.
        names = [name for name in made.components if name != "average_sheet"]
        dtypes = dict.fromkeys(names, getattr(torch, recipe.dtype))
        config = after_training(made.config) if made.has_nets else made.config
        hub.save_components(args.checkpoint, config, made.components, recipe=recipe.to_json(), dtype=dtypes)
        size = sum(f.stat().st_size for f in args.checkpoint.rglob("*") if f.is_file())
        log(f"wrote {args.checkpoint}, {size / 1e6:.1f} MB, after {(time.monotonic() - begun) / 60:.0f} minutes")


def _recipe(args: argparse.Namespace) -> object:
    """The recipe that was asked for, else the work folder's, else the default."""
    from gan2shape_hub.training.recipe import Recipe

    if args.recipe is not None and args.quick:
        raise ValueError("--recipe and --quick are two recipes: pass one of them.")
    if args.recipe is not None:
        return Recipe.read(args.recipe)
    if args.quick:
        return Recipe.quick()
    kept = args.work / RECIPE
    return Recipe.read(kept) if kept.exists() else Recipe()


def _from_wheels(args: argparse.Namespace) -> None:
    import tempfile

    from gan2shape_hub import hub
    from gan2shape_hub.conversion.face_parts import read_face_parts

    with tempfile.TemporaryDirectory() as temporary:
        config, components = read_face_parts(Path(args.from_wheels or temporary))
    hub.save_components(args.checkpoint, config, components)
