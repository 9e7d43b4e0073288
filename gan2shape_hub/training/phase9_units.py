"""Ninth phase: how far a step along the directions of view goes, as the trained view network sees it."""

from __future__ import annotations

import torch
from PIL import Image

from gan2shape_hub.generator import sample_latents
from gan2shape_hub.models.latent_projection import gan_image
from gan2shape_hub.training import pages
from gan2shape_hub.training.context import Context
from gan2shape_hub.training.directions import with_measured_units


class Units:
    name = "units"
    shared = False

    def lacks(self, context: Context) -> str | None:
        return None if context.turns else "no direction of W turns the object"

    @torch.no_grad()
    def run(self, context: Context) -> Context:
        recipe, config, generator, nets = context.recipe.units, context.config, context.generator, context.nets
        rng = torch.Generator().manual_seed(context.seed(self.name))
        latents = sample_latents(generator, recipe.identities, rng, config.truncation)
        along = torch.tensor(recipe.reach)[:, None] * torch.eye(2)[:, None]
        turns = (along.flatten(0, 1) * torch.tensor(config.projection.view_units)).to(latents)
        views = []
        for latent in latents:
            walked = context.projection.walk(latent.expand(len(turns), -1), turns)
            images = gan_image(generator, walked, config.image_size, config.crop_fraction).clamp(-1, 1)
            views.append(images * context.masker(images))
        turns = turns.expand(len(views), -1, -1)
        return context.replace(config=with_measured_units(config, nets, torch.stack(views), turns, context.log))

    def picture(self, context: Context) -> Image.Image | None:
        return pages.turned(context)
