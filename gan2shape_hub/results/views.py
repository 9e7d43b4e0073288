"""Pictures of a finished sheet mesh: textured, as clay, and as an animation's frames."""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from PIL import Image
from torch import Tensor

from gan2shape_hub.config import CameraConfig
from gan2shape_hub.rendering.camera import Pose
from gan2shape_hub.rendering.mesh_renderer import render_mesh
from gan2shape_hub.results.edit import rotate_poses, swing_angles
from gan2shape_hub.results.image_files import to_pil
from gan2shape_hub.results.layout import TILE
from gan2shape_hub.results.mesh import SheetMesh

BACKGROUND = tuple(channel / 127.5 - 1 for channel in TILE)
"""The colour of a contact sheet's tiles, -1..1."""


def textured_views(mesh: SheetMesh, texture: Tensor, poses: Pose, camera: CameraConfig, size: int) -> Iterator[Tensor]:
    """Pictures (3, size, size) in -1..1 of the mesh with ``texture`` (3, T, T), one a pose, on `BACKGROUND`.

    One view at a time, so that memory does not grow with their number; drawn on the mesh's device.
    """
    texture, poses = texture.to(mesh.vertices), poses.to(mesh.vertices)
    for i in range(poses.batch):
        view = render_mesh(
            mesh.vertices, mesh.faces, mesh.uv, texture, poses.index(i), camera, size, background=BACKGROUND
        )
        yield view.image[0]


def clay_views(mesh: SheetMesh, poses: Pose, camera: CameraConfig, size: int) -> Iterator[Tensor]:
    """Pictures (3, size, size) in -1..1 of the bare shape under lights that stay with the viewer, one a pose."""
    blank, poses = mesh.vertices.new_zeros(3, 2, 2), poses.to(mesh.vertices)
    for i in range(poses.batch):
        pose = poses.index(i)
        yield render_mesh(
            mesh.vertices, mesh.faces, mesh.uv, blank, pose, camera, size, background=BACKGROUND, shaded_only=True
        ).image[0]


def turntable_frames(
    mesh: SheetMesh,
    texture: Tensor,
    camera: CameraConfig,
    *,
    yaw_limit_deg: float,
    frames: int = 48,
    size: int = 384,
) -> Iterator[Image.Image]:
    """RGB frames of a swing from side to side about the mesh's middle, drawn one at a time; loops without a jump.

    The way back shows the views of the way there, so only about half of the frames are rendered.
    """
    angles = swing_angles(frames, yaw_limit_deg)
    poses = frame_poses(rotate_poses(angles, camera, pivot=middle(mesh)), mesh, camera)
    drawn: dict[float, Image.Image] = {}
    for i, (yaw, _) in enumerate(angles):
        key = round(yaw, 6)
        if key not in drawn:
            drawn[key] = to_pil(next(textured_views(mesh, texture, poses.index(i), camera, size)))
        yield drawn[key]


def frame_poses(poses: Pose, mesh: SheetMesh, camera: CameraConfig, largest: float = 1.2) -> Pose:
    """``poses``, each moved so that the mesh's middle is in the middle of the picture, and back by one common distance
    so that the mesh fits.

    At most by the factor ``largest``: a head should not shrink for the corners of the wall behind it.
    """
    center = poses.apply(middle(mesh).view(1, 1, 3).expand(poses.batch, 1, 3), camera)[:, 0]
    shift = -center
    shift[:, 2] = 0
    centred = Pose(poses.rotation, poses.translation + shift)
    half = math.tan(math.radians(camera.fov_deg) / 2)
    back = 0.0
    for i in range(poses.batch):
        x, y, z = centred.index(i).apply(mesh.vertices[None], camera)[0].unbind(-1)
        needed = torch.maximum(x.abs(), y.abs()) / (half * 0.97) - z  # what brings each vertex inside
        back = max(back, needed.max().item())
    shift[:, 2] = min(back, (largest - 1) * camera.center_depth)
    return Pose(poses.rotation, poses.translation + shift)


def middle(mesh: SheetMesh) -> Tensor:
    """(3,) centre of the mesh's bounding box, the pivot that keeps it within the image at large angles."""
    return (mesh.vertices.amin(0) + mesh.vertices.amax(0)) / 2
