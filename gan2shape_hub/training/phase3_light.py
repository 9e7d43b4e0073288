"""Third phase: the directions of W along which the light moves, and the layers that take them."""

from __future__ import annotations

from PIL import Image

from gan2shape_hub.training import pages
from gan2shape_hub.training.context import Context
from gan2shape_hub.training.light_directions import find_light_directions, measure_responses, with_light


class Light:
    name = "light"
    shared = False

    def lacks(self, context: Context) -> str | None:
        return None if context.has_nets else "there are no shape networks, whose normals tell light from the rest"

    def run(self, context: Context) -> Context:
        """An average object of another light goes."""
        recipe, log = context.recipe.light, context.log
        layers, responses = measure_responses(
            context.generator,
            context.nets,
            context.masker,
            context.config,
            log,
            recipe.images,
            context.seed(self.name),
        )
        turning = context.config.projection.view_directions
        found = find_light_directions(layers, responses, turning, log, recipe.purity)
        if found is not None:
            purity = " ".join(f"{x:.2f}" for x in found.purity.tolist())
            log(f"light from the left, above, the front in layers {', '.join(map(str, found.layers))}, purity {purity}")
        kept = {name: module for name, module in context.components.items() if name != "average_sheet"}
        return context.replace(config=with_light(context.config, found), components=kept)

    def picture(self, context: Context) -> Image.Image | None:
        return pages.relit(context) if context.relights else None
