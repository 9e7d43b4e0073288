"""A folder of photographs in, a folder of reconstructions out.

Each photograph gets a folder of its own under the output, with everything that `gan2shape reconstruct` writes; of
several faces the largest is taken. A run that was stopped continues where it was; a photograph that cannot be used is
noted (error.txt) and the others go on, and it is tried again by the next run. At the end summary.csv and a table say
how each one went.

Examples:
    gan2shape folder photos/ --output out/
    gan2shape folder photos/ --output out/ --tune --no-turntable
    accelerate launch --num_processes 4 -m gan2shape_hub.cli.folder photos/ --output out/     split over GPUs
    torchrun --nproc_per_node 4 -m gan2shape_hub.cli.folder photos/ --output out/             or over CPU processes
"""

from __future__ import annotations

import argparse
import csv
import dataclasses
import json
import shutil
import sys
import time
import warnings
from datetime import timedelta
from pathlib import Path

from gan2shape_hub.arguments import user_path
from gan2shape_hub.atomic import ExportError, atomic_file
from gan2shape_hub.cli.common import PRESETS, add_checkpoint, check_output
from gan2shape_hub.reading.formats import SUFFIXES, is_photograph

COLUMNS = ("file", "status", "psnr_db", "faces", "seconds", "note")
RESULT, ERROR, SUMMARY = "result.json", "error.txt", "summary.csv"


def parse_arguments(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="gan2shape folder", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=user_path, help="folder of photographs (not its subfolders)")
    parser.add_argument("--output", "-o", required=True, type=user_path, help="folder to write")
    add_checkpoint(parser)
    parser.add_argument("--preset", help=PRESETS)
    parser.add_argument("--run-seed", type=int, default=0, help="seed of each reconstruction's randomness")
    parser.add_argument("--device", help="cpu, cuda, mps, ... (default: what accelerate finds)")
    parser.add_argument("--precision", default="no", choices=("no", "bf16", "fp16"), help="autocast of the networks")
    parser.add_argument("--no-align", action="store_true", help="take the central squares as they are")
    parser.add_argument("--tune", action="store_true", help="adapt a copy of the generator to each photograph")
    parser.add_argument("--no-turntable", action="store_true", help="skip the turntables, the slowest export")
    parser.add_argument("--again", action="store_true", help="redo what is there already")
    return parser.parse_args(arguments)


def find_jobs(folder: Path, output: Path) -> list[tuple[Path, Path]]:
    """(photograph, folder to write) in order of name; two files that differ in their suffix only keep it, and where
    a file has that name already (a photograph, if ``output`` is ``folder``) the folder's gets another ending."""
    photographs = sorted(f for f in folder.iterdir() if is_photograph(f.name) and f.is_file())
    stems = [f.stem.lower() for f in photographs]
    jobs, taken = [], {SUMMARY}
    for photograph, stem in zip(photographs, stems, strict=True):
        name = photograph.name if stems.count(stem) > 1 else photograph.stem
        while name.lower() in taken or (output / name).is_file():
            name += "_3d"
        taken.add(name.lower())
        jobs.append((photograph, output / name))
    return jobs


def reconstruct_one(pipeline, photograph: Path, target: Path, options: argparse.Namespace) -> None:
    """One photograph into ``target``; whatever is wrong with it becomes ``error.txt`` there."""
    error = target / ERROR
    try:
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always", UserWarning)
            result = pipeline(
                photograph,
                preset=options.preset,
                seed=options.run_seed,
                align=not options.no_align,
                tuned=options.tune,
            )
        notes = list(dict.fromkeys(str(w.message) for w in said if issubclass(w.category, UserWarning)))
        given = dataclasses.replace(result.report.input, image=photograph.name)
        result = result.with_report(checkpoint=options.checkpoint, input=given, warnings=tuple(notes))
        result.save(target, turntable=not options.no_turntable)
        error.unlink(missing_ok=True)
    except Exception as reason:  # one bad file must not stop the rest; Ctrl-C still does
        text = (str(reason).strip() or type(reason).__name__).splitlines()[0]
        try:
            with atomic_file(error) as part:
                part.write_text(text + "\n", encoding="utf-8")
        except (OSError, ExportError) as problem:  # a full disk: the next photograph may do without it
            print(f"gan2shape folder: {photograph.name}: {text} ({problem})", file=sys.stderr)


