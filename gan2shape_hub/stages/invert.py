"""A latent for a photograph, and a generator that fits it better still.

W is searched in whitened coordinates: one unit along each principal direction of the mapping network's output is one
standard deviation, so every direction is as easy to move in as it is common, and the squared length says how unusual
an image is. Most of the search reads the generator's smallest tap, where an image costs least. The last quarter looks
at the picture of the whole network: taps were fitted to latents of W, and a latent per layer that is found through a
tap pleases the tap and not the generator (on a portrait 20.3 dB against 17.9 dB, with another hair colour).

The latent encoder says where to begin. It learnt differences of images, so it is asked for the difference from the
average one; with half of the usual iterations two generated faces came 0.4 and 2.9 dB closer from there. It sees less
of a turn than there is, so the answer is turned until the view network reads the photograph's pose from it.
"""

from __future__ import annotations

import copy
import dataclasses
import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gan2shape_hub.generator import Generator, sample_latents, tap_sizes
from gan2shape_hub.models.latent_projection import LatentProjection, full_image
from gan2shape_hub.models.likeness import unlikeness
from gan2shape_hub.models.perceptual import feature_loss
from gan2shape_hub.run import Run
from gan2shape_hub.stages.preview import no_preview
from gan2shape_hub.state import State


@dataclass(frozen=True)
class Inversion:
    """latent (1, L, D); image (1, 3, S, S), the whole generator's picture of it averaged to S and clamped to -1..1;
    psnr_db of that image against the photograph; iterations that were run."""

    latent: Tensor
    image: Tensor
    psnr_db: float
    iterations: int


@torch.no_grad()
def invert(state: State, run: Run) -> State:
    """Find the latents of the photographs; the object's mask says what counts for more."""
    targets, generator = state.targets, state.generator
    latents, originals = list(targets.latents.split(1)), list(targets.originals.split(1))
    quality, unlike = list(state.quality_db), list(state.unlikeness)
    chosen = [k for k, photograph in enumerate(state.photographs) if photograph]
    each = run.iterations // len(chosen)
    for number, k in enumerate(chosen):
        mask = None if targets.masks is None else targets.masks[k : k + 1]
        image = targets.images[k : k + 1]
        found = find_latent(
            image,
            each,
            state.projection,
            run,
            mask,
            first=number * each,
            turned=partial(_turned_like, image, mask, state=state, run=run),
        )
        # Of the tap where there is one, as the encoder was trained to see it.
        drawn = run.gan_image(generator, found.latent, run.config.image_size)
        latents[k], originals[k] = found.latent.float(), drawn.float().clamp(-1, 1)
        quality[k], unlike[k] = round(found.psnr_db, 2), _unlikeness(found.image, image, run)
    latents = [w if w.ndim == 3 else w[:, None].expand(-1, generator.num_latents, -1) for w in latents]
    targets = dataclasses.replace(targets, latents=torch.cat(latents), originals=torch.cat(originals))
    return state.replace(targets=targets, quality_db=tuple(quality), unlikeness=tuple(unlike))


