"""Fit the view and light Gaussians of a checkpoint from view and light networks, and write them into its config.json.

Examples:
    python scripts/fit_priors.py checkpoints/cat --images photos/cats
    python scripts/fit_priors.py checkpoints/cat --samples 2000
    python scripts/fit_priors.py checkpoints/horse --samples 2000 --shape-nets horse_pretrain.pth
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch
from torch import Tensor

from gan2shape_hub.conversion.gan2shape import read_shape_nets
from gan2shape_hub.conversion.verify import Report
from gan2shape_hub.hub import load_components
from gan2shape_hub.reading.formats import SUFFIXES, is_photograph
from gan2shape_hub.stages.prepare import load_image, prepare_square
from gan2shape_hub.training.priors import PriorError, fit_priors, generated_images, write_config


def folder_images(folder: Path, size: int, center_crop: int, batch: int = 16) -> Iterator[Tensor]:
    """Images of a folder, sorted by name, in batches (B, 3, size, size) in -1..1."""
    files = sorted(p for p in folder.iterdir() if is_photograph(p.name)) if folder.is_dir() else []
    if not files:
        raise PriorError(f"{folder} has no images ({', '.join(sorted(SUFFIXES))}).")
    for start in range(0, len(files), batch):
        images = [load_image(file) for file in files[start : start + batch]]
        yield torch.cat([prepare_square(image, size, center_crop=center_crop).image for image in images])


def parser() -> argparse.ArgumentParser:
    main_parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    main_parser.add_argument("checkpoint", type=Path, help="checkpoint folder whose config.json is rewritten")
    source = main_parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--images", type=Path, metavar="DIR", help="folder of photographs of the category")
    source.add_argument("--samples", type=int, metavar="N", help="this many images of the checkpoint's generator")
    main_parser.add_argument("--shape-nets", metavar="Y.pth", help="take netV and netL from here, not the checkpoint")
    main_parser.add_argument("--shrinkage", type=float, help="weight of the diagonal, 0..1 (default: estimated)")
    main_parser.add_argument("--truncation", type=float, default=1.0, help="of the samples (default: 1, none)")
    main_parser.add_argument("--seed", type=int, default=0)
    return main_parser


def run(args: argparse.Namespace) -> str:
    config, components = load_components(args.checkpoint)
    own = args.shape_nets is None
    nets, size = (components, config.image_size) if own else read_shape_nets(args.shape_nets, Report(args.shape_nets))
    for name in ("view_net", "light_net"):
        if name not in nets:
            where = args.checkpoint if own else args.shape_nets
            raise PriorError(f"{where} has no {name}: give networks with --shape-nets.")
    if args.images is not None:
        batches = folder_images(args.images, size, config.center_crop)
    else:
        batches = generated_images(components["generator"], args.samples, size, args.truncation, args.seed)
    count = 0

    def counted() -> Iterator[Tensor]:
        nonlocal count
        for images in batches:
            count += len(images)
            yield images

    fitted = fit_priors(config, nets["view_net"], nets["light_net"], counted(), args.shrinkage, own_nets=own)
    write_config(args.checkpoint, fitted)
    lines = [f"Fitted to {count} images; wrote {args.checkpoint / 'config.json'}."]
    for label, gaussian in (("view", fitted.view_gaussian), ("light", fitted.light_gaussian)):
        std = [gaussian.covariance[i][i] ** 0.5 for i in range(len(gaussian.mean))]
        cells = ", ".join(f"{m:+.3f} ± {s:.3f}" for m, s in zip(gaussian.mean, std, strict=True))
        lines.append(f"{label:5s} {cells}")
    return "\n".join(lines)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; 0, or 1 with one sentence on standard error."""
    args = parser().parse_args(argv)
    try:
        print(run(args))
    except (ValueError, OSError) as error:
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
