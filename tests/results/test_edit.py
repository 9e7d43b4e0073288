"""Turning and relighting: rotations compose, light falls on the side it comes from, sharpness stays."""

import dataclasses

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from face_scene import CAMERA, face_scene, light, turned
from PIL import Image

from gan2shape_hub.rendering.camera import Pose
from gan2shape_hub.results.edit import (
    LIGHT_PRESETS,
    as_lamp,
    as_light,
    make_light,
    preset_light,
    rotate_poses,
    several_lights,
    swing_angles,
)
from gan2shape_hub.results.relight import Relief, multiplied, relight, wall_ratio

SIZE = 64


def halves(image: torch.Tensor, mask: torch.Tensor) -> dict[str, float]:
    grey = image.mean(0)
    half = image.shape[-1] // 2
    parts = {"left": grey[:, :half][mask[:, :half] > 0], "right": grey[:, half:][mask[:, half:] > 0]}
    parts |= {"top": grey[:half][mask[:half] > 0], "below": grey[half:][mask[half:] > 0]}
    return {name: float(part.mean()) for name, part in parts.items()}


@pytest.mark.parametrize(
    ("preset", "lit", "dark"), [("left", "left", "right"), ("right", "right", "left"), ("top", "top", "below")]
)
def test_the_side_the_light_comes_from_is_brighter(preset, lit, dark):
    scene = face_scene(SIZE)
    texture = torch.zeros(3, SIZE, SIZE)
    after = halves(relight(texture, Relief.of(scene.depth, CAMERA), light(), preset_light(preset)), scene.mask)
    assert after[lit] > after[dark] + 0.15


def test_the_same_light_changes_nothing():
    scene = face_scene(SIZE)
    texture = torch.rand(3, 160, 160) * 2 - 1
    torch.testing.assert_close(
        relight(texture, Relief.of(scene.depth, CAMERA), light(), light()), texture, atol=1e-5, rtol=0
    )


def test_relighting_keeps_fine_detail_and_range():
    scene = face_scene(SIZE)
    stripes = 0.5 * torch.sin(torch.arange(256) * 2.0).expand(3, 256, 256)
    for name in LIGHT_PRESETS:
        lit = relight(stripes, Relief.of(scene.depth, CAMERA), light(), preset_light(name))
        assert lit.isfinite().all()
        assert lit.min() >= -1
        assert lit.max() <= 1
    lit = relight(stripes, Relief.of(scene.depth, CAMERA), light(), preset_light("left"))
    assert (lit - F.avg_pool2d(lit[None], 9, 1, 4)[0])[:, 100:150, 100:150].std() > 0.2


@pytest.mark.parametrize(("name", "lit", "dark"), [("window", "left", "right"), ("sunset", "right", "left")])
def test_light_from_all_around_models_and_colours_and_keeps_detail(name, lit, dark):
    scene = face_scene(SIZE)
    relief = Relief.of(scene.depth, CAMERA)
    texture = torch.zeros(3, SIZE, SIZE)
    found = relight(texture, relief, light(), as_light(name))
    after = halves(found, scene.mask)
    assert after[lit] > after[dark] + 0.1
    warmth = halves((found[:1] - found[2:]).expand(3, -1, -1), scene.mask)
    assert warmth["right"] > warmth["left"] + 0.03, "the sun and the warm room are on the right"
    stripes = 0.3 * torch.sin(torch.arange(SIZE) * 2.0).expand(3, SIZE, SIZE)
    contrast = [
        x[:, 20:44, 20:44].diff(dim=-1).abs().mean()
        for x in (relight(stripes, relief, light(), as_light(name)), stripes)
    ]
    assert contrast[0] > 0.7 * contrast[1]


def test_a_nose_throws_its_shadow_on_the_cheek_away_from_the_lamp():
    scene = face_scene(SIZE)
    relief = Relief.of(scene.depth, CAMERA)
    row, column = scene.nose
    lamp = make_light(2.0, 0.0, 0.2, 0.8, like=scene.depth)
    lit = relight(torch.zeros(3, SIZE, SIZE), relief, light(), lamp)[0, row]
    unhidden = dataclasses.replace(relief, horizon=torch.full_like(relief.horizon, -1.0))
    without = relight(torch.zeros(3, SIZE, SIZE), unhidden, light(), lamp)[0, row]
    darker = without - lit
    assert darker[column + 4 : column + 9].max() > 0.03
    assert darker[column - 9 : column - 4].abs().max() < 0.02


def test_eye_sockets_receive_less_of_even_light_than_the_forehead():
    ambient = Relief.of(face_scene(SIZE).depth, CAMERA).ambient[0, 0]
    socket, forehead = ambient[28, 23], ambient[12, 32]
    assert socket < forehead - 0.01
    assert 0 < float(ambient.min()) < float(ambient.max()) <= 1


