"""What can be measured of any category, without a judge of its shapes: how well the found scenes explain the images."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import torch

from gan2shape_hub.evaluation.depth_metrics import scene_psnr_db


@dataclass(frozen=True)
class ImageResult:
    """One generated image, reconstructed."""

    seed: int
    psnr_db: float
    """Of the rendered scene against the image, where the sheet is seen; NaN where it is not seen at all."""


def measure_category(
    pipeline: Any,
    seeds: Iterable[int],
    *,
    preset: str,
    truncation: float,
    after: Callable[[int, Any], None] | None = None,
) -> list[ImageResult]:
    """Reconstruct the generated images of ``seeds`` with ``pipeline`` (a GAN2ShapePipeline), one after the other.

    ``after`` is called with every seed and its Reconstruction. FloatingPointError where no image is seen at all.
    """
    found = []
    for seed in seeds:
        result = pipeline(pipeline.sample(seed=seed, truncation=truncation), preset=preset, seed=0)
        quality = scene_psnr_db(result)
        found.append(ImageResult(seed, quality))
        if after is not None:
            after(seed, result)
    if not any(math.isfinite(result.psnr_db) for result in found):
        raise FloatingPointError("no reconstruction shows anything of its image: look at the contact sheet.")
    return found


def summary(found: list[ImageResult]) -> dict[str, float]:
    """Mean and 10th percentile of the PSNR (dB) over the images in which the sheet is seen."""
    values = torch.tensor([r.psnr_db for r in found if math.isfinite(r.psnr_db)], dtype=torch.float64)
    return {"psnr": float(values.mean()), "psnr-p10": float(values.quantile(0.1))}
