"""Relighting and turning fast enough for a slider: what does not depend on the light or the angle is computed once."""

from __future__ import annotations

import math

import torch
from PIL import Image
from torch import Tensor

from gan2shape_hub.reconstruction import Reconstruction
from gan2shape_hub.rendering import Light, render_mesh
from gan2shape_hub.results.edit import LIGHT_PRESETS, make_light, rotate_poses
from gan2shape_hub.results.image_files import to_pil
from gan2shape_hub.results.mesh import build_mesh
from gan2shape_hub.results.viewer import resized_texture
from gan2shape_hub.results.views import BACKGROUND, frame_poses, middle

EDGE = 0.97
"""The light never comes from further round than this part of the ball's radius: beyond it only rims are lit."""


def light_from_ball(right: float, up: float, ambient: float, diffuse: float, like: Tensor | None = None) -> Light:
    """The light at a point of a ball in front of the face.

    Args:
        right, up: where on the ball the light sits, -1..1, 0 being the camera; beyond the ball's edge: at its edge.
        ambient, diffuse: 0 or more.

    Returns:
        A light, batch of one. ValueError where a number is not finite or is negative.
    """
    radius = math.hypot(right, up)
    if radius > EDGE:
        right, up = right / radius * EDGE, up / radius * EDGE
    toward = math.sqrt(max(1 - right * right - up * up, 0.0)) if math.isfinite(radius) else 0.0
    return make_light(-right, up, ambient, diffuse, direction_z=toward, like=like)


def ball_of_preset(name: str) -> tuple[float, float, float, float]:
    """(right, up, ambient, diffuse) of a light of `LIGHT_PRESETS`, as `light_from_ball` takes them."""
    ambient, diffuse, (x, y, z) = LIGHT_PRESETS[name]
    length = math.sqrt(x * x + y * y + z * z)
    return round(-x / length, 3), round(y / length, 3), ambient, diffuse


class QuickLook:
    """A reconstruction at ``size`` pixels, ready to be relit and turned.

    ``relight`` makes the pictures of ``Reconstruction.relight``.
    """

    @torch.no_grad()
    def __init__(self, result: Reconstruction, size: int = 256) -> None:
        self._result, self.size = result, size
        self._texture = resized_texture(result.texture, size)
        self._frame = result.viewer.frame(result.pose, size)
        self._sheet = build_mesh(result.depth, result.config.camera, upsample=1)

    @torch.no_grad()
    def relight(self, light: Light) -> Image.Image:
        """The photograph under ``light`` (batch of one)."""
        return self._frame.draw(None, self._result.viewer.relighting(light))

    @torch.no_grad()
    def turn(self, yaw_deg: float, pitch_deg: float, *, shaded_only: bool = False, supersample: int = 1) -> Image.Image:
        """The textured mesh (or the bare shape) turned from the photograph's view."""
        camera, sheet = self._result.config.camera, self._sheet
        poses = rotate_poses([(yaw_deg, pitch_deg)], camera, start=self._result.pose, pivot=middle(sheet))
        poses = frame_poses(poses, sheet, camera)
        return to_pil(
            render_mesh(
                sheet.vertices,
                sheet.faces,
                sheet.uv,
                self._texture[0],
                poses,
                camera,
                self.size,
                background=BACKGROUND,
                shaded_only=shaded_only,
                supersample=supersample,
            ).image[0]
        )
