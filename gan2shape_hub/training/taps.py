"""Training of the tap heads of a MobileStyleGAN: small images out of early features, matched to the full image.

A head is trained by least squares against the full image downsampled by area, on latents of many truncations, with
the generator frozen. It starts from the best linear read-out of the whitened features (ridge regression), which is
within a few decibels of the goal. Full images are the expensive part, so they go into a pool that grows while
training runs. Heads do not depend on each other and may be trained by processes of their own.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from gan2shape_hub.generator import sample_latents
from gan2shape_hub.models.mobile_stylegan import MobileStyleGANGenerator


@dataclass(frozen=True)
class TapTraining:
    iterations: int = 2500
    batch_size: int = 8
    first_images: int = 256
    iterations_per_image: int = 4
    """The pool grows by one full image every so many iterations, until the learning rate falls."""
    linear_images: int = 48
    learning_rate: float = 1e-3
    wide_learning_rate: float = 2e-4
    """Of layers that read many channels or the latent: a step of Adam there moves the output far more."""
    ema: float = 0.995
    truncation: tuple[float, float] = (0.5, 1.0)
    seed: int = 0
    checkpoint_every: int = 100
    continued: bool = False
    """Go on from the head that the generator has, with new images, instead of from the linear read-out."""


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
def fit_linear(generator: MobileStyleGANGenerator, size: int, pool: Pool, images: int, ridge: float = 1e-3) -> None:
    """Set the head at ``size`` to the ridge regression of its targets on its whitened features."""
    head = generator.tap_heads[str(size)]
    channels = head.conv_in.in_channels
    sums, gram, cross = torch.zeros(channels), torch.zeros(channels, channels), torch.zeros(channels, 3)
    target_sum, count = torch.zeros(3), 0
    for w, target in zip(pool.latents[:images], pool.images[size][:images], strict=True):
        x = generator.tap_features(w[None], size)[0].flatten(1)
        y = target.float().flatten(1)
        sums += x.sum(dim=1)
        target_sum += y.sum(dim=1)
        gram += x @ x.T
        cross += x @ y.T
        count += x.shape[1]
    mean, target_mean = sums / count, target_sum / count
    covariance = gram / count - torch.outer(mean, mean)
    std = covariance.diagonal().clamp_min(1e-12).sqrt()
    correlation = covariance / torch.outer(std, std) + ridge * torch.eye(channels)
    weight = torch.linalg.solve(correlation, (cross / count - torch.outer(mean, target_mean)) / std[:, None])
    head.style_in.bias.copy_(1 / std)
    head.style_in.weight.zero_()
    head.conv_in.weight[:3, :, 0, 0] = weight.T
    head.conv_in.bias[:3] = target_mean - weight.T @ (mean / std)
    head.convs[-1].weight.zero_()
    head.convs[-1].bias.zero_()


@dataclass
class Pool:
    """Latents (latent_dim) and their images {size: [(3, size, size) in half precision]}, growing."""

    latents: list[Tensor]
    images: dict[int, list[Tensor]]

    def grow(self, generator: MobileStyleGANGenerator, truncation: tuple[float, float], rng: torch.Generator) -> None:
        w = sample_latents(generator, 1, rng, truncation)
        for size, target in tap_targets(generator, w).items():
            self.images[size].append(target[0].half())
        self.latents.append(w[0])


def train_tap(
    generator: MobileStyleGANGenerator,
    size: int,
    training: TapTraining,
    *,
    checkpoint: Path | None = None,
    log: Callable[[str], None] = print,
) -> None:
    """Train the head at ``size`` in place. With ``checkpoint`` it saves and resumes there.

    The latents that are judged are the same whatever the seed, so that figures of several trainings compare.
    """
    rng = torch.Generator().manual_seed(training.seed + size)
    test_w = sample_latents(generator, 24, torch.Generator().manual_seed(10_000), 0.7)
    test_targets = {size: tap_targets(generator, test_w)[size]}
    head = generator.tap_heads[str(size)].requires_grad_(True)
    parameters = list(head.parameters())
    pool = Pool([], {s: [] for s in generator.tap_sizes})
    wide = [p for name, p in head.named_parameters() if name.startswith(("conv_in", "style"))]
    narrow = [p for name, p in head.named_parameters() if not name.startswith(("conv_in", "style"))]
    rates = (training.wide_learning_rate, training.learning_rate)
    optimizer = torch.optim.Adam([{"params": wide}, {"params": narrow}], lr=0.0, betas=(0.9, 0.99))
    start = 0
    if checkpoint and checkpoint.exists():
        state = torch.load(checkpoint, weights_only=True)
        head.load_state_dict(state["head"])
        optimizer.load_state_dict(state["optimizer"])
        averages, start = state["averages"], state["iteration"]
        pool = Pool(list(state["latents"]), {int(k): list(v) for k, v in state["images"].items()})
        rng.set_state(state["rng"])
    while len(pool.latents) < training.first_images:
        pool.grow(generator, training.truncation, rng)
    if start == 0:
        if not training.continued:
            fit_linear(generator, size, pool, training.linear_images)
        averages = [p.detach().clone() for p in parameters]
        start_from = "the head as it was" if training.continued else "linear read-out"
        log(f"{size}px: {start_from}, unseen {tap_psnr_db(generator, test_w, test_targets)[size]:.2f} dB")
    begun = time.time()
    for iteration in range(start, training.iterations):
        progress = iteration / training.iterations
        decay = min(1.0, (iteration + 1) / 20) * 0.5 * (1 + math.cos(math.pi * progress))
        for group, rate in zip(optimizer.param_groups, rates, strict=True):
            group["lr"] = rate * decay
        if progress < 0.7 and iteration % training.iterations_per_image == 0:
            pool.grow(generator, training.truncation, rng)
        mean_loss = 0.0
        for i in torch.randint(len(pool.latents), (training.batch_size,), generator=rng).tolist():
            # An image at a time: the features of one image fit the cache.
            w = pool.latents[i][None]
            with torch.no_grad():
                features = generator.tap_features(w, size)
            loss = F.mse_loss(generator.read_tap(features, w, size), pool.images[size][i][None].float())
            (loss / training.batch_size).backward()
            mean_loss += loss.item() / training.batch_size
        torch.nn.utils.clip_grad_norm_(parameters, 0.3)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        with torch.no_grad():
            for average, parameter in zip(averages, parameters, strict=True):
                average.lerp_(parameter, 1 - min(training.ema, (iteration + 1) / (iteration + 10)))
        if (iteration + 1) % training.checkpoint_every == 0 or iteration + 1 == training.iterations:
            current = [p.detach().clone() for p in parameters]
            _assign(parameters, averages)
            psnr = tap_psnr_db(generator, test_w, test_targets)[size]
            _assign(parameters, current)
            log(
                f"{size}px {iteration + 1}/{training.iterations}: loss {mean_loss:.5f}, unseen {psnr:.2f} dB, "
                f"pool {len(pool.latents)}, {time.time() - begun:.0f} s"
            )
            if checkpoint:
                _save(checkpoint, head, optimizer, averages, iteration + 1, pool, rng)
    _assign(parameters, averages)
    head.requires_grad_(False)


@torch.no_grad()
def _assign(parameters, values) -> None:
    for parameter, value in zip(parameters, values, strict=True):
        parameter.copy_(value)


def _save(path: Path, head, optimizer, averages, iteration, pool: Pool, rng) -> None:
    temporary = path.with_suffix(".tmp")
    torch.save(
        {
            "head": head.state_dict(),
            "optimizer": optimizer.state_dict(),
            "averages": averages,
            "iteration": iteration,
            "latents": torch.stack(pool.latents),
            "images": {str(size): torch.stack(images) for size, images in pool.images.items()},
            "rng": rng.get_state(),
        },
        temporary,
    )
    temporary.replace(path)
