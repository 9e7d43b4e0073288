"""docs/new-category.md as a new user follows it: every command of the page, in its order, on a small generator.

The commands are taken from the page, so that it cannot rot. What would take long is made smaller (``SMALLER``), and the
training itself runs in a test marked slow; nothing else is replaced.
"""

from __future__ import annotations

import dataclasses
import importlib.util
import json
import re
import shlex
import shutil
from pathlib import Path

import numpy as np
import pytest
import stylegan2_originals as originals
import torch
from conftest import tiny_config
from hub_client import Clients
from hub_server import HubServer
from huggingface_hub import ModelCard
from PIL import Image

from gan2shape_hub import hub
from gan2shape_hub.cli import convert, get, push, reconstruct, train
from gan2shape_hub.models import shape_nets
from gan2shape_hub.models.latent_projection import LatentProjection
from gan2shape_hub.models.shape import ShapeNets
from gan2shape_hub.records import SHAPE_COMPONENTS
from gan2shape_hub.training.recipe import Recipe

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "new-category.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```(bash|python|json)\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)
SMALLER = {
    "--count 20": "--count 1",
    "--samples 2000": "--samples 40",
}
WIDTHS, SIZE, DIM, TOKEN = [12, 10, 8, 8], 32, 16, "hf_catOwner0123456789"


