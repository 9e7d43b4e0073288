"""Another view and light through the GAN (paper section 3.4): the render is projected onto the image manifold, and the
generator makes the picture at its full size."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from gan2shape_hub.config import CategoryConfig
from gan2shape_hub.generator import Generator
from gan2shape_hub.models.latent_projection import LatentProjection, difference, gan_image
from gan2shape_hub.records import Scene
from gan2shape_hub.rendering import Light, Pose, normals_from_depth, render_view, shade
from gan2shape_hub.rendering.scene import photograph_texture, turn_between


@dataclass(frozen=True)
class GanEditor:
    """What edits through the GAN need: the encoder as a run left it, and the generator (shared, never changed)."""

    encoder: nn.Module
    generator: Generator | None
    """None where it was taken out (``Reconstruction.with_generator``)."""
    projection: LatentProjection | None


@dataclass(frozen=True)
class Subject:
    """What is edited. image, original (1, 3, S, S): the picture, and the generator's own one of ``latent`` (1, D) or
    (1, L, D); scene, pose and light as they were found, batches of one."""

    config: CategoryConfig
    image: Tensor
    original: Tensor
    latent: Tensor
    scene: Scene
    pose: Pose
    light: Light
    photograph: bool
    """False where the picture was made from the latent."""


@torch.no_grad()
def edited_latent(editor: GanEditor, subject: Subject, pose: Pose, light: Light) -> Tensor:
    """Latent (1, D) or (1, L, D) of the scene under ``pose`` and ``light`` (batches of one)."""
    config, projection = subject.config, editor.projection
    own_pixels = config.projection.texture == "image"
    if own_pixels:
        texture, _ = photograph_texture(
            subject.image, subject.scene.depth, subject.pose, subject.light, light, config.camera
        )
    else:
        normals = normals_from_depth(subject.scene.depth, config.camera)
        texture, _ = shade(subject.scene.albedo, normals, light)
    pseudo = render_view(subject.scene.depth, texture, pose, config.camera).image.clamp(-1, 1)
    start, image = subject.latent, subject.original
    if projection.walks:
        start = projection.walk(start, turn_between(subject.pose, pose, config.camera))
        image = gan_image(editor.generator, start, config.image_size, config.crop_fraction).clamp(-1, 1)
    gap = None
    if config.projection.relative and own_pixels and subject.photograph:
        # What the inversion missed of the photograph is in every pseudo image too, and no part of the edit.
        gap = difference(editor.encoder, subject.image, subject.original.to(subject.image))
    latent, _ = projection.project(editor.encoder, pseudo, start, image, gap)
    return latent


@torch.no_grad()
def synthesise(editor: GanEditor, latent: Tensor) -> Tensor:
    """(1, 3, T, T) the generator's picture of ``latent``."""
    generator = editor.generator
    return generator(latent.to(generator.latent_mean.dtype)).float().clamp(-1, 1)
