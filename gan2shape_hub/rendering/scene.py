"""A scene of canonical depth, albedo, view and light to an image (paper section 3.1)."""

from __future__ import annotations

import dataclasses
import math

import torch
import torch.nn.functional as F
from torch import Tensor

from gan2shape_hub.config import CameraConfig
from gan2shape_hub.records import Scene
from gan2shape_hub.rendering.camera import Pose, project, unproject
from gan2shape_hub.rendering.renderer import RenderedView, render_view, visible_from
from gan2shape_hub.rendering.shading import Light, normals_from_depth, shade


def render_scene(
    depth: Tensor,
    albedo: Tensor,
    view: Tensor,
    light: Tensor,
    camera: CameraConfig,
    owner: Tensor | None = None,
) -> tuple[RenderedView, Tensor]:
    """Render scenes under views and lights.

    Args:
        depth: (K, S, S); albedo: (K, 3, S, S) in -1..1.
        view: (N, 6), light: (N, 4) in network-output units.
        owner: (N) index of each view's scene; None where N == K.

    Returns:
        the views (image (N, 3, S, S), mask (N, 1, S, S), ...) and the diffuse shading (N, 1, S, S).
    """
    normals = normals_from_depth(depth, camera)
    if owner is not None:
        depth, albedo, normals = depth[owner], albedo[owner], normals[owner]
    texture, diffuse = shade(albedo, normals, Light.from_output(light))
    return render_view(depth, texture, Pose.from_view(view, camera), camera), diffuse


def photograph_texture(
    images: Tensor, depth: Tensor, pose: Pose, old: Light, new: Light, camera: CameraConfig
) -> tuple[Tensor, Tensor]:
    """Photographs' own pixels in the canonical frame under new lights, and which of them the photographs show.

    While the albedo is still anybody's face, its renders pull every projection toward that face; the photograph's
    pixels times new over old shading keep the person, and cost no more.

    Args:
        images: (N, 3, S, S) in -1..1; depth: (N, S, S) canonical; pose: canonical frame to the photographs' views.
        old, new: the photographs' lights and the wanted ones.

    Returns:
        texture (N, 3, S, S) in about -1..1 and visibility (N, 1, S, S) of 0 and 1.
    """
    texture = canonical(images, depth, pose, camera)
    normals = normals_from_depth(depth, camera)
    white = torch.ones_like(texture)
    wanted, present = shade(white, normals, new)[0] + 1, shade(white, normals, old)[0] + 1
    ratio = (wanted / present.clamp_min(0.1)).clamp(0.5, 1.6)
    return (texture / 2 + 0.5) * ratio * 2 - 1, visible_from(depth, pose, camera)


def canonical(images: Tensor, depth: Tensor, pose: Pose, camera: CameraConfig, padding: str = "border") -> Tensor:
    """What ``images`` (N, C, S, S), taken from ``pose``, show at each pixel of the canonical sheet ``depth`` (N, S, S):
    (N, C, S, S). What they do not show is what hides it, or outside the frame as ``padding`` of grid_sample has it."""
    size = depth.shape[-1]
    grid = project(pose.apply(unproject(depth, camera), camera), camera, (size, size)) * (2 / (size - 1)) - 1
    return F.grid_sample(images, grid, padding_mode=padding, align_corners=True)


def turn_between(start: Pose, end: Pose, camera: CameraConfig) -> Tensor:
    """Pitch and yaw (B, 2), in view units, of the rotation from ``start`` to ``end``."""
    rotation = end.rotation @ start.rotation.transpose(1, 2)
    pitch = torch.atan2(rotation[:, 2, 1], rotation[:, 2, 2])
    yaw = torch.asin((-rotation[:, 2, 0]).clamp(-1, 1))
    return torch.stack([pitch, yaw], dim=1) / math.radians(camera.view_angle_deg)


def smoothness(maps: Tensor) -> Tensor:
    """Mean absolute second difference of (..., H, W) along both axes (scalar)."""
    dx = maps[..., :, 1:] - maps[..., :, :-1]
    dy = maps[..., 1:, :] - maps[..., :-1, :]
    second = [dx[..., :, 1:] - dx[..., :, :-1], dx[..., 1:, :] - dx[..., :-1, :], dy[..., 1:, :] - dy[..., :-1, :]]
    return sum(d.abs().mean() for d in second)


def perturbed_light(light: Tensor, direction: Tensor, extra_diffuse: Tensor, ambient_per_diffuse: float) -> Tensor:
    """Light outputs (N, 4) with a new direction (N, 2), diffuse raised by ``extra_diffuse`` (N) and ambient changed
    by ``ambient_per_diffuse`` times that; both in strengths of 0..1 (a network output of 2 is a strength of 1)."""
    ambient = light[:, 0] + 2 * ambient_per_diffuse * extra_diffuse
    diffuse = light[:, 1] + 2 * extra_diffuse
    return torch.cat([ambient[:, None], diffuse[:, None], direction], dim=1)


def resized_scene(scene: Scene, side: int) -> Scene:
    """``scene`` with sheets, depth (K, S, S) and albedo (K, 3, S, S), of another side; itself where it has it."""
    if scene.depth.shape[-1] == side:
        return scene
    return dataclasses.replace(
        scene, depth=resized(scene.depth[:, None], side)[:, 0], albedo=resized(scene.albedo, side)
    )


def resized(maps: Tensor, side: int) -> Tensor:
    """(B, C, S, S) as (B, C, side, side), edges onto edges, as photographs are shrunk to what the networks see."""
    if maps.shape[-1] == side:
        return maps
    if side < maps.shape[-1]:
        return F.interpolate(maps, (side, side), mode="area")
    return F.interpolate(maps, (side, side), mode="bilinear", align_corners=False)
