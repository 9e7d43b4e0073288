"""Which face does each pixel show? The integer half of `rasterize`: whole-tensor search and its plain twin.

Rules, with the numbers below
- A pixel is tested against the faces whose bounding box (enlarged by `SLACK_PX`) holds its centre. It is inside where
  all three edge functions are at least -`TOLERANCE` x min(twice the area, 4). The tolerance is a thousandth of a pixel
  for faces of a pixel's size and shrinks to nothing for slivers and large faces: enough that a sheet seen from its own
  camera keeps its last row after rounding. Both faces of a shared edge own the pixels on it, and the edge function of
  an edge is exactly antisymmetric in its ends, so that no pixel falls between two faces.
- The largest 1/z wins (the nearest face); at equal 1/z the lowest face index.
- Not drawn: faces with a vertex at z <= `NEAR`, with a vertex that is NaN, infinite or further than `GUARD_PX` off the
  origin, and faces whose doubled area is at most `MIN_AREA2` (seen edge-on). Faces are not culled by orientation.
- Both implementations evaluate the same expressions in the same order, so that they agree exactly.

There is no compiled backend. For eight 128-pixel sheets at a yaw of 0.25 a compiled z-buffer loop took 9 ms of one core
and this search 25, where forward and backward of the depth net take 1000: no reason for a dependency that needs a CPU.
"""

from __future__ import annotations

import torch
from torch import Tensor

NEAR = 1e-4
"""Scene units; a face with a nearer vertex is not drawn (no clipping: the sheets live at about 1)."""
GUARD_PX = 16384.0
"""Beyond it, float32 has too few digits left to place an edge within a pixel."""
SLACK_PX = 2.0**-10
TOLERANCE = 2.0**-10
MAX_TOLERANCE_AREA2 = 4.0
MIN_AREA2 = 2.0**-18
"""Square pixels; the chance that such a face covers a pixel centre is half of it."""
SMALL_PX = 8
"""Faces whose box is at most so wide and high are tested one pixel of all boxes at a time."""
FACES_AT_ONCE = 1 << 16
"""On a CPU; a face takes about 200 bytes while it is tested."""
CHUNK = 1 << 21
"""Candidates (face, pixel) evaluated at once for the larger faces; about 100 bytes each."""

Planes = tuple[Tensor, Tensor, Tensor]


def screen_planes(x: Tensor, y: Tensor, z: Tensor) -> Planes:
    """Pixel x, pixel y and 1/z, each (B,V), of vertices at pixels ``x``, ``y`` and depth ``z``.

    All zero for a vertex that must not be drawn; its gradient is zero, never NaN.
    """
    # NaN compares false everywhere.
    good = (z > NEAR) & (z < torch.finfo(z.dtype).max) & (x.abs() <= GUARD_PX) & (y.abs() <= GUARD_PX)
    if bool(good.all()):
        return x, y, 1 / z
    z = torch.where(good, z, 1)
    return torch.where(good, x, 0), torch.where(good, y, 0), torch.where(good, 1 / z, 0)


def winners_reference(planes: Planes, faces: Tensor, size: tuple[int, int]) -> Tensor:
    """The rules, face by face: (B,H,W) int64, -1 where empty. Cost faces x pixels; for tests."""
    height, width = size
    xs, ys, qs = planes
    u = torch.arange(width, dtype=xs.dtype, device=xs.device)[None, :].expand(height, width)
    v = torch.arange(height, dtype=xs.dtype, device=xs.device)[:, None].expand(height, width)
    winner = torch.full((len(xs), height, width), -1, dtype=torch.int64, device=xs.device)
    for b in range(len(xs)):
        nearest = torch.zeros_like(u)
        for f, face in enumerate((faces if faces.dim() == 2 else faces[b]).tolist()):
            (x0, y0, q0), (x1, y1, q1), (x2, y2, q2) = ((xs[b, i], ys[b, i], qs[b, i]) for i in face)
            area2 = (x1 - x0) * (y2 - y0) - (y1 - y0) * (x2 - x0)
            if min(q0, q1, q2) <= 0 or abs(area2) <= MIN_AREA2:
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


