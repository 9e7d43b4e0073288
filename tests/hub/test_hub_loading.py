"""Checkpoints out of the Hub, as the real client fetches them from a server on localhost."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from conftest import tiny_config, tiny_generator
from hub_client import Clients
from hub_parts import LOAD, PUSH, TOKEN, digest_of, load, load_well, refused
from hub_server import Repo

from gan2shape_hub import hub
from gan2shape_hub.models.shape_nets import EDDeconv

pytest_plugins = ["hub_parts"]


@pytest.fixture(scope="module")
def heavy(tmp_path_factory) -> Path:
    """A checkpoint with a depth network of 59 MB."""
    torch.manual_seed(0)
    networks = {"generator": tiny_generator(), "depth_net": EDDeconv(3, 1, 32, nf=144)}
    return hub.save_components(tmp_path_factory.mktemp("heavy") / "checkpoint", tiny_config(), networks)


def test_loaded_in_a_fresh_cache_by_another_process_is_bit_identical(server, clients, published, folder, cache):
    server.log.clear()
    loaded = load_well(clients, published, cache_dir=cache)
    assert loaded["digest"] == digest_of(folder)
    assert loaded["folder"].startswith(cache)
    fetched = {entry.path for entry in server.requests(r"^GET .*/resolve/")}
    assert not [path for path in fetched if path.endswith((".md", ".png", ".gitattributes"))]
    assert all("gan2shape-hub" in entry.user_agent for entry in server.requests("/resolve/"))


def test_components_that_are_not_wanted_are_not_fetched(server, clients, published, cache):
    server.log.clear()
    loaded = load_well(clients, published, cache_dir=cache, only=["generator", "depth_net"])
    assert loaded["names"] == ["depth_net", "generator"]
    assert not server.requests("view_net")


def test_a_checkpoint_in_a_subfolder_is_fetched_alone(server, clients, folder, cache):
    files = {f.relative_to(folder).as_posix(): f.read_bytes() for f in folder.rglob("*") if f.is_file()}
    server.repos["owner/several"] = Repo()
    several = {f"{place}/{name}": data for place in ("faces", "cats") for name, data in files.items()}
    server.repos["owner/several"].commit("main", several)
    found = load(clients, "owner/several", subfolder="faces", cache_dir=cache)
    assert not found.error, found.chain
    assert found.result["digest"] == digest_of(folder)
    assert [place.name for place in Path(found.result["folder"]).parent.iterdir()] == ["faces"]
    refused(load(clients, "owner/several", cache_dir=cache), "has no model_index.json")


def test_components_that_are_given_are_not_fetched(server, clients, published, cache):
    code = """
from gan2shape_hub import GAN2ShapePipeline
from gan2shape_hub.models.shape_nets import EDDeconv
pipeline = GAN2ShapePipeline.from_pretrained(name, cache_dir=cache, device="cpu", depth_net=EDDeconv(3, 1, 32, nf=4))
result = sorted(pipeline.components)
"""
    server.log.clear()
    answer = clients.run(code, name=published, cache=cache)
    assert answer.result == ["depth_net", "generator", "view_net"], answer.chain
    assert server.requests("GET .*/resolve/.*view_net")
    assert not server.requests("/resolve/.*depth_net")


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="reads Linux's memory counters")
@pytest.mark.parametrize(
    ("dtype", "low_memory", "copies"),
    [("float32", True, (0.9, 1.3)), ("float16", True, (0.9, 1.5)), ("float32", False, (1.7, 2.6))],
)
def test_memory_holds_one_copy(clients, heavy, dtype, low_memory, copies):
    """Peak of the resident memory, mapped files included, in copies of the loaded weights."""
    code = """
import re, torch
from gan2shape_hub import hub
def memory(key):
    return int(re.search(key + r":\\s+(\\d+)", open("/proc/self/status").read())[1]) * 1024
