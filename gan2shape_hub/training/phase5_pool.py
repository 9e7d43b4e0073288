"""Fifth phase: generated identities, turned and lit, with masks; what everything after it looks at."""

from __future__ import annotations

from PIL import Image

from gan2shape_hub.training import pages
from gan2shape_hub.training.context import Context
from gan2shape_hub.training.view_pool import ViewPool, load_pool


class Pool:
    name = "pool"
    shared = True

    def lacks(self, context: Context) -> str | None:
        return None if context.turns else "no direction of W turns the object"

    def run(self, context: Context) -> Context:
        open_pool(context)
        return context

    def picture(self, context: Context) -> Image.Image | None:
        return pages.pool(open_pool(context), context.config)


def open_pool(context: Context) -> ViewPool:
    """The pool of the run, generated where it is not there yet."""
    return load_pool(
        context.folder(Pool.name) / "views",
        context.config,
        context.generator,
        context.recipe.pool,
        seed=context.seed(Pool.name),
        accelerator=context.accelerator,
        log=context.log,
        masker=context.masker,
    )
