"""Fifth phase: generated identities, turned and lit, with masks; what everything after it looks at."""

from __future__ import annotations

from PIL import Image

from gan2shape_hub.training import pages
from gan2shape_hub.training.context import Context
from gan2shape_hub.training.view_pool import ViewPool, make_pool, read_pool

VIEWS = "pool/views"


class Pool:
    name = "pool"
    shared = True

    def lacks(self, context: Context) -> str | None:
        return None if context.turns else "no direction of W turns the object"

    def run(self, context: Context) -> Context:
        make_pool(context.config, context.generator, context.recipe.pool, context.job(VIEWS), context.masker)
        return context

    def picture(self, context: Context) -> Image.Image | None:
        return pages.pool(open_pool(context), context.config)


def open_pool(context: Context) -> ViewPool:
    """The pool that the run made; ValueError where it did not yet."""
    return read_pool(context.work / VIEWS, context.config, context.recipe.pool.identities)
