"""Damaged and foreign checkpoints: one sentence for everything that can be wrong."""

from __future__ import annotations

import json
import shutil
import struct
from pathlib import Path

import pytest
import torch
from conftest import tiny_config, tiny_generator, tiny_pipeline
from safetensors.torch import load_file, save_file

from gan2shape_hub import hub
from gan2shape_hub.hub import CheckpointError
from gan2shape_hub.models.component import Component


@pytest.fixture
def folder(tmp_path) -> Path:
    pipeline = tiny_pipeline()
    return hub.save_components(tmp_path / "checkpoint", pipeline.config, pipeline.components)


@pytest.fixture
def light(tmp_path) -> Path:
    """A checkpoint with nothing but a generator."""
    return hub.save_components(tmp_path / "light", tiny_config(), {"generator": tiny_generator()})


def edit(file: Path, **changes) -> None:
    data = json.loads(file.read_text())
    data.update(changes)
    file.write_text(json.dumps(data))


def sharded(folder: Path) -> Path:
    config, networks = hub.load_components(folder)
    hub.save_components(folder, config, networks, max_shard_size="6KB")
    return next(folder.glob("generator/model-00001-of-*.safetensors"))


def cut(file: Path, keep: int) -> None:
    file.write_bytes(file.read_bytes()[:keep])


def other_size(folder: Path) -> None:
    edit(folder / "generator" / "config.json", channels=[16, 16, 16, 16])


def extra_tensor(folder: Path) -> None:
    edit(folder / "generator" / "config.json", taps=[])


def wrong_header(folder: Path) -> None:
    header = b'{"a": {"dtype": "F32"}}'
    (folder / "generator" / "model.safetensors").write_bytes(struct.pack("<Q", len(header)) + header)


def header_of(folder: Path, text: str) -> None:
    (folder / WEIGHTS).write_bytes(struct.pack("<Q", len(text)) + text.encode())


def linked(folder: Path) -> None:
    secret = folder.parent / "secret.json"
    secret.write_text('{"password": 1}')
    (folder / "config.json").unlink()
    (folder / "config.json").symlink_to(secret)


def looped(folder: Path) -> None:
    (folder / "config.json").unlink()
    (folder / "config.json").symlink_to(folder / "config.json")


def poisoned(folder: Path, value: float) -> None:
    tensors = load_file(folder / WEIGHTS)
    name = min(name for name in tensors if tensors[name].numel() > 1)
    tensors[name].view(-1)[1] = value
    save_file(tensors, folder / WEIGHTS, metadata={"format": "pt"})


DEEP = "[" * 100_000


def outside(folder: Path) -> None:
    first = sharded(folder)
    index = first.with_name("model.safetensors.index.json")
    weight_map = json.loads(index.read_text())["weight_map"]
    edit(index, weight_map={name: "../../secret.safetensors" for name in weight_map})


