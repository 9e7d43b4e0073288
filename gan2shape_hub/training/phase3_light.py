"""Third phase: the directions of W along which the light moves, and the layers that take them."""

from __future__ import annotations

from PIL import Image

from gan2shape_hub.models.shape import ShapeNets
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
        return lit_by(context, context.nets, context.recipe.light.purity)

    def picture(self, context: Context) -> Image.Image | None:
        return pages.relit(context) if context.relights else None


def lit_by(context: Context, nets: ShapeNets, purity: float) -> Context:
    """The directions of light by the normals of ``nets``, without an average object; no directions below ``purity``."""
    config, log, seed = context.config, context.log, context.seed(Light.name)
    count, turning = context.recipe.light.images, config.projection.view_directions
    layers, responses = measure_responses(context.generator, nets, context.masker, config, log, count, seed)
    found = find_light_directions(layers, responses, turning, log, purity)
    if found is not None:
        values = " ".join(f"{x:.2f}" for x in found.purity.tolist())
        log(f"light from the left, above, the front in layers {', '.join(map(str, found.layers))}, purity {values}")
    kept = {name: module for name, module in context.components.items() if name != "average_sheet"}
    return context.replace(config=with_light(config, found), components=kept)
