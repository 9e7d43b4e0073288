"""The campaign of hostile input: small, and whether it would notice."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="limits of memory and forks as Linux has them")


@pytest.mark.slow
def test_all_is_read_or_refused_and_nothing_is_lost():
    sizes = ["--images", "300", "--checkpoints", "60", "--pickles", "300", "--kills", "10", "--seconds", "20"]
    command = [sys.executable, str(ROOT / "scripts" / "campaign.py"), *sizes, "--clients", "3"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=900, check=False)
    assert done.returncode == 0, done.stderr
    assert "| images | 300 | " in done.stdout


def refuses(folder):
    from gan2shape_hub.errors import InputError

    raise InputError("one sentence.")


READERS = {
    "reads": (lambda folder: folder, None),
    "refuses": (refuses, None),
    "breaks": (lambda folder: {}["key"], "KeyError: 'key'"),
    "hangs": (lambda folder: time.sleep(60), "hung for"),
    "ends": (lambda folder: os._exit(3), "the process ended with 3"),
    "fills the memory": (lambda folder: bytearray(2**33), "MemoryError"),
    "works for long": (lambda folder: sum(range(10**7)), "after"),
    "opens what it should not": (lambda folder: (folder.parent / "secret.json").read_text(), "it reached for open"),
    "starts a program": (lambda folder: os.system("true"), "it reached for os.system"),
}


@pytest.mark.parametrize("name", READERS)
def test_a_reader_that_does_what_it_should_not_is_found_and_the_next_case_goes_on(name, monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "scripts"))
    from campaign_parts import children

    monkeypatch.setattr(children, "HUNG_S", 2.0)
    monkeypatch.setattr(children, "SECONDS", 0.05 if name == "works for long" else 8.0)
    read, found = READERS[name]
    counts, findings = children.run(name, lambda rng, folder: lambda: read(folder), 2, seed=5)
    if found is None:
        assert (sum(counts.values()), findings) == (2, [])
        return
    assert [line.startswith(f"{name} {number} (seed 5): ") for number, line in enumerate(findings)] == [True, True]
    assert all(found in line for line in findings), findings
