"""Files of other servers: resumed, cut off, of a wrong length, replaced, missing; against a server on localhost."""

import hashlib
import json
import shutil
import signal
import time

import pytest
from file_server import FileServer
from huggingface_hub import constants

from gan2shape_hub.hub import CheckpointError
from gan2shape_hub.hub.download import PART, RECORD, download

DATA = bytes(range(256)) * 400
SHA = hashlib.sha256(DATA).hexdigest()


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "DOWNLOAD_CHUNK_SIZE", 1000)
    monkeypatch.setattr(time, "sleep", lambda seconds: None)  # between attempts
    with FileServer({"/nets/cat.pkl": DATA}) as running:
        yield running


def get(server, folder, path="/nets/cat.pkl", **more):
    return download(server.url + path, cache_dir=folder, **more)


def test_a_file_is_fetched_once(server, tmp_path):
    said = []
    file = get(server, tmp_path, say=said.append)
    assert (file.name, file.read_bytes()) == ("cat.pkl", DATA)
    assert SHA in said[0]
    assert json.loads((file.parent / RECORD).read_text())["sha256"] == SHA
    asked = len(server.log)
    assert get(server, tmp_path, say=said.append) == file
    assert len(server.log) == asked, "what is there is not asked for"
    assert len(said) == 1
    assert {path.name for path in file.parent.iterdir()} <= {"cat.pkl", RECORD, ".lock"}


def test_the_cache_is_the_hubs(server, tmp_path, monkeypatch):
    from huggingface_hub.utils import _cache_assets

    monkeypatch.setattr(_cache_assets, "HF_ASSETS_CACHE", str(tmp_path / "assets"))
    assert download(f"{server.url}/nets/cat.pkl").is_relative_to(tmp_path / "assets" / "gan2shape-hub")


def test_a_connection_that_breaks_goes_on_where_it_was(server, tmp_path):
    server.cuts = [30_000]
    assert get(server, tmp_path).read_bytes() == DATA
    assert [asked for _, asked in server.log][-1].startswith("bytes=30000-")


def begun(server, folder, data=DATA):
    """Leave the first bytes of another run's attempt at ``data``."""
    server.files["/nets/cat.pkl"], server.cuts = data, [30_000, *[0] * 6]
    with pytest.raises(CheckpointError, match="what has arrived is kept"):
        get(server, folder)
    server.files["/nets/cat.pkl"], server.cuts = DATA, []
    server.log.clear()


def test_a_run_that_ended_goes_on_where_it_was(server, tmp_path):
    begun(server, tmp_path)
    (part,) = tmp_path.rglob(f"*.{PART}")
    assert part.stat().st_size == 30_000
    assert get(server, tmp_path).read_bytes() == DATA
    assert [asked for _, asked in server.log] == ["bytes=0-0", "bytes=30000-"]


@pytest.mark.parametrize("change", ["replaced", "no etag", "no ranges"])
def test_no_file_is_made_of_two(server, tmp_path, change):
    if change == "replaced":
        begun(server, tmp_path, DATA[::-1])
    else:
        begun(server, tmp_path)
        server.etags, server.ranges = change != "no etag", change != "no ranges"
    assert get(server, tmp_path).read_bytes() == DATA


def test_a_file_that_is_too_short_is_not_taken(server, tmp_path):
    server.short = 5
    with pytest.raises(CheckpointError, match="did not arrive whole"):
        get(server, tmp_path)
    server.short = 0
    assert get(server, tmp_path).read_bytes() == DATA


def test_redirects_are_followed(server, tmp_path):
    server.redirects["/v2/cat"] = "/nets/cat.pkl"
    assert get(server, tmp_path, "/v2/cat").read_bytes() == DATA


@pytest.mark.parametrize(("status", "remedy"), [(404, "check the address"), (403, "check the address")])
def test_no_such_file(server, tmp_path, status, remedy):
    server.statuses = [status]
    with pytest.raises(CheckpointError, match=rf"HTTP {status}\): {remedy}"):
        get(server, tmp_path)


def test_a_busy_server_is_asked_again(server, tmp_path):
    server.statuses = [503]
    assert get(server, tmp_path).read_bytes() == DATA


def test_hashes(server, tmp_path):
    assert get(server, tmp_path / "a", sha256=SHA).exists()
    with pytest.raises(CheckpointError, match=f"has sha256 {SHA}, expected 00"):
        get(server, tmp_path / "b", sha256="00")
    assert not list((tmp_path / "b").rglob(f"*.{PART}"))
    with pytest.raises(CheckpointError, match="expected 00"):
        get(server, tmp_path / "a", sha256="00")


def test_another_file_behind_the_same_address_is_refused(server, tmp_path):
    get(server, tmp_path).unlink()
    server.files["/nets/cat.pkl"] = DATA[::-1]
    with pytest.raises(CheckpointError, match="if its owner replaced it, delete"):
        get(server, tmp_path)
    shutil.rmtree(tmp_path / "gan2shape-hub")
    assert get(server, tmp_path).read_bytes() == DATA[::-1]


def test_no_network_and_no_address(server, tmp_path):
    with pytest.raises(CheckpointError, match="check the network connection"):
        download("http://127.0.0.1:9/cat.pkl", cache_dir=tmp_path)
    with pytest.raises(CheckpointError, match="is no address"):
        download("http://here:port/cat.pkl", cache_dir=tmp_path)


def test_no_space(server, tmp_path, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda place: shutil._ntuple_diskusage(10, 10, 0))
    with pytest.raises(CheckpointError, match=r"has 0 MB, and only 0 MB are free .*: free some space"):
        get(server, tmp_path)


def test_a_disk_that_fills_up(server, tmp_path):
    """What arrived is kept, and the next call goes on from there."""
    resource = pytest.importorskip("resource")
    before, handler = resource.getrlimit(resource.RLIMIT_FSIZE), signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (40_000, before[1]))
    try:
        with pytest.raises(CheckpointError, match=r"cannot be stored .*: free some space"):
            get(server, tmp_path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)
    (part,) = tmp_path.rglob(f"*.{PART}")
    assert 0 < part.stat().st_size <= 40_000
    assert get(server, tmp_path).read_bytes() == DATA


def test_a_place_that_cannot_be_written(server, tmp_path):
    (tmp_path / "gan2shape-hub").write_text("a file")
    with pytest.raises(CheckpointError, match=r"cannot be (stored|had)"):
        get(server, tmp_path)
