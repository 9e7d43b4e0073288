"""A reconstructed scene to look at: its layers, its mesh, and pictures of it from any side under any light."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import torch
import torch.nn.functional as F
import trimesh
from PIL import Image
from torch import Tensor

from gan2shape_hub.config import CameraConfig
from gan2shape_hub.rendering import (
    Light,
    Pose,
    normals_from_depth,
    render_mesh,
    render_view,
    sampling_grid,
    shade,
    warp_depth,
)
from gan2shape_hub.results.edit import LightLike, as_light, relight, relight_background, rotate_poses
from gan2shape_hub.results.image_files import to_pil
from gan2shape_hub.results.mesh import MAX_STRETCH, SheetMesh, build_mesh, to_trimesh
from gan2shape_hub.results.texture import BakedTexture, bake_texture, without_border
from gan2shape_hub.results.views import BACKGROUND, frame_poses, middle

MESH_SIDE = 256
"""Cells along a mesh's side up to which a sheet is refined: beyond it a finer sheet is detailed enough by itself."""


@dataclass(frozen=True)
class Frame:
    """Where each pixel of a picture of T x T finds the canonical texture: what all lights of one view share."""

    grid: Tensor
    """(1, T, T, 2) of grid_sample."""
    weight: Tensor
    """(1, 1, T, T) in 0..1: 1 on the sheet, with a soft seam toward what is beyond it."""
    source: Tensor
    """(1, 3, T, T) in -1..1, the photograph."""

    def draw(self, texture: Tensor, old: Light, new: Light | None = None) -> Image.Image:
        """The picture with ``texture`` (1, 3, any, any); beyond the sheet the photograph as ``new`` lights it that was
        taken under ``old`` (None: as it is)."""
        image = F.grid_sample(texture, self.grid, padding_mode="border", align_corners=True)
        source = self.source if new is None else relight_background(self.source, old, new)
        return to_pil((source + self.weight * (image - source))[0].clamp(-1, 1))


