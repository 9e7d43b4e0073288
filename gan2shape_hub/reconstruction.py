"""What a pipeline returns: a reconstructed scene that can be looked at, edited and saved."""

from __future__ import annotations

import dataclasses
import json
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
import trimesh
from PIL import Image
from torch import Tensor

from gan2shape_hub.config import CategoryConfig
from gan2shape_hub.records import Alignment, Scene
from gan2shape_hub.rendering import (
    Light,
    Pose,
    normals_from_depth,
    render_mesh,
    render_view,
    shade,
    warp_depth,
)
from gan2shape_hub.rendering.scene import canonical
from gan2shape_hub.results.assets import Assets
from gan2shape_hub.results.edit import (
    make_light,
    paired_angles,
    preset_light,
    relight,
    relight_background,
    rotate_poses,
)
from gan2shape_hub.results.export import export_assets
from gan2shape_hub.results.image_files import to_pil
from gan2shape_hub.results.mesh import SheetMesh, build_mesh, to_trimesh
from gan2shape_hub.results.paste import keep_colours, paste, to_mask
from gan2shape_hub.results.texture import BakedTexture, bake_texture, without_border
from gan2shape_hub.results.views import BACKGROUND, frame_poses, middle
from gan2shape_hub.stages.gan_edit import GanEditor, Subject, edited_latent, synthesise
from gan2shape_hub.stages.mask import mask_from_scene

LightLike = str | tuple[float, float] | Light
"""A preset's name (left, right, top, below, rim, flat), a direction (x, y) that the rays travel, or a Light."""


