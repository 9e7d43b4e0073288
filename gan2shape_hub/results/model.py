"""The model that people take away: a sheet as it is or closed to a solid, with everything it wears on one texture."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from importlib.util import find_spec
from typing import Literal, get_args

import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from gan2shape_hub.config import CameraConfig
from gan2shape_hub.rendering.camera import Pose, project, unproject
from gan2shape_hub.rendering.renderer import sheet_faces
from gan2shape_hub.results.image_files import to_pil
from gan2shape_hub.results.mesh import SheetMesh
from gan2shape_hub.results.normal_map import bake_normal_map
from gan2shape_hub.results.simplify import simplify
from gan2shape_hub.results.solid import head, plaque, weld
from gan2shape_hub.results.texture import BakedTexture, back_colours, extrapolate

Shape = Literal["front", "relief", "head"]
TextureKind = Literal["photograph", "albedo"]

GUTTER = 8
"""Texels that each part of a texture goes on for beyond its edge, so that small versions of it do not mix."""
NORMAL_SIDE = 512
"""Texels of a normal map at most: sheets have fewer pixels."""
PLANE_GAP = 2e-3
"""Scene units of air before the plane behind an object."""
BACK_PART, WALL_PART = 4, 2
"""A back, and a wall, have the texture's side divided by this as height."""


@dataclass(frozen=True)
class ModelOptions:
    """What model is made of a scene."""

    shape: Shape = "front"
    """``front``: the sheet, rounded toward its outline, open behind. ``relief``: in front of a flat back, closed.
    ``head``: closed by a back that is invented: smooth, as large as a head's, in the colours and the grain of the hair
    above."""
    background: bool = False
    """The photograph's background stands behind the object as a plane; a relief keeps the whole square."""
    faces: int | None = None
    """Triangles at most; None: all. Needs fast-simplification (extra ``model``)."""
    texture_size: int | None = None
    """Texels along the front's side, 512..4096; None: the photograph's, at most 1024."""
    texture: TextureKind = "photograph"
    """``albedo``: evenly lit."""
    sides: bool = True
    """What the photograph shows edge-on is coloured as the generator draws the object turned, where it can."""

    def __post_init__(self) -> None:
        for name, allowed in (("shape", get_args(Shape)), ("texture", get_args(TextureKind))):
            if getattr(self, name) not in allowed:
                raise ValueError(f"{name} is '{getattr(self, name)}', must be one of {', '.join(allowed)}.")
        if self.faces is not None and self.faces < 200:
            raise ValueError(f"faces is {self.faces}, must be 200 or more.")
        if self.faces is not None and find_spec("fast_simplification") is None:
            raise OSError("faces needs fast-simplification: pip install 'gan2shape-hub[model]'.")
        if self.texture_size is not None and not 512 <= self.texture_size <= 4096:
            raise ValueError(f"texture_size is {self.texture_size}, must be between 512 and 4096.")

    @property
    def closed(self) -> bool:
        """Whether the object is a solid that can be printed."""
        return self.shape != "front"


@dataclass(frozen=True)
class Model:
    """A mesh and what it wears."""

    mesh: SheetMesh
    texture: Tensor
    """(3, H, W) in -1..1, or (4, H, W) with how opaque it is in 0..1."""
    body: SheetMesh
    """The object alone, without the plane behind it."""
    normal_map: Tensor | None = None
    """(3, H, W) in -1..1: what fewer faces have lost, in the tangent space of the mesh (x right, y up)."""

    @property
    def picture(self) -> Image.Image:
        """The texture, RGB or RGBA."""
        return to_pil(self.texture)


