"""What people who know diffusers expect of ``from_pretrained`` and ``save_pretrained``; and the default checkpoint."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch
from conftest import tiny_config, tiny_generator, tiny_pipeline

from gan2shape_hub import GAN2ShapePipeline, hub


def load(folder, **options) -> GAN2ShapePipeline:
    return GAN2ShapePipeline.from_pretrained(folder, device="cpu", **options)


@pytest.fixture
def half(tmp_path) -> Path:
    return tiny_pipeline().save_pretrained(tmp_path / "half", dtype="fp16")


def weights(folder: Path) -> dict[str, bytes]:
    return {file.relative_to(folder).as_posix(): file.read_bytes() for file in folder.rglob("*.safetensors")}


def test_the_first_argument_has_the_usual_name(half):
    loaded = GAN2ShapePipeline.from_pretrained(pretrained_model_name_or_path=half, device="cpu")
    assert loaded.config == tiny_config()


def test_half_precision_is_kept_when_saved_again(half, tmp_path):
    pipeline = load(half)
    assert pipeline.generator.latent_mean.dtype == torch.float32
    assert weights(pipeline.save_pretrained(tmp_path / "again")) == weights(half)
    assert weights(pipeline.save_pretrained(tmp_path / "sharded", max_shard_size="20KB")) != weights(half)
    assert weights(load(tmp_path / "sharded").save_pretrained(tmp_path / "whole")) == weights(half)


def test_full_precision_is_kept_and_can_be_asked_for(half, tmp_path):
    full = tiny_pipeline().save_pretrained(tmp_path / "full")
    assert weights(load(full).save_pretrained(tmp_path / "again")) == weights(full)
    wide = load(half).save_pretrained(tmp_path / "wide", dtype="fp32")
    _, kept = hub.load_components(wide, dtype=None)
    assert kept["depth_net"].stored_dtype == torch.float32
    size = sum(map(len, weights(half).values()))
    assert sum(map(len, weights(wide).values())) > 1.5 * size


def test_a_network_of_ones_own_is_stored_as_it_is(half, tmp_path):
    pipeline = load(half, depth_net=tiny_pipeline(seed=1).components["depth_net"])
    _, kept = hub.load_components(pipeline.save_pretrained(tmp_path / "mixed"), dtype=None)
    assert next(kept["depth_net"].parameters()).dtype == torch.float32
    assert next(kept["albedo_net"].parameters()).dtype == torch.float16


def test_torch_dtype_is_another_name_of_dtype(half):
    assert load(half, torch_dtype=torch.bfloat16).generator.latent_mean.dtype == torch.bfloat16
    assert load(half, torch_dtype="fp16", dtype=torch.float16).generator.latent_mean.dtype == torch.float16
    with pytest.raises(ValueError, match="give one of them"):
        load(half, torch_dtype="fp16", dtype="fp32")


def test_a_checkpoint_in_a_subfolder(half):
    assert load(half.parent, subfolder="half").config == tiny_config()
    for outside in ("..", "a/../../b", "/tmp"):
        with pytest.raises(ValueError, match="must be a path inside"):
            load(half, subfolder=outside)
    with pytest.raises(OSError, match="absent is not a folder"):
        load(half, subfolder="absent")


def test_arguments_of_diffusers_that_ask_for_what_is_done_anyway(half):
    load(half, use_safetensors=True, low_cpu_mem_usage=True, device_map=None, safety_checker=None)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"device_map": "auto"}, "cannot do device_map='auto': .* pass device="),
        ({"use_safetensors": False}, "safetensors alone"),
        ({"low_cpu_mem_usage": False}, "pass low_memory=False"),
        ({"trust_remote_code": True}, "no downloaded code"),
        ({"safety_cheker": None}, "no argument 'safety_cheker'"),
    ],
)
def test_arguments_of_diffusers_that_ask_for_something_else(half, options, words):
    with pytest.raises(TypeError, match=words):
        load(half, **options)


def test_repr_is_short(half):
    text = repr(load(half))
    assert text.startswith("GAN2ShapePipeline('face', MobileStyleGANGenerator, [depth_net, albedo_net, ")
    assert text.endswith("device='cpu')")
    assert len(text) < 200


@pytest.mark.parametrize(("licence", "shown"), [("cc-by-nc-sa-4.0", "cc-by-nc-sa-4.0"), ("other", "unknown")])
def test_a_plain_card_has_the_configurations_licence(tmp_path, licence, shown):
    config = dataclasses.replace(tiny_config(), license=licence)
    folder = hub.save_components(tmp_path / "licensed", config, {"generator": tiny_generator()})
    card = (folder / "README.md").read_text(encoding="utf-8")
    assert f"\nlicense: {shown}\n" in card
    assert f"as the configuration says: {licence}." in card
    assert hub.card_problems(folder) == []


def test_the_default_checkpoint_is_the_variables_then_the_folders(half, tmp_path, monkeypatch):
    monkeypatch.delenv("GAN2SHAPE_CHECKPOINT", raising=False)
    monkeypatch.setattr("gan2shape_hub.hub.default.BESIDE", tmp_path / "site-packages")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(hub.CheckpointError, match="--checkpoint or in GAN2SHAPE_CHECKPOINT"):
        hub.default_checkpoint()
    (tmp_path / "site-packages" / "checkpoints").mkdir(parents=True)
    half.rename(tmp_path / "site-packages" / "checkpoints" / "face")
    assert hub.default_checkpoint() == str(tmp_path / "site-packages" / "checkpoints" / "face")
    here = tiny_pipeline().save_pretrained(tmp_path / "checkpoints" / "face")
    assert hub.default_checkpoint() == str(here)
    monkeypatch.setenv("GAN2SHAPE_CHECKPOINT", "owner/name")
    assert hub.default_checkpoint() == "owner/name"
