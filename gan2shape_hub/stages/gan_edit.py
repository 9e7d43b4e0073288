"""Another view and light through the GAN, which makes the picture at its full size.

Where the checkpoint knows their directions, the latent is walked along them, each in the layers that it needs, and the
person stays. Elsewhere a crude render is projected onto the image manifold (paper section 3.4), which closes smiling
mouths and puts glasses on faces: the encoder reads them into what a render lacks.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from gan2shape_hub.config import CategoryConfig, ProjectionConfig
from gan2shape_hub.generator import Generator
from gan2shape_hub.models.latent_projection import LatentProjection, difference, full_image, gan_image
from gan2shape_hub.records import Scene
from gan2shape_hub.rendering import Light, Pose, normals_from_depth, render_view, shade
from gan2shape_hub.rendering.scene import photograph_texture, turn_between

SIDE_PX = 512
"""Side of pictures of an object's sides: a texture has few texels there."""


@dataclass(frozen=True)
class GanEditor:
    """What edits through the GAN need: the encoder as a run left it, and the generator (shared, never changed)."""

    encoder: nn.Module
    generator: Generator | None
    """None where it was taken out (``Reconstruction.with_generator``)."""
    projection: LatentProjection | None
    masker: nn.Module | None = None
    """Which pixels of a picture are the object: images (B, 3, S, S) in -1..1 to (B, 1, S, S) in 0..1."""

    @property
    def turns(self) -> bool:
        """Whether it can draw the object from its sides, and tell it from what is behind."""
        return None not in (self.generator, self.masker) and self.projection.walks


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
    """Latent (1, D) or (1, L, D) of the scene under ``pose`` and ``light`` (batches of one). The subject's own one for
    its own pose and light, where the light is walked."""
    projection = editor.projection
    if not projection.relights:
        return _projected(editor, subject, pose, light)
    latent = subject.latent
    if not pose.close_to(subject.pose) and projection.holds:
        latent = projection.turn(latent, turn_between(subject.pose, pose, subject.config.camera))
    elif not pose.close_to(subject.pose):
        latent = _projected(editor, subject, pose, subject.light)
    steps = light_steps(subject.light, light, projection.config)
    return projection.relight(latent, steps) if bool(steps.any()) else latent


def light_steps(old: Light, new: Light, config: ProjectionConfig) -> Tensor:
    """Steps (B, 3) of `LatentProjection.relight` (from the left, from above, from the front) that carry a light from
    ``old`` to ``new`` (batches of B): the difference of their slopes in ``light_units``, softly bounded in length by
    ``light_step_limit``, so that no light is out of reach and a further one still goes further."""
    steps = (_slopes(new) - _slopes(old)) / old.direction.new_tensor(config.light_units)
    length = steps.norm(dim=1, keepdim=True).clamp_min(1e-6)
    return steps * (config.light_step_limit * torch.tanh(length / config.light_step_limit) / length)


def _slopes(light: Light) -> Tensor:
    """(B, 3): how much brighter a surface grows as it tilts toward the left, upward and to the front, in parts of the
    brightness of one that faces the camera."""
    frontal = light.ambient + light.diffuse * light.direction[:, 2].clamp_min(0)
    return light.diffuse[:, None] * light.direction / frontal[:, None].clamp_min(0.05)


def _projected(editor: GanEditor, subject: Subject, pose: Pose, light: Light) -> Tensor:
    """Latent of the render under ``pose`` and ``light``."""
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


@torch.no_grad()
def side_pictures(
    editor: GanEditor, latent: Tensor, yaw: float, crop_fraction: float
) -> tuple[Tensor, Tensor, tuple[float, ...]]:
    """What the object of ``latent`` (1, D) or (1, L, D), whose yaw is ``yaw`` (view units), looks like from its left
    and its right, as far as pictures stay whole, under its own light.

    Returns:
        images (N, 3, SIDE_PX, SIDE_PX) in -1..1, their masks (N, 1, SIDE_PX, SIDE_PX) in 0..1, and by how much they
        should be turned away from the latent's, in view units.
    """
    walked, turns = editor.projection.turned(latent, yaw)
    images = [full_image(editor.generator, one[None], SIDE_PX, crop_fraction).float().clamp(-1, 1) for one in walked]
    masks = [editor.masker(image).float() for image in images]
    return torch.cat(images), torch.cat(masks), turns