@torch.enable_grad()
def find_latent(
    image: Tensor,
    iterations: int,
    projection: LatentProjection,
    run: Run,
    mask: Tensor | None = None,
    *,
    first: int = 0,
    turned: Callable[[Tensor], Tensor] | None = None,
) -> Inversion:
    """Find the latent whose picture is closest to ``image`` (1, 3, S, S) in -1..1.

    The search starts at the answer of ``run.encoder``, where that is closer than the average image, ``turned``. One w
    for all layers first, so that every step is an image of the generator; then a latent per layer, held near that w,
    for what W alone cannot say. Pixels (L1) and perceptual features are compared, and the discriminator's where there
    is one. The closest picture seen is returned; there is no randomness in it.

    Args:
        image: (1, 3, S, S), S being ``run.config.image_size``; values beyond -1..1 are clamped.
        iterations: upper bound; fewer where the image is matched already.
        mask: (1, 1, S, S) in 0..1, 1 on the object, which counts for more; None: all pixels count alike.
        first: iterations of the step that were done for other photographs.
        turned: the latent (1, D) at which to begin, of the one (1, D) that would be; None: that one.

    Raises:
        Cancelled: the callback said so; FloatingPointError: the loss became NaN.
    """
    generator, encoder, size, crop = projection.generator, run.encoder, run.config.image_size, run.config.crop_fraction
    constants = run.config.invert
    dtype = generator.latent_mean.dtype
    target = image.float().clamp(-1, 1)
    weight = torch.ones_like(target[:, :1]) if mask is None else 1 + constants.object_weight * mask.to(target)
    weight = weight / weight.mean()
    mean, directions = generator.latent_mean.float(), latent_directions(generator)
    shared = torch.zeros(1, 1, len(directions), device=run.device)
    if encoder is not None:
        guess = encoded(target, encoder, directions, projection, run)
        average, answer = _apart(generator, torch.cat([mean[None], mean + (guess @ directions)[:, 0]]), target, run)
        if answer < average:
            shared = guess
    if turned is not None:
        with torch.no_grad():
            start = mean + (shared @ directions)[:, 0]
            mean = mean + (turned(start) - start)[0]  # how the head is held makes nobody unusual
    shared.requires_grad_(True)
    own = torch.zeros(1, generator.num_latents, len(directions), device=run.device, requires_grad=True)

    def latent() -> Tensor:
        return mean + (shared + own) @ directions

    def picture(w: Tensor, side: int, whole: bool) -> Tensor:
        w = w.to(dtype)
        return (full_image(generator, w, size, crop) if whole else run.gan_image(generator, w, side)).float()

    coarse = int(iterations * constants.coarse)
    stages = (
        (0, coarse, coarse_size(generator, size), False, (shared,), constants.learning_rate),
        (coarse, iterations, size, True, (shared, own), constants.wide_learning_rate),
    )
    best, done = latent().detach(), 0
    with torch.no_grad():
        closest = psnr_db(picture(best, size, True), target)
    for start, stop, side, whole, parameters, rate in stages:
        if closest > constants.good_enough_db:
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
            loss = ((found - wanted_image).abs() * here).mean() + constants.length_weight * shared.square().mean()
            if wanted:
                loss = loss + constants.perceptual_weight * feature_loss(compared(run, found), wanted, here)
            if whole:
                loss = loss + constants.spread_weight * own.square().mean()
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
            done += 1
            run.tick(first + iteration, loss.detach(), no_preview)
            if similarity > constants.good_enough_db:
                break
    with torch.no_grad():
        for candidate in (latent(), best):  # after the last step, and the best one before it
            found = picture(candidate, size, True).clamp(-1, 1)
            if psnr_db(found, target) >= closest:
                break
    return Inversion(latent=candidate.detach(), image=found, psnr_db=psnr_db(found, target), iterations=done)


@torch.no_grad()
def encoded(image: Tensor, encoder: nn.Module, directions: Tensor, projection: LatentProjection, run: Run) -> Tensor:
    """What the latent encoder says of an image (1, 3, S, S), in whitened coordinates (1, 1, D), at most 2.5 standard
    deviations along each direction: it answers in the few hundred most common ones, the rest is rounding.

    An encoder that learnt differences of images (``projection.relative``) is asked for that from the average one.
    """
    dtype = next((p.dtype for p in encoder.parameters()), image.dtype)
    encoding = encoder(image.to(dtype))
    if run.config.projection.relative:
        mean = projection.generator.latent_mean[None]
        average = run.gan_image(projection.generator, mean, image.shape[-1]).clamp(-1, 1)
        encoding = encoding - encoder(average.to(dtype))
    offset, _ = projection.offset(encoding.float())
    return (offset @ directions.T / directions.square().sum(dim=1)).clamp(-2.5, 2.5)[:, None]


def _turned_like(image: Tensor, mask: Tensor | None, latent: Tensor, *, state: State, run: Run) -> Tensor:
    """``latent`` (1, D) turned along the directions of W, so that the view network reads the pose of ``image``
    (1, 3, S, S) from its picture; as it is where the checkpoint knows no such directions.

    Both are read without their backgrounds: ``mask`` (1, 1, S, S) is the photograph's.
    """
    if not state.projection.walks:
        return latent
    own = run.gan_image(state.generator, latent, run.config.image_size).float().clamp(-1, 1)
    there = None if mask is None else mask if run.masker is None else run.masker(own)
    seen, wanted = (
        state.nets.predict_view(x if m is None else x * m, run.config)[:, :2] for x, m in ((own, there), (image, mask))
    )
    return state.projection.walk(latent, wanted - seen)


