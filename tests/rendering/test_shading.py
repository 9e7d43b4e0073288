"""Normals of known surfaces and shading by hand."""

import math

import pytest
import torch

from gan2shape_hub.config import CameraConfig
from gan2shape_hub.rendering.camera import unproject
from gan2shape_hub.rendering.shading import Light, normals_from_depth, shade

CAMERA = CameraConfig()


def plane_depth(normal: torch.Tensor, size: tuple[int, int], distance: float = 1.0) -> torch.Tensor:
    """Depth of the plane normal . p = distance * normal_z."""
    rays = unproject(torch.ones(1, *size, dtype=torch.float64), CAMERA)
    return distance * normal[2] / (rays * normal).sum(-1)


def test_a_frontal_plane_faces_the_light_at_the_camera():
    normals = normals_from_depth(torch.ones(2, 6, 9), CAMERA)
    torch.testing.assert_close(normals, torch.tensor([0.0, 0, 1])[None, :, None, None].expand(2, 3, 6, 9))


@pytest.mark.parametrize("normal", [(0.6, 0.0, 0.8), (0.0, -0.6, 0.8), (-0.48, 0.36, 0.8)])
def test_a_tilted_plane_has_its_normal_everywhere_borders_included(normal):
    expected = torch.tensor(normal, dtype=torch.float64)
    normals = normals_from_depth(plane_depth(expected, (7, 10)), CAMERA)
    torch.testing.assert_close(normals, expected[None, :, None, None].expand(1, 3, 7, 10))


def test_a_sphere_has_radial_normals():
    size, radius, centre = 65, 0.2, torch.tensor([0.0, 0, 1.15], dtype=torch.float64)
    rays = unproject(torch.ones(1, size, size, dtype=torch.float64), CAMERA)
    b, a = (rays * centre).sum(-1), rays.square().sum(-1)
    depth = (b - (b.square() - a * (centre.square().sum() - radius**2)).sqrt()) / a
    # Inward, as the convention has it.
    expected = ((centre - rays * depth[..., None]) / radius).permute(0, 3, 1, 2)
    inner = (slice(None), slice(None), slice(1, -1), slice(1, -1))
    torch.testing.assert_close(normals_from_depth(depth, CAMERA)[inner], expected[inner], atol=1e-4, rtol=0)


def test_normals_are_unit_in_float32_and_have_a_gradient():
    torch.manual_seed(0)
    depth = (1 + 0.01 * torch.rand(1, 128, 128)).requires_grad_()
    normals = normals_from_depth(depth, CAMERA)
    torch.testing.assert_close(normals.norm(dim=1), torch.ones(1, 128, 128))
    small = (1 + 0.01 * torch.rand(1, 4, 5, dtype=torch.float64)).requires_grad_()
    assert torch.autograd.gradcheck(lambda d: normals_from_depth(d, CAMERA), small)


def test_light_units():
    light = Light.from_output(torch.tensor([[-1.0, 0.5, 0.0, 0.75]]))
    torch.testing.assert_close(light.ambient, torch.tensor([0.0]))
    torch.testing.assert_close(light.diffuse, torch.tensor([0.75]))
    torch.testing.assert_close(light.direction, torch.tensor([[0.0, 0.6, 0.8]]))
    with pytest.raises(ValueError, match="light"):
        Light.from_output(torch.zeros(1, 3))


def test_shading_by_hand():
    albedo = torch.tensor([1.0, 0.0, -1.0])[None, :, None, None].expand(1, 3, 1, 2)
    normals = torch.tensor([[0.0, 0, 1], [0.6, 0, -0.8]]).T[None, :, None]  # the second turned away
    light = Light(torch.tensor([0.4]), torch.tensor([0.5]), torch.tensor([[0.6, 0.0, 0.8]]))
    texture, diffuse = shade(albedo, normals, light)
    torch.testing.assert_close(diffuse[0, 0, 0], torch.tensor([0.8, 0.0]))
    # First pixel: 0.4 + 0.5 * 0.8 = 0.8; second: 0.4.
    torch.testing.assert_close(texture[0, :, 0, 0], torch.tensor([0.6, -0.2, -1.0]))
    torch.testing.assert_close(texture[0, :, 0, 1], torch.tensor([-0.2, -0.6, -1.0]))


def test_light_travelling_right_brightens_a_slope_that_faces_left():
    # Depth falls towards the right: the visible side of the slope looks left, where such light comes from.
    slope = torch.tensor([math.sin(0.4), 0, math.cos(0.4)], dtype=torch.float64)
    depth = plane_depth(slope, (5, 5))
    assert depth[0, 2, 0] > depth[0, 2, 4]
    bright, dark = (Light.from_output(torch.tensor([[0.0, 0, x, 0]], dtype=torch.float64)) for x in (0.8, -0.8))
    normals = normals_from_depth(depth, CAMERA)
    albedo = torch.zeros(1, 3, 5, 5, dtype=torch.float64)
    assert shade(albedo, normals, bright)[1].mean() > shade(albedo, normals, dark)[1].mean() + 0.2
