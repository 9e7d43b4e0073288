"""Fewer triangles for the same sheet: quadric edge collapse (Garland and Heckbert, 1997) by fast-simplification."""

from __future__ import annotations

import numpy as np
import torch

from gan2shape_hub.config import CameraConfig
from gan2shape_hub.rendering.camera import project
from gan2shape_hub.results.mesh import SheetMesh

FRAME = 1e-3
"""Parts of the picture's side within which a vertex has been on its frame and goes back to it."""


def simplify(sheet: SheetMesh, faces: int, camera: CameraConfig) -> SheetMesh:
    """``sheet`` with ``faces`` triangles at most, about; itself where it has no more. Texture coordinates are where its
    new vertices are seen, as before."""
    if len(sheet.faces) <= faces:
        return sheet
    import fast_simplification

    centre = sheet.vertices.mean(0)
    points, triangles = fast_simplification.simplify(
        (sheet.vertices - centre).numpy().astype(np.float32), sheet.faces.numpy().astype(np.int32), target_count=faces
    )
    vertices = torch.from_numpy(points).float() + centre
    uv = project(vertices, camera, (2, 2)).clamp(0, 1)
    low, high = sheet.uv.amin(0), sheet.uv.amax(0)
    uv = torch.where(uv < low + FRAME, low, torch.where(uv > high - FRAME, high, uv))
    spread = 2 * np.tan(np.radians(camera.fov_deg) / 2)
    z = vertices[:, 2:]
    vertices = torch.cat(((uv - 0.5) * spread * z, z), 1)
    return SheetMesh(vertices, torch.from_numpy(triangles.astype(np.int64)), uv)
