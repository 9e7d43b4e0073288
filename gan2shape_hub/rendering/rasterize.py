"""Triangles to pixels: an integer search for the nearest face of every pixel, then differentiable interpolation.

Contract
- A pixel is tested against the faces whose bounding box (enlarged by `SLACK_PX`) holds its centre. It is inside where
  all three edge functions are at least -`TOLERANCE` x min(twice the area, 4). The tolerance is a thousandth of a pixel
  for faces of a pixel's size and shrinks to nothing for slivers and large faces: enough that a sheet seen from its own
  camera keeps its last row after rounding. Both faces of a shared edge own the pixels on it, and the edge function of
  an edge is exactly antisymmetric in its ends, so that no pixel falls between two faces.
- The largest 1/z wins (the nearest face); at equal 1/z the lowest face index.
- Not drawn: faces with a vertex at z <= `NEAR`, with a vertex that is NaN, infinite or further than `GUARD_PX` off the
  origin, and faces whose doubled area is at most `MIN_AREA2` (seen edge-on). Faces are not culled by orientation.
- The three implementations of the search evaluate the same expressions in the same order and agree exactly.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

NEAR = 1e-4
"""Scene units; a face with a nearer vertex is not drawn (no clipping: the sheets live at about 1)."""
GUARD_PX = 16384.0
"""Beyond it, float32 has too few digits left to place an edge within a pixel."""
SLACK_PX = 2.0**-10
MIN_AREA2 = 2.0**-18
"""Square pixels; the chance that such a face covers a pixel centre is its area."""
MAX_TOLERANCE_AREA2 = 4.0
TOLERANCE = 2.0**-10
_LIMITS = (SLACK_PX, MIN_AREA2, MAX_TOLERANCE_AREA2, TOLERANCE)
_CANDIDATES_PER_CHUNK = 1 << 22
"""Bounds the memory of the torch search (about 100 bytes a candidate)."""
IMPLEMENTATIONS = ("auto", "torch", "numba", "reference")


@dataclass(frozen=True)
class Fragments:
    """What a pixel shows: ``face`` (B,H,W) int64, -1 where empty; ``bary`` (B,H,W,3); ``depth`` (B,H,W).

    ``bary`` are perspective-correct weights of the face's vertices (in 0..1, sum 1): attributes that are linear on the
    3D triangle are interpolated exactly. ``depth`` is z of the plane through the three vertices. Both are zero where
    empty, and differentiable with respect to the vertices' pixels and depths.
    """

    face: Tensor
    bary: Tensor
    depth: Tensor


def rasterize(
    vertices_px: Tensor, depth: Tensor, faces: Tensor, size: tuple[int, int], impl: str = "auto"
) -> Fragments:
    """Rasterise triangles with a z-buffer; rules in the module's docstring.

    ``vertices_px`` (B,V,2) pixels, x before y, pixel centres at integers; ``depth`` (B,V) z in scene units; ``faces``
    (F,3) or (B,F,3) integer vertex indices; ``size`` (H,W).
    ``impl``: "torch" (any device), "numba" (CPU; the search only), "reference" (slow and plain), "auto" (numba where it
    is installed and the tensors are on the CPU, else torch).
    ValueError names the argument and what is allowed; RuntimeError for an ``impl`` that cannot run here.
    """
    _check(vertices_px, depth, faces, size)
    vertices = pack_vertices(vertices_px, depth)
    winner = find_winners(vertices.detach(), faces, size, impl)
    corners = _corners(vertices, faces, winner.flatten(1)).reshape(*winner.shape, 3, 3)
    edges, total, weighted = _edge_functions(corners, winner)
    hit = winner >= 0
    bary = torch.where(hit[..., None], edges * corners[..., 2] / weighted[..., None], 0)
    return Fragments(winner, bary, torch.where(hit, total / weighted, 0))


def pack_vertices(vertices_px: Tensor, depth: Tensor) -> Tensor:
    """(B,V,3): pixel x, pixel y, 1/z; all zero for a vertex that must not be drawn (its gradient is zero, never NaN)."""
    good = (depth > NEAR) & depth.isfinite() & (vertices_px.abs() <= GUARD_PX).all(-1)  # NaN compares false
    inverse = torch.where(good, 1 / torch.where(good, depth, 1), 0)
    pixels = torch.where(good[..., None], vertices_px, 0)
    return torch.cat((pixels, inverse[..., None]), -1)


def find_winners(vertices: Tensor, faces: Tensor, size: tuple[int, int], impl: str = "auto") -> Tensor:
    """Nearest face (B,H,W) int64 of each pixel, -1 where none; ``vertices`` (B,V,3) as from `pack_vertices`."""
    if impl not in IMPLEMENTATIONS:
        raise ValueError(f"impl is {impl!r}, must be one of {', '.join(IMPLEMENTATIONS)}.")
    if vertices.dtype in (torch.float16, torch.bfloat16):
        vertices = vertices.float()
    if faces.dim() == 2:
        faces = faces[None]
    if impl == "reference":
        return _winners_reference(vertices, faces, size)
    if impl == "torch" or (impl == "auto" and (vertices.device.type != "cpu" or not _has_numba())):
        return _winners_torch(vertices, faces, size)
    if vertices.device.type != "cpu":
        raise RuntimeError(f"impl 'numba' runs on the CPU, the vertices are on {vertices.device}: use impl='torch'.")
    if not _has_numba():
        raise RuntimeError("impl 'numba' needs numba: install it with `pip install numba`, or use impl='torch'.")
    from gan2shape_hub.rendering._raster_numba import winners_numba

    packed = vertices.detach().contiguous().numpy()
    return torch.from_numpy(winners_numba(packed, faces.contiguous().numpy(), size, _LIMITS))


def _has_numba() -> bool:
    try:
        import numba  # noqa: F401
    except ImportError:
        return False
    return True


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
    # The compiled search does not check indices: a wrong one would read foreign memory.
    if faces.numel() and (int(faces.min()) < 0 or int(faces.max()) >= count):
        raise ValueError(f"faces holds {int(faces.min())}..{int(faces.max())}, must be within 0..{count - 1}.")


def _corners(vertices: Tensor, faces: Tensor, winner: Tensor) -> Tensor:
    """Vertices (B,P,3,3) of the faces ``winner`` (B,P); face 0 (whatever it is) where there is none."""
    batch, count = vertices.shape[:2]
    if faces.numel() == 0:
        return vertices.new_zeros(batch, winner.shape[1], 3, 3)
    index = winner.clamp_min(0)
    if faces.dim() == 2:
        index = faces[index]
    else:
        index = faces.gather(1, index[..., None].expand(-1, -1, 3))
    index = index + torch.arange(batch, device=index.device)[:, None, None] * count
    return vertices.reshape(-1, 3)[index]


def _edge_functions(corners: Tensor, winner: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Edge functions (B,H,W,3) at each pixel, their sum and their sum weighted by 1/z (both (B,H,W)).

    Coordinates are relative to the pixel: small numbers, and exactly antisymmetric in the ends of an edge.
    """
    height, width = winner.shape[1:]
    u = torch.arange(width, dtype=corners.dtype, device=corners.device)
    v = torch.arange(height, dtype=corners.dtype, device=corners.device)
    ax, bx, cx = (corners[..., 0] - u[:, None]).unbind(-1)
    ay, by, cy = (corners[..., 1] - v[:, None, None]).unbind(-1)
    edges = torch.stack((bx * cy - by * cx, cx * ay - cy * ax, ax * by - ay * bx), -1)
    # The tolerance admits pixels a hair outside, where a sliver's plane may be anywhere: keep the value within the
    # face (bary in 0..1). The gradient stays that of the plane.
    sign = torch.sign(edges.detach().sum(-1, keepdim=True))
    edges = edges - (edges.detach() * sign).clamp_max(0) * sign
    total = edges.sum(-1)
    weighted = (edges * corners[..., 2]).sum(-1)
    return edges, total, torch.where(winner >= 0, weighted, 1)


