"""A saved checkpoint takes an older one's place without a moment in which there is none."""

from __future__ import annotations

import os
import sys

import pytest

from gan2shape_hub.hub import swap


def folders(tmp_path):
    new, target, old = (tmp_path / name for name in ("new", "target", "old"))
    for folder in (new, target):
        folder.mkdir()
        (folder / "of").write_text(folder.name)
    return new, target, old


@pytest.mark.skipif(sys.platform not in ("linux", "darwin"), reason="other systems have no call that swaps folders")
def test_target_is_there_at_every_moment(tmp_path, monkeypatch) -> None:
    new, target, old = folders(tmp_path)
    if not swap.exchange(new, target):
        pytest.skip("this file system cannot swap folders")
    assert swap.exchange(new, target)  # and back
    rename = os.rename

    def watched(source, destination) -> None:
        assert target.is_dir()
        rename(source, destination)
        assert target.is_dir()

    monkeypatch.setattr(os, "rename", watched)
    swap.put_in_place(new, target, old)
    assert (target / "of").read_text() == "new"
    assert (old / "of").read_text() == "target"
    assert not new.exists()


def test_two_renames_where_folders_cannot_be_swapped(tmp_path, monkeypatch) -> None:
    new, target, old = folders(tmp_path)
    monkeypatch.setattr(swap, "exchange", lambda one, other: False)
    swap.put_in_place(new, target, old)
    assert (target / "of").read_text() == "new"
    assert (old / "of").read_text() == "target"
    assert not new.exists()


def test_a_failed_second_rename_puts_the_first_back(tmp_path, monkeypatch) -> None:
    new, target, old = folders(tmp_path)
    monkeypatch.setattr(swap, "exchange", lambda one, other: False)
    rename = os.rename

    def failing(source, destination) -> None:
        if source == new:
            raise OSError(28, "No space left on device")
        rename(source, destination)

    monkeypatch.setattr(os, "rename", failing)
    with pytest.raises(OSError, match="No space"):
        swap.put_in_place(new, target, old)
    assert (target / "of").read_text() == "target"


def test_nothing_is_swapped_with_what_is_not_there(tmp_path) -> None:
    new, _target, old = folders(tmp_path)
    assert not swap.exchange(new, tmp_path / "missing")
    assert new.is_dir()
    swap.put_in_place(new, tmp_path / "missing", old)
    assert (tmp_path / "missing" / "of").read_text() == "new"
    assert not old.exists()
