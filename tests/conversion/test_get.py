"""From a name, an address or a path to a checkpoint, against a server on localhost; terms first."""

import dataclasses
import re
import shutil
import time

import pytest
import stylegan2_originals as originals
import torch
from conftest import tiny_pipeline
from file_server import FileServer
from huggingface_hub import ModelCard, constants
from huggingface_hub.utils import _cache_assets
from pickled import DIM, SIZE, WIDTHS, graph_pickle
from safetensors.torch import save_file

from gan2shape_hub.cards import lint_card
from gan2shape_hub.cli import get as cli
from gan2shape_hub.conversion.public import PUBLIC, STYLEGAN2, PublicWeights, offered
from gan2shape_hub.hub import CheckpointError, load_components, read_config
from gan2shape_hub.presets import PRESETS


@pytest.fixture(autouse=True)
def no_default_checkpoint(monkeypatch):
    monkeypatch.setenv("GAN2SHAPE_CHECKPOINT", "nobody/nothing")


@pytest.fixture
def server(tmp_path, monkeypatch):
    """A server with a network, which the table knows as "tiny"."""
    graph_pickle(tmp_path / "net.pkl")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(_cache_assets, "HF_ASSETS_CACHE", str(tmp_path / "cache"))
    with FileServer({"/stylegan2-tiny.pkl": (tmp_path / "net.pkl").read_bytes()}) as running:
        weights = PublicWeights(
            "tiny", "Tiny things", "car", f"{running.url}/stylegan2-tiny.pkl", SIZE, 1, STYLEGAN2, "Noise, CC0."
        )
        monkeypatch.setitem(PUBLIC, "tiny", weights)
        yield running


def refused(capsys, *argv):
    """The one sentence with which the command ends."""
    assert cli.main([str(a) for a in argv]) == 1
    captured = capsys.readouterr()
    (line,) = captured.err.strip().splitlines()
    assert not captured.out
    return line


# -- the table --------------------------------------------------------------------------------------------------------


def test_the_table_is_whole():
    assert {"cat", "car", "church", "horse", "dog", "wild", "ffhq-256", "ffhq-1024", "metfaces"} <= set(PUBLIC)
    for name, weights in PUBLIC.items():
        assert weights.name == name
        assert weights.category in PRESETS
        assert re.fullmatch(r"https://[\w.-]+/.+/[\w.-]+\.pkl", weights.address)
        assert re.fullmatch(r"[a-z0-9.-]+", weights.terms.name)
        assert weights.terms.link.startswith("https://")
        assert weights.image_size in (256, 512, 1024)
        assert weights.data.endswith(".")
    assert len({weights.address for weights in PUBLIC.values()}) == len(PUBLIC)


def test_it_is_listed(capsys):
    assert cli.main(["--list"]) == 0
    printed = capsys.readouterr().out
    for weights in PUBLIC.values():
        assert f"{weights.name} " in printed
        assert weights.terms.link in printed


def test_pages_offer_it_on_machines_of_ones_own():
    assert {weights.name for weights in offered(False, {})} == set(PUBLIC)
    assert offered(True, {}) == ()
    assert offered(False, {"GAN2SHAPE_GET": "0"}) == ()
    assert offered(True, {"GAN2SHAPE_GET": "1"})


# -- by name ----------------------------------------------------------------------------------------------------------


def test_terms_come_first(server, tmp_path, capsys):
    line = refused(capsys, "tiny", "--output", tmp_path / "out")
    assert STYLEGAN2.link in line
    assert "--accept-licence" in line
    assert "CC0" in line
    assert server.log == [], "nothing is fetched before"
    assert not (tmp_path / "out").exists()


def test_one_command(server, tmp_path, capsys):
    out = tmp_path / "tiny"
    assert cli.main(["tiny", "--output", str(out), "--accept-licence"]) == 0
    printed = capsys.readouterr().out
    assert "sha256" in printed
    assert f"gan2shape train {out} --work runs/tiny --quick" in printed.splitlines()[-1]
    config, components = load_components(out)
    assert (config.category, config.license) == ("car", "other")
    assert config.description == f"Tiny things, {SIZE} pixels"
    assert config.projection.space == "pca", "what gan2shape train needs"
    assert sorted(components) == ["discriminator", "generator"]
    text = (out / "README.md").read_text()
    assert lint_card(text, out) == []
    card = ModelCard(text)
    assert (card.data.license_name, card.data.license_link) == (STYLEGAN2.name, STYLEGAN2.link)
    assert "Noise, CC0." in text
    assert "stylegan2-tiny.pkl" in text
    assert str(tmp_path) not in text
    assert (out / "samples.png").exists()

    asked = len(server.log)
    assert cli.main(["tiny", "--output", str(tmp_path / "again"), "--accept-licence"]) == 0
    assert len(server.log) == asked, "it is in the cache"


def test_training_follows_where_it_is_asked_for(server, tmp_path, monkeypatch, capsys):
    """The command line of the training is the one that was asked for: it refuses a phase's other recipe by itself."""
    work = tmp_path / "work"
    work.mkdir()
    (work / "recipe.json").write_text("{no json")
    argv = ["tiny", "--output", str(tmp_path / "tiny"), "--accept-licence", "--work", str(work)]
    assert cli.main(argv) == 1
    assert "recipe" in capsys.readouterr().err
    assert read_config(tmp_path / "tiny").category == "car", "the weights are there all the same"


