"""Projections by hand, round trips, and poses that compose as motions do."""

import math

import pytest
import torch

from gan2shape_hub.config import CameraConfig
from gan2shape_hub.rendering.camera import Pose, focal_px, project, unproject

CAMERA = CameraConfig(view_translation_z=0.2)


def random_pose(batch: int, seed: int = 0) -> Pose:
    generator = torch.Generator().manual_seed(seed)
    values = torch.rand(batch, 6, generator=generator, dtype=torch.float64) * 2 - 1
    return Pose.from_view(values, CAMERA)


def test_focal_length_by_hand():
    assert focal_px(101, 90.0) == pytest.approx(50.0)  # 50 px to the side at 45 degrees
    assert focal_px(128, 10.0) == pytest.approx(63.5 / math.tan(math.radians(5)))
    with pytest.raises(ValueError, match="size is 1"):
        focal_px(1, 10.0)


def test_projection_by_hand():
    camera = CameraConfig(fov_deg=90.0)
    points = torch.tensor([[0.0, 0, 2], [2, 0, 2], [0, 1, 2], [-1, -0.5, 1]])
    # 101 wide, 51 high: focal 50, principal point (50, 25).
    expected = torch.tensor([[50.0, 25], [100, 25], [50, 50], [0, 0]])
    torch.testing.assert_close(project(points, camera, (51, 101)), expected)


def test_unprojection_by_hand():
    camera = CameraConfig(fov_deg=90.0)
    points = unproject(torch.full((1, 3, 5), 4.0), camera)  # focal 2
    torch.testing.assert_close(points[0, 0, 0], torch.tensor([-4.0, -2, 4]))
    torch.testing.assert_close(points[0, 2, 4], torch.tensor([4.0, 2, 4]))


@pytest.mark.parametrize("size", [(7, 7), (5, 12), (13, 4)])
def test_unproject_then_project_returns_the_pixels(size):
    depth = 0.9 + 0.2 * torch.rand(3, *size, dtype=torch.float64)
    pixels = project(unproject(depth, CAMERA), CAMERA, size)
    v, u = torch.meshgrid(*(torch.arange(n, dtype=torch.float64) for n in size), indexing="ij")
    torch.testing.assert_close(pixels, torch.stack((u, v), -1).expand(3, -1, -1, -1), atol=1e-10, rtol=0)


def test_rotation_signs_as_documented():
    nose = torch.tensor([[[0.0, 0.0, 0.9]]])  # before the rotation centre, towards the camera
    right = torch.tensor([[[0.1, 0.0, 1.0]]])

    def turned(point, *angles):
        return Pose.from_angles(torch.tensor([angles])).apply(point, CAMERA)[0, 0]

    assert turned(nose, 0.0, 0.3, 0.0)[0] < 0  # yaw: to the image's left
    assert turned(nose, 0.3, 0.0, 0.0)[1] > 0  # pitch: down
    assert turned(right, 0.0, 0.0, 0.3)[1] > 0  # roll: clockwise, the right side goes down


def test_rotation_is_z_after_y_after_x():
    p, y, r = 0.3, -0.5, 0.7
    one, zero = 1.0, 0.0
    rx = torch.tensor([[one, 0, 0], [0, math.cos(p), -math.sin(p)], [0, math.sin(p), math.cos(p)]])
    ry = torch.tensor([[math.cos(y), 0, math.sin(y)], [0, 1, 0], [-math.sin(y), zero, math.cos(y)]])
    rz = torch.tensor([[math.cos(r), -math.sin(r), 0], [math.sin(r), math.cos(r), 0], [0, 0, one]])
    pose = Pose.from_angles(torch.tensor([[p, y, r]]))
    torch.testing.assert_close(pose.rotation[0], rz @ ry @ rx)


def test_view_units():
    view = torch.tensor([[0.1, -0.5, 1.0, 1.0, -0.5, 1.0]])
    pose = Pose.from_view(view, CAMERA)
    expected = Pose.from_angles(torch.deg2rad(torch.tensor([[6.0, -30, 60]])))
    torch.testing.assert_close(pose.rotation, expected.rotation)
    torch.testing.assert_close(pose.translation, torch.tensor([[0.1, -0.05, 0.2]]))
    assert Pose.from_view(view.bfloat16(), CAMERA).rotation.dtype == torch.float32


def test_apply_is_the_written_formula():
    pose = random_pose(2)
    points = torch.randn(2, 4, 5, 3, dtype=torch.float64)
    c = torch.tensor([0, 0, CAMERA.center_depth], dtype=torch.float64)
    expected = torch.einsum("bij,bhwj->bhwi", pose.rotation, points - c) + c + pose.translation[:, None, None]
    torch.testing.assert_close(pose.apply(points, CAMERA), expected)
    torch.testing.assert_close(
        pose.apply(points[:1, 0, 0:1], CAMERA)[1, 0],
        (pose.rotation[1] @ (points[0, 0, 0] - c)) + c + pose.translation[1],
    )


def test_inverse_undoes_and_compose_is_one_after_the_other():
    first, second = random_pose(3, 1), random_pose(3, 2)
    points = torch.randn(3, 6, 3, dtype=torch.float64)
    moved = first.apply(points, CAMERA)
    torch.testing.assert_close(first.inverse().apply(moved, CAMERA), points, atol=1e-10, rtol=0)
    expected = second.apply(moved, CAMERA)
    torch.testing.assert_close(second.compose(first).apply(points, CAMERA), expected, atol=1e-10, rtol=0)
    assert not torch.allclose(first.compose(second).apply(points, CAMERA), expected, atol=1e-3)
    unmoved = first.compose(first.inverse())
    torch.testing.assert_close(unmoved.rotation, Pose.identity(3, dtype=torch.float64).rotation.clone())


def test_poses_keep_their_precision_under_autocast():
    pose, other = (Pose(p.rotation.float(), p.translation.float()) for p in (random_pose(2, 1), random_pose(2, 2)))
    points = torch.randn(2, 6, 3)
    expected = pose.compose(other.inverse()).apply(points, CAMERA)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        result = pose.compose(other.inverse()).apply(points, CAMERA)
    torch.testing.assert_close(result, expected)


def test_helpers():
    pose = random_pose(3)
    assert pose.batch == 3
    torch.testing.assert_close(pose.index(-1).rotation, pose.rotation[2:])
    torch.testing.assert_close(pose.index(torch.tensor([2, 0])).translation, pose.translation[[2, 0]])
    assert pose.index(1).expand(4).rotation.shape == (4, 3, 3)
    assert pose.to(torch.float32).translation.dtype == torch.float32


def test_errors_name_the_argument():
    with pytest.raises(ValueError, match=r"pose\.rotation has shape \(3, 3\)"):
        Pose(torch.eye(3), torch.zeros(1, 3))
    with pytest.raises(ValueError, match=r"pose\.translation"):
        Pose(torch.eye(3)[None], torch.zeros(2, 3))
    with pytest.raises(ValueError, match="angles"):
        Pose.from_angles(torch.zeros(3))
    with pytest.raises(ValueError, match="view"):
        Pose.from_view(torch.zeros(1, 5), CAMERA)
    with pytest.raises(ValueError, match="depth"):
        unproject(torch.ones(4, 4), CAMERA)
