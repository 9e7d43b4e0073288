"""The making of a checkpoint, all phases at tiny size: results, resumption, kills, categories that lack things."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from conftest import tiny_pipeline
from tiny_program import bare_checkpoint, program, tiny_recipe

from gan2shape_hub import GAN2ShapePipeline, hub
from gan2shape_hub.models.stylegan2 import StyleGAN2Generator
from gan2shape_hub.records import SHAPE_COMPONENTS
from gan2shape_hub.training.context import Context
from gan2shape_hub.training.program import PHASES
from gan2shape_hub.training.recipe import Recipe

SCRIPT = Path(__file__).with_name("tiny_program.py")
NAMES = [phase.name for phase in PHASES]


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A run from start to end."""
    folder = tmp_path_factory.mktemp("whole")
    assert program(folder) == 0
    return folder


@pytest.fixture
def finished(whole, tmp_path):
    return shutil.copytree(whole, tmp_path / "whole")


def done(folder):
    return {name: json.loads((folder / "work" / name / "done.json").read_text()) for name in NAMES}


def test_a_generator_becomes_a_checkpoint(whole):
    config, components = hub.load_components(whole / "checkpoint", dtype=None)
    assert {*SHAPE_COMPONENTS.values(), "generator", "perceptual", "average_sheet"} == components.keys()
    assert len(config.projection.view_directions) == 2
    assert len(config.projection.light_directions) == 3
    rows = torch.tensor(config.projection.light_directions)
    assert rows.norm(dim=1) == pytest.approx(torch.ones(3), abs=1e-3)
    assert components["average_sheet"].depth.dtype == torch.float32
    assert 0.9 < float(components["average_sheet"].depth.mean()) < 1.1
    assert components["depth_net"].template.dtype == torch.float16
    assert Recipe.read(whole / "checkpoint" / "recipe.json") == tiny_recipe()
    pipeline = GAN2ShapePipeline.from_pretrained(whole / "checkpoint", device="cpu")
    assert pipeline(pipeline.sample(seed=1)).viewer.depth.isfinite().all()


def test_every_phase_leaves_a_page_and_its_checkpoint(whole):
    for name in NAMES:
        assert (whole / "work" / name / "page.png").stat().st_size > 1000
        assert "generator" in hub.read_components(whole / "work" / name / "checkpoint")
    assert not any(note["skipped"] for note in done(whole).values())
    log = (whole / "work" / "log.txt").read_text()
    assert [line for line in log.splitlines() if "min left" in line]
    assert f"phase 1 of {len(NAMES)}: taps" in log


def test_a_run_that_was_killed_anywhere_ends_with_the_same_bits(whole, tmp_path):
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    # One thread, as sums in another order are other bits.
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        reference = whole if threads == 1 else tmp_path / "alone"
        assert program(reference) == 0
    finally:
        torch.set_num_threads(threads)
    said = subprocess.run(
        [sys.executable, SCRIPT, "killed", tmp_path / "killed"],
        check=True,
        env=environment,
        timeout=600,
        capture_output=True,
        text=True,
    ).stdout
    assert int(said.split("kills:")[1]) > 5
    assert hub.fingerprint(tmp_path / "killed" / "checkpoint") == hub.fingerprint(reference / "checkpoint")


def test_what_is_done_is_not_done_again(finished, capsys):
    before = hub.fingerprint(finished / "checkpoint")
    assert program(finished) == 0
    assert "phase" not in capsys.readouterr().out
    assert hub.fingerprint(finished / "checkpoint") == before


