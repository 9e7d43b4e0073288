"""A canonical depth sheet as a clean textured mesh.

A depth map bridges every silhouette with a curtain of stretched triangles, and its pinned border columns hang off it
as skirts. :func:`build_mesh` cuts both away, follows the half level of the object's mask and keeps one connected piece.

Export frame (:func:`to_export_frame`): y up, z toward the viewer, the front facing +z, as glTF has it. The origin is
the rotation centre (0, 0, center_depth) and the image's side at that depth has length 1, so that a face is about one
unit tall; x, y and z share this one scale, so that proportions stay metric.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from gan2shape_hub.config import CameraConfig
from gan2shape_hub.rendering.camera import focal_px
from gan2shape_hub.rendering.details import blur
from gan2shape_hub.rendering.mesh_renderer import vertex_normals
from gan2shape_hub.results import cells as grid
from gan2shape_hub.results.outline import cut_at_level, one_piece, split_pinches
from gan2shape_hub.results.texture import border_columns

MAX_STRETCH = 5.0
"""Default of ``max_stretch``: cut where the surface is seen at less than 11.5 degrees."""


SMOOTHING = 0.8
"""Cells over which the mask is smoothed: a single hair of a mask is a step of the grid."""
SPECK = 5e-4
"""Holes of the mask up to this part of the grid are closed: they are noise."""


class MeshError(ValueError):
    """No mesh can be made; the message is one sentence with the remedy."""


@dataclass(frozen=True)
class Window:
    """First and last row and column of a part of a sheet, pixels."""

    top: int
    bottom: int
    left: int
    right: int


@dataclass(frozen=True, eq=False)
class SheetMesh:
    """A triangle mesh in the canonical camera frame (x right, y down, z away, scene units). No vertex is unused."""

    vertices: Tensor
    """(V, 3) float32, finite."""
    faces: Tensor
    """(F, 3) int64, wound so that normals point at the canonical camera (outward)."""
    uv: Tensor
    """(V, 2) float32 in 0..1, u right, v down; 0 and 1 are the centres of the texture's first and last texel."""
    weld: Tensor | None = None
    """(V,) int64: vertices of equal numbers are one and differ in ``uv`` alone. None: all differ."""

    @cached_property
    def normals(self) -> Tensor:
        """(V, 3) smooth outward unit normals, the same on both sides of a seam of the texture."""
        if self.weld is None:
            return vertex_normals(self.vertices, self.faces)
        points = self.vertices.new_zeros(int(self.weld.max()) + 1, 3)
        points[self.weld] = self.vertices
        return vertex_normals(points, self.weld[self.faces])[self.weld]


