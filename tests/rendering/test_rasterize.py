"""The rasteriser against hand-made cases, its plain twin and finite differences."""

import pytest
import torch

from gan2shape_hub.rendering import search
from gan2shape_hub.rendering.rasterize import corner_index, plane_depth, rasterize
from gan2shape_hub.rendering.search import screen_planes, winners_reference, winners_torch

FACE = torch.tensor([[0, 1, 2]])
SQUARE = torch.tensor([[0, 2, 1], [1, 2, 3]])


def triangle(*corners, dtype=torch.float64):
    """Pixels (1,V,2) and depth (1,V) of corners (x, y, z)."""
    values = torch.tensor(corners, dtype=dtype)[None]
    return values[..., :2], values[..., 2]


def soup(seed: int, faces: int, spread: float, size: tuple[int, int], dtype=torch.float32, batch: int = 2):
    """Random triangles whose corners lie about ``spread`` pixels apart, some of them beyond the image."""
    g = torch.Generator().manual_seed(seed)
    centre = torch.rand(batch, faces, 1, 2, generator=g, dtype=dtype) * torch.tensor(size[::-1]) * 1.2 - 2
    pixels = (centre + spread * torch.randn(batch, faces, 3, 2, generator=g, dtype=dtype)).reshape(batch, -1, 2)
    depth = 0.5 + torch.rand(batch, faces * 3, generator=g, dtype=dtype)
    return pixels, depth, torch.arange(faces * 3).reshape(faces, 3)


def test_coverage_by_hand():
    # Right angle at (1, 1), legs of 3 pixels; centres on the edges belong to the face.
    pixels, depth = triangle((1, 1, 2), (4, 1, 2), (1, 4, 2))
    face = rasterize(pixels, depth, FACE, (6, 6)).face[0]
    expected = torch.full((6, 6), -1)
    for row, columns in ((1, (1, 2, 3, 4)), (2, (1, 2, 3)), (3, (1, 2)), (4, (1,))):
        expected[row, list(columns)] = 0
    assert torch.equal(face, expected)


@pytest.mark.parametrize("order", [[0, 1, 2], [0, 2, 1]])
def test_perspective_weights_and_depth_by_hand(order):
    # Halfway between z = 1 and z = 3 on screen is z = 1.5, a quarter of the way along the edge in space.
    pixels, depth = triangle((0, 0, 1), (4, 0, 3), (0, 4, 1))
    out = rasterize(pixels, depth, torch.tensor([order]), (5, 5))
    expected = torch.tensor([0.75, 0.25, 0.0], dtype=torch.float64)[order]
    torch.testing.assert_close(out.bary[0, 0, 2], expected)
    torch.testing.assert_close(out.depth[0, 0, 2].item(), 1.5)


def test_empty_pixels_are_zero_and_minus_one():
    pixels, depth = triangle((1, 1, 2), (2, 1, 2), (1, 2, 2))
    out = rasterize(pixels, depth, FACE, (4, 4))
    assert out.face[0, 3, 3] == -1
    assert out.depth[0, 3, 3] == 0
    assert (out.bary[0, 3, 3] == 0).all()
    nothing = rasterize(pixels, depth, torch.zeros(0, 3, dtype=torch.int64), (4, 4))
    assert (nothing.face == -1).all()
    assert (nothing.depth == 0).all()


@pytest.mark.parametrize("impl", ["torch", "reference"])
def test_nearest_face_wins_where_two_cross(impl):
    # One rises from z = 1 to 3 from left to right, the other is flat at 2: they meet where 1/z = 1/2.
    a, b = [(0, 0, 1), (8, 0, 3), (0, 8, 1), (8, 8, 3)], [(0, 0, 2), (8, 0, 2), (0, 8, 2), (8, 8, 2)]
    pixels, depth = triangle(*a, *b)
    faces = torch.cat((SQUARE, SQUARE + 4))
    out = rasterize(pixels, depth, faces, (9, 9), impl)
    # 1 - (2/3) t > 1/2 for t < 3/4, that is columns 0 to 5; column 6 is the crossing itself.
    assert (out.face[0, :, :6] < 2).all()
    assert (out.face[0, :, 7:] >= 2).all()
    torch.testing.assert_close(out.depth[0, 4, 6].item(), 2.0)


