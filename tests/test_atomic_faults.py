"""A folder that replaces another one survives every fault: errors, Ctrl-C and a kill at each point."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from gan2shape_hub import atomic
from gan2shape_hub.atomic import ExportError, atomic_folder

OWN = ("of", "parts")


def fill(folder: Path, of: str) -> None:
    (folder / "parts").mkdir()
    (folder / "parts" / of).write_text(of)
    (folder / "of").write_text(of)


@pytest.fixture
def target(tmp_path) -> Path:
    """A folder of an older version and of somebody's own files."""
    target = tmp_path / "target"
    target.mkdir()
    fill(target, "old")
    (target / ".git" / "objects").mkdir(parents=True)
    (target / ".git" / "objects" / "1f").write_text("object")
    (target / ".git" / "HEAD").symlink_to("objects/1f")
    (target / "note.txt").write_text("mine")
    return target


def replace(target: Path) -> None:
    with atomic_folder(target, own=OWN) as part:
        fill(part, "new")


def check(target: Path, of: str) -> None:
    """``target`` is the whole version ``of``, and what is somebody's own is there."""
    assert (target / "of").read_text() == of
    assert [p.name for p in (target / "parts").iterdir()] == [of], "two versions are mixed"
    assert (target / ".git" / "objects" / "1f").read_text() == "object"
    assert os.readlink(target / ".git" / "HEAD") == "objects/1f"
    assert (target / "note.txt").read_text() == "mine"
    assert {p.name for p in target.iterdir()} == {"of", "parts", ".git", "note.txt"}


def can_swap(folder: Path) -> bool:
    one, other = folder / "one", folder / "other"
    one.mkdir()
    other.mkdir()
    try:
        return atomic.exchange(one, other)
    finally:
        one.rmdir()
        other.rmdir()


@pytest.fixture(params=["swapped", "renamed"])
def system(request, tmp_path, monkeypatch):
    """A system that swaps folders, and one that has only renames."""
    if request.param == "renamed":
        monkeypatch.setattr(atomic, "exchange", lambda one, other: False)
    elif not can_swap(tmp_path):
        pytest.skip("this file system cannot swap folders")
    return request.param


def test_replaced_as_a_whole(target, system):
    target.chmod(0o700)
    replace(target)
    check(target, "new")
    assert target.stat().st_mode & 0o777 == 0o700, "a private folder stays private"
    assert os.listdir(target.parent) == ["target"]


def test_there_is_a_whole_folder_at_every_moment(target, monkeypatch):
    if not can_swap(target.parent):
        pytest.skip("this file system cannot swap folders")
    seen = []

    def watched(name):
        done = getattr(os, name)

        def call(*args, **kwargs):
            seen.append(name)
            check(target, (target / "of").read_text())
            done(*args, **kwargs)
            check(target, (target / "of").read_text())

        monkeypatch.setattr(os, name, call)

    for name in ("rename", "replace", "link", "unlink", "rmdir"):
        watched(name)
    replace(target)
    check(target, "new")
    assert "link" in seen
    assert "unlink" in seen


@pytest.mark.parametrize("error", [KeyboardInterrupt, OSError(28, "No space left on device")])
@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("number", [0, 1])
def test_a_fault_at_either_rename_loses_nothing(target, monkeypatch, error, when, number):
    monkeypatch.setattr(atomic, "exchange", lambda one, other: False)
    rename, calls = os.rename, []

    def failing(source, destination):
        calls.append(source)
        if len(calls) != number + 1:
            return rename(source, destination)
        if when == "after":
            rename(source, destination)
        raise error

    monkeypatch.setattr(os, "rename", failing)
    with pytest.raises(ExportError if isinstance(error, OSError) else KeyboardInterrupt):
        replace(target)
    monkeypatch.undo()
    check(target, "new" if (number, when) == (1, "after") else "old")
    replace(target)
    check(target, "new")
    assert os.listdir(target.parent) == ["target"]


@pytest.mark.parametrize("call", ["link", "mkdir", "rmdir", "unlink"])
def test_a_fault_while_files_are_carried_over_or_removed_loses_nothing(target, system, monkeypatch, call):
    def failing(*args, **kwargs):
        raise KeyboardInterrupt

    def write():
        with atomic_folder(target, own=OWN) as part:
            fill(part, "new")
            monkeypatch.setattr(os, call, failing)

    with pytest.raises(KeyboardInterrupt):
        write()
    monkeypatch.undo()
    check(target, "old" if call in ("link", "mkdir") else "new")
    replace(target)
    check(target, "new")
    assert os.listdir(target.parent) == ["target"]


def test_files_are_copied_where_they_can_have_no_second_name(target, monkeypatch):
    def refused(*args, **kwargs):
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "link", refused)
    replace(target)
    check(target, "new")


