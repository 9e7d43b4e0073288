"""The sheet becomes one clean piece: cut at silhouettes, no skirts, no needles, facing the right way."""

import math

import numpy as np
import pytest
import torch
from face_scene import CAMERA, face_scene
from PIL import Image

from gan2shape_hub.rendering.camera import project
from gan2shape_hub.results import cells
from gan2shape_hub.results.mesh import MeshError, build_mesh, export_uv, to_export_frame
from gan2shape_hub.results.mesh_files import to_trimesh


def aspects(mesh) -> torch.Tensor:
    """Longest side over the height above it, of every triangle."""
    corner = mesh.vertices.double()[mesh.faces]
    sides = corner.roll(-1, 1) - corner
    return sides.square().sum(2).amax(1) / torch.linalg.cross(sides[:, 0], sides[:, 1]).norm(dim=1)


def stretches(mesh) -> torch.Tensor:
    """Area relative to its picture, of every triangle."""
    corner = mesh.vertices.double()[mesh.faces]
    normal = torch.linalg.cross(corner[:, 1] - corner[:, 0], corner[:, 2] - corner[:, 0])
    centre = corner.mean(1)
    return normal.norm(dim=1) * centre.norm(dim=1) / (normal * centre).sum(1).abs()


def surface(mesh):
    return to_trimesh(mesh, Image.new("RGB", (8, 8)), CAMERA)


@pytest.mark.parametrize("upsample", [1, 2])
@pytest.mark.parametrize("max_stretch", [2.0, 5.0])
@pytest.mark.parametrize("masked", [False, True])
def test_one_clean_piece(upsample, max_stretch, masked):
    scene = face_scene()
    mask = scene.mask if masked else None
    mesh = build_mesh(scene.depth, CAMERA, mask=mask, max_stretch=max_stretch, upsample=upsample)
    assert torch.isfinite(mesh.vertices).all()
    assert mesh.uv.min() >= 0
    assert mesh.uv.max() <= 1
    assert (mesh.faces.unique() == torch.arange(len(mesh.vertices))).all(), "no vertex is unused"
    assert aspects(mesh).max() < 2 * max_stretch + 3, "no needles"
    assert stretches(mesh).max() < 1.6 * max_stretch  # smoothing the outline may tilt a triangle a little
    tri = surface(mesh)
    assert tri.body_count == 1
    edges, counts = np.unique(tri.edges_sorted, axis=0, return_counts=True)
    assert counts.max() == 2, "no edge has three faces"
    border = edges[counts == 1]
    assert (np.bincount(border.ravel())[np.unique(border)] == 2).all(), "the outline never touches itself"


def test_the_front_faces_plus_z_and_the_nose_is_in_front():
    scene = face_scene()
    tri = surface(build_mesh(scene.depth, CAMERA, mask=scene.mask))
    assert tri.face_normals[:, 2].min() > 0
    assert tri.vertex_normals[:, 2].mean() > 0.5
    nose = tri.vertices[tri.vertices[:, 2].argmax()]
    row, column = scene.nose
    side = scene.depth.shape[0] - 1
    assert abs(nose[0] - (column / side - 0.5)) < 0.03
    assert abs(nose[1] - (0.5 - row / side)) < 0.03


def test_proportions_are_metric_and_the_image_side_is_one_unit():
    """A plane at the rotation centre spans -0.5..0.5; a step of it in depth is scaled as its width is."""
    flat = build_mesh(torch.full((32, 32), CAMERA.center_depth), CAMERA, upsample=1)
    low, high = surface(flat).bounds
    np.testing.assert_allclose(low[1:], [-0.5, 0], atol=1e-6)
    np.testing.assert_allclose(high[1:], [0.5, 0], atol=1e-6)
    step = torch.tensor([[0.0, 0.0, 1.0], [0.01, 0.0, 1.0], [0.0, 0.01, 1.0], [0.0, 0.0, 0.99]])
    moved = to_export_frame(step, CAMERA)
    scale = 0.01 / (2 * math.tan(math.radians(CAMERA.fov_deg) / 2))
    expected = torch.tensor([[1.0, 0.0, 0.0], [0.0, -1.0, 0.0], [0.0, 0.0, 1.0]]) * scale
    torch.testing.assert_close(moved[1:] - moved[:1], expected)


def test_vertices_lie_where_their_texture_coordinates_are_seen():
    scene = face_scene()
    mesh = build_mesh(scene.depth, CAMERA)
    pixels = project(mesh.vertices, CAMERA, (64, 64))
    torch.testing.assert_close(pixels / 63, mesh.uv, atol=1e-5, rtol=0)


def cliff(size: int = 64) -> torch.Tensor:
    """A disc floating before a wall."""
    y, x = torch.meshgrid(torch.linspace(-1, 1, size), torch.linspace(-1, 1, size), indexing="ij")
    return torch.where(x**2 + y**2 < 0.36, 0.95, 1.04)


def test_cutting_removes_a_cliff():
    bridged = build_mesh(cliff(), CAMERA, max_stretch=math.inf)
    assert stretches(bridged).max() > 20
    cut = build_mesh(cliff(), CAMERA)
    assert stretches(cut).max() < 5
    assert (cut.vertices[:, 2] - 0.95).abs().max() < 2e-3, "only the disc is left, not the wall around it"