hub.load_components(folder, only=("generator",))
open("/proc/self/clear_refs", "w").write("5")  # the peak starts anew
before = memory("VmRSS")
_, networks = hub.load_components(
    folder, only=("depth_net",), dtype=getattr(torch, dtype), low_memory=low_memory
)
size = sum(t.numel() * t.element_size() for t in networks["depth_net"].state_dict().values())
result = [size, (memory("VmHWM") - before) / size]
"""
    answer = clients.run(code, folder=str(heavy), dtype=dtype, low_memory=low_memory)
    assert not answer.error, answer.chain
    size, measured = answer.result
    assert size > 25e6
    assert copies[0] < measured < copies[1]


UNREACHABLE = """
import socket
def refuse(*arguments, **options):
    raise ConnectionRefusedError("no network in this process")
socket.create_connection = socket.socket.connect = refuse
"""


def test_cached_then_offline(clients, published, cache):
    first = load_well(clients, published, cache_dir=cache)
    assert load_well(clients, published, cache_dir=cache, local_files_only=True)["digest"] == first["digest"]
    again = clients.run(UNREACHABLE + LOAD, name=published, options={"cache_dir": cache})
    assert not again.error, again.chain
    assert again.result == first
    answer = clients.run(UNREACHABLE + LOAD, name="owner/never-seen", options={"cache_dir": cache})
    refused(answer, "owner/never-seen", "ConnectError", "network connection")


EVERYTHING_LOGGED = """
import logging
logging.basicConfig(level=logging.DEBUG)
"""


def test_environment_of_the_client_is_respected(server, clients, published, folder, tmp_path):
    """HF_HOME, HF_TOKEN and HF_HUB_OFFLINE; nothing is written anywhere else, and no token even when everything is
    logged."""
    own, scratch = tmp_path / "own", tmp_path / "scratch"
    scratch.mkdir()
    environment = {"HF_ENDPOINT": server.url, "HF_HOME": str(own / "hf"), "HF_TOKEN": TOKEN, "HOME": str(own / "user")}
    environment |= {"TMPDIR": str(scratch), "HF_DEBUG": "1", "HF_HUB_VERBOSITY": "debug"}
    running = Clients(environment, tmp_path / "calls")
    try:
        server.log.clear()
        answer = running.run(EVERYTHING_LOGGED + LOAD, name=published, options={})
        assert not answer.error, answer.chain
        assert "/api/models/owner/tiny" in answer.printed  # requests are logged,
        assert TOKEN not in answer.printed  # with whose token is not
        loaded = answer.result
        assert loaded["folder"].startswith(str(own / "hf" / "hub"))
        assert {path.name.split("_")[0] for path in scratch.iterdir()} <= {"torchinductor"}  # torch's own, at import
        assert {entry.token for entry in server.requests("/api/models/owner/tiny")} == {TOKEN}
        assert [path.name for path in own.iterdir()] == ["hf"]
        for file in own.rglob("*"):
            assert file.is_dir() or TOKEN.encode() not in file.read_bytes()
    finally:
        running.close()
    offline = Clients({**environment, "HF_HUB_OFFLINE": "1"}, tmp_path / "offline")
    try:
        server.log.clear()
        assert load_well(offline, published)["digest"] == loaded["digest"]
        refused(load(offline, "owner/never-seen"), "HF_HUB_OFFLINE")
        refused(load(offline, published, force_download=True), "force_download", "HF_HUB_OFFLINE")
        answer = offline.run(PUSH, folder=str(folder), name="owner/never", options={"token": TOKEN})
        refused(answer, "owner/never", "unset it")
        assert server.log == []
    finally:
        offline.close()


def test_four_processes_load_at_once(clients, published, folder, cache):
    started = [clients.start(LOAD, name=published, options={"cache_dir": cache}) for _ in range(4)]
    answers = [clients.wait(out) for out in started]
    assert [answer.error for answer in answers] == [[]] * 4, answers[0].chain
    assert {answer.result["digest"] for answer in answers} == {digest_of(folder)}