def build_mesh(
    depth: Tensor,
    camera: CameraConfig,
    *,
    mask: Tensor | None = None,
    max_stretch: float = MAX_STRETCH,
    upsample: int = 2,
    max_hole: float = 0.06,
    window: Window | None = None,
) -> SheetMesh:
    """Triangulate a canonical depth map and cut away what it does not really show.

    Args:
        depth: (H, W) canonical depth, scene units. Pixels that are not finite are cut out.
        camera: the camera that ``depth`` belongs to; its pinned border columns are cut off.
        mask: (M, N) in 0..1, the object in the canonical frame, corner pixels on those of ``depth``; the mesh ends at
            its half level. None keeps the background.
        max_stretch: largest area of a patch of surface relative to its picture (1 / cosine of the angle between its
            normal and the line of sight), above 1. Lower cuts more at silhouettes; ``math.inf`` cuts nothing.
        upsample: cells per pixel and direction, 1 or more; depth in between is bicubic.
        max_hole: enclosed holes that cutting tore, of at most this fraction of the mesh, are closed again by flattening
            the slope there: a cut that detaches nothing is a crack in a face. Holes of ``mask`` stay.
        window: the part of ``depth`` that is taken; None: all between the pinned columns.

    Returns:
        The mesh: one connected piece, manifold, no unused vertex.

    Raises:
        MeshError: nothing is left after cutting.
        ValueError: an argument has the wrong shape or value.
    """
    if depth.dim() != 2 or min(depth.shape) < 8:
        raise ValueError(f"depth has shape {tuple(depth.shape)}, must be (H, W) with sides of 8 or more.")
    if mask is not None and (mask.dim() != 2 or min(mask.shape) < 8):
        raise ValueError(f"mask has shape {tuple(mask.shape)}, must be (M, N) with sides of 8 or more.")
    if not max_stretch > 1:
        raise ValueError(f"max_stretch is {max_stretch}, must be above 1.")
    if upsample < 1:
        raise ValueError(f"upsample is {upsample}, must be 1 or more.")
    if window is None:
        border = border_columns(depth.shape[1], camera)
        window = Window(0, depth.shape[0] - 1, border, depth.shape[1] - 1 - border)
    z, level = _fine_grid(depth.detach().float().cpu(), mask, window, upsample)
    rows, cols = z.shape
    # Position of every grid vertex: column and row in pixels of ``depth``, and depth.
    place = np.stack(
        np.broadcast_arrays(
            window.left + np.arange(cols)[None] / upsample, window.top + np.arange(rows)[:, None] / upsample, z
        ),
        -1,
    ).copy()

    inside = _cells_of(level > 0)
    kept = inside & (_cell_stretch(_rays(place, depth.shape, camera)) <= max_stretch)
    if (kept != inside).any():
        kept = grid.largest_component(grid.erode_spurs(kept))
        kept, place = _fill_holes(kept, inside, place, depth.shape, camera, max_stretch, max_hole)
        kept = grid.largest_component(grid.separate_corners(kept))
        place = _smooth_outline(kept, place, level > 0, limit=0.35 / upsample)
    faces = _triangles(kept, _rays(place, depth.shape, camera))
    edge = [np.arange(n) == m for n in (rows, cols) for m in (0, n - 1)]
    sides = edge[0][:, None] + 2 * edge[1][:, None] + 4 * edge[2] + 8 * edge[3]
    place, faces = cut_at_level(place.reshape(-1, 3), level.ravel(), faces, sides.ravel())
    # The object is in the middle: a sheet cut along a head's outline must keep the head, not the larger wall behind it.
    away = place[:, :2] / [(depth.shape[1] - 1) / 2, (depth.shape[0] - 1) / 2] - 1
    faces = one_piece(faces, np.exp(-4 * (away**2).sum(1)))
    if not len(faces):
        raise MeshError(
            f"no part of the depth map can be kept with max_stretch {max_stretch:g}: raise it, or check the mask."
        )
    place, faces = split_pinches(place, faces)
    uv = place[:, :2] / [depth.shape[1] - 1, depth.shape[0] - 1]
    return SheetMesh(
        vertices=torch.from_numpy(_rays(place, depth.shape, camera)).float(),
        faces=torch.from_numpy(faces.astype(np.int64)),
        uv=torch.from_numpy(uv.clip(0, 1)).float(),
    )


def to_export_frame(points: Tensor, camera: CameraConfig) -> Tensor:
    """Canonical camera frame -> export frame (module docstring); ``points`` (..., 3). Its own shape and type return."""
    scale = 1 / (2 * camera.center_depth * math.tan(math.radians(camera.fov_deg) / 2))
    x, y, z = points.unbind(-1)
    return torch.stack((x, -y, camera.center_depth - z), -1) * scale


def export_normals(mesh: SheetMesh) -> Tensor:
    """Smooth unit normals (V, 3) in the export frame, outward.

    Handed to trimesh wherever it makes a mesh: its own need scipy, and without it take minutes.
    """
    return mesh.normals * mesh.normals.new_tensor([1, -1, -1])


def export_uv(uv: Tensor, size: tuple[int, int]) -> Tensor:
    """``SheetMesh.uv`` -> (V, 2) as OBJ has them: v up, 0 and 1 at the outer edges of a texture of ``size`` (width,
    height) texels."""
    texels = uv.new_tensor(size)
    inner = (uv * (texels - 1) + 0.5) / texels
    return torch.stack((inner[:, 0], 1 - inner[:, 1]), 1)