@pytest.mark.parametrize("impl", ["torch", "reference"])
def test_equal_depth_goes_to_the_lowest_face(impl):
    pixels, depth = triangle((0, 0, 2), (6, 0, 2), (0, 6, 2), (6, 6, 2))
    twice = torch.cat((SQUARE.flip(0), SQUARE, SQUARE.flip(0)))
    face = rasterize(pixels, depth, twice, (7, 7), impl).face[0]
    assert face.max() == 1
    # On the shared diagonal, too.
    assert all(face[6 - i, i] == 0 for i in range(7))


@pytest.mark.parametrize("impl", ["torch", "reference"])
@pytest.mark.parametrize(
    "bad", [(float("nan"), 0, 1), (0, float("inf"), 1), (3, 9, float("nan")), (3, 9, -1), (3, 9, 0), (1e9, 3, 1)]
)
def test_faces_with_an_impossible_vertex_are_not_drawn(impl, bad):
    good = [(1, 1, 2), (5, 1, 2), (1, 5, 2)]
    pixels, depth = triangle(*good, bad)
    pixels.requires_grad_()
    depth.requires_grad_()
    out = rasterize(pixels, depth, torch.tensor([[0, 1, 3], [0, 1, 2]]), (7, 7), impl)
    alone = rasterize(*triangle(*good), FACE, (7, 7))
    assert torch.equal(out.face >= 0, alone.face >= 0)
    assert out.face.max() == 1
    torch.testing.assert_close(out.depth, alone.depth)
    (out.depth.sum() + out.bary.square().sum()).backward()
    assert pixels.grad.isfinite().all()
    assert depth.grad.isfinite().all()
    assert (pixels.grad[0, 3] == 0).all()


@pytest.mark.parametrize("impl", ["torch", "reference"])
def test_faces_without_area_or_off_the_screen_are_not_drawn(impl):
    line = [(0, 3, 1), (3, 3, 1), (6, 3, 1)]
    point = [(2, 2, 1)] * 3
    outside = [(-9, -9, 1), (-2, -9, 1), (-9, -2, 1)]
    beyond = [(50, 0, 1), (60, 0, 1), (50, 9, 1)]
    pixels, depth = triangle(*line, *point, *outside, *beyond)
    pixels.requires_grad_()
    out = rasterize(pixels, depth, torch.arange(12).reshape(4, 3), (7, 7), impl)
    assert (out.face == -1).all()
    out.depth.sum().backward()
    assert pixels.grad.isfinite().all()


def test_depth_of_a_sliver_stays_within_its_corners():
    # Seen almost edge-on, in float32: rounding may place the pixel off the plane, never outside its range.
    g = torch.Generator().manual_seed(0)
    t = torch.rand(1, 600, 1, generator=g) * 40
    pixels = t * torch.tensor([1.0, 0.37]) + 1e-5 * torch.randn(1, 600, 2, generator=g)
    depth = 0.9 + 0.2 * torch.rand(1, 600, generator=g)
    faces = torch.arange(600).reshape(200, 3)
    out = rasterize(pixels, depth, faces, (16, 41))
    corner = depth[0][faces]
    hit = out.face >= 0
    low, high = corner.amin(1)[out.face[hit]], corner.amax(1)[out.face[hit]]
    slack = 0.005 * (high - low)
    assert (out.depth[hit] >= low - slack).all()
    assert (out.depth[hit] <= high + slack).all()
    assert (out.bary >= -0.005).all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(
    ("faces", "spread", "size"), [(60, 0.7, (11, 17)), (25, 9.0, (23, 16)), (12, 60.0, (31, 40)), (30, 3.0, (1, 9))]
)
def test_search_agrees_with_its_twin_on_random_triangles(dtype, faces, spread, size):
    pixels, depth, index = soup(faces, faces, spread, size, dtype)
    planes = screen_planes(pixels[..., 0], pixels[..., 1], depth)
    expected = winners_reference(planes, index, size)
    assert (expected >= 0).any()
    assert torch.equal(winners_torch(planes, index, size), expected)


def test_search_agrees_on_integer_corners_where_everything_ties():
    g = torch.Generator().manual_seed(3)
    pixels = torch.randint(-2, 14, (2, 90, 2), generator=g).float()
    depth = 1 + torch.randint(0, 2, (2, 90), generator=g).float()
    faces = torch.randint(0, 90, (2, 60, 3), generator=g)  # a face list for each image
    planes = screen_planes(pixels[..., 0], pixels[..., 1], depth)
    assert torch.equal(winners_torch(planes, faces, (12, 12)), winners_reference(planes, faces, (12, 12)))


