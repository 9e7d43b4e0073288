"""Training of the tap heads of a MobileStyleGAN: small images out of early features, matched to the full image.

A head is trained by least squares against the full image downsampled by area, on latents of many truncations, with
the generator frozen. It starts from the best linear read-out of the whitened features (ridge regression), which is
within a few decibels of the goal. Full images are the expensive part: they are made first, and kept on disk.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gan2shape_hub.generator import sample_latents
from gan2shape_hub.models.mobile_stylegan import MobileStyleGANGenerator
from gan2shape_hub.training.chunks import make_chunks, read_chunks
from gan2shape_hub.training.recipe import TapsRecipe
from gan2shape_hub.training.trainer import Job, train

CHUNK = 20
JUDGED, JUDGED_SEED, JUDGED_TRUNCATION = 24, 10_000, 0.7
"""The latents that heads are judged by are the same whatever the seed, so that figures of several trainings compare."""


@dataclass(frozen=True)
class TapImages:
    """Latents (N, D) and their full images, downsampled by area: {size: (N, 3, size, size) in half precision}."""

    latents: Tensor
    images: dict[int, Tensor]


@torch.no_grad()
def tap_targets(generator: MobileStyleGANGenerator, w: Tensor) -> dict[int, Tensor]:
    """The full images of ``w``, downsampled by area to each tap's size: {size: (B, 3, size, size)}."""
    image = generator(w)
    return {size: F.interpolate(image, (size, size), mode="area") for size in generator.tap_sizes}


@torch.no_grad()
def tap_psnr_db(generator: MobileStyleGANGenerator, w: Tensor, targets: dict[int, Tensor]) -> dict[int, float]:
    """Mean PSNR in dB of each tap over images in -1..1 (peak to peak 2)."""
    result = {}
    for size, target in targets.items():
        error = (generator.image_at(w, size) - target).square().mean(dim=(1, 2, 3))
        result[size] = float((10 * torch.log10(4 / error)).mean())
    return result


@torch.no_grad()
def fit_linear(
    generator: MobileStyleGANGenerator, size: int, known: TapImages, images: int, ridge: float = 1e-3
) -> None:
    """Set the head at ``size`` to the ridge regression of its targets on its whitened features."""
    head = generator.tap_heads[str(size)]
    channels = head.conv_in.in_channels
    device = generator.latent_mean.device
    sums, gram = torch.zeros(channels, device=device), torch.zeros(channels, channels, device=device)
    cross, target_sum, count = torch.zeros(channels, 3, device=device), torch.zeros(3, device=device), 0
    for w, target in zip(known.latents[:images], known.images[size][:images], strict=True):
        x = generator.tap_features(w[None], size)[0].flatten(1)
        y = target.float().to(device).flatten(1)
        sums += x.sum(dim=1)
        target_sum += y.sum(dim=1)
        gram += x @ x.T
        cross += x @ y.T
        count += x.shape[1]
    mean, target_mean = sums / count, target_sum / count
    covariance = gram / count - torch.outer(mean, mean)
    std = covariance.diagonal().clamp_min(1e-12).sqrt()
    correlation = covariance / torch.outer(std, std) + ridge * torch.eye(channels, device=device)
    weight = torch.linalg.solve(correlation, (cross / count - torch.outer(mean, target_mean)) / std[:, None])
    head.style_in.bias.copy_(1 / std)
    head.style_in.weight.zero_()
    head.conv_in.weight[:3, :, 0, 0] = weight.T
    head.conv_in.bias[:3] = target_mean - weight.T @ (mean / std)
    head.convs[-1].weight.zero_()
    head.convs[-1].bias.zero_()


def load_tap_images(generator: MobileStyleGANGenerator, recipe: TapsRecipe, job: Job) -> TapImages:
    """The images in the job's folder, generated where they are not there yet."""
    rng = torch.Generator().manual_seed(job.seed)
    latents = sample_latents(generator, recipe.images, rng, recipe.truncation)

    def make(which: range) -> dict[str, Tensor]:
        made = [tap_targets(generator, latents[i : i + 1]) for i in which]
        return {str(size): torch.cat([one[size] for one in made]).half() for size in generator.tap_sizes}

    paths = make_chunks(job, recipe.images, make, CHUNK)
    return TapImages(latents, {size: read_chunks(paths, str(size), recipe.images) for size in generator.tap_sizes})


def train_tap(
    generator: MobileStyleGANGenerator,
    size: int,
    known: TapImages,
    recipe: TapsRecipe,
    job: Job,
) -> float:
    """Train the head at ``size`` in place, from its linear read-out; errors are the trainer's.

    Returns:
        mean PSNR in dB on latents that nothing was trained on.
    """
    rng = torch.Generator().manual_seed(JUDGED_SEED)
    judged = sample_latents(generator, JUDGED, rng, JUDGED_TRUNCATION)
    targets = {size: tap_targets(generator, judged)[size]}
    head, heads = generator.tap_heads[str(size)], generator.tap_heads
    device = generator.latent_mean.device
    fit_linear(generator, size, known, recipe.linear_images)
    job.log(f"{size} px: linear read-out, unseen {tap_psnr_db(generator, judged, targets)[size]:.2f} dB")

    def terms(rng: torch.Generator) -> dict[str, Tensor]:
        # An image at a time: the features of one image fit the cache.
        i = int(torch.randint(len(known.latents), (1,), generator=rng))
        w = known.latents[i : i + 1]
        with torch.no_grad():
            features = generator.tap_features(w, size)
        found = generator.read_tap(features, w, size)
        return {"loss": F.mse_loss(found, known.images[size][i : i + 1].float().to(device))}

    def narrower(name: str) -> float:
        return recipe.wide_rate if name.startswith(("head.conv_in", "head.style")) else 1.0

    def judge(step: int, averaged: dict[str, nn.Module]) -> None:
        heads[str(size)] = averaged["head"]
        job.log(f"{size} px: unseen {tap_psnr_db(generator, judged, targets)[size]:.2f} dB")
        heads[str(size)] = head

    averaged = train({"head": head}, terms, recipe.training, job, scale=narrower, after_save=judge)
    head.load_state_dict(averaged["head"].state_dict())
    return tap_psnr_db(generator, judged, targets)[size]
