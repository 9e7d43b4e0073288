"""Edits of a reconstruction: rendered or through the GAN, as squares or inside the whole photograph."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from PIL import Image
from torch import Tensor

from gan2shape_hub.config import CategoryConfig
from gan2shape_hub.records import Alignment, Scene
from gan2shape_hub.rendering import Light, Pose, render_view
from gan2shape_hub.rendering.scene import canonical, resized, resized_scene
from gan2shape_hub.results.edit import LightLike, as_lamp, paired_angles, rotate_poses, several_lights
from gan2shape_hub.results.image_files import to_pil
from gan2shape_hub.results.paste import FEATHER, keep_colours, paste, to_mask
from gan2shape_hub.results.viewer import Viewer
from gan2shape_hub.stages.gan_edit import GanEditor, Subject, edited_latent, synthesise


@dataclass(frozen=True, eq=False)
class Editing:
    """What edits of one image are made from; the methods are those of ``Reconstruction``.

    S is the side of what the networks saw; the viewer's sheet and ``object_mask`` may be of other sides.
    """

    config: CategoryConfig
    viewer: Viewer
    image: Tensor
    """(1, 3, S, S) in -1..1."""
    original: Tensor
    """(1, 3, S, S) the generator's own image of ``latent``."""
    latent: Tensor
    """(1, D) or (1, L, D)."""
    scene: Scene
    """Of one image, sheets of any side."""
    gan: GanEditor
    alignment: Alignment | None
    object_mask: Tensor
    """(M, M) in 0..1 where the photograph shows the object."""

    # -- squares -------------------------------------------------------------------------------------------------

    def rotate(
        self, yaw_deg: float | Sequence[float], pitch_deg: float | Sequence[float], *, through_gan: bool, size: int
    ) -> Image.Image | list[Image.Image]:
        yaws, pitches, single = paired_angles(yaw_deg, pitch_deg)
        if not through_gan:
            pictures = [self.viewer.render(y, p, None, size=size) for y, p in zip(yaws, pitches, strict=True)]
        else:
            poses = rotate_poses(list(zip(yaws, pitches, strict=True)), self.config.camera, start=self.viewer.pose)
            pictures = [self._through_gan(poses.index(i), self.viewer.light) for i in range(len(yaws))]
        return pictures[0] if single else pictures

    def relight(
        self, light: LightLike | Sequence[LightLike], *, through_gan: bool, size: int
    ) -> Image.Image | list[Image.Image]:
        several = several_lights(light)
        lights = [light] if several is None else several
        pose = self.viewer.pose
        if through_gan:
            pictures = [self._through_gan(pose, as_lamp(item, self.viewer.depth)) for item in lights]
        else:
            pictures = [self.viewer.redraw(pose, item, size) for item in lights]
        return pictures[0] if several is None else pictures

    # -- through the GAN -----------------------------------------------------------------------------------------

    @cached_property
    def small_scene(self) -> Scene:
        """The scene at the networks' side S."""
        return resized_scene(self.scene, self.image.shape[-1])

    def project(self, pose: Pose, light: Light) -> Tensor:
        subject = Subject(
            config=self.config,
            image=self.image,
            original=self.original,
            latent=self.latent,
            scene=self.small_scene,
            pose=self.viewer.pose,
            light=self.viewer.light,
            photograph=self.alignment is not None,
        )
        return edited_latent(self.gan, subject, pose, light)

    def _through_gan(self, pose: Pose, light: Light) -> Image.Image:
        return to_pil(synthesise(self.gan, self.project(pose, light))[0])

    @cached_property
    def inverted(self) -> Image.Image:
        return to_pil(synthesise(self.gan, self.latent)[0])

    # -- the photograph ------------------------------------------------------------------------------------------

    def paste(
        self, edited: Image.Image | Tensor, *, feather: float = FEATHER, mask: Image.Image | None = None
    ) -> Image.Image:
        if self.alignment is None:
            raise ValueError("there is no photograph to paste into: the reconstruction started from a latent.")
        return paste(edited, self.alignment, feather=feather, mask=mask)

    def edit_photograph(
        self, yaw_deg: float, pitch_deg: float, light: LightLike | None, *, through_gan: bool
    ) -> Image.Image:
        if self.alignment is None:
            raise ValueError("there is no photograph to edit: the reconstruction started from a latent.")
        viewer = self.viewer
        pose = rotate_poses([(yaw_deg, pitch_deg)], self.config.camera, start=viewer.pose)
        cover = to_mask(self._covered(pose))
        if not through_gan:
            size = max(min(round(self.alignment.side), 1024), viewer.depth.shape[-1])
            return self.paste(viewer.redraw(pose, light, size), mask=cover)
        with torch.no_grad():
            lamp = viewer.light if light is None else as_lamp(light, viewer.depth)
            made = synthesise(self.gan, self.project(pose, lamp))
            edited = keep_colours(made, synthesise(self.gan, self.latent), viewer.source[None])
        return self.paste(edited[0], mask=cover)

    @torch.no_grad()
    def _covered(self, pose: Pose) -> Tensor:
        """0..1 where the object is in the photograph or would be seen from ``pose``, at the larger side of mask and
        sheet."""
        camera, depth, mask = self.config.camera, self.scene.depth, self.object_mask[None, None]
        side = max(mask.shape[-1], depth.shape[-1])
        there = canonical(resized(mask, depth.shape[-1]), depth, self.viewer.pose, camera, padding="zeros")
        turned = render_view(depth, there, pose, camera)
        return torch.maximum(resized(mask, side), resized(turned.image * turned.mask, side))[0, 0].clamp(0, 1)
