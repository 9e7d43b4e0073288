"""What edits of a finished reconstruction are asked with: lights, angles and poses."""

from __future__ import annotations

import dataclasses
import math
import os
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from gan2shape_hub.arguments import finite, is_many, plain
from gan2shape_hub.config import CameraConfig
from gan2shape_hub.reading.panorama import read_panorama
from gan2shape_hub.rendering.camera import Pose
from gan2shape_hub.rendering.environment import ENVIRONMENTS, Environment, from_panorama, named
from gan2shape_hub.rendering.shading import Light

LIGHT_PRESETS: dict[str, tuple[float, float, tuple[float, float, float]]] = {
    "left": (0.42, 0.80, (1.3, 0.25, 1.0)),
    "right": (0.42, 0.80, (-1.3, 0.25, 1.0)),
    "top": (0.42, 0.80, (0.0, 1.1, 1.0)),
    "below": (0.42, 0.80, (0.0, -1.1, 1.0)),
    "rim": (0.30, 1.00, (1.6, 0.2, 0.4)),
    "flat": (0.90, 0.12, (0.0, 0.0, 1.0)),
}
"""Name -> ambient, diffuse, direction the rays travel (x > 0: from the image's left, y > 0: from above)."""


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


LightLike = str | os.PathLike | Sequence[float] | Light | Environment
"""A preset's name (left, right, top, below, rim, flat) or an environment's (studio, window, sunset), a direction (x, y)
or (x, y, z) that the rays travel, a Light, an Environment, or the path (no text) of a panorama that lights."""


def check_light(name: str) -> None:
    """ValueError where ``name`` is no light's, before anything is computed."""
    if name not in LIGHT_PRESETS and name not in ENVIRONMENTS:
        raise ValueError(f"light preset is '{name}', must be one of {', '.join((*LIGHT_PRESETS, *ENVIRONMENTS))}.")


def as_light(light: LightLike, like: Tensor | None = None) -> Light | Environment:
    """The light that ``light`` means, of a batch of one; ValueError where it means none. A panorama is made as bright
    as a photograph."""
    if isinstance(light, str):
        check_light(light)
        if light in LIGHT_PRESETS:
            return preset_light(light, like=like)
        light = named(light)
    if isinstance(light, os.PathLike):
        light = from_panorama(read_panorama(light)).exposed()
    if isinstance(light, Environment):
        return light if like is None else light.to(like)
    if isinstance(light, Light):
        if len(light.direction) != 1:
            raise ValueError(f"light holds {len(light.direction)} lights, must hold one: pass several as a list.")
        return light if like is None else Light(*(getattr(light, f.name).to(like) for f in dataclasses.fields(light)))
    direction = list(plain(light)) if is_many(light) else []
    if len(direction) not in (2, 3):
        names = ", ".join((*LIGHT_PRESETS, *ENVIRONMENTS))
        raise ValueError(f"light is {light!r}, must be {names}, a direction (x, y) or (x, y, z), or a Light.")
    x, y, z = (*(finite(value, "light direction") for value in direction), 1.0)[:3]
    return make_light(x, y, ambient=0.4, diffuse=0.75, direction_z=z, like=like)


def as_lamp(light: LightLike, like: Tensor | None = None) -> Light:
    """`as_light` as a single lamp, which is what the generator's walks understand: of an environment the nearest."""
    found = as_light(light, like)
    return found.light() if isinstance(found, Environment) else found


def several_lights(light: LightLike | Sequence[LightLike]) -> list[LightLike] | None:
    """The lights of a sequence of them; None where ``light`` is a single one."""
    if isinstance(light, (Light, Environment)) or not is_many(light):
        return None
    lights = list(plain(light))
    single = lights and not any(
        isinstance(item, (str, os.PathLike, Light, Environment)) or is_many(item) for item in lights
    )
    return None if single else lights


def paired_angles(
    yaw: float | Sequence[float], pitch: float | Sequence[float]
) -> tuple[list[float], list[float], bool]:
    """Both, in degrees, as lists of the same length, and whether both were single numbers; ValueError where the lengths
    differ or something is no finite number. Sequences may be arrays and tensors."""
    single = not is_many(yaw) and not is_many(pitch)
    yaws = [finite(value, "yaw_deg") for value in (plain(yaw) if is_many(yaw) else [yaw])]
    pitches = [finite(value, "pitch_deg") for value in (plain(pitch) if is_many(pitch) else [pitch])]
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
    angles_deg = [(finite(yaw, "yaw_deg"), finite(pitch, "pitch_deg")) for yaw, pitch in angles_deg]
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
