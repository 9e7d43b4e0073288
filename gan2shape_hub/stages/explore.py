"""Step 2: render pseudo views and lights, and let the GAN turn them into images (paper section 3.3, step 2)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from gan2shape_hub.models.latent_projection import difference
from gan2shape_hub.models.perceptual import feature_loss, masked_l1
from gan2shape_hub.models.shape import ShapeNets
from gan2shape_hub.records import PseudoViews, Scene, Targets
from gan2shape_hub.rendering import Light, Pose, normals_from_depth, render_view, shade
from gan2shape_hub.rendering.scene import canonical, perturbed_light, photograph_texture, turn_between
from gan2shape_hub.run import Run
from gan2shape_hub.stages.preview import scene_preview


def sample_views(count: int, run: Run) -> Tensor:
    """Views (count, 6) from the category's Gaussian, the yaw stretched, kept within what the network can say."""
    gaussian = run.config.view_gaussian
    mean = torch.tensor(gaussian.mean, device=run.device)
    root = _covariance_root(gaussian.covariance).to(run.device)
    view = mean + run.normal(count, 6) @ root.T
    view[:, 1] = mean[1] + (view[:, 1] - mean[1]) * run.config.view_yaw_scale
    return view.clamp(-1, 1)


def sample_lights(light: Tensor, run: Run) -> Tensor:
    """Random light directions and strengths (N, 4) around the lights (N, 4) of the inputs."""
    lighting, count = run.config.lighting, len(light)
    direction = torch.stack(
        [run.uniform(*lighting.direction_x, count), run.uniform(*lighting.direction_y, count)], dim=1
    )
    extra = run.uniform(*lighting.extra_diffuse, count)
    return perturbed_light(light, direction, extra, lighting.ambient_per_diffuse)


def train_projection(nets: ShapeNets, targets: Targets, iterations: int, run: Run) -> None:
    """Train ``nets.encoder`` to project pseudo images onto the generator's image manifold."""
    config = run.config
    optimizer = run.optimizer(nets.train("encoder"), run.schedule.encoder_learning_rate)
    scene = _scenes(nets, targets, run)
    for iteration in range(iterations):
        pick = _pick(targets, run.schedule.batch_size, run)
        chosen = targets.select(pick)
        pseudo, mask, view, _ = render_pseudo(scene, pick, chosen, run)
        start, image = _walked(chosen, scene.view[pick], view, run)
        with run.accelerator.autocast():
            gap = photograph_gap(nets, chosen, run)
            latent, penalty = run.projection.project(nets.encoder, pseudo, start, image, gap)
        size = config.projection.training_size or config.image_size
        projected = run.gan_image(latent.float(), size)
        pseudo, mask = F.adaptive_avg_pool2d(pseudo, size), F.adaptive_avg_pool2d(mask, size)
        loss = masked_l1(projected, pseudo, mask)
        wanted = run.projection_features(pseudo)
        if wanted:
            loss = loss + feature_loss(run.projection_features(projected), wanted, mask)
        loss = loss + config.projection.offset_weight * penalty.float()
        optimizer.zero_grad(set_to_none=True)
        run.accelerator.backward(loss)
        optimizer.step()
        run.tick("explore", iteration, iterations, loss.detach(), scene_preview(nets, targets, config))


@torch.no_grad()
def collect_views(nets: ShapeNets, targets: Targets, views_per_image: int, run: Run) -> PseudoViews:
    """Project ``views_per_image`` pseudo views of every target, the encoder frozen."""
    scene = _scenes(nets, targets, run)
    images, masks, views, lights = [], [], [], []
    starts = range(0, views_per_image, run.schedule.batch_size)
    for k in range(len(targets)):
        parts = []
        for batch, first in enumerate(starts):
            count = min(run.schedule.batch_size, views_per_image - first)
            pick = torch.full((count,), k, device=run.device)
            chosen = targets.select(pick)
            pseudo, mask, view, light = render_pseudo(scene, pick, chosen, run)
            start, image = _walked(chosen, scene.view[pick], view, run)
            with run.accelerator.autocast():
                gap = photograph_gap(nets, chosen, run)
                latent, penalty = run.projection.project(nets.encoder, pseudo, start, image, gap)
            projected = run.gan_image(latent.float(), run.config.image_size).clamp(-1, 1)
            parts.append((projected, mask, view, light))
            done, total = k * len(starts) + batch, len(targets) * len(starts)
            run.tick("collect", done, total, penalty, scene_preview(nets, targets, run.config, k))
        for whole, part in zip((images, masks, views, lights), zip(*parts, strict=True), strict=True):
            whole.append(torch.cat(part))
    return PseudoViews(*(torch.stack(x) for x in (images, masks, views, lights)))


