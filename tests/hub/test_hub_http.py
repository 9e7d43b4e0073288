"""The real ``huggingface_hub`` client against a server on localhost that speaks the Hub's API."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from conftest import tiny_config, tiny_generator, tiny_pipeline
from hub_client import Clients, Outcome
from hub_server import Fault, HubServer

from gan2shape_hub import cards, hub
from gan2shape_hub.models.shape_nets import EDDeconv

TOKEN, OTHER = "hf_ownerSecret0123456789", "hf_otherSecret0123456789"
LATENTS = torch.randn(2, 16, generator=torch.Generator().manual_seed(1))

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


@pytest.fixture(scope="module")
def server() -> Iterator[HubServer]:
    with HubServer(tokens={TOKEN: "owner", OTHER: "other"}) as running:
        yield running


@pytest.fixture(scope="module")
def home(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("home")


@pytest.fixture(scope="module")
def clients(server, home) -> Iterator[Clients]:
    running = Clients({"HF_ENDPOINT": server.url, "HF_HOME": str(home / "hf")}, home / "calls")
    yield running
    running.close()


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("saved") / "checkpoint"
    pipeline = tiny_pipeline()
    names = ("generator", "depth_net", "view_net")
    hub.save_components(folder, pipeline.config, {name: pipeline.components[name] for name in names})
    (folder / "figures").mkdir()
    (folder / "figures" / "sheet.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    (folder / "training.pt").write_bytes(b"must never be sent")
    return folder


@pytest.fixture(scope="module")
def heavy(tmp_path_factory) -> Path:
    """A checkpoint with a depth network of 59 MB."""
    torch.manual_seed(0)
    networks = {"generator": tiny_generator(), "depth_net": EDDeconv(3, 1, 32, nf=144)}
    return hub.save_components(tmp_path_factory.mktemp("heavy") / "checkpoint", tiny_config(), networks)


@pytest.fixture(scope="module")
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


def test_what_is_pushed(server, published, folder):
    sent = server.files(published)
    assert {name: len(data) for name, data in sent.items() if name != ".gitattributes"} == dict(
        hub.files_to_push(folder)
    )
    assert "figures/sheet.png" in sent
    assert not any(name.endswith(".pt") for name in sent)


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


def test_busy_hub_is_asked_again_when_publishing(server, clients, folder):
    push = lambda name="owner/busy": clients.run(  # noqa: E731
        IMPATIENT + PUSH, folder=str(folder), name=name, options={"token": TOKEN}
    )
    server.faults.append(Fault(r"POST /api/repos/create", status=503))
    server.faults.append(Fault(r"POST .*/owner/busy/commit/", status=503))
    answer = push()
    assert not answer.error, answer.chain
    assert len(server.repos["owner/busy"].commits) == 2  # the empty first one, and ours once
    server.faults.append(Fault(r"POST .*/owner/large/commit/", status=413))
    refused(push("owner/large"), "owner/large", "413", "try again")
    server.faults.append(Fault(r"POST .*/owner/large/commit/", cut_after=0))
    refused(push("owner/large"), server.url, "not reached", "network connection")


def test_the_owner_may_be_left_out(server, clients, folder):
    answer = clients.run(PUSH, folder=str(folder), name="unowned", options={"token": TOKEN})
    assert not answer.error, answer.chain
    assert "generator/model.safetensors" in server.files("owner/unowned")


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


def test_a_checkpoint_in_a_subfolder_is_fetched_alone(server, clients, folder, cache):
    from hub_server import Repo

    files = {f.relative_to(folder).as_posix(): f.read_bytes() for f in folder.rglob("*") if f.is_file()}
    server.repos["owner/several"] = Repo()
    several = {f"{place}/{name}": data for place in ("faces", "cats") for name, data in files.items()}
    server.repos["owner/several"].commit("main", several)
    found = load(clients, "owner/several", subfolder="faces", cache_dir=cache)
    assert not found.error, found.chain
    assert found.result["digest"] == digest_of(folder)
    assert [place.name for place in Path(found.result["folder"]).parent.iterdir()] == ["faces"]
    refused(load(clients, "owner/several", cache_dir=cache), "has no model_index.json")


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


def test_variants_revisions_and_stale_files(server, clients, tmp_path, cache):
    """A second push replaces shards of the first, adds a variant beside them, and goes to a branch of its own."""
    pipeline, other = tiny_pipeline(), tiny_pipeline(seed=1)
    sharded, half, changed = tmp_path / "sharded", tmp_path / "half", tmp_path / "changed"
    hub.save_components(sharded, pipeline.config, pipeline.components, max_shard_size="20KB")
    hub.save_components(half, pipeline.config, pipeline.components, variant="fp16", dtype=torch.float16)
    generator_only = {"generator": other.components["generator"]}
    hub.save_components(changed, pipeline.config, generator_only)
    name = "owner/revised"
    for path in (sharded, half):
        answer = clients.run(PUSH, folder=str(path), name=name, options={"token": TOKEN})
        assert not answer.error, answer.chain
    shard_digest = load_well(clients, name, cache_dir=cache)["digest"]
    assert shard_digest == digest_of(sharded)
    half_digest = load_well(clients, name, cache_dir=cache, variant="fp16")["digest"]
    assert half_digest != shard_digest

    options = {"token": TOKEN, "revision": "next", "commit_message": "generator only"}
    answer = clients.run(PUSH, folder=str(changed), name=name, options=options)
    assert not answer.error, answer.chain
    assert load_well(clients, name, cache_dir=cache, revision="next")["digest"] == digest_of(changed)
    assert load_well(clients, name, cache_dir=cache)["digest"] == shard_digest
    left = {file for file in server.files(name, "next") if file.startswith(("generator/", "depth_net/"))}
    assert left == {"generator/config.json", "generator/model.safetensors", "generator/model.fp16.safetensors"}


def test_a_real_card_is_not_replaced_by_a_minimal_one(server, clients, tmp_path):
    pipeline = tiny_pipeline()
    generator = {"generator": pipeline.components["generator"]}
    card = cards.minimal_card(pipeline.config).replace(cards.MINIMAL, "Words of our own.")
    carded = hub.save_components(tmp_path / "carded", pipeline.config, generator, card=card)
    plain = hub.save_components(tmp_path / "plain", pipeline.config, generator, variant="fp16")
    for folder, expected in ((plain, "any other card"), (carded, "Words of our own"), (plain, "Words of our own")):
        answer = clients.run(PUSH, folder=str(folder), name="owner/carded", options={"token": TOKEN})
        assert not answer.error, answer.chain
        assert expected.encode() in server.files("owner/carded")["README.md"]


def test_pull_request_and_refused_pushes(server, clients, published, tmp_path):
    before = server.files(published)
    pipeline = tiny_pipeline(seed=1)
    changed = {"generator": pipeline.components["generator"]}
    other = hub.save_components(tmp_path / "other", pipeline.config, changed)
    push = lambda **options: clients.run(PUSH, folder=str(other), name=published, options=options)  # noqa: E731
    answer = push(token=OTHER, create_pr=True)
    assert not answer.error, answer.chain
    assert answer.result == f"{server.url}/owner/tiny/discussions/1"
    assert server.files(published) == before
    refused(push(token=OTHER), "403", "token=")
    refused(push(), "hf auth login")
    refused(push(token="hf_wrong"), "401")


def test_pushing_the_same_again_makes_no_commit(server, clients, published, folder):
    commits = len(server.repos[published].commits)
    answer = clients.run(PUSH, folder=str(folder), name=published, options={"token": TOKEN})
    assert not answer.error, answer.chain
    assert len(server.repos[published].commits) == commits


def test_incomplete_or_badly_carded_checkpoints_are_not_pushed(server, clients, folder, tmp_path):
    import shutil

    broken = tmp_path / "broken"
    shutil.copytree(folder, broken)
    (broken / "view_net" / "model.safetensors").unlink()
    refused(clients.run(PUSH, folder=str(broken), name="owner/broken", options={"token": TOKEN}), "view_net")
    shutil.copytree(folder, broken, dirs_exist_ok=True)
    card = (broken / "README.md").read_text()
    (broken / "README.md").write_text(card.replace("license: unknown", "license: mine"))
    refused(clients.run(PUSH, folder=str(broken), name="owner/broken", options={"token": TOKEN}), "license")
    assert "owner/broken" not in server.repos


def test_pipeline_round_trip(server, clients, cache, tmp_path):
    """Push, load in another process and reconstruct: bit-identical to the pipeline that was pushed."""
    code = """
