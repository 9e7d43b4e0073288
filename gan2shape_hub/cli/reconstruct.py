"""Image in, textured 3D model out.

Examples:
    gan2shape reconstruct --seed 7 --output out/              a generated face
    gan2shape reconstruct photo.jpg --output out/             the largest face of a photograph
    gan2shape reconstruct group.jpg --face 1 --output out/    its second largest
    gan2shape reconstruct photo.jpg --tune --views -15,15 --light left --paste --output out/
                                                              turned, relit, and put back into the photograph
    gan2shape reconstruct --seed 7 --preset balanced --views -30,-15,0,15,30 --output out/
    gan2shape reconstruct photo.jpg --shape head --faces 40000 --height-mm 120 --output out/
                                                              a closed head, also as STL and 3MF for printing
    gan2shape reconstruct --seed 7 --output out/ --json       one JSON object on standard output
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from gan2shape_hub.arguments import user_path
from gan2shape_hub.cli.common import PRESETS, add_checkpoint, check_output, progress

if TYPE_CHECKING:
    from PIL import Image

    from gan2shape_hub.reconstruction import Reconstruction

RUN = 0.9
"""Part of the progress that is the run's; saving is the rest."""


def parse_arguments(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="gan2shape reconstruct", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("image", nargs="?", help="a photograph, file or address (its face is found); or use --seed")
    parser.add_argument("--no-align", action="store_true", help="take the photograph's central square as it is")
    parser.add_argument("--face", type=int, help="which face of several, 0 being the largest (default)")
    parser.add_argument("--mask", help="a picture of the photograph's size, or of the square's, white on the object")
    parser.add_argument("--tune", action="store_true", help="adapt a copy of the generator to the photograph: closer")
    parser.add_argument("--seed", type=int, help="reconstruct the generated face of this seed")
    parser.add_argument("--truncation", type=float, help="variety of generated faces, 0..1 (default: the checkpoint's)")
    parser.add_argument("--output", "-o", required=True, type=user_path, help="folder to write")
    add_checkpoint(parser)
    parser.add_argument("--preset", help=PRESETS)
    parser.add_argument("--run-seed", type=int, default=0, help="seed of the reconstruction's randomness")
    parser.add_argument("--device", help="cpu, cuda, mps, ... (default: what accelerate finds)")
    parser.add_argument("--precision", default="no", choices=("no", "bf16", "fp16"), help="autocast of the networks")
    parser.add_argument("--views", help="yaw angles in degrees, such as -30,0,30: also save these through the GAN")
    parser.add_argument(
        "--light",
        action="append",
        default=[],
        help="left, right, top, below, rim, flat, studio, window, sunset, or a panorama (.hdr, .jpg, ...) that lights: "
        "also save relit through the GAN; may be given several times",
    )
    parser.add_argument(
        "--paste",
        nargs="?",
        const="gan",
        choices=("gan", "rendered"),
        help="also save each of --views and --light inside the whole photograph, made by the generator (default) or "
        "rendered with the photograph's own pixels",
    )
    saved = parser.add_argument_group("what is saved")
    saved.add_argument("--shape", default="front", choices=("front", "relief", "head"), help="closed: relief or head")
    saved.add_argument("--background", action="store_true", help="keep the background, as a plane behind the object")
    saved.add_argument("--faces", type=int, help="triangles of the mesh at most; a normal map keeps what they lose")
    saved.add_argument("--texture-size", type=int, help="512 to 4096 texels (default: the photograph's, at most 1024)")
    saved.add_argument("--texture", default="photograph", choices=("photograph", "albedo"), help="albedo: evenly lit")
    saved.add_argument("--no-sides", action="store_true", help="no turned views of the generator on a model's sides")
    saved.add_argument("--height-mm", type=float, default=100.0, help="of STL and 3MF, which closed shapes get")
    saved.add_argument("--path", default="turn", choices=("turn", "nod", "orbit"), help="how the turntable moves")
    saved.add_argument("--no-turntable", action="store_true", help="skip the turntable, the slowest export")
    parser.add_argument("--json", action="store_true", help="print the result as JSON")
    parser.add_argument("--quiet", action="store_true", help="no progress bar")
    options = parser.parse_args(_joined(sys.argv[1:] if arguments is None else arguments))
    if (options.image is None) == (options.seed is None):
        parser.error("give either an image or --seed")
    if options.paste and options.image is None:
        parser.error("--paste needs a photograph: a generated face has none")
    if options.paste and not (options.views or options.light):
        parser.error("--paste needs an edit: give --views or --light, or both")
    for name in ("seed", "run_seed"):
        if not 0 <= (getattr(options, name) or 0) < 2**63:
            parser.error(f"--{name.replace('_', '-')} is {getattr(options, name)}, must be 0 or more and below 2^63")
    try:
        views = [float(v) for v in options.views.split(",")] if options.views else []
        if not all(math.isfinite(v) for v in views):
            raise ValueError
    except ValueError:
        parser.error(f"--views is '{options.views}', must be numbers separated by commas, such as -30,0,30")
    options.views = views
    return options


def _joined(arguments: list[str]) -> list[str]:
    """``--views -30,0`` as ``--views=-30,0``: argparse takes a list that starts with a minus for another option."""
    joined: list[str] = []
    for argument in arguments:
        if joined and joined[-1] == "--views" and argument[:1] == "-" and argument[1:2] in "0123456789.":
            joined[-1] = f"--views={argument}"
        else:
            joined.append(argument)
    return joined


def main(arguments: list[str] | None = None) -> int:
    options = parse_arguments(arguments)
    try:
        with warnings.catch_warnings():
            warnings.showwarning = lambda message, *_: print(f"reconstruct: {message}", file=sys.stderr)
            report = reconstruct(options)
        print(json.dumps(report) if options.json else f"{options.output}: {', '.join(report['files'])}")
        return 0
    except KeyboardInterrupt:
        message, code = "stopped: nothing half-written was left.", 130
    except (OSError, ValueError, FloatingPointError) as error:
        message, code = str(error), 1
    print(f"reconstruct: {message}", file=sys.stderr)
    return code


def check(options: argparse.Namespace) -> None:
    """Whatever can be known to be wrong before the checkpoint's weights are loaded; OSError, ValueError say it."""
    check_output(options.output)
    if options.truncation is not None and not 0 <= options.truncation <= 1:
        raise ValueError(f"truncation is {options.truncation}, must be between 0 and 1.")
    # Imported here, so that --help and mistakes in the arguments are answered at once.
    from gan2shape_hub import hub
    from gan2shape_hub.accelerator import check_device
    from gan2shape_hub.results.edit import as_light
    from gan2shape_hub.results.export import ExportOptions
    from gan2shape_hub.results.model import ModelOptions
    from gan2shape_hub.stages.prepare import load_image

    ExportOptions(
        ModelOptions(options.shape, options.background, options.faces, options.texture_size, options.texture),
        options.height_mm,
    )
    if options.device is not None:
        check_device(options.device)
    for light in options.light:
        as_light(_light(light))
    options.checkpoint = options.checkpoint or hub.default_checkpoint()
    hub.read_config(hub.resolve(options.checkpoint, only=())).schedule(options.preset)
    if options.image is not None:
        load_image(options.image)
    if options.mask is not None:
        load_image(options.mask)


def reconstruct(options: argparse.Namespace) -> dict:
    """Do what the command line asks for; what is reported about it."""
    begun = time.perf_counter()
    check(options)
    with progress(options.quiet) as show:
        show(0, "Loading the checkpoint")
        from gan2shape_hub import GAN2ShapePipeline

        pipeline = GAN2ShapePipeline.from_pretrained(
            options.checkpoint, device=options.device, mixed_precision=options.precision
        )
        show(0, "Looking at the picture")
        item = options.image
        if options.seed is not None:
            item = pipeline.sample(seed=options.seed, truncation=options.truncation)
        result = pipeline(
            item,
            preset=options.preset,
            seed=options.run_seed,
            callback=lambda now: show(
                RUN * now.fraction, now.label, f"{now.iteration}/{now.iterations}, loss {now.loss:.3f}"
            ),
            align=not options.no_align,
            face_index=options.face,
            mask=options.mask,
            tuned=options.tune,
        )
        result = result.with_report(checkpoint=options.checkpoint)
        # All pictures are made before anything is written.
        edits = {}
        for number, (name, make) in enumerate(edits_of(options, result), 1):
            show(RUN, f"Making {name}", str(number))
            edits[name] = make()
        show(RUN, "Saving")
        names = ("shape", "background", "faces", "texture_size", "texture", "height_mm", "path")
        form = {name: getattr(options, name) for name in names} | {"sides": not options.no_sides}
        files = result.save(options.output, turntable=not options.no_turntable, pictures=edits, **form)
        show(1, "Saved")
    if (result.report.input.faces or 0) > 1 and options.face is None:
        print(f"reconstruct: {result.report.input.faces} faces, the largest was taken (--face).", file=sys.stderr)
    return {
        "output": str(options.output),
        "files": [file.name for file in files],
        "seconds": round(time.perf_counter() - begun, 1),
        **{key: getattr(result.report, key) for key in ("preset", "seed", "psnr_db")},
    }


def edits_of(options: argparse.Namespace, result: Reconstruction) -> Iterator[tuple[str, Callable[[], Image.Image]]]:
    """Name of the file -> what makes the picture, of all that the command line asks for."""
    for yaw in options.views:
        yield f"rotated_{yaw:+g}.png", partial(result.rotate, yaw, through_gan=True)
    for light in options.light:
        yield f"relit_{_name(light)}.png", partial(result.relight, _light(light), through_gan=True)
    if options.paste:
        edit = partial(result.edit_photograph, through_gan=options.paste == "gan")
        for yaw in options.views:
            yield f"photograph_rotated_{yaw:+g}.png", partial(edit, yaw)
        for light in options.light:
            yield f"photograph_relit_{_name(light)}.png", partial(edit, light=_light(light))


def _light(given: str) -> str | Path:
    """A light's name, or the path of a panorama, which has a suffix."""
    return user_path(given) if Path(given).suffix else given


def _name(given: str) -> str:
    """What a light's pictures are called by."""
    return Path(given).stem
