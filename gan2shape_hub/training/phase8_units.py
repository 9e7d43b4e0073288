"""Eighth phase: how far a step along the directions of view goes, as the trained view network sees it."""

from __future__ import annotations

import torch
from PIL import Image

from gan2shape_hub.training import pages
from gan2shape_hub.training.context import Context
from gan2shape_hub.training.directions import with_measured_units
from gan2shape_hub.training.phase5_pool import open_pool


class Units:
    name = "units"
    shared = True

    def lacks(self, context: Context) -> str | None:
        return None if context.turns else "no direction of W turns the object"

    def run(self, context: Context) -> Context:
        pool = open_pool(context)
        few = torch.arange(min(len(pool), context.recipe.units.identities))
        every = torch.arange(pool.images.shape[1])
        views = pool.floats(few[:, None], every.expand(len(few), -1)).to(context.accelerator.device)
        return context.replace(
            config=with_measured_units(context.config, context.nets, views, pool.turns[few], context.log)
        )

    def picture(self, context: Context) -> Image.Image | None:
        return pages.turned(context)
