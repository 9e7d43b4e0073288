"""Meshes from any side: coverage by hand, closed surfaces without holes, fronts and backs."""

import math

import pytest
import torch

from gan2shape_hub.config import CameraConfig
from gan2shape_hub.rendering.camera import Pose, unproject
from gan2shape_hub.rendering.mesh_renderer import render_mesh, vertex_normals
from gan2shape_hub.rendering.renderer import render_view, sheet_faces
from gan2shape_hub.rendering.shading import Light, normals_from_depth, shade

CAMERA = CameraConfig()


def yaws(*degrees: float) -> Pose:
    angles = torch.zeros(len(degrees), 3)
    angles[:, 1] = torch.deg2rad(torch.tensor(degrees))
    return Pose.from_angles(angles)


def sheet(depth: torch.Tensor):
    """Vertices, faces and uv of a depth sheet (H,W)."""
    height, width = depth.shape
    v, u = torch.meshgrid(torch.linspace(0, 1, height), torch.linspace(0, 1, width), indexing="ij")
    return (
        unproject(depth[None], CAMERA).reshape(-1, 3),
        sheet_faces((height, width)),
        torch.stack((u, v), -1).reshape(-1, 2),
    )


def dome(size: int) -> torch.Tensor:
    """Depth (S,S) of half an ellipsoid before a wall, without a curtain."""
    u = torch.linspace(-1, 1, size)
    return 1.02 - 0.06 * torch.cos(u[None] * math.pi / 2) * torch.cos(u[:, None] * math.pi / 2)


def sphere(radius: float, rows: int = 24, columns: int = 48):
    """A closed sphere about the rotation centre, outward faces."""
    theta = torch.linspace(0, math.pi, rows + 1)[:, None]
    phi = torch.linspace(0, 2 * math.pi, columns + 1)[None]
    points = torch.stack(
        ((theta.sin() * phi.sin()), -theta.cos().expand(-1, columns + 1), -(theta.sin() * phi.cos())), -1
    )
    vertices = points.reshape(-1, 3) * radius + torch.tensor([0, 0, 1.0])
    v, u = torch.meshgrid(torch.linspace(0, 1, rows + 1), torch.linspace(0, 1, columns + 1), indexing="ij")
    return vertices, sheet_faces((rows + 1, columns + 1)), torch.stack((u, v), -1).reshape(-1, 2)


def picture(size: int) -> torch.Tensor:
    """Smooth colours (3,S,S): red grows to the right, green downwards."""
    u = torch.linspace(-1, 1, size)
    return torch.stack((u.expand(size, size), u[:, None].expand(size, size), torch.zeros(size, size)))


def test_frontal_sheet_shows_its_texture_the_right_way_up():
    mesh = sheet(torch.full((17, 17), 1.05))
    out = render_mesh(*mesh, picture(17), Pose.identity(1), CAMERA, 17, supersample=1)
    torch.testing.assert_close(out.image[0], picture(17), atol=1e-4, rtol=0)
    assert (out.mask == 1).all()
    torch.testing.assert_close(out.depth, torch.full((1, 17, 17), 1.05))
    torch.testing.assert_close(out.normals, torch.tensor([0.0, 0, 1])[None, :, None, None].expand(1, 3, 17, 17))


def test_supersampling_covers_border_pixels_in_part():
    # The sheet ends at the centres of the outermost pixels: half of an edge pixel's samples, a quarter of a corner's.
    mesh = sheet(torch.full((9, 9), 1.0))
    out = render_mesh(*mesh, torch.ones(3, 4, 4), Pose.identity(1), CAMERA, 9, background=(-1.0, 0.0, 0.5))
    torch.testing.assert_close(out.mask[0, 0, 0, [0, 4, 8]], torch.tensor([0.25, 0.5, 0.25]))
    assert (out.mask[0, 0, 1:-1, 1:-1] == 1).all()
    torch.testing.assert_close(out.image[0, :, 0, 4], torch.tensor([0.0, 0.5, 0.75]))
    torch.testing.assert_close(out.depth, torch.ones(1, 9, 9))  # not darkened by the empty samples


