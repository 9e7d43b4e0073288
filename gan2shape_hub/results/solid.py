"""A sheet closed to a solid body: a plaque with a flat back, or a head whose back is invented.

The front stays as it is. The back lies behind it on the same lines of sight, so that the two cannot cut through each
other, and walls join them where the frame of the picture cuts the object.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from gan2shape_hub.results.inflate import Region
from gan2shape_hub.results.mesh import SheetMesh
from gan2shape_hub.results.outline import border_edges

MARGIN = 0.08
"""Thickness of a plaque where it is thinnest, in parts of the front's width."""
SEAM = 0.05
"""Over this part of the front's width it follows the seam's smoothing."""
NAPE = 0.6
"""A neck and shoulders that the frame cuts bulge by this part of what a head does."""
THINNEST = 0.25
"""A head's back stays behind its front by this part of its bulge at least."""


LEAST = 1e-6
"""Scene units; what is thinner is glued."""


@dataclass(frozen=True)
class Solid:
    """A closed surface of ``mesh``, whose first ``front`` vertices are the sheet's; the others' texture coordinates are
    those of the sheet in front of them. Vertices at equal places are one."""

    mesh: SheetMesh
    front: int


def plaque(sheet: SheetMesh) -> Solid:
    """The sheet in front of a flat back."""
    width = sheet.vertices[:, 0].amax() - sheet.vertices[:, 0].amin()
    return _closed(sheet, torch.full_like(sheet.vertices[:, 2], sheet.vertices[:, 2].amax() + MARGIN * width))


def evened(sheet: SheetMesh) -> SheetMesh:
    """The sheet with its outline smoothed in depth, and what is beside it along: it drops steeply there, so that every
    step of the outline would be a tooth from the side."""
    region, _, z = _flattened(sheet)
    width = float(sheet.vertices[:, 0].amax() - sheet.vertices[:, 0].amin())
    even = region.smoothed_outline(z, border_edges(sheet.faces.numpy()))
    return _moved(sheet, z + region.span(even - z, SEAM * width))


def head(sheet: SheetMesh) -> Solid:
    """The sheet with a smooth back that bulges as a head does, cut off flat by the frame of the picture (not at its
    upper edge, where it closes)."""
    sheet = _without_chords(sheet)
    region, outline, z = _flattened(sheet)
    v = sheet.uv[:, 1].double().numpy()
    low = np.clip(((v - v.min()) / np.ptp(v) - 0.45) / 0.5, 0, 1) * (v[~outline].max() == v.max())
    bulge = region.bulge() * (1 - (1 - NAPE) * low**2 * (3 - 2 * low))
    back = np.where(outline, z, np.maximum(region.span(z) + bulge, z + THINNEST * bulge))
    return _closed(sheet, torch.from_numpy(back))


def _flattened(sheet: SheetMesh) -> tuple[Region, np.ndarray, np.ndarray]:
    """The sheet as a flat region in scene units, (V,) bool its vertices on the object's own outline, (V,) depths."""
    place, outline = sheet.uv.double().numpy(), _outline(sheet)
    width = float(sheet.vertices[:, 0].amax() - sheet.vertices[:, 0].amin())
    region = Region.of(place * width / np.ptp(place[:, 0]), sheet.faces.numpy(), outline)
    return region, outline, sheet.vertices[:, 2].double().numpy()


def _moved(sheet: SheetMesh, z: np.ndarray) -> SheetMesh:
    """The sheet at the depths ``z`` (V,), each vertex on its line of sight."""
    vertices = sheet.vertices * torch.from_numpy(z / sheet.vertices[:, 2].double().numpy())[:, None]
    return replace(sheet, vertices=vertices.float())


def weld(vertices: Tensor) -> Tensor:
    """(V,) int64: which vertices (V, 3) are one, numbered without gaps."""
    _, number = np.unique(vertices.numpy(), axis=0, return_inverse=True)
    return torch.from_numpy(number.reshape(-1))


def _closed(sheet: SheetMesh, back: Tensor) -> Solid:
    """``sheet`` and the same at the depths ``back`` (V,), joined along their border where they are not one."""
    front, count = sheet.vertices, len(sheet.vertices)
    open_ = back > front[:, 2] + LEAST
    behind = torch.where(open_[:, None], front * (back / front[:, 2])[:, None].to(front), front)
    i, j = torch.from_numpy(border_edges(sheet.faces.numpy())).unbind(1)
    rim, number = torch.cat((i, j)).unique(return_inverse=True)
    fi, fj = (number + 2 * count).chunk(2)  # the rim once more, with the wall's colours
    wall = torch.cat((torch.stack((fj, fi, i + count), 1), torch.stack((fj, i + count, j + count), 1)))
    wall = wall[torch.cat((open_[i], open_[j]))]
    vertices = torch.cat((front, behind, front[rim]))
    faces = torch.cat((sheet.faces, sheet.faces.flip(1) + count, wall))
    used, faces = faces.unique(return_inverse=True)
    return Solid(SheetMesh(vertices[used], faces, torch.cat((sheet.uv, sheet.uv, sheet.uv[rim]))[used]), count)


def _outline(sheet: SheetMesh) -> np.ndarray:
    """(V,) bool: the vertices on the object's own outline; those where the frame cuts it are not."""
    uv, edges = sheet.uv.numpy(), border_edges(sheet.faces.numpy())
    left, right, bottom = uv[:, 0] == uv[:, 0].min(), uv[:, 0] == uv[:, 0].max(), uv[:, 1] == uv[:, 1].max()
    along = np.logical_or.reduce([side[edges].all(1) for side in (left, right, bottom)])
    outline = np.zeros(len(uv), bool)
    outline[edges[~along]] = True
    return outline


def _without_chords(sheet: SheetMesh) -> SheetMesh:
    """The same with a vertex in the middle of inner edges that join two vertices of the border: front and back would
    share such an edge."""
    vertices, uv, faces = sheet.vertices, sheet.uv, sheet.faces.numpy()
    while True:
        rim = border_edges(faces)
        count = len(vertices)
        on_rim = np.zeros(count, bool)
        on_rim[rim] = True
        edges = np.sort(np.stack((faces, np.roll(faces, -1, 1)), -1), -1)
        key = edges[..., 0] * count + edges[..., 1]
        border = np.sort(rim, 1)
        chord = on_rim[edges].all(-1) & ~np.isin(key, border[:, 0] * count + border[:, 1])
        # One of a face at a time, and the same one in both faces that have it: the one of the largest number.
        name = np.where(chord, key, -1)
        best = name.max(1)
        names, shares = np.unique(best[best >= 0], return_counts=True)
        names = names[shares == 2]
        if not len(names):
            return SheetMesh(vertices, torch.from_numpy(faces), uv)
        a, b = (torch.from_numpy(n) for n in (names // count, names % count))
        vertices = torch.cat((vertices, (vertices[a] + vertices[b]) / 2))
        uv = torch.cat((uv, (uv[a] + uv[b]) / 2))
        cut = np.isin(best, names)
        at = name.argmax(1)
        p, q, r = (faces[cut, (at[cut] + k) % 3] for k in range(3))
        middle = count + np.searchsorted(names, best[cut])
        halves = np.concatenate((np.stack((p, middle, r), 1), np.stack((middle, q, r), 1)))
        faces = np.concatenate((faces[~cut], halves))
