"""A textured triangle mesh from any side: turntables, shape pictures and checks of an exported mesh.

`render_view` samples a picture back through the sheet, which is what the fit needs, and smears the sheet's curtains
once they face the camera. Here triangles themselves are drawn, so that angles up to 90 degrees and beyond are clean.
Nothing in this module is differentiable. A sample is a covered point of the supersampled view; P of them are held in
planes, (3,P), which is what vectorises.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from gan2shape_hub.config import CameraConfig
from gan2shape_hub.rendering.camera import Pose, project
from gan2shape_hub.rendering.environment import Environment
from gan2shape_hub.rendering.rasterize import Samples, sample
from gan2shape_hub.rendering.shading import Light

CLAY = (0.78, 0.77, 0.75)
"""Colour of ``shaded_only``, 0..1."""
BACK = (0.47, 0.46, 0.48)
"""Colour of the back side, 0..1: darker than clay, and never the texture, which would show mirrored."""
AMBIENT, KEY, FILL = 0.30, 0.62, 0.20
KEY_TOWARDS, FILL_TOWARDS = (-0.55, -0.65, -0.80), (0.85, 0.10, -0.50)
"""Directions from the surface to the lights, camera frame: key from above left, fill from the right."""
HEAD_AMBIENT = 0.45
"""The back side is lit from the camera: this much ambient, the rest with the cosine."""


@dataclass(frozen=True)
class RenderedMesh:
    """N views of a mesh, S x S pixels.

    ``image`` (N,3,S,S) in -1..1. ``mask`` (N,1,S,S): the fraction of a pixel that is covered, 0..1. ``depth`` (N,S,S)
    in scene units and ``normals`` (N,3,S,S), unit, in the convention of `normals_from_depth` (towards the camera is
    (0, 0, 1)), are means over the covered part of a pixel, zero where nothing is covered; None where the caller wants
    the picture alone.
    """

    image: Tensor
    mask: Tensor
    depth: Tensor | None
    normals: Tensor | None


def vertex_normals(vertices: Tensor, faces: Tensor) -> Tensor:
    """Unit normals (V,3) of ``vertices`` (V,3): means of the right-hand normals of ``faces`` (F,3), weighted by area.

    Outward for the package's meshes, so (0, 0, -1) on what faces the camera. Zero for a vertex without faces.
    """
    a, b, c = (vertices[faces[:, k]] for k in range(3))
    weighted = torch.linalg.cross(b - a, c - a)
    total = torch.zeros_like(vertices)
    for k in range(3):
        total.index_add_(0, faces[:, k], weighted)
    return total / total.norm(dim=1, keepdim=True).clamp_min(torch.finfo(vertices.dtype).tiny)


@torch.no_grad()
def render_mesh(
    vertices: Tensor,
    faces: Tensor,
    uv: Tensor,
    texture: Tensor,
    poses: Pose,
    camera: CameraConfig,
    size: int,
    *,
    light: Light | Environment | None = None,
    background: tuple[float, float, float] = (1.0, 1.0, 1.0),
    supersample: int = 2,
    shaded_only: bool = False,
    cull_backfaces: bool = False,
    normals: Tensor | None = None,
    picture_only: bool = False,
) -> RenderedMesh:
    """Draw a mesh from each of N ``poses``.

    Args:
        vertices: (V,3) canonical camera frame (x right, y down, z away), scene units.
        faces: (F,3) integers, right-hand normals outward.
        uv: (V,2) in 0..1, u right, v DOWN; 0 and 1 are the centres of the texture's first and last texel.
        texture: (3,T,U) in -1..1, or (4,T,U) with how opaque it is, 0..1: less than 1 lets ``background`` through (and
            not what of the mesh is behind).
        poses: N poses. The camera does not move: the mesh turns before it.
        camera: at ``size`` pixels; 128 or 512 pixels show the same picture.
        size: side S of the views, pixels, 2 or more.
        light: shades ``texture`` as an albedo with smooth normals, as `shade` does. Its direction is in the camera's
            frame: the light stays where it is while the mesh turns. Batch N or 1. None: the texture as it is.
        background: colour, -1..1.
        supersample: each pixel is the mean of so many squared.
        shaded_only: grey clay under a key, a fill and an ambient light instead of the texture; ``light`` is not used.
        cull_backfaces: leave faces out that are seen from behind; else they are drawn in a muted grey.
        normals: (V,3) smooth and outward; None: `vertex_normals`.
        picture_only: leave out depth and normals, a third of the time of an unlit texture.

    Neighbouring faces leave no gaps (see search.py). Cut stretched faces away before: they are drawn as they are.
    ValueError names an argument that does not fit.
    """
    _check(vertices, faces, uv, texture, size, supersample)
    fine = size * supersample
    normals = vertex_normals(vertices, faces) if normals is None else normals
    if max(texture.shape[1:]) > fine:  # finer than the samples: it would flicker from view to view
        texture = F.interpolate(texture[None], (fine, fine), mode="bilinear", align_corners=True, antialias=True)[0]
    canvas = vertices.new_tensor(background)
    parts = []
    for n in range(poses.batch):
        pose = poses.index(n)
        moved = pose.apply(vertices[None], camera)
        front = _faces_camera(moved[0], faces)
        drawn = faces[front] if cull_backfaces else faces
        # Pixel centres are integers: the finer centre i lies at (i + 1/2) / supersample - 1/2.
        pixels = (project(moved, camera, (size, size)) + 0.5) * supersample - 0.5
        found = sample(pixels, moved[..., 2], drawn, (fine, fine))
        turned = (normals @ pose.rotation[0].T).T
        facing = (front[front] if cull_backfaces else front).index_select(0, found.face)
        shaded = shaded_only or light is not None or not picture_only
        outward = _toward(turned, found, facing) if shaded else None
        if shaded_only:
            colour, opacity = _clay(outward), None
        else:
            colour = _texels(texture, _interpolate(uv.T, found))
            colour, opacity = colour[:3], colour[3:4]
            if light is not None:
                colour = _lit(colour, outward, light, n)
        behind = torch.nonzero(~facing)[:, 0]
        if len(behind):
            backs = _toward(turned, found.select(behind), facing.index_select(0, behind))
            colour = colour.index_copy(1, behind, _back(backs))
        samples = [colour, torch.ones_like(found.depth)[None]]
        samples = torch.cat(samples if picture_only else [*samples, found.depth[None], -outward])
        if opacity is not None and len(opacity):
            samples = samples * opacity
        parts.append(_assemble(found.pixel, samples, canvas, fine, supersample))
    image, mask, *more = (torch.stack(maps) for maps in zip(*parts, strict=True))
    depth, normal = (None, None) if picture_only else (more[0][:, 0], more[1])
    return RenderedMesh(image, mask, depth, normal)


def clay_picture(view: RenderedMesh, background: tuple[float, float, float]) -> Tensor:
    """(N,3,S,S) in -1..1: the bare shape of a ``view`` that was drawn in colours, as ``shaded_only`` draws it but for
    shading once a pixel, and backs, which are clay too."""
    count, _, height, width = view.normals.shape
    clay = _clay(-view.normals.transpose(0, 1).reshape(3, -1)).reshape(3, count, height, width).transpose(0, 1)
    canvas = clay.new_tensor(background)[:, None, None]
    return canvas + view.mask * (clay - canvas)


def _faces_camera(points: Tensor, faces: Tensor) -> Tensor:
    """Whether each face (F,) turns its right-hand side to the camera, at the origin; ``points`` (V,3) in its frame."""
    a, b, c = (points[faces[:, k]] for k in range(3))
    return (torch.linalg.cross(b - a, c - a) * a).sum(1) < 0


def _interpolate(attribute: Tensor, found: Samples) -> Tensor:
    """``attribute`` (C,V) of the vertices at samples: (C,P)."""
    first, second, third = (attribute.contiguous().index_select(1, corner) for corner in found.corner)
    return (first * found.bary[0]).addcmul_(second, found.bary[1]).addcmul_(third, found.bary[2])


def _toward(normals: Tensor, found: Samples, facing: Tensor) -> Tensor:
    """(3,P) unit ``normals`` (3,V) at samples, turned to the camera where the outward one is not ``facing`` (P,) it."""
    return _unit(_interpolate(normals, found)) * torch.where(facing, 1.0, -1.0)


def _unit(vectors: Tensor) -> Tensor:
    """``vectors`` (3,...) at length 1; zero stays zero."""
    return vectors / vectors.square().sum(0).sqrt().clamp_min(1e-12)


def _texels(texture: Tensor, uv: Tensor) -> Tensor:
    """Colours (C,P) of ``texture`` (C,T,U) at ``uv`` (2,P)."""
    grid = (uv * 2 - 1).T[None, None]
    return F.grid_sample(texture[None], grid, padding_mode="border", align_corners=True)[0, :, 0]


def _cosine(normal: Tensor, direction: Tensor) -> Tensor:
    """max(0, ``normal`` (3,P) . ``direction`` (3,)): (P,)."""
    return (normal * direction[:, None]).sum(0).clamp_min(0)


def _lit(albedo: Tensor, toward: Tensor, light: Light | Environment, n: int) -> Tensor:
    """`shade` for samples: ``albedo`` (3,P), outward normals ``toward`` (3,P), light ``n`` of the batch or the only."""
    if isinstance(light, Environment):
        return ((albedo / 2 + 0.5) * light.shading(-toward[None])[0] * 2 - 1).clamp(-1, 1)
    n = min(n, len(light.ambient) - 1)
    strength = light.ambient[n] + light.diffuse[n] * _cosine(-toward, light.direction[n])
    return ((albedo / 2 + 0.5) * strength * 2 - 1).clamp(-1, 1)


def _clay(toward: Tensor) -> Tensor:
    """Grey clay (3,P) in -1..1 for outward normals ``toward`` (3,P)."""
    key, fill = (F.normalize(toward.new_tensor(d), dim=0) for d in (KEY_TOWARDS, FILL_TOWARDS))
    strength = AMBIENT + KEY * _cosine(toward, key) + FILL * _cosine(toward, fill)
    return (toward.new_tensor(CLAY)[:, None] * strength * 2 - 1).clamp(-1, 1)


def _back(toward: Tensor) -> Tensor:
    """Muted back side (3,P) in -1..1; ``toward`` (3,P) are its normals, turned to the camera."""
    strength = HEAD_AMBIENT + (1 - HEAD_AMBIENT) * (-toward[2]).clamp_min(0)
    return toward.new_tensor(BACK)[:, None] * strength * 2 - 1


def _assemble(covered: Tensor, samples: Tensor, canvas: Tensor, fine: int, supersample: int) -> tuple[Tensor, ...]:
    """Image (3,S,S) and mask (1,S,S) of one view from its samples, and depth (1,S,S) and normals (3,S,S) if they hold
    them.

    ``samples`` (4,P) or (8,P) are colour, opacity, depth and normal, all times the opacity. They lie at the positions
    ``covered`` (P,) of the flattened ``fine`` x ``fine`` view.
    """
    plane = samples.new_zeros(len(samples), fine * fine).index_copy_(1, covered, samples)
    # Means over all samples of a pixel, empty ones counting as zero.
    means = plane.reshape(-1, fine, fine)
    means = means if supersample == 1 else F.avg_pool2d(means, supersample)
    colour, mask, geometry = means.tensor_split((3, 4))
    picture = colour + (1 - mask) * canvas[:, None, None], mask
    if not len(geometry):
        return picture
    return *picture, geometry[:1] / mask.clamp_min(1e-6), _unit(geometry[1:])


def _check(vertices: Tensor, faces: Tensor, uv: Tensor, texture: Tensor, size: int, supersample: int) -> None:
    if vertices.dim() != 2 or vertices.shape[1] != 3:
        raise ValueError(f"vertices has shape {tuple(vertices.shape)}, must be (V, 3).")
    if faces.dim() != 2 or faces.shape[1] != 3:
        raise ValueError(f"faces has shape {tuple(faces.shape)}, must be (F, 3).")
    if tuple(uv.shape) != (len(vertices), 2):
        raise ValueError(f"uv has shape {tuple(uv.shape)}, must be ({len(vertices)}, 2), one for each vertex.")
    if texture.dim() != 3 or texture.shape[0] not in (3, 4):
        raise ValueError(f"texture has shape {tuple(texture.shape)}, must be (3, T, U) or (4, T, U).")
    if size < 2 or supersample < 1:
        raise ValueError(f"size is {size} and supersample {supersample}, must be at least 2 and 1.")
