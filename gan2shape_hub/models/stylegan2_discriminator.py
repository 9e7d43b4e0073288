"""StyleGAN2's residual discriminator: logits, and the feature maps that GAN2Shape compares images by.

Weights are effective values with every constant gain folded in when a checkpoint is converted: equalised learning
rate, the square root of 2 of the activations and the 1 / sqrt 2 of the residual sums. A residual block is then
``leaky_relu(conv1) -> blur, strided conv -> leaky_relu``, plus ``blur, strided 1 x 1``, nothing else.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .component import Component
from .stylegan2 import channels_at
from .stylegan2_ops import SLOPE, blur, memory_format


def _conv(c_in: int, c_out: int, k: int, gain: float, stride: int = 1, bias: bool = True) -> nn.Conv2d:
    padding = k // 2 if stride == 1 else 0  # the blur before a strided convolution pads
    conv = nn.Conv2d(c_in, c_out, k, stride=stride, padding=padding, bias=bias)
    nn.init.normal_(conv.weight, std=gain / math.sqrt(c_in * k * k))
    if bias:
        nn.init.zeros_(conv.bias)
    return conv


def _activate(y: Tensor, clamp: float | None) -> Tensor:
    y = F.leaky_relu(y, SLOPE, inplace=True)
    return y if clamp is None else y.clamp(-clamp, clamp)


class ResidualBlock(nn.Module):
    """(B, C, S, S) -> (B, C', S/2, S/2)."""

    def __init__(self, c_in: int, c_out: int, clamp: float | None) -> None:
        super().__init__()
        self.clamp = clamp
        self.conv1 = _conv(c_in, c_in, 3, math.sqrt(2))
        self.conv2 = _conv(c_in, c_out, 3, 1.0, stride=2)
        self.skip = _conv(c_in, c_out, 1, math.sqrt(0.5), bias=False)

    def forward(self, x: Tensor) -> Tensor:
        y = _activate(self.conv1(x), self.clamp)
        half = None if self.clamp is None else self.clamp * math.sqrt(0.5)
        y = _activate(self.conv2(blur(y, pad=2)), half)
        return y + self.skip(blur(x, pad=1, stride=2))


class StyleGAN2Discriminator(Component):
    """``discriminator(x)`` -> logits (B, 1) of images x (B, 3, S, S) in -1..1.

    Built frozen, like the generator. ``channels`` lists the widths at 4, 8, ... pixels and overrides the other two.
    The minibatch standard deviation is taken over groups of ``mbstd_group`` images (fewer where the batch is not a
    multiple of it), as in training; it makes a logit depend on its neighbours, features do not.
    """

    def __init__(
        self,
        image_size: int = 128,
        channel_base: int = 16384,
        channel_max: int = 512,
        channels: list[int] | None = None,
        conv_clamp: float | None = None,
        mbstd_group: int = 4,
        mbstd_channels: int = 1,
    ) -> None:
        widths = channels_at(image_size, channel_base, channel_max)
        if image_size < 8:
            raise ValueError(f"image_size is {image_size}, must be at least 8.")
        if channels is not None:
            if len(channels) != len(widths):
                raise ValueError(
                    f"channels has {len(channels)} widths, must have {len(widths)} for {image_size} pixels."
                )
            widths = [int(c) for c in channels]
        super().__init__(
            dict(
                image_size=image_size,
                channel_base=channel_base,
                channel_max=channel_max,
                channels=widths,
                conv_clamp=conv_clamp,
                mbstd_group=mbstd_group,
                mbstd_channels=mbstd_channels,
            )
        )
        self.image_size = image_size
        self.conv_clamp = conv_clamp
        self.from_rgb = _conv(3, widths[-1], 1, math.sqrt(2))
        self.blocks = nn.ModuleList(
            ResidualBlock(widths[i], widths[i - 1], conv_clamp) for i in range(len(widths) - 1, 0, -1)
        )
        self.final_conv = _conv(widths[0] + mbstd_channels, widths[0], 3, math.sqrt(2))
        self.final_linear = nn.Linear(16 * widths[0], widths[0])
        self.logit = nn.Linear(widths[0], 1)
        nn.init.normal_(self.final_linear.weight, std=math.sqrt(2 / (16 * widths[0])))
        nn.init.normal_(self.logit.weight, std=1 / math.sqrt(widths[0]))
        nn.init.zeros_(self.final_linear.bias)
        nn.init.zeros_(self.logit.bias)
        self.requires_grad_(False)

    @property
    def num_features(self) -> int:
        """How many feature maps there are: one a residual block, log2(S) - 2."""
        return len(self.blocks)

    def features(self, x: Tensor, n: int) -> list[Tensor]:
        """The outputs of the first n residual blocks: maps (B, C, S/2, S/2), (B, C', S/4, S/4), ...

        Runs no further than the n-th block. The blocks are convolutions, so that images of another size will do too
        (GAN2Shape compares 128 pixel renders with the discriminator of a 512 pixel generator); their sides must be
        multiples of 2^n. ValueError where n is not in 1..``num_features`` or x does not fit.
        """
        if not 1 <= n <= self.num_features:
            raise ValueError(
                f"{n} feature maps were asked for, must be 1 to {self.num_features} at {self.image_size} pixels."
            )
        if x.ndim != 4 or x.shape[1] != 3 or any(side % 2**n or side == 0 for side in x.shape[2:]):
            raise ValueError(f"x has shape {tuple(x.shape)}, must be (B, 3, H, W) with sides in multiples of {2**n}.")
        h = _activate(self.from_rgb(x.contiguous(memory_format=memory_format(x))), self.conv_clamp)
        maps = []
        for block in self.blocks[:n]:
            h = block(h)
            maps.append(h)
        return maps

    def forward(self, x: Tensor) -> Tensor:
        """x (B, 3, S, S) in -1..1 -> logits (B, 1); larger means more like the training images."""
        if x.shape[1:] != (3, self.image_size, self.image_size):
            raise ValueError(f"x has shape {tuple(x.shape)}, must be (B, 3, {self.image_size}, {self.image_size}).")
        h = self._with_stddev(self.features(x, self.num_features)[-1])
        h = _activate(self.final_conv(h), self.conv_clamp)
        h = F.leaky_relu(self.final_linear(h.flatten(1)), SLOPE)
        return self.logit(h)

    def _with_stddev(self, x: Tensor) -> Tensor:
        """Append the standard deviation over groups of images, averaged over features: (B, C + F, 4, 4)."""
        f = self._config["mbstd_channels"]
        if f == 0:
            return x
        b, c, h, w = x.shape
        group = next(g for g in range(min(b, self._config["mbstd_group"]), 0, -1) if b % g == 0)
        grouped = x.reshape(group, -1, f, c // f, h, w)  # images i, i + B / group, ... form a group
        stddev = (grouped.var(0, unbiased=False) + 1e-8).sqrt().mean((2, 3, 4)).to(x.dtype)  # (B / group, F)
        return torch.cat([x, stddev.repeat(group, 1)[:, :, None, None].expand(-1, -1, h, w)], dim=1)