def test_size_and_supersampling_do_not_move_the_picture():
    mesh = sheet(dome(33))
    small = render_mesh(*mesh, picture(33), yaws(25), CAMERA, 24, supersample=4)
    large = render_mesh(*mesh, picture(33), yaws(25), CAMERA, 24, supersample=3)
    both = (small.mask == 1) & (large.mask == 1)
    assert ((small.image - large.image).abs() * both).max() < 0.02
    torch.testing.assert_close(small.mask.mean(), large.mask.mean(), atol=0.01, rtol=0)


@pytest.mark.parametrize("degrees", [0.0, 60.0, 90.0, 180.0])
@pytest.mark.parametrize("supersample", [1, 2])
def test_closed_surface_has_no_holes(degrees, supersample):
    radius, size = 0.06, 96
    vertices, faces, uv = sphere(radius, 60, 120)
    pose = Pose.from_angles(torch.deg2rad(torch.tensor([[20.0, degrees, 10.0]])))
    out = render_mesh(vertices, faces, uv, picture(32), pose, CAMERA, size, supersample=supersample)
    rays = unproject(torch.ones(1, size, size), CAMERA)[0]
    axis = rays[..., 2] / rays.norm(dim=-1)
    distance = (1 - axis.square()).sqrt()  # of the centre (0, 0, 1) to each ray
    assert (out.mask[0, 0][distance < 0.96 * radius] == 1).all()
    assert (out.mask[0, 0][distance > 1.04 * radius] == 0).all()
    inner = distance < 0.9 * radius
    along = axis - (radius**2 - distance.square()).clamp_min(0).sqrt()
    torch.testing.assert_close(out.depth[0][inner], (along * axis)[inner], atol=4e-4, rtol=0)


def test_agrees_with_the_sheet_renderer():
    depth = dome(48)
    pose = yaws(-20)
    view = render_view(depth[None], picture(48)[None], pose, CAMERA)
    mesh = render_mesh(*sheet(depth), picture(48), pose, CAMERA, 48, supersample=1)
    assert ((view.mask > 0) != (mesh.mask > 0)).float().mean() < 0.001
    both = (view.mask > 0) & (mesh.mask > 0)
    assert both.float().mean() > 0.7
    assert ((view.depth[:, None] - mesh.depth[:, None]) * both).abs().max() < 1e-5
    assert ((view.image - mesh.image) * both).abs().max() < 1e-2


def test_backs_are_muted_or_left_out():
    mesh = sheet(torch.full((9, 9), 1.0))
    red = torch.tensor([1.0, -1, -1])[:, None, None].expand(3, 4, 4)
    front, back = render_mesh(*mesh, red, yaws(0, 180), CAMERA, 16).image
    torch.testing.assert_close(front[:, 8, 8], torch.tensor([1.0, -1, -1]))
    assert back[:, 8, 8].max() - back[:, 8, 8].min() < 0.1  # grey
    assert back[:, 8, 8].abs().max() < 0.5  # neither black nor white
    clay = render_mesh(*mesh, red, yaws(0, 180), CAMERA, 16, shaded_only=True).image
    assert clay[1, :, 8, 8].mean() < clay[0, :, 8, 8].mean() - 0.1
    culled = render_mesh(*mesh, red, yaws(180), CAMERA, 16, cull_backfaces=True)
    assert (culled.mask == 0).all()
    assert (culled.image == 1).all()
    turned = render_mesh(*mesh, red, yaws(180), CAMERA, 16).normals[0, :, 8, 8]
    torch.testing.assert_close(turned, torch.tensor([0.0, 0, 1]), atol=1e-6, rtol=0)


