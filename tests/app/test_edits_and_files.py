"""A finished result under another light, from another side, and as files."""

import dataclasses
import json
import shlex
from pathlib import Path

import numpy as np
import pytest
import torch
import trimesh
from demo_parts import run
from PIL import Image

from gan2shape_hub import cli
from gan2shape_hub.demo import results
from gan2shape_hub.demo.desk import Desk
from gan2shape_hub.demo.results import ball_light, ball_of_preset
from gan2shape_hub.demo.shelf import Shelf
from gan2shape_hub.demo.visitors import DemoError, Workspace
from gan2shape_hub.rendering.environment import ENVIRONMENTS
from gan2shape_hub.results.edit import LIGHT_PRESETS, preset_light

pytest_plugins = ["demo_parts"]


@pytest.fixture(scope="module")
def finished(tmp_path_factory, checkpoint):
    desk = Desk(Workspace(tmp_path_factory.mktemp("space")), Shelf([checkpoint]))
    result, _ = run(desk, desk.shelf.drawn(checkpoint, 5))
    return result, desk


def test_results_do_not_hold_the_checkpoint(finished):
    result, desk = finished
    assert result.result.editor.generator is None
    with result.whole(desk.shelf) as whole, desk.shelf.use(result.checkpoint) as pipeline:
        assert whole.editor.generator is pipeline.generator


@pytest.mark.parametrize("name", LIGHT_PRESETS)
def test_quick_relighting_agrees_with_the_library(finished, name):
    whole = finished[0].result
    viewer = whole.viewer.lighter(64)
    quick = viewer.redraw(viewer.pose, ball_light(*ball_of_preset(name), like=whole.depth), 64)
    library = whole.relight(preset_light(name), size=64)
    difference = np.abs(np.asarray(quick, float) - np.asarray(library, float))
    assert difference.mean() < 1.0, "grey levels of 255"
    assert difference.max() < 24


@pytest.mark.parametrize("name", ENVIRONMENTS)
def test_an_environment_lights_the_photograph_as_the_library_does(finished, name):
    whole = finished[0].result
    picture = np.asarray(results.relit(finished[0], (0.0, 0.0, 0.4, 0.8), name), float)
    library, left = (np.asarray(whole.relight(light, size=len(picture)), float) for light in (name, "left"))
    assert np.abs(picture - library).mean() < 1.0, "grey levels of 255"
    assert np.abs(left - library).mean() > 1.0


def test_the_light_comes_from_where_the_ball_says():
    light = ball_light(-0.6, 0.3, 0.4, 0.8)
    x, y, z = light.direction[0].tolist()
    assert x > 0, "from the left, rays travel to the right"
    assert y > 0, "from above, rays travel down"
    assert z > 0
    assert float(light.direction.norm()) == pytest.approx(1.0, abs=1e-6)
    beyond = ball_light(-3.0, 0.0, 0.4, 0.8).direction[0]
    assert float(beyond[2]) > 0.2, "never from behind"
    for name in LIGHT_PRESETS:
        ours = ball_light(*ball_of_preset(name)).direction
        assert torch.allclose(ours, preset_light(name).direction, atol=2e-2)


def test_edits_are_checked(finished):
    result, _ = finished
    with pytest.raises(DemoError, match="within"):
        results.turned(result, 500, 0)
    with pytest.raises(DemoError, match="finite"):
        results.turned(result, float("nan"), 0)
    with pytest.raises(DemoError, match="0 or more"):
        results.relit(result, (0, 0, -1, 1))
    with pytest.raises(DemoError, match="no photograph"):
        results.relit_in_photograph(result, (0, 0, 0.4, 0.8))
    pictures = list(results.strip(result))
    assert [caption for _, caption in pictures][2] == "front"
    assert len({np.asarray(picture).tobytes() for picture, _ in pictures}) == results.STRIP


def test_threads_are_given_back():
    before = torch.get_num_threads()
    with results.one_thread():
        assert torch.get_num_threads() == 1
    assert torch.get_num_threads() == before


