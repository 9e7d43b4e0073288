"""A latent for a photograph, and a generator that fits it better still.

W is searched in whitened coordinates: one unit along each principal direction of the mapping network's output is one
standard deviation, so every direction is as easy to move in as it is common, and the squared length says how unusual
an image is. Most of the search reads the generator's smallest tap, where an image costs least. The last quarter looks
at the picture of the whole network: taps were fitted to latents of W, and a latent per layer that is found through a
tap pleases the tap and not the generator (on a portrait 20.3 dB against 17.9 dB, with another hair colour).

The latent encoder says where to begin. It learnt differences of images, so it is asked for the difference from the
average one; with half of the usual iterations two generated faces came 0.4 and 2.9 dB closer from there.
"""

from __future__ import annotations

import copy
import dataclasses
import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gan2shape_hub.models.latent_projection import LatentProjection
from gan2shape_hub.models.perceptual import feature_loss
from gan2shape_hub.records import Targets
from gan2shape_hub.run import Run

COARSE = 0.75
"""Part of the iterations that look at the smallest tap, with one w for all layers: at 0.5 a portrait came 0.6 dB closer
(20.7 dB) and took nearly twice as long."""
LEARNING_RATE, WIDE_LEARNING_RATE = 0.15, 0.12
"""Adam's largest step in standard deviations of W, with one w for all layers and with one for each."""
LENGTH_WEIGHT, SPREAD_WEIGHT = 0.001, 0.02
"""Of the mean squares of the coordinates, and of what each layer's latent departs from them: keeps the latent where
edits still work."""
PERCEPTUAL_WEIGHT = 0.3
OBJECT_WEIGHT = 3.0
"""By how much more than the background the object counts: on a portrait the face came 1.5 dB closer (23.0 to 24.5 dB)
and the whole picture stayed as close (20.5 and 20.4 dB)."""
GOOD_ENOUGH_DB = 40.0
"""The search stops here: closer cannot be seen, and no later step can tell."""
TUNE_LEARNING_RATE = 3e-3
"""Adam's step relative to each weight tensor's root mean square."""


@dataclass(frozen=True)
class Inversion:
    """latent (1, L, D); image (1, 3, S, S), the whole generator's picture of it averaged to S and clamped to -1..1;
    psnr_db of that image against the photograph; iterations that were run."""

    latent: Tensor
    image: Tensor
    psnr_db: float
    iterations: int


def invert(
    image: Tensor, iterations: int, run: Run, mask: Tensor | None = None, encoder: nn.Module | None = None
) -> Inversion:
    """Find the latent whose picture is closest to ``image`` (1, 3, S, S) in -1..1.

    The search starts at the encoder's answer, where that is closer than the average image. One w for all layers first,
    so that every step is an image of the generator; then a latent per layer, held near that w, for what W alone cannot
    say. Pixels (L1) and perceptual features are compared, and the discriminator's where there is one. The closest
    picture seen is returned; there is no randomness in it.

    Args:
        image: (1, 3, S, S), S being ``run.config.image_size``; values beyond -1..1 are clamped.
        iterations: upper bound; fewer where the image is matched already.
        mask: (1, 1, S, S) in 0..1, 1 on the object, which counts for more; None: all pixels count alike.
        encoder: the checkpoint's latent encoder; None: the search starts at the average image.

    Raises:
        Cancelled: the callback said so; FloatingPointError: the loss became NaN.
    """
    generator, size = run.generator, run.config.image_size
    dtype = generator.latent_mean.dtype
    target = image.float().clamp(-1, 1)
    weight = torch.ones_like(target[:, :1]) if mask is None else 1 + OBJECT_WEIGHT * mask.to(target)
    weight = weight / weight.mean()
    mean, directions = generator.latent_mean.float(), latent_directions(generator)
    shared = torch.zeros(1, 1, len(directions), device=run.device)
    if encoder is not None and iterations:
        guess = encoded(target, encoder, directions, run)
        average, answer = _apart(torch.cat([mean[None], mean + (guess @ directions)[:, 0]]), target, run)
        if answer < average:
            shared = guess
    shared.requires_grad_(True)
    own = torch.zeros(1, generator.num_latents, len(directions), device=run.device, requires_grad=True)

    def latent() -> Tensor:
        return mean + (shared + own) @ directions

    def picture(w: Tensor, side: int, whole: bool) -> Tensor:
        w = w.to(dtype)
        return (full_image(w, size, run, generator) if whole else run.gan_image(w, side, generator)).float()

    first = int(iterations * COARSE)
    stages = (
        (0, first, coarse_size(generator, size), False, (shared,), LEARNING_RATE),
        (first, iterations, size, True, (shared, own), WIDE_LEARNING_RATE),
    )
    best, done = latent().detach(), 0
    with torch.no_grad():
        closest = psnr_db(picture(best, size, True), target)
    for start, stop, side, whole, parameters, rate in stages:
        if closest > GOOD_ENOUGH_DB:
            break
        wanted_image = F.adaptive_avg_pool2d(target, side)
        compared = _features if whole else Run.image_features
        wanted, here = compared(run, wanted_image), F.adaptive_avg_pool2d(weight, side)
        optimizer = torch.optim.Adam(parameters, lr=rate, betas=(0.9, 0.95))
        for iteration in range(start, stop):
            optimizer.param_groups[0]["lr"] = rate * pace(iteration - start, stop - start)
            current = latent()
            found = picture(current, side, whole)
            similarity = psnr_db(found, wanted_image)
            if whole and similarity > closest:
                best, closest = current.detach(), similarity
            loss = ((found - wanted_image).abs() * here).mean() + LENGTH_WEIGHT * shared.square().mean()
            if wanted:
                loss = loss + PERCEPTUAL_WEIGHT * feature_loss(compared(run, found), wanted, here)
            if whole:
                loss = loss + SPREAD_WEIGHT * own.square().mean()
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
            done += 1
            run.tick("invert", iteration, iterations, loss.detach(), _no_preview)
            if similarity > GOOD_ENOUGH_DB:
                break
    with torch.no_grad():
        for candidate in (latent(), best):  # after the last step, and the best one before it
            found = picture(candidate, size, True).clamp(-1, 1)
            if psnr_db(found, target) >= closest:
                break
    return Inversion(latent=candidate.detach(), image=found, psnr_db=psnr_db(found, target), iterations=done)


