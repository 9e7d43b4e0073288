"""Turn StyleGAN2 checkpoints of other projects into a checkpoint folder that ``from_pretrained`` opens.

Examples:
    gan2shape convert rosinality stylegan2-church.pt --category church --output checkpoints/church
    gan2shape convert rosinality e4e_cars_encode.pt --category car --output checkpoints/car
    gan2shape convert nvidia afhqcat.pkl --category cat --space pca --output checkpoints/cat
    gan2shape convert nvidia stylegan2-horse-config-f.pkl --category horse --space pca --output checkpoints/horse
    gan2shape convert gan2shape --stylegan2 stylegan2-celeba-config-e.pt \\
        --shape-nets celeba_pretrain.pth --view-mvn celeba_view_mvn.pth --light-mvn celeba_light_mvn.pth \\
        --category face --output checkpoints/celeba
    gan2shape convert random-face random_face-2021.7.21.1-py3-none-any.whl --output checkpoints/face

No file is ever executed: pickles are read by an unpickler that admits the handful of names such files need.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence

from gan2shape_hub.arguments import user_path
from gan2shape_hub.presets import PRESETS


def _rosinality(args: argparse.Namespace) -> object:
    from gan2shape_hub.conversion import rosinality

    return rosinality.convert(
        args.file, args.category, args.output, args.size, args.overwrite, args.license, args.space
    )


def _nvidia(args: argparse.Namespace) -> object:
    from gan2shape_hub.conversion import nvidia

    return nvidia.convert(
        args.file,
        args.category,
        args.output,
        args.size,
        args.conv_clamp or None,
        args.overwrite,
        args.license,
        args.space,
    )


def _gan2shape(args: argparse.Namespace) -> object:
    from gan2shape_hub.conversion import gan2shape

    return gan2shape.convert(
        args.stylegan2,
        args.category,
        args.output,
        args.shape_nets,
        args.view_mvn,
        args.light_mvn,
        args.overwrite,
        args.license,
    )


def _random_face(args: argparse.Namespace) -> object:
    from gan2shape_hub.conversion import random_face

    return random_face.convert(args.wheel, args.output, args.overwrite)


def _common(parser: argparse.ArgumentParser, run: Callable[[argparse.Namespace], object]) -> None:
    parser.add_argument("--output", required=True, type=user_path, metavar="DIR", help="checkpoint folder to write")
    parser.add_argument(
        "--overwrite", action="store_true", help="write into DIR even where it holds something other than a checkpoint"
    )
    parser.set_defaults(run=run)


def _category(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--category", required=True, help=f"constants: {', '.join(PRESETS)}")
    parser.add_argument("--license", default="unknown", metavar="ID", help="licence of the weights, for the model card")


def _space(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--space",
        default="mapping_tail",
        choices=("mapping_tail", "pca"),
        help="where latents are moved: mapping_tail as in the paper, for reconstructions from the ellipsoid; pca, "
        "principal components of W, for shape networks that gan2shape train makes (default: mapping_tail)",
    )


def parser() -> argparse.ArgumentParser:
    """The command line; a further format is one more subcommand here."""
    main_parser = argparse.ArgumentParser(
        prog="gan2shape convert",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    commands = main_parser.add_subparsers(dest="format", required=True, metavar="FORMAT")

    command = commands.add_parser("rosinality", help="a .pt of rosinality/stylegan2-pytorch, or of pSp, e4e, ReStyle")
    command.add_argument("file", type=user_path, metavar="FILE.pt")
    command.add_argument("--size", type=int, help="image size; inferred, and checked where given")
    _category(command)
    _space(command)
    _common(command, _rosinality)

    command = commands.add_parser("nvidia", help="a .pkl of stylegan2, stylegan2-ada or stylegan3, or a state dict")
    command.add_argument("file", type=user_path, metavar="FILE.pkl|.pt|.safetensors")
    command.add_argument("--size", type=int, help="image size; inferred, and checked where given")
    command.add_argument(
        "--conv-clamp",
        type=float,
        default=256.0,
        help="clamp of the activations, for state dicts, which do not say (a .pkl does); 0: none (default: 256)",
    )
    _category(command)
    _space(command)
    _common(command, _nvidia)

    command = commands.add_parser("gan2shape", help="the files that GAN2Shape released")
    command.add_argument(
        "--stylegan2", required=True, type=user_path, metavar="X.pt", help="rosinality file of the generator"
    )
    command.add_argument("--shape-nets", type=user_path, metavar="Y.pth", help="netD, netA, netV, netL, netEnc")
    command.add_argument("--view-mvn", type=user_path, metavar="V.pth", help="Gaussian of views: mean (6), cov (6 x 6)")
    command.add_argument(
        "--light-mvn", type=user_path, metavar="L.pth", help="Gaussian of lights: mean (4), cov (4 x 4)"
    )
    _category(command)
    _common(command, _gan2shape)

    command = commands.add_parser("random-face", help="the wheel of random-face on PyPI (MobileStyleGAN, FFHQ)")
    command.add_argument("wheel", type=user_path, metavar="WHEEL")
    _common(command, _random_face)
    return main_parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; 0, or 1 with one sentence on standard error."""
    args = parser().parse_args(argv)
    try:
        report = args.run(args)
    except (ValueError, OSError) as error:  # ConversionError, ConfigError, CheckpointError and the system's own
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        return 1
    except (RuntimeError, RecursionError, MemoryError, AttributeError, KeyError, TypeError, IndexError) as error:
        print(f"error: the file is damaged or of another kind ({type(error).__name__}).", file=sys.stderr)
        return 1
    for line in report.lines() if hasattr(report, "lines") else ():
        print(line)
    print(f"Wrote {args.output}.")
    return 0