def _winners_reference(vertices: Tensor, faces: Tensor, size: tuple[int, int]) -> Tensor:
    """The contract, face by face; quadratic, for tests."""
    height, width = size
    u = torch.arange(width, dtype=vertices.dtype, device=vertices.device)[None, :].expand(height, width)
    v = torch.arange(height, dtype=vertices.dtype, device=vertices.device)[:, None].expand(height, width)
    winner = torch.full((vertices.shape[0], height, width), -1, dtype=torch.int64, device=vertices.device)
    for b in range(vertices.shape[0]):
        nearest = torch.zeros_like(u)
        for f, face in enumerate(faces[b % faces.shape[0]].tolist()):
            (x0, y0, q0), (x1, y1, q1), (x2, y2, q2) = (vertices[b, i] for i in face)
            area2 = (x1 - x0) * (y2 - y0) - (y1 - y0) * (x2 - x0)
            if min(q0, q1, q2) <= 0 or not abs(area2) > MIN_AREA2:
                continue
            sign = torch.sign(area2)
            e0 = sign * ((x1 - u) * (y2 - v) - (y1 - v) * (x2 - u))
            e1 = sign * ((x2 - u) * (y0 - v) - (y2 - v) * (x0 - u))
            e2 = sign * ((x0 - u) * (y1 - v) - (y0 - v) * (x1 - u))
            least = -min(abs(area2), MAX_TOLERANCE_AREA2) * TOLERANCE
            inside = (e0 >= least) & (e1 >= least) & (e2 >= least)
            inside &= (u >= min(x0, x1, x2) - SLACK_PX) & (u <= max(x0, x1, x2) + SLACK_PX)
            inside &= (v >= min(y0, y1, y2) - SLACK_PX) & (v <= max(y0, y1, y2) + SLACK_PX)
            inverse_z = (e0 * q0 + e1 * q1 + e2 * q2) / abs(area2)
            wins = inside & (inverse_z > nearest)
            nearest = torch.where(wins, inverse_z, nearest)
            winner[b] = torch.where(wins, f, winner[b])
    return winner


