"""What a simplified mesh has lost of the sheet's relief, as a normal map."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from gan2shape_hub.config import CameraConfig
from gan2shape_hub.rendering.rasterize import rasterize
from gan2shape_hub.rendering.shading import normals_from_depth
from gan2shape_hub.results.mesh import SheetMesh
from gan2shape_hub.results.texture import upsample_depth


def bake_normal_map(mesh: SheetMesh, depth: Tensor, camera: CameraConfig, size: int) -> Tensor:
    """The sheet's normals in the tangent space of ``mesh``.

    Args:
        mesh: fewer triangles of the sheet; ``uv`` as the sheet's.
        depth: (S, S), the sheet.
        camera: of ``depth``.
        size: side T of the map.

    Returns:
        (3, T, T) unit vectors: x along growing u, y against growing v, z outward, as glTF has them; (0, 0, 1) where
        there is no mesh.
    """
    place = (mesh.uv * (size - 1))[None]
    found = rasterize(place, torch.ones_like(place[..., 0]), mesh.faces, (size, size))
    corner = mesh.faces[found.face[0].clamp_min(0)]
    flat = (mesh.normals[corner] * found.bary[0][..., None]).sum(-2)
    outward = F.normalize(torch.where((found.face[0] >= 0)[..., None], flat, flat.new_tensor([0.0, 0, -1])), dim=-1)
    # x right, y down, z away: u grows along x as far as the surface lets it, and v along y.
    right = outward.new_tensor([1.0, 0, 0]).expand_as(outward)
    tangent = F.normalize(right - outward * outward[..., :1], dim=-1)
    up = torch.linalg.cross(tangent, outward)
    fine = -normals_from_depth(upsample_depth(depth, size)[None], camera)[0].movedim(0, -1)
    local = torch.stack([(fine * axis).sum(-1) for axis in (tangent, up, outward)])
    local[2].clamp_(min=0.1)  # beyond its mesh's horizon a normal is noise
    plain = local.new_tensor([0.0, 0, 1])[:, None, None]
    return F.normalize(torch.where(found.face >= 0, local, plain), dim=0)