def summarise(jobs: list[tuple[Path, Path]]) -> list[dict[str, str]]:
    """A row of ``COLUMNS`` for each photograph, out of what its folder holds."""
    rows = []
    for photograph, target in jobs:
        row = dict.fromkeys(COLUMNS, "") | {"file": photograph.name, "status": "missing"}
        try:
            if (target / ERROR).exists():
                row |= {"status": "failed", "note": (target / ERROR).read_text(encoding="utf-8").strip()}
            elif (target / RESULT).exists():
                settings = json.loads((target / RESULT).read_text(encoding="utf-8"))
                row |= {"status": "done", **{k: str(settings.get(k, "")) for k in ("psnr_db", "faces", "seconds")}}
                row["note"] = "; ".join(settings.get("warnings", ()))
        except (OSError, ValueError) as reason:
            row |= {"status": "damaged", "note": f"{reason}: run again with --again"}
        rows.append(row)
    return rows


def print_table(rows: list[dict[str, str]]) -> None:
    shown = [dict(zip(COLUMNS, COLUMNS, strict=True)), *rows]
    widths = {c: max(len(row[c]) for row in shown) for c in COLUMNS}
    room = shutil.get_terminal_size().columns
    for row in shown:
        print("  ".join(row[c].ljust(widths[c]) for c in COLUMNS).rstrip()[: max(room, 80)])
    done = sum(row["status"] == "done" for row in rows)
    print(f"{done} of {len(rows)} reconstructed")


def check(options: argparse.Namespace) -> list[tuple[Path, Path]]:
    """What is to be done; OSError, ValueError where something is wrong with the options or the checkpoint."""
    folder, output = options.folder, options.output
    if not folder.is_dir():
        raise OSError(f"'{folder}' is not a folder: give the one that holds the photographs.")
    jobs = find_jobs(folder, output)
    if not jobs:
        raise OSError(f"'{folder}' holds no photographs ({', '.join(sorted(SUFFIXES))}).")
    check_output(output)
    from gan2shape_hub import hub

    options.checkpoint = options.checkpoint or hub.default_checkpoint()
    hub.read_config(hub.resolve(options.checkpoint, only=())).schedule(options.preset)
    return jobs


def main(arguments: list[str] | None = None) -> int:
    options = parse_arguments(arguments)
    try:
        return reconstruct_all(check(options), options)
    except (OSError, ValueError) as error:  # the checkpoint or the options: the same for every photograph
        print(f"gan2shape folder: {error}", file=sys.stderr)
    except KeyboardInterrupt:
        print("gan2shape folder: stopped; run it again to continue.", file=sys.stderr)
    return 1


def reconstruct_all(jobs: list[tuple[Path, Path]], options: argparse.Namespace) -> int:
    """Every job that is still open, shared among the processes; the exit status."""
    import torch
    from accelerate import PartialState

    from gan2shape_hub import GAN2ShapePipeline

    # Without being told of the CPU, accelerate takes every process for the only one there. Processes wait for the
    # slowest at the end, which may be hours away.
    on_cpu = options.device.startswith("cpu") if options.device else not torch.accelerator.is_available()
    state = PartialState(cpu=on_cpu, timeout=timedelta(days=30))
    open_jobs = [job for job in jobs if options.again or not (job[1] / RESULT).exists() or (job[1] / ERROR).exists()]
    mine = open_jobs[state.process_index :: state.num_processes]
    state.wait_for_everyone()  # nobody writes before everybody has looked
    if mine:
        pipeline = GAN2ShapePipeline.from_pretrained(
            options.checkpoint, device=options.device or str(state.device), mixed_precision=options.precision
        )
    for number, (photograph, target) in enumerate(mine, 1):
        begun = time.perf_counter()
        reconstruct_one(pipeline, photograph, target, options)
        failed = " failed" if (target / ERROR).exists() else ""
        seconds = time.perf_counter() - begun
        print(f"{number}/{len(mine)} {photograph.name}{failed} ({seconds:.0f} s)", file=sys.stderr, flush=True)
    state.wait_for_everyone()
    rows = summarise(jobs)
    if state.is_main_process:
        with atomic_file(options.output / SUMMARY) as part, part.open("w", newline="", encoding="utf-8") as stream:
            writer = csv.DictWriter(stream, COLUMNS)
            writer.writeheader()
            writer.writerows(rows)
        print_table(rows)
    return 0 if all(row["status"] == "done" for row in rows) else 2


if __name__ == "__main__":
    sys.exit(main())
