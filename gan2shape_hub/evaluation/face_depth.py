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
from gan2shape_hub.evaluation.edits import OUTLINE
from gan2shape_hub.evaluation.facemesh import FaceLandmarks, FaceMesh
from gan2shape_hub.evaluation.head_pose import fit_head
from gan2shape_hub.rendering.camera import focal_px

NOSE_TIP, EARS = 1, (234, 454)
"""Points of the mesh: the tip of the nose; the face's edge before the right and the left ear."""
INNER_WIDTH = 0.4
"""Points that lie further from the midline, in face widths, or on the face's outline, are not inner ones."""
MIN_POINTS = 50
"""Fewer usable points than this say nothing about a shape: the correlation is 0."""


@dataclass(frozen=True)
class FaceDepth:
    """What a depth map says at the mesh's points: all that the judgements below need."""

    landmarks: FaceLandmarks
    points: Tensor
    """(468, 3) float64: the sheet under the mesh's points, lifted to scene units."""
    usable: Tensor
    """(468,) bool: inside the picture and the mask, and finite."""

    @property
    def correlation(self) -> float:
        """Pearson correlation of the depth and the mesh's z, -1..1; 0 for a flat sheet or too few points, so that
        a reconstruction which failed counts."""
        if int(self.usable.sum()) < MIN_POINTS:
            return 0.0
        value = pearson(self.points[self.usable, 2], self.landmarks.points[self.usable, 2])
        return value if math.isfinite(value) else 0.0

    @property
    def inner_correlation(self) -> float:
        """The same over the inner points, a quadric over the picture taken out of both: of nose, eyes and mouth, where
        ``correlation`` is mostly of pose and of the head's bulge."""
        inner = self.usable & inner_points()
        if int(inner.sum()) < MIN_POINTS:
            return 0.0
        xy = self.landmarks.points[inner, :2]
        depths = (self.points[inner, 2], self.landmarks.points[inner, 2])
        value = pearson(*(without_quadric(z, xy) for z in depths))
        return value if math.isfinite(value) else 0.0

    @property
    def amplitude(self) -> float:
        """Nose tip to ear line over face width, in the camera's metric; NaN where one of the points is not usable."""
        if not bool(self.usable[[NOSE_TIP, *EARS]].all()):
            return math.nan
        return amplitude(self.points, fit_head(self.landmarks.points).rotation[:, 2])

    @property
    def mesh_amplitude(self) -> float:
        """The same of the mesh itself."""
        return amplitude(self.landmarks.points, fit_head(self.landmarks.points).rotation[:, 2])


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
    inner: float
    """Mean of the per-image :attr:`FaceDepth.inner_correlation`."""
    inner_identity: float
    """:func:`identity_correlation` over the inner points, without a quadric."""
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
            f"inner {self.inner:.3f}, identity {self.identity:.3f} (inner {self.inner_identity:.3f}), "
            f"amplitude {self.amplitude:.2f} (mesh {self.mesh_amplitude:.2f})"
        )


def pearson(a: Tensor, b: Tensor) -> float:
    """Correlation of two vectors (N,); NaN where one of them is constant."""
    a, b = a.double() - a.double().mean(), b.double() - b.double().mean()
    norm = float(a.norm() * b.norm())
    return float(a @ b) / norm if norm > 1e-12 else math.nan


def inner_points() -> Tensor:
    """(468,) bool: within ``INNER_WIDTH`` of the midline and not on the outline (396 points)."""
    inner = canonical_mesh()[:, 0].abs() <= INNER_WIDTH
    inner[list(OUTLINE)] = False
    return inner


def without_quadric(z: Tensor, xy: Tensor) -> Tensor:
    """``z`` (N,) less its least-squares quadric (constant, plane and second order) over ``xy`` (N, 2); float64.

    Zero where nothing but rounding is left.
    """
    z, xy = z.double() - z.double().mean(), xy.double() - xy.double().mean(0)
    x, y = (xy / xy.std()).unbind(1)
    terms = torch.stack((torch.ones_like(x), x, y, x * x, x * y, y * y), 1)
    left = z - terms @ torch.linalg.lstsq(terms, z[:, None]).solution[:, 0]
    return left if float(left.norm()) > 1e-9 * float(z.norm()) else torch.zeros_like(left)


def sample_face(
    view_depth: Tensor, landmarks: FaceLandmarks, mask: Tensor | None = None, camera: CameraConfig | None = None
) -> FaceDepth:
    """Depth under the mesh's points.

    Args:
        view_depth: (S, S) scene depth seen from the input's viewpoint, larger is further. Sheet and picture are taken
            to share their edges, as two sizes of one square image do.
        landmarks: the face mesh of that picture.
        mask: (S, S); points of whose four pixels one has 0.5 or less are not used. None uses all: a hole in the
            sheet is an error.
        camera: of the sheet; the default is the method's.
    """
    if view_depth.dim() != 2 or view_depth.shape[0] != view_depth.shape[1]:
        raise ValueError(f"view_depth has shape {tuple(view_depth.shape)}, must be (S, S).")
    if mask is not None and mask.shape != view_depth.shape:
        raise ValueError(f"mask has shape {tuple(mask.shape)}, must be that of the depth, {tuple(view_depth.shape)}.")
    size = view_depth.shape[0]
    pixels = landmarks.in_image((size, size))[:, :2].double()
    z = _bilinear(view_depth, pixels)
    usable = (pixels >= -0.5).all(dim=1) & (pixels <= size - 0.5).all(dim=1) & z.isfinite()
    if mask is not None:
        usable &= _bilinear(mask > 0.5, pixels) > 1 - 1e-6
    # What is not finite must not spread to the other points' averages.
    z = torch.where(z.isfinite(), z, z[z.isfinite()].median() if bool(z.isfinite().any()) else torch.ones_like(z))
    focal = focal_px(size, (camera or CameraConfig()).fov_deg)
    xy = (pixels - (size - 1) / 2) * z[:, None] / focal
    return FaceDepth(landmarks, torch.cat((xy, z[:, None]), 1), usable)


