"""The making of a checkpoint, all phases at tiny size: results, resumption, kills, categories that lack things."""

import dataclasses
import json
import shutil
import signal

import lamps
import pytest
import torch
from children import Child
from conftest import tiny_pipeline
from tiny_program import bare_checkpoint, program, tiny_recipe, until_killed

from gan2shape_hub import GAN2ShapePipeline, hub
from gan2shape_hub.accelerator import make_accelerator
from gan2shape_hub.models.sheet_unet import SheetUNet
from gan2shape_hub.models.stylegan2 import StyleGAN2Generator
from gan2shape_hub.records import SHAPE_COMPONENTS
from gan2shape_hub.rendering.renderer import raw_to_depth
from gan2shape_hub.rendering.shading import normals_from_depth
from gan2shape_hub.training import sheet_nets
from gan2shape_hub.training.context import Context
from gan2shape_hub.training.phase3_light import Light
from gan2shape_hub.training.phase4_average import Average
from gan2shape_hub.training.program import PHASES
from gan2shape_hub.training.recipe import AverageRecipe, LightRecipe, Recipe

NAMES = [phase.name for phase in PHASES]


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A run from start to end."""
    folder, threads = tmp_path_factory.mktemp("whole"), torch.get_num_threads()
    torch.set_num_threads(1)  # sums in another order are other bits
    try:
        assert program(folder) == 0
    finally:
        torch.set_num_threads(threads)
    return folder


@pytest.fixture
def finished(whole, tmp_path):
    return shutil.copytree(whole, tmp_path / "whole")


def done(folder):
    return {name: json.loads((folder / "work" / name / "done.json").read_text()) for name in NAMES}


def test_a_generator_becomes_a_checkpoint(whole):
    config, components = hub.load_components(whole / "checkpoint", dtype=None)
    assert {*SHAPE_COMPONENTS.values(), "generator", "perceptual"} <= components.keys()
    rows = torch.tensor(config.projection.view_directions)
    assert rows.norm(dim=1) == pytest.approx(torch.ones(2), abs=1e-3)
    # Whether a generator of noise relights is a matter of luck.
    assert ("average_sheet" in components) == bool(config.projection.light_directions)
    if "average_sheet" in components:
        assert components["average_sheet"].depth.dtype == torch.float32
    assert components["depth_net"].template.dtype == torch.float16
    assert Recipe.read(whole / "checkpoint" / "recipe.json") == tiny_recipe()
    pipeline = GAN2ShapePipeline.from_pretrained(whole / "checkpoint", device="cpu")
    assert pipeline(pipeline.sample(seed=1)).viewer.depth.isfinite().all()


def test_every_phase_leaves_a_page_and_its_checkpoint(whole):
    notes = done(whole)
    assert not any(note["skipped"] for name, note in notes.items() if name not in ("light", "average"))
    for name in ("taps", "turn", "pool", "networks", "units"):
        assert (whole / "work" / name / "page.png").stat().st_size > 1000
        assert "generator" in hub.read_components(whole / "work" / name / "checkpoint")
    log = (whole / "work" / "log.txt").read_text()
    assert [line for line in log.splitlines() if "min left" in line]
    assert f"phase 1 of {len(NAMES)}: taps" in log


def test_a_run_that_was_killed_anywhere_ends_with_the_same_bits(whole, tmp_path):
    ends = []
    while 0 not in ends:
        ends.append(Child(until_killed, tmp_path / "killed", 8 + 9 * (len(ends) % 3)).wait()[0])
    assert set(ends) == {0, -signal.SIGKILL}
    assert len(ends) > 4
    assert hub.fingerprint(tmp_path / "killed" / "checkpoint") == hub.fingerprint(whole / "checkpoint")


def test_what_is_done_is_not_done_again(finished, capsys):
    before = hub.fingerprint(finished / "checkpoint")
    assert program(finished) == 0
    assert "phase" not in capsys.readouterr().out
    assert hub.fingerprint(finished / "checkpoint") == before


def test_a_phase_can_be_done_alone(finished, capsys):
    """On the finished checkpoint: everything else stays as it is, and an average of a light that is gone goes."""
    before = hub.load_components(finished / "checkpoint")[1]
    file = finished / "tiny.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "light": {"images": 3, "purity": 1.0}}))
    shutil.rmtree(finished / "work")
    assert program(finished, "--phases", "light,average") == 0
    config, components = hub.load_components(finished / "checkpoint")
    assert "average_sheet" not in components
    assert config.projection.light_directions == config.projection.light_layers == ()
    said = capsys.readouterr().out
    assert "average: skipped, no direction of W moves the light" in said
    assert "turn" not in [f.name for f in (finished / "work").iterdir()]
    for name in SHAPE_COMPONENTS.values():
        for key, value in before[name].state_dict().items():
            assert torch.equal(value, components[name].state_dict()[key])


def test_phases_one_by_one_are_the_whole_run(whole, finished):
    """Each goes on from the ones before it in the work folder, whatever the checkpoint holds."""
    shutil.rmtree(finished / "checkpoint")
    bare_checkpoint(finished / "checkpoint")
    shutil.rmtree(finished / "work" / "units")
    assert program(finished, "--phases", "units") == 0
    assert hub.fingerprint(finished / "checkpoint") == hub.fingerprint(whole / "checkpoint")


def test_light_and_average_of_a_generator_whose_lamp_is_known(tmp_path):
    """A generator of somebody's own, which is no component of a checkpoint."""
    networks = {SHAPE_COMPONENTS[name]: module for name, module in lamps.nets(lamps.dome()).modules()}
    context = Context(
        lamps.config(),
        {"generator": lamps.Lamps(lamps.dome(ridge=0.5)), "masker": lamps.Everywhere(), **networks},
        tiny_recipe(light=LightRecipe(images=4)),
        tmp_path,
        make_accelerator("cpu"),
        lambda text: None,
    )
    assert Average().lacks(context) == "no direction of W moves the light"
    lit = Light().run(context)
    assert set(lit.config.projection.light_layers) <= set(lamps.LIT)
    assert Average().lacks(lit) is None
    found = Average().run(lit)
    nose = found.components["average_sheet"].depth - raw_to_depth(lamps.dome()[:, 0], lit.config.camera)[0]
    assert nose[16, 16] < nose[16, 10] - 1e-3, "the networks do not know of it"
    for phase in (Light(), Average()):
        assert phase.picture(found).size[0] > 100


