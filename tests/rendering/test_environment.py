"""Light from all around: nine harmonics against sums over the sphere."""

import math

import pytest
import torch

from gan2shape_hub.rendering.environment import (
    ENVIRONMENTS,
    EXPOSURE,
    GAMMA,
    Environment,
    Lamp,
    from_lamps,
    from_panorama,
    harmonics,
    named,
)

TOWARD = torch.nn.functional.normalize(torch.randn(3, 40, generator=torch.Generator().manual_seed(0)), dim=0)
UP, LEFT, CAMERA = ((0.0, -1.0, 0.0), (-1.0, 0.0, 0.0), (0.0, 0.0, -1.0))


def sphere(height: int = 90) -> tuple[torch.Tensor, torch.Tensor]:
    """Unit vectors (3, H, 2 H) of an equirectangular grid, its middle away from the camera, and their solid angles."""
    down = (torch.arange(height, dtype=torch.float64) + 0.5) / height * math.pi
    around = ((torch.arange(2 * height, dtype=torch.float64) + 0.5) / height - 1) * math.pi
    x, y = down.sin()[:, None] * around.sin(), -down.cos()[:, None].expand(height, 2 * height)
    vectors = torch.stack((x, y, down.sin()[:, None] * around.cos()))
    area = down.sin()[:, None].expand_as(y) * (math.pi / height) ** 2
    return vectors, area


def summed(radiance: torch.Tensor, toward: torch.Tensor) -> torch.Tensor:
    """Irradiance over pi by its definition: (3, N) of ``radiance`` (3, H, W) on surfaces ``toward`` (3, N)."""
    vectors, area = sphere(radiance.shape[1])
    cosine = torch.einsum("khw,kn->nhw", vectors, toward.double()).clamp_min(0)
    return torch.einsum("chw,nhw->cn", radiance.double(), cosine * area) / math.pi


def test_the_harmonics_are_orthonormal():
    vectors, area = sphere()
    values = harmonics(vectors)
    torch.testing.assert_close(
        torch.einsum("ihw,jhw->ij", values * area, values), torch.eye(9, dtype=torch.float64), atol=1e-3, rtol=0
    )


def test_irradiance_is_the_integral_over_the_hemisphere():
    """Of radiance of the second order exactly, and of a sky with a sun in it within the few per cent of the paper."""
    vectors, _ = sphere()
    x, y, z = vectors
    smooth = torch.stack((1 + 0.5 * x, 1 - 0.4 * y * z, 0.8 + 0.3 * x * x))
    found = from_panorama(smooth).irradiance(TOWARD)
    torch.testing.assert_close(found.double(), summed(smooth, TOWARD), atol=2e-3, rtol=0)
    sun = torch.tensor([-0.5, -0.6, -0.6], dtype=torch.float64)
    near = torch.einsum("khw,k->hw", vectors, sun / sun.norm()) > math.cos(math.radians(12))
    sky = torch.stack([0.3 - 0.5 * y.clamp_max(0) + 10 * near] * 3)
    truth = summed(sky, TOWARD)
    assert (from_panorama(sky).irradiance(TOWARD) - truth).abs().max() < 0.1 * truth.max()


def test_a_panorama_is_as_the_camera_sees_it():
    height = 32
    black = torch.zeros(3, height, 2 * height)
    for rows, columns, toward in (
        (slice(0, 8), slice(None), UP),
        (slice(12, 20), slice(12, 20), LEFT),
        (slice(12, 20), slice(0, 4), CAMERA),
    ):
        picture = black.clone()
        picture[:, rows, columns] = 5
        directions = torch.tensor([UP, (0.0, 1.0, 0.0), LEFT, (1.0, 0.0, 0.0), CAMERA, (0.0, 0.0, 1.0)]).T
        brightest = directions[:, from_panorama(picture).irradiance(directions)[0].argmax()]
        assert tuple(brightest.tolist()) == toward


def test_lamps_in_closed_form_are_lamps_of_a_picture():
    lamp = Lamp((-1.0, -0.5, -0.7), (2.0, 1.0, 0.5), 30)
    vectors, _ = sphere(180)
    axis = torch.nn.functional.normalize(torch.tensor(lamp.toward, dtype=torch.float64), dim=0)
    lit = torch.einsum("khw,k->hw", vectors, axis) > math.cos(math.radians(30))
    picture = 0.25 + lit * torch.tensor(lamp.colour)[:, None, None]
    found = from_lamps((0.25, 0.25, 0.25), (lamp,))
    torch.testing.assert_close(found.radiance, from_panorama(picture).radiance, atol=0.02, rtol=0.02)


def test_turning_moves_the_light_around():
    behind_camera = from_lamps((0.1,) * 3, (Lamp(CAMERA, (3.0,) * 3, 30),))
    at_left = from_lamps((0.1,) * 3, (Lamp(LEFT, (3.0,) * 3, 30),))
    torch.testing.assert_close(behind_camera.turned(90).radiance, at_left.radiance, atol=1e-4, rtol=0)
    torch.testing.assert_close(at_left.turned(360).radiance, at_left.radiance, atol=1e-4, rtol=0)


@pytest.mark.parametrize("name", ENVIRONMENTS)
def test_environments_light_a_face_as_a_camera_would(name):
    environment = named(name)
    toward = TOWARD[:, TOWARD[2] < 0]
    strength = environment.shading(-toward[None])[0]
    assert strength.isfinite().all()
    assert strength.min() > 0.1, "no black holes"
    weight = -toward[2]
    mean = (strength.mean(0) ** GAMMA * weight).sum() / weight.sum()
    assert float(mean) ** (1 / GAMMA) == pytest.approx(EXPOSURE, abs=0.12)
    assert strength.mean(0).max() / strength.mean(0).min() > 1.8, "light that models"


def test_the_colours_and_sides_of_the_environments():
    left, right = torch.tensor([LEFT, (1.0, 0.0, 0.0)])[:, None, :, None].unbind()
    window, sunset, studio = (named(name) for name in ("window", "sunset", "studio"))
    assert window.shading(-left).mean() > 1.5 * window.shading(-right).mean()
    assert sunset.shading(-right).mean() > 1.5 * sunset.shading(-left).mean()
    red, _, blue = sunset.shading(-right)[0].flatten()
    assert red > 1.3 * blue
    red, green, blue = studio.shading(-left)[0].flatten()
    assert max(red, green, blue) < 1.05 * min(red, green, blue)


def test_the_nearest_lamp_comes_from_the_brightest_side():
    lamp = named("window").light()
    assert lamp.direction.shape == (1, 3)
    assert float(lamp.direction.norm()) == pytest.approx(1, abs=1e-4)
    assert float(lamp.direction[0, 0]) > 0.5, "rays travel to the right"
    even = from_lamps((1.0, 1.0, 1.0), ()).light()
    assert float(even.ambient) == pytest.approx(1, abs=1e-3)
    assert float(even.diffuse) < 1e-3


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: named("moon"), "one of studio, window, sunset"),
        (lambda: Environment(torch.zeros(9)), "must be .3, 9."),
        (lambda: from_panorama(torch.zeros(1, 4, 8)), "must be .3, H, W."),
        (lambda: from_panorama(-torch.ones(3, 4, 8)), "negative"),
        (lambda: from_panorama(torch.zeros(3, 4, 8)).exposed(), "no light"),
    ],
)
def test_what_is_no_environment_is_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()