def winners_torch(planes: Planes, faces: Tensor, size: tuple[int, int]) -> Tensor:
    """The rules in whole-tensor operations: (B,H,W) int64, -1 where empty.

    Every (face, pixel of its box) is a candidate; cost is linear in the faces of the batch and in the candidates, which
    for a sheet are about one to four a face.
    """
    height, width = size
    batch, device, number = len(planes[0]), planes[0].device, faces.shape[-2]
    buffer = _Buffer(planes[0].dtype, batch * height * width, number, device)
    # A few images at a time, so that the working set stays in the cache (on an accelerator all at once).
    step = batch if device.type != "cpu" else max(1, FACES_AT_ONCE // max(number, 1))
    for first in range(0, batch, step):
        part = slice(first, first + step)
        _search_images([p[part] for p in planes], faces if faces.dim() == 2 else faces[part], size, first, buffer)
    return buffer.winners().reshape(batch, height, width)


def _search_images(planes: list[Tensor], faces: Tensor, size: tuple[int, int], image: int, buffer: _Buffer) -> None:
    """Put every hit of the images whose vertices are ``planes`` into ``buffer``; ``image`` numbers the first one."""
    height, width = size
    batch, number, device = len(planes[0]), faces.shape[-2], faces.device
    if number == 0:
        return
    corners = _Corners(planes, faces)
    left, columns = _pixel_range(corners.x, width)
    top, rows = _pixel_range(corners.y, height)
    empty = ~corners.drawn | (columns <= 0)
    rows = rows.masked_fill(empty, 0)

    def evaluate(which: Tensor, column: Tensor, row: Tensor) -> None:
        """Keep the candidates (face ``which``, pixel ``column``, ``row``) that are hits; all (N,) int32."""
        hit, inverse_z = corners.select(which).hits(column, row)
        which, column, row = (t.index_select(0, hit).to(torch.int64) for t in (which, column, row))
        own = torch.div(which, number, rounding_mode="floor") if batch > 1 else 0
        buffer.add(((own + image) * height + row) * width + column, inverse_z, which - own * number)

    # Small faces, as nearly all of a sheet: one pixel of all their boxes at a time. (Listing the candidates by
    # repeat_interleave takes longer than testing them.)
    small = (rows <= SMALL_PX) & (columns <= SMALL_PX)
    in_row = _true(small & (rows > 0))
    for down in range(SMALL_PX):
        in_row = in_row.index_select(0, _true(rows.index_select(0, in_row) > down)) if down else in_row
        which = in_row
        for right in range(SMALL_PX):
            which = which.index_select(0, _true(columns.index_select(0, which) > right)) if right else which
            if len(which) == 0:
                break
            evaluate(which, left.index_select(0, which) + right, top.index_select(0, which) + down)
    # Large faces: list their candidates, a bounded number at a time.
    which = _true(~small & (rows > 0))
    boxes = rows.index_select(0, which).to(torch.int64) * columns.index_select(0, which)
    ends = boxes.cumsum(0)
    start = 0
    while start < len(which):
        done = int(ends[start - 1]) if start else 0
        stop = max(int(torch.searchsorted(ends, done + CHUNK, right=True)), start + 1)
        box = boxes[start:stop]
        step = torch.arange(done, int(ends[stop - 1]), device=device)
        step -= torch.repeat_interleave(ends[start:stop] - box, box)
        part = torch.repeat_interleave(which[start:stop], box)
        row = torch.div(step, columns.index_select(0, part), rounding_mode="floor")
        column = step - row * columns.index_select(0, part)
        evaluate(part, left.index_select(0, part) + column, top.index_select(0, part) + row)
        buffer.merge()
        start = stop


def _true(mask: Tensor) -> Tensor:
    """Positions (N,) int32 where ``mask`` holds."""
    return torch.nonzero(mask)[:, 0].to(torch.int32)


def _pixel_range(corners: list[Tensor], size: int) -> tuple[Tensor, Tensor]:
    """First pixel and number of pixels (0 or less where none) of each face along an axis of ``size``; int32 (N,)."""
    low = torch.minimum(torch.minimum(corners[0], corners[1]), corners[2]) - SLACK_PX
    high = torch.maximum(torch.maximum(corners[0], corners[1]), corners[2]) + SLACK_PX
    first = low.ceil_().clamp_(0, size).to(torch.int32)
    last = high.floor_().clamp_(-1, size - 1).to(torch.int32)
    return first, last - first + 1


class _Corners:
    """Coordinates of the corners of N faces: ``x``, ``y``, ``q`` (1/z) are lists of three (N,)."""

    def __init__(self, planes: list[Tensor], faces: Tensor) -> None:
        batch, count = planes[0].shape
        index = faces + torch.arange(batch, device=faces.device)[:, None, None] * count
        index = [index[..., k].reshape(-1) for k in range(3)]
        self.x, self.y, self.q = ([p.reshape(-1).index_select(0, i) for i in index] for p in planes)
        (x0, x1, x2), (y0, y1, y2) = self.x, self.y
        self.area2 = (x1 - x0) * (y2 - y0) - (y1 - y0) * (x2 - x0)

    @property
    def drawn(self) -> Tensor:
        nearest = torch.minimum(torch.minimum(self.q[0], self.q[1]), self.q[2])
        return (nearest > 0) & (self.area2.abs() > MIN_AREA2)

    def select(self, which: Tensor) -> _Corners:
        chosen = object.__new__(_Corners)
        chosen.x, chosen.y, chosen.q = ([c.index_select(0, which) for c in p] for p in (self.x, self.y, self.q))
        chosen.area2 = self.area2.index_select(0, which)
        return chosen

    def hits(self, column: Tensor, row: Tensor) -> tuple[Tensor, Tensor]:
        """Which faces hold their pixel ``column``, ``row`` (N,), as indices (M,), and 1/z there (M,)."""
        u, v = column.to(self.area2.dtype), row.to(self.area2.dtype)
        (ax, bx, cx), (ay, by, cy) = ([c - u for c in self.x], [c - v for c in self.y])
        area2 = self.area2.abs()
        sign = torch.sign(self.area2)
        # Multiplying by the sign is exact; swapping corners instead would change the order of the sum below.
        e0 = (bx * cy - by * cx).mul_(sign)
        e1 = (cx * ay - cy * ax).mul_(sign)
        e2 = (ax * by - ay * bx).mul_(sign)
        least = area2.clamp_max(MAX_TOLERANCE_AREA2).mul_(-TOLERANCE)
        hit = _true(torch.minimum(torch.minimum(e0, e1), e2) >= least)
        e0, e1, e2, q0, q1, q2, area2 = (t.index_select(0, hit) for t in (e0, e1, e2, *self.q, area2))
        return hit, (e0 * q0 + e1 * q1 + e2 * q2) / area2


class _Buffer:
    """z-buffer of P pixels that keeps, per pixel, the largest 1/z and the lowest face that has it."""

    def __init__(self, dtype: torch.dtype, pixels: int, faces: int, device: torch.device) -> None:
        self.inverse_z = torch.zeros(pixels, dtype=dtype, device=device)
        self.face = torch.full((pixels,), faces, dtype=torch.int64, device=device)
        self.none = faces
        self.waiting: list[tuple[Tensor, Tensor, Tensor]] = []

    def add(self, pixel: Tensor, inverse_z: Tensor, face: Tensor) -> None:
        self.waiting.append((pixel, inverse_z, face))

    def merge(self) -> None:
        """Two passes, the depth and then the face, because no integer holds both for float64."""
        if not self.waiting:
            return
        pixel, inverse_z, face = (torch.cat(parts) for parts in zip(*self.waiting, strict=True))
        self.waiting = []
        before = self.inverse_z
        self.inverse_z = before.scatter_reduce(0, pixel, inverse_z, "amax")
        self.face.masked_fill_(self.inverse_z > before, self.none)
        # Candidates that lost leave no trace: they ask for a face that cannot win.
        lost = inverse_z != self.inverse_z.index_select(0, pixel)
        self.face.scatter_reduce_(0, pixel, face.masked_fill_(lost, self.none), "amin")

    def winners(self) -> Tensor:
        self.merge()
        return self.face.masked_fill(self.face == self.none, -1)
