"""Cases in child processes with limits of time and memory, each repeated by its number."""

from __future__ import annotations

import multiprocessing
import os
import random
import resource
import shutil
import sys
import tempfile
import time
import warnings
from collections import Counter
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path

from gan2shape_hub.atomic import ExportError
from gan2shape_hub.conversion.verify import ConversionError
from gan2shape_hub.errors import CodedError

Case = Callable[[random.Random, Path], Callable[[], object]]
"""Makes one case in an empty folder, and returns what reads it: it is only the reading that is judged."""
OURS = (CodedError, ConversionError, ExportError)
SECONDS, HUNG_S, MEMORY = 8.0, 60.0, 3 * 2**30
"""Processor seconds that a case may take, seconds after which it is killed, bytes beyond what the child began with."""
SECRET = "secret"
"""Part of the name of files that lie beside a case's folder and that nothing may open."""
FORBIDDEN = (
    "os.system",
    "os.exec",
    "os.posix_spawn",
    "os.fork",
    "subprocess.Popen",
    "socket.connect",
    "webbrowser.open",
)


def run(name: str, case: Case, count: int, seed: int, first: int = 0) -> tuple[Counter[str], list[str]]:
    """Judge the cases ``first`` to ``first + count - 1``.

    Returns:
        Outcome (read, refused) -> how often, and the findings, one line each with the number that repeats it.
    """
    context, counts, findings = multiprocessing.get_context("fork"), Counter(), []
    number, end = first, first + count
    while number < end:
        ours, theirs = context.Pipe()
        child = context.Process(target=_work, args=(theirs, name, case, number, end, seed), daemon=True)
        child.start()
        theirs.close()
        while number < end:
            told = None
            try:
                told = ours.recv() if ours.poll(HUNG_S) else f"hung for {HUNG_S:.0f} s"
            except EOFError:
                child.join(5)
                told = f"the process ended with {child.exitcode}"
            number += 1
            if told in ("read", "refused"):
                counts[told] += 1
                continue
            findings.append(f"{name} {number - 1} (seed {seed}): {told}")
            break
        child.kill()
        child.join()
    return counts, findings


def _work(answer: Connection, name: str, case: Case, first: int, end: int, seed: int) -> None:
    watched: list[str] = []
    _limit_memory()
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)  # what libraries in C say of every damaged file
    os.environ["HF_HUB_OFFLINE"] = "1"
    with tempfile.TemporaryDirectory() as temporary:
        folder, secret = Path(temporary) / "case", Path(temporary) / f"{SECRET}.json"
        secret.write_text('{"password": 1}', encoding="utf-8")
        # What Python tells of everything that is opened, started and called.
        sys.addaudithook(lambda event, args: _watch(event, args, watched))
        for number in range(first, end):
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir()
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                read = case(random.Random(f"{name}-{seed}-{number}"), folder)
            watched.clear()
            answer.send(_judged(read, watched))


def _judged(read: Callable[[], object], watched: list[str]) -> str:
    begun = time.process_time()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            read()
        told = "read"
    except OURS as error:
        text = str(error)
        told = "refused" if text and "\n" not in text and len(text) < 2000 else f"no sentence: {text[:300]!r}"
    except BaseException as error:  # all else is what the campaign looks for
        told = f"{type(error).__name__}: {str(error)[:300]}"
    took = time.process_time() - begun
    if watched:
        return f"it reached for {watched[0]} ({told})"
    return told if took < SECONDS else f"{told}, after {took:.0f} s"


def _watch(event: str, arguments: tuple, watched: list[str]) -> None:
    if event in FORBIDDEN or (event == "open" and f"{SECRET}." in str(arguments[0])):
        watched.append(f"{event} {str(arguments[:1])[:100]}")


def _limit_memory() -> None:
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0])
    limit = pages * os.sysconf("SC_PAGE_SIZE") + MEMORY
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