def _bilinear(sheet: Tensor, pixels: Tensor) -> Tensor:
    """Values (N,) float64 of ``sheet`` (S, S) at ``pixels`` (N, 2), pixel centres at integers; the border continues."""
    grid = pixels / (sheet.shape[0] - 1) * 2 - 1
    values = sheet.detach().double().cpu()[None, None]
    return F.grid_sample(values, grid[None, None], align_corners=True, padding_mode="border")[0, 0, 0]


def depth_correlation(view_depth: Tensor, landmarks: FaceLandmarks, mask: Tensor | None = None) -> float:
    """:attr:`FaceDepth.correlation` of a depth map, see :func:`sample_face`."""
    return sample_face(view_depth, landmarks, mask).correlation


def amplitude(points: Tensor, forward: Tensor) -> float:
    """Nose tip to ear line along ``forward`` (3,), a unit vector into the head, over the distance of the ears.

    ``points`` (468, 3) in any one unit.
    """
    nose, right, left = (points[i].double() for i in (NOSE_TIP, *EARS))
    return float(((right + left) / 2 - nose) @ forward.double() / (right - left).norm())


def deviation_from_average(z: Tensor, landmarks: FaceLandmarks) -> Tensor:
    """How far depths (468,), in the mesh's pixels, lie behind the average face in the mesh's own pose.

    (468,) along the head's axis, in face widths; mean and tilt removed, tilt being the plane over the canonical face's
    x and y: an error of pose, not of shape.
    """
    fit = fit_head(landmarks.points)
    ahead = (z - fit.apply(canonical_mesh())[:, 2]) / (fit.scale * fit.rotation[2, 2].clamp_min(0.2))
    plane = canonical_mesh()
    plane[:, 2] = 1
    return ahead - plane @ torch.linalg.lstsq(plane, ahead[:, None]).solution[:, 0]


def identity_correlation(faces: Sequence[FaceDepth], *, inner: bool = False) -> float:
    """Correlation, over all faces and points, of what distinguishes the faces: in the depths and in the meshes.

    That is :func:`deviation_from_average`, minus its own mean over the faces; the depths' relief is scaled by one
    factor for all faces. About zero for the same face for everybody, however well it is posed, which alone correlates
    0.998 with a mesh; about 0.8 between the judge's own meshes of a picture at 1024 and at 128 pixels. NaN for fewer
    than three faces. ``inner``: over the inner points alone, each deviation less its quadric over the canonical face.
    """
    if len(faces) < 3:
        return math.nan
    relief = _common_relief(faces)
    a = [deviation_from_average(f.points[:, 2] * relief * _width(f.landmarks), f.landmarks) for f in faces]
    b = [deviation_from_average(f.landmarks.points[:, 2].double(), f.landmarks) for f in faces]
    if inner:
        kept, xy = inner_points(), canonical_mesh()[inner_points(), :2]
        a, b = ([without_quadric(z[kept], xy) for z in deviations] for deviations in (a, b))
    predicted, judged = torch.stack(a), torch.stack(b)
    return pearson((predicted - predicted.mean(dim=0)).flatten(), (judged - judged.mean(dim=0)).flatten())


def _width(mark: FaceLandmarks) -> float:
    return float((mark.points[EARS[0]] - mark.points[EARS[1]]).norm())


def _common_relief(faces: Sequence[FaceDepth]) -> float:
    """Least-squares factor from scene depth to mesh z in face widths, over all faces."""
    a = torch.cat([f.points[:, 2] - f.points[:, 2].mean() for f in faces])
    z = [f.landmarks.points[:, 2].double() / _width(f.landmarks) for f in faces]
    b = torch.cat([v - v.mean() for v in z])
    return float(a @ b / (a @ a).clamp_min(1e-18))


def percentile(values: Sequence[float], q: float) -> float:
    """``q`` in 0..1 of the finite ``values``, linear between neighbours; NaN without any."""
    finite = [v for v in values if math.isfinite(v)]
    return float(torch.tensor(finite, dtype=torch.float64).quantile(q)) if finite else math.nan


def tabulate(faces: Sequence[FaceDepth | None]) -> EvaluationTable:
    """Statistics over faces; None stands for an image in which the judge found no face."""
    found = [face for face in faces if face is not None]
    scores = [math.nan if face is None else face.correlation for face in faces]
    finite = torch.tensor([s for s in scores if math.isfinite(s)], dtype=torch.float64)
    return EvaluationTable(
        mean=float(finite.mean()) if len(finite) else math.nan,
        p10=percentile(scores, 0.1),
        std=float(finite.std()) if len(finite) > 1 else math.nan,
        per_image=tuple(scores),
        identity=identity_correlation(found),
        inner=sum(f.inner_correlation for f in found) / len(found) if found else math.nan,
        inner_identity=identity_correlation(found, inner=True),
        amplitude=percentile([face.amplitude for face in found], 0.5),
        mesh_amplitude=percentile([face.mesh_amplitude for face in found], 0.5),
        faces=len(found),
    )


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
        masks: (N, S, S) or None, see :func:`sample_face`.
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
    return tabulate(
        [
            None if mark is None else sample_face(depth, mark, None if masks is None else masks[i], camera)
            for i, (depth, mark) in enumerate(zip(depths, faces, strict=True))
        ]
    )
