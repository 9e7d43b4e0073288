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
from gan2shape_hub.state import State


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


def train_projection(state: State, run: Run) -> State:
    """Train the encoder to project pseudo images onto the generator's image manifold."""
    config, targets, scene = run.config, state.targets, state.seen(run.config)
    nets = state.nets.learning("encoder")
    optimizer = run.optimizer(nets.parameters("encoder"), run.schedule.encoder_learning_rate)
    now = scene_preview(targets.images[0], lambda: scene.select(slice(1)), config)
    for iteration in range(run.iterations):
        pick = run.integers(len(targets), run.schedule.batch_size)
        loss = projection_loss(state, nets, scene, pick, run)
        optimizer.step(loss)
        run.tick(iteration, loss.detach(), now)
    return state.replace(nets=nets.frozen(), scene=scene)


def projection_loss(state: State, nets: ShapeNets, scene: Scene, pick: Tensor, run: Run) -> Tensor:
    """How far the projections of pseudo images of the scenes ``pick`` (N) are from these, and the offset penalty."""
    config = run.config
    latent, penalty, pseudo, mask, _, _ = _project(state, nets, scene, pick, run)
    size = config.projection.training_size or config.image_size
    projected = run.gan_image(state.generator, latent.float(), size)
    pseudo, mask = F.adaptive_avg_pool2d(pseudo, size), F.adaptive_avg_pool2d(mask, size)
    loss = masked_l1(projected, pseudo, mask)
    wanted = run.projection_features(pseudo)
    if wanted:
        loss = loss + feature_loss(run.projection_features(projected), wanted, mask)
    return loss + config.projection.offset_weight * penalty.float()


def collect_views(state: State, run: Run) -> State:
    """Project pseudo views of every target, the encoder frozen: as many as the schedule asks for."""
    return state.replace(views=project_views(state, run.schedule.views_of_each(len(state.targets)), run))


@torch.no_grad()
def project_views(state: State, views_per_image: int, run: Run) -> PseudoViews:
    """``views_per_image`` projected pseudo views of every target."""
    targets, scene, config = state.targets, state.seen(run.config), run.config
    images, masks, views, lights = [], [], [], []
    starts = range(0, views_per_image, run.schedule.batch_size)
    for k in range(len(targets)):
        now = scene_preview(targets.images[k], lambda k=k: scene.select(slice(k, k + 1)), config)
        parts = []
        for batch, first in enumerate(starts):
            count = min(run.schedule.batch_size, views_per_image - first)
            pick = torch.full((count,), k, device=run.device)
            latent, penalty, _, mask, view, light = _project(state, state.nets, scene, pick, run)
            projected = run.gan_image(state.generator, latent.float(), config.image_size).clamp(-1, 1)
            parts.append((projected, mask, view, light))
            run.tick(k * len(starts) + batch, penalty, now)
        for whole, part in zip((images, masks, views, lights), zip(*parts, strict=True), strict=True):
            whole.append(torch.cat(part))
    return PseudoViews(*(torch.stack(x) for x in (images, masks, views, lights)))


def _project(state: State, nets: ShapeNets, scene: Scene, pick: Tensor, run: Run) -> tuple[Tensor, ...]:
    """Latents of pseudo images of the scenes ``pick`` (N) and the offset penalty; the pseudo images (N, 3, S, S), masks
    (N, 1, S, S), views (N, 6) and lights (N, 4) themselves."""
    chosen = state.targets.select(pick)
    pseudo, mask, view, light = render_pseudo(scene, pick, chosen, run)
    start, image = _walked(chosen, scene.view[pick], view, state, run)
    with run.autocast():
        gap = photograph_gap(nets, chosen, run)
        latent, penalty = state.projection.project(nets.encoder, pseudo, start, image, gap)
    return latent, penalty, pseudo, mask, view, light


@torch.no_grad()
def _walked(chosen: Targets, own: Tensor, wanted: Tensor, state: State, run: Run) -> tuple[Tensor, Tensor]:
    """Where the projection starts: latents and images (N, 3, S, S) walked from views ``own`` (N, 6) to ``wanted``."""
    if not state.projection.walks:
        return chosen.latents, chosen.originals
    camera = run.config.camera
    turn = turn_between(Pose.from_view(own, camera), Pose.from_view(wanted, camera), camera)
    latents = state.projection.walk(chosen.latents, turn)
    return latents, run.gan_image(state.generator, latents, run.config.image_size).clamp(-1, 1)


def photograph_gap(nets: ShapeNets, chosen: Targets, run: Run) -> Tensor | None:
    """What the encoder says of the difference between the inputs and the generator's images of their latents; None
    where pseudo images do not carry it: they show the albedo then, or the encoder's answer is not relative."""
    projection = run.config.projection
    if not projection.relative or projection.texture != "image":
        return None
    return difference(nets.encoder, chosen.images, chosen.originals)


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
