"""Fourth phase: the average object, out of the light walks of a crowd."""

from __future__ import annotations

from PIL import Image

from gan2shape_hub.training import pages
from gan2shape_hub.training.average_sheet import collect_crowd, solve_average
from gan2shape_hub.training.context import Context


class Average:
    name = "average"
    shared = False

    def lacks(self, context: Context) -> str | None:
        return None if context.relights else "no direction of W moves the light"

    def run(self, context: Context) -> Context:
        recipe, config = context.recipe.average, context.config
        crowd = collect_crowd(
            context.generator,
            context.nets,
            context.masker,
            config,
            context.log,
            recipe.people,
            context.seed(self.name),
            recipe.yaws_deg,
        )
        average = solve_average(crowd, config, context.log)
        return context.replace(components={**context.components, "average_sheet": average})

    def picture(self, context: Context) -> Image.Image | None:
        return pages.average(context)
