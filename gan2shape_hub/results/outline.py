"""A triangle mesh cut along a level of a function on its vertices: a smooth outline without needles (numpy only).

Marching triangles would leave slivers wherever the level passes close to a vertex. Such vertices are moved onto the
level first and triangles are cut afterwards, as Labelle and Shewchuk stuff isosurfaces (2007), in two dimensions.
"""

from __future__ import annotations

import numpy as np

from gan2shape_hub.results.cells import components

SNAP = 0.28
"""A vertex moves onto the level where that is nearer than this part of an edge."""


def cut_at_level(
    place: np.ndarray, value: np.ndarray, faces: np.ndarray, sides: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """The part of a mesh where ``value`` is above 0.

    Args:
        place: (V, 3) float64, whatever is interpolated linearly along edges.
        value: (V,) the function.
        faces: (F, 3) int64.
        sides: (V,) int64, a bit for each side of the frame that a vertex lies on: it never leaves them.

    Returns:
        ``place`` with moved and new vertices, and the faces; vertices that no face has are still there.
    """
    positive = value > 0
    faces = faces[positive[faces].any(1)]
    mixed = faces[~positive[faces].all(1)]
    if not len(mixed):
        return place, faces
    pairs = np.concatenate((mixed[:, :2], mixed[:, 1:], mixed[:, [2, 0]]))
    pairs = pairs[positive[pairs[:, 0]] != positive[pairs[:, 1]]]
    pairs = np.concatenate((pairs, pairs[:, ::-1]))
    at = value[pairs[:, 0]] / (value[pairs[:, 0]] - value[pairs[:, 1]])
    near = (at < SNAP) & (sides[pairs[:, 0]] & ~sides[pairs[:, 1]] == 0)
    order = np.flatnonzero(near)[np.argsort(at[near], kind="stable")]
    moving, best = np.unique(pairs[order, 0], return_index=True)
    to, at = pairs[order[best], 1], at[order[best], None]
    moved = place.copy()
    moved[moving] += at * (place[to] - place[moving])
    sign = np.where(positive, 1, -1)
    sign[moving] = 0

    corner = sign[faces]
    whole = faces[(corner >= 0).all(1)]
    crossed = faces[(corner > 0).any(1) & (corner < 0).any(1)]
    return _cut(moved, value, sign, whole, crossed)


def _cut(
    place: np.ndarray, value: np.ndarray, sign: np.ndarray, whole: np.ndarray, crossed: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """``whole`` faces and the positive parts of ``crossed`` ones, which have a positive and a negative corner."""
    corner = sign[crossed]
    # Turned so that the corner that is alone comes first: the positive one, or the negative one of two positive.
    alone = np.where((corner > 0).sum(1) == 1, (corner > 0).argmax(1), (corner < 0).argmax(1))
    rows = np.arange(len(crossed))[:, None]
    crossed = crossed[rows, (alone[:, None] + np.arange(3)) % 3]
    corner = sign[crossed]
    first, second, third = crossed.T
    crosses_second, crosses_third = corner[:, 0] * corner[:, 1] < 0, corner[:, 0] * corner[:, 2] < 0
    ends = np.concatenate((crossed[crosses_second][:, :2], crossed[crosses_third][:, ::2]))
    keys, number = np.unique(np.sort(ends, 1), axis=0, return_inverse=True)
    number = number.reshape(-1) + len(place)
    a, b = value[keys[:, 0]], value[keys[:, 1]]
    at = (a / (a - b))[:, None]
    place = np.concatenate((place, place[keys[:, 0]] * (1 - at) + place[keys[:, 1]] * at))
    on_second, on_third = second.copy(), third.copy()  # where it is not crossed, the corner lies on the level itself
    on_second[crosses_second] = number[: crosses_second.sum()]
    on_third[crosses_third] = number[crosses_second.sum() :]
    tip = corner[:, 0] > 0
    tips = np.stack((first, on_second, on_third), 1)[tip]
    quad = np.stack((on_second, second, third, on_third), 1)[~tip]
    shorter = _length(place, quad[:, 0], quad[:, 2]) <= _length(place, quad[:, 1], quad[:, 3])
    one = np.where(shorter[:, None], quad[:, [0, 1, 2]], quad[:, [0, 1, 3]])
    other = np.where(shorter[:, None], quad[:, [0, 2, 3]], quad[:, [1, 2, 3]])
    return place, np.concatenate((whole, tips, one, other))


def _length(place: np.ndarray, one: np.ndarray, other: np.ndarray) -> np.ndarray:
    return np.linalg.norm(place[one, :2] - place[other, :2], axis=1)


def one_piece(faces: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """The faces of the connected piece with the largest sum of ``weight`` (V,), one of a face's corners each."""
    if not len(faces):
        return faces
    names = components(faces[:, [0, 1]].ravel(), faces[:, [1, 2]].ravel(), len(weight))[faces[:, 0]]
    return faces[names == np.bincount(names, weight[faces].mean(1)).argmax()]


def split_pinches(place: np.ndarray, faces: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """A copy of a vertex for each fan of faces that meets the others at that vertex alone; unused vertices are gone."""
    corners = np.arange(faces.size).reshape(faces.shape)
    directed = np.stack((faces, np.roll(faces, -1, 1)), -1).reshape(-1, 2)
    start, end = corners.ravel(), np.roll(corners, -1, 1).ravel()
    key = directed.min(1) * len(place) + directed.max(1)
    order = np.argsort(key, kind="stable")
    pair = np.flatnonzero(np.diff(key[order]) == 0)
    one, other = order[pair], order[pair + 1]  # two faces run along an edge in opposite directions
    fans = components(np.concatenate((start[one], end[one])), np.concatenate((end[other], start[other])), faces.size)
    used, number = np.unique(fans, return_inverse=True)
    return place[faces.ravel()[used]], number.reshape(faces.shape)


def border_edges(faces: np.ndarray) -> np.ndarray:
    """(E, 2): the edges of ``faces`` (F, 3) that one face has, as it runs along them."""
    edges = np.stack((faces, np.roll(faces, -1, 1)), -1).reshape(-1, 2)
    key = edges.min(1) * (faces.max() + 1) + edges.max(1)
    _, first, count = np.unique(key, return_index=True, return_counts=True)
    return edges[first[count == 1]]
