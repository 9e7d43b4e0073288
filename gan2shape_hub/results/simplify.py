"""Fewer triangles for the same sheet: quadric edge collapse (Garland and Heckbert, 1997) by fast-simplification."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch

from gan2shape_hub.config import CameraConfig
from gan2shape_hub.rendering.camera import project
from gan2shape_hub.results.mesh import SheetMesh
from gan2shape_hub.results.outline import border_edges

UNFOLDING = 50
"""Steps after which what is still folded stays."""
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
    return _unfolded(SheetMesh(vertices, torch.from_numpy(triangles.astype(np.int64)), uv))


def _unfolded(sheet: SheetMesh) -> SheetMesh:
    """The same with inner vertices moved to the middle of their neighbours where the camera would see a face from
    behind: a back that lies behind such a sheet would cut through it."""
    vertices, uv, faces = sheet.vertices, sheet.uv, sheet.faces
    rim = torch.zeros(len(vertices), dtype=torch.bool)
    rim[torch.from_numpy(border_edges(faces.numpy()))] = True
    ends = torch.stack((faces.flatten(), faces.roll(-1, 1).flatten()))
    share = torch.bincount(ends[0], minlength=len(vertices)).clamp_min(1)[:, None]
    for _ in range(UNFOLDING):
        one, other = (uv[faces[:, k]] - uv[faces[:, 0]] for k in (1, 2))
        folded = one[:, 0] * other[:, 1] - one[:, 1] * other[:, 0] >= 0
        if not folded.any():
            break
        moving = torch.zeros_like(rim)
        moving[faces[folded]] = True
        moving = (moving & ~rim)[:, None]
        both = torch.cat((vertices, uv), 1)
        mean = torch.zeros_like(both).index_add_(0, ends[0], both[ends[1]]) / share
        vertices, uv = torch.where(moving, mean, both).split((3, 2), 1)
    return replace(sheet, vertices=vertices, uv=uv)
