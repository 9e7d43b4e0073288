"""Views of a sheet: planes known in closed form, occlusion by hand, gradients against finite differences."""

import math
import time

import pytest
import torch

from gan2shape_hub.config import CameraConfig
from gan2shape_hub.rendering.camera import Pose, focal_px, pixel_rays, project, unproject
from gan2shape_hub.rendering.renderer import (
    pinned_border,
    raw_to_depth,
    render_view,
    sampling_grid,
    sheet_faces,
    visible_from,
    warp_depth,
)

CAMERA = CameraConfig(view_translation_z=0.1)


def bumpy(batch: int, size: tuple[int, int], dtype=torch.float64, seed: int = 0) -> torch.Tensor:
    """A smooth sheet with a few bumps, different in each image."""
    g = torch.Generator().manual_seed(seed)
    coarse = torch.randn(batch, 1, 4, 4, generator=g, dtype=dtype)
    bumps = torch.nn.functional.interpolate(coarse, size, mode="bicubic", align_corners=True)[:, 0]
    return 1 + 0.02 * bumps


def poses(batch: int, strength: float = 0.5, seed: int = 1, dtype=torch.float64) -> Pose:
    g = torch.Generator().manual_seed(seed)
    return Pose.from_view(strength * (torch.rand(batch, 6, generator=g, dtype=dtype) * 2 - 1), CAMERA)


def colours(batch: int, size: tuple[int, int], dtype=torch.float64, seed: int = 2) -> torch.Tensor:
    g = torch.Generator().manual_seed(seed)
    return torch.rand(batch, 3, *size, generator=g, dtype=dtype) * 2 - 1


def yaw(degrees: float, dtype=torch.float64) -> Pose:
    return Pose.from_angles(torch.tensor([[0.0, math.radians(degrees), 0.0]], dtype=dtype))


@pytest.mark.parametrize("size", [(16, 16), (9, 14), (33, 20), (2, 3)])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.float64, 1e-12)])
def test_identity_returns_depth_and_texture(size, dtype, tolerance):
    depth, texture = bumpy(3, size, dtype), colours(3, size, dtype)
    view = render_view(depth, texture, Pose.identity(3, dtype=dtype), CAMERA)
    assert view.image.dtype == view.depth.dtype == view.mask.dtype == dtype
    assert (view.mask == 1).all()  # the outermost row and column too
    torch.testing.assert_close(view.depth, depth, atol=tolerance, rtol=0)
    torch.testing.assert_close(view.image, texture, atol=tolerance, rtol=0)


def test_identity_at_full_size_in_float32_loses_no_pixel():
    texture = torch.linspace(-1, 1, 128).expand(1, 3, 128, 128)
    view = render_view(bumpy(1, (128, 128), torch.float32), texture, Pose.identity(1), CAMERA)
    assert (view.mask == 1).all()
    torch.testing.assert_close(view.image, texture, atol=1e-5, rtol=0)


@pytest.mark.parametrize("angles", [(0.0, 0.3, 0.0), (-0.2, 0.4, 0.3), (0.1, -0.9, 0.0)])
def test_depth_of_a_turned_plane(angles):
    size, translation = (21, 30), torch.tensor([[0.01, -0.02, 0.03]], dtype=torch.float64)
    pose = Pose.from_angles(torch.tensor([angles], dtype=torch.float64), translation)
    camera = CameraConfig(min_depth=0.5, max_depth=1.5)
    view_depth, mask = warp_depth(torch.ones(1, *size, dtype=torch.float64), pose, camera)
    # The plane z = 1 through the rotation centre: normal R e_z, through c + t.
    normal = pose.rotation[0, :, 2]
    through = torch.tensor([0.0, 0, 1], dtype=torch.float64) + translation[0]
    rays = unproject(torch.ones(1, *size, dtype=torch.float64), camera)
    expected = (normal @ through) / (rays @ normal)
    seen = mask[:, 0] > 0
    assert seen.double().mean() > 0.3
    torch.testing.assert_close(view_depth[seen], expected[seen], atol=1e-10, rtol=0)


def test_outline_of_a_turned_plane():
    # Half a width of 0.0875 seen at 40 degrees: its ends lie at x = -+0.0875 cos 40, z = 1 +- 0.0875 sin 40.
    size = (15, 101)
    half = math.tan(math.radians(5))
    _, mask = warp_depth(torch.ones(1, *size, dtype=torch.float64), yaw(40), CAMERA)
    focal, c, s = focal_px(101, 10.0), math.cos(math.radians(40)), math.sin(math.radians(40))
    left, right = (50 + focal * side * half * c / (1 - side * half * s) for side in (-1, 1))
    columns = torch.nonzero(mask[0, 0, 7])[:, 0]
    assert columns[0] == math.ceil(left)
    assert columns[-1] == math.floor(right)
    assert len(columns) == columns[-1] - columns[0] + 1


