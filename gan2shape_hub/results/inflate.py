"""A flat region blown up like a balloon: what is behind an outline that nobody has seen (numpy only).

The square root of the solution of Poisson's equation bulges as a sphere over a disc and as an ellipsoid over an ellipse
(Baran and Lehtinen, "Notes on inflating curves", 2009).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

STRENGTH = 0.9
"""Bulge over a disc in parts of its radius: nearly half a sphere."""
TOLERANCE, STEPS = 1e-3, 3000
"""Of the equation's relative error, and how many steps it may take."""


@dataclass(frozen=True)
class Region:
    """A triangulated flat region with V vertices that is held at its ``outline``."""

    outline: np.ndarray
    """(V,) bool."""
    ends: tuple[np.ndarray, np.ndarray]
    """(E,) and (E,): the vertices that edges join."""
    weight: np.ndarray
    """(E,) cotangent weights."""
    area: np.ndarray
    """(V,), in squares of the units of ``place``."""

    @classmethod
    def of(cls, place: np.ndarray, faces: np.ndarray, outline: np.ndarray) -> Region:
        """Of vertices at ``place`` (V, 2) and ``faces`` (F, 3)."""
        corner = place[faces]
        cotangents = []
        for k in range(3):
            one, other = corner[:, (k + 1) % 3] - corner[:, k], corner[:, (k + 2) % 3] - corner[:, k]
            cross = np.abs(one[:, 0] * other[:, 1] - one[:, 1] * other[:, 0])
            cotangents.append((one * other).sum(1) / np.maximum(cross, 1e-12) / 2)
        edges = np.concatenate([faces[:, [(k + 1) % 3, (k + 2) % 3]] for k in range(3)])
        key = edges.min(1) * len(place) + edges.max(1)
        names, number = np.unique(key, return_inverse=True)
        weight = np.bincount(number.reshape(-1), np.concatenate(cotangents), len(names))
        area = np.bincount(faces.ravel(), np.repeat(cross / 6, 3), len(place))
        return cls(outline, (names // len(place), names % len(place)), weight, area)

    def span(self, values: np.ndarray, reach: float | None = None) -> np.ndarray:
        """(V,): ``values`` (V,) on the outline, drawn smoothly inwards; with a ``reach`` they fade out over it."""
        screen = self.area / reach**2 if reach else np.zeros_like(self.area)
        fixed = np.where(self.outline, values, values[self.outline].mean() if reach is None else 0.0)
        return fixed + self._solve(-self._stiffness(fixed) - screen * fixed, screen)

    def bulge(self) -> np.ndarray:
        """(V,): how far the balloon stands off, in units of ``place``; 0 on the outline and above 0 elsewhere."""
        height = self._solve(4 * self.area, np.zeros_like(self.area))
        bulge = STRENGTH * np.sqrt(np.maximum(height, 1e-6 * height.max()))
        # Where the frame cuts broad shoulders nothing would hold the balloon: it stays within the object's own radius.
        limit = 1.1 * np.sqrt(self.area.sum() / np.pi) * STRENGTH
        return np.where(self.outline, 0.0, limit * np.tanh(bulge / limit))

    def smoothed_outline(self, values: np.ndarray, faces_border: np.ndarray, steps: int = 120) -> np.ndarray:
        """``values`` (V,) with those of the outline smoothed along the edges ``faces_border`` (E, 2) of the border."""
        a, b = faces_border[self.outline[faces_border].all(1)].T
        count = np.bincount(a, minlength=len(values)) + np.bincount(b, minlength=len(values))
        for _ in range(steps):
            total = np.bincount(a, values[b], len(values)) + np.bincount(b, values[a], len(values))
            values = np.where(count == 2, (values + total / np.maximum(count, 1)) / 2, values)
        return values

    def _stiffness(self, x: np.ndarray) -> np.ndarray:
        a, b = self.ends
        flow = self.weight * (x[a] - x[b])
        return np.bincount(a, flow, len(x)) - np.bincount(b, flow, len(x))

    def _solve(self, wanted: np.ndarray, screen: np.ndarray) -> np.ndarray:
        """Where inside ``stiffness(x) + screen * x = wanted``, 0 on the outline: conjugate gradients with Jacobi's
        preconditioner."""
        a, b = self.ends
        count, inside = len(wanted), ~self.outline
        diagonal = np.bincount(a, self.weight, count) + np.bincount(b, self.weight, count) + screen
        diagonal = np.maximum(diagonal, 1e-12)
        x, rest = np.zeros(count), np.where(inside, wanted, 0)
        step = rest / diagonal
        energy = rest @ step
        enough = energy * TOLERANCE**2
        for _ in range(STEPS):
            if energy <= enough:
                break
            forth = np.where(inside, self._stiffness(step) + screen * step, 0)
            length = energy / (step @ forth)
            x += length * step
            rest -= length * forth
            smoothed = rest / diagonal
            energy, before = rest @ smoothed, energy
            step = smoothed + energy / before * step
        return x
