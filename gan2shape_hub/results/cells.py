"""Boolean grids of mesh cells: which to keep, in pieces that make a clean outline (numpy only)."""

from __future__ import annotations

import numpy as np


def label(cells: np.ndarray, *, diagonal: bool = False) -> np.ndarray:
    """Connected components of a boolean grid.

    Args:
        cells: (H, W) bool.
        diagonal: also connect cells that share only a corner.

    Returns:
        (H, W) int64: -1 outside, elsewhere the smallest flat index of the cell's component.
    """
    height, width = cells.shape
    index = np.arange(height * width).reshape(height, width)
    pairs = [(index[:, :-1], index[:, 1:]), (index[:-1], index[1:])]
    if diagonal:
        pairs += [(index[:-1, :-1], index[1:, 1:]), (index[:-1, 1:], index[1:, :-1])]
    inside = cells.ravel()
    ends = [(a.ravel(), b.ravel()) for a, b in pairs]
    edges = [np.stack((a, b))[:, inside[a] & inside[b]] for a, b in ends]
    first, second = np.concatenate(edges, axis=1)

    parent = components(first, second, height * width)
    return np.where(cells, parent.reshape(height, width), -1)


def components(first: np.ndarray, second: np.ndarray, count: int) -> np.ndarray:
    """(count,) int64: the smallest member of each node's connected component; edges join ``first`` (E,) and ``second``
    (E,)."""
    # Hook every root to the smallest neighbouring root, then halve all paths, until nothing moves.
    parent = np.arange(count)
    while True:
        low = np.minimum(parent[first], parent[second])
        high = np.maximum(parent[first], parent[second])
        if (low == high).all():
            return parent
        np.minimum.at(parent, high, low)
        while (parent[parent] != parent).any():
            parent = parent[parent]


def largest_component(cells: np.ndarray) -> np.ndarray:
    """The heaviest edge-connected component of ``cells`` (H, W) bool.

    Cells weigh more towards the centre, where the object is: a sheet cut along a head's outline must keep the head,
    even where the wall behind it has the larger area.
    """
    labels = label(cells)
    height, width = cells.shape
    y = np.linspace(-1, 1, height)[:, None]
    x = np.linspace(-1, 1, width)[None]
    weight = np.where(cells, np.exp(-4 * (x**2 + y**2)), 0)
    total = np.bincount(labels[cells], weight[cells], minlength=1)
    return labels == total.argmax() if cells.any() else cells


def small_holes(cells: np.ndarray, max_size: int) -> list[np.ndarray]:
    """Enclosed gaps of at most ``max_size`` cells, each as a (H, W) bool grid. A gap at the grid's edge is none."""
    labels = label(~cells, diagonal=True)
    rim = np.concatenate((labels[0], labels[-1], labels[:, 0], labels[:, -1]))
    names, sizes = np.unique(labels[labels >= 0], return_counts=True)
    wanted = names[(sizes <= max_size) & ~np.isin(names, rim)]
    return [labels == name for name in wanted]


def erode_spurs(cells: np.ndarray, iterations: int = 2) -> np.ndarray:
    """Remove teeth and one-cell bridges: a cell stays where most of its 3 x 3 neighbourhood does. Adds no cell."""
    height, width = cells.shape
    for _ in range(iterations):
        # Outside counts as inside, so that the edge of the frame is not eaten away.
        padded = np.pad(cells, 1, mode="edge")
        count = sum(padded[dy : dy + height, dx : dx + width].astype(np.int8) for dy in range(3) for dx in range(3))
        cells = cells & (count >= 5)
    return cells


def separate_corners(cells: np.ndarray) -> np.ndarray:
    """Remove cells until no two touch by a corner alone: such a vertex makes the surface non-manifold."""
    while True:
        a, b, c, d = cells[:-1, :-1], cells[:-1, 1:], cells[1:, :-1], cells[1:, 1:]
        falling, rising = a & d & ~b & ~c, b & c & ~a & ~d
        if not (falling.any() or rising.any()):
            return cells
        cells = cells.copy()
        cells[1:, 1:][falling] = False
        cells[1:, :-1][rising] = False
