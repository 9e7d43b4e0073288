"""A canonical depth sheet as a clean textured mesh.

A depth map bridges every silhouette with a curtain of stretched triangles, and its pinned border columns hang off it
as skirts. :func:`build_mesh` cuts both away, keeps one connected piece and smooths its outline.

Export frame (:func:`to_export_frame`): y up, z toward the viewer, the front facing +z, as glTF has it. The origin is
the rotation centre (0, 0, center_depth) and the image's side at that depth has length 1, so that a face is about one
unit tall; x, y and z share this one scale, so that proportions stay metric.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
import trimesh
from PIL import Image
from torch import Tensor

from gan2shape_hub.config import CameraConfig
from gan2shape_hub.rendering.camera import focal_px
from gan2shape_hub.rendering.mesh_renderer import vertex_normals
from gan2shape_hub.results import cells as grid
from gan2shape_hub.results.texture import border_columns

MAX_STRETCH = 5.0
"""Default of ``max_stretch``: cut where the surface is seen at less than 11.5 degrees."""


class MeshError(ValueError):
    """No mesh can be made; the message is one sentence with the remedy."""


@dataclass(frozen=True)
class SheetMesh:
    """A triangle mesh in the canonical camera frame (x right, y down, z away, scene units). No vertex is unused."""

    vertices: Tensor
    """(V, 3) float32, finite."""
    faces: Tensor
    """(F, 3) int64, wound so that normals point at the canonical camera (outward)."""
    uv: Tensor
    """(V, 2) float32 in 0..1, u right, v down; 0 and 1 are the centres of the texture's first and last texel."""


def build_mesh(
    depth: Tensor,
    camera: CameraConfig,
    *,
    mask: Tensor | None = None,
    max_stretch: float = MAX_STRETCH,
    upsample: int = 2,
    max_hole: float = 0.06,
) -> SheetMesh:
    """Triangulate a canonical depth map and cut away what it does not really show.

    Args:
        depth: (H, W) canonical depth, scene units. Pixels that are not finite are cut out.
        camera: the camera that ``depth`` belongs to; its pinned border columns are cut off.
        mask: (H, W) in 0..1, the object in the canonical frame; None keeps the background.
        max_stretch: largest area of a patch of surface relative to its picture (1 / cosine of the angle between its
            normal and the line of sight), above 1. Lower cuts more at silhouettes; ``math.inf`` cuts nothing.
        upsample: cells per pixel and direction, 1 or more; depth in between is bicubic.
        max_hole: enclosed holes that cutting tore, of at most this fraction of the mesh, are closed again by flattening
            the slope there: a cut that detaches nothing is a crack in a face. Holes of ``mask`` stay.

    Returns:
        The mesh: one connected piece, manifold, no unused vertex.

    Raises:
        MeshError: nothing is left after cutting.
        ValueError: an argument has the wrong shape or value.
    """
    if depth.dim() != 2 or min(depth.shape) < 8:
        raise ValueError(f"depth has shape {tuple(depth.shape)}, must be (H, W) with sides of 8 or more.")
    if mask is not None and mask.shape != depth.shape:
        raise ValueError(f"mask has shape {tuple(mask.shape)}, must be that of depth, {tuple(depth.shape)}.")
    if not max_stretch > 1:
        raise ValueError(f"max_stretch is {max_stretch}, must be above 1.")
    if upsample < 1:
        raise ValueError(f"upsample is {upsample}, must be 1 or more.")
    border = border_columns(depth.shape[1], camera)
    z, inside = _fine_grid(depth.detach().float().cpu(), mask, border, upsample)
    rows, cols = z.shape
    # Position of every grid vertex: column and row in pixels of ``depth``, and depth.
    place = np.stack(
        np.broadcast_arrays(border + np.arange(cols)[None] / upsample, np.arange(rows)[:, None] / upsample, z), -1
    ).copy()

    kept = inside & (_cell_stretch(_rays(place, depth.shape, camera)) <= max_stretch)
    kept = grid.largest_component(grid.erode_spurs(kept))
    kept, place = _fill_holes(kept, inside, place, depth.shape, camera, max_stretch, max_hole)
    kept = grid.largest_component(grid.separate_corners(kept))
    if not kept.any():
        raise MeshError(
            f"no part of the depth map can be kept with max_stretch {max_stretch:g}: raise it, or check the mask."
        )
    place = _smooth_outline(kept, place, limit=0.35 / upsample)
    return _triangulate(kept, place, depth.shape, camera)


def to_export_frame(points: Tensor, camera: CameraConfig) -> Tensor:
    """Canonical camera frame -> export frame (module docstring); ``points`` (..., 3). Its own shape and type return."""
    scale = 1 / (2 * camera.center_depth * math.tan(math.radians(camera.fov_deg) / 2))
    x, y, z = points.unbind(-1)
    return torch.stack((x, -y, camera.center_depth - z), -1) * scale


def export_normals(mesh: SheetMesh, camera: CameraConfig) -> Tensor:
    """Smooth unit normals (V, 3) in the export frame, outward.

    Handed to trimesh wherever it makes a mesh: its own need scipy, and without it take minutes.
    """
    return vertex_normals(to_export_frame(mesh.vertices, camera), mesh.faces)


