"""Networks that say one rough shape of everything: what the training starts from."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from gan2shape_hub.config import CategoryConfig
from gan2shape_hub.models.shape import ShapeNets
from gan2shape_hub.models.sheet_unet import SheetUNet
from gan2shape_hub.rendering.renderer import raw_to_depth


def starting_nets(
    config: CategoryConfig,
    sheet: Tensor,
    encoding_size: int,
    *,
    seed: int = 0,
    width: int | None = None,
    encoder_width: int = 32,
) -> ShapeNets:
    """Fresh networks that say about ``sheet`` (S, S) of every image; the zoom of their view starts at none."""
    size = config.image_size
    # The released decoder's depth and albedo, made here too, are replaced.
    nets = ShapeNets.create(config, encoding_size, seed=seed, width=width, encoder_width=encoder_width)
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        depth = SheetUNet(3, 1, size, nf=32, skip=size // 4, resolution=size // 2)
        albedo = SheetUNet(3, 3, size, nf=24, skip=size // 2, resolution=size, activation="tanh")
    with torch.no_grad():
        nets.view.network[-2].weight[5].zero_()  # translation along z, which renders do not teach
    depth.template.data.copy_(raw_of(sheet, config))
    return ShapeNets(depth, albedo, nets.view, nets.light, nets.encoder)


@torch.no_grad()
def start_from(net: nn.Module, sheet: Tensor, config: CategoryConfig, kept: float) -> None:
    """Let the depth network say ``sheet`` (S, S) of everything, plus ``kept`` (0..1) of what it said of each single
    image. In place; a network without a template stays as it is."""
    if getattr(net, "template", None) is None:
        return
    net.last.weight.mul_(kept)
    net.last.bias.zero_()
    net.template.copy_(raw_of(sheet, config))


@torch.enable_grad()
def raw_of(depth: Tensor, config: CategoryConfig, iterations: int = 300) -> Tensor:
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
