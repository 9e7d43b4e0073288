"""The command that finds a checkpoint's light and writes it there, on tiny checkpoints."""

import importlib.util
import shutil
from pathlib import Path

import pytest
import torch
from conftest import tiny_pipeline

from gan2shape_hub import GAN2ShapePipeline, hub
from gan2shape_hub.models.stylegan2 import StyleGAN2Generator

_spec = importlib.util.spec_from_file_location("find_light", Path(__file__).parents[2] / "scripts" / "find_light.py")
command = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(command)
FEW = ["--images", "3", "--people", "2"]


@pytest.fixture(scope="module")
def untouched(tmp_path_factory):
    return tiny_pipeline(use_mask=True).save_pretrained(tmp_path_factory.mktemp("light") / "tiny")


@pytest.fixture
def checkpoint(untouched, tmp_path):
    return shutil.copytree(untouched, tmp_path / "tiny")


def test_light_and_average_go_into_the_folder(checkpoint, tmp_path, capsys):
    before = hub.load_components(checkpoint, dtype=None)[1]
    assert command.main([str(checkpoint), *FEW, "--purity", "0", "--figures", str(tmp_path / "figures")]) == 0
    config, components = hub.load_components(checkpoint, dtype=None)
    assert len(config.projection.light_directions) == 3
    rows = torch.tensor(config.projection.light_directions)
    assert rows.norm(dim=1) == pytest.approx(torch.ones(3), abs=1e-3)
    assert config.projection.light_layers
    average = components["average_sheet"]
    assert average.depth.dtype == torch.float32
    assert average.depth.shape == (32, 32)
    assert 0.9 < float(average.depth.mean()) < 1.1
    assert 0 <= float(average.cover.min()) <= float(average.cover.max()) <= 1
    for name, network in before.items():  # everything else is as it was
        for key, value in network.state_dict().items():
            assert torch.equal(value, components[name].state_dict()[key])
    assert {f.name for f in (tmp_path / "figures").iterdir()} == {"average.png", "relit.png"}
    assert "purity" in capsys.readouterr().out
    assert "average_sheet" in GAN2ShapePipeline.from_pretrained(checkpoint, device="cpu").components


def test_where_nothing_relights_the_checkpoint_says_so(checkpoint, capsys):
    assert command.main([str(checkpoint), *FEW, "--purity", "0"]) == 0
    assert command.main([str(checkpoint), *FEW, "--purity", "1"]) == 0
    config, components = hub.load_components(checkpoint)
    assert config.projection.light_directions == config.projection.light_layers == ()
    assert "average_sheet" not in components, "of the light that was found before"
    assert "no direction of W moves the light" in capsys.readouterr().out


def test_the_same_seed_gives_the_same_bytes(checkpoint, tmp_path):
    other = shutil.copytree(checkpoint, tmp_path / "other")
    for folder in (checkpoint, other):
        assert command.main([str(folder), *FEW, "--purity", "0", "--seed", "3"]) == 0
    assert hub.fingerprint(checkpoint) == hub.fingerprint(other)


def test_a_stylegan2_finds_its_layers_as_well(tmp_path, capsys):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        generator = StyleGAN2Generator(32, channels=[16, 16, 8, 8], latent_dim=16, mapping_layers=2, components=8)
        generator.component_basis.copy_(torch.linalg.qr(torch.randn(16, 8))[0].T)
    folder = tiny_pipeline().save_pretrained(tmp_path / "tiny")
    config, components = hub.load_components(folder)
    hub.save_components(folder, config, {**components, "generator": generator})
    assert command.main([str(folder), *FEW, "--purity", "0"]) == 0
    layers = hub.read_config(folder).projection.light_layers
    assert layers == tuple(range(layers[0], layers[-1] + 1))
    assert layers[-1] < generator.num_latents
    assert "in layers 0, 1, 2, 3, 4, 5, 6, 7" in capsys.readouterr().out


def test_what_is_missing_is_named(untouched, tmp_path, capsys):
    config, components = hub.load_components(untouched)
    del components["view_net"]
    folder = hub.save_components(tmp_path / "bare", config, components)
    assert command.main([str(folder)]) == 1
    assert capsys.readouterr().err == f"find_light: {folder} has no view_net: run scripts/pretrain.py first.\n"
    assert command.main([str(untouched), "--images", "2"]) == 1
    assert "--images must be 3 or more" in capsys.readouterr().err