@dataclass(frozen=True, eq=False)
class Viewer:
    """What can be seen of one scene; tensors on one device, no batch dimension. What is asked for is computed once.

    S is the side of the sheet as ``depth`` has it, P the photograph's, T the texture's (P, at most 1024).
    """

    camera: CameraConfig
    source: Tensor
    """(3, P, P) in -1..1, the prepared photograph."""
    depth: Tensor
    """(S, S) canonical depth, scene units."""
    albedo: Tensor
    """(3, S, S) in -1..1, canonical."""
    pose: Pose
    """Canonical frame to the photograph's view, batch of one."""
    light: Light
    """The photograph's, batch of one."""
    max_stretch: float = MAX_STRETCH
    """The mesh is cut where the surface is stretched more than this (silhouettes)."""
    mesh_side: int = MESH_SIDE
    """Cells along the mesh's side up to which the sheet is refined."""

    def lighter(self, side: int) -> Viewer:
        """The same for looks that follow somebody's hand: photograph and texture of ``side`` pixels at most, and a mesh
        that is not refined."""
        source = self.source
        if source.shape[-1] > side:
            source = F.interpolate(source[None], (side, side), mode="bilinear", antialias=True, align_corners=False)[0]
        return replace(self, source=source, mesh_side=0)

    @cached_property
    def seen(self) -> tuple[Tensor, Tensor]:
        """(S, S) depth from the photograph's viewpoint, and (S, S) 1 where the sheet is seen from there."""
        depth, mask = warp_depth(without_border(self.depth, self.camera)[None], self.pose, self.camera)
        return depth[0], mask[0, 0]

    @cached_property
    def normals(self) -> Tensor:
        """(3, S, S) canonical unit normals."""
        return normals_from_depth(self.depth[None], self.camera)[0]

    @cached_property
    def reconstruction(self) -> Tensor:
        """(3, S, S) in -1..1, the scene rendered in the photograph's view."""
        texture, _ = shade(self.albedo[None], self.normals[None], self.light)
        return render_view(self.depth[None], texture, self.pose, self.camera).image[0].clamp(-1, 1)

    @cached_property
    def baked(self) -> BakedTexture:
        """The photograph in the canonical frame, and where it shows the texel."""
        return bake_texture(self.source, self.depth, self.albedo, self.pose, self.light, self.camera)

    @property
    def texture(self) -> Tensor:
        """(3, T, T) canonical texture, as the photograph is lit."""
        return self.baked.image

    @cached_property
    def sheet(self) -> SheetMesh:
        """The surface as a mesh."""
        return self.build_sheet(self.max_stretch)

    def build_sheet(self, max_stretch: float) -> SheetMesh:
        """The same with another cut."""
        upsample = 2 if 2 * self.depth.shape[-1] <= self.mesh_side else 1
        return build_mesh(self.depth, self.camera, max_stretch=max_stretch, upsample=upsample)

    def mesh(self, max_stretch: float) -> trimesh.Trimesh:
        """Textured mesh: y up, z toward the viewer, one unit wide."""
        sheet = self.sheet if max_stretch == self.max_stretch else self.build_sheet(max_stretch)
        return to_trimesh(sheet, to_pil(self.texture), self.camera)

    @torch.no_grad()
    def render(
        self,
        yaw_deg: float,
        pitch_deg: float,
        light: LightLike | None,
        *,
        size: int,
        shaded_only: bool = False,
        supersample: int = 2,
    ) -> Image.Image:
        """Picture of the mesh, turned from the photograph's view (see ``Reconstruction.render``)."""
        poses = rotate_poses([(yaw_deg, pitch_deg)], self.camera, start=self.pose, pivot=middle(self.sheet))
        rendered = render_mesh(
            self.sheet.vertices,
            self.sheet.faces,
            self.sheet.uv,
            self.lit_texture(light),
            frame_poses(poses, self.sheet, self.camera),
            self.camera,
            size,
            background=BACKGROUND,
            shaded_only=shaded_only,
            supersample=supersample,
        )
        return to_pil(rendered.image[0])

    @torch.no_grad()
    def redraw(self, pose: Pose, light: LightLike | None, size: int) -> Image.Image:
        """The photograph's own pixels, seen from ``pose`` under ``light`` (None: its own), in its square."""
        texture = resized_texture(self.lit_texture(light), size)
        return self.frame(pose, size).draw(texture, self.light, None if light is None else self.as_light(light))

    def frame(self, pose: Pose, size: int) -> Frame:
        """The view from ``pose`` (batch of one), ``size`` pixels wide; the last one of ``self.pose`` is kept."""
        if pose is not self.pose:
            return self._frame(pose, size)
        if size not in self._own_frame:
            frame = self._frame(pose, size)
            self._own_frame.clear()
            self._own_frame[size] = frame
        return self._own_frame[size]

    @cached_property
    def _own_frame(self) -> dict[int, Frame]:
        return {}

    @torch.no_grad()
    def _frame(self, pose: Pose, size: int) -> Frame:
        depth = F.interpolate(
            without_border(self.depth, self.camera)[None, None], (size, size), mode="bicubic", align_corners=True
        )[:, 0]
        view_depth, mask = warp_depth(depth, pose, self.camera)
        grid = sampling_grid(view_depth, pose, self.camera)
        # Beyond the sheet is background, with a soft seam.
        inside = mask * (grid.abs().amax(-1) <= 1)[:, None]
        reach = 2 * (size // 32) + 1
        weight = inside * F.avg_pool2d(inside, reach, stride=1, padding=reach // 2)
        source = F.interpolate(self.source[None], (size, size), mode="bilinear", antialias=True, align_corners=False)
        return Frame(grid, weight, source)

    def lit_texture(self, light: LightLike | None) -> Tensor:
        """(3, T, T) canonical texture under ``light``; None: as the photograph is lit."""
        if light is None:
            return self.texture
        return relight(self.texture, self.depth, self.light, self.as_light(light), self.camera)

    def as_light(self, light: LightLike) -> Light:
        return as_light(light, like=self.depth)


def resized_texture(texture: Tensor, size: int) -> Tensor:
    """(3, T, T) as (1, 3, size, size)."""
    return F.interpolate(texture[None], (size, size), mode="area" if size < texture.shape[-1] else "bilinear")
