"""What the phases of a training hand on to each other."""

from __future__ import annotations

import functools
import zlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

import torch
from accelerate import Accelerator
from PIL import Image
from torch import nn

from gan2shape_hub.config import CategoryConfig
from gan2shape_hub.generator import ComponentGenerator, sample_latents
from gan2shape_hub.models.latent_projection import LatentProjection
from gan2shape_hub.models.shape import ShapeNets
from gan2shape_hub.records import SHAPE_COMPONENTS
from gan2shape_hub.stages.mask import Masker, first_answer, mask_from_nets
from gan2shape_hub.training.recipe import Recipe
from gan2shape_hub.training.trainer import Job


@dataclass(frozen=True)
class Context:
    """The checkpoint as it is so far, the recipe, and the services of the run.

    work: the run's folder; a phase keeps its own state in ``folder``, and what earlier ones left in theirs may be read.
    """

    config: CategoryConfig
    components: dict[str, nn.Module]
    recipe: Recipe
    work: Path
    accelerator: Accelerator
    log: Callable[[str], None]

    def folder(self, phase: str) -> Path:
        return self.work / phase

    def seed(self, what: str) -> int:
        """A seed of its own for every part of the run."""
        return zlib.crc32(f"{self.recipe.seed}/{what}".encode())

    def job(self, what: str) -> Job:
        """Work of the phase that ``what`` begins with ("turn/shape"), in the folder of that name."""
        return Job(self.seed(what), self.work / what, self.accelerator, self.log)

    def replace(self, **changes: object) -> Context:
        return replace(self, **changes)

    @property
    def generator(self) -> ComponentGenerator:
        """ValueError where it has no principal components, in which everything here is looked for."""
        generator = self.components["generator"]
        if getattr(generator, "component_basis", None) is None:
            raise ValueError("the generator has no principal components of W: convert it with --space pca.")
        return generator

    @property
    def projection(self) -> LatentProjection:
        return LatentProjection(self.generator, self.config.projection)

    @property
    def perceptual(self) -> nn.Module | None:
        return self.components.get("perceptual")

    @property
    def has_nets(self) -> bool:
        return all(slot in self.components for slot in SHAPE_COMPONENTS.values())

    @property
    def nets(self) -> ShapeNets:
        """The shape networks, in float32 and laid out for convolutions; ValueError where the checkpoint has none."""
        if not self.has_nets:
            raise ValueError("the checkpoint has no shape networks: run the phase 'turn' first.")
        nets = ShapeNets(**{name: self.components[slot].float() for name, slot in SHAPE_COMPONENTS.items()})
        return nets.to(self.accelerator.device)

    def with_nets(self, nets: ShapeNets) -> Context:
        made = {SHAPE_COMPONENTS[name]: module for name, module in nets.modules()}
        return self.replace(components={**self.components, **made})

    @property
    def masker(self) -> Masker:
        """The component's answer; where it finds nothing, or there is none, what the shape networks say."""
        first = [self.components["masker"]] if "masker" in self.components else []
        from_nets = functools.partial(mask_from_nets, nets=self.nets, config=self.config)
        return functools.partial(first_answer, maskers=[*first, from_nets])

    @property
    def turns(self) -> bool:
        """Whether directions are known along which the object turns."""
        return len(self.config.projection.view_directions) == 2

    @property
    def relights(self) -> bool:
        """Whether directions are known along which the light moves."""
        return len(self.config.projection.light_directions) == 3


class Phase(Protocol):
    """One step of the making of a checkpoint. Phases are values without state: all they know is in the context."""

    name: str
    """Its key in the recipe, and its folder in the work folder."""
    shared: bool
    """Whether every process takes part; else the main one works alone, and the others wait."""

    def lacks(self, context: Context) -> str | None:
        """Why there is nothing to do for this category, a clause; None: there is."""

    def run(self, context: Context) -> Context:
        """Do it, or go on with it; the context with what was found."""

    def picture(self, context: Context) -> Image.Image | None:
        """What was found, to look at, on the main process alone; ``context`` is what ``run`` returned."""


def lit_turns(context: Context) -> str | None:
    """Why there are no lit views of turned objects around an average one, a clause; None: there are."""
    if not context.turns:
        return "no direction of W turns the object"
    if not context.relights or "average_sheet" not in context.components:
        return "no direction of W moves the light"
    return None if context.recipe.pool.lit else "the recipe's pool is not lit"


def few_latents(context: Context, count: int = 5) -> torch.Tensor:
    """Latents (count, D) for pictures, the same after every phase."""
    rng = torch.Generator().manual_seed(context.seed("pictures"))
    return sample_latents(context.generator, count, rng, context.config.truncation)