@torch.no_grad()
def encoded(image: Tensor, encoder: nn.Module, directions: Tensor, run: Run) -> Tensor:
    """What the latent encoder says of an image (1, 3, S, S), in whitened coordinates (1, 1, D), at most 2.5 standard
    deviations along each direction: it answers in the few hundred most common ones, the rest is rounding.

    An encoder that learnt differences of images (``projection.relative``) is asked for that from the average one.
    """
    dtype = next((p.dtype for p in encoder.parameters()), image.dtype)
    encoding = encoder(image.to(dtype))
    if run.config.projection.relative:
        average = run.gan_image(run.generator.latent_mean[None], image.shape[-1]).clamp(-1, 1)
        encoding = encoding - encoder(average.to(dtype))
    offset, _ = run.projection.offset(encoding.float())
    return (offset @ directions.T / directions.square().sum(dim=1)).clamp(-2.5, 2.5)[:, None]


@torch.no_grad()
def _apart(latents: Tensor, target: Tensor, run: Run) -> list[float]:
    """How far the pictures of latents (N, D) are from the photograph, as the search compares them."""
    wanted, apart = run.image_features(target), []
    for latent in latents:
        found = full_image(latent[None], target.shape[-1], run, run.generator)
        error = (found - target).abs().mean()
        if wanted:
            error = error + PERCEPTUAL_WEIGHT * feature_loss(run.image_features(found), wanted)
        apart.append(float(error))
    return apart


def _features(run: Run, images: Tensor) -> list[Tensor]:
    """Perceptual feature maps, and the discriminator's first ones where the checkpoint has one."""
    return run.image_features(images) + (run.projection_features(images) if run.discriminator is not None else [])


