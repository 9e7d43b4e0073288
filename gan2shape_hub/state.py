"""Where a run stands: one frozen value that every stage takes and returns."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import torch
from torch import Tensor

from gan2shape_hub.config import CategoryConfig
from gan2shape_hub.generator import Generator
from gan2shape_hub.models.latent_projection import LatentProjection
from gan2shape_hub.models.shape import ShapeNets
from gan2shape_hub.records import PseudoViews, Scene, Targets


@dataclass(frozen=True)
class State:
    """What is known of K images so far. A stage returns another state and leaves this one as it was: networks that it
    trains are copies."""

    targets: Targets
    """The images with their latents and the generator's images of these: the average's, until a photograph is
    inverted."""
    projection: LatentProjection
    """The generator, and how latents move in its W."""
    nets: ShapeNets
    """Frozen, in eval mode."""
    photographs: tuple[bool, ...] = ()
    """Which of the K images are photographs; the others are the generator's own. Empty: none is."""
    quality_db: tuple[float | None, ...] = ()
    """How well the generator expresses each photograph (PSNR); None for what came with its latent."""
    unlikeness: tuple[float | None, ...] = ()
    """How far each photograph's face and the generator's are apart (``models/likeness.py``); None: not known."""
    scene: Scene | None = None
    """All K scenes as they would be returned now; None: as the networks say. Its side S need not be the networks'."""
    average: Tensor | None = None
    """(S, S) canonical depth of the category's average object, where the checkpoint has it."""
    lit: Tensor | None = None
    """(K, 1 + J, 3, S, S) the generator's image of every target, and it under J other lights."""
    turned: Tensor | None = None
    """(K, 1 + M, 3, S, S) the generator's own image of every target and M turned ones."""
    views: PseudoViews | None = None
    """Projected views of every target."""

    def quality(self, k: int) -> dict[str, float | None]:
        """What is known of how the generator expresses image k, by the names that reports have for it."""
        return {"psnr_db": self.quality_db[k], "unlikeness": self.unlikeness[k]}

    @property
    def generator(self) -> Generator:
        return self.projection.generator

    @torch.no_grad()
    def seen(self, config: CategoryConfig) -> Scene:
        """The K scenes, read off the networks where no stage has said otherwise."""
        if self.scene is not None:
            return self.scene
        return Scene.cat([self.nets.predict_scene(image, config) for image in self.targets.images.split(1)])

    def replace(self, **changes: object) -> State:
        return dataclasses.replace(self, **changes)
