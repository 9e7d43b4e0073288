"""A view network taught on renders, whose poses are known.

Pool views are put on the average sheet where the view network has them now, turned by a known angle, and cut out, with
photographs' faults. Small errors of the start are the same on both sides of a turn, and average out over the crowd; how
far a turn goes is what the network learns, and it reads photographs as it reads samples.
"""

from __future__ import annotations

import math
from dataclasses import replace

import torch
from torch import Tensor

from gan2shape_hub.config import CameraConfig, CategoryConfig
from gan2shape_hub.models.shape import MIRRORED_VIEW, ShapeNets
from gan2shape_hub.rendering.camera import Pose
from gan2shape_hub.rendering.renderer import render_view
from gan2shape_hub.rendering.scene import canonical
from gan2shape_hub.training.faults import with_faults
from gan2shape_hub.training.recipe import PosesRecipe
from gan2shape_hub.training.trainer import Terms
from gan2shape_hub.training.view_pool import ViewPool

COUNTS = (1.0, 1.0, 1.0, 0.15, 0.15, 0.02)
"""Of pitch, yaw, roll and the translations, in view units."""
WORST_DEG = 30.0
"""An error counts up to this: a face that an ellipse hides cannot be read."""
ROLL_LIMIT, PITCH_LIMIT = 9.0, 22.0
MOVED = (0.0025, 0.0025, 0.02)
"""Standard deviations of the translations, scene units."""


def to_view(pose: Pose, camera: CameraConfig) -> Tensor:
    """The view network's output (B, 6) whose pose is ``pose``: the inverse of `Pose.from_view`.

    0 for a translation that the camera does not have.
    """
    r = pose.rotation
    yaw = torch.asin((-r[:, 2, 0]).clamp(-1, 1))
    pitch, roll = torch.atan2(r[:, 2, 1], r[:, 2, 2]), torch.atan2(r[:, 1, 0], r[:, 0, 0])
    angles = torch.stack((pitch, yaw, roll), 1) / math.radians(camera.view_angle_deg)
    unit = pose.translation.new_tensor([camera.view_translation_xy] * 2 + [camera.view_translation_z])
    return torch.cat((angles, torch.where(unit > 0, pose.translation / unit, 0.0)), 1)


def pose_terms(
    nets: ShapeNets, pool: ViewPool, views: Tensor, sheet: Tensor, config: CategoryConfig, recipe: PosesRecipe
) -> Terms:
    """Terms that teach ``nets.view``; ``views`` (N, V, 6) are those of the pool, ``sheet`` (S, S) the average depth."""
    plain = replace(config, average_mirrored=False)
    known = (views[..., 1].abs() * config.camera.view_angle_deg < recipe.known_deg).nonzero()
    every = torch.ones(views.shape[:2]).nonzero()
    counts = sheet.new_tensor(COUNTS) * config.camera.view_angle_deg
    signs = sheet.new_tensor(MIRRORED_VIEW)

    def draw(places: Tensor, count: int, rng: torch.Generator) -> tuple[Tensor, Tensor]:
        identity, view = places[torch.randint(len(places), (count,), generator=rng)].T
        images, masks = pool.masked(identity, view)
        return torch.cat((images * masks, masks), 1).to(sheet), views[identity, view].to(sheet)

    def terms(rng: torch.Generator) -> dict[str, Tensor]:
        rendered = round(recipe.rendered * recipe.batch) if len(known) else 0
        images, wanted = draw(every, recipe.batch - rendered, rng)
        if rendered:
            with torch.no_grad():
                found = _turned(*draw(known, rendered, rng), sheet, config.camera, recipe, rng)
            images, wanted = torch.cat((images, found[0])), torch.cat((wanted, found[1]))
        flip = (torch.rand(len(images), generator=rng) < 0.5).to(sheet.device)
        images = torch.where(flip[:, None, None, None], images.flip(-1), images)
        wanted = torch.where(flip[:, None], wanted * signs, wanted)
        inputs = with_faults(images[:, :3], rng) * images[:, 3:]
        error = ((nets.predict_view(inputs, plain) - wanted) * counts).abs().clamp(max=WORST_DEG)
        pitch, yaw = error.detach()[:, :2].mean(0)
        return {"pitch": pitch, "yaw": yaw, "loss": error.mean()}

    return terms


def _turned(
    images: Tensor, views: Tensor, sheet: Tensor, camera: CameraConfig, recipe: PosesRecipe, rng: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Cut-out images and masks (B, 4, S, S) of ``views`` (B, 6), turned by a known angle, and their new views."""
    count, start = len(images), Pose.from_view(views, camera)
    depth = sheet.expand(count, -1, -1)
    texture = canonical(images, depth, start, camera, padding="zeros")
    yaw = (torch.rand(count, generator=rng) * 2 - 1) * 50 - views[:, 1].cpu() * camera.view_angle_deg
    pitch, roll = (torch.randn(count, generator=rng) * spread for spread in (recipe.pitch_deg, recipe.roll_deg))
    angles = torch.stack(
        (
            pitch.clamp(-PITCH_LIMIT, PITCH_LIMIT),
            yaw.clamp(-recipe.yaw_deg, recipe.yaw_deg),
            roll.clamp(-ROLL_LIMIT, ROLL_LIMIT),
        ),
        1,
    )
    moves = (camera.view_translation_xy, camera.view_translation_xy, camera.view_translation_z)
    moved = torch.randn(count, 3, generator=rng) * torch.tensor(MOVED) * (torch.tensor(moves) > 0)
    pose = Pose.from_angles(torch.deg2rad(angles).to(sheet), moved.to(sheet)).compose(start)
    seen = render_view(depth, texture, pose, camera)
    return seen.image * seen.mask, to_view(pose, camera)
