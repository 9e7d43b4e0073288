"""A reconstructed scene to look at: its layers, its mesh, and pictures of it from any side under any light."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property

import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from gan2shape_hub.arguments import whole
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
from gan2shape_hub.rendering.camera import project, unproject
from gan2shape_hub.rendering.environment import Environment
from gan2shape_hub.rendering.mesh_renderer import CLAY
from gan2shape_hub.rendering.scene import canonical, resized
from gan2shape_hub.results import wide
from gan2shape_hub.results.edit import LightLike, as_light, rotate_poses
from gan2shape_hub.results.image_files import to_pil
from gan2shape_hub.results.mesh import MAX_STRETCH, SheetMesh, Window, build_mesh
from gan2shape_hub.results.model import Model, ModelOptions, build_model, wall_colours
from gan2shape_hub.results.relight import Relief, multiplied, relight, shading_ratio, wall_ratio
from gan2shape_hub.results.sides import Sides, add_sides
from gan2shape_hub.results.solid import evened
from gan2shape_hub.results.texture import BakedTexture, bake_texture, upsample_depth, without_border
from gan2shape_hub.results.views import BACKGROUND, frame_poses, middle

MESH_SIDE = 256
"""Cells along a mesh's side up to which a sheet is refined: beyond it a finer sheet is detailed enough by itself."""


FRAME_SIDE = 512
"""Side to which the geometry of a view is drawn; larger pictures interpolate it, so that they cost what pixels cost."""
MAX_SIZE = 8192
"""Pixels of a picture's side that are drawn at most: 200 MB each, and as much again for every layer."""


@dataclass(frozen=True)
class Relighting:
    """New over old shading, grey or of each colour: ``ratio`` (1, 1 or 3, S, S) of the canonical sheet, ``wall`` (1, 1
    or 3, 1, 1) of the background."""

    ratio: Tensor
    wall: Tensor


