"""Depth and view, then albedo and light, taught on the views of a pool by the losses of ``training/multiview.py``."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from gan2shape_hub.config import CategoryConfig
from gan2shape_hub.models.shape import ShapeNets
from gan2shape_hub.rendering.transfer import box_importance
from gan2shape_hub.training.lighting import load_lit_heads
from gan2shape_hub.training.multiview import appearance_loss, multiview_loss
from gan2shape_hub.training.recipe import MultiviewRecipe
from gan2shape_hub.training.trainer import Job, Terms, Training, train
from gan2shape_hub.training.view_pool import ViewPool

AfterSave = Callable[[int, ShapeNets], None]


@dataclass(frozen=True)
class Batch:
    """views and inputs (n, m, 3, S, S) in -1..1: the images, and how the networks see them; mirror (n) bool; turns
    (n, m, 2), the pitch and yaw of the walks in view units; lit (n, k) in 0..1, where in the list of lit heads those
    are that the shape has to explain."""

    views: Tensor
    inputs: Tensor
    mirror: Tensor
    turns: Tensor
    lit: Tensor


def draw_batch(pool: ViewPool, recipe: MultiviewRecipe, rng: torch.Generator, device: torch.device) -> Batch:
    """A part of a step: some views of some identities, each identity mirrored or not."""
    count = recipe.identities
    identity = torch.randint(len(pool), (count,), generator=rng)
    every = pool.images.shape[1]
    view = torch.stack([torch.randperm(every, generator=rng)[: recipe.views] for _ in range(count)])
    flip = torch.rand(count, generator=rng) < 0.5
    mirror = torch.rand(count, generator=rng) < recipe.mirror
    gain = 1 + recipe.jitter * (torch.rand(count, 1, 1, 1, 1, generator=rng) * 2 - 1)
    shift = recipe.jitter * (torch.rand(count, 1, 1, 1, 1, generator=rng) * 2 - 1)
    lit = torch.rand(count, recipe.lit, generator=rng)
    views = pool.floats(identity[:, None], view)
    views = torch.where(flip[:, None, None, None, None], views.flip(-1), views)
    turns = pool.turns[identity[:, None], view]
    turns = torch.where(flip[:, None, None], turns * turns.new_tensor([1.0, -1.0]), turns)
    inputs = (views * gain + shift).clamp(-1, 1)
    return Batch(*(x.to(device) for x in (views, inputs, mirror, turns, lit)))


def train_shape(
    nets: ShapeNets,
    pool: ViewPool,
    config: CategoryConfig,
    perceptual: nn.Module | None,
    recipe: MultiviewRecipe,
    job: Job,
    after_save: AfterSave | None = None,
) -> ShapeNets:
    """Train depth and view of ``nets`` in place on how objects turn; the networks with those two averaged.

    Errors are the trainer's; ``after_save`` gets the step and the averaged networks.
    """
    device = job.accelerator.device
    # Networks learn from mirrored images too, which is what averaging would give at twice the price.
    config = replace(config, average_mirrored=False)
    importance = _importance(recipe, config, device)
    heads = None
    if recipe.loss.lighting:
        with job.accelerator.main_process_first():
            heads = load_lit_heads(job.folder / "lit-heads.safetensors", pool, nets, config, job.log).to(device)
    if heads is not None and not len(heads):  # no view shows enough of the object
        heads = None

    def terms(rng: torch.Generator) -> dict[str, Tensor]:
        batch = draw_batch(pool, recipe, rng, device)
        return multiview_loss(
            nets,
            batch.views,
            batch.inputs,
            recipe.sources,
            batch.mirror,
            config,
            perceptual,
            recipe.loss,
            importance,
            batch.turns,
            heads,
            None if heads is None else (batch.lit * len(heads)).long(),
        )

    return train_nets(nets, ("depth", "view"), terms, recipe.training, job, after_save)


def train_appearance(
    nets: ShapeNets,
    pool: ViewPool,
    config: CategoryConfig,
    perceptual: nn.Module | None,
    recipe: MultiviewRecipe,
    job: Job,
    after_save: AfterSave | None = None,
) -> ShapeNets:
    """Train albedo and light of ``nets`` in place under the shape that there is; otherwise as :func:`train_shape`."""
    importance = _importance(recipe, config, job.accelerator.device)

    def terms(rng: torch.Generator) -> dict[str, Tensor]:
        batch = draw_batch(pool, recipe, rng, job.accelerator.device)
        return appearance_loss(
            nets, batch.views, recipe.sources, batch.mirror, config, perceptual, recipe.loss, importance
        )

    return train_nets(nets, ("albedo", "light"), terms, recipe.training, job, after_save)


def train_nets(
    nets: ShapeNets,
    names: tuple[str, ...],
    terms: Terms,
    training: Training,
    job: Job,
    after_save: AfterSave | None = None,
    scale: Callable[[str], float] = lambda name: 1.0,
) -> ShapeNets:
    """Train the networks ``names`` of ``nets`` in place, the others frozen; ``nets`` with these averaged."""
    nets.frozen()

    def saved(step: int, averaged: dict[str, nn.Module]) -> None:
        if after_save is not None:
            after_save(step, replace(nets, **averaged))

    learners = {name: getattr(nets, name) for name in names}
    averaged = train(learners, terms, training, job, scale=scale, after_save=saved)
    return replace(nets, **averaged)


def _importance(recipe: MultiviewRecipe, config: CategoryConfig, device: torch.device) -> Tensor:
    return box_importance(config.prior.default_box, config.image_size, recipe.loss.background).to(device)
