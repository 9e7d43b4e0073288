"""The shape that the objects of a category have in common, as a depth sheet."""

from __future__ import annotations

import torch
from torch import Tensor

from gan2shape_hub.models.component import Component


class AverageSheet(Component):
    """Canonical depth (S, S) of the category's average object without background, and how sure every pixel of it is.

    Args:
        image_size: S.
    """

    def __init__(self, image_size: int) -> None:
        super().__init__(dict(image_size=image_size))
        self.register_buffer("depth", torch.ones(image_size, image_size))
        self.register_buffer("cover", torch.ones(image_size, image_size))
        """(S, S) in 0..1: 1 where every object of the category is, 0 where none is."""

    def forward(self) -> Tensor:
        """(S, S) float32, scene units."""
        return self.depth.float()
