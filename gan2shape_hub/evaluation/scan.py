"""A reconstruction against a real head of known shape (it judges; nothing is trained on it).

    scan = load_scan()
    picture = photograph(scan, yaw_deg=17, background=GREY)
    print(score(pipeline(picture.image), picture))

The scan's picture is orthographic but for a hundredth, the result's camera is a perspective one of 10 degrees: both
depths are taken as functions of the result's pixels, in the result's units.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from gan2shape_hub.config import CameraConfig
from gan2shape_hub.evaluation.depth_metrics import evaluation_mask, mad, side
from gan2shape_hub.evaluation.face_depth import MIN_POINTS, pearson
from gan2shape_hub.evaluation.scan_mesh import Scan, load_scan
from gan2shape_hub.records import Alignment
from gan2shape_hub.rendering.camera import Pose, focal_px, unproject
from gan2shape_hub.rendering.mesh_renderer import render_mesh
from gan2shape_hub.rendering.shading import Light
from gan2shape_hub.results.image_files import to_pil

__all__ = ["GREY", "SIDE_LIGHT", "WHITE", "Scan", "ScanPicture", "ScanScore", "load_scan", "photograph", "score"]

GREY, WHITE = (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)
"""Backgrounds, -1..1."""
SIDE_LIGHT = Light(torch.tensor([0.35]), torch.tensor([0.9]), torch.tensor([[0.8, 0.1, 0.6]]) / math.sqrt(1.01))
"""From the image's left and a little above, on top of the texture's own shading."""
FILLS, SHRINK = 0.95, 0.9
"""How much of the picture the head's longer side takes, and of the face's outline is judged."""
_CAMERA = CameraConfig(fov_deg=2.0)


@dataclass(frozen=True)
class ScanPicture:
    """The scan as a camera saw it, P x P pixels, and what is true of it."""

    image: Image.Image
    depth: Tensor
    """(P, P) float64 in pixels of the picture, larger is further; NaN beside the head."""
    face: Tensor
    """(P, P) bool: pixels that show the face inside its outline, shrunk to 0.9."""
    face_width: float
    """In pixels."""


@dataclass(frozen=True)
class ScanScore:
    """How well a depth agrees with the truth inside the face. Depths after one scale, shift and tilt (a plane over the
    picture), fitted by least squares, are called fitted."""

    correlation: float
    """Of the depths."""
    scale: float
    """What the relief has to be multiplied with, tilt aside: 1 is right, below 1 the relief is too deep."""
    rmse_percent: float
    """Root mean square error of the fitted depth, in % of the face's width."""
    side: float
    """Unsup3d's scale-invariant depth error, times 100; the true depth is put at the mean of the predicted one."""
    mad_deg: float
    """Mean angle between the normals, as they are."""
    mad_fitted_deg: float
    """The same of the fitted depth."""
    seen: float
    """Share of the face's pixels where the result has a depth."""


@torch.no_grad()
def photograph(
    scan: Scan,
    yaw_deg: float = 0.0,
    background: tuple[float, float, float] = GREY,
    light: Light | None = None,
    *,
    size: int = 512,
) -> ScanPicture:
    """Take a picture of ``scan``, turned by ``yaw_deg`` about its middle (positive: to the image's left).

    Args:
        background: colour, -1..1.
        light: shades the photographic texture as an albedo; None takes it as it is.
        size: side of the picture in pixels.
    """
    extent = size * FILLS / focal_px(size, _CAMERA.fov_deg)  # of the head, scene units at depth 1
    ahead = torch.tensor([0.0, 0.0, _CAMERA.center_depth])
    pose = Pose.from_angles(torch.tensor([[0.0, math.radians(yaw_deg), 0.0]]))
    rendered = render_mesh(
        scan.vertices * extent + ahead,
        scan.faces,
        scan.uv,
        scan.texture,
        pose,
        _CAMERA,
        size,
        light=light,
        background=background,
        supersample=3,
        cull_backfaces=True,
    )
    covered = rendered.mask[0, 0] > 0.5
    depth = rendered.depth.double()
    frontal = (pose.inverse().to(torch.float64).apply(unproject(depth, _CAMERA), _CAMERA)[0] - ahead) / extent
    centre = scan.outline.double().mean(0)
    face = covered & _inside(frontal[..., :2], centre + SHRINK * (scan.outline.double() - centre))
    face &= frontal[..., 2] < scan.face_back
    pixels = (depth[0] - _CAMERA.center_depth) * focal_px(size, _CAMERA.fov_deg)
    return ScanPicture(
        to_pil(rendered.image[0]), torch.where(covered, pixels, torch.nan), face, scan.face_width * FILLS * size
    )