def test_light_and_average_are_nearer_after_another_round(tmp_path):
    """The first shapes have no nose: one round finds some of it, and the next one begins there."""
    truth = lamps.dome(ridge=2.0)

    def average(rounds: int) -> Context:
        start = lamps.nets(lamps.dome())
        depth = SheetUNet(3, 1, lamps.SIZE, nf=4, skip=8, resolution=16)
        sheet_nets.start_from(depth, raw_to_depth(lamps.dome()[:, 0], lamps.config().camera)[0], lamps.config(), 0.0)
        networks = {SHAPE_COMPONENTS[n]: m for n, m in dataclasses.replace(start, depth=depth).modules()}
        recipe = tiny_recipe(light=LightRecipe(images=4, purity=0.0), average=AverageRecipe(people=4, rounds=rounds))
        context = Context(
            lamps.config(),
            {"generator": lamps.Lamps(truth), "masker": lamps.Everywhere(), **networks},
            recipe,
            tmp_path / str(rounds),
            make_accelerator("cpu"),
            lambda text: None,
        )
        return Average().run(Light().run(context))

    def error(context: Context) -> float:
        camera = context.config.camera
        found, wanted = (
            normals_from_depth(depth, camera)
            for depth in (context.components["average_sheet"]()[None], raw_to_depth(truth[:, 0], camera))
        )
        return float((found * wanted).sum(1).clamp(-1, 1).acos()[0, 8:24, 10:22].mean())

    once, twice = average(1), average(2)
    assert error(twice) < 0.85 * error(once)
    again = average(2)  # from what the folder holds
    assert torch.equal(again.components["average_sheet"].depth, twice.components["average_sheet"].depth)
    assert again.config == twice.config


def test_another_recipe_needs_redo(finished, capsys):
    data = json.loads((finished / "tiny.json").read_text())
    data["units"]["identities"] = 3
    (finished / "tiny.json").write_text(json.dumps(data))
    assert program(finished) == 1
    assert "did 'units' by another recipe: pass --redo units" in capsys.readouterr().err
    assert program(finished, "--redo", "units") == 0
    said = capsys.readouterr().out
    assert f"of {len(NAMES)}: units" in said
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
