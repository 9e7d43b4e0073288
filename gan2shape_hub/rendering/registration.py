"""From where a picture shows a sheet whose colours are known already from another side.

The pose, and what is left then: a smooth shift of the picture. A generator's turned head is not exactly the same head,
and a relief is not exactly its shape.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from gan2shape_hub.config import CameraConfig, DetailsConfig
from gan2shape_hub.rendering.camera import Pose, project, unproject
from gan2shape_hub.rendering.details import details

SIDE = 64
"""Pixels of what is compared, at most."""
GRID = 7
"""Side of the coarse grid of the shift."""
POSE_STEPS, SHIFT_STEPS = 40, 40
"""Iterations for the pose alone, and for the pose and the shift."""
ANGLE_RATE, MOVE_RATE, SHIFT_RATE = 0.012, 0.002, 0.006
"""Adam's steps: radians, scene units, and half sides of the picture."""
HELD, FREE_DEG = 0.01, 6.0
"""Weight of the turn away from the start, and the degrees that count one: details repeat, far away too."""
BENDING, LENGTH = 2.0, 0.3
"""Weights of the shift's second differences and of its mean square (times 100)."""


@dataclass(frozen=True)
class Registration:
    """Of N pictures."""

    pose: Pose
    """Canonical frame to the pictures' views."""
    shift: Tensor
    """(N, 2, GRID, GRID), x before y, in half sides of the picture: what the sheet shows at a place of its view, the
    picture shows so much further on."""

    def aligned(self, images: Tensor) -> Tensor:
        """``images`` (N, C, T, T) as they would be without the shift."""
        side = images.shape[-1]
        at = (torch.arange(side).to(images) * 2 + 1) / side - 1
        y, x = torch.meshgrid(at, at, indexing="ij")
        grid = torch.stack((x, y), -1).expand(len(images), side, side, 2)
        return F.grid_sample(images, grid + _shift_at(self.shift, grid), padding_mode="border", align_corners=False)


@torch.enable_grad()
def register(
    colours: Tensor,
    weight: Tensor,
    depth: Tensor,
    images: Tensor,
    starts: Pose,
    camera: CameraConfig,
    config: DetailsConfig,
) -> Registration:
    """Find the poses of pictures.

    Args:
        colours: (1, 3, S, S) in -1..1, canonical, and ``weight`` (N, 1, S, S) how well each pixel is known and expected
            to be seen in each picture.
        depth: (1, S, S) the sheet.
        images: (N, 3, T, T) in -1..1, edges onto edges with the sheet's view.
        starts: N poses to begin at, right to about 15 degrees.
        camera: of the sheet.
        config: what of a picture is compared: its details, for light and colours may differ.
    """
    side = min(SIDE, depth.shape[-1])
    step = depth.shape[-1] // side
    fine = details(F.interpolate(images, (side, side), mode="area"), config)
    wanted = details(F.avg_pool2d(colours, step), config)
    share = F.avg_pool2d(weight, step)
    points = F.avg_pool2d(unproject(depth, camera).movedim(-1, 1), step).movedim(1, -1)
    share = share / share.mean((1, 2, 3), keepdim=True).clamp_min(1e-6)
    # The first three are angles, the others translations.
    moved = torch.zeros(len(images), 6, device=depth.device, requires_grad=True)
    shift = torch.zeros(len(images), 2, GRID, GRID, device=depth.device, requires_grad=True)
    scale = moved.new_tensor((ANGLE_RATE,) * 3 + (MOVE_RATE,) * 3)

    def pose() -> Pose:
        steps = moved * scale
        return Pose.from_angles(steps[:, :3], steps[:, 3:]).compose(starts)

    def loss(target: Tensor, seen: Tensor, bent: bool) -> Tensor:
        place = project(pose().apply(points, camera), camera, depth.shape[-2:])
        grid = (2 * place + 1) / depth.shape[-1] - 1
        if bent:
            grid = grid + _shift_at(shift * SHIFT_RATE, grid)
        found = F.grid_sample(seen, grid, padding_mode="border", align_corners=False)
        error = ((found - target).square().mean(1, keepdim=True) + 1e-3).sqrt()
        turned = (moved * scale)[:, :3] / math.radians(FREE_DEG)
        return (error * share * (grid.abs() <= 1).all(-1)[:, None]).mean() + HELD * turned.square().sum(1).mean()

    soft = [F.avg_pool2d(x, 5, 1, 2, count_include_pad=False) for x in (wanted, fine)]
    optimiser = torch.optim.Adam([moved], lr=1.0, betas=(0.8, 0.95))
    for number in range(POSE_STEPS):
        optimiser.param_groups[0]["lr"] = 1.5 * (1 - 0.8 * number / POSE_STEPS)
        optimiser.zero_grad(set_to_none=True)
        loss(*soft, False).backward()
        optimiser.step()
    optimiser = torch.optim.Adam([moved, shift], lr=1.0, betas=(0.8, 0.95))
    for number in range(SHIFT_STEPS):
        optimiser.param_groups[0]["lr"] = 0.5 * (1 - 0.8 * number / SHIFT_STEPS)
        optimiser.zero_grad(set_to_none=True)
        (loss(wanted, fine, True) + _bending(shift * SHIFT_RATE)).backward()
        optimiser.step()
    found = pose().detach()
    return Registration(found, shift.detach() * SHIFT_RATE)


def _shift_at(shift: Tensor, grid: Tensor) -> Tensor:
    """(N, H, W, 2): the coarse ``shift`` at places ``grid`` (N, H, W, 2) of the pictures."""
    return F.grid_sample(shift, grid, padding_mode="border", align_corners=True).movedim(1, -1)


def _bending(shift: Tensor) -> Tensor:
    """How far a shift is from none at all and from an even one."""
    across = shift[..., 2:] - 2 * shift[..., 1:-1] + shift[..., :-2]
    down = shift[..., 2:, :] - 2 * shift[..., 1:-1, :] + shift[..., :-2, :]
    return 100 * (BENDING * (across.square().mean() + down.square().mean()) + LENGTH * shift.square().mean())