def test_light_is_that_of_the_sheet():
    depth, albedo = dome(64), 0.5 * picture(64)
    light = Light.from_output(torch.tensor([[-0.2, 0.6, 0.5, -0.4]]))
    expected, _ = shade(albedo[None], normals_from_depth(depth[None], CAMERA), light)
    out = render_mesh(*sheet(depth), albedo, Pose.identity(1), CAMERA, 64, light=light, supersample=1)
    inner = (slice(None), slice(None), slice(2, -2), slice(2, -2))
    torch.testing.assert_close(out.image[inner], expected[inner], atol=0.01, rtol=0)
    two = render_mesh(*sheet(depth), albedo, yaws(0, 0), CAMERA, 64, light=light, supersample=1)
    torch.testing.assert_close(two.image[1], two.image[0])


def test_clay_is_brightest_towards_the_key_light():
    vertices, faces, uv = sphere(0.06)
    out = render_mesh(vertices, faces, uv, picture(8), Pose.identity(1), CAMERA, 64, shaded_only=True)
    grey = out.image[0].mean(0)
    above_left, below_right = grey[20, 22], grey[44, 42]
    assert above_left > below_right + 0.3
    assert below_right > -0.8  # the fill keeps the shadow readable


def test_fine_texture_is_averaged_not_picked():
    u = torch.arange(256)
    checker = (((u[None] + u[:, None]) % 2) * 2.0 - 1).expand(3, 256, 256)
    out = render_mesh(*sheet(torch.full((9, 9), 1.0)), checker, Pose.identity(1), CAMERA, 32)
    assert out.image[..., 2:-2, 2:-2].abs().max() < 0.1


def test_vertex_normals_by_hand():
    # Two faces of a roof with areas 1 : 2; the ridge leans to the larger.
    vertices = torch.tensor([[0.0, 0, 0], [0, 1, 0], [1, 0, 0], [0, 0, 2], [9, 9, 9]])
    faces = torch.tensor([[0, 1, 2], [0, 1, 3]])  # right-hand normals -z and +x
    normals = vertex_normals(vertices, faces)
    torch.testing.assert_close(normals[2], torch.tensor([0.0, 0, -1]))
    torch.testing.assert_close(normals[3], torch.tensor([1.0, 0, 0]))
    torch.testing.assert_close(normals[0], torch.tensor([2.0, 0, -1]) / math.sqrt(5))
    assert (normals[4] == 0).all()


def test_float64_and_empty_meshes():
    vertices, faces, uv = sheet(dome(9))
    out = render_mesh(
        vertices.double(), faces, uv.double(), picture(8).double(), Pose.identity(1, dtype=torch.float64), CAMERA, 8
    )
    assert out.image.dtype == torch.float64
    nothing = render_mesh(vertices, faces[:0], uv, picture(8), yaws(0), CAMERA, 8)
    assert (nothing.image == 1).all()
    assert (nothing.mask == 0).all()


def test_errors_name_the_argument():
    vertices, faces, uv = sheet(dome(9))
    for name, arguments in {
        "vertices": (vertices[None], faces, uv, picture(8)),
        "faces": (vertices, faces[0], uv, picture(8)),
        "uv": (vertices, faces, uv[:-1], picture(8)),
        "texture": (vertices, faces, uv, picture(8)[0]),
    }.items():
        with pytest.raises(ValueError, match=name):
            render_mesh(*arguments, yaws(0), CAMERA, 8)
    with pytest.raises(ValueError, match="size"):
        render_mesh(vertices, faces, uv, picture(8), yaws(0), CAMERA, 1)


def test_a_picture_alone_is_the_same_picture():
    y, x = torch.meshgrid(torch.linspace(-1, 1, 24), torch.linspace(-1, 1, 24), indexing="ij")
    mesh = sheet(1 - 0.05 * torch.exp(-4 * (x * x + y * y)))
    whole = render_mesh(*mesh, picture(24), yaws(40, 200), CAMERA, 24)
    alone = render_mesh(*mesh, picture(24), yaws(40, 200), CAMERA, 24, picture_only=True)
    assert torch.equal(alone.image, whole.image)
    assert torch.equal(alone.mask, whole.mask)
    assert alone.depth is None
    assert alone.normals is None