def export_uv(uv: Tensor, texture_size: int) -> Tensor:
    """``SheetMesh.uv`` -> (V, 2) as OBJ has them: v up, 0 and 1 at the outer edges of a texture of that many texels."""
    inner = (uv * (texture_size - 1) + 0.5) / texture_size
    return torch.stack((inner[:, 0], 1 - inner[:, 1]), 1)


def to_trimesh(mesh: SheetMesh, texture: Image.Image, camera: CameraConfig) -> trimesh.Trimesh:
    """A textured mesh in the export frame.

    Args:
        mesh: V vertices.
        texture: square RGB image, the canonical texture; embedded on export.
        camera: sets the scale of the export frame.

    Returns:
        V vertices in the same order, smooth normals, double-sided PBR material with metallic 0 and roughness 1 (a
        depth sheet would be invisible from behind and dark otherwise).
    """
    material = trimesh.visual.material.PBRMaterial(
        name="surface", baseColorTexture=texture, doubleSided=True, metallicFactor=0.0, roughnessFactor=1.0
    )
    uv = export_uv(mesh.uv, texture.width).numpy()
    return trimesh.Trimesh(
        vertices=to_export_frame(mesh.vertices, camera).numpy(),
        faces=mesh.faces.numpy(),
        vertex_normals=export_normals(mesh, camera).numpy(),
        visual=trimesh.visual.TextureVisuals(uv=uv, material=material),
        process=False,  # merging vertices would reorder them
    )


def _fine_grid(depth: Tensor, mask: Tensor | None, border: int, upsample: int) -> tuple[np.ndarray, np.ndarray]:
    """Depth of the fine vertices (R, C), border columns left out, and the cells (R-1, C-1) that mask and NaN leave."""
    inner = depth[:, border : depth.shape[1] - border]
    finite = torch.isfinite(inner)
    inside = finite.float()
    if mask is not None:
        inside = inside * mask.detach().float().cpu()[:, border : depth.shape[1] - border]
    if not finite.all():
        inner = torch.where(finite, inner, inner[finite].median() if finite.any() else torch.ones(()))
    size = [(n - 1) * upsample + 1 for n in inner.shape]
    if upsample > 1:
        fine = F.interpolate(inner[None, None], size, mode="bicubic", align_corners=True)
        # Bicubic rings at cliffs; hold it within the neighbourhood's range.
        low = -F.max_pool2d(-inner[None, None], 3, 1, 1)
        high = F.max_pool2d(inner[None, None], 3, 1, 1)
        rows, cols = (torch.arange(n) // upsample for n in size)
        fine = fine.clamp(low[..., rows[:, None], cols], high[..., rows[:, None], cols])[0, 0]
        inside = F.interpolate(inside[None, None], size, mode="bilinear", align_corners=True)[0, 0]
    else:
        fine = inner
    solid = (inside >= 0.5).numpy()
    return fine.double().numpy(), solid[:-1, :-1] & solid[1:, :-1] & solid[:-1, 1:] & solid[1:, 1:]


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


def _smooth_outline(kept: np.ndarray, place: np.ndarray, limit: float, iterations: int = 8) -> np.ndarray:
    """Turn the outline's stair steps into a smooth curve.

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
    moving = degree == 2
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


def _triangulate(kept: np.ndarray, place: np.ndarray, size: tuple[int, ...], camera: CameraConfig) -> SheetMesh:
    """Two triangles a kept cell, split the way that gives the rounder ones; vertices renumbered without gaps.

    Where smoothing has moved a corner of the outline onto the diagonal, the other split avoids a flat triangle.
    """
    points = _rays(place, size, camera)
    index = np.arange(points.shape[0] * points.shape[1]).reshape(points.shape[:2])
    a, b, c, d = (i[kept] for i in (index[:-1, :-1], index[:-1, 1:], index[1:, :-1], index[1:, 1:]))
    flat = points.reshape(-1, 3)
    # y points down, so these orders turn towards the camera.
    falling = np.stack((a, c, d, a, d, b), 1).reshape(-1, 2, 3)
    rising = np.stack((a, c, b, b, c, d), 1).reshape(-1, 2, 3)
    better = _aspect(flat[falling]).max(1) <= _aspect(flat[rising]).max(1)
    chosen = np.where(better[:, None, None], falling, rising)
    used, faces = np.unique(chosen, return_inverse=True)
    uv = place.reshape(-1, 3)[used, :2] / [size[1] - 1, size[0] - 1]
    return SheetMesh(
        vertices=torch.from_numpy(flat[used]).float(),
        faces=torch.from_numpy(faces.reshape(-1, 3).astype(np.int64)),
        uv=torch.from_numpy(uv.clip(0, 1)).float(),
    )


def _aspect(triangles: np.ndarray) -> np.ndarray:
    """(..., 3, 3) corners -> (...,) longest side divided by the height above it; 1.15 for an equilateral triangle."""
    sides = np.roll(triangles, -1, -2) - triangles
    longest = (sides**2).sum(-1).max(-1)
    return longest / (np.linalg.norm(np.cross(sides[..., 0, :], sides[..., 1, :]), axis=-1) + 1e-30)