def score(result: Any, picture: ScanPicture) -> ScanScore:
    """Judge ``result``, the Reconstruction that a pipeline made of ``picture.image``.

    ValueError: it shows less than 50 pixels of the face, or was not made of a photograph.
    """
    if result.alignment is None:
        raise ValueError("the result has no photograph: reconstruct picture.image.")
    return score_depth(result.view_depth, result.alignment, picture, mask=result.mask, camera=result.config.camera)


@torch.no_grad()
def score_depth(
    view_depth: Tensor,
    alignment: Alignment,
    picture: ScanPicture,
    *,
    mask: Tensor | None = None,
    camera: CameraConfig | None = None,
) -> ScanScore:
    """Judge a depth sheet of ``picture``.

    Args:
        view_depth: (S, S) scene depth seen from the photograph's viewpoint, larger is further.
        alignment: where the sheet's square lies in the picture.
        mask: (S, S) where the sheet is seen; None: everywhere that it is finite.
        camera: of the sheet; the default is the method's.

    ValueError: another shape, or less than 50 pixels to judge.
    """
    if view_depth.dim() != 2 or view_depth.shape[0] != view_depth.shape[1]:
        raise ValueError(f"view_depth has shape {tuple(view_depth.shape)}, must be (S, S).")
    camera, size = camera or CameraConfig(), view_depth.shape[0]
    predicted = view_depth.detach().double().cpu()
    seen = predicted.isfinite() if mask is None else (mask.detach().cpu() > 0.5) & predicted.isfinite()
    face = _at_sheet(picture.face.double(), alignment, size) > 0.5
    truth = _at_sheet(picture.depth, alignment, size)
    # Normals need neighbours; the outline itself is not eroded, so that sheets of all sizes are judged alike.
    inside = face & evaluation_mask(truth.isfinite()[None].double(), seen[None].double())[0]
    if int(inside.sum()) < MIN_POINTS:
        raise ValueError(f"the result shows {int(inside.sum())} pixels of the scan's face: look at its alignment.")
    predicted = torch.where(seen, predicted, predicted[inside].mean())
    middle = predicted[inside].mean()
    # A pixel of the sheet is z / focal scene units wide.
    unit = size / alignment.side / focal_px(size, camera.fov_deg) * middle
    truth = truth * unit
    truth = truth - truth[inside].mean() + middle
    steps = torch.linspace(-1, 1, size, dtype=torch.float64)
    v, u = torch.meshgrid(steps, steps, indexing="ij")
    terms = torch.stack((predicted - middle, torch.ones_like(u), u, v), -1)
    factors = torch.linalg.lstsq(terms[inside], truth[inside][:, None], driver="gelsd").solution[:, 0]
    fitted = terms @ factors
    error = (fitted - truth)[inside].square().mean().sqrt()

    def angle(depth: Tensor) -> float:
        return float(mad(depth[None], truth[None], camera, inside[None]))

    correlation = pearson(predicted[inside], truth[inside])
    return ScanScore(
        correlation=correlation if math.isfinite(correlation) else 0.0,
        scale=float(factors[0]),
        rmse_percent=100 * float(error / (picture.face_width * unit)),
        side=100 * float(side(predicted[None], truth[None], inside[None])),
        mad_deg=angle(predicted),
        mad_fitted_deg=angle(fitted),
        seen=float((face & seen).sum() / face.sum()),
    )


def _at_sheet(values: Tensor, alignment: Alignment, size: int) -> Tensor:
    """Values of a picture's map (P, P) at the pixels of a sheet of ``size`` in its square, bilinear: (size, size)."""
    centres = (torch.arange(size, dtype=torch.float64) + 0.5) / size
    v, u = torch.meshgrid(centres, centres, indexing="ij")
    matrix = torch.as_tensor(alignment.matrix, dtype=torch.float64)
    places = torch.stack((u, v, torch.ones_like(u)), -1) @ matrix.T
    grid = places / values.shape[-1] * 2 - 1
    return F.grid_sample(values[None, None], grid[None], align_corners=False)[0, 0]


def _inside(points: Tensor, polygon: Tensor) -> Tensor:
    """Whether ``points`` (..., 2) lie inside ``polygon`` (M, 2): an odd number of edges crosses a ray to the right."""
    inside = torch.zeros(points.shape[:-1], dtype=torch.bool)
    x, y = points.unbind(-1)
    for a, b in zip(polygon, polygon.roll(-1, 0), strict=True):
        crosses = (a[1] > y) != (b[1] > y)
        inside ^= crosses & (x < a[0] + (y - a[1]) / (b[1] - a[1]) * (b[0] - a[0]))
    return inside
