"""Visitors, their folders, and the end of both."""

import asyncio
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
from demo_parts import awaited
from PIL import Image

from gan2shape_hub.demo.runs import Order
from gan2shape_hub.demo.visitors import Comings, DemoError, Workspace

PICTURE = Image.new("RGB", (8, 8))


def upload(space, folder, name="portrait.jpg"):
    """A file as Gradio puts it into the workspace's folder."""
    path = space.root / folder / name
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(b"photograph")
    return path


def eventually_gone(*paths, seconds=20):
    deadline = time.monotonic() + seconds
    while any(path.exists() for path in paths) and time.monotonic() < deadline:
        time.sleep(0.05)
    return not any(path.exists() for path in paths)


def test_a_closed_session_leaves_nothing(tmp_path):
    space = Workspace(tmp_path)
    session, other = space.session("a"), space.session("b")
    order = Order.of(session, SimpleNamespace(is_photograph=False), "fast", 0, False)
    assert not order.stopped()
    shared, own = upload(space, "upload1"), upload(space, "upload2")
    space.own(session, shared)
    space.own(session, own)
    space.own(other, shared)
    (session.folder / "relit-1.jpg").write_bytes(b"picture")
    space.close("a")
    assert not session.folder.exists()
    assert not own.exists()
    assert not own.parent.exists()
    assert shared.exists(), "another visitor uploaded the same picture and still sees it"
    assert order.stopped(), "its run ends"
    space.close("b")
    assert not shared.exists()
    assert list(space.root.iterdir()) == []


def test_nothing_that_is_late_begins_a_session_anew(tmp_path):
    space = Workspace(tmp_path)
    space.arrive("a")
    session, photograph = space.session("a"), upload(space, "upload")
    space.leave("a")
    space.own(session, photograph)  # by a handler that was at work meanwhile
    assert not photograph.exists()
    with pytest.raises(DemoError, match="reload the page"):
        session.picture("relit.jpg", PICTURE)
    with pytest.raises(DemoError, match="reload the page"):
        space.session("a")  # by an event that was still in the queue
    assert len(space) == 0
    assert list(space.root.iterdir()) == []
    space.arrive("a")  # the same page, after the network was gone for a moment
    assert space.session("a") is not session


def test_a_new_connection_before_the_end_of_the_old_one_keeps_the_session(tmp_path):
    space = Workspace(tmp_path)
    space.arrive("a")
    session = space.session("a")
    space.arrive("a")
    space.leave("a")
    assert space.session("a") is session
    space.leave("a")
    assert not session.folder.exists()


@pytest.mark.parametrize("end", ["returns", "breaks", "is cancelled"])
def test_a_visitor_has_left_in_whatever_way_the_connection_ends(tmp_path, end):
    space = Workspace(tmp_path)
    there = []

    async def gradio(scope, receive, send):
        there.append(space.session("a"))
        if end == "breaks":
            raise OSError
        if end == "is cancelled":
            await asyncio.sleep(60)

    async def visit():
        scope = {"type": "http", "path": "/gradio_api/heartbeat/a"}
        task = asyncio.create_task(Comings(gradio, space)(scope, None, None))
        await asyncio.sleep(0.01)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    awaited(visit())
    assert not there[0].folder.exists()
    assert len(space) == 0


def test_what_belongs_to_nobody_goes(tmp_path):
    space = Workspace(tmp_path, orphan_s=0.3)
    session = space.session("a")
    owned, unused, broken_off = upload(space, "owned"), upload(space, "unused"), space.root / "tmp123"
    space.own(session, owned)
    broken_off.write_bytes(b"half a photograph")
    fresh = time.monotonic()
    space.sweep()
    if time.monotonic() - fresh < 0.2:
        assert unused.exists(), "its event may still be on its way"
    assert eventually_gone(unused.parent, broken_off), "and nobody has to call sweep"
    assert owned.exists()
    assert session.folder.exists()


def test_what_was_written_while_a_session_ended_goes_too(tmp_path):
    space = Workspace(tmp_path)
    session = space.session("a")
    space.close("a")
    session.folder.mkdir()  # as if it could not be removed, because a file came into it at that moment
    (session.folder / "turned-1.jpg").write_bytes(b"picture")
    assert eventually_gone(session.folder)


def test_files_from_elsewhere_are_nobodys(tmp_path):
    example = tmp_path / "example.jpg"
    example.write_bytes(b"photograph")
    space = Workspace(tmp_path)
    space.own(space.session("a"), example)
    space.close("a")
    assert example.exists()


def test_sessions_without_a_sign_of_life_are_swept(tmp_path):
    space = Workspace(tmp_path, lifetime_s=0.2)
    silent, photograph = space.session("silent"), upload(space, "upload")
    space.own(silent, photograph)
    time.sleep(0.25)
    lively = space.session("lively")
    space.sweep()
    assert not silent.folder.exists()
    assert not photograph.exists()
    assert lively.folder.exists()
    assert eventually_gone(lively.folder), "and nobody has to call sweep"


def test_folders_cannot_be_guessed_and_are_private(tmp_path):
    space = Workspace(tmp_path)
    folder = space.session("a").folder
    assert folder.name.removeprefix("session-") != "a"
    assert len(folder.name) > 32
    for path in (folder, space.root):
        assert path.stat().st_mode & 0o077 == 0


def test_versions_of_a_file_have_names_of_their_own_and_old_ones_go(tmp_path):
    session = Workspace(tmp_path).session("a")
    seen = []
    for _ in range(12):
        seen.append(Path(session.picture("relit.jpg", PICTURE)))
    assert len(set(seen)) == 12
    assert len(list(session.folder.iterdir())) <= 4
    assert seen[-1].exists()