import numpy as np, torch
from gan2shape_hub import GAN2ShapePipeline
pipeline = GAN2ShapePipeline.from_pretrained(name, cache_dir=cache, device="cpu")
if push:
    pipeline.push_to_hub(push, token=token, private=True, commit_message="first")
sample = pipeline.sample(seed=3)
done = pipeline(sample.latent, seed=0)
result = [np.asarray(sample.image).tobytes().hex()[:2000], done.depth.tolist()]
"""
    folder = tiny_pipeline().save_pretrained(tmp_path / "checkpoint")
    first = clients.run(code, name=str(folder), cache=cache, push="owner/pipeline", token=TOKEN)
    assert not first.error, first.chain
    loaded = 'import os; os.environ["HF_TOKEN"] = token\n' + code
    second = clients.run(loaded, name="owner/pipeline", cache=cache, push="", token=TOKEN)
    assert not second.error, second.chain
    assert json.dumps(second.result) == json.dumps(first.result)


def test_pipeline_publishes_with_every_argument(server, clients, cache, tmp_path):
    code = """
import torch
from gan2shape_hub import GAN2ShapePipeline
pipeline = GAN2ShapePipeline.from_pretrained(folder, device="cpu")
first = pipeline.push_to_hub(name, token=token, private=True)
address = pipeline.push_to_hub(
    name, private=True, revision="half", commit_message="Half the size", token=token, variant="fp16",
    max_shard_size="20KB", dtype="bf16",
)
asked = pipeline.push_to_hub(name, create_pr=True, token=token, dtype=torch.float16)
loaded = GAN2ShapePipeline.from_pretrained(
    name, revision="half", variant="fp16", dtype="bf16", cache_dir=cache, token=token, device="cpu"
)
wanted = pipeline.components["depth_net"].state_dict()
same = [torch.equal(t, wanted[k].to(t.dtype)) for k, t in loaded.components["depth_net"].state_dict().items()]
result = [address, asked, str(next(loaded.generator.parameters()).dtype), all(same)]
"""
    pipeline = tiny_pipeline()
    networks = {name: pipeline.components[name] for name in ("generator", "depth_net")}
    folder = hub.save_components(tmp_path / "checkpoint", pipeline.config, networks)
    answer = clients.run(code, folder=str(folder), name="owner/every", token=TOKEN, cache=cache)
    assert not answer.error, answer.chain
    address, asked, dtype, same = answer.result
    assert (dtype, same) == ("torch.bfloat16", True)
    assert server.repos["owner/every"].private
    assert asked == f"{server.url}/owner/every/discussions/1"
    half = server.files("owner/every", "half")
    assert address.endswith(server.repos["owner/every"].branches["half"])
    assert "depth_net/model.safetensors.index.fp16.json" in half
    assert len([name for name in half if name.startswith("depth_net/model.fp16-")]) > 1
    assert "depth_net/model.safetensors" in half  # the plain weights stay beside the variant
    assert not [name for name in server.files("owner/every") if "fp16" in name]
    assert server.requests(r" /owner/every/resolve/.*/model\.fp16-00001-of-")
    assert not server.requests(r" /owner/every/resolve/.*/model\.safetensors$")  # the variant alone was fetched
