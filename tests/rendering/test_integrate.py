"""Depth out of normals: reliefs whose normals are known."""

import math
import time

import pytest
import torch

from gan2shape_hub.config import CameraConfig
from gan2shape_hub.rendering import normals_from_depth
from gan2shape_hub.rendering.integrate import depth_from_normals

CAMERA = CameraConfig()


def head(size, bumps=True):
    """A bowl with bumps in front of the camera, its outward normals and the disc it is known on."""
    v, u = torch.meshgrid(torch.linspace(-1, 1, size), torch.linspace(-1, 1, size), indexing="ij")
    radius = torch.hypot(u / 0.6, v / 0.8)
    depth = 0.96 + 0.05 * radius.clamp(max=1.2).square()
    if bumps:
        depth = depth + 0.002 * torch.sin(15 * u) * torch.cos(12 * v)
    return depth, -normals_from_depth(depth[None], CAMERA)[0], (radius < 0.95).float()


def level(depth, mask):
    """The plane at the object's mean depth."""
    return torch.full_like(depth, float(depth[mask > 0].mean()))


def error(found, depth, mask):
    """Standard deviation of the difference, in parts of the relief's."""
    inside = mask > 0
    return float((found - depth)[inside].std() / depth[inside].std())


@pytest.mark.parametrize("size", [64, 128, 256])
def test_a_relief_is_recovered_from_its_normals_alone(size):
    depth, normals, mask = head(size)
    found = depth_from_normals(normals, mask, level(depth, mask), CAMERA, tie=0)
    assert error(found, depth, mask) < 0.01


def test_background_of_any_shape_changes_nothing():
    depth, normals, mask = head(128)
    wall = torch.where(mask > 0, normals, torch.tensor([0.8, 0.0, -0.6])[:, None, None])
    one, other = (depth_from_normals(n, mask, level(depth, mask), CAMERA, tie=0) for n in (normals, wall))
    assert error(one, depth, mask) < 0.01
    assert error(other, depth, mask) < 0.02


def test_half_of_it_unknown_and_not_a_number():
    depth, normals, mask = head(128)
    normals[:, :, 70:80] = math.nan
    mask[40:50] = 0
    found = depth_from_normals(normals, mask, depth, CAMERA, tie=1e-4)
    assert bool(found.isfinite().all())
    known = mask.clone()
    known[:, 68:82] = 0
    assert error(found, depth, known) < 0.03


def test_what_blocks_hold_comes_from_the_anchor():
    depth, _, mask = head(128, bumps=False)
    _, normals, _ = head(128)
    flat = 0.98 + (depth - 0.98) * 0.5  # half of the relief
    found = depth_from_normals(normals, mask, flat, CAMERA, blocks=32, tie=1.0)
    blocks = torch.nn.functional.avg_pool2d
    told, kept = (blocks(d[None, None] * mask, 32)[0, 0] for d in (flat, found))
    assert float((told - kept).abs().max()) < 3e-3, "a tenth of what the halved relief is off"


def test_sizes_agree():
    small, large = (
        depth_from_normals(head(size)[1], head(size)[2], head(size, bumps=False)[0], CAMERA) for size in (128, 256)
    )
    half = torch.nn.functional.interpolate(large[None, None], (128, 128), mode="bilinear", align_corners=True)[0, 0]
    depth, _, mask = head(128)
    inside = mask > 0
    assert float((half - small)[inside].abs().max() / depth[inside].std()) < 0.05
    assert error(small, depth, mask) < 0.03


def test_the_work_is_linear_in_pixels():
    depth, normals, mask = head(256)
    begun = time.process_time()
    depth_from_normals(normals, mask, level(depth, mask), CAMERA)
    assert time.process_time() - begun < 2.0, "0.2 s on an idle core"


def test_shapes_that_do_not_belong_together():
    depth, normals, mask = head(32)
    with pytest.raises(ValueError, match=r"normals \(3, 32, 32\) and weight \(16, 32\)"):
        depth_from_normals(normals, mask[:16], depth, CAMERA)