@dataclass(frozen=True)
class Frame:
    """Where each pixel of a picture of T x T finds the canonical sheet: what all lights of one view share."""

    grid: Tensor
    """(1, T, T, 2) of grid_sample."""
    weight: Tensor
    """(1, 1, T, T) in 0..1: 1 on the sheet, with a soft seam toward what is beyond it."""
    matte: Tensor
    """(1, 1, T, T) in 0..1: 1 on the object, which light models; 0 on what is lit as a wall."""
    source: Tensor
    """(1, 3, T, T) in -1..1, the photograph."""

    def draw(self, texture: Tensor | None, light: Relighting | None) -> Image.Image:
        """The picture with ``texture`` (1, 3, any, any), beyond the sheet the photograph; None: all of it is the
        photograph, of whose own view this is. ``light`` None: lit as it is."""
        picture = self.source
        if texture is not None:
            image = F.grid_sample(texture, self.grid, padding_mode="border", align_corners=True)
            picture = picture + self.weight * (image - picture)
        if light is not None:
            ratio = F.grid_sample(light.ratio, self.grid, padding_mode="border", align_corners=True)
            picture = multiplied(picture, light.wall + self.matte * (ratio - light.wall))
        return to_pil(picture[0].clamp(-1, 1))


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
    alpha: Tensor
    """(M, M) in 0..1 where the photograph shows the object."""
    cut_out: bool = False
    """Whether the mesh is cut out by ``alpha``; else it keeps its background."""
    max_stretch: float = MAX_STRETCH
    """The mesh is cut where the surface is stretched more than this (silhouettes)."""
    mesh_side: int = MESH_SIDE
    """Cells along the mesh's side up to which the sheet is refined."""
    window: Window | None = None
    """The part of the sheet that is meshed; None: all of it."""
    sides: Callable[[], Sides | None] | None = None
    """What the object looks like from its sides, asked for when the first model is made; None: nobody knows."""

    @cached_property
    def wide(self) -> Viewer:
        """The same with all that the photograph shows of the object: what models are made of. Itself where the
        background is kept."""
        if not self.cut_out:
            return self
        side = self.depth.shape[-1]
        camera = wide.wide_camera(self.camera, side)
        depth = wide.widened_depth(without_border(self.depth, self.camera))
        alpha = wide.widened(self.alpha[None])[0]
        crowned = wide.crowned(alpha)
        there, pixels = wide.shown(depth, wide.without_ceiling(alpha), self.pose, camera)
        window = wide.window(there, pixels)
        whole, _ = wide.shown(depth, crowned, self.pose, camera)
        flat = wide.raised(depth, there, whole)
        for _ in range(2):  # where the object ends depends on how deep it is there
            depth = wide.rounded(flat, whole)
            whole, _ = wide.shown(depth, crowned, self.pose, camera)
        return replace(
            self,
            camera=camera,
            source=wide.mirrored(self.source),
            depth=wide.hemmed(depth, there, window.bottom),
            albedo=wide.widened(self.albedo),
            alpha=crowned,
            window=window,
            sides=lambda: None if (sides := self.sides and self.sides()) is None else sides.widened,
        )

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
    def object_seen(self) -> Tensor:
        """(S, S) in 0..1 where the photograph's viewpoint sees the object; all of the sheet where it is not cut out."""
        seen = self.seen[1]
        return seen * resized(self.alpha[None, None].to(seen), seen.shape[-1])[0, 0] if self.cut_out else seen

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
    def canonical_mask(self) -> Tensor | None:
        """(M, M) in 0..1 where the sheet is the object, as fine as the mesh, corner pixels on the sheet's; what the
        photograph hides of it lies behind its outline. None where the background is kept."""
        if not self.cut_out:
            return None
        side = self._refined * (self.depth.shape[-1] - 1) + 1
        depth = upsample_depth(without_border(self.depth, self.camera), side)[None]
        grid = project(self.pose.apply(unproject(depth, self.camera), self.camera), self.camera, (side, side))
        # Pixels of the mask lie edges onto edges with the photograph, those of the sheet corner onto corner.
        small = self.depth.shape[-1]
        lookup = (2 * grid * (small - 1) / (side - 1) + 1) / small - 1
        alpha = self.alpha[None, None].to(depth)
        return F.grid_sample(alpha, lookup, padding_mode="border", align_corners=False)[0, 0].clamp(0, 1)

    @cached_property
    def baked(self) -> BakedTexture:
        """The photograph in the canonical frame, and where it shows the texel."""
        return self._baked(None)

    def _baked(self, size: int | None) -> BakedTexture:
        size = size or min(self.source.shape[-1], round(1024 * (1 if self.window is None else 1 + 2 * wide.MARGIN)))
        return bake_texture(
            self.source, self.depth, self.albedo, self.pose, self.light, self.camera, alpha=self.alpha, size=size
        )

    def coloured(self, size: int | None, sides: bool) -> BakedTexture:
        """What a model wears: ``baked`` at ``size`` (None: its own), with ``sides`` where pictures show them. The last
        one is kept."""
        if (size, sides) not in self._coloured:
            baked = self._with_sides(size, sides)
            self._coloured.clear()
            self._coloured[size, sides] = baked
        return self._coloured[size, sides]

    @cached_property
    def _coloured(self) -> dict[tuple[int | None, bool], BakedTexture]:
        return {}

    def _with_sides(self, size: int | None, sides: bool) -> BakedTexture:
        baked = self.baked if size is None else self._baked(size)
        known = self.sides() if sides and self.sides is not None else None
        return baked if known is None else add_sides(baked, known, self.depth, self.pose, self.camera)

    @property
    def texture(self) -> Tensor:
        """(3, T, T) canonical texture, as the photograph is lit."""
        return self.baked.image

    @cached_property
    def sheet(self) -> SheetMesh:
        """The surface as a mesh, cut out."""
        sheet = self.build_sheet(self.max_stretch)
        return sheet if self.window is None else evened(sheet)

    def build_sheet(self, max_stretch: float, *, whole: bool = False) -> SheetMesh:
        """The same with another cut; ``whole``: with its background."""
        mask = None if whole else self.canonical_mask
        if mask is not None and max_stretch == MAX_STRETCH:
            max_stretch = math.inf  # the outline is known: what is steep inside it is a jaw or an ear, and no curtain
        return build_mesh(
            self.depth, self.camera, mask=mask, max_stretch=max_stretch, upsample=self._refined, window=self.window
        )

    @property
    def _refined(self) -> int:
        return 2 if 2 * self.depth.shape[-1] <= self.mesh_side else 1

    @cached_property
    def shown(self) -> Model:
        """The front as it was found, to look at."""
        return self._model(ModelOptions())

    def model(self, options: ModelOptions) -> Model:
        """The model that ``options`` ask for."""
        return self.shown if options == ModelOptions() else self._model(options)

    @torch.no_grad()
    def _model(self, options: ModelOptions) -> Model:
        plaque = options.background and options.shape == "relief"
        layers = self if plaque else self.wide
        baked = layers.coloured(options.texture_size, options.sides and not plaque)
        cut = self.cut_out and not plaque
        colours = baked.object if cut else baked.image
        if options.texture == "albedo":
            colours = layers.lit(colours, "flat")
        wall, size = None, colours.shape[-1]
        if options.background and cut:
            depth = float(self.depth.max())
            wall = depth, wall_colours(layers.source, layers.alpha, depth, self.pose, layers.camera, size)
        # The whole square has no silhouettes to cut: it is closed behind.
        sheet = self.build_sheet(math.inf, whole=True) if plaque else layers.sheet
        return build_model(sheet, colours, baked, layers.depth, options, soft=cut, wall=wall, camera=layers.camera)

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
        size, model = whole(size, "size", 1, MAX_SIZE), self.shown
        poses = rotate_poses([(yaw_deg, pitch_deg)], self.camera, start=self.pose, pivot=middle(model.body))
        clay = shaded_only and light is not None
        texture = model.texture if light is None else self.wide.lit(model.texture, light)
        rendered = render_mesh(
            model.mesh.vertices,
            model.mesh.faces,
            model.mesh.uv,
            self.source.new_tensor(CLAY)[:, None, None].expand(3, 2, 2) * 2 - 1 if clay else texture,
            frame_poses(poses, model.body, self.camera),
            self.camera,
            size,
            light=self.as_light(light) if clay else None,
            background=BACKGROUND,
            shaded_only=shaded_only and not clay,
            supersample=supersample,
        )
        return to_pil(rendered.image[0])

    @torch.no_grad()
    def redraw(self, pose: Pose, light: LightLike | None, size: int) -> Image.Image:
        """The photograph's own pixels, seen from ``pose`` under ``light`` (None: its own), in its square."""
        size = whole(size, "size", 1, MAX_SIZE)
        texture = None if pose.close_to(self.pose) else resized_texture(self.texture, size)
        return self.frame(pose, size).draw(texture, None if light is None else self.relighting(light))

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
        side = min(size, max(FRAME_SIDE, self.depth.shape[-1]))
        depth = F.interpolate(
            without_border(self.depth, self.camera)[None, None], (side, side), mode="bicubic", align_corners=True
        )[:, 0]
        view_depth, mask = warp_depth(depth, pose, self.camera)
        grid = sampling_grid(view_depth, pose, self.camera)
        # Beyond the sheet is background, with a soft seam.
        inside = mask * (grid.abs().amax(-1) <= 1)[:, None]
        reach = side // 32
        across = F.avg_pool2d(inside, (1, 2 * reach + 1), stride=1, padding=(0, reach))
        weight = inside * F.avg_pool2d(across, (2 * reach + 1, 1), stride=1, padding=(reach, 0))
        if pose.close_to(self.pose):
            matte = F.interpolate(self.alpha[None, None], (size, size), mode="bilinear", antialias=True)
        else:
            matte = _enlarged(weight * F.grid_sample(self.matte, grid, align_corners=True), size)
        source = F.interpolate(self.source[None], (size, size), mode="bilinear", antialias=True, align_corners=False)
        return Frame(_enlarged(grid.movedim(-1, 1), size).movedim(1, -1), _enlarged(weight, size), matte, source)

    @cached_property
    def matte(self) -> Tensor:
        """(1, 1, S, S) the object's mask on the canonical sheet."""
        alpha = F.interpolate(self.alpha[None, None], self.depth.shape, mode="bilinear", antialias=True)
        return canonical(alpha, without_border(self.depth, self.camera)[None], self.pose, self.camera)

    def lit(self, texture: Tensor, light: LightLike) -> Tensor:
        """``texture`` (3 or 4, T, T), canonical and lit as the photograph is, under ``light``."""
        lit = relight(texture[:3], self.relief, self.light, self.as_light(light), self.matte)
        return torch.cat((lit, texture[3:]))

    def relighting(self, light: LightLike) -> Relighting:
        """What ``light`` does to a `Frame`."""
        new = self.as_light(light)
        return Relighting(shading_ratio(self.relief, self.light, new), wall_ratio(self.light, new))

    @cached_property
    def relief(self) -> Relief:
        """What light needs to know of the sheet."""
        return Relief.of(self.depth, self.camera)

    def as_light(self, light: LightLike) -> Light | Environment:
        return as_light(light, like=self.depth)


def resized_texture(texture: Tensor, size: int) -> Tensor:
    """(3, T, T) as (1, 3, size, size)."""
    return F.interpolate(texture[None], (size, size), mode="area" if size < texture.shape[-1] else "bilinear")


def _enlarged(maps: Tensor, size: int) -> Tensor:
    """(1, C, S, S) -> (1, C, size, size), corner pixels onto corner pixels."""
    return maps if maps.shape[-1] == size else F.interpolate(maps, (size, size), mode="bilinear", align_corners=True)
