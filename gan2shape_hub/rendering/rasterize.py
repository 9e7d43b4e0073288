"""Triangles to pixels: a search for the nearest face of every pixel (search.py), then differentiable interpolation.

Which face a pixel shows is an integer and has no gradient; the depth and the weights within the face have the exact
gradient of the plane through its vertices. The rules of coverage, ties and what is not drawn are in search.py.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from gan2shape_hub.rendering.search import TOLERANCE, Planes, screen_planes, winners_reference, winners_torch

OVERHANG = 2 * TOLERANCE
"""Largest weight below 0 that a vertex may get."""
FAR_INVERSE = 1e-6
"""Least 1/z that is interpolated: only a face that reaches from the camera to infinity could pass it."""
IMPLEMENTATIONS = ("auto", "torch", "reference")


@dataclass(frozen=True)
class Fragments:
    """What a pixel shows: ``face`` (B,H,W) int64, -1 where empty; ``bary`` (B,H,W,3); ``depth`` (B,H,W).

    ``bary`` are perspective-correct weights of the face's vertices (their sum is 1; they lie in 0..1 but for the
    search's tolerance, 0.002): attributes that are linear on the 3D triangle are interpolated exactly. ``depth`` is z
    of the plane through the three vertices. Both are zero where empty, and differentiable with respect to the
    vertices' pixels and depths.
    """

    face: Tensor
    bary: Tensor
    depth: Tensor


@dataclass(frozen=True)
class Samples:
    """The pixels that show a face, P of a batch's B*H*W, in their order, as `Fragments` has them.

    ``pixel`` (P,) counts the batch's pixels row by row. ``face`` (P,); ``corner`` are three (P,) of its vertices, of
    the batch's B*V; ``bary`` three (P,) of weights; ``depth`` (P,).
    """

    pixel: Tensor
    face: Tensor
    corner: list[Tensor]
    bary: list[Tensor]
    depth: Tensor

    def select(self, which: Tensor) -> Samples:
        """Some of them; ``which`` (Q,) are their positions."""

        def chosen(values: Tensor) -> Tensor:
            return values.index_select(0, which)

        corner, bary = (list(map(chosen, values)) for values in (self.corner, self.bary))
        return Samples(chosen(self.pixel), chosen(self.face), corner, bary, chosen(self.depth))


def rasterize(
    vertices_px: Tensor, depth: Tensor, faces: Tensor, size: tuple[int, int], impl: str = "auto"
) -> Fragments:
    """Rasterise triangles with a z-buffer; rules in search.py.

    ``vertices_px`` (B,V,2) pixels, x before y, pixel centres at integers; ``depth`` (B,V) z in scene units; ``faces``
    (F,3) or (B,F,3) integer vertex indices; ``size`` (H,W).
    ``impl``: "torch" (any device), "reference" (slow and plain), "auto" (torch).
    ValueError names the argument, its value and what is allowed.
    """
    found = sample(vertices_px, depth, faces, size, impl)
    shape = (len(depth), *size)
    face = torch.full((depth.new_empty(shape).numel(),), -1, device=depth.device)
    maps = depth.new_zeros(len(face), 4).index_copy(0, found.pixel, torch.stack((*found.bary, found.depth), 1))
    maps = maps.reshape(*shape, 4)
    return Fragments(face.index_copy(0, found.pixel, found.face).reshape(shape), maps[..., :3], maps[..., 3])


def sample(vertices_px: Tensor, depth: Tensor, faces: Tensor, size: tuple[int, int], impl: str = "auto") -> Samples:
    """`rasterize` for the pixels alone that show a face: a head covers a third of its picture."""
    _check(vertices_px, depth, faces, size)
    planes = screen_planes(vertices_px[..., 0], vertices_px[..., 1], depth)
    winner = find_winners(planes, faces, size, impl).reshape(-1)
    pixel = torch.nonzero(winner >= 0)[:, 0]
    face = winner.index_select(0, pixel)
    index = corner_index(faces, face, torch.div(pixel, size[0] * size[1], rounding_mode="floor"), depth.shape[1])
    (ax, bx, cx), (ay, by, cy), q = (_look_up(plane, index) for plane in planes)
    row = torch.div(pixel, size[1], rounding_mode="floor")
    u, v = (pixel - row * size[1]).to(ax), (row % size[0]).to(ax)
    ax, bx, cx, ay, by, cy = ax - u, bx - u, cx - u, ay - v, by - v, cy - v
    edges = (bx * cy - by * cx, cx * ay - cy * ax, ax * by - ay * bx)
    # A pixel of the search's tolerance lies a hair outside and keeps the exact plane; but rounding may put it anywhere
    # on a sliver's plane, so that values are held near the face. The gradient stays that of the plane.
    area2 = (edges[0] + edges[1] + edges[2]).detach()
    sign, least = torch.sign(area2), -OVERHANG * area2.abs()
    edges = [edge - (edge.detach() * sign - least).clamp_max(0) * sign for edge in edges]
    scale = edges[0] + edges[1] + edges[2]
    weights = [edge / scale * inverse for edge, inverse in zip(edges, q, strict=True)]
    total = (weights[0] + weights[1] + weights[2]).clamp_min(FAR_INVERSE)
    return Samples(pixel, face, index, [weight / total for weight in weights], 1 / total)


def find_winners(planes: Planes, faces: Tensor, size: tuple[int, int], impl: str = "auto") -> Tensor:
    """Nearest face (B,H,W) int64 of each pixel, -1 where none; ``planes`` as from `screen_planes`, unchecked faces."""
    if impl not in IMPLEMENTATIONS:
        raise ValueError(f"impl is {impl!r}, must be one of {', '.join(IMPLEMENTATIONS)}.")
    search = winners_reference if impl == "reference" else winners_torch
    with torch.no_grad():
        return search(planes, faces, size)


def corner_index(faces: Tensor, face: Tensor, image: Tensor, count: int) -> list[Tensor]:
    """Indices (...) into flattened (B*V,) vertex planes of the three corners of the faces ``face`` (...) of the images
    ``image``, of a shape that broadcasts to it. ``count`` is V."""
    if faces.dim() == 3:
        face = face + image * faces.shape[1]
    columns = faces.reshape(-1, 3).unbind(1)
    return [c.index_select(0, face.reshape(-1)).reshape(face.shape) + image * count for c in columns]


def _look_up(plane: Tensor, index: list[Tensor]) -> list[Tensor]:
    """Values of ``plane`` (B,V) at each of the flat ``index`` (...)."""
    flat = plane.reshape(-1)  # index_select is several times as fast as indexing
    return [flat.index_select(0, i.reshape(-1)).reshape(i.shape) for i in index]


def _pixel_centres(shape: tuple[int, ...], like: Tensor) -> tuple[Tensor, Tensor]:
    """Columns (W,) and rows (H,1) of a (B,H,W) image as numbers of the dtype of ``like``."""
    u = torch.arange(shape[2], dtype=like.dtype, device=like.device)
    v = torch.arange(shape[1], dtype=like.dtype, device=like.device)
    return u, v[:, None]


def plane_depth(planes: Planes, index: list[Tensor], winner: Tensor, empty: float) -> Tensor:
    """Depth (B,H,W) of the faces ``winner``, ``empty`` where there is none; ``index`` as from `corner_index`.

    The depth of `rasterize` with its backward written out, four times as fast as the recorded operations. No second
    derivatives.
    """
    return _PlaneDepth.apply(*planes, *index, winner, empty)


class _PlaneDepth(torch.autograd.Function):
    """z = sum E_i / sum(E_i q_i): E_i the edge functions at the pixel, q_i = 1/z of the corners.

    From it dz/dE_i = (1 - z q_i) / T and dz/dq_i = -z E_i / T with T = sum(E_i q_i); E_i are products of the corners'
    coordinates relative to the pixel. Everything below is divided by sum E_i once.
    """

    @staticmethod
    def forward(ctx, x, y, q, i0, i1, i2, winner, empty):
        index = (i0, i1, i2)
        (ax, bx, cx), (ay, by, cy), (q0, q1, q2) = (_look_up(plane, index) for plane in (x, y, q))
        u, v = _pixel_centres(winner.shape, x)
        for c in (ax, bx, cx):
            c -= u
        for c in (ay, by, cy):
            c -= v
        edges = [bx * cy - by * cx, cx * ay - cy * ax, ax * by - ay * bx]
        void = winner < 0
        scale = (edges[0] + edges[1] + edges[2]).masked_fill_(void, 1).reciprocal_()
        for e in edges:  # as in rasterize: near the face, whatever the rounding
            e.mul_(scale).clamp_min_(-OVERHANG)
        total = edges[0] + edges[1] + edges[2]
        weighted = (edges[0] * q0).addcmul_(edges[1], q1).addcmul_(edges[2], q2).masked_fill_(void, 1)
        weighted.clamp_min_(FAR_INVERSE)
        z = total / weighted
        ctx.shape, ctx.void = x.shape, void
        ctx.save_for_backward(ax, bx, cx, ay, by, cy, q0, q1, q2, *edges, scale, weighted, z, *index)
        return z.masked_fill(void, empty)

    @staticmethod
    @once_differentiable
    def backward(ctx, grad):
        ax, bx, cx, ay, by, cy, q0, q1, q2, *edges, scale, weighted, z, i0, i1, i2 = ctx.saved_tensors
        grad = (grad / weighted).masked_fill_(ctx.void, 0)
        slope = grad * scale
        zslope = z * slope
        g0, g1, g2 = (slope.addcmul(zslope, q, value=-1) for q in (q0, q1, q2))
        dx = (
            (g2 * by).addcmul_(g1, cy, value=-1),
            (g0 * cy).addcmul_(g2, ay, value=-1),
            (g1 * ay).addcmul_(g0, by, value=-1),
        )
        dy = (
            (g1 * cx).addcmul_(g2, bx, value=-1),
            (g2 * ax).addcmul_(g0, cx, value=-1),
            (g0 * bx).addcmul_(g1, ax, value=-1),
        )
        zgrad = -(z * grad)
        dq = [zgrad * e for e in edges]
        results = []
        for parts in (dx, dy, dq):
            flat = torch.zeros(ctx.shape.numel(), dtype=z.dtype, device=z.device)
            for i, part in zip((i0, i1, i2), parts, strict=True):
                flat.scatter_add_(0, i.reshape(-1), part.reshape(-1))
            results.append(flat.reshape(ctx.shape))
        return (*results, None, None, None, None, None)


def _check(vertices_px: Tensor, depth: Tensor, faces: Tensor, size: tuple[int, int]) -> None:
    if vertices_px.dim() != 3 or vertices_px.shape[2] != 2:
        raise ValueError(f"vertices_px has shape {tuple(vertices_px.shape)}, must be (B, V, 2).")
    batch, count = vertices_px.shape[:2]
    if tuple(depth.shape) != (batch, count):
        raise ValueError(f"depth has shape {tuple(depth.shape)}, must be ({batch}, {count}) like vertices_px.")
    if faces.dim() not in (2, 3) or faces.shape[-1] != 3 or (faces.dim() == 3 and faces.shape[0] != batch):
        raise ValueError(f"faces has shape {tuple(faces.shape)}, must be (F, 3) or ({batch}, F, 3).")
    if faces.is_floating_point():
        raise ValueError(f"faces has dtype {faces.dtype}, must be an integer type.")
    if min(size) < 1:
        raise ValueError(f"size is {tuple(size)}, must be (H, W) of 1 or more pixels.")
    if faces.numel() and (int(faces.min()) < 0 or int(faces.max()) >= count):
        raise ValueError(f"faces holds {int(faces.min())}..{int(faces.max())}, must be within 0..{count - 1}.")