def test_light_is_found_again_alone(finished, capsys):
    """On the finished checkpoint, by itself; everything else stays as it is, and an average of another light goes."""
    before = hub.load_components(finished / "checkpoint")[1]
    file = finished / "tiny.json"
    for purity, lit in ((0.0, True), (1.0, False)):
        file.write_text(json.dumps({**json.loads(file.read_text()), "light": {"images": 3, "purity": purity}}))
        shutil.rmtree(finished / "work")
        assert program(finished, "--phases", "light,average") == 0
        config, components = hub.load_components(finished / "checkpoint")
        assert ("average_sheet" in components) == lit
        assert bool(config.projection.light_directions) == lit
    said = capsys.readouterr().out
    assert "average: skipped, no direction of W moves the light" in said
    assert "turn" not in [f.name for f in (finished / "work").iterdir()]
    for name in SHAPE_COMPONENTS.values():
        for key, value in before[name].state_dict().items():
            assert torch.equal(value, components[name].state_dict()[key])


def test_another_recipe_needs_redo(finished, capsys):
    data = json.loads((finished / "tiny.json").read_text())
    data["units"]["identities"] = 3
    (finished / "tiny.json").write_text(json.dumps(data))
    assert program(finished) == 1
    assert "did 'units' by another recipe: pass --redo units" in capsys.readouterr().err
    assert program(finished, "--redo", "units") == 0
    said = capsys.readouterr().out
    assert "of 7: units" in said
    assert "networks" not in said.split("processes")[1]
    shutil.rmtree(finished / "work" / "average")
    assert program(finished) == 1
    assert "'pool' was done before 'average': pass --redo pool." in capsys.readouterr().err


def test_a_category_whose_objects_do_not_turn_keeps_the_ellipsoid(tmp_path, capsys):
    recipe = tiny_recipe(turn=Recipe.from_json(json.dumps({"turn": {"images": 8, "smallest_step_deg": 1e6}})).turn)
    data = json.loads(recipe.to_json())
    for name in ("encoder", "renders"):
        data["turn"][name]["steps"] = 1
    assert program(tmp_path, recipe=Recipe.from_json(json.dumps(data))) == 0
    said = capsys.readouterr().out
    assert "no direction of W turns the object" in said
    assert "light: skipped, there are no shape networks" in said
    assert "pool: skipped, no direction of W turns the object" in said
    assert hub.read_components(tmp_path / "checkpoint").keys() == {"generator", "perceptual"}


def test_a_stylegan2_has_no_taps_and_finds_its_layers(tmp_path, capsys):
    """Everything else works without a discriminator, perceptual features, masker or detector."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        generator = StyleGAN2Generator(32, channels=[16, 16, 8, 8], latent_dim=16, mapping_layers=2, components=8)
        generator.component_basis.copy_(torch.linalg.qr(torch.randn(16, 8))[0].T)
    pipeline = tiny_pipeline()
    kept = {SHAPE_COMPONENTS[name]: pipeline.components[SHAPE_COMPONENTS[name]] for name in SHAPE_COMPONENTS}
    hub.save_components(tmp_path / "checkpoint", pipeline.config, {"generator": generator, **kept})
    (tmp_path / "tiny.json").write_text(tiny_recipe().to_json())
    assert program(tmp_path, "--phases", "taps,light,average") == 0
    said = capsys.readouterr().out
    assert "taps: skipped, the generator has no taps" in said
    assert "in layers 0, 1, 2, 3, 4, 5, 6, 7" in said
    layers = hub.read_config(tmp_path / "checkpoint").projection.light_layers
    assert layers == tuple(range(layers[0], layers[-1] + 1))


def test_mistakes_are_one_sentence(tmp_path, capsys):
    def said(*options):
        assert program(tmp_path, *options) == 1
        (line,) = capsys.readouterr().err.splitlines()
        return line

    assert "there is no phase 'lights': they are taps, turn, light" in said("--phases", "lights")
    assert "--recipe and --quick are two recipes" in said("--quick")
    config, components = hub.load_components(bare_checkpoint(tmp_path / "other"))
    del components["generator"]._buffers["component_basis"]
    with pytest.raises(ValueError, match="--space pca"):
        _ = Context(config, components, tiny_recipe(), tmp_path, None, print).generator
