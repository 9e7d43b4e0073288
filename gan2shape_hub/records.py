"""What the stages hand each other. Shapes, ranges and units are written once, here.

K is the number of images of a joint run (1 for a single image), M the pseudo views of each, S ``config.image_size``.
Images are in -1..1, depths in scene units, views and lights in network-output units (``Pose.from_view``,
``Light.from_output``).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, fields
from functools import cached_property
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

SHAPE_COMPONENTS = {
    "depth": "depth_net",
    "albedo": "albedo_net",
    "view": "view_net",
    "light": "light_net",
    "encoder": "latent_encoder",
}
"""Field of ``ShapeNets`` -> component of a checkpoint."""


@dataclass(frozen=True)
class Sample:
    """A generated image: image at full size, latent (1, D). Unpacks as ``image, latent = pipeline.sample()``."""

    image: Image.Image
    latent: Tensor
    seed: int | None
    truncation: float

    def __iter__(self) -> Iterator[Any]:
        return iter((self.image, self.latent))


@dataclass(frozen=True, eq=False)
class Alignment:
    """Where in a photograph the square lies that is reconstructed, and the square itself.

    Points of the photograph are in continuous pixels: its first pixel covers 0..1.
    """

    photograph: Image.Image
    """``RGB`` or ``RGBA``, upright, as ``load_image`` returns it."""
    square: Image.Image
    """The same mode, (T, T): the photograph resampled through ``matrix``, mirrored beyond its borders."""
    matrix: np.ndarray
    """(2, 3) float64: point of the photograph = matrix @ (u, v, 1), with u, v in 0..1 over the square, right and
    down."""
    box: tuple[float, float, float, float] | None = None
    """(left, top, right, bottom) of the face in the photograph; None where the square was not found by a face."""
    score: float | None = None
    """The face detector's confidence, 0..1."""
    faces: int = 0
    """How many faces the photograph shows."""

    @cached_property
    def inverse(self) -> np.ndarray:
        """(2, 3): (u, v) in 0..1 over the square = inverse @ (x, y, 1) of a point of the photograph."""
        return np.linalg.inv(np.vstack((self.matrix, (0.0, 0.0, 1.0))))[:2]

    @property
    def side(self) -> float:
        """Side of the square in pixels of the photograph."""
        return float(np.hypot(self.matrix[0, 0], self.matrix[1, 0]))

    @property
    def angle_deg(self) -> float:
        """How far the square is turned in the photograph, clockwise."""
        return float(np.degrees(np.arctan2(self.matrix[1, 0], self.matrix[0, 0])))


@dataclass(frozen=True, eq=False)
class PreparedPhotograph:
    """A photograph that was read, searched for faces and cut: what ``GAN2ShapePipeline.prepare`` returns, and what the
    pipeline takes in the place of the photograph itself."""

    alignment: Alignment
    """The square, and where it lies in the photograph."""
    name: str | None = None
    """The file's path; None for what was no file."""

    @property
    def square(self) -> Image.Image:
        """What will be reconstructed, ``RGB`` or ``RGBA``."""
        return self.alignment.square

    @property
    def mask(self) -> Image.Image | None:
        """The square's alpha channel, ``L``; None where it is opaque."""
        return self.square.getchannel("A") if self.square.mode == "RGBA" else None

    @property
    def faces(self) -> int:
        """How many faces the photograph shows; 0 where none was looked for."""
        return self.alignment.faces


@dataclass(frozen=True)
class Targets:
    """The images to explain: images (K, 3, S, S); latents (K, D) or (K, L, D); originals (K, 3, S, S), the generator's
    own images of the latents; masks (K, 1, S, S) in 0..1 or None."""

    images: Tensor
    latents: Tensor
    originals: Tensor
    masks: Tensor | None = None

    def select(self, index: Tensor) -> Targets:
        return Targets(
            self.images[index],
            self.latents[index],
            self.originals[index],
            None if self.masks is None else self.masks[index],
        )

    def __len__(self) -> int:
        return len(self.images)


@dataclass(frozen=True)
class Scene:
    """A canonical scene: depth (K, S, S), albedo (K, 3, S, S), view (K, 6), light (K, 4)."""

    depth: Tensor
    albedo: Tensor
    view: Tensor
    light: Tensor

    def select(self, index: Tensor | slice) -> Scene:
        return Scene(self.depth[index], self.albedo[index], self.view[index], self.light[index])

    @staticmethod
    def cat(scenes: Sequence[Scene]) -> Scene:
        """The scenes of all ``scenes``, in their order."""
        return Scene(**{f.name: torch.cat([getattr(scene, f.name) for scene in scenes]) for f in fields(Scene)})


@dataclass(frozen=True)
class PseudoViews:
    """Projected views collected by step 2: images (K, M, 3, S, S) and masks (K, M, 1, S, S); the views (K, M, 6) and
    lights (K, M, 4) that were asked for."""

    images: Tensor
    masks: Tensor
    views: Tensor
    lights: Tensor

    def joined(self, other: PseudoViews) -> PseudoViews:
        """The views of both, of the same K images."""
        names = ("images", "masks", "views", "lights")
        return PseudoViews(*(torch.cat([getattr(self, n), getattr(other, n)], dim=1) for n in names))


@dataclass(frozen=True)
class Progress:
    """Where a run is; handed to the callback after every iteration. Returning ``False`` from the callback cancels."""

    step: str
    """Name of the step (``plan.Step``)."""
    label: str
    """The same for people."""
    round: int
    rounds: int
    iteration: int
    iterations: int
    loss: float
    fraction: float
    """Of the whole run's estimated work, 0..1."""
    preview: Callable[[], Any]
    """Call it for the current (input, reconstruction, shaded shape) as images (3, S, S) in -1..1."""
