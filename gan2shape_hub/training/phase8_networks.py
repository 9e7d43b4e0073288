"""Eighth phase: the networks: depth, on persons' shapes or on how objects turn, then albedo and light under it."""

from __future__ import annotations

import dataclasses

import torch
from PIL import Image

from gan2shape_hub.models.shape import ShapeNets
from gan2shape_hub.training import pages
from gan2shape_hub.training.context import Context, lit_turns
from gan2shape_hub.training.persons import person_terms
from gan2shape_hub.training.phase5_pool import open_pool
from gan2shape_hub.training.phase7_persons import open_persons
from gan2shape_hub.training.shape_training import train_appearance, train_nets, train_shape
from gan2shape_hub.training.sheet_nets import start_from
from gan2shape_hub.training.view_pool import ViewPool


class Networks:
    name = "networks"
    shared = True

    def lacks(self, context: Context) -> str | None:
        return None if context.turns else "no direction of W turns the object"

    def run(self, context: Context) -> Context:
        recipe, pool = context.recipe.networks, open_pool(context)
        few = torch.arange(min(len(pool), 6))
        few, masks = pool.masked(few, torch.zeros_like(few))
        if lit_turns(context) is None:
            nets = self._personal(context, pool, few * masks)
            constants = dataclasses.replace(context.config.photometric, from_nets=True)
            context = context.replace(config=dataclasses.replace(context.config, photometric=constants))
        else:
            job = context.job("networks/shape")
            look = pages.writer(job.folder, few, context.config)
            nets = train_shape(context.nets, pool, context.config, context.perceptual, recipe.shape, job, look)
        job = context.job("networks/appearance")
        look = pages.writer(job.folder, few, context.config)
        nets = train_appearance(nets, pool, context.config, context.perceptual, recipe.appearance, job, look)
        return context.with_nets(nets)

    def picture(self, context: Context) -> Image.Image | None:
        return pages.shapes(context)

    def _personal(self, context: Context, pool: ViewPool, few: torch.Tensor) -> ShapeNets:
        recipe, sheet = context.recipe.networks.persons, context.components["average_sheet"]()
        nets, persons, job = context.nets, open_persons(context), context.job("networks/persons")
        start_from(nets.depth, sheet, context.config, recipe.fresh)
        targets = persons.targets(sheet.cpu(), context.recipe.persons)
        device = context.accelerator.device
        return train_nets(
            nets,
            ("depth",),
            person_terms(nets, pool, targets, persons.weight, context.config, recipe, device),
            recipe.training,
            job,
            pages.writer(job.folder, few, context.config),
            scale=lambda name: 0.0 if name == "depth.template" else 1.0,
        )
