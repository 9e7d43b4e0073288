"""Time and memory of the main job, a generated face to a saved folder and then a photograph, each preset in a process
of its own.

Example:
    python scripts/benchmark_parts/pipeline.py --checkpoint checkpoints/face --presets fast,balanced
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

CHECKPOINT = Path(__file__).resolve().parents[2] / "checkpoints" / "face"


def run(checkpoint: str | Path = CHECKPOINT, presets: Sequence[str] = ("fast", "balanced"), seed: int = 7) -> dict:
    """Seconds and gigabytes (1e9 bytes), every key led by its preset: import, load, sample, reconstruct, export and
    their total; export_processor, of all cores together, which a busy machine changes least; photograph (scikit-image's
    portrait, reconstructed only); the peak memory of the process; seconds and iterations of every step of the generated
    face's reconstruction.

    RuntimeError with the process's own words where a preset cannot be run.
    """
    report = {}
    for preset in presets:
        command = [sys.executable, __file__, "--checkpoint", str(checkpoint), "--seed", str(seed), "--measure", preset]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            lines = done.stderr.strip().splitlines() or ["no message"]
            raise RuntimeError(f"preset '{preset}' of {checkpoint} cannot be measured: {lines[-1]}")
        report |= {f"{preset}_{key}": value for key, value in json.loads(done.stdout.splitlines()[-1]).items()}
    return report


def measure(checkpoint: str | Path, preset: str, seed: int) -> dict:
    """One face in this process, which must be a fresh one: the first import and the peak memory are part of it."""
    laps = _Laps()
    from gan2shape_hub import GAN2ShapePipeline

    laps.done("import_s")
    pipeline = GAN2ShapePipeline.from_pretrained(checkpoint)
    laps.done("load_s")
    sample = pipeline.sample(seed=seed)
    laps.done("sample_s")
    steps = _Steps()
    result = pipeline(sample, preset=preset, callback=steps)
    laps.done("reconstruct_s")
    with tempfile.TemporaryDirectory() as folder:
        processor = time.process_time()
        result.save(Path(folder) / "out")
        processor = time.process_time() - processor
        laps.done("export_s")
    total = sum(laps.seconds.values())
    photograph = _portrait()
    laps.done("portrait_s")
    pipeline(photograph, preset=preset)
    laps.done("photograph_s")
    report = {"device": str(pipeline.device), **laps.seconds, "total_s": total, "export_processor_s": processor}
    return report | {"peak_gb": _peak_bytes() / 1e9} | steps.report()


def _portrait():
    from PIL import Image
    from skimage import data

    return Image.fromarray(data.astronaut())


class _Laps:
    """Seconds between one `done` and the next."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._last = time.perf_counter()

    def done(self, name: str) -> None:
        now = time.perf_counter()
        self.seconds[name] = now - self._last
        self._last = now


class _Steps:
    """A pipeline's callback: the time since the iteration before belongs to the iteration's step, so that what a step
    prepares (features of its targets) counts as its own."""

    def __init__(self) -> None:
        self._seconds: dict[str, float] = {}
        self._iterations: dict[str, int] = {}
        self._last = time.perf_counter()

    def __call__(self, progress) -> None:
        now = time.perf_counter()
        self._seconds[progress.step] = self._seconds.get(progress.step, 0.0) + now - self._last
        self._iterations[progress.step] = self._iterations.get(progress.step, 0) + 1
        self._last = now

    def report(self) -> dict:
        return {
            key: value
            for step, seconds in self._seconds.items()
            for key, value in ((f"step_{step}_s", seconds), (f"step_{step}_iterations", self._iterations[step]))
        }


def _peak_bytes() -> int:
    """Largest resident memory of this process. ``ru_maxrss`` inherits the parent's on Linux, the kernel's own record
    of the process does not."""
    status = Path("/proc/self/status")
    if status.exists():
        return next(int(line.split()[1]) * 1024 for line in status.open() if line.startswith("VmHWM"))
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkpoint", default=str(CHECKPOINT), help="folder or Hub id")
    parser.add_argument("--presets", default="fast,balanced", help="separated by commas")
    parser.add_argument("--seed", type=int, default=7, help="of the generated face")
    parser.add_argument("--measure", metavar="PRESET", help="only this preset, in this process")
    options = parser.parse_args(arguments)
    if options.measure:
        print(json.dumps(measure(options.checkpoint, options.measure, options.seed)))
    else:
        print(json.dumps(run(options.checkpoint, options.presets.split(","), options.seed), indent=2))
    return 0


if __name__ == "__main__":
    sys.exit(main())
