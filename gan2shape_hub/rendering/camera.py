"""Pinhole camera and rigid poses.

Frame: x right, y down, z away from the camera, scene units; pixel centres at integers, principal point
``((W-1)/2, (H-1)/2)``; the field of view spans the centres of the first and the last pixel of a row, so that
``focal_px = (W-1)/2 / tan(fov/2)`` (paper section 3.1 and the reference implementation; Unsup3d uses the same camera).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from gan2shape_hub.config import CameraConfig


def focal_px(size: int, fov_deg: float) -> float:
    """Focal length in pixels of a row of ``size`` pixels (2 or more) that spans ``fov_deg`` degrees."""
    if size < 2:
        raise ValueError(f"size is {size}, must be 2 or more pixels: one pixel spans no angle.")
    return (size - 1) / 2 / math.tan(math.radians(fov_deg) / 2)


def widen(values: Tensor) -> Tensor:
    """float32 for what a network computed in half precision, whose 8 to 11 bits are too few for geometry."""
    return values.float() if values.dtype in (torch.float16, torch.bfloat16) else values


def pixel_rays(size: tuple[int, int], camera: CameraConfig, like: Tensor) -> tuple[Tensor, Tensor]:
    """x/z (1,W) and y/z (H,1) of the rays through the pixels of an image of ``size`` (H,W).

    dtype and device are those of ``like``.
    """
    height, width = size
    focal = focal_px(width, camera.fov_deg)
    u = torch.arange(width, dtype=like.dtype, device=like.device)
    v = torch.arange(height, dtype=like.dtype, device=like.device)
    return ((u - (width - 1) / 2) / focal)[None, :], ((v - (height - 1) / 2) / focal)[:, None]


def unproject(depth: Tensor, camera: CameraConfig) -> Tensor:
    """Points (B,H,W,3) on the pixel rays at ``depth`` (B,H,W), which is z, not the distance along the ray."""
    if depth.dim() != 3:
        raise ValueError(f"depth has shape {tuple(depth.shape)}, must be (B, H, W).")
    x, y = pixel_rays((depth.shape[1], depth.shape[2]), camera, depth)
    return torch.stack((depth * x, depth * y, depth), -1)


def project(points: Tensor, camera: CameraConfig, size: tuple[int, int]) -> Tensor:
    """Pixels (...,2), x before y, of camera-frame ``points`` (...,3) in an image of ``size`` (H,W).

    Points at z = 0 give infinite or NaN pixels, points behind the camera a mirrored pixel: the caller looks at z.
    """
    height, width = size
    focal = focal_px(width, camera.fov_deg)
    x, y, z = points.unbind(-1)
    scale = focal / z
    return torch.stack((x * scale + (width - 1) / 2, y * scale + (height - 1) / 2), -1)


@dataclass(frozen=True)
class Pose:
    """Rigid motion from the canonical frame to the view: p' = R (p - c) + c + t, c = (0, 0, center_depth).

    ``rotation`` (B,3,3) orthonormal, ``translation`` (B,3) in scene units.

    Signs, for what faces the camera (its front lies at z below center_depth): a positive yaw turns it to the image's
    LEFT, a positive pitch turns it DOWN, a positive roll turns it clockwise on the screen.
    """

    rotation: Tensor
    translation: Tensor

    def __post_init__(self) -> None:
        r, t = self.rotation, self.translation
        if r.dim() != 3 or tuple(r.shape[1:]) != (3, 3):
            raise ValueError(f"pose.rotation has shape {tuple(r.shape)}, must be (B, 3, 3).")
        if t.dim() != 2 or t.shape[1] != 3 or t.shape[0] != r.shape[0]:
            raise ValueError(f"pose.translation has shape {tuple(t.shape)}, must be ({r.shape[0]}, 3).")

    @classmethod
    def identity(
        cls, batch: int = 1, device: torch.device | str | None = None, dtype: torch.dtype = torch.float32
    ) -> Pose:
        """``batch`` poses that move nothing."""
        rotation = torch.eye(3, device=device, dtype=dtype).expand(batch, 3, 3)
        return cls(rotation, torch.zeros(batch, 3, device=device, dtype=dtype))

    def close_to(self, other: Pose) -> bool:
        """Whether both are the same motion but for rounding."""
        pairs = ((self.rotation, other.rotation), (self.translation, other.translation))
        return all(torch.allclose(a, b, rtol=0, atol=1e-5) for a, b in pairs)

    @classmethod
    def from_angles(cls, angles: Tensor, translation: Tensor | None = None) -> Pose:
        """``angles`` (B,3): pitch about x, yaw about y, roll about z, in radians; R = Rz Ry Rx.

        ``translation`` (B,3) in scene units, zero where None. Differentiable in both.
        """
        if angles.dim() != 2 or angles.shape[1] != 3:
            raise ValueError(f"angles has shape {tuple(angles.shape)}, must be (B, 3).")
        cos, sin = angles.cos().unbind(1), angles.sin().unbind(1)
        (cx, cy, cz), (sx, sy, sz) = cos, sin
        rows = (
            (cz * cy, cz * sy * sx - sz * cx, cz * sy * cx + sz * sx),
            (sz * cy, sz * sy * sx + cz * cx, sz * sy * cx - cz * sx),
            (-sy, cy * sx, cy * cx),
        )
        rotation = torch.stack([torch.stack(row, 1) for row in rows], 1)
        return cls(rotation, torch.zeros_like(angles) if translation is None else translation)

    @classmethod
    def from_view(cls, view: Tensor, camera: CameraConfig) -> Pose:
        """Pose of a view network's output ``view`` (B,6) in -1..1: pitch, yaw, roll, then translation x, y, z.

        1 stands for ``camera.view_angle_deg``, ``view_translation_xy`` and ``view_translation_z``.
        """
        if view.dim() != 2 or view.shape[1] != 6:
            raise ValueError(f"view has shape {tuple(view.shape)}, must be (B, 6).")
        view = widen(view)
        translation = torch.cat((view[:, 3:5] * camera.view_translation_xy, view[:, 5:] * camera.view_translation_z), 1)
        return cls.from_angles(view[:, :3] * math.radians(camera.view_angle_deg), translation)

    @property
    def batch(self) -> int:
        return self.rotation.shape[0]

    def offset(self, camera: CameraConfig) -> Tensor:
        """(B,3) vector o of the same motion written p' = R p + o, that is c + t - R c."""
        # R c is center_depth times R's third column.
        center = torch.zeros_like(self.translation)
        center[:, 2] = camera.center_depth
        return center + self.translation - camera.center_depth * self.rotation[:, :, 2]

    def apply(self, points: Tensor, camera: CameraConfig) -> Tensor:
        """Move ``points`` (B,...,3); a pose of batch 1 moves points of any batch and the other way round."""
        # Planes instead of a matrix product: autocast would round a product to 8 or 11 bits, and a strip of depth 0.2
        # at distance 1 has none to spare.
        inner = [1] * (points.dim() - 2)
        r = self.rotation.reshape(-1, *inner, 3, 3)
        x, y, z = points.unbind(-1)
        moved = torch.stack([r[..., k, 0] * x + r[..., k, 1] * y + r[..., k, 2] * z for k in range(3)], -1)
        return moved + self.offset(camera).reshape(-1, *inner, 3)

    def inverse(self) -> Pose:
        """The motion back: ``pose.inverse().apply(pose.apply(p, camera), camera)`` is p."""
        back = self.rotation.transpose(1, 2)
        return Pose(back, -(back * self.translation[:, None]).sum(2))

    def compose(self, other: Pose) -> Pose:
        """This motion after ``other``. Rotations are multiplied: Euler angles neither add nor subtract."""
        moved = (self.rotation * other.translation[:, None]).sum(2)
        rotation = (self.rotation[:, :, :, None] * other.rotation[:, None]).sum(2)  # not @, see apply
        return Pose(rotation, moved + self.translation)

    def expand(self, batch: int) -> Pose:
        """A single pose seen as ``batch`` equal ones (no copy)."""
        return Pose(self.rotation.expand(batch, 3, 3), self.translation.expand(batch, 3))

    def index(self, which: int | slice | Tensor) -> Pose:
        """The poses ``which`` of the batch; an int gives a batch of one."""
        if isinstance(which, int):
            which = slice(which, which + 1 if which != -1 else None)
        return Pose(self.rotation[which], self.translation[which])

    def to(self, *args, **kwargs) -> Pose:
        """Tensors moved or cast as by ``torch.Tensor.to``."""
        return Pose(self.rotation.to(*args, **kwargs), self.translation.to(*args, **kwargs))

    def detach(self) -> Pose:
        """The same pose without gradient."""
        return Pose(self.rotation.detach(), self.translation.detach())
