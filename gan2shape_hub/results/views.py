"""Pictures of a finished model from many sides, and as an animation's frames."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace

import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from gan2shape_hub.config import CameraConfig
from gan2shape_hub.rendering.camera import Pose
from gan2shape_hub.rendering.mesh_renderer import RenderedMesh, render_mesh
from gan2shape_hub.results.edit import rotate_poses, swing_angles
from gan2shape_hub.results.image_files import to_pil
from gan2shape_hub.results.layout import TILE
from gan2shape_hub.results.mesh import SheetMesh
from gan2shape_hub.results.model import Model

BACKGROUND = tuple(channel / 127.5 - 1 for channel in TILE)
"""The colour of a contact sheet's tiles, -1..1."""


def model_views(
    model: Model,
    poses: Pose,
    camera: CameraConfig,
    size: int,
    *,
    supersample: int = 2,
    picture_only: bool = False,
    background: tuple[float, float, float] = BACKGROUND,
) -> Iterator[RenderedMesh]:
    """The model as it is on ``background``, ``size`` pixels wide, one a pose; drawn on the mesh's device.

    One view at a time, so that memory does not grow with their number.
    """
    model = shrunk(model, supersample * size)
    mesh, texture, poses = model.mesh, model.texture.to(model.mesh.vertices), poses.to(model.mesh.vertices)
    for i in range(poses.batch):
        yield render_mesh(
            mesh.vertices,
            mesh.faces,
            mesh.uv,
            texture,
            poses.index(i),
            camera,
            size,
            background=background,
            supersample=supersample,
            cull_backfaces=mesh.weld is not None and mesh is model.body,  # nobody sees a closed mesh from within
            normals=mesh.normals,
            picture_only=picture_only,
        )


def shrunk(model: Model, size: int) -> Model:
    """The model with no larger a texture than views of ``size`` samples a side show: it is shrunk once, and not for
    each."""
    sides = [min(n, size) for n in model.texture.shape[1:]]
    if sides == list(model.texture.shape[1:]):
        return model
    texture = F.interpolate(model.texture[None], sides, mode="bilinear", align_corners=True, antialias=True)[0]
    return replace(model, texture=texture)


def model_picture(model: Model, pose: Pose, camera: CameraConfig, size: int) -> Image.Image:
    """One view of `model_views` alone, for a little more than half of its time and hard to tell apart."""
    view = next(model_views(model, pose, camera, round(SAMPLES * size), supersample=1, picture_only=True))
    return to_pil(view.image).resize((size, size), Image.Resampling.LANCZOS)


SAMPLES = 1.25
"""Of a `model_picture` for each pixel and direction."""
PATHS = ("turn", "nod", "orbit")
"""How a turntable moves: from side to side, up and down, or around."""


def turntable_frames(
    model: Model,
    camera: CameraConfig,
    *,
    yaw_limit_deg: float,
    path: str = "turn",
    frames: int = 48,
    size: int = 384,
) -> Iterator[Image.Image]:
    """RGB frames about the object's middle, drawn one at a time; they loop without a jump.

    ``path`` (of `PATHS`): ``turn`` swings by ``yaw_limit_deg`` to each side, ``nod`` by a third of it up and down,
    ``orbit`` goes once around. A way back shows the views of the way there, which are rendered once.
    """
    if path == "orbit":
        angles = [(360 * i / frames, 0.0) for i in range(frames)]
    else:
        angles = swing_angles(frames, yaw_limit_deg)
        angles = angles if path == "turn" else [(0.0, yaw / 3) for yaw, _ in angles]
    poses = frame_poses(rotate_poses(angles, camera, pivot=middle(model.body)), model.body, camera)
    model = shrunk(model, round(SAMPLES * size))
    drawn: dict[tuple[float, float], Image.Image] = {}
    for i, (yaw, pitch) in enumerate(angles):
        key = (round(yaw, 6), round(pitch, 6))
        if key not in drawn:
            drawn[key] = model_picture(model, poses.index(i), camera, size)
        yield drawn[key]


def frame_poses(poses: Pose, mesh: SheetMesh, camera: CameraConfig, largest: float = 1.5) -> Pose:
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