KILLED = """
import os, signal, sys
from pathlib import Path
from gan2shape_hub import atomic

sys.path.insert(0, sys.argv[3])
from test_atomic_faults import OWN, fill

where, target = sys.argv[1], Path(sys.argv[2])

def die(*args, **kwargs):
    os.kill(os.getpid(), signal.SIGKILL)

def die_after(done):
    return lambda *args, **kwargs: (done(*args, **kwargs), die())

if where in ("first rename", "second rename"):
    atomic.exchange = lambda one, other: False
    done, calls = os.rename, []
    def rename(*args):
        done(*args)
        calls.append(args)
        if len(calls) == (1 if where == "first rename" else 2):
            die()
    os.rename = rename
elif where == "swap":
    atomic.exchange = die_after(atomic.exchange)
elif where == "carrying":
    os.link = die_after(os.link)
with atomic.atomic_folder(target, own=OWN) as part:
    fill(part, "new")
    if where == "writing":
        die()
    if where == "waiting":
        print("ready", flush=True)
        sys.stdin.read()
"""


def started(where: str, target: Path) -> subprocess.Popen:
    command = [sys.executable, "-c", KILLED, where, str(target), str(Path(__file__).parent)]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="the system has no kill")
@pytest.mark.parametrize(
    ("where", "left"),
    [("writing", "old"), ("carrying", "old"), ("swap", "new"), ("first rename", None), ("second rename", "new")],
)
def test_a_kill_loses_nothing_and_the_next_save_clears_up(target, where, left):
    if where == "swap" and not can_swap(target.parent):
        pytest.skip("this file system cannot swap folders")
    process = started(where, target)
    process.communicate()
    assert process.returncode == -signal.SIGKILL
    assert len(os.listdir(target.parent)) == 2, "the test killed at another point"
    assert target.is_dir() == (left is not None)
    if left is not None:
        check(target, left)
    with pytest.raises(RuntimeError), atomic_folder(target, own=OWN):
        raise RuntimeError
    check(target, left or "old")  # nothing but the clearing up has happened
    assert os.listdir(target.parent) == ["target"]


@pytest.mark.skipif(atomic.fcntl is None, reason="the system has no locks on folders")
def test_what_another_program_is_writing_is_left_alone(target):
    process = started("waiting", target)
    assert process.stdout.readline() == "ready\n"
    replace(target)
    check(target, "new")
    assert len(os.listdir(target.parent)) == 2
    process.communicate()
    assert process.returncode == 0
    check(target, "new")
    assert os.listdir(target.parent) == ["target"]


def test_the_folder_that_the_program_stands_in_stays_the_same_one(target, monkeypatch):
    monkeypatch.chdir(target)
    before = target.stat().st_ino
    replace(Path("."))
    check(target, "new")
    assert target.stat().st_ino == before
    assert os.listdir(".")


def test_a_link_to_a_folder_stays_a_link(target, tmp_path):
    link = tmp_path / "link"
    link.symlink_to(target, target_is_directory=True)
    replace(link)
    assert link.is_symlink()
    check(target, "new")


def test_a_file_in_the_place_of_somebodys_folder_is_refused(target):
    def write():
        with atomic_folder(target, own=OWN) as part:
            fill(part, "new")
            (part / ".git").write_text("a file")

    with pytest.raises(ExportError, match=r"is in the way"):
        write()
    check(target, "old")


def test_long_names_that_begin_alike_are_not_mixed_up(tmp_path):
    one, other = (tmp_path / ("long " * 30 + name) for name in ("one", "other"))
    for folder in (one, other):
        with atomic_folder(folder) as part:
            fill(part, folder.name[-5:])
    with atomic_folder(one) as part:
        with atomic_folder(other) as second:
            (second / "of").write_text("other again")
        (part / "of").write_text("one again")
    assert (one / "of").read_text() == "one again"
    assert (other / "of").read_text() == "other again"
    assert len(os.listdir(tmp_path)) == 2


@pytest.mark.parametrize("inside", [False, True], ids=["beside", "standing in it"])
def test_files_of_others_inside_ones_own_folders_stay(target, system, monkeypatch, inside):
    if inside:
        monkeypatch.chdir(target)
    (target / "parts" / "note.txt").write_text("mine")
    (target / "parts" / "empty").mkdir()
    (target / "gone").mkdir()
    (target / "gone" / "part.1").write_text("old")
    with atomic_folder(target, own=("of", "parts/old", "gone/part.*")) as part:
        fill(part, "new")
    assert {str(path.relative_to(target)) for path in (target / "parts").rglob("*")} == {
        *("parts/new", "parts/note.txt", "parts/empty")
    }
    assert (target / "parts" / "note.txt").read_text() == "mine"
    assert not (target / "gone" / "part.1").exists()