def test_pasting_changes_the_square_alone(desk, photograph):
    subject = desk.shelf.photograph(photograph, desk.shelf.default)
    result, _ = run(desk, subject)
    whole = np.asarray(results.relit_in_photograph(result, (0.9, 0, 0.2, 1.0)).convert("RGB"), int)
    before = np.asarray(Image.open(photograph).convert("RGB"), int)
    assert whole.shape == before.shape
    assert np.abs(whole - before)[:, 12:84].max() > 10
    assert np.array_equal(whole[:, :12], before[:, :12])


def test_the_settings_repeat_the_run_from_the_command_line(finished, checkpoint, tmp_path, monkeypatch):
    result, _ = finished
    path = results.file_of(result, tmp_path, "settings")
    words = shlex.split(json.loads(path.read_text())["command"])
    assert words[:2] == ["gan2shape", "reconstruct"]
    monkeypatch.chdir(Path(checkpoint).parent)
    words[-1] = str(tmp_path / "out")
    assert cli.main([*words[1:], "--no-turntable", "--quiet"]) == 0
    again = np.load(tmp_path / "out" / "depth.npy")
    assert np.allclose(again, result.result.view_depth.numpy(), atol=1e-6)


def test_the_command_names_photographs_faces_and_options(desk, photograph):
    photograph = photograph.rename(photograph.with_name("my photo.png"))
    subject = desk.shelf.photograph(photograph, desk.shelf.default, align=False)
    result, _ = run(desk, subject, tuned=True, seed=4)
    words = shlex.split(results.command(result))
    assert words[2] == "my photo.png"
    assert {"--no-align", "--tune"} <= set(words)
    assert words[words.index("--run-seed") + 1] == "4"
    assert result.result.editor.generator is not None, "what was adapted stays with the result"


def test_files_are_made_once_and_go_with_the_next_result(finished, tmp_path):
    result, _ = finished
    first = results.file_of(result, tmp_path, "glb")
    when = first.stat().st_mtime_ns
    assert results.file_of(result, tmp_path, "glb").stat().st_mtime_ns == when
    results.forget_older(dataclasses.replace(result, id="next"), tmp_path)
    assert not first.exists()
    made = list(results.make_all(result, tmp_path, lambda: False))
    assert made == [], "nothing is made for who has left"


def test_the_viewers_model_is_lighter_in_both_senses(finished, tmp_path):
    import pygltflib

    result = finished[0].result
    # Random networks' relief is so rough that most of its cells are cut out, which says nothing of real ones.
    smooth = 1 - 0.02 * torch.hann_window(result.depth.shape[-1])[None, :, None].expand_as(result.scene.depth)
    result = dataclasses.replace(result, scene=dataclasses.replace(result.scene, depth=smooth))
    smooth_one = dataclasses.replace(finished[0], id="smooth", result=result, cache={})
    view = pygltflib.GLTF2().load(str(results.file_of(smooth_one, tmp_path, "textured")))
    whole = pygltflib.GLTF2().load(str(results.file_of(smooth_one, tmp_path, "glb")))
    assert "KHR_materials_unlit" in view.extensionsUsed
    assert "KHR_materials_unlit" not in (whole.extensionsUsed or [])
    assert view.accessors[0].count < whole.accessors[0].count


def test_the_bare_shape_is_grey_and_carries_its_light(finished, tmp_path):
    """In any viewer: nothing there lights it, and nothing tints it."""
    path = results.file_of(finished[0], tmp_path, "shape")
    scene = trimesh.load(path)
    (mesh,) = scene.geometry.values()
    colours = np.asarray(mesh.visual.material.baseColorTexture.convert("RGB"), float)
    assert np.ptp(colours, axis=2).max() < 30, "no colour"
    assert colours.mean(2).std() > 3, "lit from one side"
    assert b"KHR_materials_unlit" in path.read_bytes()
    compared = np.asarray(results.shape_picture(finished[0].result.viewer), float)
    assert compared.std() > 3
