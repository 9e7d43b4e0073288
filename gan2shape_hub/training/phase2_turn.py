"""Second phase: from the ellipsoid to networks that know how the object turns.

The encoder learns the latents of generated images, the view network the views of renders of the ellipsoid; read on
generated images it gives the directions of W along which the object turns. Views that the generator turns along them
teach view, shape and appearance, as far as an hour goes, and the encoder to project renders.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from PIL import Image
from torch import Tensor

from gan2shape_hub.atomic import atomic_file
from gan2shape_hub.config import CategoryConfig
from gan2shape_hub.generator import sample_latents
from gan2shape_hub.models.latent_projection import LatentProjection, gan_image
from gan2shape_hub.models.shape import ShapeNets
from gan2shape_hub.rendering.details import blur
from gan2shape_hub.run import Run
from gan2shape_hub.stages.prior import ellipsoid_depth
from gan2shape_hub.training import pages
from gan2shape_hub.training.bootstrap import (
    as_floats,
    encoder_terms,
    projection_terms,
    render_terms,
    turned_terms,
)
from gan2shape_hub.training.chunks import make_chunks, read_chunks
from gan2shape_hub.training.context import Context
from gan2shape_hub.training.directions import find_view_directions, with_directions
from gan2shape_hub.training.shape_training import train_appearance, train_nets, train_shape
from gan2shape_hub.training.sheet_nets import starting_nets
from gan2shape_hub.training.view_pool import ViewPool, make_pool

CHUNK = 100


class Turn:
    name = "turn"
    shared = True

    def lacks(self, context: Context) -> str | None:
        return None

    def run(self, context: Context) -> Context:
        recipe, device = context.recipe.turn, context.accelerator.device
        images, latents = self._images(context)
        sheet = ellipsoid_depth(context.config)
        sheet = blur(sheet[None, None], sigma=context.config.image_size / 32)[0, 0].to(device)
        nets = starting_nets(
            context.config,
            sheet,
            context.projection.encoding_size,
            seed=context.seed("turn/nets"),
            width=recipe.width,
            encoder_width=recipe.encoder_width,
        ).to(device)
        terms, judge = encoder_terms(nets, images, latents, context.generator, recipe.encoder_batch)
        nets = train_nets(nets, ("encoder",), terms, recipe.encoder, context.job("turn/encoder"))
        context.log(f"encoder: unseen R2 of components 1-12 {judge(nets.encoder):.3f}")
        terms = render_terms(nets, images, latents, sheet, context.config, recipe.batch)
        nets = train_nets(nets, ("view", "light"), terms, recipe.renders, context.job("turn/renders"))
        config = self._directions(context, nets, images, latents, sheet)
        if config is None:
            return context
        context = context.replace(config=config)
        pool = make_pool(config, context.generator, recipe.views, context.job("turn/views"))
        terms = turned_terms(nets, pool, config, recipe.batch, device)
        nets = train_nets(nets, ("view",), terms, recipe.turned, context.job("turn/turned"))
        return context.with_nets(self._shape(context, nets, pool))

    def picture(self, context: Context) -> Image.Image | None:
        return pages.turned(context) if context.turns else None

    def _images(self, context: Context) -> tuple[Tensor, Tensor]:
        """Generated images (N, 3, S, S) uint8, on the CPU, and their latents (N, D)."""
        recipe, generator, config = context.recipe.turn, context.generator, context.config
        rng = torch.Generator().manual_seed(context.seed("turn/images"))
        latents = sample_latents(generator, recipe.images, rng, recipe.truncation)

        @torch.no_grad()
        def make(which: range) -> dict[str, Tensor]:
            chosen = latents[which.start : which.stop].split(8)
            made = torch.cat([gan_image(generator, w, config.image_size, config.crop_fraction) for w in chosen])
            return {"images": ((made.clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8)}

        paths = make_chunks(context.job("turn/images"), recipe.images, make, CHUNK)
        return read_chunks(paths, "images", recipe.images), latents

    def _directions(
        self, context: Context, nets: ShapeNets, images: Tensor, latents: Tensor, sheet: Tensor
    ) -> CategoryConfig | None:
        """The configuration with the directions, kept in a file; None where nothing turns the object."""
        recipe, path = context.recipe.turn, context.folder(self.name) / "directions.json"
        if path.exists():
            config = CategoryConfig.from_json(path.read_text())
            return config if config.projection.view_directions else None
        with torch.no_grad():
            views = [nets.predict_view(as_floats(part).to(sheet.device), context.config) for part in images.split(32)]
        found = find_view_directions(
            latents,
            torch.cat(views),
            sheet,
            context.generator,
            context.config,
            context.log,
            ridge=recipe.ridge,
            measured=recipe.measured,
            smallest_step_deg=recipe.smallest_step_deg,
        )
        config = context.config if found is None else with_directions(context.config, found)
        context.accelerator.wait_for_everyone()
        if context.accelerator.is_main_process:
            with atomic_file(path) as part:
                part.write_text(config.to_json())
        return None if found is None else config

    def _shape(self, context: Context, nets: ShapeNets, pool: ViewPool) -> ShapeNets:
        recipe, config = context.recipe.turn, context.config
        few = pool.floats(torch.arange(min(len(pool), 6)), torch.zeros(min(len(pool), 6), dtype=torch.long))
        for name, teach, what in (
            ("shape", train_shape, recipe.shape),
            ("appearance", train_appearance, recipe.appearance),
        ):
            job = context.job(f"turn/{name}")
            nets = teach(nets, pool, config, context.perceptual, what, job, pages.writer(job.folder, few, config))
        loss = replace(config.loss, perceptual_layers=1)
        run = Run(
            config=replace(config, loss=loss),
            schedule=config.schedule(),
            rng=torch.Generator(),
            perceptual=context.perceptual,
            device=context.accelerator.device,
        )
        terms = projection_terms(nets, pool, LatentProjection(context.generator, config.projection), run, recipe.batch)
        return train_nets(nets, ("encoder",), terms, recipe.projection, context.job("turn/projection"))
