"""A latent for a photograph: optimisation of w, then of a w per layer, against pixels and perceptual features."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from gan2shape_hub.models.perceptual import feature_loss
from gan2shape_hub.run import Run


@dataclass(frozen=True)
class Inversion:
    """latent (1, L, D); image (1, 3, S, S), the generator's own image of it; psnr_db against the photograph."""

    latent: Tensor
    image: Tensor
    psnr_db: float


def invert(image: Tensor, iterations: int, run: Run) -> Inversion:
    """Find the latent whose image is closest to ``image`` (1, 3, S, S) in -1..1.

    The first half of the iterations moves one w inside the generator's principal components, where every step is an
    image; the rest moves a latent per layer, held near that w, for what W alone cannot say.
    """
    generator, size = run.generator, run.config.image_size
    target = image.clamp(-1, 1)
    wanted = run.image_features(target)
    w = generator.latent_mean[None].clone()
    basis = getattr(generator, "component_basis", None)
    coefficients = torch.zeros(1, w.shape[1] if basis is None else len(basis), device=run.device, requires_grad=True)
    offsets = torch.zeros(1, generator.num_latents, generator.latent_dim, device=run.device, requires_grad=True)
    half = max(iterations // 2, 1)

    def latent() -> Tensor:
        move = coefficients if basis is None else (coefficients * generator.component_std) @ basis
        return (w + move)[:, None] + offsets

    for iteration in range(iterations):
        wide = iteration >= half
        if iteration in (0, half):
            optimizer = torch.optim.Adam([coefficients], lr=0.08) if not wide else None
            if wide:
                optimizer = torch.optim.Adam(
                    [{"params": [coefficients], "lr": 0.03}, {"params": [offsets], "lr": 0.01}]
                )
        decay = 1 - (iteration % half) / half * 0.8
        found = generator.image_at(latent(), size)
        loss = (found - target).abs().mean() + 0.003 * coefficients.square().mean()
        if wanted:
            loss = loss + 0.5 * feature_loss(run.image_features(found), wanted)
        if wide:
            loss = loss + 0.5 * offsets.square().mean()
        optimizer.zero_grad(set_to_none=True)
        (loss * decay).backward()
        optimizer.step()
        run.tick("invert", iteration, iterations, loss.detach(), lambda: None)
    with torch.no_grad():
        result = latent().detach()
        found = generator.image_at(result, size).clamp(-1, 1)
        error = (found - target).square().mean().clamp_min(1e-10)
    return Inversion(latent=result, image=found, psnr_db=float(10 * torch.log10(4 / error)))