def test_positive_yaw_moves_what_is_near_to_the_left():
    depth = torch.full((1, 33, 33), 1.0, dtype=torch.float64)
    texture = torch.zeros(1, 3, 33, 33, dtype=torch.float64)
    depth[:, 14:19, 14:19] = 0.92
    texture[:, :, 14:19, 14:19] = 1
    image = render_view(depth, texture, yaw(15), CAMERA).image[0, 0]
    columns = torch.arange(33, dtype=torch.float64)
    assert (image * columns).sum() / image.sum() < 14


def test_near_strip_hides_what_is_behind_it():
    # A strip at 0.9 before a wall at 1.1; yaw 0.2 moves the strip about 8 px left and the wall 6.5 px right.
    camera = CameraConfig()
    depth = torch.full((1, 8, 64), 1.1, dtype=torch.float64)
    depth[:, :, 28:36] = 0.9
    texture = torch.full((1, 3, 8, 64), -1.0, dtype=torch.float64)
    texture[:, :, :, 28:36] = 1
    pose = Pose.from_angles(torch.tensor([[0.0, 0.2, 0.0]], dtype=torch.float64))
    focal = focal_px(64, 10.0)

    def lands(column, z):
        x = (column - 31.5) / focal * z
        return 31.5 + focal * (math.cos(0.2) * x + math.sin(0.2) * (z - 1)) / (
            1 - math.sin(0.2) * x + math.cos(0.2) * (z - 1)
        )

    first, last = math.ceil(lands(28, 0.9)), math.floor(lands(35, 0.9))
    assert 17 <= first < last <= 29
    view = render_view(depth, texture, pose, camera)
    rows = slice(2, 6)  # what is further than before leaves the first and last row empty
    assert (view.depth[0, rows, first : last + 1] < 0.92).all()
    assert (view.depth[0, rows, first - 1] > 1.05).all()
    assert (view.image[0, :, rows, first + 1 : last] > 0.9).all()

    hidden = [k for k in range(64) if first + 1 < lands(k, 1.1) < last - 1 and not 27 <= k <= 36]
    assert len(hidden) >= 3
    seen = visible_from(depth, pose, camera)[0, 0]
    assert (seen[rows, hidden] == 0).all()
    assert (seen[rows, 28:36] == 1).all()
    assert (seen[rows, 37:50] == 1).all()
    # The wall's right end is turned out of the frame.
    assert lands(63, 1.1) > 63.5
    assert (seen[:, 63] == 0).all()
    assert (visible_from(depth.float(), Pose.identity(1), camera) == 1).all()


def test_view_depth_is_clamped_and_the_far_is_background():
    camera = CameraConfig(border_px=0)
    depth = torch.ones(1, 12, 12, dtype=torch.float64)
    for z, expected, mask in ((-0.5, 0.8, 1), (0.15, 1.15, 1), (0.5, 1.2, 0)):
        pose = Pose(torch.eye(3, dtype=torch.float64)[None], torch.tensor([[0.0, 0, z]], dtype=torch.float64))
        view_depth, seen = warp_depth(depth, pose, camera)
        assert view_depth[0, 6, 6].item() == pytest.approx(expected)
        assert seen[0, 0, 6, 6] == mask
    aside = Pose(torch.eye(3, dtype=torch.float64)[None], torch.tensor([[1.0, 0, 0]], dtype=torch.float64))
    view_depth, seen = warp_depth(depth, aside, camera)
    assert (seen == 0).all()
    torch.testing.assert_close(view_depth, torch.full_like(view_depth, 1.2))


def test_sampling_grid_is_the_way_back():
    size = (11, 16)
    view_depth, pose = bumpy(2, size), poses(2)
    back = project(pose.inverse().apply(unproject(view_depth, CAMERA), CAMERA), CAMERA, size)
    expected = back / torch.tensor([15.0, 10.0], dtype=torch.float64) * 2 - 1
    torch.testing.assert_close(sampling_grid(view_depth, pose, CAMERA), expected, atol=1e-10, rtol=0)


def test_view_shows_each_point_in_its_own_colour():
    # With a texture that is linear in the canonical pixel, the image is known wherever the sheet is seen.
    size = (24, 24)
    depth, pose = 1 + 0.2 * (bumpy(1, size) - 1), poses(1)  # flat enough to hide nothing of itself
    u = torch.linspace(-1, 1, 24, dtype=torch.float64)
    texture = torch.stack((u.expand(24, 24), u[:, None].expand(24, 24), 0 * u.expand(24, 24)))[None]
    view = render_view(depth, texture, pose, CAMERA)
    points = pose.apply(unproject(depth, CAMERA), CAMERA)
    seen = visible_from(depth, pose, CAMERA, tolerance=1e-4)[0, 0] > 0
    grid = project(points, CAMERA, size) / 23 * 2 - 1
    sampled, whole = (torch.nn.functional.grid_sample(x, grid, align_corners=True)[0] for x in (view.image, view.mask))
    inner = seen & (whole[0] > 0.999)
    assert inner.double().mean() > 0.5
    torch.testing.assert_close(sampled[:2, inner], texture[0, :2, inner], atol=0.02, rtol=0)


