"""Sixth phase: how deep the relief is and how far views are turned, and a view network that reads it."""

from __future__ import annotations

import dataclasses
import json

import torch
from PIL import Image

from gan2shape_hub.atomic import atomic_file
from gan2shape_hub.models.average_sheet import AverageSheet
from gan2shape_hub.training import pages
from gan2shape_hub.training.context import Context, lit_turns
from gan2shape_hub.training.phase5_pool import open_pool
from gan2shape_hub.training.poses import pose_terms
from gan2shape_hub.training.relief import Relief, find_relief, read_views
from gan2shape_hub.training.trainer import train
from gan2shape_hub.training.view_pool import make_pool


class Poses:
    name = "poses"
    shared = True

    def lacks(self, context: Context) -> str | None:
        return lit_turns(context)

    def run(self, context: Context) -> Context:
        recipe, pool, nets = context.recipe.poses, open_pool(context), context.nets.frozen()
        average = context.components["average_sheet"]
        found = self._relief(context)
        camera = found.camera(context.config.camera)
        scaled = AverageSheet(context.config.image_size).to(context.accelerator.device)
        scaled.depth.copy_(found.sheet(average()))
        scaled.cover.copy_(average.cover)
        config = dataclasses.replace(context.config, camera=camera)
        before = {name: value.clone() for name, value in nets.view.state_dict().items()}
        terms = pose_terms(nets, pool, found.views(read_views(pool, nets, context.config)), scaled(), config, recipe)
        averaged = train({"view": nets.view}, terms, recipe.training, context.job("poses/view"))["view"]
        with torch.no_grad():
            for name, value in averaged.state_dict().items():
                value.lerp_(before[name].to(value), recipe.kept)
        context = context.with_nets(dataclasses.replace(nets, view=averaged)).replace(config=config)
        return context.replace(components={**context.components, "average_sheet": scaled})

    def picture(self, context: Context) -> Image.Image | None:
        return pages.turned(context)

    def _relief(self, context: Context) -> Relief:
        """What light says, kept in a file."""
        path, recipe, config = context.folder(self.name) / "relief.json", context.recipe.poses, context.config
        pool = make_pool(config, context.generator, recipe.views, context.job("poses/views"), context.masker)
        if context.accelerator.is_main_process and not path.exists():
            readings, sheet = read_views(pool, context.nets, config), context.components["average_sheet"]()
            found = find_relief(pool, readings, sheet, config, recipe, context.log)
            with atomic_file(path) as part:
                part.write_text(json.dumps([found.relief, found.angle, found.pivot, found.middle.tolist()]))
        context.accelerator.wait_for_everyone()
        relief, angle, pivot, middle = json.loads(path.read_text())
        return Relief(relief, angle, pivot, torch.tensor(middle))
