"""What a sheet hides from itself: planes hide nothing, a pit what geometry says, a wall throws its shadow."""

import math

import pytest
import torch

from gan2shape_hub.config import CameraConfig
from gan2shape_hub.rendering.occlusion import horizons, occlusion, visible
from gan2shape_hub.rendering.shading import normals_from_depth

CAMERA = CameraConfig()
SIDE = 96
PIXEL = 2 * math.tan(math.radians(CAMERA.fov_deg) / 2) / (SIDE - 1)
"""Scene units at depth 1."""


def grid() -> tuple[torch.Tensor, torch.Tensor]:
    at = (torch.arange(SIDE) - (SIDE - 1) / 2) * PIXEL
    return at[None].expand(SIDE, SIDE), at[:, None].expand(SIDE, SIDE)


def ambient(depth: torch.Tensor) -> torch.Tensor:
    return occlusion(horizons(depth, CAMERA), normals_from_depth(depth[None], CAMERA)[0])


@pytest.mark.parametrize("tilt_deg", [0, 30, 55])
def test_a_plane_hides_nothing_from_itself(tilt_deg):
    x, _ = grid()
    slope = math.tan(math.radians(tilt_deg))
    depth = 1 / (1 - slope * x)  # z = 1 + slope X, X = x z
    inside = ambient(depth)[8:-8, 8 : -SIDE // 3]  # beyond its edge a sheet goes on as deep as it ends
    assert inside.min() > 0.96
    assert inside.mean() > 0.98


@pytest.mark.parametrize("ratio", [0.5, 1.0, 2.0])
def test_the_bottom_of_a_round_pit_sees_what_its_wall_leaves(ratio):
    """A pit of radius r and depth d: the middle of its floor sees sin^2(atan(r / d)) = r^2 / (r^2 + d^2)."""
    x, y = grid()
    radius = 14 * PIXEL
    deep = radius / ratio
    depth = torch.where(x.square() + y.square() < radius**2, 1.0, 1.0 - deep)
    middle = SIDE // 2
    found = ambient(depth)[middle - 1 : middle + 1, middle - 1 : middle + 1].mean()
    assert float(found) == pytest.approx(ratio**2 / (ratio**2 + 1), abs=0.06)
    assert ambient(depth)[middle, 8] > 0.97, "outside is open"


def test_a_wall_throws_its_shadow_away_from_the_lamp():
    x, _ = grid()
    tall = 10 * PIXEL
    depth = torch.where(x.abs() < 2 * PIXEL, 1.0 - tall, 1.0)
    horizon = horizons(depth, CAMERA)
    lamp = torch.tensor([-1.0, 0.0, -1.0]) / math.sqrt(2)  # from the left at 45 degrees: a shadow as long as the wall
    seen = visible(horizon, lamp, 0.02)[SIDE // 2]
    middle = SIDE // 2
    assert seen[: middle - 4].min() > 0.95
    assert seen[middle + 4 : middle + 8].max() < 0.05
    assert seen[middle + 18 :].min() > 0.95
    edge = int((seen[middle + 4 :] > 0.5).nonzero()[0]) + 4
    assert edge == pytest.approx(10 + 2, abs=2)
    soft = visible(horizon, lamp, 0.3)[SIDE // 2]
    assert 0.05 < soft[middle + 11] < 0.95


def test_light_from_one_side_is_hidden_by_that_side_alone():
    x, _ = grid()
    depth = torch.where(x > 10 * PIXEL, 1.0 - 20 * PIXEL, 1.0)  # a step up on the right
    horizon, normals = horizons(depth, CAMERA), normals_from_depth(depth[None], CAMERA)[0]
    at = SIDE // 2 + 6, SIDE // 2 + 6
    from_left = occlusion(horizon, normals, lambda d: (-d[0]).clamp_min(0))
    from_right = occlusion(horizon, normals, lambda d: d[0].clamp_min(0))
    assert from_left[at] > 0.95
    assert from_right[at] < 0.5
    assert torch.equal(occlusion(horizon, normals, lambda d: 0 * d[0]), torch.ones_like(depth))


def test_the_work_grows_with_the_pixels():
    """Twice the side: four times the pixels, and a few steps more for the longer reach."""

    def steps(side: int) -> int:
        from torch.utils._python_dispatch import TorchDispatchMode

        class Counted(TorchDispatchMode):
            done = 0

            def __torch_dispatch__(self, function, types, args=(), kwargs=None):
                result = function(*args, **(kwargs or {}))
                Counted.done += result.numel() if isinstance(result, torch.Tensor) else 0
                return result

        with Counted():
            horizons(torch.ones(side, side), CAMERA)
        return Counted.done

    assert steps(128) < 5.5 * steps(64)
