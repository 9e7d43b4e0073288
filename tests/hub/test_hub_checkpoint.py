"""Checkpoint folders: round trips, memory, and saves that are whole or not at all."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import signal
from pathlib import Path

import pytest
import torch
from conftest import tiny_config, tiny_generator, tiny_pipeline
from torch import nn

from gan2shape_hub import GAN2ShapePipeline, hub
from gan2shape_hub.hub import CheckpointError, layout
from gan2shape_hub.models.component import Component
from gan2shape_hub.models.shape_nets import EDDeconv
from gan2shape_hub.models.stylegan2 import StyleGAN2Generator
from gan2shape_hub.models.stylegan2_discriminator import StyleGAN2Discriminator

LATENTS = torch.randn(2, 16, generator=torch.Generator().manual_seed(1))


def bytes_of(folder: Path) -> dict[str, str]:
    return {
        str(f.relative_to(folder)): hashlib.sha256(f.read_bytes()).hexdigest()
        for f in sorted(folder.rglob("*"))
        if f.is_file()
    }


@pytest.fixture
def folder(tmp_path) -> Path:
    pipeline = tiny_pipeline()
    return hub.save_components(tmp_path / "checkpoint", pipeline.config, pipeline.components)


@pytest.fixture
def light(tmp_path) -> Path:
    """A checkpoint with nothing but a generator."""
    return hub.save_components(tmp_path / "light", tiny_config(), {"generator": tiny_generator()})


def test_layout(folder):
    assert sorted(p.name for p in folder.iterdir()) == sorted(
        ["README.md", "albedo_net", "config.json", "depth_net", "generator", "latent_encoder", "light_net",
         "model_index.json", "perceptual", "view_net"]
    )  # fmt: skip
    index = json.loads((folder / "model_index.json").read_text())
    assert list(index) == sorted(index)
    assert index["_class_name"] == "GAN2ShapePipeline"
    assert index["_format_version"] == 1
    assert index["depth_net"] == "EDDeconv"
    assert hub.card_problems(folder) == []


@pytest.mark.parametrize(
    "options",
    [{}, {"max_shard_size": "20KB"}, {"variant": "fp32"}, {"variant": "v", "max_shard_size": 30_000}],
    ids=["plain", "sharded", "variant", "sharded variant"],
)
def test_round_trip_is_bit_identical(tmp_path, options):
    pipeline = tiny_pipeline()
    folder = pipeline.save_pretrained(tmp_path / "checkpoint", **options)
    if "max_shard_size" in options:
        assert len(list(folder.glob("depth_net/*-of-*.safetensors"))) > 1
    loaded = GAN2ShapePipeline.from_pretrained(folder, variant=options.get("variant"), device="cpu")
    assert loaded.config == pipeline.config
    assert loaded.components.keys() == pipeline.components.keys()
    for name, network in loaded.components.items():
        assert not network.training
        assert not any(p.requires_grad for p in network.parameters())
        for key, tensor in pipeline.components[name].state_dict().items():
            assert torch.equal(network.state_dict()[key], tensor)
    sample = pipeline.sample(seed=3)
    assert loaded.sample(seed=3).image.tobytes() == sample.image.tobytes()
    if not options:
        expected, result = (p(sample.latent, seed=0) for p in (pipeline, loaded))
        for name in ("depth", "albedo", "view"):
            assert torch.equal(getattr(result, name), getattr(expected, name))


def test_saving_again_gives_the_same_bytes(tmp_path, folder):
    before = bytes_of(folder)
    config, networks = hub.load_components(folder)
    for network in networks.values():  # how they were last used must not show
        network.to(memory_format=torch.channels_last).train().requires_grad_(True)
    hub.save_components(folder, config, dict(reversed(networks.items())))
    assert bytes_of(folder) == before
    assert os.listdir(tmp_path) == ["checkpoint"]


def test_weights_may_be_read_by_whoever_may_read_the_rest(folder):
    modes = {file.name: file.stat().st_mode & 0o777 for file in (folder / "generator").iterdir()}
    assert modes["model.safetensors"] == modes["config.json"]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision(tmp_path, dtype):
    generator = tiny_generator()
    folder = hub.save_components(tmp_path / "half", tiny_config(), {"generator": generator}, dtype=dtype)
    full = hub.save_components(tmp_path / "full", tiny_config(), {"generator": generator})
    size, full_size = (dict(hub.files_to_push(f))["generator/model.safetensors"] for f in (folder, full))
    assert size < 0.75 * full_size  # the header is the rest
    _, kept = hub.load_components(folder, dtype=None)
    assert {t.dtype for t in kept["generator"].state_dict().values()} == {dtype}
    _, networks = hub.load_components(folder)
    assert {t.dtype for t in networks["generator"].state_dict().values()} == {torch.float32}
    for name, tensor in networks["generator"].state_dict().items():
        assert torch.equal(tensor, generator.state_dict()[name].to(dtype).float())
    _, cast = hub.load_components(full, dtype=dtype)
    assert torch.equal(cast["generator"].input, kept["generator"].input)


def test_stylegan2_components(tmp_path):
    torch.manual_seed(0)
    networks = {
        "generator": StyleGAN2Generator(16, channels=[8, 8, 4], latent_dim=16, mapping_layers=2, conv_clamp=256.0),
        "discriminator": StyleGAN2Discriminator(16, channels=[8, 8, 4]),
    }
    folder = hub.save_components(tmp_path / "checkpoint", tiny_config(), networks)
    _, loaded = hub.load_components(folder)
    images = networks["generator"](LATENTS)
    assert torch.equal(loaded["generator"](LATENTS), images)
    assert torch.equal(loaded["discriminator"](images), networks["discriminator"](images))
    assert loaded["generator"].config == networks["generator"].config


def test_some_components_and_overrides(folder):
    own = EDDeconv(3, 1, 32, nf=8)
    (folder / "depth_net" / "model.safetensors").unlink()  # not looked at where it is overridden
    _, networks = hub.load_components(folder, overrides={"depth_net": own, "perceptual": None})
    assert networks["depth_net"] is own
    assert "perceptual" not in networks
    _, networks = hub.load_components(folder, only=("generator", "view_net"))
    assert sorted(networks) == ["generator", "view_net"]
    with pytest.raises(ValueError, match="unknown component 'depth'"):
        hub.load_components(folder, only=("depth",))


def test_loading_leaves_the_global_random_state_alone(folder):
    torch.manual_seed(5)
    before = torch.get_rng_state()
    hub.load_components(folder)
    assert torch.equal(torch.get_rng_state(), before)


class Tabled(EDDeconv):
    """Keeps a tensor that no file holds."""

    def __init__(self, size: int = 4) -> None:
        Component.__init__(self, {"size": size})
        self.weight = nn.Parameter(torch.zeros(size))
        self.register_buffer("table", torch.arange(float(size)), persistent=False)


def test_tensors_that_no_file_holds_are_computed(tmp_path, monkeypatch):
    monkeypatch.setitem(layout.CLASSES, "Tabled", __name__)
    monkeypatch.setitem(layout.SLOTS, "depth_net", ("EDDeconv", "Tabled"))
    folder = hub.save_components(
        tmp_path / "checkpoint", tiny_config(), {"generator": tiny_generator(), "depth_net": Tabled()}
    )
    monkeypatch.setattr(layout.importlib, "import_module", lambda name: __import__("sys").modules[name])
    _, networks = hub.load_components(folder, only=("depth_net",))
    assert torch.equal(networks["depth_net"].table, torch.arange(4.0))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_low_memory_changes_nothing_but_memory(folder, dtype):
    _, usual = hub.load_components(folder, dtype=dtype)
    _, other = hub.load_components(folder, dtype=dtype, low_memory=False)
    for name, network in usual.items():
        assert not any(t.is_meta for t in (*network.parameters(), *network.buffers()))
        for key, tensor in network.state_dict().items():
            assert torch.equal(tensor, other[name].state_dict()[key])


def test_pipeline_passes_its_arguments_on(folder, monkeypatch):
    """dtype by name, device and low_memory reach the reader; what is overridden is not looked for."""
    seen = {}
    load, resolve = hub.load_components, hub.resolve
    monkeypatch.setattr(hub, "load_components", lambda *a, **k: (seen.update(k), load(*a, **k))[1])
    monkeypatch.setattr(hub, "resolve", lambda *a, **k: (seen.update(only=k["only"]), resolve(*a, **k))[1])
    own = EDDeconv(3, 1, 32, nf=8)
    loaded = GAN2ShapePipeline.from_pretrained(
        folder, dtype="bf16", device="cpu", low_memory=False, depth_net=own, perceptual=None
    )
    assert (seen["dtype"], str(seen["device"]), seen["low_memory"]) == (torch.bfloat16, "cpu", False)
    assert "generator" in seen["only"]
    assert not {"depth_net", "perceptual"} & set(seen["only"])
    assert loaded.components["depth_net"] is own
    assert loaded.perceptual is None
    assert loaded.generator.latent_mean.dtype == torch.bfloat16


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"dtype": "int8"}, "dtype is 'int8', must be float32, float16 or bfloat16"),
        ({"dtype": torch.int64}, "must be float32"),
        ({"dtype": "load"}, "must be float32"),
        ({"device": "toaster"}, "device is 'toaster'"),
        ({"variant": "../x"}, "variant is '../x'"),
        ({"mixed_precision": "fp8"}, "mixed_precision is 'fp8'"),
    ],
)
def test_arguments_that_make_no_sense(folder, options, words):
    with pytest.raises(ValueError, match=words):
        GAN2ShapePipeline.from_pretrained(folder, **{"device": "cpu", **options})
    with pytest.raises(TypeError, match="no argument 'depthnet'"):
        GAN2ShapePipeline.from_pretrained(folder, depthnet=None)


def test_saving_takes_a_dtype_by_name(tmp_path):
    folder = tiny_pipeline().save_pretrained(tmp_path / "half", dtype="fp16", variant="fp16", max_shard_size=30_000)
    assert len(list(folder.glob("depth_net/model.fp16-*-of-*.safetensors"))) > 1
    _, kept = hub.load_components(folder, variant="fp16", dtype=None, only=("depth_net",))
    assert {t.dtype for t in kept["depth_net"].state_dict().values()} == {torch.float16}


# -- saving: never half, never over something else ----------------------------------------------------------------


def test_failed_save_leaves_the_old_checkpoint(tmp_path, light, monkeypatch):
    before = bytes_of(light)
    monkeypatch.setattr("gan2shape_hub.hub.checkpoint.write_weights", lambda *a, **k: (_ for _ in ()).throw(KeyError))
    with pytest.raises(KeyError):
        hub.save_components(light, tiny_config(category="other"), {"generator": tiny_generator(1)})
    assert bytes_of(light) == before
    assert os.listdir(tmp_path) == ["light"]


def test_replaced_as_a_whole_but_for_what_is_not_ours(folder):
    (folder / ".git").mkdir()
    (folder / ".git" / "HEAD").write_text("ref")
    (folder / "figures").mkdir()
    (folder / "generator" / "notes.txt").write_text("somebody's")
    (folder / "view_net" / "curves.png").write_bytes(b"somebody's")
    card = (folder / "README.md").read_text() + "\nOur own words.\n"
    (folder / "README.md").write_text(card)
    hub.save_components(folder, tiny_config(), {"generator": tiny_generator()}, variant="fp16", dtype=torch.float16)
    assert sorted(p.name for p in folder.iterdir()) == [
        ".git", "README.md", "config.json", "figures", "generator", "model_index.json", "view_net",
    ]  # fmt: skip
    left = sorted(p.name for p in (folder / "generator").iterdir())
    assert left == ["config.json", "model.fp16.safetensors", "notes.txt"]
    assert [p.name for p in (folder / "view_net").iterdir()] == ["curves.png"]
    assert (folder / ".git" / "HEAD").read_text() == "ref"
    assert (folder / "README.md").read_text() == card


def test_what_is_not_a_checkpoint_is_never_replaced(tmp_path, light):
    other = tmp_path / "photos"
    other.mkdir()
    (other / "a.png").write_bytes(b"x")
    networks = {"generator": tiny_generator()}
    for target, words in ((other, "no checkpoint"), (other / "a.png", "is a file")):
        with pytest.raises(CheckpointError, match=words):
            hub.save_components(target, tiny_config(), networks)
    (other / "model_index.json").write_text('{"_class_name": "StableDiffusionPipeline"}')
    with pytest.raises(CheckpointError, match="no checkpoint"):
        hub.save_components(other, tiny_config(), networks)
    with pytest.raises(CheckpointError, match="overwrite"):
        hub.save_components(light, tiny_config(), networks, overwrite=False)
    empty = tmp_path / "empty"
    empty.mkdir()
    hub.save_components(empty, tiny_config(), networks)
    (light / "model_index.json").write_text('{"_class_name": "GAN2ShapePipeline", dam')  # damaged, but ours
    hub.save_components(light, tiny_config(), networks)
    hub.load_components(light)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_unwritable_place(tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(CheckpointError, match="permission denied"):
        hub.save_components(tmp_path / "x", tiny_config(), {"generator": tiny_generator()})
    tmp_path.chmod(0o700)


@pytest.mark.parametrize(
    ("components", "words"),
    [
        ({"depth_net": EDDeconv(3, 1, 32, nf=8)}, "no 'generator'"),
        ({"generator": tiny_generator(), "depth": tiny_generator()}, "unknown component 'depth'"),
        ({"generator": tiny_generator(), "view_net": EDDeconv(3, 1, 32, nf=8)}, "'view_net' is a EDDeconv"),
        ({"generator": nn.Linear(2, 2)}, "'generator' is a Linear"),
    ],
)
def test_components_without_a_place(tmp_path, components, words):
    with pytest.raises(ValueError, match=words):
        hub.save_components(tmp_path / "x", tiny_config(), components)
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("variant", ["", "../x", "a.b", "a-b"])
def test_variant_is_a_plain_word(tmp_path, variant):
    with pytest.raises(ValueError, match="variant"):
        hub.save_components(tmp_path / "x", tiny_config(), {"generator": tiny_generator()}, variant=variant)
    assert os.listdir(tmp_path) == []


@contextlib.contextmanager
def small_files():
    """A system on which no file may be larger than 4 kB: as long as the block alone, since a log of tests may be a file
    too."""
    resource = pytest.importorskip("resource")
    before, handler = resource.getrlimit(resource.RLIMIT_FSIZE), signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)


def test_a_disk_that_takes_no_more_is_one_sentence_and_leaves_the_old_checkpoint(light):
    before = {path: path.read_bytes() for path in light.rglob("*") if path.is_file()}
    config, networks = tiny_config(), {"generator": tiny_generator(seed=1)}
    with (
        pytest.raises(CheckpointError, match=r"^cannot write '[^']*light' \(file too large\): choose [^.]*\.$"),
        small_files(),
    ):
        hub.save_components(light, config, networks)
    with (
        pytest.raises(CheckpointError, match=r"^cannot write '[^']*README.md' \(file too large\): choose [^.]*\.$"),
        small_files(),
    ):
        hub.write_card(light, "x" * 10_000)
    assert {path: path.read_bytes() for path in light.rglob("*") if path.is_file()} == before
    assert [path.name for path in light.parent.iterdir() if path.name.startswith(".")] == []


def test_a_recipe_is_kept_and_is_no_part_of_what_is_measured(tmp_path):
    networks = {"generator": tiny_generator()}
    folder = hub.save_components(tmp_path / "checkpoint", tiny_config(), networks)
    before = hub.fingerprint(folder)
    hub.save_components(folder, tiny_config(), networks, recipe='{"seed": 1}\n')
    assert (folder / "recipe.json").read_text() == '{"seed": 1}\n'
    assert hub.fingerprint(folder) == before
    assert "recipe.json" in dict(hub.files_to_push(folder))
    hub.save_components(folder, tiny_config(), networks)
    assert (folder / "recipe.json").read_text() == '{"seed": 1}\n'
    hub.save_components(folder, tiny_config(), networks, recipe="{}\n")
    assert (folder / "recipe.json").read_text() == "{}\n"