@torch.no_grad()
def _apart(generator: Generator, latents: Tensor, target: Tensor, run: Run) -> list[float]:
    """How far the pictures of latents (N, D) are from the photograph, as the search compares them."""
    wanted, apart = run.image_features(target), []
    for latent in latents:
        found = full_image(generator, latent[None], target.shape[-1], run.config.crop_fraction)
        error = (found - target).abs().mean()
        if wanted:
            error = error + run.config.invert.perceptual_weight * feature_loss(run.image_features(found), wanted)
        apart.append(float(error))
    return apart


def _features(run: Run, images: Tensor) -> list[Tensor]:
    """Perceptual feature maps, and the discriminator's first ones where the checkpoint has one."""
    return run.image_features(images) + (run.projection_features(images) if run.discriminator is not None else [])


def tune(state: State, run: Run) -> State:
    """Adapt a copy of the generator to the photographs at their latents (pivotal tuning, Roich et al., 2021).

    Mapping network, taps and noise maps stay; the synthesis weights move by small relative steps, and the whole
    network's picture is compared as in ``invert``. Its images take the place of the former generator's.
    """
    size, crop, targets = run.config.image_size, run.config.crop_fraction, state.targets
    generator = copy.deepcopy(state.generator).float()
    weights = trainable_weights(generator)
    for weight in weights:
        weight.requires_grad_(True)
    rates = [run.config.tune.learning_rate * max(float(w.detach().square().mean().sqrt()), 1e-3) for w in weights]
    groups = [{"params": [w], "lr": rate} for w, rate in zip(weights, rates, strict=True)]
    optimizer = torch.optim.Adam(groups, betas=(0.9, 0.99))
    chosen = [k for k, photograph in enumerate(state.photographs) if photograph]
    wanted = {k: _features(run, targets.images[k : k + 1]) for k in chosen}
    for iteration in range(run.iterations):
        k = chosen[iteration % len(chosen)]
        for group, rate in zip(optimizer.param_groups, rates, strict=True):
            group["lr"] = rate * pace(iteration, run.iterations)
        found = full_image(generator, targets.latents[k : k + 1], size, crop)
        loss = (found - targets.images[k : k + 1]).abs().mean()
        if wanted[k]:
            loss = loss + run.config.tune.perceptual_weight * feature_loss(_features(run, found), wanted[k])
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        run.tick(iteration, loss.detach(), no_preview)
    generator.requires_grad_(False).eval()
    quality, unlike = list(state.quality_db), list(state.unlikeness)
    with torch.no_grad():
        originals = torch.cat([run.gan_image(generator, w[None], size).clamp(-1, 1) for w in targets.latents])
        for k in chosen:
            found = full_image(generator, targets.latents[k : k + 1], size, crop)
            quality[k] = round(psnr_db(found[0], targets.images[k]), 2)
            unlike[k] = _unlikeness(found, targets.images[k : k + 1], run)
    return state.replace(
        projection=LatentProjection(generator, run.config.projection),
        targets=dataclasses.replace(targets, originals=originals),
        quality_db=tuple(quality),
        unlikeness=tuple(unlike),
    )


@torch.no_grad()
def latent_directions(generator: Generator, samples: int = 4096) -> Tensor:
    """Principal directions of W (D, D), rows times their standard deviations: standard normal coordinates times them,
    plus the mean, are distributed as the mapping network's outputs are (to second order)."""
    mean = generator.latent_mean
    w = sample_latents(generator, samples, torch.Generator().manual_seed(0))
    offsets = (w - mean).cpu().double()
    values, vectors = torch.linalg.eigh(offsets.T @ offsets / samples)
    deviations = values.clamp_min(float(values[-1]) * 1e-6).sqrt()
    return (vectors * deviations).T.flip(0).float().to(mean.device)


def coarse_size(generator: Generator, size: int) -> int:
    """Side of the generator's smallest tap, where it is below ``size``; else ``size``."""
    return min([s for s in tap_sizes(generator) if s < size], default=size)


def trainable_weights(generator: Generator) -> list[nn.Parameter]:
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


def _unlikeness(picture: Tensor, photograph: Tensor, run: Run) -> float | None:
    """None where the category aligns no faces, or has no perceptual network."""
    if run.perceptual is None or run.config.align != "face":
        return None
    return round(unlikeness(picture, photograph, run.perceptual, run.config.invert.face_box), 4)
