"""Pictures of the object under other lights: its latent, walked along the directions of W that relight it in place.

An addition to the paper, which looks for viewpoint and light in projections of crude renders. Where a checkpoint knows
directions of light (``training/light_directions.py``), the generator moves a lamp around the object, pixel for pixel.
"""

from __future__ import annotations

import torch

from gan2shape_hub.run import Run
from gan2shape_hub.stages.preview import scene_preview
from gan2shape_hub.state import State


@torch.no_grad()
def walk_light(state: State, run: Run) -> State:
    """Images (K, 1 + J, 3, S, S) of the targets' latents, as they are and under J other lights, S being
    ``light_walk_size`` of the schedule. They are the generator's: a photograph's own pixels are not among them."""
    config, targets, scene = run.config, state.targets, state.seen(run.config)
    steps = torch.tensor(((0.0, 0.0, 0.0), *config.light_walk.steps), device=run.device)
    every = []
    for k in range(len(targets)):
        now = scene_preview(targets.images[k], lambda k=k: scene.select(slice(k, k + 1)), config)
        latents = state.projection.relight(targets.latents[k : k + 1], steps)
        images = []
        for number, one in enumerate(latents.split(1)):
            images.append(run.gan_image(state.generator, one, run.schedule.light_walk_size).clamp(-1, 1))
            run.tick(k * len(steps) + number, 0.0, now)
        every.append(torch.cat(images))
    return state.replace(scene=scene, lit=torch.stack(every))
