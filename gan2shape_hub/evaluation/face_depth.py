"""How well a depth map agrees with the face mesh: correlation, identity beyond the average face, amplitude."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from gan2shape_hub.config import CameraConfig
from gan2shape_hub.evaluation.canonical_face import canonical_mesh
from gan2shape_hub.evaluation.facemesh import FaceLandmarks, FaceMesh
from gan2shape_hub.evaluation.head_pose import fit_head
from gan2shape_hub.rendering.camera import focal_px

NOSE_TIP, EARS = 1, (234, 454)
"""Points of the mesh: the tip of the nose; the face's edge before the right and the left ear."""
MIN_POINTS = 50
"""Fewer usable points than this say nothing about a shape: the result is NaN."""


@dataclass(frozen=True)
class EvaluationTable:
    """Agreement of N depth maps with the face mesh. ``per_image`` has NaN where no face was found."""

    mean: float
    """Mean of the per-image Pearson correlations."""
    p10: float
    """Their 10th percentile."""
    std: float
    per_image: tuple[float, ...]
    identity: float
    """Correlation of what distinguishes the faces: see :func:`identity_correlation`."""
    amplitude: float
    """Median nose tip to ear line over face width of the depths."""
    mesh_amplitude: float
    """The same of the face meshes."""
    faces: int
    """Images in which the judge found a face."""

    @property
    def amplitude_ratio(self) -> float:
        """Relief relative to the mesh's: below 1 is flatter."""
        return self.amplitude / self.mesh_amplitude

    def as_dict(self) -> dict:
        """For JSON; NaN becomes None."""
        values = {**asdict(self), "amplitude_ratio": self.amplitude_ratio}
        values["per_image"] = [None if math.isnan(v) else v for v in self.per_image]
        return {k: None if isinstance(v, float) and math.isnan(v) else v for k, v in values.items()}

    def __str__(self) -> str:
        return (
            f"correlation {self.mean:.3f} (p10 {self.p10:.3f}, std {self.std:.3f}, {self.faces} faces), "
            f"identity {self.identity:.3f}, amplitude {self.amplitude:.2f} (mesh {self.mesh_amplitude:.2f})"
        )


def pearson(a: Tensor, b: Tensor) -> float:
    """Correlation of two vectors (N,); NaN where one of them is constant."""
    a, b = a.double() - a.double().mean(), b.double() - b.double().mean()
    norm = float(a.norm() * b.norm())
    return float(a @ b) / norm if norm > 1e-12 else math.nan


def sample_depth(depth: Tensor, landmarks: FaceLandmarks, mask: Tensor | None = None) -> tuple[Tensor, Tensor, Tensor]:
    """Depth under the mesh's points.

    Args:
        depth: (S, S) view-space depth of the same square picture that the landmarks were found in, at any resolution:
            the picture and the sheet are taken to share their edges, as two sizes of one image do.
        landmarks: the face mesh.
        mask: (S, S), points where it is below 0.5 are not used; None uses all.

    Returns:
        values (468,) bilinear depth, pixels (468, 2) of the sheet, usable (468,) bool: inside the picture and the
        mask, and finite.
    """
    if depth.dim() != 2 or depth.shape[0] != depth.shape[1]:
        raise ValueError(f"depth has shape {tuple(depth.shape)}, must be (S, S).")
    if mask is not None and mask.shape != depth.shape:
        raise ValueError(f"mask has shape {tuple(mask.shape)}, must be that of the depth, {tuple(depth.shape)}.")
    size = depth.shape[0]
    depth = depth.detach().double().cpu()
    pixels = landmarks.in_image((size, size))[:, :2].double()
    grid = (pixels / (size - 1) * 2 - 1)[None, None]
    values = F.grid_sample(depth[None, None], grid, align_corners=True, padding_mode="border")[0, 0, 0]
    usable = (pixels >= -0.5).all(dim=1) & (pixels <= size - 0.5).all(dim=1) & values.isfinite()
    if mask is not None:
        weight = mask.detach().double().cpu()[None, None]
        usable &= F.grid_sample(weight, grid, align_corners=True, padding_mode="border")[0, 0, 0] >= 0.5
    return values, pixels, usable


def depth_correlation(view_depth: Tensor, landmarks: FaceLandmarks, mask: Tensor | None = None) -> float:
    """Pearson correlation of depth and mesh z at the mesh's points, -1..1; NaN for a flat sheet or too few points.

    ``view_depth`` (S, S): seen from the input's viewpoint, larger is further. ``mask`` (S, S) or None, see
    :func:`sample_depth`.
    """
    values, _, usable = sample_depth(view_depth, landmarks, mask)
    if int(usable.sum()) < MIN_POINTS:
        return math.nan
    return pearson(values[usable], landmarks.points[usable, 2])


def lift(view_depth: Tensor, landmarks: FaceLandmarks, camera: CameraConfig | None = None) -> Tensor:
    """Points (468, 3) of the sheet under the mesh's points, in scene units of the pinhole ``camera``, float64."""
    values, pixels, _ = sample_depth(view_depth, landmarks)
    size = view_depth.shape[0]
    focal = focal_px(size, (camera or CameraConfig()).fov_deg)
    return torch.cat(((pixels - (size - 1) / 2) * values[:, None] / focal, values[:, None]), 1)


def amplitude(points: Tensor, forward: Tensor) -> float:
    """Nose tip to ear line along ``forward`` (3,), a unit vector into the head, over the distance of the ears.

    ``points`` (468, 3) in any one unit.
    """
    nose, right, left = (points[i].double() for i in (NOSE_TIP, *EARS))
    return float(((right + left) / 2 - nose) @ forward.double() / (right - left).norm())