@dataclass(frozen=True)
class Reconstruction:
    """One reconstructed image. Tensors are on the pipeline's device, without batch dimension.

    S is the sheet's side (``config.image_size``), T the texture's (the photograph's side, at most 1024). Images are
    (3, H, W) in -1..1, depths in scene units (about 0.9..1.1, larger is further).
    """

    config: CategoryConfig
    source: Tensor
    """(3, P, P) the prepared photograph, as sharp as it came."""
    image: Tensor
    """(3, S, S) what the networks saw."""
    scene: Scene
    """Canonical depth (1, S, S), albedo (1, 3, S, S), view (1, 6) and light (1, 4), in network-output units."""
    latent: Tensor
    """(1, D) or (1, L, D)."""
    original: Tensor
    """(1, 3, S, S) the generator's own image of the latent."""
    editor: GanEditor
    alignment: Alignment | None = None
    """Where the square lies in the photograph; None for a latent."""
    settings: dict[str, Any] = field(default_factory=dict)
    """Preset, seed, versions, timings, losses: enough to repeat the run."""

    # -- what was found ------------------------------------------------------------------------------------------

    @property
    def depth(self) -> Tensor:
        """(S, S) canonical depth."""
        return self.scene.depth[0]

    @property
    def albedo(self) -> Tensor:
        """(3, S, S) canonical albedo."""
        return self.scene.albedo[0]

    @property
    def view(self) -> Tensor:
        """(6) view in network-output units."""
        return self.scene.view[0]

    @property
    def light(self) -> Light:
        """The photograph's light, batch of one."""
        return Light.from_output(self.scene.light)

    @property
    def pose(self) -> Pose:
        """Canonical frame to the photograph's view, batch of one."""
        return Pose.from_view(self.scene.view, self.config.camera)

    @cached_property
    def view_depth(self) -> Tensor:
        """(S, S) depth seen from the photograph's viewpoint."""
        return self._seen[0][0]

    @cached_property
    def mask(self) -> Tensor:
        """(S, S) 1 where the sheet is seen from the photograph's viewpoint."""
        return self._seen[1][0, 0]

    @cached_property
    def _seen(self) -> tuple[Tensor, Tensor]:
        return warp_depth(without_border(self.depth, self.config.camera)[None], self.pose, self.config.camera)

    @cached_property
    def normals(self) -> Tensor:
        """(3, S, S) canonical unit normals."""
        return normals_from_depth(self.scene.depth, self.config.camera)[0]

    @cached_property
    def reconstruction(self) -> Tensor:
        """(3, S, S) the scene rendered in the photograph's view."""
        texture, _ = shade(self.scene.albedo, self.normals[None], self.light)
        return render_view(self.scene.depth, texture, self.pose, self.config.camera).image[0].clamp(-1, 1)

    @cached_property
    def baked(self) -> BakedTexture:
        """The photograph in the canonical frame, and where it shows the texel."""
        return bake_texture(self.source, self.depth, self.albedo, self.pose, self.light, self.config.camera)

    @property
    def texture(self) -> Tensor:
        """(3, T, T) canonical texture, as the photograph is lit."""
        return self.baked.image

    @cached_property
    def sheet(self) -> SheetMesh:
        return self.build_sheet()

    def build_sheet(self, max_stretch: float = 5.0) -> SheetMesh:
        """The surface, cut where it is stretched more than ``max_stretch`` times (silhouettes)."""
        return build_mesh(self.depth, self.config.camera, max_stretch=max_stretch)

    def mesh(self, max_stretch: float = 5.0) -> trimesh.Trimesh:
        """Textured mesh: y up, z toward the viewer, one unit wide."""
        sheet = self.sheet if max_stretch == 5.0 else self.build_sheet(max_stretch)
        return to_trimesh(sheet, to_pil(self.texture), self.config.camera)

    def warn_if_poor(self, threshold_db: float = 18.0) -> bool:
        """Warn where the generator could not express the photograph: edits through it show somebody else then. The
        pipeline does so itself; True where it is poor."""
        quality = self.inversion_db
        if quality is None or quality >= threshold_db:
            return False
        warnings.warn(
            f"the generator reproduces this photograph at only {quality:.1f} dB: edits through it may show somebody "
            "else; take a photograph from the front without glasses or hands before the face, or pass tuned=True "
            "(--tune).",
            stacklevel=2,
        )
        return True

    # -- other views and lights ----------------------------------------------------------------------------------

    @torch.no_grad()
    def render(
        self,
        yaw_deg: float = 0.0,
        pitch_deg: float = 0.0,
        light: LightLike | None = None,
        *,
        size: int = 512,
        shaded_only: bool = False,
    ) -> Image.Image:
        """Picture of the mesh, turned from the photograph's view. Positive yaw turns a face to the image's left,
        positive pitch down. ``shaded_only`` shows the bare shape."""
        camera = self.config.camera
        poses = rotate_poses([(yaw_deg, pitch_deg)], camera, start=self.pose, pivot=middle(self.sheet))
        poses = frame_poses(poses, self.sheet, camera)
        rendered = render_mesh(
            self.sheet.vertices,
            self.sheet.faces,
            self.sheet.uv,
            self._lit_texture(light),
            poses,
            camera,
            size,
            background=BACKGROUND,
            shaded_only=shaded_only,
        )
        return to_pil(rendered.image[0])

    def rotate(
        self,
        yaw_deg: float | Sequence[float],
        pitch_deg: float | Sequence[float] = 0.0,
        *,
        through_gan: bool = False,
        size: int = 512,
    ) -> Image.Image | list[Image.Image]:
        """The photograph from another side: one picture for numbers, a list for sequences.

        ``through_gan=True`` projects the render onto the generator's image manifold and synthesises it at full size.
        """
        yaws, pitches, single = paired_angles(yaw_deg, pitch_deg)
        if not through_gan:
            pictures = [self.render(y, p, size=size) for y, p in zip(yaws, pitches, strict=True)]
        else:
            poses = rotate_poses(list(zip(yaws, pitches, strict=True)), self.config.camera, start=self.pose)
            pictures = [self._through_gan(poses.index(i), self.light) for i in range(len(yaws))]
        return pictures[0] if single else pictures

    def relight(
        self, light: LightLike | Sequence[LightLike], *, through_gan: bool = False, size: int = 512
    ) -> Image.Image | list[Image.Image]:
        """The photograph under another light: one picture for a light, a list for a list of them.

        Rendered, it is the photograph's own pixels times new over old shading; ``through_gan=True`` lets the generator
        make the picture at full size.
        """
        lights = light if isinstance(light, list) else [light]
        if through_gan:
            pictures = [self._through_gan(self.pose, self._as_light(item)) for item in lights]
        else:
            pictures = [self._redrawn(self.pose, item, size) for item in lights]
        return pictures if isinstance(light, list) else pictures[0]

    @torch.no_grad()
    def _redrawn(self, pose: Pose, light: LightLike | None, size: int) -> Image.Image:
        """The photograph's own pixels, seen from ``pose`` under ``light`` (None: its own), in its square."""
        camera = self.config.camera
        texture = self._lit_texture(light)
        texture = F.interpolate(texture[None], (size, size), mode="area" if size < texture.shape[-1] else "bilinear")
        depth = F.interpolate(
            without_border(self.depth, camera)[None, None], (size, size), mode="bicubic", align_corners=True
        )[:, 0]
        rendered = render_view(depth, texture, pose, camera)
        # Beyond the sheet is background, with a soft seam.
        inside = rendered.mask * (rendered.grid.abs().amax(-1) <= 1)[:, None]
        reach = 2 * (size // 32) + 1
        weight = inside * F.avg_pool2d(inside, reach, stride=1, padding=reach // 2)
        source = F.interpolate(self.source[None], (size, size), mode="bilinear", antialias=True, align_corners=False)
        if light is not None:
            source = relight_background(source, self.light, self._as_light(light))
        return to_pil((source + weight * (rendered.image - source))[0].clamp(-1, 1))

    def _lit_texture(self, light: LightLike | None) -> Tensor:
        if light is None:
            return self.texture
        return relight(self.texture, self.depth, self.light, self._as_light(light), self.config.camera)

    def _as_light(self, light: LightLike) -> Light:
        if isinstance(light, Light):
            return light
        if isinstance(light, str):
            return preset_light(light, like=self.depth)
        x, y = light
        return make_light(x, y, ambient=0.4, diffuse=0.75, like=self.depth)

    def project(self, pose: Pose, light: Light) -> Tensor:
        """Latent (1, D) or (1, L, D) of the scene under ``pose`` and ``light`` (batches of one)."""
        subject = Subject(
            config=self.config,
            image=self.image[None],
            original=self.original,
            latent=self.latent,
            scene=self.scene,
            pose=self.pose,
            light=self.light,
            photograph=self.alignment is not None,
        )
        return edited_latent(self.editor, subject, pose, light)

    def _through_gan(self, pose: Pose, light: Light) -> Image.Image:
        return to_pil(synthesise(self.editor, self.project(pose, light))[0])

    # -- the photograph -------------------------------------------------------------------------------------------

    @property
    def inversion_db(self) -> float | None:
        """How close the generator's picture (``inverted``) comes to the photograph: its PSNR at S pixels. Above 24 dB
        it is hard to tell apart when small, below 18 dB it is somebody else. None for a latent, which is exact."""
        return self.settings.get("psnr_db")

    @cached_property
    def inverted(self) -> Image.Image:
        """The generator's own picture of the latent, at its full size: what edits through the GAN start from."""
        return to_pil(synthesise(self.editor, self.latent)[0])

    @cached_property
    def object_mask(self) -> Tensor:
        """(S, S) in 0..1 where the photograph shows the object (``stages/mask.py``)."""
        return mask_from_scene(self.image[None], self.scene, self.config.camera)[0, 0]

    def paste(
        self, edited: Image.Image | Tensor, *, feather: float = 0.12, mask: Image.Image | None = None
    ) -> Image.Image:
        """``edited`` (a relit or turned square, any size) in its place in the photograph, fading out toward its edge
        over ``feather`` of its side and beyond ``mask`` (mode L, any size). ValueError for a reconstruction of a
        latent, which has no photograph."""
        if self.alignment is None:
            raise ValueError("there is no photograph to paste into: the reconstruction started from a latent.")
        return paste(edited, self.alignment, feather=feather, mask=mask)

    def edit_photograph(
        self,
        yaw_deg: float = 0.0,
        pitch_deg: float = 0.0,
        light: LightLike | None = None,
        *,
        through_gan: bool = False,
    ) -> Image.Image:
        """The whole photograph with its object turned (degrees, as ``rotate``) and lit by ``light``.

        Rendered, it keeps the photograph's own pixels; ``through_gan=True`` lets the generator make them, in the
        photograph's colours. As much of the edit is shown as the object covers before and after it.

        Returns:
            An image of the photograph's size; beyond the reconstructed square it is the photograph's, pixel by pixel.

        Raises:
            ValueError: the reconstruction started from a latent, which has no photograph.
        """
        if self.alignment is None:
            raise ValueError("there is no photograph to edit: the reconstruction started from a latent.")
        pose = rotate_poses([(yaw_deg, pitch_deg)], self.config.camera, start=self.pose)
        cover = to_mask(self._covered(pose))
        if not through_gan:
            size = max(min(round(self.alignment.side), 1024), self.config.image_size)
            return self.paste(self._redrawn(pose, light, size), mask=cover)
        with torch.no_grad():
            latent = self.project(pose, self.light if light is None else self._as_light(light))
            made = synthesise(self.editor, latent)
            edited = keep_colours(made, synthesise(self.editor, self.latent), self.source[None])
        return self.paste(edited[0], mask=cover)

    @torch.no_grad()
    def _covered(self, pose: Pose) -> Tensor:
        """(S, S) in 0..1 where the object is in the photograph or would be seen from ``pose``."""
        camera = self.config.camera
        mask = self.object_mask[None, None]
        there = canonical(mask, self.scene.depth, self.pose, camera, padding="zeros")
        turned = render_view(self.scene.depth, there, pose, camera)
        return torch.maximum(mask, turned.image * turned.mask)[0, 0].clamp(0, 1)

    # -- files ---------------------------------------------------------------------------------------------------

    def assets(self, max_stretch: float = 5.0) -> Assets:
        return Assets(
            camera=self.config.camera,
            source=self.source,
            reconstruction=self.reconstruction,
            depth=self.depth,
            albedo=self.albedo,
            texture=self.texture,
            mesh=self.sheet if max_stretch == 5.0 else self.build_sheet(max_stretch),
            pose=self.pose,
            light=self.light,
        )

    def save(
        self, folder: str | Path, *, turntable: bool = True, video: bool | None = None, max_stretch: float = 5.0
    ) -> list[Path]:
        """Write everything to ``folder``, whole or not at all (see ``results.export.export_assets``)."""
        return export_assets(
            folder,
            self.assets(max_stretch),
            result_json=json.dumps(self.settings, indent=2, default=str) + "\n",
            turntable=turntable,
            video=video,
            yaw_limit_deg=self.config.rotation_limit_deg[0],
        )

    def cpu(self) -> Reconstruction:
        """The same on the CPU (the networks stay where they are)."""
        scene = Scene(**{f.name: getattr(self.scene, f.name).cpu() for f in dataclasses.fields(self.scene)})
        return dataclasses.replace(self, source=self.source.cpu(), image=self.image.cpu(), scene=scene)