def test_options_that_lack_others(capsys):
    for argv in ([], ["car"], ["car", "--output", "x", "--quick"]):
        with pytest.raises(SystemExit):
            cli.main(argv)
        assert "needed" in capsys.readouterr().err or "--quick" in argv


# -- files of one's own -----------------------------------------------------------------------------------------------


def own_files(folder):
    g, d = originals.rosinality_weights(SIZE, WIDTHS, dim=DIM)
    torch.save({"g_ema": g, "d": d}, folder / "rosinality.pt")
    torch.save({"state_dict": {f"decoder.{n}": v for n, v in g.items()}}, folder / "e4e.pt")
    g, d = originals.nvidia_weights(SIZE, WIDTHS, dim=DIM)
    torch.save({"G_ema": g, "D": d}, folder / "nvidia.pt")
    save_file({name: value.contiguous() for name, value in g.items()}, folder / "nvidia.safetensors")
    graph_pickle(folder / "tensorflow.pkl")


@pytest.mark.parametrize("name", ["rosinality.pt", "e4e.pt", "nvidia.pt", "nvidia.safetensors", "tensorflow.pkl"])
def test_a_file_of_any_format(tmp_path, name):
    own_files(tmp_path)
    out = tmp_path / "out"
    argv = [str(tmp_path / name), "--output", str(out), "--category", "animal", "--license", "mit"]
    assert cli.main(argv) == 0
    config = read_config(out)
    assert (config.category, config.license, config.image_size) == ("animal", "mit", SIZE)


def test_an_address_of_ones_own(server, tmp_path):
    argv = [f"{server.url}/stylegan2-tiny.pkl?download=1", "--output", str(tmp_path / "out"), "--category", "horse"]
    assert cli.main(argv) == 0
    assert read_config(tmp_path / "out").category == "horse"


def test_a_perceptual_network_is_taken_along(tmp_path, monkeypatch, capsys):
    graph_pickle(tmp_path / "net.pkl")
    other = tiny_pipeline().save_pretrained(tmp_path / "face")
    before = load_components(other, only=("perceptual",))[1]["perceptual"].state_dict()
    argv = [str(tmp_path / "net.pkl"), "--category", "horse", "--output", str(tmp_path / "out")]
    for named in (["--perceptual", str(other)], []):
        assert cli.main([*argv, *named]) == 0
        assert "The perceptual network is that of face" in capsys.readouterr().out
        after = load_components(tmp_path / "out")[1]["perceptual"].state_dict()
        assert all(torch.equal(value, after[name]) for name, value in before.items())
        monkeypatch.setenv("GAN2SHAPE_CHECKPOINT", str(other))  # the default one, which needs no word
    shutil.move(tmp_path / "out" / "perceptual", tmp_path / "elsewhere")
    assert "perceptual" in refused(capsys, *argv, "--perceptual", tmp_path / "out")


# -- what goes wrong --------------------------------------------------------------------------------------------------


def test_trouble_is_one_sentence(server, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(time, "sleep", lambda seconds: None)
    end = ["--output", tmp_path / "out"]
    assert "The names are car, church" in refused(capsys, "boat", *end)
    assert "The names are car" in refused(capsys, "boat", *end, "--category", "car")
    assert "pass --category" in refused(capsys, tmp_path / "net.pkl", *end)
    assert "'boat'" in refused(capsys, tmp_path / "net.pkl", *end, "--category", "boat")
    assert "neither a name" in refused(capsys, tmp_path / "none.pkl", *end, "--category", "car")
    (tmp_path / "page.pkl").write_text("<html>log in first</html>")
    assert "not a readable network pickle" in refused(capsys, tmp_path / "page.pkl", *end, "--category", "car")
    assert "HTTP 404" in refused(capsys, f"{server.url}/none.pkl", *end, "--category", "car")
    server.short = 7
    assert "did not arrive whole" in refused(capsys, "tiny", *end, "--accept-licence")
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "text").write_text("mine")
    asked = len(server.log)
    line = refused(capsys, "tiny", "--output", tmp_path / "thesis", "--accept-licence")
    assert "--overwrite" in line
    assert len(server.log) == asked, "a bad place is told before the download"
    monkeypatch.setitem(PUBLIC, "tiny", dataclasses.replace(PUBLIC["tiny"], address="http://127.0.0.1:9/x.pkl"))
    assert "check the network connection" in refused(capsys, "tiny", *end, "--accept-licence")
    assert not (tmp_path / "out").exists()


def test_without_a_network_on_purpose(server, tmp_path, monkeypatch):
    from huggingface_hub.utils import _http

    from gan2shape_hub.conversion.get import get

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    _http.close_session()
    with pytest.raises(CheckpointError, match="HF_HUB_OFFLINE is set: unset it"):
        get("tiny", tmp_path / "out", accept_licence=True)
    _http.close_session()