def full_image(latent: Tensor, size: int, run: Run, generator: nn.Module) -> Tensor:
    """The whole network's picture of latents (B, D) or (B, L, D), as ``Run.gan_image`` without its taps:
    (B, 3, size, size) in about -1..1, centre-cropped where the category is."""
    image = generator(latent.to(generator.latent_mean.dtype)).to(latent.dtype)
    side = round(image.shape[-1] * run.config.crop_fraction)
    first = (image.shape[-1] - side) // 2
    image = image[..., first : first + side, first : first + side]
    if side % size == 0:
        return F.avg_pool2d(image, side // size)
    return F.interpolate(image, (size, size), mode="bilinear", antialias=True, align_corners=False)


def tune(targets: Targets, photographs: list[bool], run: Run) -> tuple[Run, Targets, list[float | None]]:
    """Adapt a copy of the generator to the photographs at their latents (pivotal tuning, Roich et al., 2021).

    Mapping network, taps and noise maps stay; the synthesis weights move by small relative steps, and the whole
    network's picture is compared as in ``invert``. The shipped generator is not changed.

    Args:
        targets: of the run; ``photographs`` says which of them (K) are photographs and not latents.

    Returns:
        The run with the adapted generator (without gradients) and its projection, the targets with its images as
        ``originals``, and each photograph's similarity in dB (None for latents).
    """
    size, iterations = run.config.image_size, run.schedule.tune_iterations
    generator = copy.deepcopy(run.generator).float()
    weights = trainable_weights(generator)
    for weight in weights:
        weight.requires_grad_(True)
    groups = [
        {"params": [w], "lr": TUNE_LEARNING_RATE * max(float(w.detach().square().mean().sqrt()), 1e-3)} for w in weights
    ]
    rates = [group["lr"] for group in groups]
    optimizer = torch.optim.Adam(groups, betas=(0.9, 0.99))
    chosen = [k for k, photograph in enumerate(photographs) if photograph]
    wanted = {k: _features(run, targets.images[k : k + 1]) for k in chosen}
    for iteration in range(iterations):
        k = chosen[iteration % len(chosen)]
        for group, rate in zip(optimizer.param_groups, rates, strict=True):
            group["lr"] = rate * pace(iteration, iterations)
        found = full_image(targets.latents[k : k + 1], size, run, generator)
        loss = (found - targets.images[k : k + 1]).abs().mean()
        if wanted[k]:
            loss = loss + PERCEPTUAL_WEIGHT * feature_loss(_features(run, found), wanted[k])
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        run.tick("tune", iteration, iterations, loss.detach(), _no_preview)
    generator.requires_grad_(False).eval()
    with torch.no_grad():
        originals = torch.cat([run.gan_image(w[None], size, generator).clamp(-1, 1) for w in targets.latents])
        quality = [
            round(psnr_db(full_image(targets.latents[k : k + 1], size, run, generator)[0], targets.images[k]), 2)
            if photograph
            else None
            for k, photograph in enumerate(photographs)
        ]
    run = dataclasses.replace(run, generator=generator, projection=LatentProjection(generator, run.config.projection))
    return run, dataclasses.replace(targets, originals=originals), quality


@torch.no_grad()
def latent_directions(generator: nn.Module, samples: int = 4096) -> Tensor:
    """Principal directions of W (D, D), rows times their standard deviations: standard normal coordinates times them,
    plus the mean, are distributed as the mapping network's outputs are (to second order)."""
    z = torch.randn(samples, generator.latent_dim, generator=torch.Generator().manual_seed(0))
    mean = generator.latent_mean
    w = torch.cat([generator.mapping(chunk.to(mean.device, mean.dtype)) for chunk in z.split(1024)])
    offsets = (w - mean).double().cpu()
    values, vectors = torch.linalg.eigh(offsets.T @ offsets / samples)
    deviations = values.clamp_min(float(values[-1]) * 1e-6).sqrt()
    return (vectors * deviations).T.flip(0).float().to(mean.device)


def coarse_size(generator: nn.Module, size: int) -> int:
    """Side of the generator's smallest tap, where it is below ``size``; else ``size``."""
    return min([s for s in getattr(generator, "tap_sizes", ()) if s < size], default=size)


def trainable_weights(generator: nn.Module) -> list[nn.Parameter]:
    """The synthesis network's parameters, without the mapping network and the tap heads."""
    return [p for name, p in generator.named_parameters() if not name.startswith(("mapping.", "tap_heads."))]


def pace(iteration: int, iterations: int) -> float:
    """Factor of the learning rate: five iterations of warm-up, then a cosine down to a twentieth."""
    warm = min((iteration + 1) / 5, 1.0)
    return warm * (0.525 + 0.475 * math.cos(math.pi * iteration / max(iterations, 1)))


def psnr_db(image: Tensor, target: Tensor) -> float:
    """Peak signal to noise ratio of two images in -1..1 (values beyond are clamped first), at most 100 dB."""
    error = (image.detach().clamp(-1, 1) - target).square().mean().clamp_min(4e-10)
    return float(10 * torch.log10(4 / error))


def _no_preview() -> None:
    """Nothing can be shown before the latent is known."""
