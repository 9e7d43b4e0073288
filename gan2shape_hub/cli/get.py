"""Fetch a public StyleGAN2, or take one of your own, and make a checkpoint folder of it; train it where asked to.

Examples:
    gan2shape get --list
    gan2shape get car --output checkpoints/car --accept-licence
    gan2shape get cat --output checkpoints/cat --accept-licence --work runs/cat --quick
    gan2shape get stylegan2-boats.pt --category car --output checkpoints/boat
    gan2shape get https://example.org/e4e_cars_encode.pt --category car --output checkpoints/car

Downloads go on where they stopped and stay in the Hub's cache (HF_HOME). No file is ever executed.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from gan2shape_hub.arguments import user_path
from gan2shape_hub.conversion.public import PUBLIC


def parser() -> argparse.ArgumentParser:
    main_parser = argparse.ArgumentParser(
        prog="gan2shape get",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    main_parser.add_argument("what", nargs="?", metavar="NAME", help="of --list; or an address, or a file")
    main_parser.add_argument("--output", type=user_path, metavar="DIR", help="checkpoint folder to write")
    main_parser.add_argument("--list", action="store_true", help="the names, with size, licence and training data")
    main_parser.add_argument(
        "--accept-licence", action="store_true", help="you have read and accept the weights' terms"
    )
    main_parser.add_argument("--category", help="constants to start from; needed for files of your own")
    main_parser.add_argument("--license", default="unknown", metavar="ID", help="of a file of your own, for its card")
    main_parser.add_argument(
        "--perceptual",
        metavar="CHECKPOINT",
        help="whose perceptual network is taken along, layers of VGG16 under the MIT licence (default: that of the "
        "default checkpoint, where it is here)",
    )
    main_parser.add_argument("--overwrite", action="store_true", help="even where DIR holds something else")
    main_parser.add_argument("--work", type=user_path, metavar="DIR", help="train it at once, with this work folder")
    main_parser.add_argument("--quick", action="store_true", help="train little of everything")
    return main_parser


def listing() -> str:
    """The table of ``--list``."""
    lines = []
    for weights in PUBLIC.values():
        size = f"{weights.image_size} px, {weights.megabytes} MB"
        lines.append(f"{weights.name:10} {weights.title:34} {size:16} {weights.terms.name}")
        lines.append(f"{'':10} {weights.data}")
    terms = {weights.terms for weights in PUBLIC.values()}
    return "\n".join([*lines, "", *sorted(f"{one.name}: {one.title}, {one.link}" for one in terms)])


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; 0, or 1 with one sentence on standard error."""
    main_parser = parser()
    args = main_parser.parse_args(argv)
    if args.list:
        print(listing())
        return 0
    if args.what is None or args.output is None:
        main_parser.error("NAME and --output are needed; --list has the names.")
    if args.quick and args.work is None:
        main_parser.error("--quick needs --work, the folder in which the training keeps its state.")
    try:
        _get(args)
    except (ValueError, OSError) as error:  # ConversionError, ConfigError, CheckpointError and the system's own
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        return 1
    command = [str(args.output), "--work", str(args.work or Path("runs") / args.output.name)]
    if args.work is not None:
        from gan2shape_hub.cli import train

        return train.main([*command, "--quick"] if args.quick else command)
    print(f"Wrote {args.output}. Look at {args.output / 'samples.png'}, then run:")
    print(f"gan2shape train {' '.join(command)} --quick")
    return 0


def _get(args: argparse.Namespace) -> None:
    from gan2shape_hub.conversion.get import get, perceptual_at_hand

    report = get(
        args.what,
        args.output,
        accept_licence=args.accept_licence,
        category=args.category,
        license_id=args.license,
        perceptual=args.perceptual or perceptual_at_hand(),
        overwrite=args.overwrite,
        say=lambda text: print(text, flush=True),
    )
    print("\n".join(report.lines()))
