"""Edits of a finished reconstruction: other viewpoints and other light. Pure functions of the canonical scene."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from gan2shape_hub.arguments import finite, is_many, plain
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

SHADING_BLUR = 1.5
"""Pixels of a 128 pixel sheet: finer relief is too noisy to cast light on a photograph."""
EDGE = 0.08
"""Part of the sheet's side, along its edges, where nothing is known of the normals."""
RATIO_LIMITS = (0.5, 1.8)
"""Bounds that new over old shading approaches: beyond them the photograph's noise is all there is to amplify."""
TERMINATOR = 0.4
"""Cosine within which a surface that turns away from the light darkens softly: a lamp has a size, and skin lets light
through."""


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


LightLike = str | Sequence[float] | Light
"""A preset's name (left, right, top, below, rim, flat), a direction (x, y) or (x, y, z) that the rays travel, or a
Light."""


def as_light(light: LightLike, like: Tensor | None = None) -> Light:
    """The Light, batch of one, that ``light`` means; ValueError where it means none."""
    if isinstance(light, Light):
        if len(light.direction) != 1:
            raise ValueError(f"light holds {len(light.direction)} lights, must hold one: pass several as a list.")
        return light if like is None else Light(*(getattr(light, f.name).to(like) for f in dataclasses.fields(light)))
    if isinstance(light, str):
        return preset_light(light, like=like)
    direction = list(plain(light)) if is_many(light) else []
    if len(direction) not in (2, 3):
        raise ValueError(
            f"light is {light!r}, must be {', '.join(LIGHT_PRESETS)}, a direction (x, y) or (x, y, z), or a Light."
        )
    x, y, z = (*(finite(value, "light direction") for value in direction), 1.0)[:3]
    return make_light(x, y, ambient=0.4, diffuse=0.75, direction_z=z, like=like)


def several_lights(light: LightLike | Sequence[LightLike]) -> list[LightLike] | None:
    """The lights of a sequence of them; None where ``light`` is a single one."""
    if isinstance(light, Light) or not is_many(light):
        return None
    lights = list(plain(light))
    single = lights and not any(isinstance(item, (str, Light)) or is_many(item) for item in lights)
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


@torch.no_grad()
def relight(
    texture: Tensor, depth: Tensor, old: Light, new: Light, camera: CameraConfig, matte: Tensor | None = None
) -> Tensor:
    """Change the light of a texture and keep its sharpness: multiply it by new over old shading.

    The background is lit as a wall that faces the camera: no view of it says how it bends.

    Args:
        texture: (3, T, T) in -1..1, canonical, lit by ``old`` (a baked photograph).
        depth: (S, S) canonical depth, scene units.
        old, new: batches of one.
        camera: of ``depth``.
        matte: (1, 1, any, any) canonical, in 0..1: 1 on the object. None: all of it.

    Returns:
        (3, T, T) in -1..1; ``texture`` itself where old and new shading agree. Brightening approaches white instead
        of clipping; the ratio stays within `RATIO_LIMITS`.
    """
    ratio, wall = shading_ratio(depth, old, new, camera), wall_ratio(old, new)
    if matte is not None:
        ratio = wall + _resized(matte, ratio.shape[-1]) * (ratio - wall)
    return multiplied(texture, _resized(ratio, texture.shape[-1])[0])


@torch.no_grad()
def shading_ratio(depth: Tensor, old: Light, new: Light, camera: CameraConfig) -> Tensor:
    """(1, 1, S, S): new over old shading of the canonical sheet ``depth`` (S, S), at its edges that of a wall."""
    # A ratio of shadings shows every bump of the depth, so normals are taken from a smoothed sheet.
    sheet, size = without_border(depth, camera)[None, None], depth.shape[-1]
    normals = normals_from_depth(smooth(sheet, SHADING_BLUR * size / 128)[:, 0], camera)
    wall = wall_ratio(old, new)
    at = torch.arange(size, device=sheet.device, dtype=sheet.dtype) / max(size - 1, 1)
    inner = _step(torch.minimum(at, 1 - at) / EDGE)
    return wall + inner[:, None] * inner * (_ratio(normals, old, new) - wall)


def wall_ratio(old: Light, new: Light) -> Tensor:
    """(1, 1, 1, 1): new over old shading of what faces the camera."""
    return _ratio(old.direction.new_tensor([0.0, 0.0, 1.0])[None, :, None, None], old, new)


def multiplied(picture: Tensor, ratio: Tensor) -> Tensor:
    """Colours in -1..1 times a ratio of lights, soft toward white."""
    colour = (picture / 2 + 0.5).clamp(0, 1)
    headroom = (1 - colour).clamp_min(1e-4)
    brighter = colour + headroom * (1 - torch.exp(-colour * (ratio - 1).clamp_min(0) / headroom))
    return torch.where(ratio > 1, brighter, colour * ratio).clamp(0, 1) * 2 - 1


def _resized(maps: Tensor, size: int) -> Tensor:
    """(1, 1, S, S) -> (1, 1, size, size), corner pixels onto corner pixels, between the values that there are."""
    if maps.shape[-1] == size:
        return maps
    low, high = maps.amin(), maps.amax()
    return F.interpolate(maps, (size, size), mode="bicubic", align_corners=True).clamp(low, high)


def _step(x: Tensor) -> Tensor:
    x = x.clamp(0, 1)
    return x * x * (3 - 2 * x)


def _ratio(normals: Tensor, old: Light, new: Light) -> Tensor:
    """(B, 1, H, W) new over old shading of ``normals`` (B, 3, H, W), drawn softly into `RATIO_LIMITS`."""
    ratio = (_shading(normals, new) / _shading(normals, old).clamp_min(0.05)).clamp_min(1e-3).log()
    low, high = (math.log(limit) for limit in RATIO_LIMITS)
    return torch.where(ratio < 0, low * torch.tanh(ratio / low), high * torch.tanh(ratio / high)).exp()


def _shading(normals: Tensor, light: Light) -> Tensor:
    """(B, 1, H, W): ambient + diffuse * max(0, n . direction), its bend rounded off over `TERMINATOR`."""
    cosine = (normals * light.direction[:, :, None, None]).sum(1, keepdim=True)
    diffuse = (cosine + (cosine.square() + TERMINATOR**2).sqrt()) / 2
    return light.ambient[:, None, None, None] + light.diffuse[:, None, None, None] * diffuse