def _fine_grid(depth: Tensor, mask: Tensor | None, window: Window, upsample: int) -> tuple[np.ndarray, np.ndarray]:
    """Depth of the fine vertices (R, C) of a part of ``depth``, and a level (R, C): above 0 on the object."""
    rows = slice(window.top * upsample, window.bottom * upsample + 1)
    cols = slice(window.left * upsample, window.right * upsample + 1)
    size = [(n - 1) * upsample + 1 for n in depth.shape]
    finite = torch.isfinite(depth)
    level = F.interpolate(finite.float()[None, None], size, mode="bilinear", align_corners=True)
    if mask is not None:
        soft = F.interpolate(mask.detach().float().cpu()[None, None], size, mode="bilinear", align_corners=True)
        level = level * blur(soft, SMOOTHING)
    level = (level[0, 0, rows, cols] - 0.5).double().numpy()
    for speck in grid.small_holes(level > 0, int(SPECK * level.size)):
        level[speck] = 0.5
    part = slice(window.top, window.bottom + 1), slice(window.left, window.right + 1)
    depth, finite = depth[part], finite[part]
    if not finite.all():
        depth = torch.where(finite, depth, depth[finite].median() if finite.any() else torch.ones(()))
    if upsample > 1:
        size = [(n - 1) * upsample + 1 for n in depth.shape]
        fine = F.interpolate(depth[None, None], size, mode="bicubic", align_corners=True)
        # Bicubic rings at cliffs; hold it within the neighbourhood's range.
        low = -F.max_pool2d(-depth[None, None], 3, 1, 1)
        high = F.max_pool2d(depth[None, None], 3, 1, 1)
        rows, cols = (torch.arange(n) // upsample for n in size)
        depth = fine.clamp(low[..., rows[:, None], cols], high[..., rows[:, None], cols])[0, 0]
    return depth.double().numpy(), level


def _cells_of(solid: np.ndarray) -> np.ndarray:
    """(R-1, C-1): the cells of which ``solid`` (R, C) has a corner."""
    return solid[:-1, :-1] | solid[1:, :-1] | solid[:-1, 1:] | solid[1:, 1:]


def _rays(place: np.ndarray, size: tuple[int, ...], camera: CameraConfig) -> np.ndarray:
    """(..., 3) column, row, depth -> (..., 3) points of the camera frame."""
    height, width = size
    focal = focal_px(width, camera.fov_deg)
    u, v, z = np.moveaxis(place, -1, 0)
    return np.stack(((u - (width - 1) / 2) / focal * z, (v - (height - 1) / 2) / focal * z, z), -1)


def _cell_stretch(points: np.ndarray) -> np.ndarray:
    """(R-1, C-1): the larger stretch of the triangles of each cell, over both ways to split it."""
    corner = (points[:-1, :-1], points[:-1, 1:], points[1:, 1:], points[1:, :-1])  # clockwise
    worst = np.zeros(corner[0].shape[:2])
    for i in range(4):
        before, here, after = corner[i - 1], corner[i], corner[(i + 1) % 4]
        normal = np.cross(after - here, before - here)
        cosine = np.abs((normal * here).sum(-1)) / (
            np.linalg.norm(normal, axis=-1) * np.linalg.norm(here, axis=-1) + 1e-30
        )
        worst = np.maximum(worst, 1 / np.maximum(cosine, 1e-9))
    return worst


def _fill_holes(
    kept: np.ndarray,
    inside: np.ndarray,
    place: np.ndarray,
    size: tuple[int, ...],
    camera: CameraConfig,
    max_stretch: float,
    max_hole: float,
) -> tuple[np.ndarray, np.ndarray]:
    """Close small holes, relaxing depth around each until its cells are no longer stretched; else it stays open."""
    holes = grid.small_holes(kept, int(max_hole * kept.sum()))
    if not holes:
        return kept, place
    torn = [hole & inside for hole in holes if inside[hole].mean() > 0.5]
    if not torn:
        return kept, place
    filled = np.logical_or.reduce(torn)
    kept = kept | filled
    z = place[..., 2].copy()
    region = np.zeros(z.shape, bool)
    for dy in (0, 1):
        for dx in (0, 1):
            region[dy : dy + kept.shape[0], dx : dx + kept.shape[1]] |= filled
    for _ in range(12):
        for _ in range(12):
            edge = np.pad(z, 1, mode="edge")
            mean = (edge[:-2, 1:-1] + edge[2:, 1:-1] + edge[1:-1, :-2] + edge[1:-1, 2:]) / 4
            z = np.where(region, mean, z)
        relaxed = np.concatenate((place[..., :2], z[..., None]), -1)
        stretch = _cell_stretch(_rays(relaxed, size, camera))
        if (stretch[kept] <= max_stretch).all():
            break
        wide = np.pad(region, 1)
        region = region | wide[:-2, 1:-1] | wide[2:, 1:-1] | wide[1:-1, :-2] | wide[1:-1, 2:]
    return kept & (stretch <= max_stretch), relaxed


def _smooth_outline(
    kept: np.ndarray, place: np.ndarray, solid: np.ndarray, limit: float, iterations: int = 8
) -> np.ndarray:
    """Turn the stair steps of what was cut at silhouettes into a smooth curve; beyond ``solid`` the mask cuts.

    Outline vertices move along the surface towards their two neighbours on the outline, by at most ``limit`` pixels in
    each direction so that no triangle folds. Vertices on the edge of the frame, which is straight already, stay.
    """
    cells = np.pad(kept, 1)
    above_below = cells[:-1, 1:-1] ^ cells[1:, 1:-1]  # (R, C-1) horizontal edges
    left_right = cells[1:-1, :-1] ^ cells[1:-1, 1:]  # (R-1, C) vertical edges
    degree = np.zeros(place.shape[:2], int)
    degree[:, :-1] += above_below
    degree[:, 1:] += above_below
    degree[:-1] += left_right
    degree[1:] += left_right
    moving = solid & (degree == 2)
    moving[[0, -1]] = False
    moving[:, [0, -1]] = False
    current = place.copy()
    for _ in range(iterations):
        total = np.zeros_like(current)
        total[:, :-1] += current[:, 1:] * above_below[..., None]
        total[:, 1:] += current[:, :-1] * above_below[..., None]
        total[:-1] += current[1:] * left_right[..., None]
        total[1:] += current[:-1] * left_right[..., None]
        step = (total / 2 - current) * 0.5
        current = np.where(moving[..., None], current + step, current)
        current[..., :2] = np.clip(current[..., :2], place[..., :2] - limit, place[..., :2] + limit)
    return current


def _triangles(kept: np.ndarray, points: np.ndarray) -> np.ndarray:
    """(F, 3) indices: two triangles a kept cell of the grid ``points`` (R, C, 3), split so that they are rounder.

    Where smoothing has moved a corner of the outline onto the diagonal, the other split avoids a flat triangle.
    """
    index = np.arange(points.shape[0] * points.shape[1]).reshape(points.shape[:2])
    a, b, c, d = (i[kept] for i in (index[:-1, :-1], index[:-1, 1:], index[1:, :-1], index[1:, 1:]))
    flat = points.reshape(-1, 3)
    # y points down, so these orders turn towards the camera.
    falling = np.stack((a, c, d, a, d, b), 1).reshape(-1, 2, 3)
    rising = np.stack((a, c, b, b, c, d), 1).reshape(-1, 2, 3)
    better = _aspect(flat[falling]).max(1) <= _aspect(flat[rising]).max(1)
    return np.where(better[:, None, None], falling, rising).reshape(-1, 3)


def _aspect(triangles: np.ndarray) -> np.ndarray:
    """(..., 3, 3) corners -> (...,) longest side divided by the height above it; 1.15 for an equilateral triangle."""
    sides = np.roll(triangles, -1, -2) - triangles
    longest = (sides**2).sum(-1).max(-1)
    return longest / (np.linalg.norm(np.cross(sides[..., 0, :], sides[..., 1, :]), axis=-1) + 1e-30)