def test_the_outline_is_smooth():
    """A disc cut out of a plane: the outline's radius varies by much less than the stair steps of its pixels."""
    size = 64
    y, x = torch.meshgrid(torch.linspace(-1, 1, size), torch.linspace(-1, 1, size), indexing="ij")
    mask = (x**2 + y**2 < 0.36).float()
    mesh = build_mesh(torch.ones(size, size), CAMERA, mask=mask, upsample=1)
    tri = surface(mesh)
    edges, counts = np.unique(tri.edges_sorted, axis=0, return_counts=True)
    rim = np.unique(edges[counts == 1])
    radius = np.linalg.norm(tri.vertices[rim, :2], axis=1) * (size - 1)
    assert radius.std() < 0.25, "pixels"


def test_pinned_border_columns_are_no_skirts():
    scene = face_scene()
    mesh = build_mesh(scene.depth, CAMERA, max_stretch=math.inf, upsample=1)
    columns = mesh.uv[:, 0] * 63
    assert columns.min() == 1
    assert columns.max() == 62


def test_small_holes_are_filled_and_large_ones_stay():
    depth = torch.full((64, 64), 1.0)
    depth[20:22, 20:22] = 0.93  # a spike: its flanks are too steep
    assert len(build_mesh(depth, CAMERA, upsample=1).vertices) == 64 * 62
    spike = build_mesh(depth, CAMERA, upsample=1, max_hole=0)
    assert len(spike.vertices) < 64 * 62
    mask = torch.ones(64, 64)
    mask[20:44, 20:44] = 0  # the object has a hole of its own
    hole = build_mesh(torch.ones(64, 64), CAMERA, mask=mask, upsample=1)
    assert len(hole.vertices) < 64 * 62 - 350, "24 x 24 vertices are gone, those of an outline of 96 cells are new"


def test_pixels_that_are_not_finite_are_cut_out():
    depth = face_scene().depth.clone()
    depth[:20] = torch.nan
    mesh = build_mesh(depth, CAMERA)
    assert torch.isfinite(mesh.vertices).all()
    assert mesh.uv[:, 1].min() >= 19 / 63


def test_what_cannot_be_meshed_is_refused_in_one_sentence():
    depth = face_scene().depth
    with pytest.raises(MeshError, match=r"raise it, or check the mask\."):
        build_mesh(depth, CAMERA, mask=torch.zeros(64, 64))
    with pytest.raises(MeshError):
        build_mesh(torch.full((64, 64), torch.nan), CAMERA)
    for bad in ({"max_stretch": 1.0}, {"max_stretch": math.nan}, {"upsample": 0}, {"mask": torch.ones(3, 3)}):
        with pytest.raises(ValueError, match=next(iter(bad))):
            build_mesh(depth, CAMERA, **bad)
    with pytest.raises(ValueError, match="depth"):
        build_mesh(depth[None], CAMERA)


def test_texture_coordinates_hit_texel_centres():
    """0 and 1 are the centres of the corner texels inside, the outer edges of the texture outside; v turns up."""
    got = export_uv(torch.tensor([[0.0, 0.0], [1.0, 1.0]]), (4, 4))
    torch.testing.assert_close(got, torch.tensor([[0.125, 0.875], [0.875, 0.125]]))


# ---------------------------------------------------------------------------- grids of cells


def test_labels_agree_with_a_flood_fill():
    rng = np.random.default_rng(0)
    for diagonal in (False, True):
        grid = rng.random((17, 23)) < 0.55
        labels = cells.label(grid, diagonal=diagonal)
        seen = np.full(grid.shape, -1)
        for start in range(grid.size):
            y, x = divmod(start, grid.shape[1])
            if not grid[y, x] or seen[y, x] >= 0:
                continue
            stack = [(y, x)]
            while stack:
                r, c = stack.pop()
                if not (0 <= r < 17 and 0 <= c < 23) or not grid[r, c] or seen[r, c] >= 0:
                    continue
                seen[r, c] = start
                steps = [(dr, dc) for dr in (-1, 0, 1) for dc in (-1, 0, 1) if diagonal or abs(dr) + abs(dc) == 1]
                stack += [(r + dr, c + dc) for dr, dc in steps]
        np.testing.assert_array_equal(labels, seen)


def test_the_component_in_the_middle_wins_over_a_larger_frame():
    grid = np.ones((40, 40), bool)
    grid[10:30, 10:30] = False
    grid[12:28, 12:28] = True  # 256 cells inside, 1200 around
    assert cells.largest_component(grid).sum() == 256
    assert not cells.largest_component(np.zeros((5, 5), bool)).any()


def test_no_two_cells_touch_by_a_corner_alone():
    grid = np.random.default_rng(1).random((30, 30)) < 0.6
    cut = cells.separate_corners(grid)
    a, b, c, d = cut[:-1, :-1], cut[:-1, 1:], cut[1:, :-1], cut[1:, 1:]
    assert not ((a & d & ~b & ~c) | (b & c & ~a & ~d)).any()
    assert not (cut & ~grid).any()
