"""Checkpoints into the Hub, as the real client sends them to a server on localhost."""

from __future__ import annotations

import json

import torch
from conftest import tiny_pipeline
from hub_parts import IMPATIENT, OTHER, PUSH, TOKEN, digest_of, load_well, refused
from hub_server import Fault

from gan2shape_hub import cards, hub

pytest_plugins = ["hub_parts"]


def test_what_is_pushed(server, published, folder):
    sent = server.files(published)
    assert {name: len(data) for name, data in sent.items() if name != ".gitattributes"} == dict(
        hub.files_to_push(folder)
    )
    assert "figures/sheet.png" in sent
    assert not any(name.endswith(".pt") for name in sent)


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
