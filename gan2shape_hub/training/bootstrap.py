"""What networks can be taught before any shape is known: latents of generated images, views and lights of renders.

No 3D labels, landmarks or models of the category: everything comes from the generator's images and from rendering.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from gan2shape_hub.config import CategoryConfig
from gan2shape_hub.generator import ComponentGenerator
from gan2shape_hub.models.latent_projection import LatentProjection
from gan2shape_hub.models.shape import ShapeNets
from gan2shape_hub.records import Scene, Targets
from gan2shape_hub.run import Run
from gan2shape_hub.stages.explore import projection_loss, render_pseudo
from gan2shape_hub.state import State
from gan2shape_hub.training.directions import normalised_components
from gan2shape_hub.training.trainer import Terms
from gan2shape_hub.training.view_pool import ViewPool

WORST = 0.8
"""View units: predictions are taught up to here."""


def encoder_terms(
    nets: ShapeNets, images: Tensor, latents: Tensor, generator: ComponentGenerator, batch: int
) -> tuple[Terms, Callable[[torch.nn.Module], float]]:
    """Teach the encoder the normalised principal components of the latents (N, D) of generated images (N, 3, S, S)
    uint8; the last twentieth is held out.

    Images are jittered in brightness, contrast and sharpness, so that crude renders do not throw it off later.

    Returns:
        the terms, and a function that judges an encoder: R2 of the first 12 components of the images held out.
    """
    components = normalised_components(generator, latents)
    importance = generator.component_std / generator.component_std.mean()
    known = len(images) - max(len(images) // 20, 1)
    device = components.device

    def terms(rng: torch.Generator) -> dict[str, Tensor]:
        pick = torch.randint(known, (batch,), generator=rng)
        seen = _jitter(as_floats(images[pick]).to(device), rng)
        error = nets.encoder(seen).float() - components[pick.to(device)]
        return {"loss": (importance * error.square()).mean()}

    @torch.no_grad()
    def judge(encoder: torch.nn.Module) -> float:
        wanted = components[known:]
        found = torch.cat([encoder(as_floats(part).to(device)) for part in images[known:].split(32)])
        spread = wanted.var(dim=0, correction=0).clamp_min(1e-6)
        return float((1 - (found - wanted).square().mean(dim=0) / spread)[:12].mean())

    return terms, judge


def render_terms(
    nets: ShapeNets, images: Tensor, latents: Tensor, sheet: Tensor, config: CategoryConfig, batch: int
) -> Terms:
    """Teach the view and light networks to read the view and light, which are known, off renders of ``sheet`` (S, S)
    with the images' own pixels."""
    device = sheet.device

    def terms(rng: torch.Generator) -> dict[str, Tensor]:
        pick = torch.randint(len(images), (batch,), generator=rng)
        seen = as_floats(images[pick]).to(device)
        level, plain = torch.zeros(batch, 6, device=device), torch.zeros(batch, 4, device=device)
        scene = Scene(sheet.expand(batch, -1, -1), seen, level, plain)
        run = Run(config=config, schedule=config.schedule(), rng=rng, device=device)
        targets = Targets(seen, latents[pick.to(latents.device)], seen)
        renders, _, view, light = render_pseudo(scene, torch.arange(batch, device=device), targets, run)
        view_error = F.smooth_l1_loss(nets.predict_view(renders, config), view, beta=0.1)
        light_error = F.smooth_l1_loss(nets.predict_light(renders, config), light.clamp(-1, 1), beta=0.1)
        return {"view": view_error, "light": light_error, "loss": 4 * view_error + light_error}

    return terms


def turned_terms(nets: ShapeNets, pool: ViewPool, config: CategoryConfig, batch: int, device: torch.device) -> Terms:
    """Teach the view network the pitch and yaw that the directions say of the views of a pool."""

    def terms(rng: torch.Generator) -> dict[str, Tensor]:
        identity = torch.randint(len(pool), (batch,), generator=rng)
        view = torch.randint(pool.images.shape[1], (batch,), generator=rng)
        wanted = pool.turns[identity, view].clamp(-WORST, WORST).to(device)
        found = nets.predict_view(pool.floats(identity, view).to(device), config)[:, :2]
        return {"loss": F.smooth_l1_loss(found, wanted, beta=0.1)}

    return terms


def projection_terms(nets: ShapeNets, pool: ViewPool, projection: LatentProjection, run: Run, batch: int) -> Terms:
    """Step 2 of the method: the encoder learns to project renders of the identities of a pool."""

    def terms(rng: torch.Generator) -> dict[str, Tensor]:
        identity = torch.randint(len(pool), (batch,), generator=rng)
        images = pool.floats(identity, torch.zeros_like(identity)).to(run.device)
        targets = Targets(images, pool.latents[identity, 0].to(run.device), images)
        with torch.no_grad():
            scene = nets.predict_scene(images, run.config)
        state, every = State(targets, projection, nets), torch.arange(batch, device=run.device)
        drawn = Run(config=run.config, schedule=run.schedule, rng=rng, perceptual=run.perceptual, device=run.device)
        return {"loss": projection_loss(state, nets, scene, every, drawn)}

    return terms


def as_floats(images: Tensor) -> Tensor:
    """uint8 images in -1..1."""
    return images.float() / 127.5 - 1


def _jitter(images: Tensor, rng: torch.Generator) -> Tensor:
    draws = torch.rand(2, len(images), 1, 1, 1, generator=rng).to(images)
    images = images * (0.7 + 0.55 * draws[0]) + (0.4 * draws[1] - 0.2)
    if torch.rand((), generator=rng) < 0.5:
        small = F.avg_pool2d(images, 2)
        images = F.interpolate(small, scale_factor=2, mode="bilinear", align_corners=False)
    return images.clamp(-1, 1)
