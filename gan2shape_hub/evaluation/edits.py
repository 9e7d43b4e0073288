"""Do edits do what was asked? Yaw of turned pictures, and the side that relit pictures are bright on."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image, ImageDraw
from torch import Tensor

from gan2shape_hub.evaluation.canonical_face import canonical_mesh, mirror_permutation
from gan2shape_hub.evaluation.facemesh import FaceLandmarks

# Clockwise from the middle of the forehead.
OUTLINE = (
    *(10, 338, 297, 332, 284, 251, 389, 356, 454, 323, 361, 288, 397, 365, 379, 378, 400, 377),
    *(152, 148, 176, 149, 150, 136, 172, 58, 132, 93, 234, 127, 162, 21, 54, 103, 67, 109),
)
"""Points on the edge of the face mesh."""


@dataclass(frozen=True)
class Turn:
    """One turned picture: the yaw asked for, relative to the photograph, and the one measured, in degrees."""

    requested_deg: float
    measured_deg: float | None
    """None where the judge found no face."""
    start_deg: float
    """Yaw of the photograph."""


@dataclass(frozen=True)
class Relit:
    """One relit picture: x of the direction that the rays travel (positive: from the image's left), and
    :func:`log_brightness_ratio`."""

    direction_x: float
    log_ratio: float


@dataclass(frozen=True)
class TurnSummary:
    slope: float
    """Least-squares slope of measured on requested yaw over all pictures; 1 is right."""
    mean_error_deg: float
    """Mean absolute difference of measured and requested yaw."""
    pictures: int
    lost: int
    """Pictures in which the judge found no face; they count in nothing else."""


@dataclass(frozen=True)
class RelightSummary:
    rising: float
    """Share of faces whose left/right ratio rises at every step of the light from right to left."""
    rank_correlation: float
    """Mean over faces of Spearman's correlation of light and ratio; 1 is monotonic."""
    ratio_gain: float
    """Median over faces of the factor between the ratios of the last and the first light."""
    faces: int


def summarise_turns(turns: Sequence[Turn], within_deg: float = math.inf) -> TurnSummary:
    """Statistics over the pictures whose asked-for yaw, counted from frontal, stays ``within_deg``."""
    turns = [t for t in turns if abs(t.start_deg + t.requested_deg) <= within_deg]
    kept = [(t.requested_deg, t.measured_deg) for t in turns if t.measured_deg is not None]
    if not kept:
        return TurnSummary(math.nan, math.nan, len(turns), len(turns))
    requested, measured = torch.tensor(kept, dtype=torch.float64).unbind(1)
    centred = requested - requested.mean()
    spread = float(centred @ centred)
    return TurnSummary(
        slope=float(centred @ measured) / spread if spread > 0 else math.nan,
        mean_error_deg=float((measured - requested).abs().mean()),
        pictures=len(turns),
        lost=len(turns) - len(kept),
    )


def summarise_relighting(faces: Sequence[Sequence[Relit]]) -> RelightSummary:
    """Statistics over faces, each relit by the same lights in any order."""
    ordered = [[r.log_ratio for r in sorted(face, key=lambda r: r.direction_x)] for face in faces]
    ordered = [face for face in ordered if len(face) > 1 and all(math.isfinite(v) for v in face)]
    if not ordered:
        return RelightSummary(math.nan, math.nan, math.nan, 0)
    values = torch.tensor(ordered, dtype=torch.float64)
    ranks = values.argsort(dim=1).argsort(dim=1).double()
    steps = torch.arange(values.shape[1], dtype=torch.float64)
    ranks, steps = ranks - ranks.mean(dim=1, keepdim=True), steps - steps.mean()
    return RelightSummary(
        rising=float((values.diff(dim=1) > 0).all(dim=1).double().mean()),
        rank_correlation=float((ranks @ steps / (steps @ steps)).mean()),
        ratio_gain=math.exp(float((values[:, -1] - values[:, 0]).median())),
        faces=len(values),
    )


def log_brightness_ratio(picture: Tensor, landmarks: FaceLandmarks) -> float:
    """Logarithm of the brightness of the face's left half (the image's) over its right half.

    Compared are pairs of mesh points that mirror each other, off the midline and off the silhouette, so that what the
    face is painted with about cancels out. ``picture`` (3, H, W) in -1..1 of the face that ``landmarks`` were found in;
    brightness is luma in 0..1, averaged over 1/128 of the picture's side.
    """
    mesh, mirror = canonical_mesh(), mirror_permutation()
    left = torch.nonzero((mesh[:, 0] < -0.1) & (mesh[:, 0] > -0.42) & (mesh[:, 1].abs() < 0.4)).flatten()
    small = F.interpolate(picture.detach().float().cpu()[None], (128, 128), mode="area")
    weights = torch.tensor([0.2126, 0.7152, 0.0722]).view(1, 3, 1, 1)
    luma = ((small / 2 + 0.5) * weights).sum(1, keepdim=True)
    grid = landmarks.in_image((128, 128))[:, :2] / 127 * 2 - 1
    values = F.grid_sample(luma, grid[None, None], align_corners=True, padding_mode="border")[0, 0, 0]
    return float((values[left].mean() + 1e-3).log() - (values[mirror[left]].mean() + 1e-3).log())


def face_mask(landmarks: FaceLandmarks, size: int) -> Tensor:
    """(size, size) 1 inside the outline of the face mesh, of the same picture at ``size`` pixels."""
    canvas = Image.new("L", (size, size), 0)
    points = landmarks.in_image((size, size))[list(OUTLINE), :2]
    ImageDraw.Draw(canvas).polygon([tuple(p) for p in points.tolist()], fill=1)
    return torch.from_numpy(np.array(canvas)).float()
