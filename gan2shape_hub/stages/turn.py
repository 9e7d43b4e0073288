"""Views that the generator turns by itself: the latent walked along the directions of W that turn the object.

An addition to the paper's step 2 for checkpoints that know such directions. Where the projection of a render is as
good as its crude input lets it be, a walked latent needs no render: the person turns, and the light stays.
"""

from __future__ import annotations

import torch

from gan2shape_hub.run import Run
from gan2shape_hub.stages.preview import scene_preview
from gan2shape_hub.state import State


@torch.no_grad()
def turn(state: State, run: Run) -> State:
    """Images of every target as the generator turns it: its own one and ``turned_views`` of the schedule."""
    config, projection, count = run.config, state.projection, run.schedule.turned_views
    targets, scene = state.targets, state.seen(config)
    reach = torch.tensor([config.turn.pitch_reach_deg, config.turn.yaw_reach_deg]) / config.camera.view_angle_deg
    every = []
    for k in range(len(targets)):
        now = scene_preview(targets.images[k], lambda k=k: scene.select(slice(k, k + 1)), config)
        own = state.nets.predict_view(targets.originals[k : k + 1], config)[:, :2]
        yaw = (torch.arange(count, device=run.device) + run.uniform(0, 1, count)) / count * 2 - 1
        goal = torch.stack((run.uniform(-1, 1, count), yaw), dim=1) * reach.to(run.device)
        latent = targets.latents[k : k + 1].expand(count, *targets.latents.shape[1:])
        images = [targets.originals[k : k + 1]]
        for number, one in enumerate(projection.walk(latent, goal - own)):
            images.append(run.gan_image(state.generator, one[None], config.image_size).clamp(-1, 1))
            run.tick(k * count + number, 0.0, now)
        every.append(torch.cat(images))
    return state.replace(scene=scene, turned=torch.stack(every))
