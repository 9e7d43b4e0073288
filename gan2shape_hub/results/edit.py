"""Edits of a finished reconstruction: other viewpoints and other light. Pure functions of the canonical scene."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from gan2shape_hub.config import CameraConfig
from gan2shape_hub.rendering.camera import Pose
from gan2shape_hub.rendering.shading import Light, normals_from_depth
from gan2shape_hub.results.texture import smooth, without_border

LIGHT_PRESETS: dict[str, tuple[float, float, tuple[float, float, float]]] = {
    "left": (0.42, 0.80, (1.3, 0.25, 1.0)),
    "right": (0.42, 0.80, (-1.3, 0.25, 1.0)),
    "top": (0.42, 0.80, (0.0, 1.1, 1.0)),
    "below": (0.42, 0.80, (0.0, -1.1, 1.0)),
    "rim": (0.30, 1.00, (1.6, 0.2, 0.4)),
    "flat": (0.90, 0.12, (0.0, 0.0, 1.0)),
}
"""Name -> ambient, diffuse, direction the rays travel (x > 0: from the image's left, y > 0: from above)."""

SHADING_BLUR = 5.0
"""Pixels of a 128 pixel sheet: finer relief is too noisy to cast light on a photograph."""
STANDS_OUT = (0.25, 0.6)
"""Parts of the relief, counted from the background, between which a point begins to be shaded by its own normal."""
EDGE = 0.08
"""Part of the sheet's side, along its edges, where nothing is known of the normals."""
RATIO_LIMITS = (0.2, 2.5)
"""Bounds of new over old shading: beyond them the photograph's noise is all there is to amplify."""


def make_light(
    direction_x: float = 0.0,
    direction_y: float = 0.0,
    ambient: float = 0.3,
    diffuse: float = 0.9,
    *,
    direction_z: float = 1.0,
    like: Tensor | None = None,
) -> Light:
    """One light (batch of one), on the device and of the type of ``like``.

    Args:
        direction_x, direction_y, direction_z: the way the rays travel, any length above 0. x > 0 comes from the
            image's left, y > 0 from above, z > 0 from the camera's side.
        ambient, diffuse: 0 or more; about 1 in sum for a normally exposed image.

    Raises:
        ValueError: a number is not finite, negative where it may not be, or the direction has no length.
    """
    values = (direction_x, direction_y, direction_z, ambient, diffuse)
    if not all(math.isfinite(v) for v in values):
        raise ValueError(f"light has {values}, must be finite numbers.")
    for name, value in (("ambient", ambient), ("diffuse", diffuse)):
        if value < 0:
            raise ValueError(f"light.{name} is {value}, must be 0 or more.")
    direction = torch.tensor([[direction_x, direction_y, direction_z]], dtype=torch.float32)
    if direction.norm() < 1e-6:
        raise ValueError("light direction is (0, 0, 0), must have a length above 0.")
    if like is not None:
        direction = direction.to(like)
    one = torch.ones_like(direction[:, 0])
    return Light(one * ambient, one * diffuse, F.normalize(direction, dim=1))


def preset_light(name: str, like: Tensor | None = None) -> Light:
    """The light of `LIGHT_PRESETS` called ``name``; ValueError lists the names there are."""
    if name not in LIGHT_PRESETS:
        raise ValueError(f"light preset is '{name}', must be one of {', '.join(LIGHT_PRESETS)}.")
    ambient, diffuse, (x, y, z) = LIGHT_PRESETS[name]
    return make_light(x, y, ambient, diffuse, direction_z=z, like=like)


LightLike = str | tuple[float, float] | Light
"""A preset's name (left, right, top, below, rim, flat), a direction (x, y) that the rays travel, or a Light."""


def as_light(light: LightLike, like: Tensor | None = None) -> Light:
    """The Light, batch of one, that ``light`` means; ValueError where it means none."""
    if isinstance(light, Light):
        return light
    if isinstance(light, str):
        return preset_light(light, like=like)
    x, y = light
    return make_light(x, y, ambient=0.4, diffuse=0.75, like=like)


def paired_angles(
    yaw: float | Sequence[float], pitch: float | Sequence[float]
) -> tuple[list[float], list[float], bool]:
    """Both as lists of the same length, and whether both were single numbers; ValueError where the lengths differ."""
    single = not isinstance(yaw, Sequence) and not isinstance(pitch, Sequence)
    yaws = list(yaw) if isinstance(yaw, Sequence) else [yaw]
    pitches = list(pitch) if isinstance(pitch, Sequence) else [pitch]
    n = max(len(yaws), len(pitches))
    yaws, pitches = yaws * n if len(yaws) == 1 else yaws, pitches * n if len(pitches) == 1 else pitches
    if len(yaws) != len(pitches):
        raise ValueError(f"yaw_deg has {len(yaws)} values and pitch_deg {len(pitches)}, must be as many.")
    return yaws, pitches, single


def rotate_poses(
    angles_deg: Sequence[tuple[float, float]],
    camera: CameraConfig,
    *,
    start: Pose | None = None,
    pivot: Tensor | None = None,
) -> Pose:
    """Poses turned away from ``start``.

    Args:
        angles_deg: N pairs (yaw, pitch) in degrees. A positive yaw turns a face to the image's left, a positive pitch
            down (`Pose`).
        camera: its rotation centre is the default pivot.
        start: the pose turned from, batch of one: the input view, or None for the canonical, frontal one.
        pivot: (3,) the point that stays where it is, in the canonical frame; None is the rotation centre.
            The centre of a mesh keeps it in the middle of the image at large angles.

    Returns:
        N poses (canonical frame to view). Rotations are multiplied, Euler angles never added.
    """
    if len(angles_deg) == 0:
        raise ValueError("angles_deg is empty, must hold at least one (yaw, pitch) pair.")
    if start is None:
        start = Pose.identity(1)
    like = start.rotation
    yaw, pitch = torch.tensor(angles_deg, dtype=like.dtype, device=like.device).deg2rad().unbind(1)
    turn = Pose.from_angles(torch.stack((pitch, yaw, torch.zeros_like(yaw)), 1))
    poses = turn.compose(start.expand(len(angles_deg)))
    if pivot is None:
        return poses
    point = pivot.to(like).view(1, 1, 3)
    shift = start.apply(point, camera) - poses.apply(point.expand(len(angles_deg), 1, 3), camera)
    return Pose(poses.rotation, poses.translation + shift[:, 0])


def swing_angles(frames: int, yaw_limit_deg: float, pitch_limit_deg: float = 0.0) -> list[tuple[float, float]]:
    """(yaw, pitch) of a turntable that swings from side to side and loops without a jump; ``frames`` of 1 or more."""
    if frames < 1:
        raise ValueError(f"frames is {frames}, must be 1 or more.")
    phase = [2 * math.pi * i / frames for i in range(frames)]
    return [(yaw_limit_deg * math.sin(p), pitch_limit_deg * math.sin(2 * p)) for p in phase]


@torch.no_grad()
def relight(
    texture: Tensor,
    depth: Tensor,
    old: Light,
    new: Light,
    camera: CameraConfig,
) -> Tensor:
    """Change the light of a texture and keep its sharpness: multiply it by new over old shading.

    The background is lit as a wall that faces the camera: no view of it says how it bends.

    Args:
        texture: (3, T, T) in -1..1, canonical, lit by ``old`` (a baked photograph).
        depth: (S, S) canonical depth, scene units.
        old, new: batches of one.
        camera: of ``depth``.

    Returns:
        (3, T, T) in -1..1; ``texture`` itself where old and new shading agree. Brightening approaches white instead
        of clipping; the ratio stays within `RATIO_LIMITS`.
    """
    # A ratio of shadings shows every bump of the depth, so normals are taken from a smoothed sheet.
    sheet = without_border(depth, camera)[None, None]
    normals = normals_from_depth(smooth(sheet, SHADING_BLUR * sheet.shape[-1] / 128)[:, 0], camera)
    own = _shading(normals, new) / _shading(normals, old).clamp_min(0.05)
    matte = standing_out(sheet)
    ratio = (matte * own + (1 - matte) * _wall_ratio(old, new)).clamp(*RATIO_LIMITS)
    ratio = F.interpolate(ratio, texture.shape[-2:], mode="bicubic", align_corners=True).clamp(*RATIO_LIMITS)[0]
    return _multiplied(texture, ratio)


def relight_background(picture: Tensor, old: Light, new: Light) -> Tensor:
    """What `relight` does to the background, for pixels (B, 3, H, W) in -1..1 beyond the sheet."""
    return _multiplied(picture, _wall_ratio(old, new).clamp(*RATIO_LIMITS))


def _wall_ratio(old: Light, new: Light) -> Tensor:
    """(1, 1, 1, 1): new over old shading of what faces the camera."""
    wall = old.direction.new_tensor([0.0, 0.0, 1.0])[None, :, None, None]
    return _shading(wall, new) / _shading(wall, old).clamp_min(0.05)


def _multiplied(picture: Tensor, ratio: Tensor) -> Tensor:
    """Colours in -1..1 times a ratio of lights, soft toward white."""
    colour = (picture / 2 + 0.5).clamp(0, 1)
    headroom = (1 - colour).clamp_min(1e-4)
    brighter = colour + headroom * (1 - torch.exp(-colour * (ratio - 1).clamp_min(0) / headroom))
    return torch.where(ratio > 1, brighter, colour * ratio).clamp(0, 1) * 2 - 1


def standing_out(sheet: Tensor) -> Tensor:
    """How far each point of a sheet (1, 1, S, S) stands out of its background: 0 there and at the edges, 1 on the
    object. A flat sheet is all object."""
    size = sheet.shape[-1]
    near, far = torch.quantile(sheet.flatten(), sheet.new_tensor([0.02, 0.98])).tolist()
    if far - near < 1e-3:
        return torch.ones_like(sheet)
    low, high = STANDS_OUT
    matte = smooth(_step(((far - sheet) / (far - near) - low) / (high - low)), SHADING_BLUR / 2 * size / 128)
    at = torch.arange(size, device=sheet.device, dtype=sheet.dtype) / max(size - 1, 1)
    edge = _step(torch.minimum(at, 1 - at) / EDGE)
    return matte * edge[:, None] * edge


def _step(x: Tensor) -> Tensor:
    x = x.clamp(0, 1)
    return x * x * (3 - 2 * x)


def _shading(normals: Tensor, light: Light) -> Tensor:
    """(B, 1, H, W): ambient + diffuse * max(0, n . direction)."""
    diffuse = (normals * light.direction[:, :, None, None]).sum(1, keepdim=True).clamp_min(0)
    return light.ambient[:, None, None, None] + light.diffuse[:, None, None, None] * diffuse
