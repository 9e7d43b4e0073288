"""Seventh phase: the shape of every identity of the pool."""

from __future__ import annotations

from PIL import Image

from gan2shape_hub.training import pages
from gan2shape_hub.training.context import Context, lit_turns
from gan2shape_hub.training.persons import PersonShapes, make_persons, read_persons
from gan2shape_hub.training.phase5_pool import open_pool

SHAPES = "persons/shapes"


class Persons:
    name = "persons"
    shared = True

    def lacks(self, context: Context) -> str | None:
        return lit_turns(context)

    def run(self, context: Context) -> Context:
        sheet, job = context.components["average_sheet"](), context.job(SHAPES)
        make_persons(open_pool(context), context.nets.frozen(), sheet, context.config, context.recipe.persons, job)
        return context

    def picture(self, context: Context) -> Image.Image | None:
        sheet = context.components["average_sheet"]().cpu()
        targets = open_persons(context).targets(sheet, context.recipe.persons)
        return pages.persons(open_pool(context), targets, context.config)


def open_persons(context: Context) -> PersonShapes:
    """The shapes that the run made."""
    return read_persons(context.work / SHAPES, context.recipe.pool.identities)
