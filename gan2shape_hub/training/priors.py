"""The view and light Gaussians of a category, from what view and light networks say of many images.

The reference ships these Gaussians as files and leaves open how they came about. They have two uses: pseudo views are
drawn from them, and their means are added to the networks' outputs (``add_mean``). Fitting must change the first and
leave the second alone, or networks that a checkpoint already has would see every view displaced; ``fit_priors`` says
how.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor, nn

from gan2shape_hub.atomic import ExportError, atomic_file
from gan2shape_hub.config import CategoryConfig, GaussianConfig
from gan2shape_hub.generator import Generator, sample_latents

MIN_SAMPLES = 20


class PriorError(ValueError):
    """The Gaussians cannot be fitted or written; the message says why and what to do."""


def fit_gaussian(
    samples: Tensor,
    shrinkage: float | None = None,
    floor: float = 1e-6,
    about: tuple[float, ...] | None = None,
) -> GaussianConfig:
    """Mean and covariance of samples (N, D), the covariance drawn towards its diagonal.

    ``about`` keeps that mean, and gives the second moments about it in place of the covariance. ``shrinkage`` 0..1 is
    the weight of the diagonal (0: the plain covariance, 1: no correlations); None estimates it from the samples as the
    ratio of the off-diagonal entries' sampling variance to their squares (Schäfer and Strimmer 2005, target D: unequal
    variances), so that few samples give few correlations. ``floor`` is the least variance. PriorError for fewer than
    20 samples or values that are not finite.
    """
    if samples.ndim != 2 or len(samples) < MIN_SAMPLES:
        raise PriorError(f"{len(samples)} images were given, at least {MIN_SAMPLES} are needed to fit a Gaussian.")
    if shrinkage is not None and not 0 <= shrinkage <= 1:
        raise PriorError(f"shrinkage is {shrinkage}, must be between 0 and 1.")
    x = samples.detach().double().cpu()
    if not torch.isfinite(x).all():
        raise PriorError("a network's outputs are not finite: its weights are damaged.")
    n = len(x)
    mean = x.mean(0) if about is None else torch.tensor(about, dtype=torch.float64)
    centred = x - mean
    covariance = centred.T @ centred / (n - 1)
    if shrinkage is None:
        shrinkage = _estimated_shrinkage(centred, covariance)
    diagonal = torch.diag(covariance.diagonal())
    covariance = (1 - shrinkage) * covariance + shrinkage * diagonal
    covariance = covariance + torch.diag((floor - covariance.diagonal()).clamp(min=0))
    return GaussianConfig(tuple(mean.tolist()), tuple(tuple(row) for row in covariance.tolist()))


def _estimated_shrinkage(centred: Tensor, covariance: Tensor) -> float:
    n = len(centred)
    products = centred[:, :, None] * centred[:, None, :]  # (N, D, D)
    spread = (products - products.mean(0)).square().sum(0) * n / (n - 1) ** 3  # variance of each covariance
    off = ~torch.eye(centred.shape[1], dtype=torch.bool)
    squares = covariance[off].square().sum()
    return 1.0 if squares == 0 else float((spread[off].sum() / squares).clamp(0, 1))


@torch.no_grad()
def network_outputs(view_net: nn.Module, light_net: nn.Module, batches: Iterable[Tensor]) -> tuple[Tensor, Tensor]:
    """Raw outputs, views (N, 6) and lights (N, 4), for batches of images (B, 3, S, S) in -1..1."""
    views, lights = [], []
    for images in batches:
        views.append(view_net(images).float().cpu())
        lights.append(light_net(images).float().cpu())
    if not views:
        raise PriorError("there are no images to fit the Gaussians to.")
    return torch.cat(views), torch.cat(lights)


def fit_priors(
    config: CategoryConfig,
    view_net: nn.Module,
    light_net: nn.Module,
    batches: Iterable[Tensor],
    shrinkage: float | None = None,
    own_nets: bool = True,
) -> CategoryConfig:
    """``config`` with both Gaussians fitted to the nets' outputs over batches of images (B, 3, S, S) in -1..1.

    ``own_nets``: the networks belong to the checkpoint, whose predictions must stay what they are.

    - They stand on no mean (``add_mean`` False, or both means zero): the Gaussians take the outputs' means and
      covariances, and ``add_mean`` becomes False.
    - They stand on the configuration's means: the means stay, the covariances become the outputs' second moments, so
      that drawn views spread about the old means as widely as the predicted ones do.

    Networks from elsewhere (``own_nets`` False) give means and covariances; ``add_mean`` stays, for networks to come.
    PriorError for fewer than 20 images.
    """
    views, lights = network_outputs(view_net, light_net, batches)
    based = config.add_mean and any(config.view_gaussian.mean + config.light_gaussian.mean)
    about = (config.view_gaussian.mean, config.light_gaussian.mean) if own_nets and based else (None, None)
    if about[0] is not None:  # what is drawn about a mean corresponds to outputs with that mean added
        views = views + torch.tensor(about[0])
        lights = lights + torch.tensor(about[1])
    return replace(
        config,
        view_gaussian=fit_gaussian(views, shrinkage, about=about[0]),
        light_gaussian=fit_gaussian(lights, shrinkage, about=about[1]),
        add_mean=config.add_mean if based or not own_nets else False,
    )


@torch.no_grad()
def generated_images(generator: Generator, count: int, size: int, psi: float, seed: int = 0, batch: int = 8):
    """``count`` samples of a generator in batches (B, 3, size, size), clamped to -1..1."""
    rng = torch.Generator().manual_seed(seed)
    for start in range(0, count, batch):
        w = sample_latents(generator, min(batch, count - start), rng, psi)
        yield generator.image_at(w, size).float().clamp(-1, 1)


def write_config(folder: str | Path, config: CategoryConfig) -> None:
    """Replace ``config.json`` of a checkpoint folder, whole or not at all; PriorError where it cannot be written."""
    target = Path(folder) / "config.json"
    if not target.is_file():
        raise PriorError(f"{target} is not there: give a checkpoint folder.")
    try:
        with atomic_file(target) as part:
            part.write_text(config.to_json(), encoding="utf-8")
    except ExportError as error:
        raise PriorError(str(error)) from None
