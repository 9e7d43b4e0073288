"""Speed and memory, measured on this machine and printed as a Markdown table.

What matters are the ratios: their two sides take turns in one run, so that they mean the same on a slow or busy
machine. Seconds mean something on an idle one only; the load is recorded beside them.

Examples:
    python scripts/benchmark.py --parts rendering,generator
    python scripts/benchmark.py --wheel random_face-2021.7.21.1-py3-none-any.whl --json docs/results/benchmark.json
    python scripts/benchmark.py --parts pipeline --presets fast --json docs/results/benchmark.json

--json keeps what FILE holds of parts that are not run now; scripts/make_figures.py tables writes it into the pages.
"""

from __future__ import annotations

import argparse
import importlib
import inspect
import json
import os
import platform
import re
import sys
from pathlib import Path
from typing import Any

PARTS = ("rendering", "generator", "stylegan2", "pipeline")


def run_part(name: str, options: dict[str, Any]) -> dict[str, Any]:
    """``benchmark_parts/<name>.py``'s ``run`` with those of ``options`` that it takes and that are given."""
    run = importlib.import_module(f"benchmark_parts.{name}").run
    taken = inspect.signature(run).parameters
    return run(**{key: value for key, value in options.items() if key in taken and value is not None})


def machine() -> dict[str, Any]:
    """What the numbers were measured with; load: processes waiting for a core before the run, 1 minute's mean."""
    import torch

    return {
        "system": platform.system(),
        "processor": platform.machine(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "accelerator": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "load": round(os.getloadavg()[0], 1),
    }


def table(parts: dict[str, dict[str, Any]]) -> str:
    """Markdown: part, measure, value."""
    rows = ["| part | measure | value |", "| --- | --- | --- |"]
    for part, measures in parts.items():
        for key, value in measures.items():
            if key in ("machine", "torch", "threads"):
                continue
            rows.append(f"| {part} | {' | '.join(in_words(key, value))} |")
    return "\n".join(rows)


WORDS = (
    (r"^ratio_(.+)_to_(.+)$", r"\1, divided by \2"),
    (r"^(tap\d+)_best_micro_batch$", r"\1, the batch that takes least an image"),
    (r"_an_image_of_(\d+)$", r", an image of a batch of \1"),
    (r"_share_of_", r", as a part of the speed of "),
    (r"^twin_", r"usual grouped convolutions, "),
    (r"matmul", r"matrix product"),
    (r"forward_backward", r"forward and backward"),
    (r"^(render|depth_net|tap\d+|openvino)_(?=forward)", r"\1, "),
    (r"tap(\d+)", r"tap of \1 pixels"),
    (r"full(_1024)?", r"full image"),
    (r"_", r" "),
    (r"openvino", r"OpenVINO"),
)
"""Pattern -> words, in turn, from the key of a measure to what a reader calls it."""
UNITS = {"ms": "ms", "s": "s", "px": "pixels", "rad": "radians", "gflops": "GFLOP/s"}


def in_words(key: str, value: Any) -> tuple[str, str]:
    """A measure's name as a reader calls it, and its value with the unit."""
    parts = key.split("_an_image")
    stem, _, unit = parts[0].rpartition("_")
    text = f"{value:.3g}" if isinstance(value, float) else str(value)
    if stem and unit in UNITS:
        text, key = f"{text} {UNITS[unit]}", "_an_image".join([stem, *parts[1:]])
    for pattern, words in WORDS:
        key = re.sub(pattern, words, key)
    return key, text


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parts", default=",".join(PARTS), help=f"separated by commas (default: {','.join(PARTS)})")
    parser.add_argument("--json", metavar="FILE", help="write the numbers there, too")
    parser.add_argument("--wheel", help="generator: random-face wheel, to time OpenVINO on its network")
    parser.add_argument("--checkpoint", help="pipeline: folder or Hub id (default: checkpoints/face)")
    parser.add_argument("--presets", help="pipeline: separated by commas (default: fast,balanced)")
    options = parser.parse_args(arguments)
    names = options.parts.split(",")
    for name in names:
        if name not in PARTS:
            parser.error(f"--parts has '{name}', must be of {', '.join(PARTS)}")
    given = {
        "wheel": options.wheel,
        "checkpoint": options.checkpoint,
        "presets": options.presets.split(",") if options.presets else None,
    }
    where = machine()
    parts = {}
    try:
        for name in names:
            print(f"benchmark: {name} ...", file=sys.stderr, flush=True)
            parts[name] = {**run_part(name, given), "machine": where}
            if options.json:  # after every part: a long one that fails later loses nothing
                _merge(Path(options.json), parts)
    except (OSError, ValueError, RuntimeError, ImportError) as error:
        print(f"benchmark: {error}", file=sys.stderr)
        return 1
    print(f"{where['cores']} cores, {where['threads']} threads, torch {where['torch']}, load {where['load']}\n")
    print(table(parts))
    return 0


def _merge(file: Path, parts: dict[str, dict[str, Any]]) -> None:
    """Write ``parts`` into ``file``, keeping its other parts."""
    old = json.loads(file.read_text(encoding="utf-8"))["parts"] if file.exists() else {}
    merged = {name: {**old, **parts}[name] for name in PARTS if name in old or name in parts}
    file.parent.mkdir(parents=True, exist_ok=True)
    temporary = file.with_suffix(".tmp")
    temporary.write_text(json.dumps({"parts": merged}, indent=2) + "\n", encoding="utf-8")
    temporary.replace(file)


if __name__ == "__main__":
    sys.exit(main())