def build_model(
    sheet: SheetMesh,
    colours: Tensor,
    baked: BakedTexture,
    depth: Tensor,
    options: ModelOptions,
    *,
    soft: bool,
    wall: tuple[float, Tensor] | None = None,
    camera: CameraConfig,
) -> Model:
    """The model of a sheet.

    Args:
        sheet: cut out, or with its background.
        colours: (3, T, T) in -1..1, what it wears.
        baked: where the object is on it.
        depth: (S, S), what the sheet is a mesh of.
        options: which model.
        soft: the sheet ends at the half level of ``baked.alpha``, which the texture takes on.
        wall: depth and colours (3, h, T) of a plane behind it.
        camera: of the sheet.
    """
    fine, normal_map = len(sheet.faces), None
    if options.faces is not None:
        sheet = simplify(sheet, options.faces // (2 if options.closed else 1), camera)
    if len(sheet.faces) < fine:
        normal_map = bake_normal_map(sheet, depth, camera, min(colours.shape[-1], NORMAL_SIDE))
    body, front, blocks = sheet, len(sheet.vertices), [colours]
    if options.closed:
        solid = plaque(sheet) if options.shape == "relief" else head(sheet)
        body, front = solid.mesh, solid.front
        blocks.append(back_colours(colours, baked.alpha, colours.shape[-1] // BACK_PART))
    texture, places = _stacked(blocks if wall is None else [*blocks, wall[1]])
    uv = _placed(body.uv[:front], places[0])
    if options.closed:
        uv = torch.cat((uv, _placed(body.uv[front:], places[1])))
    body = replace(body, uv=uv, weld=weld(body.vertices) if options.closed else None)
    mesh = body
    if wall is not None:
        behind = max(wall[0], float(body.vertices[:, 2].max()) + PLANE_GAP)
        mesh = _with_plane(body, behind, places[-1], camera)
    if soft and not options.closed:
        opaque = torch.ones_like(texture[:1])
        opaque[:, : baked.alpha.shape[1]] = baked.alpha
        texture = torch.cat((texture, opaque))
    if normal_map is not None:
        normal_map = _below(normal_map, texture, places[0])
    return Model(mesh, texture, body, normal_map)


def wall_colours(source: Tensor, alpha: Tensor, depth: float, pose: Pose, camera: CameraConfig, size: int) -> Tensor:
    """(3, size // WALL_PART, size) in -1..1: what the photograph ``source`` (3, P, P) shows on a plane at ``depth``,
    the object (``alpha`` (M, M), 0..1) filled in from around it."""
    rows = size // WALL_PART
    scale = min(1, 2 * rows / source.shape[-1])
    small = F.interpolate(source[None], scale_factor=scale, mode="bilinear", antialias=True)
    cover = F.interpolate(alpha[None, None].to(source), small.shape[-2:], mode="bilinear", antialias=True)
    reach = 2 * max(1, small.shape[-1] // 64) + 1
    behind = extrapolate(small, 1 - F.max_pool2d(cover, reach, 1, reach // 2))
    points = pose.apply(unproject(torch.full((1, size, size), depth).to(source), camera)[:, ::WALL_PART], camera)
    lookup = (2 * project(points, camera, (size, size)) + 1) / size - 1
    return F.grid_sample(behind, lookup, padding_mode="border", align_corners=False)[0]


def _stacked(blocks: list[Tensor]) -> tuple[Tensor, list[tuple[float, float]]]:
    """Pictures (3, h, T) below each other, and for each the places of its first and last row in 0..1."""
    if len(blocks) == 1:
        return blocks[0], [(0.0, 1.0)]
    padded = [F.pad(block[None], (0, 0, GUTTER, GUTTER), mode="replicate")[0] for block in blocks]
    texture, places, top = torch.cat(padded, 1), [], 0
    for block in padded:
        rows = block.shape[1]
        places.append((top + GUTTER, top + rows - GUTTER - 1))
        top += rows
    return texture, [(first / (top - 1), last / (top - 1)) for first, last in places]


def _below(normal_map: Tensor, texture: Tensor, place: tuple[float, float]) -> Tensor:
    """The front's ``normal_map`` (3, T, T) at its ``place`` on the ``texture``; what else is there is as smooth as its
    mesh."""
    scale = normal_map.shape[-1] / texture.shape[-1]
    height = round(texture.shape[1] * scale)
    whole = torch.tensor([0.0, 0, 1])[:, None, None].expand(3, height, normal_map.shape[-1]).clone()
    first, last = (round(at * (height - 1)) for at in place)
    whole[:, first : last + 1] = F.interpolate(
        normal_map[None], (last + 1 - first, normal_map.shape[-1]), mode="bilinear", align_corners=True
    )[0]
    return whole


def _placed(uv: Tensor, place: tuple[float, float]) -> Tensor:
    first, last = place
    return torch.stack((uv[:, 0], first + uv[:, 1] * (last - first)), 1)


def _with_plane(mesh: SheetMesh, depth: float, place: tuple[float, float], camera: CameraConfig) -> SheetMesh:
    """``mesh`` and a square of 8 x 8 cells behind it at ``depth``, as large as the picture there is."""
    rows = 9
    at = torch.linspace(0, 1, rows)
    v, u = torch.meshgrid(at, at, indexing="ij")
    spread = 2 * depth * math.tan(math.radians(camera.fov_deg) / 2)
    vertices = torch.stack(((u - 0.5) * spread, (v - 0.5) * spread, torch.full_like(u, depth)), -1).reshape(-1, 3)
    plane_uv = _placed(torch.stack((u, v), -1).reshape(-1, 2), place)
    faces = torch.cat((mesh.faces, sheet_faces((rows, rows)) + len(mesh.vertices)))
    welded = mesh.weld
    if welded is not None:
        welded = torch.cat((welded, torch.arange(rows * rows) + int(welded.max()) + 1))
    return SheetMesh(torch.cat((mesh.vertices, vertices)), faces, torch.cat((mesh.uv, plane_uv)), welded)
