"""Networks of the long training, started from what a first, short training found."""

from __future__ import annotations

import dataclasses

import torch
from torch import Tensor

from gan2shape_hub.config import CategoryConfig
from gan2shape_hub.models.shape import ShapeNets
from gan2shape_hub.models.sheet_unet import SheetUNet
from gan2shape_hub.rendering.details import blur
from gan2shape_hub.rendering.renderer import raw_to_depth


def with_sheet_nets(nets: ShapeNets, images: Tensor, config: CategoryConfig, seed: int = 0) -> ShapeNets:
    """``nets`` with a new depth and albedo network.

    The depth starts from the smoothed mean of the depths that ``nets`` give for ``images`` (N, 3, S, S): what a short
    training gets right is the rough shape. The zoom of the view starts at none.
    """
    size = config.image_size
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        depth = SheetUNet(3, 1, size, nf=32, skip=size // 4, resolution=size // 2)
        albedo = SheetUNet(3, 3, size, nf=24, skip=size // 2, resolution=size, activation="tanh")
    with torch.no_grad():
        mean = torch.cat([nets.predict_depth(chunk, config) for chunk in images.split(16)]).mean(dim=0)
        smooth = blur(((mean + mean.flip(-1)) / 2)[None, None], sigma=size / 32)[0, 0]
        nets.view.network[-2].weight[5].zero_()  # translation along z, which was not trained
    depth.template.data.copy_(_raw_of(smooth, config))
    made = dataclasses.replace(nets, depth=depth, albedo=albedo)
    return made.to(images.device)


@torch.enable_grad()
def _raw_of(depth: Tensor, config: CategoryConfig, iterations: int = 300) -> Tensor:
    """Network output (1, 1, S, S) whose depth is ``depth`` (S, S): the mean is taken out before the tanh, so it has to
    be searched for."""
    raw = torch.zeros(1, 1, *depth.shape, device=depth.device, requires_grad=True)
    optimizer = torch.optim.Adam([raw], lr=0.05)
    for _ in range(iterations):
        loss = (raw_to_depth(raw, config.camera)[0] - depth).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return raw.detach()
