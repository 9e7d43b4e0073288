"""Find the directions of light of a checkpoint and its average object, and write both into the folder.

Nothing is labelled: the directions are those along which the generator's brightness changes as the normals say, in the
layers where they are purest (training/light_directions.py), and the average object is what the light walks of a crowd
agree on (training/average_sheet.py). It needs a generator with components of W and shape networks; a masker, directions
to turn along and a face detector make it better and may be missing.

Examples:
    python scripts/find_light.py checkpoints/face
    python scripts/find_light.py checkpoints/cat --device cuda --figures out/light
"""

from __future__ import annotations

import argparse
import functools
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import nn

from gan2shape_hub import hub
from gan2shape_hub.config import CategoryConfig
from gan2shape_hub.generator import sample_latents
from gan2shape_hub.models.average_sheet import AverageSheet
from gan2shape_hub.models.latent_projection import LatentProjection, gan_image
from gan2shape_hub.models.shape import ShapeNets
from gan2shape_hub.records import SHAPE_COMPONENTS
from gan2shape_hub.rendering import normals_from_depth, render_view, shade
from gan2shape_hub.results.edit import make_light, rotate_poses
from gan2shape_hub.results.image_files import to_pil, write_image
from gan2shape_hub.results.layout import Tile, page
from gan2shape_hub.stages.mask import first_answer, mask_from_nets
from gan2shape_hub.training.average_sheet import collect_crowd, solve_average
from gan2shape_hub.training.light_directions import (
    PURITY,
    find_light_directions,
    measure_responses,
    with_light,
)

RELIT = ("unlit", "left", "right", "above", "below", "front")
"""Columns of the strip of relit objects."""


def parser() -> argparse.ArgumentParser:
    main_parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    main_parser.add_argument("checkpoint", type=Path, help="checkpoint folder that learns its light")
    main_parser.add_argument("--images", type=int, default=10, help="generated images that directions are fitted on")
    main_parser.add_argument("--people", type=int, default=40, help="generated objects that the average is made of")
    main_parser.add_argument("--purity", type=float, default=PURITY, help="below it nothing counts as light (0..1)")
    main_parser.add_argument("--seed", type=int, default=0)
    main_parser.add_argument("--device", default="cpu")
    main_parser.add_argument("--figures", type=Path, metavar="DIR", help="write pictures of what was found into here")
    return main_parser


def run(args: argparse.Namespace) -> None:
    config, components = hub.load_components(args.checkpoint, device=args.device)
    nets, generator = shape_nets(args.checkpoint, components), components["generator"]
    if not hasattr(generator, "component_basis"):
        raise ValueError(
            f"the generator of {args.checkpoint} has no components of W: convert it anew, which adds them."
        )
    if args.images < 3 or args.people < 1:
        raise ValueError("--images must be 3 or more, --people 1 or more.")
    maskers = [components["masker"]] if "masker" in components else []
    masker = functools.partial(
        first_answer, maskers=[*maskers, functools.partial(mask_from_nets, nets=nets, config=config)]
    )
    start = time.perf_counter()

    def log(line: str) -> None:
        print(f"{time.perf_counter() - start:6.0f} s  {line}", flush=True)

    layers, responses = measure_responses(generator, nets, masker, config, log, args.images, args.seed)
    found = find_light_directions(layers, responses, config.projection.view_directions, log, args.purity)
    config = with_light(config, found)
    components.pop("average_sheet", None)
    if found is not None:
        purity = " ".join(f"{x:.2f}" for x in found.purity.tolist())
        log(f"light from the left, above, the front in layers {', '.join(map(str, found.layers))}, purity {purity}")
        crowd = collect_crowd(generator, nets, masker, config, log, args.people, args.seed + 1)
        components["average_sheet"] = solve_average(crowd, config, log)
    hub.save_components(args.checkpoint, config, components, dtype=hub.stored_dtypes(components))
    log(f"wrote {args.checkpoint}")
    if found is not None and args.figures is not None:
        args.figures.mkdir(parents=True, exist_ok=True)
        write_image(args.figures / "average.png", page([average_tiles(components["average_sheet"], config)]))
        write_image(args.figures / "relit.png", page(relit_tiles(generator, config, args.seed + 2)))


def shape_nets(checkpoint: Path, components: dict[str, nn.Module]) -> ShapeNets:
    """The checkpoint's; ValueError where it has not all of them."""
    missing = [name for name in SHAPE_COMPONENTS.values() if name not in components]
    if missing:
        raise ValueError(f"{checkpoint} has no {', '.join(missing)}: run scripts/pretrain.py first.")
    return ShapeNets(**{field: components[name] for field, name in SHAPE_COMPONENTS.items()})


def average_tiles(average: AverageSheet, config: CategoryConfig, side: int = 256) -> list[Tile]:
    """The bare average object from the front and turned by 40 degrees, lit from the left and from the right."""
    depth, camera = average().cpu()[None], config.camera
    normals = normals_from_depth(depth, camera)
    tiles = []
    for name, side in (("left", 0.6), ("right", -0.6)):
        light = make_light(side, 0.4, ambient=0.1, diffuse=1.0)
        texture, _ = shade(torch.full_like(normals, 0.8), normals, light)
        for yaw in (0, 40):
            view = render_view(depth, texture, rotate_poses([(yaw, 0)], camera), camera, background=-1.0)
            tiles.append(Tile(f"{yaw} degrees, light {name}", to_pil(view.image)))
    return tiles


@torch.no_grad()
def relit_tiles(generator: nn.Module, config: CategoryConfig, seed: int, count: int = 5) -> list[list[Tile]]:
    """Generated objects, each unlit and under five lights."""
    projection = LatentProjection(generator, config.projection)
    latents = sample_latents(generator, count, torch.Generator().manual_seed(seed), config.truncation)
    steps = torch.tensor([[0, 0, 0], [2, 0, 0], [-2, 0, 0], [0, 2, 0], [0, -2, 0], [0, 0, 2]]).to(latents)
    rows = []
    for latent in latents:
        images = gan_image(generator, projection.relight(latent[None], steps), config.image_size, config.crop_fraction)
        rows.append([Tile(name, to_pil(image)) for name, image in zip(RELIT, images, strict=True)])
    return rows


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; 0, or 1 with one sentence on standard error."""
    args = parser().parse_args(argv)
    try:
        run(args)
    except (ValueError, OSError) as error:
        print(f"find_light: {' '.join(str(error).split())}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
