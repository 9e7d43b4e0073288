"""What the stages hand each other. Shapes, ranges and units are written once, here.

K is the number of images of a joint run (1 for a single image), M the pseudo views of each, S ``config.image_size``.
Images are in -1..1, depths in scene units, views and lights in network-output units (``Pose.from_view``,
``Light.from_output``).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

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


@dataclass(frozen=True)
class PseudoViews:
    """Projected views collected by step 2: images (K, M, 3, S, S) and masks (K, M, 1, S, S); the views (K, M, 6) and
    lights (K, M, 4) that were asked for."""

    images: Tensor
    masks: Tensor
    views: Tensor
    lights: Tensor


@dataclass(frozen=True)
class Progress:
    """Where a run is; handed to the callback after every iteration. Returning ``False`` from the callback cancels."""

    step: str
    """invert, prior, decompose, explore, collect or refine."""
    round: int
    rounds: int
    iteration: int
    iterations: int
    loss: float
    fraction: float
    """Of the whole run's estimated work, 0..1."""
    preview: Callable[[], Any]
    """Call it for the current (input, reconstruction, shaded shape) as images (3, S, S) in -1..1."""