@pytest.mark.parametrize("size", [(6, 6), (5, 8)])
def test_gradients_against_finite_differences(size):
    depth, texture = bumpy(1, size).requires_grad_(), colours(1, size).requires_grad_()
    view = torch.tensor([[0.12, -0.31, 0.07, 0.05, -0.04, 0.1]], dtype=torch.float64, requires_grad=True)
    seen = render_view(depth, texture, Pose.from_view(view, CAMERA), CAMERA).mask
    assert 0.5 < seen.mean() < 1

    def outputs(d, t, v):
        out = render_view(d, t, Pose.from_view(v, CAMERA), CAMERA)
        assert torch.equal(out.mask, seen)  # otherwise a pixel lies on an edge and has no gradient
        return out.image, out.depth, out.grid

    assert torch.autograd.gradcheck(outputs, (depth, texture, view), eps=1e-7, atol=1e-5)


def test_identity_gradient_is_the_identity():
    # Every pixel lies on a vertex, where up to six faces meet: whichever wins, the depth is that vertex's.
    depth = bumpy(2, (7, 9)).requires_grad_()
    view_depth, _ = warp_depth(depth, Pose.identity(2, dtype=torch.float64), CAMERA)
    cotangent = torch.randn_like(view_depth)
    torch.testing.assert_close(torch.autograd.grad((view_depth * cotangent).sum(), depth)[0], cotangent)


def test_agrees_with_the_twin_in_values_and_gradients():
    size = (12, 10)
    results = []
    for impl in ("torch", "reference"):
        depth, texture = bumpy(2, size).requires_grad_(), colours(2, size).requires_grad_()
        view = torch.tensor([[0.1, 0.7, 0, 0, 0.1, 0], [-0.3, -0.4, 0.2, 0.1, 0, 0.1]], dtype=torch.float64)
        view.requires_grad_()
        out = render_view(depth, texture, Pose.from_view(view, CAMERA), CAMERA, impl=impl)
        weight = torch.randn(out.image.shape, generator=torch.Generator().manual_seed(5), dtype=torch.float64)
        loss = (out.image * weight).sum() + (out.depth * weight[:, 0]).sum()
        results.append((out.image, out.depth, out.mask, *torch.autograd.grad(loss, (depth, texture, view))))
    for ours, twin in zip(*results, strict=True):
        torch.testing.assert_close(ours, twin)


def test_each_image_of_a_batch_is_on_its_own():
    size = (14, 14)
    depth, texture, pose = bumpy(5, size), colours(5, size), poses(5)
    whole = render_view(depth, texture, pose, CAMERA)
    for k in range(5):
        alone = render_view(depth[k : k + 1], texture[k : k + 1], pose.index(k), CAMERA)
        torch.testing.assert_close(alone.image[0], whole.image[k])
        torch.testing.assert_close(alone.mask[0], whole.mask[k])
    one_sheet = render_view(depth[:1], texture[:1], pose, CAMERA)
    torch.testing.assert_close(one_sheet.image[0], whole.image[0])
    assert one_sheet.image.shape == whole.image.shape
    one_pose = render_view(depth, texture, pose.index(2), CAMERA)
    torch.testing.assert_close(one_pose.depth[2], whole.depth[2])


def test_background_replaces_only_what_is_not_seen():
    depth, texture = bumpy(1, (16, 16)), colours(1, (16, 16))
    plain, white = (render_view(depth, texture, yaw(50), CAMERA, background=b) for b in (None, 1.0))
    outside = (plain.mask == 0).expand_as(plain.image)
    assert outside.any()
    assert (white.image[outside] == 1).all()
    torch.testing.assert_close(white.image[~outside], plain.image[~outside])


@pytest.mark.parametrize("value", [float("nan"), -1.0, 0.0])
def test_impossible_depth_makes_a_hole_and_no_nan(value):
    depth = torch.ones(1, 12, 12)
    depth[0, 5, 5] = value
    depth.requires_grad_()
    texture = colours(1, (12, 12), torch.float32).requires_grad_()
    aside = Pose(torch.eye(3)[None], torch.tensor([[0.004, 0.003, 0.0]]))  # a quarter of a pixel
    view = render_view(depth, texture, aside, CAMERA)
    assert view.image.isfinite().all()
    assert view.grid.isfinite().all()
    assert 0 < (view.mask[0, 0, 1:-1, 1:-1] == 0).sum() <= 12
    view.image.square().sum().backward()
    assert texture.grad.isfinite().all()
    good = torch.ones(12, 12, dtype=torch.bool)
    good[5, 5] = False
    assert depth.grad[0][good].isfinite().all()