def depth_amplitude(view_depth: Tensor, landmarks: FaceLandmarks, camera: CameraConfig | None = None) -> float:
    """:func:`amplitude` of a depth map (S, S) in the camera's metric, along the mesh's own forward axis."""
    return amplitude(lift(view_depth, landmarks, camera), fit_head(landmarks.points).rotation[:, 2])


def mesh_amplitude(landmarks: FaceLandmarks) -> float:
    """:func:`amplitude` of the face mesh itself."""
    return amplitude(landmarks.points, fit_head(landmarks.points).rotation[:, 2])


def head_frame_depth(points: Tensor, landmarks: FaceLandmarks) -> Tensor:
    """z (468,) of ``points`` (468, 3) in the frame of the head, in face widths, its mean and tilt removed.

    ``points`` have the mesh's x and y, in its pixels; orientation and scale are the mesh's. Tilt is the plane over the
    canonical face's x and y: an error of pose, not of shape.
    """
    z = fit_head(landmarks.points).back(points)[:, 2]
    plane = canonical_mesh().clone()
    plane[:, 2] = 1
    return z - plane @ torch.linalg.lstsq(plane, z[:, None]).solution[:, 0]


def identity_correlation(
    depths: Sequence[Tensor], landmarks: Sequence[FaceLandmarks], camera: CameraConfig | None = None
) -> float:
    """Correlation, over all faces and points, of the depths' and the meshes' deviations from their own average face.

    Both are put into the head's frame first (pose removed) and freed of tilt; the depths' relief is scaled by one
    factor for all faces. Zero for the same face for everybody. NaN for fewer than three faces.

    ``depths``: (S, S) each, seen from the input's viewpoint.
    """
    if len(depths) < 3:
        return math.nan
    predicted, judged = [], []
    lifted = [lift(d, mark, camera)[:, 2] for d, mark in zip(depths, landmarks, strict=True)]
    scale = _common_relief(lifted, landmarks)
    for z, mark in zip(lifted, landmarks, strict=True):
        points = mark.points.double().clone()
        judged.append(head_frame_depth(points, mark))
        points[:, 2] = (z - z.mean()) * scale * _width(mark) + points[:, 2].mean()
        predicted.append(head_frame_depth(points, mark))
    a, b = torch.stack(predicted), torch.stack(judged)
    return pearson((a - a.mean(dim=0)).flatten(), (b - b.mean(dim=0)).flatten())


def _width(mark: FaceLandmarks) -> float:
    return float((mark.points[EARS[0]] - mark.points[EARS[1]]).norm())


def _common_relief(depths: Sequence[Tensor], landmarks: Sequence[FaceLandmarks]) -> float:
    """Least-squares factor from scene depth to mesh z in face widths, over all faces."""
    a = torch.cat([z - z.mean() for z in depths])
    b = torch.cat([(m.points[:, 2] - m.points[:, 2].mean()).double() / _width(m) for m in landmarks])
    return float(a @ b / (a @ a).clamp_min(1e-18))


def percentile(values: Sequence[float], q: float) -> float:
    """``q`` in 0..1 of the finite ``values``, linear between neighbours; NaN without any."""
    finite = [v for v in values if math.isfinite(v)]
    return float(torch.tensor(finite, dtype=torch.float64).quantile(q)) if finite else math.nan


def evaluate_depth(
    depths: Tensor | Sequence[Tensor],
    faces: Tensor | Sequence[FaceLandmarks | None],
    mesh: FaceMesh | None = None,
    masks: Tensor | Sequence[Tensor] | None = None,
    camera: CameraConfig | None = None,
) -> EvaluationTable:
    """Judge N depth maps.

    Args:
        depths: (N, S, S) or N of (S, S), seen from the input's viewpoint, larger is further.
        faces: the input images (N, 3, H, W) in -1..1, for which ``mesh`` is needed, or their landmarks (None where
            there was no face), which are worth keeping when the same images are judged again and again.
        mesh: the judge.
        masks: (N, S, S) or None; restricts the correlation only.
        camera: of the depths; the default is the method's.

    Raises:
        ValueError: images without ``mesh``, or counts that differ.
    """
    if isinstance(faces, Tensor):
        if mesh is None:
            raise ValueError("mesh is None, must be a FaceMesh where images are given.")
        faces = [mesh.landmarks(image) for image in faces]
    if len(faces) != len(depths) or (masks is not None and len(masks) != len(depths)):
        raise ValueError(f"{len(depths)} depths, {len(faces)} faces: must be as many of each (and of masks).")
    found = [i for i, mark in enumerate(faces) if mark is not None]
    marks = [faces[i] for i in found]
    scores = [math.nan] * len(depths)
    for i in found:
        scores[i] = depth_correlation(depths[i], faces[i], None if masks is None else masks[i])
    finite = torch.tensor([s for s in scores if math.isfinite(s)], dtype=torch.float64)
    return EvaluationTable(
        mean=float(finite.mean()) if len(finite) else math.nan,
        p10=percentile(scores, 0.1),
        std=float(finite.std()) if len(finite) > 1 else math.nan,
        per_image=tuple(scores),
        identity=identity_correlation([depths[i] for i in found], marks, camera),
        amplitude=percentile([depth_amplitude(depths[i], faces[i], camera) for i in found], 0.5),
        mesh_amplitude=percentile([mesh_amplitude(mark) for mark in marks], 0.5),
        faces=len(found),
    )
