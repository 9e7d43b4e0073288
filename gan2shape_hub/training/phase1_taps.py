"""First phase: tap heads, by which all later phases get small images at a fraction of the cost."""

from __future__ import annotations

import torch
from PIL import Image

from gan2shape_hub.generator import tap_sizes
from gan2shape_hub.training import pages
from gan2shape_hub.training.context import Context
from gan2shape_hub.training.taps import load_tap_images, train_tap


class Taps:
    name = "taps"
    shared = True

    def lacks(self, context: Context) -> str | None:
        return None if tap_sizes(context.components["generator"]) else "the generator has no taps"

    def run(self, context: Context) -> Context:
        generator, recipe = context.components["generator"], context.recipe.taps
        known = load_tap_images(generator, recipe, context.job("taps/images"))
        for size in generator.tap_sizes:
            db = train_tap(generator, size, known, recipe, context.job(f"taps/tap{size}"))
            context.log(f"{size} px: unseen {db:.2f} dB in the end")
        return context

    @torch.no_grad()
    def picture(self, context: Context) -> Image.Image | None:
        return pages.taps(context)