def test_lights_are_what_people_write(tmp_path):
    assert as_light("studio").radiance.shape == (3, 9)
    assert as_lamp("window").direction[0, 0] > 0.5
    assert torch.equal(as_lamp("left").direction, preset_light("left").direction)
    panorama = np.zeros((16, 32, 3), np.uint8)
    panorama[4:12, 4:12] = 255  # left of what is behind the object, and beside it
    Image.fromarray(panorama).resize((64, 32), 0).save(tmp_path / "room.png")
    found = as_light(tmp_path / "room.png")
    assert found.light().direction[0, 0] > 0.3, "rays travel to the right"
    assert several_lights(["window", tmp_path / "room.png", found, (0.1, 0.2)]) is not None
    assert several_lights(found) is None
    with pytest.raises(ValueError, match="one of left, right, top, below, rim, flat, studio"):
        as_light("room.png")


@pytest.mark.parametrize("preset", ["left", "rim"])
def test_the_background_has_no_frame_and_goes_on_beyond_the_sheet(preset):
    """A sheet that bends at its edges, as those of the networks do: its own normals would darken one side there."""
    scene = face_scene(SIZE)
    across = torch.linspace(-1, 1, SIZE)
    depth = scene.depth + 0.03 * torch.exp(-((1 - across.abs()) / 0.05)) * across.sign()
    grey = torch.full((3, SIZE, SIZE), 0.1)
    lit = relight(grey, Relief.of(depth, CAMERA), light(), preset_light(preset), scene.mask[None, None])
    beyond = multiplied(grey, wall_ratio(light(), preset_light(preset))[0])
    for strip in (lit[:, :, :2], lit[:, :, -2:], lit[:, :2], lit[:, -2:]):
        torch.testing.assert_close(strip, beyond[:, :1, :1].expand_as(strip), atol=0.02, rtol=0)
    assert (lit - beyond).abs()[:, scene.mask > 0].max() > 0.1  # and the object is lit by its own normals


def test_an_extreme_light_is_held_within_bounds():
    scene = face_scene(SIZE)
    noise = torch.rand(3, SIZE, SIZE) * 2 - 1
    dark, glaring = make_light(2, 0, 0, 0.01), make_light(-2, 0, 5, 50)
    for lit in (
        relight(noise, Relief.of(scene.depth, CAMERA), dark, glaring),
        relight(noise, Relief.of(scene.depth, CAMERA), glaring, make_light(ambient=0, diffuse=0)),
    ):
        assert lit.isfinite().all()
        assert lit.abs().max() <= 1


def test_turning_composes_rotations_with_the_input_view():
    start = turned(30, 10)
    poses = rotate_poses([(0, 0), (20, 0), (0, 15), (0, -10)], CAMERA, start=start)
    torch.testing.assert_close(poses.rotation[:1], start.rotation)
    torch.testing.assert_close(poses.rotation[1:2], turned(20).rotation @ start.rotation)
    torch.testing.assert_close(poses.rotation[2:3], turned(0, 15).rotation @ start.rotation)
    # Adding Euler angles instead would give turned(30, 0).
    assert (poses.rotation[3:] - turned(30, 0).rotation).abs().max() > 0.05
    identity = torch.eye(3).expand(4, 3, 3)
    torch.testing.assert_close(poses.rotation @ poses.rotation.transpose(1, 2), identity, atol=1e-6, rtol=0)


def test_positive_yaw_turns_the_nose_to_the_left_of_the_image():
    nose = torch.tensor([[[0.0, 0.0, 0.92]]])
    poses = rotate_poses([(20, 0), (0, 20)], CAMERA)
    moved = poses.apply(nose.expand(2, 1, 3), CAMERA)[:, 0]
    assert moved[0, 0] < -0.01
    assert moved[1, 1] > 0.01


def test_the_pivot_stays_where_the_start_view_has_it():
    pivot = torch.tensor([0.01, -0.02, 0.94])
    start = Pose(turned(15).rotation, torch.tensor([[0.01, 0.0, 0.0]]))
    poses = rotate_poses([(0, 0), (60, 0), (-60, 20)], CAMERA, start=start, pivot=pivot)
    at = poses.apply(pivot.expand(3, 1, 3), CAMERA)
    torch.testing.assert_close(at, start.apply(pivot.view(1, 1, 3), CAMERA).expand(3, 1, 3))


def test_a_swing_loops_and_keeps_its_limits():
    angles = swing_angles(48, 40, 10)
    assert len(angles) == 48
    assert angles[0] == (0, 0)
    assert max(abs(yaw) for yaw, _ in angles) == pytest.approx(40)
    steps = [abs(a[0] - b[0]) for a, b in zip(angles, angles[1:] + angles[:1], strict=True)]
    assert max(steps) < 40 * 6.3 / 48 + 0.1


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: preset_light("moon"), "one of left, right"),
        (lambda: make_light(ambient=-1), "light.ambient is -1"),
        (lambda: make_light(float("nan")), "finite"),
        (lambda: make_light(0, 0, direction_z=0), "length above 0"),
        (lambda: rotate_poses([], CAMERA), "angles_deg is empty"),
        (lambda: swing_angles(0, 10), "frames is 0"),
    ],
)
def test_bad_arguments_are_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()
