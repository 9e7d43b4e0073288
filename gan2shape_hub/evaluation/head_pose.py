"""Pose of a head from its face mesh: rigid fit of a symmetric average mesh, in the renderer's angle conventions."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from gan2shape_hub.evaluation.canonical_face import canonical_mesh, mirror_permutation
from gan2shape_hub.evaluation.facemesh import FaceLandmarks


@dataclass(frozen=True)
class Similarity:
    """x' = scale * rotation @ x + translation: rotation (..., 3, 3), translation (..., 3), scale (...), float64."""

    scale: Tensor
    rotation: Tensor
    translation: Tensor

    def apply(self, points: Tensor) -> Tensor:
        """Move ``points`` (..., N, 3)."""
        return self.scale[..., None, None] * points.double() @ self.rotation.mT + self.translation[..., None, :]

    def back(self, points: Tensor) -> Tensor:
        """Undo the motion of ``points`` (..., N, 3)."""
        return ((points.double() - self.translation[..., None, :]) @ self.rotation) / self.scale[..., None, None]


def fit_similarity(source: Tensor, target: Tensor, weights: Tensor | None = None) -> Similarity:
    """Least-squares rotation, scale and translation from ``source`` (N, 3) to ``target`` (..., N, 3) (Umeyama 1991).

    ``weights`` (N,), not negative. Never a reflection.
    """
    source, target = source.double(), target.double()
    w = torch.ones(len(source), dtype=torch.float64) if weights is None else weights.double()
    w = (w / w.sum())[:, None]
    source_mean, target_mean = (w * source).sum(-2), (w * target).sum(-2)
    a, b = source - source_mean, target - target_mean[..., None, :]
    u, values, vt = torch.linalg.svd((w * b).mT @ a)
    sign = torch.ones_like(values)
    sign[..., 2] = torch.sign(torch.linalg.det(u) * torch.linalg.det(vt))
    rotation = u * sign[..., None, :] @ vt
    scale = (values * sign).sum(-1) / (w * a.square()).sum()
    return Similarity(scale, rotation, target_mean - scale[..., None] * (rotation @ source_mean))


def fit_head(points: Tensor) -> Similarity:
    """Motion from the canonical mesh (face widths) to ``points`` (468, 3).

    Reweighted three times by 1 / (residual + median residual), so that an open mouth or raised brows count little.
    """
    canonical, weights = canonical_mesh(), None
    fit = fit_similarity(canonical, points)
    for _ in range(3):
        residual = (fit.back(points) - canonical).norm(dim=1)
        weights = 1 / (residual + residual.median().clamp_min(1e-9))
        fit = fit_similarity(canonical, points, weights)
    return fit


def rotation_angles_deg(rotation: Tensor) -> tuple[float, float, float]:
    """Yaw, pitch, roll in degrees of ``rotation`` (3, 3) = Rz(roll) Ry(yaw) Rx(pitch), the order of ``Pose``."""
    r = rotation.double()
    yaw = math.asin(max(-1.0, min(1.0, -float(r[2, 0]))))
    pitch = math.atan2(float(r[2, 1]), float(r[2, 2]))
    roll = math.atan2(float(r[1, 0]), float(r[0, 0]))
    return math.degrees(yaw), math.degrees(pitch), math.degrees(roll)


def head_pose(landmarks: FaceLandmarks | Tensor) -> tuple[float, float, float]:
    """Yaw, pitch, roll in degrees, signs as in ``Pose.from_angles``: positive yaw looks to the image's left, positive
    pitch down, positive roll is clockwise on the screen.

    Yaw and roll are zero for a symmetric, level face; pitch is relative to the generator's average face.
    ``landmarks``: a FaceLandmarks or its points (468, 3).
    """
    points = landmarks.points if isinstance(landmarks, FaceLandmarks) else landmarks
    return rotation_angles_deg(fit_head(points).rotation)


def turn_deg(before: FaceLandmarks, after: FaceLandmarks) -> tuple[float, float, float]:
    """Yaw, pitch, roll in degrees of the turn about the camera's axes that takes one picture's head to the other's.

    Rotations are divided, not angles subtracted: a raised head that is turned by 20 degrees measures 20.
    """
    return rotation_angles_deg(fit_head(after.points).rotation @ fit_head(before.points).rotation.T)


def average_mesh(meshes: Tensor, iterations: int = 10) -> Tensor:
    """Symmetric average (468, 3) of ``meshes`` (N, 468, 3), float64: how ``canonical_face`` was made.

    Generalised Procrustes analysis over the meshes and their mirror images (points renumbered), so that the plane of
    symmetry is exactly x = 0. Pitch is the mean pitch of the meshes as they were given; the scale is the face width
    (points 234 to 454), the origin the mean point.
    """
    meshes = meshes.double()
    mirror = mirror_permutation()
    flipped = meshes[:, mirror] * torch.tensor([-1.0, 1.0, 1.0], dtype=torch.float64)
    both = torch.cat((meshes, flipped))
    both = both - both.mean(dim=1, keepdim=True)
    both = both / both.square().mean(dim=(1, 2), keepdim=True).sqrt()
    mean = both.mean(dim=0)
    for _ in range(iterations):
        mean = fit_similarity(mean, both).back(both).mean(dim=0)
        # Removes the drift of scale that averaging aligned shapes has.
        mean = mean / mean.square().mean().sqrt()
    mean = (mean + mean[mirror] * torch.tensor([-1.0, 1.0, 1.0], dtype=torch.float64)) / 2
    mean = mean - mean.mean(dim=0)
    return mean / (mean[234] - mean[454]).norm()
