"""What the Hub, the network and the disk may do to a download, and what is said of it."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest
from hub_parts import IMPATIENT, LOAD, OTHER, PUSH, TOKEN, digest_of, load, load_well, refused
from hub_server import Fault

pytest_plugins = ["hub_parts"]


def test_cut_connection_is_resumed_with_a_range(server, clients, published, folder, cache):
    server.log.clear()
    server.faults.append(Fault(r"GET /cdn/", cut_after=700))
    small = "from huggingface_hub import constants\nconstants.DOWNLOAD_CHUNK_SIZE = 100\n"
    answer = clients.run(small + LOAD, name=published, options={"cache_dir": cache})
    assert not answer.error, answer.chain
    assert answer.result["digest"] == digest_of(folder)
    assert [entry.range for entry in server.requests("GET /cdn/") if entry.range] == ["bytes=700-"]


def test_killed_download_is_taken_up_again(server, clients, published, folder, cache):
    server.log.clear()
    slow = Fault(r"GET /cdn/", times=1, delay_s=30.0)
    server.faults.append(slow)
    out = clients.start("import os\nopen(pid_file, 'w').write(str(os.getpid()))\n" + LOAD, name=published,
                        options={"cache_dir": cache}, pid_file=cache + ".pid")  # fmt: skip
    until = time.monotonic() + 60
    while slow.times or len(list(Path(cache).rglob("*.safetensors"))) < 2:
        assert time.monotonic() < until
        time.sleep(0.02)
    os.kill(int(Path(cache + ".pid").read_text()), signal.SIGKILL)
    assert not out.exists()
    refused(load(clients, published, cache_dir=cache, local_files_only=True), "incomplete")
    kept = len(list(Path(cache).rglob("*.safetensors")))
    server.log.clear()
    assert load_well(clients, published, cache_dir=cache)["digest"] == digest_of(folder)
    assert kept == 2
    assert len({entry.path for entry in server.requests("GET /cdn/")}) == 1  # the delayed answer may be logged late


def test_truncated_file_is_detected_and_not_kept(server, clients, published, folder, cache):
    server.faults.append(Fault(r"GET /cdn/", drop_bytes=100))
    refused(load(clients, published, cache_dir=cache), published, "size", "try again")
    assert load_well(clients, published, cache_dir=cache)["digest"] == digest_of(folder)


def test_file_truncated_in_the_cache_is_named_and_replaced(clients, published, folder, cache):
    loaded = load_well(clients, published, cache_dir=cache)
    blob = (Path(loaded["folder"]) / "depth_net" / "model.safetensors").resolve()
    blob.write_bytes(blob.read_bytes()[:-100])
    refused(load(clients, published, cache_dir=cache), "depth_net/model.safetensors", "truncated", "force_download")
    again = load_well(clients, published, cache_dir=cache, force_download=True)
    assert again["digest"] == digest_of(folder)


@pytest.mark.parametrize("known_tree", [True, False])
def test_partly_cached_snapshot_is_refused(clients, published, cache, known_tree):
    loaded = load_well(clients, published, cache_dir=cache)
    (Path(loaded["folder"]) / "view_net" / "model.safetensors").unlink()
    if not known_tree:  # then the client itself does not notice
        for file in Path(cache).rglob("trees/*.json"):
            file.unlink()
    words = ("incomplete",) if known_tree else ("incomplete", "view_net/model.safetensors")
    refused(load(clients, published, cache_dir=cache, local_files_only=True), *words, "network connection")
    assert load_well(clients, published, cache_dir=cache)["digest"] == loaded["digest"]


def test_busy_hub_is_asked_again(server, clients, published, folder, cache):
    ask = lambda name: clients.run(IMPATIENT + LOAD, name=name, options={"cache_dir": cache})  # noqa: E731
    server.faults.append(Fault(r"GET /api/models/owner/tiny", status=503))
    answer = ask(published)
    assert not answer.error, answer.chain
    assert answer.result["digest"] == digest_of(folder)
    server.faults.append(Fault(r"GET /api/models/owner/never-seen", status=503, times=3))
    refused(ask("owner/never-seen"), "503", "try again")
    assert server.faults.pop().times == 0  # three times, and no more


NO_SPACE = """
import errno
import huggingface_hub.file_download
def full(*arguments, **options):
    raise OSError(errno.ENOSPC, "No space left on device")
huggingface_hub.file_download.http_get = full
"""


def test_places_that_cannot_hold_the_cache(clients, published, cache, tmp_path):
    (tmp_path / "file").write_text("in the way")
    refused(load(clients, published, cache_dir=str(tmp_path / "file")), str(tmp_path / "file"), "cache_dir=", "HF_HOME")
    answer = clients.run(NO_SPACE + LOAD, name=published, options={"cache_dir": cache})
    refused(answer, cache, "No space left", "free some space")


def test_downloading_again_needs_the_network(clients, published, cache):
    answer = load(clients, published, cache_dir=cache, force_download=True, local_files_only=True)
    refused(answer, published, "force_download", "HF_HUB_OFFLINE", "local_files_only")


@pytest.mark.parametrize(
    ("name", "options", "words"),
    [
        ("owner/missing", {}, ("owner/missing", "check the spelling")),
        ("owner/missing", {"token": TOKEN}, ("owner/missing", "check the spelling")),
        ("owner/tiny", {"token": "hf_wrong"}, ("401", "hf auth login")),
        ("owner/tiny", {"revision": "v9"}, ("v9", "branches")),
        ("owner/tiny", {"variant": "fp16"}, ("model.fp16.safetensors", "check the variant")),
        ("./no/such/folder", {}, ("./no/such/folder", "'owner/name'")),
        ("a/b/c", {}, ("a/b/c", "'owner/name'")),
        ("owner/not a name", {}, ("owner/not a name", "'owner/name'")),
        ("owner/other-kind", {}, ("model_index.json", "no checkpoint")),
    ],
)
def test_refusals(server, clients, published, cache, name, options, words):
    from hub_server import Repo

    if name == "owner/other-kind":
        server.repos[name] = Repo()
        server.repos[name].commit("main", {"config.json": b"{}", "README.md": b"a language model"})
    refused(load(clients, name, cache_dir=cache, **options), *words)


def test_private_and_gated(server, clients, folder, cache):
    pushed = clients.run(PUSH, folder=str(folder), name="owner/hidden", options={"token": TOKEN, "private": True})
    assert not pushed.error, pushed.chain
    assert server.repos["owner/hidden"].private
    refused(load(clients, "owner/hidden", cache_dir=cache), "owner/hidden", "hf auth login")
    refused(load(clients, "owner/hidden", cache_dir=cache, token=OTHER), "owner/hidden", "token=")
    assert load_well(clients, "owner/hidden", cache_dir=cache, token=TOKEN)["digest"] == digest_of(folder)
    server.repos["owner/hidden"].private = False
    server.repos["owner/hidden"].gated = True
    refused(load(clients, "owner/hidden", cache_dir=cache + "2", token=OTHER), "gated", "ask for access")
    assert load_well(clients, "owner/hidden", cache_dir=cache + "2", token=TOKEN)["digest"] == digest_of(folder)
