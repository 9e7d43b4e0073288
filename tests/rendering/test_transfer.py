"""Pixels carried by the sheet from one view to another: against views of a known textured scene."""

import pytest
import torch

from gan2shape_hub.config import CameraConfig
from gan2shape_hub.rendering.camera import Pose
from gan2shape_hub.rendering.renderer import render_view
from gan2shape_hub.rendering.transfer import box_importance, transfer

SIZE = 48
CAMERA = CameraConfig(border_px=0)


def dome(height=0.06):
    axis = torch.linspace(-1, 1, SIZE)
    return 1.02 - height * torch.exp(-(axis[:, None] ** 2 + axis**2) / 0.3)[None]


def texture():
    small = torch.rand(1, 3, 9, 9, generator=torch.Generator().manual_seed(3)) * 1.6 - 0.8
    return torch.nn.functional.interpolate(small, (SIZE, SIZE), mode="bicubic", align_corners=True)


def turned(yaw, pitch=0.0):
    return Pose.from_angles(torch.tensor([[pitch, yaw, 0.0]]))


def seen(pose):
    return render_view(dome(), texture(), pose, CAMERA).image


def error(depth, source, target):
    image, weight = transfer(seen(source), depth, source, target, CAMERA)
    return float(((image - seen(target)).abs() * weight).sum() / weight.sum() / 3)


def test_an_unmoved_view_gives_itself():
    pose = turned(0.2)
    image, weight = transfer(seen(pose), dome(), pose, pose, CAMERA)
    inner = weight[0, 0] > 0
    assert inner.float().mean() > 0.7
    assert (image - seen(pose)).abs().amax(dim=1)[0][inner].quantile(0.98) < 0.02


@pytest.mark.parametrize(("start", "end"), [(0.0, 0.3), (0.25, -0.2), (-0.3, 0.0)])
def test_the_true_shape_explains_a_view_and_others_do_not(start, end):
    true = error(dome(), turned(start), turned(end))
    assert true < 0.03
    assert error(torch.full_like(dome(), 1.0), turned(start), turned(end)) > 2 * true
    assert error(dome(0.12), turned(start), turned(end)) > 1.5 * true


def test_what_the_source_did_not_see_counts_nothing():
    """A step that hides what is behind it: its hidden side has no weight from the other side."""
    depth = torch.full((1, SIZE, SIZE), 1.05)
    depth[:, :, : SIZE // 2] = 0.95
    image = torch.zeros(1, 3, SIZE, SIZE)
    _, weight = transfer(image, depth, turned(-0.4), turned(0.4), CAMERA)
    _, same = transfer(image, depth, turned(0.4), turned(0.4), CAMERA)
    assert weight.sum() < 0.9 * same.sum()


def test_gradients_point_to_the_true_relief():
    height = torch.tensor(0.03, requires_grad=True)
    depth = 1.02 - height / 0.06 * (1.02 - dome())
    image, weight = transfer(seen(turned(0.0)), depth, turned(0.0), turned(0.3), CAMERA)
    ((image - seen(turned(0.3))).square() * weight).sum().backward()
    assert height.grad < 0, "a higher dome is better"


def test_importance_travels_with_the_sheet():
    importance = torch.zeros(1, 1, SIZE, SIZE)
    importance[..., : SIZE // 2] = 1
    _, weight = transfer(seen(turned(0.0)), dome(), turned(0.0), turned(0.0), CAMERA, importance)
    assert weight[..., : SIZE // 2 - 2].mean() > 0.9
    assert weight[..., SIZE // 2 + 2 :].max() == 0


def test_box_importance():
    weight = box_importance((0.2, 0.3, 0.8, 0.7), 32, 0.25)[0, 0]
    assert weight[16, 16] == pytest.approx(1, abs=0.01)
    assert weight[0, 0] == pytest.approx(0.25, abs=0.01)
    assert box_importance((0.0, 0.0, 1.0, 1.0), 32, 0.25).sum() > weight.sum()
