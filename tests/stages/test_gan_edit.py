"""Light through the GAN: walked where its directions are known, projected where they are not."""

import dataclasses

import pytest
import torch
from conftest import tiny_pipeline

from gan2shape_hub.config import ProjectionConfig
from gan2shape_hub.models.latent_projection import along
from gan2shape_hub.rendering import Light
from gan2shape_hub.results.edit import LIGHT_PRESETS, make_light, preset_light, rotate_poses
from gan2shape_hub.stages.gan_edit import light_steps

AXES = tuple(tuple(float(i == axis) for i in range(8)) for axis in range(5))
LAYERS = (1, 2)
PLAIN = ProjectionConfig(
    space="pca", components=8, view_directions=AXES[3:], view_units=(0.1, 0.2), texture="image", relative=True
)
LIT = dataclasses.replace(PLAIN, light_directions=AXES[:3], light_layers=LAYERS)
OWN = make_light(0.2, 0.1, 0.5, 0.5)


@pytest.fixture(scope="module")
def result():
    pipeline = tiny_pipeline(projection=LIT)
    return pipeline(pipeline.sample(seed=3), seed=5)


@pytest.fixture(scope="module")
def wide(result):
    """The same, of a latent for every layer, as photographs have."""
    layers = result.editor.generator.num_latents
    bent = result.latent[:, None] + 0.05 * torch.randn(1, layers, 16, generator=torch.Generator().manual_seed(0))
    return dataclasses.replace(result, latent=bent)


@pytest.mark.parametrize(
    ("name", "axis", "sign"), [("left", 0, 1), ("right", 0, -1), ("top", 1, 1), ("below", 1, -1), ("rim", 0, 1)]
)
def test_a_light_is_walked_to_the_side_it_comes_from(name, axis, sign):
    steps = light_steps(OWN, preset_light(name), LIT)[0]
    assert steps.abs().argmax() == axis
    assert steps[axis] * sign > 0.5
    assert steps.norm() < LIT.light_step_limit


def test_flat_light_takes_the_photographs_sides_away():
    steps = light_steps(OWN, preset_light("flat"), LIT)[0]
    assert (steps < 0).all(), "less from the left, from above and from the front"


def test_a_lamp_that_is_carried_around_goes_further_at_every_step():
    for axis in (0, 1):
        places = [[0.0, 0.0] for _ in range(17)]
        for place, at in zip(places, torch.linspace(-4, 4, 17).tolist(), strict=True):
            place[axis] = at
        steps = torch.cat([light_steps(OWN, make_light(x, y, 0.3, 0.9), LIT) for x, y in places])
        assert (steps[:, axis].diff() > 0.01).all()
        assert (steps.norm(dim=1) < LIT.light_step_limit).all()


def test_the_same_light_and_no_light_at_all_are_finite():
    assert torch.equal(light_steps(OWN, OWN, LIT), torch.zeros(1, 3))
    assert light_steps(OWN, make_light(0, 1, 0, 0), LIT).isfinite().all()
    assert light_steps(make_light(0, 1, 0, 0), OWN, LIT).isfinite().all()


@pytest.mark.parametrize("name", ["result", "wide"])
def test_only_the_layers_of_the_light_move_and_nothing_else_of_the_person(name, request):
    scene = request.getfixturevalue(name)
    generator = scene.editor.generator
    for light in LIGHT_PRESETS:
        found = scene.project(scene.pose, preset_light(light))
        before = scene.latent if scene.latent.ndim == 3 else scene.latent[:, None].expand_as(found)
        moved = found - before
        still = [i for i in range(generator.num_latents) if i not in LAYERS]
        assert torch.equal(moved[:, still], torch.zeros_like(moved[:, still]))
        steps = light_steps(scene.light, preset_light(light), LIT)
        expected = along(generator, steps, torch.tensor(LIT.light_directions))
        assert torch.allclose(moved[:, list(LAYERS)], expected[:, None].expand(-1, len(LAYERS), -1), atol=1e-5)


@pytest.mark.parametrize("name", ["result", "wide"])
def test_turned_and_relit_is_turned_and_then_relit(name, request):
    scene = request.getfixturevalue(name)
    pose = rotate_poses([(20, 0)], scene.config.camera, start=scene.pose)
    turned = scene.project(pose, scene.light)
    layers = scene.editor.generator.num_latents
    before = scene.latent if scene.latent.ndim == 3 else scene.latent[:, None].expand(-1, layers, -1)
    assert (turned - before)[:, : LAYERS[-1] + 1].abs().amax((0, 2)).min() > 1e-3
    assert torch.equal(turned[:, LAYERS[-1] + 1 :], before[:, LAYERS[-1] + 1 :]), "what makes the person's looks stays"
    both = scene.project(pose, preset_light("left"))
    steps = light_steps(scene.light, preset_light("left"), LIT)
    assert torch.allclose(both, scene.editor.projection.relight(turned, steps), atol=1e-6)


