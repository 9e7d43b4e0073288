"""Seventh phase: the networks, on the pool: depth and view on how objects turn, then albedo and light."""

from __future__ import annotations

import torch
from PIL import Image

from gan2shape_hub.training import pages
from gan2shape_hub.training.context import Context
from gan2shape_hub.training.phase5_pool import open_pool
from gan2shape_hub.training.shape_training import train_appearance, train_shape


class Networks:
    name = "networks"
    shared = True

    def lacks(self, context: Context) -> str | None:
        return None if context.turns else "no direction of W turns the object"

    def run(self, context: Context) -> Context:
        recipe, pool, folder = context.recipe.networks, open_pool(context), context.folder(self.name)
        few = torch.arange(min(len(pool), 6))
        few = pool.floats(few, torch.zeros_like(few))
        nets = context.nets
        for name, teach, what in (
            ("shape", train_shape, recipe.shape),
            ("appearance", train_appearance, recipe.appearance),
        ):
            nets = teach(
                nets,
                pool,
                context.config,
                context.perceptual,
                what,
                seed=context.seed(f"networks/{name}"),
                folder=folder / name,
                accelerator=context.accelerator,
                log=context.log,
                after_save=pages.writer(folder / name, few, context.config),
            )
        return context.with_nets(nets)

    def picture(self, context: Context) -> Image.Image | None:
        return pages.shapes(context)
