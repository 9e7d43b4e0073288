"""The winner search of `rasterize` as compiled CPU loops; imported only where numba is installed.

The rounding of every expression is that of the torch twin (same order, same dtype, no fused multiply-add), so that
both choose the same face in every pixel, ties included.
"""

from __future__ import annotations

import math

import numba
import numpy as np


def _winners(vertices, faces, zbuffer, winner, ticks, slack, min_area2, max_tolerance_area, tolerance):
    """Fill ``zbuffer`` (B,H,W; zero on entry) with the largest 1/z and ``winner`` (B,H,W; -1) with its face.

    ``vertices`` (B,V,3): pixel x, pixel y, 1/z (0: not to be drawn); ``faces`` (B or 1,F,3); ``ticks`` = 0, 1, 2, ... in
    the dtype of the vertices, because mixing a float32 with an integer would compute in float64.
    """
    batch, height, width = winner.shape
    for b in range(batch):
        shared = b if faces.shape[0] > 1 else 0
        for f in range(faces.shape[1]):
            i0, i1, i2 = faces[shared, f, 0], faces[shared, f, 1], faces[shared, f, 2]
            q0, q1, q2 = vertices[b, i0, 2], vertices[b, i1, 2], vertices[b, i2, 2]
            if not (q0 > 0 and q1 > 0 and q2 > 0):
                continue
            x0, x1, x2 = vertices[b, i0, 0], vertices[b, i1, 0], vertices[b, i2, 0]
            y0, y1, y2 = vertices[b, i0, 1], vertices[b, i1, 1], vertices[b, i2, 1]
            left = max(math.ceil(min(x0, x1, x2) - slack), 0)
            right = min(math.floor(max(x0, x1, x2) + slack), width - 1)
            if left > right:
                continue
            top = max(math.ceil(min(y0, y1, y2) - slack), 0)
            bottom = min(math.floor(max(y0, y1, y2) + slack), height - 1)
            if top > bottom:
                continue
            area2 = (x1 - x0) * (y2 - y0) - (y1 - y0) * (x2 - x0)
            flip = area2 < 0
            if flip:
                area2 = -area2
            if not area2 > min_area2:
                continue
            least = -min(area2, max_tolerance_area) * tolerance
            for row in range(top, bottom + 1):
                ay, by, cy = y0 - ticks[row], y1 - ticks[row], y2 - ticks[row]
                for column in range(left, right + 1):
                    ax, bx, cx = x0 - ticks[column], x1 - ticks[column], x2 - ticks[column]
                    e0 = bx * cy - by * cx
                    e1 = cx * ay - cy * ax
                    e2 = ax * by - ay * bx
                    if flip:
                        e0, e1, e2 = -e0, -e1, -e2
                    if e0 < least or e1 < least or e2 < least:
                        continue
                    inverse_z = (e0 * q0 + e1 * q1 + e2 * q2) / area2
                    # Faces come in ascending order: a later one with the same depth does not win.
                    if inverse_z > zbuffer[b, row, column]:
                        zbuffer[b, row, column] = inverse_z
                        winner[b, row, column] = f


try:
    winners = numba.njit(cache=True, nogil=True, error_model="numpy")(_winners)
except RuntimeError:  # no folder to cache in (read-only installation without a home): compile in every process
    winners = numba.njit(nogil=True, error_model="numpy")(_winners)


def winners_numba(vertices: np.ndarray, faces: np.ndarray, size: tuple[int, int], limits) -> np.ndarray:
    """Winning face (B,H,W) int64, -1 where none; ``limits`` are rasterize's constants, see there."""
    height, width = size
    dtype = vertices.dtype.type
    zbuffer = np.zeros((vertices.shape[0], height, width), vertices.dtype)
    winner = np.full(zbuffer.shape, -1, np.int64)
    ticks = np.arange(max(height, width), dtype=vertices.dtype)
    winners(vertices, faces, zbuffer, winner, ticks, *(dtype(limit) for limit in limits))
    return winner