def script(name: str):
    """A command line of ``scripts/`` as a module."""
    spec = importlib.util.spec_from_file_location(name, ROOT / "scripts" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def commands() -> list[list[str]]:
    """The page's commands for the shell, in words; one a block."""
    found = [block.strip() for kind, block in BLOCKS if kind == "bash"]
    assert not [command for command in found if "\n" in command]
    for long, short in SMALLER.items():
        found = [command.replace(long, short) for command in found]
    return [shlex.split(command) for command in found]


def command(*words: str) -> list[str]:
    """Arguments of the first command that holds all ``words``."""
    return next(c for c in commands() if all(word in " ".join(c) for word in words))[2:]


@pytest.fixture
def clone(tmp_path, monkeypatch) -> Path:
    """What a user has at hand: an untrained generator, photographs, the facts of cats."""
    torch.manual_seed(0)
    g, d = originals.rosinality_weights(SIZE, WIDTHS, dim=DIM)
    for name in g:  # calm pictures, as trained ones are
        if name.endswith("noise.weight"):
            g[name] *= 0.02
    w = originals.rosinality_mapping(g, torch.randn(64, DIM))
    gain = 0.4 / originals.rosinality_synthesis(g, w[:8, None].repeat(1, 2 * len(WIDTHS), 1)).std()
    for name in g:
        if name.startswith("to_rgb") and (name.endswith("conv.weight") or re.fullmatch(r"to_rgbs?[.\d]+bias", name)):
            g[name] *= gain
    torch.save({"g_ema": g, "d": d, "latent_avg": w.mean(0)}, tmp_path / "stylegan2-cat.pt")
    photos = tmp_path / "photos" / "cats"
    photos.mkdir(parents=True)
    noise = np.random.default_rng(0)
    for k in range(20):
        Image.fromarray(noise.integers(0, 255, (48, 48, 3), dtype=np.uint8)).save(photos / f"{k}.png")
    (tmp_path / "model_cards").mkdir()
    shutil.copy(ROOT / "model_cards" / "cat.yaml", tmp_path / "model_cards")
    monkeypatch.setattr(shape_nets, "default_width", lambda size: 8)  # of networks that are made anew
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GAN2SHAPE_CHECKPOINT", "nobody/nothing")  # whose perceptual network would be taken along
    return tmp_path


def shorten(folder: Path) -> None:
    """Edit the schedules in config.json, as the page says one may, and the side of the networks' images, which need not
    be four times that of the generator's."""
    config = json.loads((folder / "config.json").read_text())
    config["image_size"] = SIZE
    for name in config["schedules"]:
        config["schedules"][name] = dataclasses.asdict(tiny_config().schedules["fast"])
    (folder / "config.json").write_text(json.dumps(config))


def trained_in_no_time(folder: Path) -> None:
    """What scripts/train.py leaves in the folder, untrained."""
    config, components = hub.load_components(folder)
    encoding = LatentProjection(components["generator"], config.projection).encoding_size
    nets = ShapeNets.create(config, encoding, seed=0, width=8, encoder_width=8)
    components |= {SHAPE_COMPONENTS[name]: module for name, module in nets.modules()}
    hub.save_components(folder, config, components)


IN_CLIENT = """
import os
os.chdir(folder)
from gan2shape_hub.cli import push
result = push.main(arguments)
"""
DEMO = """
from gan2shape_hub.demo.shelf import Shelf, listed_checkpoints
shelf = Shelf(listed_checkpoints())
with shelf.use(shelf.default) as pipeline:
    result = [shelf.default, pipeline.config.category, sorted(pipeline.components)]
"""


def test_the_page_works(clone, tmp_path_factory, capsys, monkeypatch):
    folder = clone / "checkpoints" / "cat"

    # 1. get, and the folder works
    assert get.main(command("get --list")) == 0
    assert " cat " in f" {capsys.readouterr().out}".replace("\n", " ")
    assert get.parser().parse_args(command("get cat")).accept_licence
    assert get.main(command("get stylegan2-cat.pt")) == 0
    config, components = hub.load_components(folder)
    assert config.projection.space == "pca"
    assert sorted(components) == ["discriminator", "generator"]
    assert convert.parser().parse_args(command("convert gan2shape")).category == "cat"
    for key in re.findall(r"^\| (`.*?`(?:, `.*?`)*) \|", PAGE.partition("| key | is |")[2], re.MULTILINE):
        for name in re.findall(r"`(.*?)`", key):
            value = dataclasses.asdict(config)
            for part in name.split("."):
                value = value[part]
    shorten(folder)
    assert reconstruct.main([*command("reconstruct", "out/ellipsoid"), "--no-turntable", "--quiet"]) == 0
    assert (clone / "out" / "ellipsoid" / "mesh.glb").exists()

    # 2. train: the arguments are understood (a folder that is not there is refused only after that)
    arguments = command("gan2shape train", "--work")
    assert arguments[0] == "checkpoints/cat"
    assert train.main(["checkpoints/absent", *arguments[1:], "--device", "cpu"]) == 1
    trained_in_no_time(folder)

    # 3. fit the Gaussians, either way
    before = hub.read_config(folder)
    for way in ("--samples", "--images"):
        assert script("fit_priors").main(command("fit_priors", way)) == 0
        assert hub.read_config(folder).view_gaussian != before.view_gaussian
        before = hub.read_config(folder)

    # 4. look and measure
    assert reconstruct.main([*command("reconstruct", "out/cat"), "--no-turntable", "--quiet"]) == 0
    assert (clone / "out" / "cat" / "contact_sheet.png").exists()
    assert script("measure_category").main(command("measure_category")) == 0
    measured = json.loads((clone / "docs" / "results" / "cat.json").read_text())
    assert measured["checkpoint"] == hub.fingerprint(folder)
    assert {metric["type"] for metric in measured["metrics"]} == {"psnr", "psnr-p10"}
    assert script("evaluate").parse_arguments(command("evaluate.py facemesh")).count == 100
    (example,) = [json.loads(block) for kind, block in BLOCKS if kind == "json"]
    (clone / "docs" / "results" / "example.json").write_text(json.dumps(example))
    from gan2shape_hub import cards

    assert cards.load_results(clone / "docs" / "results" / "example.json").metrics[0].type == "side"

    # 5. the card
    make_cards = script("make_cards")
    monkeypatch.setattr(make_cards, "ROOT", clone)
    assert make_cards.main(command("make_cards")) == 0
    assert hub.card_problems(folder) == []
    card = (folder / "README.md").read_text(encoding="utf-8")
    assert {r.metric_type for r in ModelCard(card).data.eval_results} == {"psnr", "psnr-p10"}
    assert "(samples.png)" in card
    assert "(figures/contact_sheet.png)" in card

    # 6. publish
    capsys.readouterr()
    assert push.main(command("gan2shape push", "--dry-run")) == 0
    printed = capsys.readouterr()
    assert printed.err == ""
    assert "figures/contact_sheet.png" in printed.out
    calls = tmp_path_factory.mktemp("calls")
    with HubServer(tokens={TOKEN: "you"}) as server:
        (name,) = [c[0].split("=")[1] for c in commands() if c[0].startswith("GAN2SHAPE_CHECKPOINTS=")]
        environment = {"HF_ENDPOINT": server.url, "HF_HOME": str(calls / "hf"), "HF_TOKEN": TOKEN}
        user = Clients({**environment, "GAN2SHAPE_CHECKPOINTS": name}, calls)
        try:
            arguments = next(c for c in commands() if c[:2] == ["gan2shape", "push"] and "--dry-run" not in c)[2:]
            sent = user.run(IN_CLIENT, folder=str(clone), arguments=arguments)
            assert sent.result == 0, sent.chain + sent.printed
            assert f"/{name}/commit/" in sent.printed
            files = server.files(name)
            assert f'from_pretrained("{name}")' in files["README.md"].decode()
            assert {"generator/model.safetensors", "view_net/model.safetensors", "samples.png"} <= files.keys()

            # 6 and 7 in Python, in another folder than the clone but for the checkpoint
            for code in [block for kind, block in BLOCKS if kind == "python"]:
                answer = user.run(f"import os\nos.chdir({str(clone)!r})\n{code}")
                assert not answer.error, answer.chain
            assert "generator/model.fp16.safetensors" in server.files(name)
            assert server.files(name)["README.md"] == files["README.md"]
            assert (clone / "out" / "from-the-hub" / "mesh.glb").exists()
            assert TOKEN not in sent.printed
            if importlib.util.find_spec("gradio") and importlib.util.find_spec("gan2shape_hub.demo"):
                shown = user.run(DEMO)
                assert not shown.error, shown.chain
                assert shown.result[:2] == [name, "cat"]
                assert "depth_net" in shown.result[2]
        finally:
            user.close()


def test_every_command_of_the_page_is_one_that_was_tried():
    """A command that is added to the page has to be added above."""
    tried = {
        "get": 3,
        "convert": 1,
        "reconstruct": 2,
        "train": 1,
        "fit_priors": 2,
        "measure_category": 1,
        "evaluate": 1,
        "make_cards": 1,
        "push": 2,
    }
    found: dict[str, int] = {}
    for words in commands():
        if words[0] in ("python", "gan2shape"):
            found[Path(words[1]).stem] = found.get(Path(words[1]).stem, 0) + 1
        else:
            assert words[:3] == ["hf", "auth", "login"] or words[1:] == ["python", "app.py"]
    assert found == tried


@pytest.mark.slow
def test_training_of_the_page(clone):
    """A minute: the documented command on the small generator, with little of everything."""
    folder = clone / "checkpoints" / "cat"
    assert get.main(command("get stylegan2-cat.pt")) == 0
    recipe = json.loads(Recipe.quick().to_json())
    recipe["turn"]["smallest_step_deg"] = 0.0
    (clone / "small.json").write_text(json.dumps(recipe))
    assert train.main([*command("gan2shape train", "--work"), "--recipe", "small.json", "--device", "cpu"]) == 0
    assert set(SHAPE_COMPONENTS.values()) <= set(hub.read_components(folder))
    config = hub.read_config(folder)
    assert {"instant", "fast", "balanced", "paper"} == set(config.schedules)
    assert config.schedule().turned_views > 0, "the trained schedule is the default"
    for preset in ("instant", "fast"):
        arguments = [*command("reconstruct", "out/cat"), "--preset", preset, "--no-turntable", "--quiet"]
        assert reconstruct.main(arguments) == 0
