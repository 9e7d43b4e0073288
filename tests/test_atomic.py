"""Whatever goes wrong while writing, nothing half-written is left and the older result stays."""

import errno
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from gan2shape_hub.atomic import ExportError, atomic_file, atomic_folder
from gan2shape_hub.results import image_files


@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError, OSError(errno.ENOSPC, "No space left on device")])
def test_a_file_is_whole_or_not_there(tmp_path, error):
    path = tmp_path / "a.txt"
    path.write_text("old")
    expected = ExportError if isinstance(error, OSError) else error

    def write():
        with atomic_file(path) as part:
            part.write_text("half of the n")
            raise error

    with pytest.raises(expected):
        write()
    assert [p.name for p in tmp_path.iterdir()] == ["a.txt"]
    assert path.read_text() == "old"


@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError])
def test_a_folder_is_whole_or_not_there(tmp_path, error):
    def write():
        with atomic_folder(tmp_path / "out") as part:
            (part / "one.txt").write_text("one")
            raise error

    with pytest.raises(error):
        write()
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_while_a_png_is_written_leaves_the_old_one(tmp_path, monkeypatch):
    path = tmp_path / "depth.png"
    image_files.write_depth_png(path, torch.rand(8, 8))
    before = path.read_bytes()

    def full(self, data):
        with open(self, "wb") as out:
            out.write(data[:20])
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(ExportError, match=r"depth.png' \(no space left on device\): free some space"):
        image_files.write_image(path, Image.new("RGB", (8, 8)))
    assert [p.name for p in tmp_path.iterdir()] == ["depth.png"]
    assert path.read_bytes() == before


def test_npy_is_atomic_too(tmp_path, monkeypatch):
    def broken(out, *args, **kwargs):
        out.write(b"half")
        raise OSError(errno.EDQUOT, "Disk quota exceeded")

    monkeypatch.setattr(np, "save", broken)
    with pytest.raises(ExportError, match="quota"):
        image_files.write_depth_npy(tmp_path / "depth.npy", torch.rand(8, 8))
    assert list(tmp_path.iterdir()) == []


def test_new_files_join_an_existing_folder(tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    (out / "mine.txt").write_text("keep")
    (out / "a.txt").write_text("old")
    with atomic_folder(out) as part:
        (part / "a.txt").write_text("new")
        (part / "sub").mkdir()
        (part / "sub" / "b.txt").write_text("b")
    assert (out / "mine.txt").read_text() == "keep"
    assert (out / "a.txt").read_text() == "new"
    assert (out / "sub" / "b.txt").read_text() == "b"
    assert [p.name for p in tmp_path.iterdir()] == ["out"]


def test_a_new_folder_has_its_parents_made_and_the_usual_permissions(tmp_path):
    with atomic_folder(tmp_path / "a" / "b") as part, atomic_file(part / "c.txt") as file:
        file.write_text("c")
    plain = tmp_path / "plain.txt"
    plain.write_text("")
    assert (tmp_path / "a" / "b" / "c.txt").stat().st_mode == plain.stat().st_mode


def test_unwritable_places_are_named_with_a_remedy(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    with pytest.raises(ExportError, match=r"file' \(file exists\): .*\.$"), atomic_folder(tmp_path / "file"):
        pass
    with pytest.raises(ExportError, match=r"not a directory\): .*\.$"), atomic_file(tmp_path / "file" / "x.png"):
        pass
    with pytest.raises(ExportError, match=r"is a directory\): .*\.$"), atomic_file(tmp_path):
        pass
    monkeypatch.setattr(os, "access", lambda *_: False)  # the tests may run as root, who may write anywhere
    with pytest.raises(ExportError, match=r"permission denied\): choose a folder you may"), atomic_folder(tmp_path):
        pass


def test_errors_inside_a_folder_name_the_users_path(tmp_path):
    def write():
        with atomic_folder(tmp_path / "out") as part, atomic_file(part / "a.txt"):
            raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(ExportError, match=r"/out/a\.txt' ") as error:
        write()
    assert ".part" not in str(error.value)
