"""Views that the generator turns by itself: the latent walked along the directions of W that turn the object.

An addition to the paper's step 2 for checkpoints that know such directions. Where the projection of a render is as
good as its crude input lets it be, a walked latent needs no render: the person turns, and the light stays.
"""

from __future__ import annotations

import torch
from torch import Tensor

from gan2shape_hub.models.shape import ShapeNets
from gan2shape_hub.records import Targets
from gan2shape_hub.run import Run

YAW_REACH_DEG, PITCH_REACH_DEG = 30.0, 6.0
"""How far to the sides and up and down: yaw evenly spread, pitch at random (it soon changes the person)."""


@torch.no_grad()
def collect_turned(nets: ShapeNets, targets: Targets, count: int, run: Run) -> Tensor | None:
    """Images (K, 1 + count, 3, S, S) of every target: the generator's own one and ``count`` turned ones.

    None where the checkpoint knows no directions, or nothing is asked for.
    """
    if count == 0 or not run.projection.walks:
        return None
    reach = torch.tensor([PITCH_REACH_DEG, YAW_REACH_DEG], device=run.device) / run.config.camera.view_angle_deg
    every = []
    for k in range(len(targets)):
        own = nets.predict_view(targets.originals[k : k + 1], run.config)[:, :2]
        yaw = (torch.arange(count, device=run.device) + run.uniform(0, 1, count)) / count * 2 - 1
        goal = torch.stack((run.uniform(-1, 1, count), yaw), dim=1) * reach
        latent = targets.latents[k : k + 1].expand(count, *targets.latents.shape[1:])
        walked = run.projection.walk(latent, goal - own)
        images = [run.gan_image(one[None], run.config.image_size).clamp(-1, 1) for one in walked]
        every.append(torch.cat([targets.originals[k : k + 1], *images]))
    return torch.stack(every)
