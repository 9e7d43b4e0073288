"""Visitors, their folders, and the end of both."""

import asyncio
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
from demo_parts import awaited
from PIL import Image

from gan2shape_hub.demo.door import Calls, Comings, LocalNames, RequestLimit
from gan2shape_hub.demo.runs import Order
from gan2shape_hub.demo.visitors import GRACE_S, MAX_UPLOADS, DemoError, Workspace

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
        scope = {"type": "http", "path": "/gradio_api/heartbeat/a", "headers": [(b"user-agent", b"Mozilla/5.0")]}
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


def test_only_uploaded_files_are_taken_and_nothing_ends_the_sweep(tmp_path, monkeypatch):
    space = Workspace(tmp_path, orphan_s=0.05, lifetime_s=0.4)
    session, photograph = space.session("a"), upload(space, "upload")
    link = photograph.with_name("link.jpg")
    link.symlink_to("/etc/hostname")
    for path in (photograph.parent, space.root, session.folder, photograph / "..", link, "", None, "/dev/zero"):
        with pytest.raises(DemoError, match="no uploaded file"):
            space.own(session, path)
    assert space.own(session, photograph) == photograph
    photograph.unlink()
    photograph.mkdir()  # it cannot be removed as a file
    (space.root / "other" / "folder" / "inside").mkdir(parents=True)
    space.close("a")
    assert eventually_gone(photograph, space.root / "other")
    sweeps = []

    def failing():
        sweeps.append(1)
        raise OSError

    monkeypatch.setattr(space, "sweep", failing)
    deadline = time.monotonic() + 20
    while len(sweeps) < 2 and time.monotonic() < deadline:
        time.sleep(0.02)
    assert len(sweeps) > 1, "the sweeper goes on"


def test_photographs_dated_in_the_future_go_too(tmp_path):
    space = Workspace(tmp_path, orphan_s=0.1)
    photograph = upload(space, "upload")
    os.utime(photograph, (time.time() + 1e6,) * 2)
    time.sleep(0.15)
    space.sweep()
    assert not photograph.parent.exists()


def test_what_a_killed_program_left_goes_at_the_next_start_and_a_living_ones_stays(tmp_path):
    living = Workspace(tmp_path)
    code = (
        "import os, signal, sys; from gan2shape_hub.demo.visitors import Workspace; "
        "s = Workspace(sys.argv[1]).session('a'); (s.folder / 'photo.jpg').write_bytes(b'x'); "
        "os.kill(os.getpid(), signal.SIGKILL)"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=False, timeout=240)
    assert len(list(tmp_path.rglob("photo.jpg"))) == 1
    fresh = Workspace(tmp_path)
    assert set(tmp_path.iterdir()) == {living.root, fresh.root}


def test_a_visitors_older_photographs_give_way_and_a_full_workspace_says_so(tmp_path, monkeypatch):
    space = Workspace(tmp_path)
    session, other = space.session("a"), space.session("b")
    photographs = [upload(space, f"upload{k}") for k in range(MAX_UPLOADS + 2)]
    space.own(other, photographs[0])
    for photograph in photographs:
        space.own(session, photograph)
    assert [p.exists() for p in photographs] == [True, False, *[True] * MAX_UPLOADS]
    assert not space.is_full()
    monkeypatch.setattr("gan2shape_hub.demo.visitors.MAX_UPLOADED_BYTES", 40)
    assert space.is_full()


def test_a_program_that_lost_its_connection_finds_its_session_again(tmp_path):
    space = Workspace(tmp_path, grace_s=0.3)
    space.arrive("a")
    session = space.session("a")
    space.leave("a", for_good=False)  # it gave up, while this machine stalled
    assert space.session("a") is session
    space.arrive("a")  # it listens for the answer of a call
    time.sleep(0.35)
    space.sweep()
    assert space.session("a") is session
    space.leave("a", for_good=False)
    assert eventually_gone(session.folder), "and nobody has to call sweep"
    again = space.session("a")
    assert again is not session
    assert again.folder.exists()


def test_single_calls_leave_nothing_after_the_grace_but_their_results(tmp_path):
    assert GRACE_S == 60
    space = Workspace(tmp_path, grace_s=0.1)
    single, made = space.session(None), space.session(None)
    made.finished = SimpleNamespace(id="known")
    time.sleep(0.15)
    space.sweep()
    assert not single.folder.exists()
    assert space.result("known")[0] is made


def answered(middleware, *, method="GET", path="/", headers=(), body=()):
    """(status, what reached the application) of a request whose body comes in the parts ``body``."""
    reached, sent, parts = [], [], [*body]

    async def application(scope, receive, send):
        while (message := await receive())["type"] == "http.request":
            reached.append(message["body"])
            if not message["more_body"]:
                break
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    async def receive():
        return {"type": "http.request", "body": parts.pop(0) if parts else b"", "more_body": bool(parts)}

    async def send(message):
        sent.append(message)

    scope = {"type": "http", "method": method, "path": path, "headers": list(headers)}
    awaited(middleware(application)(scope, receive, send))
    return sent[0]["status"], reached


def test_requests_are_limited_as_a_whole(tmp_path, monkeypatch):
    space = Workspace(tmp_path)
    monkeypatch.setattr("gan2shape_hub.demo.door.MAX_REQUEST", 100)
    post = {"method": "POST", "path": "/gradio_api/upload"}
    limit = lambda app: RequestLimit(app, space)  # noqa: E731
    assert answered(limit, **post, body=[b"x" * 60, b"x" * 40]) == (200, [b"x" * 60, b"x" * 40])
    assert answered(limit, **post, body=[b"x" * 60, b"x" * 60, b"x"]) == (413, [b"x" * 60])
    assert answered(limit, **post, headers=[(b"content-length", b"101")], body=[b"x"]) == (413, [])
    monkeypatch.setattr(space, "is_full", lambda: True)
    assert answered(limit, **post, body=[b"x"]) == (503, [])


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("127.0.0.1:7860", 200),
        ("localhost", 200),
        ("LOCALHOST:80", 200),
        ("[::1]:7860", 200),
        ("evil.example:7860", 421),
        ("127.0.0.1.evil.example", 421),
        ("192.168.0.2:7860", 421),
        ("", 421),
    ],
)
def test_a_local_demo_answers_to_this_machines_names_only(host, status):
    assert answered(LocalNames, headers=[(b"host", host.encode())])[0] == status


def test_a_photograph_is_owned_while_its_call_waits_in_the_queue(tmp_path):
    space = Workspace(tmp_path, orphan_s=0.05)
    space.arrive("a")
    photograph = upload(space, "upload")
    call = json.dumps({"session_hash": "a", "data": [{"path": str(photograph)}, 1, "text"]}).encode()
    post = {"method": "POST", "path": "/gradio_api/queue/join"}
    status, reached = answered(lambda app: Calls(app, space), **post, body=[call[:20], call[20:]])
    assert (status, b"".join(reached)) == (200, call)
    time.sleep(0.1)
    space.sweep()
    assert photograph.exists()
    space.leave("a")
    assert not photograph.exists()
    for body in (b"{", b"[]", b'{"session_hash": "a", "data": [{"path": "/etc/passwd"}]}'):  # and "a" has left
        assert answered(lambda app: Calls(app, space), **post, body=[body]) == (200, [body])
