"""A scene looks the same whatever the side of its sheet is."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from face_scene import CAMERA, face_scene, light, turned
from test_texture import painted, photograph
from torch.utils._python_dispatch import TorchDispatchMode

from gan2shape_hub.results.edit import preset_light
from gan2shape_hub.results.image_files import to_pil
from gan2shape_hub.results.relight import multiplied, wall_ratio
from gan2shape_hub.results.viewer import MESH_SIDE, Viewer


@pytest.fixture(scope="module")
def source() -> torch.Tensor:
    return photograph(painted(192), face_scene(128).depth, turned(10))


def viewer(source: torch.Tensor, side: int) -> Viewer:
    known = face_scene(side)
    return Viewer(CAMERA, source, known.depth, known.albedo, turned(10), light(), known.mask)


def difference(one, other) -> float:
    return float(np.abs(np.asarray(one, dtype=float) - np.asarray(other, dtype=float)).mean())


def test_pictures_do_not_depend_on_the_sheets_side(source):
    coarse, fine = viewer(source, 128), viewer(source, 256)
    plain = coarse.redraw(coarse.pose, None, 192)
    for name in ("left", "rim"):
        lit = coarse.redraw(coarse.pose, name, 192)
        assert difference(lit, plain) > 10
        assert difference(fine.redraw(fine.pose, name, 192), lit) < 0.1 * difference(lit, plain)
    drawn = coarse.render(20, 0, None, size=96)
    assert difference(drawn, coarse.render(0, 0, None, size=96)) > 10
    assert difference(fine.render(20, 0, None, size=96), drawn) < 2.5


def test_a_fine_sheet_does_not_make_a_mesh_of_millions(source):
    coarse, fine = viewer(source, 64), viewer(source, MESH_SIDE)
    assert len(coarse.sheet.vertices) > 64**2 * 2, "a coarse one is refined"
    assert len(fine.sheet.vertices) < MESH_SIDE**2
    assert len(fine.build_sheet(1.5).faces) < len(fine.sheet.faces)


def test_the_photograph_comes_back_where_nothing_is_changed(source):
    scene = viewer(source, 128)
    again = np.asarray(scene.redraw(scene.pose, None, 192), dtype=float)
    given = (source.permute(1, 2, 0).numpy() + 1) * 127.5
    inside = (slice(24, -24), slice(48, -48))
    assert np.abs(again - given)[inside].mean() < 3


def test_relighting_costs_what_pixels_cost(source):
    """Values that are computed or read by a pool, whose windows once grew with the picture."""
    scene, work = viewer(source, 128), {}
    scene.relighting("left")

    class Count(TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            out = func(*args, **(kwargs or {}))
            if isinstance(out, torch.Tensor):
                window = math.prod(args[1]) if "pool2d" in str(func) else 1
                work[size] = work.get(size, 0) + out.numel() * window
            return out

    for size in (256, 1024):
        with Count():
            scene.redraw(scene.pose, "left", size)
    assert work[1024] < 16 * work[256]


def test_beyond_the_object_the_photograph_is_lit_as_a_wall(source):
    """Whatever the sheet does there; and nothing of the photograph is blurred."""
    known = face_scene(64)
    empty = Viewer(CAMERA, source, known.depth, known.albedo, turned(10), light(), torch.zeros(64, 64))
    wall = multiplied(source[None], wall_ratio(light(), preset_light("rim")))
    assert difference(empty.redraw(empty.pose, "rim", 192), to_pil(wall[0])) < 0.01
    assert difference(empty.redraw(empty.pose, None, 192), to_pil(source)) == 0