WEIGHTS = "generator/model.safetensors"
DAMAGES = {
    "no folder": (lambda f: shutil.rmtree(f), ("is not a folder", "check the path")),
    "no index": (lambda f: (f / "model_index.json").unlink(), ("model_index.json is missing", "no checkpoint")),
    "no config": (lambda f: (f / "config.json").unlink(), ("config.json is missing",)),
    "no component config": (lambda f: (f / "generator/config.json").unlink(), ("generator/config.json is missing",)),
    "no weights": (lambda f: (f / WEIGHTS).unlink(), (f"{WEIGHTS} is missing", "force_download=True")),
    "no shard": (lambda f: sharded(f).unlink(), ("model-00001-of-", "is missing")),
    "outside": (outside, ("model.safetensors.index.json", "outside its folder")),
    "truncated": (lambda f: cut(f / WEIGHTS, -1), (WEIGHTS, "truncated")),
    "within the header": (lambda f: cut(f / WEIGHTS, 100), (WEIGHTS, "truncated")),
    "empty": (lambda f: cut(f / WEIGHTS, 0), (WEIGHTS, "not a safetensors file")),
    "too long": (lambda f: (f / WEIGHTS).write_bytes((f / WEIGHTS).read_bytes() + b"x"), (WEIGHTS, "damaged")),
    "pickle": (lambda f: torch.save({"a": torch.ones(4)}, f / WEIGHTS), (WEIGHTS, "not a safetensors file")),
    "wrong header": (wrong_header, (WEIGHTS, "not a safetensors file")),
    "lfs pointer": (
        lambda f: (f / WEIGHTS).write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n"),
        (WEIGHTS, "git lfs pull"),
    ),
    "other size": (other_size, (WEIGHTS, "holds tensor '", "of shape", "another size")),
    "extra tensor": (extra_tensor, (WEIGHTS, "tensor 'tap_heads.")),
    "unknown argument": (
        lambda f: edit(f / "generator/config.json", colour=1),
        ("generator/config.json", "no argument 'colour'", "upgrade"),
    ),
    "bad argument": (lambda f: edit(f / "generator/config.json", channels="x"), ("generator/config.json",)),
    "unknown class": (
        lambda f: edit(f / "model_index.json", generator="StyleGAN9"),
        ("model_index.json", "unknown class 'StyleGAN9'", "upgrade"),
    ),
    "wrong place": (
        lambda f: edit(f / "model_index.json", generator="EDDeconv"),
        ("model_index.json", "EDDeconv in the place of generator"),
    ),
    "unknown component": (
        lambda f: edit(f / "model_index.json", unet="UNet2DModel"),
        ("model_index.json", "unknown component 'unet'"),
    ),
    "component of another pipeline": (
        lambda f: edit(f / "generator/config.json", _class_name="UNet2DModel"),
        ("generator/config.json", "UNet2DModel", "another pipeline"),
    ),
    "other pipeline": (
        lambda f: edit(f / "model_index.json", _class_name="StableDiffusionPipeline"),
        ("model_index.json", "another pipeline (StableDiffusionPipeline)"),
    ),
    "no generator": (
        lambda f: (f / "model_index.json").write_text('{"_class_name": "GAN2ShapePipeline", "_format_version": 1}'),
        ("model_index.json", "no generator"),
    ),
    "newer index": (lambda f: edit(f / "model_index.json", _format_version=2), ("newer format version 2", "upgrade")),
    "newer config": (
        lambda f: edit(f / "config.json", format_version=2, hologram=True),
        ("config.json", "newer format version 2", "upgrade"),
    ),
    "unknown config key": (lambda f: edit(f / "config.json", fov=10), ("config.json", "unknown key 'fov'")),
    "not JSON": (lambda f: (f / "config.json").write_text("{"), ("config.json is not valid JSON",)),
    "nested deeply": (lambda f: (f / "config.json").write_text(DEEP), ("config.json is not valid JSON",)),
    "nested deeply inside": (
        lambda f: (f / "generator/config.json").write_text('{"a": ' + DEEP),
        ("generator/config.json is not valid JSON",),
    ),
    "nested header": (lambda f: header_of(f, '{"a": ' + DEEP), (WEIGHTS, "its header is damaged")),
    "endless shape": (
        lambda f: header_of(f, '{"a": {"dtype": "F32", "shape": [1e999], "data_offsets": [0, 4]}}'),
        (WEIGHTS, "its header is damaged"),
    ),
    "class of a list": (lambda f: edit(f / "model_index.json", generator=["A"]), ("unknown class '['A']'",)),
    "class of an object": (lambda f: edit(f / "model_index.json", generator={}), ("unknown class '{}'",)),
    "class of a number": (lambda f: edit(f / "generator/config.json", _class_name=[1]), ("configuration of a [1]",)),
    "endless number": (
        lambda f: (f / "config.json").write_text('{"image_size": 1' + "0" * 10_000 + "}"),
        ("config.json is not valid JSON",),
    ),
    "no number": (lambda f: (f / "config.json").write_text('{"image_size": NaN}'), ("NaN is no number",)),
    "endless file": (lambda f: (f / "config.json").write_bytes(b" " * 20_000_000), ("larger than 16,000,000 bytes",)),
    "endless layers": (
        lambda f: edit(f / "generator/config.json", taps=[[32, 2, [4] * 100_000]]),
        ("generator/config.json", "more layers than there are weights"),
    ),
    "huge layers": (lambda f: edit(f / "generator/config.json", channels=[2**62] * 4), ("generator/config.json",)),
    "link": (linked, ("config.json is a link to another folder",)),
    "link to itself": (looped, ("config.json cannot be read",)),
    "NaN": (lambda f: poisoned(f, float("nan")), (WEIGHTS, "NaN or infinity in tensor '")),
    "infinity": (lambda f: poisoned(f, float("-inf")), (WEIGHTS, "NaN or infinity in tensor '")),
    "not an object": (lambda f: (f / "model_index.json").write_text("[]"), ("model_index.json holds a list",)),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_one_sentence_names_the_file_and_the_remedy(light, damage):
    change, words = DAMAGES[damage]
    change(light)
    with pytest.raises(CheckpointError) as caught:
        hub.load_components(light)
    message = str(caught.value)
    assert isinstance(caught.value, OSError)
    assert "\n" not in message
    assert message.endswith(".")
    assert "password" not in message
    assert len(message) < 1000
    for word in words:
        assert word in message


def test_every_file_is_checked_before_anything_is_built(folder, monkeypatch):
    cut(folder / "view_net" / "model.safetensors", -1)  # the last component in the alphabet
    monkeypatch.setattr(Component, "from_config", lambda *a: pytest.fail("a network was built"))
    with pytest.raises(CheckpointError, match="view_net"):
        hub.load_components(folder)


def test_missing_variant_names_those_there_are(light):
    with pytest.raises(CheckpointError, match=r"model\.fp16\.safetensors is missing: pass variant=None"):
        hub.load_components(light, variant="fp16")
    hub.save_components(light, tiny_config(), {"generator": tiny_generator()}, variant="fp16", max_shard_size="6KB")
    with pytest.raises(CheckpointError, match="variant='fp16', which it has"):
        hub.load_components(light)


def test_existing_folder_wins_and_odd_names_are_explained(light, monkeypatch):
    monkeypatch.chdir(light.parent)
    assert hub.resolve("light") == Path("light")
    assert hub.resolve(light) == light
    for name, words in (
        (light.parent / "absent", "is not a folder"),
        (str(light / "config.json"), "is not a folder"),
        ("./absent", "neither an existing folder nor a Hub id"),
        ("checkpoints/absent", "neither an existing folder nor in the local cache"),
    ):
        with pytest.raises(CheckpointError, match=words):
            hub.resolve(name, local_files_only=True)


def test_what_is_quoted_is_cut_and_the_remedy_stays(light):
    edit(light / "model_index.json", generator="x" * 5000)
    with pytest.raises(
        CheckpointError, match=r"model_index\.json asks for the unknown class 'xxx.* \.\.\. xx.*upgrade"
    ) as caught:
        hub.load_components(light)
    assert len(str(caught.value)) < 1500
