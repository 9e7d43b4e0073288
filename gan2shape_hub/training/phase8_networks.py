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
        recipe, pool, folder = context.recipe.networks, open_pool(context), context.folder(self.name)
        services = {"accelerator": context.accelerator, "log": context.log}
        few = torch.arange(min(len(pool), 6))
        few, masks = pool.masked(few, torch.zeros_like(few))
        if lit_turns(context) is None:
            nets = self._personal(context, pool, few * masks)
            constants = dataclasses.replace(context.config.photometric, from_nets=True)
            context = context.replace(config=dataclasses.replace(context.config, photometric=constants))
        else:
            nets = train_shape(
                context.nets,
                pool,
                context.config,
                context.perceptual,
                recipe.shape,
                seed=context.seed("networks/shape"),
                folder=folder / "shape",
                after_save=pages.writer(folder / "shape", few, context.config),
                **services,
            )
        nets = train_appearance(
            nets,
            pool,
            context.config,
            context.perceptual,
            recipe.appearance,
            seed=context.seed("networks/appearance"),
            folder=folder / "appearance",
            after_save=pages.writer(folder / "appearance", few, context.config),
            **services,
        )
        return context.with_nets(nets)

    def picture(self, context: Context) -> Image.Image | None:
        return pages.shapes(context)

    def _personal(self, context: Context, pool: ViewPool, few: torch.Tensor) -> ShapeNets:
        recipe, sheet = context.recipe.networks.persons, context.components["average_sheet"]()
        nets, folder, persons = context.nets, context.folder(self.name) / "persons", open_persons(context)
        start_from(nets.depth, sheet, context.config, recipe.fresh)
        targets = persons.targets(sheet.cpu(), context.recipe.persons)
        device = context.accelerator.device
        return train_nets(
            nets,
            ("depth",),
            person_terms(nets, pool, targets, persons.weight, context.config, recipe, device),
            recipe.training,
            context.seed("networks/persons"),
            folder,
            context.accelerator,
            context.log,
            pages.writer(folder, few, context.config),
            scale=lambda name: 0.0 if name == "depth.template" else 1.0,
        )
