"""Image in, textured 3D model out.

Examples:
    python scripts/reconstruct.py --seed 7 --output out/              a generated face
    python scripts/reconstruct.py photo.jpg --output out/             the largest face of a photograph
    python scripts/reconstruct.py group.jpg --face 1 --output out/    its second largest
    python scripts/reconstruct.py --seed 7 --preset balanced --views -30,-15,0,15,30 --output out/
    python scripts/reconstruct.py --seed 7 --output out/ --json       one JSON object on standard output
"""

from __future__ import annotations

import argparse
import contextlib
import json
import sys
import time
from pathlib import Path

DEFAULT_CHECKPOINT = Path(__file__).resolve().parent.parent / "checkpoints" / "face"
STEPS = {
    "invert": "finding the latent",
    "tune": "adapting a copy of the generator",
    "prior": "starting from an ellipsoid",
    "decompose": "step 1: albedo",
    "explore": "step 2: projecting pseudo views",
    "collect": "step 2: collecting views",
    "refine": "step 3: shape from all views",
}


def parse_arguments(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("image", nargs="?", help="a photograph (its face is found and aligned); or use --seed")
    parser.add_argument("--no-align", action="store_true", help="take the photograph's central square as it is")
    parser.add_argument("--face", type=int, help="which face of several, 0 being the largest (default)")
    parser.add_argument("--tune", action="store_true", help="adapt a copy of the generator to the photograph: closer")
    parser.add_argument("--seed", type=int, help="reconstruct the generated face of this seed")
    parser.add_argument("--truncation", type=float, help="variety of generated faces, 0..1 (default: the checkpoint's)")
    parser.add_argument("--output", "-o", required=True, help="folder to write")
    parser.add_argument("--checkpoint", default=str(DEFAULT_CHECKPOINT), help="folder or Hub id (default: the face)")
    parser.add_argument("--preset", help="fast, balanced or paper (default: the checkpoint's)")
    parser.add_argument("--run-seed", type=int, default=0, help="seed of the reconstruction's randomness")
    parser.add_argument("--device", help="cpu, cuda, mps, ... (default: what accelerate finds)")
    parser.add_argument("--precision", default="no", choices=("no", "bf16", "fp16"), help="autocast of the networks")
    parser.add_argument("--views", help="yaw angles in degrees, such as -30,0,30: also save these through the GAN")
    parser.add_argument("--light", action="append", default=[], help="left, right, top, rim, ...: also save relit")
    parser.add_argument("--no-turntable", action="store_true", help="skip the turntable, the slowest export")
    parser.add_argument("--json", action="store_true", help="print the result as JSON")
    parser.add_argument("--quiet", action="store_true", help="no progress bar")
    options = parser.parse_args(arguments)
    if (options.image is None) == (options.seed is None):
        parser.error("give either an image or --seed")
    try:
        options.views = [float(v) for v in options.views.split(",")] if options.views else []
    except ValueError:
        parser.error(f"--views is '{options.views}', must be numbers separated by commas, such as -30,0,30")
    return options


class ProgressBar:
    """What the run is doing, how far it is and how long it still takes, on standard error."""

    def __init__(self) -> None:
        from tqdm import tqdm

        self._bar = tqdm(
            total=100, bar_format="{l_bar}{bar}| {elapsed}<{remaining}{postfix}", file=sys.stderr, dynamic_ncols=True
        )

    def __call__(self, progress) -> None:
        self._bar.set_description_str(f"{STEPS[progress.step]} {progress.iteration}/{progress.iterations}")
        self._bar.set_postfix_str(f"loss {progress.loss:.3f}", refresh=False)
        self._bar.update(max(progress.fraction * 100 - self._bar.n, 0))

    def close(self) -> None:
        self._bar.close()


def main(arguments: list[str] | None = None) -> int:
    options = parse_arguments(arguments)
    # Imported here, so that --help and mistakes in the arguments are answered at once.
    from gan2shape_hub import Cancelled, GAN2ShapePipeline

    bar = None
    try:
        begun = time.perf_counter()
        pipeline = GAN2ShapePipeline.from_pretrained(
            options.checkpoint, device=options.device, mixed_precision=options.precision
        )
        if options.seed is not None:
            item = pipeline.sample(seed=options.seed, truncation=options.truncation)
        else:
            item = options.image
        bar = None if options.quiet else ProgressBar()
        result = pipeline(
            item,
            preset=options.preset,
            seed=options.run_seed,
            callback=bar,
            align=not options.no_align,
            face_index=options.face,
            tuned=options.tune,
        )
        if bar:
            bar.close()
        result.settings.update(checkpoint=options.checkpoint, image=options.image)
        result.warn_if_poor()
        if result.settings.get("faces", 0) > 1 and options.face is None:
            print(f"reconstruct: {result.settings['faces']} faces, the largest was taken (--face).", file=sys.stderr)
        files = result.save(options.output, turntable=not options.no_turntable)
        files += save_edits(result, Path(options.output), options.views, options.light)
        report = {
            "output": str(options.output),
            "files": [file.name for file in files],
            "seconds": round(time.perf_counter() - begun, 1),
            **{key: result.settings[key] for key in ("preset", "seed", "psnr_db")},
        }
        print(json.dumps(report) if options.json else f"{options.output}: {', '.join(report['files'])}")
        return 0
    except KeyboardInterrupt:
        message = "stopped: nothing half-written was left."
    except (OSError, ValueError, FloatingPointError, Cancelled) as error:
        message = str(error)
    finally:
        if bar:
            with contextlib.suppress(Exception):
                bar.close()
    print(f"reconstruct: {message}", file=sys.stderr)
    return 1


def save_edits(result, folder: Path, views: list[float], lights: list[str]) -> list[Path]:
    """Rotations and relightings through the GAN, as ``rotated_<yaw>.png`` and ``relit_<light>.png``."""
    from gan2shape_hub.results.image_files import write_image

    files = [write_image(folder / f"rotated_{yaw:+.0f}.png", result.rotate(yaw, through_gan=True)) for yaw in views]
    return files + [
        write_image(folder / f"relit_{light}.png", result.relight(light, through_gan=True)) for light in lights
    ]


if __name__ == "__main__":
    sys.exit(main())
