"""The real ``huggingface_hub`` client against a server on localhost that speaks the Hub's API: what the tests of both
directions share. Its fixtures come with ``pytest_plugins``."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import tiny_pipeline
from hub_client import Clients, Outcome
from hub_server import HubServer

from gan2shape_hub import hub

TOKEN, OTHER = "hf_ownerSecret0123456789", "hf_otherSecret0123456789"

LOAD = """
import hashlib, torch
from gan2shape_hub import hub
options = dict(options)
dtype = getattr(torch, options.pop("dtype", "float32"))
only = tuple(options.pop("only", ())) or None
folder = hub.resolve(name, only=only, **options)
config, networks = hub.load_components(folder, variant=options.get("variant"), dtype=dtype, only=only)
digest = hashlib.sha256()
for slot in sorted(networks):
    for key, tensor in sorted(networks[slot].state_dict().items()):
        digest.update(f"{slot}.{key}{tensor.dtype}".encode() + tensor.view(torch.uint8).numpy().tobytes())
result = {"folder": str(folder), "names": sorted(networks), "digest": digest.hexdigest()}
"""
IMPATIENT = """
from gan2shape_hub.hub import remote
remote._RETRY_WAITS_S = (0.02, 0.02)
"""
PUSH = """
from gan2shape_hub import hub
result = hub.push(folder, name, **options)
"""


def digest_of(folder: Path) -> str:
    """What LOAD prints for a folder, computed here."""
    scope = {"name": str(folder), "options": {}}
    exec(LOAD, scope)
    return scope["result"]["digest"]


@pytest.fixture(scope="session")
def server() -> Iterator[HubServer]:
    with HubServer(tokens={TOKEN: "owner", OTHER: "other"}) as running:
        yield running


@pytest.fixture(scope="session")
def home(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("home")


@pytest.fixture(scope="session")
def clients(server, home) -> Iterator[Clients]:
    running = Clients({"HF_ENDPOINT": server.url, "HF_HOME": str(home / "hf")}, home / "calls")
    yield running
    running.close()


@pytest.fixture(scope="session")
def folder(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("saved") / "checkpoint"
    pipeline = tiny_pipeline()
    names = ("generator", "depth_net", "view_net")
    hub.save_components(folder, pipeline.config, {name: pipeline.components[name] for name in names})
    (folder / "figures").mkdir()
    (folder / "figures" / "sheet.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    (folder / "training.pt").write_bytes(b"must never be sent")
    return folder


@pytest.fixture(scope="session")
def published(server, clients, folder) -> str:
    """A repository that holds ``folder``."""
    answer = clients.run(PUSH, folder=str(folder), name="owner/tiny", options={"token": TOKEN})
    assert not answer.error, answer.chain
    assert answer.result.startswith(f"{server.url}/owner/tiny/commit/")
    return "owner/tiny"


@pytest.fixture
def cache(tmp_path) -> str:
    return str(tmp_path / "cache")


def load(clients: Clients, name: str, **options) -> Outcome:
    return clients.run(LOAD, name=name, options=options)


def load_well(clients: Clients, name: str, **options) -> dict:
    answer = load(clients, name, **options)
    assert not answer.error, answer.chain
    return answer.result


def refused(answer: Outcome, *words: str) -> None:
    """The answer is one sentence of a CheckpointError that holds ``words``, and no token is told anywhere."""
    assert "CheckpointError" in answer.error, answer.chain or answer.result
    assert "OSError" in answer.error
    assert "\n" not in answer.message
    assert answer.message.endswith(".")
    for word in words:
        assert word in answer.message, answer.message
    for token in (TOKEN, OTHER, "hf_wrong"):
        assert token not in answer.chain + answer.printed