def test_turning_the_sheet_edge_on_stays_finite():
    depth = bumpy(1, (32, 32), torch.float32).requires_grad_()
    texture = colours(1, (32, 32), torch.float32)
    for degrees in (89.9, 90.0, 180.0):
        pose = yaw(degrees, torch.float32)
        view = render_view(depth, texture, pose, CAMERA)
        assert view.image.isfinite().all()
        assert torch.autograd.grad(view.image.sum() + view.depth.sum(), depth)[0].isfinite().all()


def test_raw_to_depth_by_hand():
    camera = CameraConfig(border_px=2)
    raw = torch.zeros(2, 1, 4, 64)
    raw[0, :, :2], raw[1] = 2.0, 100.0
    depth = raw_to_depth(raw, camera)
    assert depth.shape == (2, 4, 64)
    # Mean 1: tanh(+-1) = +-0.76159 of the half range 0.1 about 1.
    torch.testing.assert_close(depth[0, 0, 1:-1], torch.full((62,), 1.076159))
    torch.testing.assert_close(depth[0, 3, 1:-1], torch.full((62,), 0.923841))
    torch.testing.assert_close(depth[1, :, 1:-1], torch.ones(4, 62))
    torch.testing.assert_close(depth[..., [0, -1]], torch.full((2, 4, 2), 1.04))
    torch.testing.assert_close(raw_to_depth(raw[:, 0], camera), depth)
    assert raw_to_depth(raw.bfloat16(), camera).dtype == torch.float32
    with pytest.raises(ValueError, match="raw"):
        raw_to_depth(torch.zeros(2, 3, 4, 4), camera)


@pytest.mark.parametrize(("width", "columns"), [(128, 2), (256, 4), (64, 1), (16, 1)])
def test_pinned_border_scales_with_the_width(width, columns):
    depth = torch.full((1, 3, width), 0.95, requires_grad=True)
    pinned = pinned_border(depth, CameraConfig())
    changed = torch.nonzero(pinned[0, 1] != 0.95)[:, 0].tolist()
    assert changed == [*range(columns), *range(width - columns, width)]
    assert torch.autograd.grad(pinned.sum(), depth)[0].sum() == 3 * (width - 2 * columns)
    assert pinned_border(depth, CameraConfig(border_px=0)) is depth


def test_sheet_faces_are_outward_and_cover_each_cell_once():
    faces = sheet_faces((3, 4))
    assert faces.shape == (12, 3)
    v, u = torch.meshgrid(torch.arange(3.0), torch.arange(4.0), indexing="ij")
    points = torch.stack((u, v, torch.ones(3, 4)), -1).reshape(-1, 3)
    a, b, c = (points[faces[:, k]] for k in range(3))
    normal = torch.linalg.cross(b - a, c - a)
    torch.testing.assert_close(normal, torch.tensor([0.0, 0, -1]).expand(12, 3))  # unit: twice half a cell
    assert torch.equal(faces[0], torch.tensor([0, 4, 1]))


def test_rays_of_a_wide_image_share_one_focal_length():
    x, y = pixel_rays((5, 9), CameraConfig(fov_deg=90.0), torch.zeros(1))
    torch.testing.assert_close(x[0, [0, 4, 8]], torch.tensor([-1.0, 0, 1]))
    torch.testing.assert_close(y[[0, 2, 4], 0], torch.tensor([-0.5, 0, 0.5]))


def test_errors_name_the_argument():
    with pytest.raises(ValueError, match=r"depth has shape \(1, 1, 8\)"):
        warp_depth(torch.ones(1, 1, 8), Pose.identity(1), CAMERA)
    with pytest.raises(ValueError, match="impl"):
        warp_depth(torch.ones(1, 4, 4), Pose.identity(1), CAMERA, impl="cuda")


@pytest.fixture
def one_thread():
    """Threads that wait for each other on a busy machine would be measured instead of the work."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.mark.usefixtures("one_thread")
def test_cost_grows_no_faster_than_batch_and_pixels():
    def seconds(batch, side):
        depth, pose = bumpy(batch, (side, side), torch.float32), yaw(14, torch.float32)
        best = math.inf
        for _ in range(4):
            start = time.thread_time()
            warp_depth(depth, pose, CAMERA)
            best = min(best, time.thread_time() - start)
        return best

    seconds(1, 32)
    base = seconds(2, 96)
    # Four times the work; quadratic cost would be 16 times.
    assert seconds(8, 96) < 10 * base
    assert seconds(2, 192) < 10 * base