def test_turning_ends_where_the_generator_ends(result):
    """2.5 steps of 0.2 view units, of 0.1 up and down; a view unit is ``view_angle_deg``."""
    camera, (yaw, pitch) = result.config.camera, result.config.generated_limit_deg
    assert yaw <= 0.5 * camera.view_angle_deg
    assert pitch <= 0.25 * camera.view_angle_deg
    far = 0.5 * camera.view_angle_deg
    last, beyond = (
        result.project(rotate_poses([(angle, 0)], camera, start=result.pose), result.light) for angle in (far, far + 9)
    )
    assert torch.allclose(last, beyond, atol=1e-4), "the same picture again"


def test_nothing_asked_for_is_the_pictures_own_latent(result):
    pose = rotate_poses([(0, 0)], result.config.camera, start=result.pose)
    light = Light(result.light.ambient, result.light.diffuse, result.light.direction)
    assert torch.equal(result.project(pose, light), result.latent)


def test_pictures_through_the_gan_follow_the_light(result):
    left, again, right = result.relight(["left", (2.0, 0.3), "right"], through_gan=True)
    assert left.size == (result.editor.generator.image_size,) * 2
    assert len({picture.tobytes() for picture in (left, again, right, result.inverted)}) == 4


def test_without_directions_the_relit_render_is_projected():
    pipeline = tiny_pipeline(projection=PLAIN)
    scene = pipeline(pipeline.sample(seed=3), seed=5)
    found = scene.project(scene.pose, preset_light("left"))
    assert found.shape == scene.latent.shape, "every layer moves alike"
    assert (found - scene.project(scene.pose, preset_light("right"))).abs().max() > 1e-5


class Middle(torch.nn.Module):
    """A masker: the middle of any picture is the object."""

    def forward(self, images):
        mask = torch.zeros_like(images[:, :1])
        quarter = images.shape[-1] // 8
        mask[..., quarter:-quarter, quarter:-quarter] = 1
        return mask


@pytest.fixture(scope="module")
def masked():
    pipeline = tiny_pipeline(projection=LIT)
    pipeline.components["masker"] = Middle()
    return pipeline(pipeline.sample(seed=3), seed=5)


def test_a_latent_turns_both_ways_and_its_light_and_colours_stay(masked):
    projection = masked.editor.projection
    turned, turns = projection.turned(masked.latent, 0.0)
    assert turns == pytest.approx((-0.5, 0.5)), "2.5 steps of 0.2"
    moved = turned - masked.latent[:, None]
    assert moved[:, LAYERS[0] :].abs().max() == 0
    assert torch.allclose(moved[0, 0], -moved[1, 0], atol=1e-6)
    assert moved[0, 0].abs().max() > 1e-3
    _, turns = projection.turned(masked.latent, 0.4)
    assert turns == pytest.approx((-0.5,)), "to the right it is turned already"


def test_sides_are_drawn_when_the_first_model_is_made_and_once(masked, monkeypatch):
    result, drawn = masked.with_report(), []
    forward = type(result.editor.generator).forward

    def counted(self, *arguments, **named):
        drawn.append(1)
        return forward(self, *arguments, **named)

    monkeypatch.setattr(type(result.editor.generator), "forward", counted)
    plain = result.mesh(sides=False)
    assert not drawn
    result.mesh()
    count = len(drawn)
    assert count == 2
    result.render(20, size=16)
    kept = result.with_generator(None)
    assert kept.mesh().vertices.shape == plain.vertices.shape
    assert len(drawn) == count
    assert kept.sides is result.sides


def test_where_sides_cannot_be_drawn_models_are_made_without(result, masked):
    assert result.sides is None, "no masker"
    poor = dataclasses.replace(masked, report=dataclasses.replace(masked.report, psnr_db=12.0), known_sides=None)
    assert poor.sides is None, "the generator shows somebody else"
    assert poor.mesh().vertices.shape[0] > 10


def test_sides_are_found_in_inference_mode_too(masked):
    with torch.inference_mode():
        assert masked.with_report().sides is not None
