"""Fourth phase: the average object, out of the light walks of a crowd; and the light once more, by its normals."""

from __future__ import annotations

import copy
import dataclasses

from PIL import Image
from safetensors import safe_open
from safetensors.torch import save_file

from gan2shape_hub.atomic import atomic_file
from gan2shape_hub.config import CategoryConfig
from gan2shape_hub.models.average_sheet import AverageSheet
from gan2shape_hub.training import pages
from gan2shape_hub.training.average_sheet import collect_crowd, solve_average
from gan2shape_hub.training.context import Context
from gan2shape_hub.training.phase3_light import lit_by
from gan2shape_hub.training.sheet_nets import start_from


class Average:
    name = "average"
    shared = False

    def lacks(self, context: Context) -> str | None:
        return None if context.relights else "no direction of W moves the light"

    def run(self, context: Context) -> Context:
        for number in range(context.recipe.average.rounds):
            if context.relights:
                context = self._round(context, number)
        return context

    def picture(self, context: Context) -> Image.Image | None:
        return pages.average(context) if context.relights else None

    def _round(self, context: Context, number: int) -> Context:
        """The first round looks through the networks' shapes, each later one through the average object of the round
        before. Kept in a file."""
        path, recipe = context.folder(self.name) / f"round{number + 1}.safetensors", context.recipe.average
        if not path.exists():
            nets = context.nets
            if number:
                sheet, depth = context.components["average_sheet"](), copy.deepcopy(nets.depth)
                start_from(depth, sheet, context.config, 0.0)
                nets = dataclasses.replace(nets, depth=depth)
                context = lit_by(context, nets, recipe.purity)
                if not context.relights:
                    return context
            seed, config, log = context.seed(self.name), context.config, context.log
            crowd = collect_crowd(
                context.generator, nets, context.masker, config, log, recipe.people, seed, recipe.yaws_deg
            )
            found = solve_average(crowd, config, log)
            with atomic_file(path) as part:
                save_file({"depth": found.depth, "cover": found.cover}, part, {"config": config.to_json()})
        with safe_open(path, "pt") as file:
            config = CategoryConfig.from_json(file.metadata()["config"])
            sheet = AverageSheet(config.image_size)
            sheet.load_state_dict({name: file.get_tensor(name) for name in ("depth", "cover")})
        components = {**context.components, "average_sheet": sheet.to(context.accelerator.device)}
        return context.replace(config=config, components=components)