def _winners_torch(vertices: Tensor, faces: Tensor, size: tuple[int, int]) -> Tensor:
    """The search in whole-tensor operations: list every (face, pixel of its bounding box), then two scatters.

    Cost: faces of the batch plus the sum of their bounding boxes, which for a sheet is about its pixels.
    """
    height, width = size
    batch, count = vertices.shape[:2]
    device, number = vertices.device, faces.shape[1]
    zbuffer = vertices.new_zeros(batch * height * width)
    winner = torch.full((batch * height * width,), number, dtype=torch.int64, device=device)
    if number == 0:
        return winner.fill_(-1).reshape(batch, height, width)
    planes = [vertices[..., k].reshape(-1) for k in range(3)]
    index = faces + torch.arange(batch, device=device)[:, None, None] * count
    index = [index[..., k].reshape(-1) for k in range(3)]  # corner k of every face of the batch, (B*F,)
    x, y, q = ([plane[corner] for corner in index] for plane in planes)

    area2 = (x[1] - x[0]) * (y[2] - y[0]) - (y[1] - y[0]) * (x[2] - x[0])
    drawn = (torch.minimum(torch.minimum(q[0], q[1]), q[2]) > 0) & (area2.abs() > MIN_AREA2)
    left, columns = _pixel_range(x, width)
    top, rows = _pixel_range(y, height)
    boxes = torch.where(drawn, columns * rows, 0)
    kept = boxes.nonzero()[:, 0]
    boxes, left, top, columns = boxes[kept], left[kept], top[kept], columns[kept]
    ends = boxes.cumsum(0)
    total = int(ends[-1]) if len(kept) else 0
    start = 0
    while start < len(kept):
        done = int(ends[start - 1]) if start else 0
        stop = len(kept)
        if total - done > _CANDIDATES_PER_CHUNK:
            stop = max(int(torch.searchsorted(ends, done + _CANDIDATES_PER_CHUNK, right=True)), start + 1)
        part = slice(start, stop)
        local = torch.repeat_interleave(torch.arange(start, stop, device=device), boxes[part])
        step = torch.arange(len(local), device=device) - (ends - boxes)[local] + done
        row = torch.div(step, columns[local], rounding_mode="floor")
        column = step - row * columns[local] + left[local]
        row += top[local]
        face = kept[local]
        u, v = column.to(vertices.dtype), row.to(vertices.dtype)
        ax, bx, cx = (c[face] - u for c in x)
        ay, by, cy = (c[face] - v for c in y)
        area = area2[face]
        sign = torch.sign(area)
        area = area.abs()
        e0, e1, e2 = sign * (bx * cy - by * cx), sign * (cx * ay - cy * ax), sign * (ax * by - ay * bx)
        least = -area.clamp_max(MAX_TOLERANCE_AREA2) * TOLERANCE
        inverse_z = (e0 * q[0][face] + e1 * q[1][face] + e2 * q[2][face]) / area
        image, face = face // number, face % number
        pixel = (image * height + row) * width + column
        inside = (e0 >= least) & (e1 >= least) & (e2 >= least)
        pixel, face, inverse_z = pixel[inside], face[inside], inverse_z[inside]
        before = zbuffer.clone() if start else zbuffer
        zbuffer = zbuffer.scatter_reduce(0, pixel, inverse_z, "amax")
        winner = torch.where(zbuffer > before, number, winner) if start else winner
        first = inverse_z == zbuffer[pixel]
        winner = winner.scatter_reduce(0, pixel[first], face[first], "amin")
        start = stop
    return torch.where(winner == number, -1, winner).reshape(batch, height, width)


def _pixel_range(corners: list[Tensor], size: int) -> tuple[Tensor, Tensor]:
    """First pixel and number of pixels (0 where none) of each face along one axis of ``size`` pixels; int64."""
    low = torch.minimum(torch.minimum(corners[0], corners[1]), corners[2]) - SLACK_PX
    high = torch.maximum(torch.maximum(corners[0], corners[1]), corners[2]) + SLACK_PX
    first = low.ceil().clamp_(0, size).to(torch.int64)
    last = high.floor().clamp_(-1, size - 1).to(torch.int64)
    return first, (last - first + 1).clamp_min_(0)
