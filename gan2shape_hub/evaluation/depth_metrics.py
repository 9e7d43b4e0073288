"""Errors against ground truth: SIDE and MAD of depth maps, as the paper reports them, and PSNR of images.

SIDE and MAD are Unsup3d's (Wu et al., CVPR 2020): depths as seen from the input's viewpoint, over the pixels where both
depths exist, each mask eroded by one pixel.
"""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from gan2shape_hub.config import CameraConfig
from gan2shape_hub.rendering import Pose, normals_from_depth, warp_depth
from gan2shape_hub.rendering.scene import resized
from gan2shape_hub.results.texture import without_border


def evaluation_mask(truth: Tensor, predicted: Tensor, erode_px: int = 1) -> Tensor:
    """(B, H, W) bool: inside both masks (B, H, W; inside is above 0.5), each eroded by ``erode_px`` pixels.

    Beyond the image counts as outside.
    """
    if truth.dim() != 3 or truth.shape != predicted.shape:
        raise ValueError(
            f"masks have shapes {tuple(truth.shape)} and {tuple(predicted.shape)}, must be equal, (B, H, W)."
        )
    outside = ((truth <= 0.5) | (predicted <= 0.5)).float()[:, None]
    if erode_px > 0:
        padded = F.pad(outside, (erode_px,) * 4, value=1.0)
        outside = F.max_pool2d(padded, 2 * erode_px + 1, stride=1)
    return outside[:, 0] < 0.5


def _check(a: Tensor, b: Tensor, mask: Tensor | None) -> Tensor:
    if a.dim() != 3 or a.shape != b.shape or (mask is not None and mask.shape != a.shape):
        shapes = ", ".join(str(tuple(t.shape)) for t in (a, b, mask) if t is not None)
        raise ValueError(f"depths and mask have shapes {shapes}, must be equal, (B, H, W).")
    return torch.ones_like(a, dtype=torch.bool) if mask is None else mask > 0.5


def _masked_mean(values: Tensor, mask: Tensor) -> Tensor:
    """(B): mean of ``values`` (B, H, W) inside ``mask`` (bool); NaN where that is empty."""
    return torch.where(mask, values, 0).sum((1, 2)) / mask.sum((1, 2))


def side(predicted: Tensor, truth: Tensor, mask: Tensor | None = None) -> Tensor:
    """Scale-invariant depth error (B): standard deviation of log predicted minus log true depth inside ``mask``.

    Depths (B, H, W) are positive inside ``mask`` (B, H, W), else the result is not finite; any common unit. The paper
    prints it times 100.
    """
    mask = _check(predicted, truth, mask)
    # Outside the mask anything goes, zeros included.
    delta = torch.where(mask, predicted, 1).double().log() - torch.where(mask, truth, 1).double().log()
    delta = delta - _masked_mean(delta, mask)[:, None, None]
    return _masked_mean(delta.square(), mask).sqrt()


def mad(predicted: Tensor, truth: Tensor, camera: CameraConfig, mask: Tensor | None = None) -> Tensor:
    """Mean angle (B), in degrees, between the normals of two depth maps (B, H, W), in scene units, inside ``mask``.

    Normals are central differences: a mask that is not eroded includes pixels whose neighbours lie outside.
    """
    mask = _check(predicted, truth, mask)
    a = normals_from_depth(predicted.double(), camera)
    b = normals_from_depth(truth.double(), camera)
    # atan2 instead of arccos, which loses half of its digits near 0 degrees.
    angle = torch.atan2(torch.linalg.cross(a, b, dim=1).norm(dim=1), (a * b).sum(1))
    return torch.rad2deg(_masked_mean(angle, mask))


@torch.no_grad()
def seen_depth(depth: Tensor, view: Tensor, camera: CameraConfig) -> tuple[Tensor, Tensor]:
    """A canonical sheet as the judges want it: from the photograph's viewpoint.

    ``depth`` (S, S) in scene units and ``view`` (6) in network-output units give the depth (S, S) seen from there and
    its mask (S, S), 1 where the sheet is seen, as ``Reconstruction.view_depth`` and ``mask`` are.
    """
    pose = Pose.from_view(view[None], camera)
    seen, mask = warp_depth(without_border(depth, camera)[None], pose, camera)
    return seen[0], mask[0, 0]


def psnr_db(image: Tensor, reference: Tensor, mask: Tensor | None = None) -> float:
    """Peak signal-to-noise ratio in dB of images (3, H, W) in -1..1 inside ``mask`` (H, W); infinite for equal ones.

    The peak is the range, 2. NaN where the mask is empty.
    """
    if image.dim() != 3 or image.shape != reference.shape:
        raise ValueError(
            f"images have shapes {tuple(image.shape)} and {tuple(reference.shape)}, must be equal, (3, H, W)."
        )
    if mask is not None and mask.shape != image.shape[1:]:
        raise ValueError(f"mask has shape {tuple(mask.shape)}, must be that of the image, {tuple(image.shape[1:])}.")
    error = (image.double() - reference.double()).square().mean(0)
    inside = torch.ones_like(error, dtype=torch.bool) if mask is None else mask > 0.5
    if not bool(inside.any()):
        return math.nan
    mse = float(error[inside].mean())
    return math.inf if mse == 0 else 10 * math.log10(4 / mse)


def scene_psnr_db(result: Any, inside: Tensor | None = None) -> float:
    """`psnr_db` of a Reconstruction's rendered scene against its image, both at the image's side N.

    ``inside``: (N, N) mask; None: where the sheet is seen.
    """
    image = result.image.cpu()
    drawn, seen = (resized(x[None].cpu(), image.shape[-1])[0] for x in (result.reconstruction, result.mask[None]))
    return psnr_db(drawn, image, seen[0] if inside is None else inside)