def test_search_does_not_depend_on_how_the_work_is_cut(monkeypatch):
    pixels, depth, faces = soup(5, 40, 12.0, (30, 30), batch=3)
    planes = screen_planes(pixels[..., 0], pixels[..., 1], depth)
    whole = winners_torch(planes, faces, (30, 30))
    monkeypatch.setattr(search, "CHUNK", 100)
    monkeypatch.setattr(search, "FACES_AT_ONCE", 50)
    monkeypatch.setattr(search, "SMALL_PX", 2)
    assert torch.equal(winners_torch(planes, faces, (30, 30)), whole)
    monkeypatch.setattr(search, "FACES_AT_ONCE", 85)  # two images, then one
    assert torch.equal(winners_torch(planes, faces, (30, 30)), whole)


def test_no_pixel_falls_between_neighbouring_faces():
    # A fan of slivers around odd points covers a square without a gap, in float32.
    g = torch.Generator().manual_seed(1)
    for _ in range(5):
        hub = 5 + 10 * torch.rand(1, 2, generator=g)
        angle = torch.linspace(0, 2 * torch.pi, 500)[:-1]
        rim = 10 + 40 * torch.stack((angle.cos(), angle.sin()), 1)
        pixels = torch.cat((hub, rim))[None]
        k = torch.arange(499)
        faces = torch.stack((torch.zeros_like(k), k + 1, (k + 1) % 499 + 1), 1)
        face = rasterize(pixels, torch.ones(1, 500), faces, (21, 21)).face
        assert (face >= 0).all()


def test_gradients_against_finite_differences():
    pixels, depth, faces = soup(2, 5, 6.0, (9, 9), torch.float64, batch=1)
    winner = rasterize(pixels, depth, faces, (9, 9)).face
    assert len(winner.unique()) > 3
    weight = torch.randn(1, 9, 9, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))

    def value(p, z):
        out = rasterize(p, z, faces, (9, 9))
        assert torch.equal(out.face, winner)  # otherwise the seed puts a pixel on an edge
        return (torch.cat((out.bary, out.depth[..., None]), -1) * weight).sum()

    inputs = (pixels.requires_grad_(), depth.requires_grad_())
    assert torch.autograd.gradcheck(value, inputs, eps=1e-7, atol=1e-5)


@pytest.mark.parametrize("per_image", [False, True])
def test_written_out_backward_agrees_with_the_recorded_one(per_image):
    pixels, depth, faces = soup(4, 12, 5.0, (13, 10), torch.float64)
    if per_image:
        faces = torch.stack((faces, faces.flip(0)))
    pixels.requires_grad_()
    depth.requires_grad_()
    out = rasterize(pixels, depth, faces, (13, 10), "reference")
    cotangent = torch.randn_like(out.depth)
    expected = torch.autograd.grad((out.depth * cotangent).sum(), (pixels, depth))

    planes = screen_planes(pixels[..., 0], pixels[..., 1], depth)
    images = torch.arange(len(depth))[:, None, None]
    index = corner_index(faces, out.face.clamp_min(0), images, depth.shape[1])
    fast = plane_depth(planes, index, out.face, 7.0)
    torch.testing.assert_close(fast, torch.where(out.face >= 0, out.depth, 7.0))
    torch.testing.assert_close(torch.autograd.grad((fast * cotangent).sum(), (pixels, depth)), expected)


def test_errors_name_the_argument():
    pixels, depth = triangle((1, 1, 2), (4, 1, 2), (1, 4, 2))
    with pytest.raises(ValueError, match="impl is 'cuda'"):
        rasterize(pixels, depth, FACE, (4, 4), "cuda")
    with pytest.raises(ValueError, match="vertices_px"):
        rasterize(pixels[0], depth, FACE, (4, 4))
    with pytest.raises(ValueError, match="depth"):
        rasterize(pixels, depth[:, :2], FACE, (4, 4))
    with pytest.raises(ValueError, match=r"faces holds 0..3, must be within 0..2"):
        rasterize(pixels, depth, FACE.new_tensor([[0, 1, 3]]), (4, 4))
    with pytest.raises(ValueError, match="faces has dtype"):
        rasterize(pixels, depth, FACE.float(), (4, 4))
    with pytest.raises(ValueError, match="size"):
        rasterize(pixels, depth, FACE, (0, 4))
