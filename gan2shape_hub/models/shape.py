"""The five networks that a reconstruction trains, as one value that is passed around."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import dataclass, fields, replace

import torch
from torch import Tensor, nn

from gan2shape_hub.config import CategoryConfig
from gan2shape_hub.models.shape_nets import EDDeconv, Encoder, ResEncoder
from gan2shape_hub.records import Scene
from gan2shape_hub.rendering.renderer import raw_to_depth

MIRRORED_VIEW = (1.0, -1.0, -1.0, -1.0, 1.0, 1.0)
"""Signs of pitch, yaw, roll and the translations x, y, z in a mirror image."""
MIRRORED_LIGHT = (1.0, 1.0, -1.0, 1.0)
"""Signs of ambient, diffuse, direction x and y in a mirror image."""


@dataclass(frozen=True)
class ShapeNets:
    """depth: images (B, 3, S, S) -> raw depth (B, 1, S, S); albedo: -> (B, 3, S, S); view: -> (B, 6);
    light: -> (B, 4); encoder: -> (B, encoding size). All outputs but the raw depth's and the encoder's in -1..1."""

    depth: nn.Module
    albedo: nn.Module
    view: nn.Module
    light: nn.Module
    encoder: nn.Module

    @classmethod
    def create(
        cls,
        config: CategoryConfig,
        encoding_size: int,
        seed: int = 0,
        width: int | None = None,
        encoder_width: int = 32,
    ) -> ShapeNets:
        """Freshly initialised networks of the released architecture (``width``: channels of the first level)."""
        size = config.image_size
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(seed)  # the CPU's alone: those of other devices are the caller's
            return cls(
                depth=EDDeconv(3, 1, size, nf=width),
                albedo=EDDeconv(3, 3, size, nf=width, activation="tanh"),
                view=_keep_signal(Encoder(3, 6, size, nf=width), last_gain=0.1),
                light=_keep_signal(Encoder(3, 4, size, nf=width), last_gain=0.1),
                encoder=_keep_signal(ResEncoder(3, encoding_size, size, nf=encoder_width), last_gain=0.3),
            )

    def clone(self) -> ShapeNets:
        """Independent trainable copies in float32, so that a run never changes a checkpoint's networks."""
        return ShapeNets(**{f.name: copy.deepcopy(getattr(self, f.name)).float() for f in fields(self)})

    def modules(self) -> Iterator[tuple[str, nn.Module]]:
        for f in fields(self):
            yield f.name, getattr(self, f.name)

    def train(self, *names: str) -> list[nn.Parameter]:
        """Let only the networks ``names`` learn, in place; their parameters."""
        for name, module in self.modules():
            module.requires_grad_(name in names).train(name in names)
        return self.parameters(*names)

    def parameters(self, *names: str) -> list[nn.Parameter]:
        return [p for name, module in self.modules() if name in names for p in module.parameters()]

    def learning(self, *names: str) -> ShapeNets:
        """The same networks with copies in the place of ``names``, which may learn; the others are shared."""
        copies = {name: copy.deepcopy(getattr(self, name)).requires_grad_(True).train() for name in names}
        return replace(self, **copies)

    def frozen(self) -> ShapeNets:
        """Let no network learn, in place; returns self."""
        self.train()
        return self

    def to(self, device: torch.device) -> ShapeNets:
        for _, module in self.modules():
            module.to(device, memory_format=torch.channels_last)
        return self

    def predict_depth(self, images: Tensor, config: CategoryConfig) -> Tensor:
        """Canonical depth (B, S, S)."""
        if not config.average_mirrored:
            return raw_to_depth(self.depth(images).float(), config.camera)
        raw = self.depth(torch.cat([images, images.flip(-1)])).float()
        one, other = raw_to_depth(raw, config.camera).chunk(2)
        return (one + other.flip(-1)) / 2

    def predict_view(self, images: Tensor, config: CategoryConfig) -> Tensor:
        """View (B, 6)."""
        view = _both_ways(self.view, images, MIRRORED_VIEW, config.average_mirrored)
        return _add_mean(view, config.view_gaussian.mean, config.add_mean)

    def predict_light(self, images: Tensor, config: CategoryConfig) -> Tensor:
        """Light (B, 4)."""
        light = _both_ways(self.light, images, MIRRORED_LIGHT, config.average_mirrored)
        return _add_mean(light, config.light_gaussian.mean, config.add_mean)

    def predict_scene(self, images: Tensor, config: CategoryConfig) -> Scene:
        """Everything the networks say of images (B, 3, S, S)."""
        return Scene(
            depth=self.predict_depth(images, config),
            albedo=self.albedo(images).float(),
            view=self.predict_view(images, config),
            light=self.predict_light(images, config),
        )


@torch.no_grad()
def _keep_signal(net: nn.Module, last_gain: float) -> nn.Module:
    """He initialisation. Without normalisation PyTorch's default halves the signal in every layer, and a net of eight
    of them starts as the constant zero and stays there for thousands of iterations."""
    convolutions = [m for m in net.modules() if isinstance(m, nn.Conv2d)]
    for conv in convolutions:
        nn.init.kaiming_normal_(conv.weight, nonlinearity="relu")
        if conv.bias is not None:
            conv.bias.zero_()
    convolutions[-1].weight.mul_(last_gain)
    return net


def _both_ways(net: nn.Module, images: Tensor, signs: tuple[float, ...], average: bool) -> Tensor:
    """The net's numbers of images, or their mean with those of the mirror images, whose ``signs`` are turned back."""
    if not average:
        return net(images).float()
    one, other = net(torch.cat([images, images.flip(-1)])).float().chunk(2)
    return (one + other * other.new_tensor(signs)) / 2


def _add_mean(output: Tensor, mean: tuple[float, ...], add: bool) -> Tensor:
    return output + output.new_tensor(mean) if add else output
