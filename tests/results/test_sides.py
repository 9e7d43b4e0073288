"""Texels take the colours of the picture that sees them best, brought to the photograph's; what is hidden is not
painted."""

import dataclasses

import pytest
import torch
import torch.nn.functional as F
from face_scene import CAMERA, face_scene, light, turned
from test_texture import FINE, SIZE, painted, photograph, psnr

from gan2shape_hub.config import DetailsConfig
from gan2shape_hub.rendering.camera import Pose
from gan2shape_hub.rendering.registration import register
from gan2shape_hub.rendering.renderer import visible_from
from gan2shape_hub.results.sides import Sides, SideView, add_sides, align_sides, facing
from gan2shape_hub.results.texture import BakedTexture, bake_texture
from gan2shape_hub.results.viewer import Viewer

SCENE = face_scene(SIZE)
YAWS = (-35.0, 35.0)
EVERYWHERE = torch.ones(1, SIZE, SIZE)


def plain(colour: float) -> torch.Tensor:
    return torch.full((3, FINE, FINE), colour)


def drawn(image: torch.Tensor, yaw: float) -> SideView:
    """A picture in one colour, or the like: where it lands is all that is asked."""
    return SideView(image, torch.ones(1, SIZE, SIZE), turned(yaw))


def unsure(baked: BakedTexture) -> BakedTexture:
    """As of a photograph that sees everything more edge-on: the scene has little that hides from its front."""
    return dataclasses.replace(baked, confidence=0.5 * baked.confidence)


@pytest.fixture(scope="module")
def baked() -> BakedTexture:
    """The frontal photograph of a plain texture."""
    return unsure(bake_texture(plain(0.0), SCENE.depth, SCENE.albedo, turned(0), light(), CAMERA, alpha=SCENE.mask))


def large(maps: torch.Tensor) -> torch.Tensor:
    return F.interpolate(maps, (FINE, FINE), mode="bilinear", align_corners=True)[0, 0]


def test_each_side_takes_the_view_that_sees_it_and_the_front_stays_the_photographs(baked):
    images = (torch.tensor([0.2, 0.0, 0.0]), torch.tensor([0.0, 0.2, 0.0]))
    views = tuple(drawn(c[:, None, None].expand(3, FINE, FINE), yaw) for c, yaw in zip(images, YAWS, strict=True))
    made = add_sides(baked, Sides(views, EVERYWHERE), SCENE.depth, turned(0), CAMERA)
    own, left, right = (large(facing(SCENE.depth, turned(yaw), CAMERA)) for yaw in (0.0, *YAWS))
    front = -F.max_pool2d(-own[None], 17, 1, 8)[0] > 0.7
    assert front.sum() > 500
    assert torch.equal(made.image[:, front], baked.image[:, front])
    assert made.sides[0][front].max() == 0
    for better, other in ((left, right), (right, left)):
        side = (own < 0.3) & (better > 0.6) & (other < 0.2)
        assert side.sum() > 50
        assert made.sides[0][side].mean() > 0.7


def test_a_hidden_texel_is_not_painted(baked):
    """Views from one side alone: what they do not see keeps its colour."""
    made = add_sides(baked, Sides((drawn(plain(0.5), 35.0),), EVERYWHERE), SCENE.depth, turned(0), CAMERA)
    seen = large(visible_from(SCENE.depth[None], turned(35.0), CAMERA))
    hidden = seen == 0
    assert hidden.sum() > 100
    assert made.sides.max() > 0.9, "elsewhere it is painted"
    near = F.max_pool2d((seen > 0).float()[None], 9, 1, 4)[0] == 0
    assert near.any()
    assert made.sides[0][near].max() == 0


def test_the_background_of_a_view_and_a_neck_are_not_painted(baked):
    view = drawn(plain(0.5), 35.0)
    without = dataclasses.replace(view, alpha=torch.zeros(1, SIZE, SIZE))
    for sides in (Sides((without,), EVERYWHERE), Sides((view,), torch.zeros(1, SIZE, SIZE))):
        made = add_sides(baked, sides, SCENE.depth, turned(0), CAMERA)
        assert made.sides.max() == 0
        torch.testing.assert_close(made.image, baked.image)


def test_colours_meet_at_the_seam(baked):
    """A view under another lamp, darker and redder, shows no seam where it takes over."""
    cast = torch.tensor([-0.1, -0.3, -0.4])[:, None, None].expand(3, FINE, FINE)
    sides = Sides(tuple(drawn(cast, yaw) for yaw in YAWS), EVERYWHERE)
    made = add_sides(baked, sides, SCENE.depth, turned(0), CAMERA)
    taken = made.sides[0] > 0.5
    assert taken.sum() > 200
    assert (made.image - baked.image)[:, taken].abs().mean() < 0.03, "0.27 without matching"


def test_poses_and_a_smooth_shift_are_found_and_the_side_is_recovered():
    truth, centre, side = painted(FINE), turned(0), turned(33.0, 2.0)
    blotches = F.interpolate(
        torch.randn(1, 3, 14, 14, generator=torch.Generator().manual_seed(0)), (FINE, FINE), mode="bicubic"
    )[0].clamp(-2, 2)
    truth = (0.3 * truth + 0.3 * blotches).clamp(-1, 1)
    source = photograph(truth, SCENE.depth, centre)
    front = bake_texture(source, SCENE.depth, SCENE.albedo, centre, light(), CAMERA, alpha=SCENE.mask)
    picture = photograph(truth, SCENE.depth, side)
    masks = torch.ones(1, 1, SIZE, SIZE)
    box = (0.05, 0.1, 1.2, 0.9)
    sides = align_sides(picture[None], masks, turned(25.0), front, SCENE.depth, centre, CAMERA, DetailsConfig(), box)
    assert len(sides.views) == 1
    between = sides.views[0].pose.rotation[0] @ side.rotation[0].T
    degrees = torch.rad2deg(torch.acos(((between.trace() - 1) / 2).clamp(-1, 1)))
    assert degrees < 4.5, "8.2 at the start"
    front = unsure(front)
    made = add_sides(front, sides, SCENE.depth, centre, CAMERA)
    taken = made.sides[0] > 0.9
    assert taken.sum() > 100
    unaligned = dataclasses.replace(sides, views=(drawn(picture, 25.0),))
    unaligned = add_sides(front, unaligned, SCENE.depth, centre, CAMERA)
    assert psnr(made.image, truth, taken) > psnr(unaligned.image, truth, taken) + 3


def test_the_pictures_own_view_is_found_where_it_is():
    found = register(
        SCENE.albedo[None],
        torch.ones(1, 1, SIZE, SIZE),
        SCENE.depth[None],
        SCENE.albedo[None],
        Pose.identity(1),
        CAMERA,
        DetailsConfig(),
    )
    assert (found.pose.rotation[0] - torch.eye(3)).abs().max() < 0.02, "it is where it was"
    assert found.shift.abs().max() < 0.02


def test_models_wear_them_once_they_are_asked_for():
    asked = []

    def sides() -> Sides:
        asked.append(1)
        return Sides(tuple(drawn(plain(0.4), yaw) for yaw in YAWS), EVERYWHERE)

    viewer = Viewer(
        CAMERA, plain(0.0), SCENE.depth, SCENE.albedo, turned(-20), light(), SCENE.mask, cut_out=True, sides=sides
    )
    assert not viewer.coloured(None, False).sides
    assert not asked, "nothing is drawn before"
    assert viewer.wide.coloured(None, True).sides.max() > 0.9
    assert viewer.shown.texture.shape[0] == 4
