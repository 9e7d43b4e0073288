"""Normals of a depth sheet and Lambertian shading (paper section 3.1, equation 2; reference implementation)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from gan2shape_hub.config import CameraConfig
from gan2shape_hub.rendering.camera import unproject


def normals_from_depth(depth: Tensor, camera: CameraConfig) -> Tensor:
    """Unit normals (B,3,H,W) of the sheet ``depth`` (B,H,W); a frontal plane has (0, 0, 1).

    Cross product of the central differences of the unprojected points, x difference times y difference, as the
    reference has it. With z away from the camera this is the normal on the sheet's BACK, and a light's ``direction``
    is the way its rays travel, (0, 0, 1) being a light at the camera: their dot product is that of the outward normal
    and the direction towards the light. The outward normal is the negative of what is returned.
    Border pixels use the one-sided difference at the border (the reference leaves them frontal).
    """
    if depth.dim() != 3 or depth.shape[1] < 2 or depth.shape[2] < 2:
        raise ValueError(f"depth has shape {tuple(depth.shape)}, must be (B, H, W) with H and W 2 or more.")
    x, y, z = unproject(depth, camera).unbind(-1)
    du = [_difference(c, 2) for c in (x, y, z)]
    dv = [_difference(c, 1) for c in (x, y, z)]
    normal = torch.stack(
        (du[1] * dv[2] - du[2] * dv[1], du[2] * dv[0] - du[0] * dv[2], du[0] * dv[1] - du[1] * dv[0]), 1
    )
    # The length is about a pixel's area in scene units (1e-6 at 128 pixels), whose square must not drown in an eps.
    length = normal.square().sum(1, keepdim=True).sqrt()
    return normal / length.clamp_min(torch.finfo(depth.dtype).tiny)


def _difference(values: Tensor, dim: int) -> Tensor:
    """Difference of the two neighbours along ``dim``; at the border, that of the border pixel and its one neighbour.

    The border's step is half as long, which scales a normal before it is normalised and does not turn it.
    """
    n = values.shape[dim]
    inner = values.narrow(dim, 2, n - 2) - values.narrow(dim, 0, n - 2)
    first = values.narrow(dim, 1, 1) - values.narrow(dim, 0, 1)
    last = values.narrow(dim, n - 1, 1) - values.narrow(dim, n - 2, 1)
    return torch.cat((first, inner, last), dim)


@dataclass(frozen=True)
class Light:
    """``ambient`` (B,) and ``diffuse`` (B,) strengths in about 0..1, ``direction`` (B,3) unit, the way rays travel.

    x > 0: the light comes from the image's left; y > 0: from above; z = 1 before normalising: from the camera's side.
    """

    ambient: Tensor
    diffuse: Tensor
    direction: Tensor

    @classmethod
    def from_output(cls, light: Tensor) -> Light:
        """Light of a light network's output ``light`` (B,4) in -1..1: ambient, diffuse, direction x, direction y."""
        if light.dim() != 2 or light.shape[1] != 4:
            raise ValueError(f"light has shape {tuple(light.shape)}, must be (B, 4).")
        direction = torch.cat((light[:, 2:], torch.ones_like(light[:, :1])), 1)
        direction = direction / direction.norm(dim=1, keepdim=True)
        return cls(light[:, 0] / 2 + 0.5, light[:, 1] / 2 + 0.5, direction)


def shade(albedo: Tensor, normals: Tensor, light: Light) -> tuple[Tensor, Tensor]:
    """Lit texture (B,3,H,W) in about -1..1 and the diffuse shading (B,1,H,W) = max(0, n . direction).

    ``albedo`` (B,3,H,W) in -1..1, ``normals`` (B,3,H,W) as `normals_from_depth` returns them.
    texture = (albedo/2 + 0.5) * (ambient + diffuse * diffuse shading) * 2 - 1; not clamped, so that a light too strong
    still has a gradient.
    """
    direction = light.direction[:, :, None, None]
    diffuse_shading = (normals * direction).sum(1, keepdim=True).clamp_min(0)
    shading = light.ambient[:, None, None, None] + light.diffuse[:, None, None, None] * diffuse_shading
    return (albedo / 2 + 0.5) * shading * 2 - 1, diffuse_shading
