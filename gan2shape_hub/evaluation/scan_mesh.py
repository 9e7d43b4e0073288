"""A textured scan of a real head: where it comes from, and what is known of it. Nothing is trained on it.

The head is ``james`` of menpo3d 0.8.6 (BSD-3-Clause), read out of the source archive, of which nothing is installed.
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from gan2shape_hub.evaluation.pinned import PinnedArchive

SCAN = PinnedArchive(
    package="menpo3d==0.8.6",
    name="menpo3d-0.8.6.tar.gz",
    sha256="96ad2c8b55b74e026cdc190cf6b1564ad7c8e6c53976cf897d6a1bf4940f084a",
)
MESH, TEXTURE = (f"menpo3d-0.8.6/menpo3d/data/james.{suffix}" for suffix in ("obj", "jpg"))
# MediaPipe's mesh of the picture from the front, clockwise from the middle of the forehead, in thousandths.
_OUTLINE = """
44 -231, 104 -227, 152 -217, 195 -198, 221 -171, 235 -137, 241 -100, 240 -53, 236 -8, 234 38, 229 89, 217 141, 200 184,
181 216, 155 245, 131 264, 106 281, 75 293, 33 297, -11 294, -47 283, -80 266, -112 247, -148 217, -178 184, -203 139,
-218 84, -224 32, -225 -16, -225 -63, -217 -112, -200 -150, -173 -184, -133 -210, -77 -226, -20 -232
"""
_FACE_WIDTH, _FACE_BACK = 0.461, -0.05


@dataclass(frozen=True)
class Scan:
    """A head of known shape. Unit: the longer side of its front view; origin: the middle of its bounding box; x right,
    y down, z away from the camera."""

    vertices: Tensor
    """(V, 3) float32."""
    faces: Tensor
    """(F, 3) int64, right-hand normals outward."""
    uv: Tensor
    """(V, 2) as `render_mesh` takes it."""
    texture: Tensor
    """(3, H, W) in -1..1, as photographed."""
    outline: Tensor
    """(M, 2) x and y of the face's outline seen from the front, in order."""
    face_width: float
    """Distance of the outline's points before the ears, the unit of errors."""
    face_back: float
    """z that nothing of the face lies behind: a turned head shows hair there, inside the outline of the front."""


def load_scan(folder: str | Path | None = None) -> Scan:
    """The head out of menpo3d's archive in ``folder`` (default: the user's cache), downloaded if it is not there.

    EvaluationError: it cannot be downloaded, or is another file.
    """
    mesh, picture = SCAN.read(SCAN.fetch(folder), MESH, TEXTURE)
    texture = np.array(Image.open(io.BytesIO(picture)).convert("RGB"))
    vertices, faces, uv = parse_obj(mesh.decode("ascii"))
    vertices = vertices * torch.tensor([1.0, -1.0, -1.0])  # OBJ: y up, z toward the viewer
    low, high = vertices.amin(0), vertices.amax(0)
    size = torch.tensor([texture.shape[1], texture.shape[0]])
    # OBJ counts v upward from the picture's lower edge; 0 and 1 become the first and the last texel's centre.
    uv = (torch.stack((uv[:, 0], 1 - uv[:, 1]), 1) * size - 0.5) / (size - 1)
    return Scan(
        vertices=(vertices - (low + high) / 2) / (high - low)[:2].max(),
        faces=faces,
        uv=uv,
        texture=torch.from_numpy(texture).permute(2, 0, 1).float() / 127.5 - 1,
        outline=torch.tensor([[int(v) for v in pair.split()] for pair in _OUTLINE.split(",")]) / 1000,
        face_width=_FACE_WIDTH,
        face_back=_FACE_BACK,
    )


def parse_obj(text: str) -> tuple[Tensor, Tensor, Tensor]:
    """Vertices (V, 3), faces (F, 3) and texture coordinates (V, 2), as written, of a Wavefront OBJ of triangles.

    A vertex that has several texture coordinates (a seam) becomes several. ValueError: a face that is no triangle with
    texture coordinates.
    """
    rows: dict[str, list[list[str]]] = {"v": [], "vt": [], "f": []}
    for line in text.splitlines():
        key, *values = line.split() or [""]
        if key in rows:
            rows[key].append(values)
    try:
        corners = torch.tensor([[[int(i) for i in c.split("/")[:2]] for c in face] for face in rows["f"]]) - 1
        corners = corners.reshape(-1, 3, 2)
    except (ValueError, RuntimeError):
        raise ValueError("the OBJ has a face that is not three corners vertex/texture: triangulate it.") from None
    pairs, index = torch.unique(corners.reshape(-1, 2), dim=0, return_inverse=True)
    points = torch.tensor([[float(x) for x in row[:3]] for row in rows["v"]])
    places = torch.tensor([[float(x) for x in row[:2]] for row in rows["vt"]])
    return points[pairs[:, 0]], index.reshape(-1, 3), places[pairs[:, 1]]
