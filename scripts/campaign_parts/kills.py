"""Programs killed while they save: what was there, or the whole of what comes, and all that others put there."""

from __future__ import annotations

import multiprocessing
import os
import random
import signal
import sys
import tempfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from campaign_parts import checkpoints

from gan2shape_hub import atomic, hub
from gan2shape_hub.results.export import FILES

STEPS = ("os.rename", "os.link", "os.mkdir", "os.remove", "os.rmdir", "os.chmod", "shutil.rmtree", "open")
"""What the file system is asked for, as Python tells it, just before it does: any of them may be the last."""
FOREIGN = {".git/HEAD": "ref", "figures/page.png": "picture", "notes.txt": "mine"}
RESULT = ("mesh.glb", "depth.npy", "input.png", "result.json")


def run(count: int, seed: int, first: int = 0) -> tuple[Counter[str], list[str]]:
    """Kill ``count`` saves, each at a step that its number decides.

    Returns:
        What was there afterwards (old, new, none: between two renames of a system that cannot swap) -> how often, and
        the findings.
    """
    counts, findings = Counter(), []
    for number in range(first, first + count):
        rng = random.Random(f"kills-{seed}-{number}")
        with tempfile.TemporaryDirectory() as temporary:
            try:
                counts[_killed(rng, Path(temporary) / "target")] += 1
            except Exception as error:  # every way to lose something is a finding
                findings.append(f"kills {number} (seed {seed}): {type(error).__name__}: {error}")
    return counts, findings


def _killed(rng: random.Random, target: Path) -> str:
    save, seen = rng.choice(((_save_checkpoint, _seen_checkpoint), (_save_result, _seen_result)))
    swaps = rng.random() < 0.5
    save(target, "old")
    for name, text in FOREIGN.items():
        (target / name).parent.mkdir(exist_ok=True)
        (target / name).write_text(text, encoding="utf-8")
    child = multiprocessing.get_context("fork").Process(target=_die, args=(save, target, rng.randrange(70), swaps))
    child.start()
    child.join(60)
    state = seen(target) if target.is_dir() else "none"
    if state == "none" and swaps:
        raise AssertionError("the folder is gone")
    if state != "none":
        _check_foreign(target)
    save(target, "new")
    if seen(target) != "new":
        raise AssertionError("the next save is not whole")
    _check_foreign(target)
    if left := [path.name for path in target.parent.iterdir() if path != target]:
        raise AssertionError(f"{left[0]} is left after the next save")
    return state


def _die(save: Callable[[Path, str], None], target: Path, steps: int, swaps: bool) -> None:
    left = steps

    def count(event: str, arguments: tuple) -> None:
        nonlocal left
        if event in STEPS:
            left -= 1
            if left < 0:
                os.kill(os.getpid(), signal.SIGKILL)

    if not swaps:
        atomic.exchange = lambda one, other: False
    sys.addaudithook(count)
    save(target, "new")


def _save_checkpoint(target: Path, version: str) -> None:
    config, networks = checkpoints.loaded()
    hub.save_components(target, config, networks, card=f"---\nlicense: mit\n---\n{version}\n")


def _seen_checkpoint(target: Path) -> str:
    hub.load_components(target)
    return (target / "README.md").read_text(encoding="utf-8").split()[-1]


def _save_result(target: Path, version: str) -> None:
    with atomic.atomic_folder(target, own=FILES) as part:
        for name in RESULT:
            (part / name).write_text(version, encoding="utf-8")


def _seen_result(target: Path) -> str:
    versions = {(target / name).read_text(encoding="utf-8") for name in RESULT}
    if len(versions) > 1:
        raise AssertionError("two versions are mixed")
    return versions.pop()


def _check_foreign(target: Path) -> None:
    for name, text in FOREIGN.items():
        if (target / name).read_text(encoding="utf-8") != text:
            raise AssertionError(f"{name} is another one")