@torch.no_grad()
def _walked(chosen: Targets, own: Tensor, wanted: Tensor, run: Run) -> tuple[Tensor, Tensor]:
    """Where the projection starts: latents and images (N, 3, S, S) walked from views ``own`` (N, 6) to ``wanted``."""
    if not run.projection.walks:
        return chosen.latents, chosen.originals
    camera = run.config.camera
    turn = turn_between(Pose.from_view(own, camera), Pose.from_view(wanted, camera), camera)
    latents = run.projection.walk(chosen.latents, turn)
    return latents, run.gan_image(latents, run.config.image_size).clamp(-1, 1)


def photograph_gap(nets: ShapeNets, chosen: Targets, run: Run) -> Tensor | None:
    """What the encoder says of the difference between the inputs and the generator's images of their latents; None
    where pseudo images do not carry it: they show the albedo then, or the encoder's answer is not relative."""
    projection = run.config.projection
    if not projection.relative or projection.texture != "image":
        return None
    return difference(nets.encoder, chosen.images, chosen.originals)


def _pick(targets: Targets, batch: int, run: Run) -> Tensor:
    return run.integers(len(targets), batch)


@torch.no_grad()
def _scenes(nets: ShapeNets, targets: Targets, run: Run) -> Scene:
    """Scenes of all targets, predicted once: depth, albedo, view and light do not change during step 2."""
    parts = [nets.predict_scene(chunk, run.config) for chunk in targets.images.split(16)]
    return Scene(*(torch.cat(x) for x in zip(*((p.depth, p.albedo, p.view, p.light) for p in parts), strict=True)))


@torch.no_grad()
def render_pseudo(scene: Scene, pick: Tensor, chosen: Targets, run: Run) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Pseudo images (N, 3, S, S), masks (N, 1, S, S), views (N, 6) and lights (N, 4) of the scenes ``pick``."""
    view = sample_views(len(pick), run)
    light = sample_lights(scene.light[pick], run)
    depth = scene.depth[pick]
    if run.config.projection.texture == "image":
        texture, seen = photograph_texture(
            chosen.images,
            depth,
            Pose.from_view(scene.view[pick], run.config.camera),
            Light.from_output(scene.light[pick]),
            Light.from_output(light),
            run.config.camera,
        )
    else:
        texture, _ = shade(scene.albedo[pick], normals_from_depth(depth, run.config.camera), Light.from_output(light))
        seen = torch.ones_like(texture[:, :1])
    if run.config.use_mask and chosen.masks is not None:
        # The object mask travels with the sheet, so it is brought from the photograph's view to the canonical frame.
        pose = Pose.from_view(scene.view[pick], run.config.camera)
        seen = seen * canonical(chosen.masks, depth, pose, run.config.camera, padding="zeros")
    rendered = render_view(
        depth, torch.cat([texture, seen], dim=1), Pose.from_view(view, run.config.camera), run.config.camera
    )
    return rendered.image[:, :3].clamp(-1, 1), rendered.mask * rendered.image[:, 3:].clamp(0, 1), view, light


def _covariance_root(covariance: tuple[tuple[float, ...], ...]) -> Tensor:
    """Symmetric root of a positive semi-definite matrix (Cholesky refuses a coordinate that does not vary)."""
    values, vectors = torch.linalg.eigh(torch.tensor(covariance, dtype=torch.float64))
    return ((vectors * values.clamp_min(0).sqrt()) @ vectors.T).float()
