"""Depth, albedo, view, light and latent networks, with the layers and tensor names of the GAN2Shape release.

Architectures: Pan et al. (ICLR 2021), after Wu et al. (Unsup3d, CVPR 2020). Each is one ``nn.Sequential`` called
``network``, so that released weights load strictly; only the width ``nf`` is free. No convolution has a bias but
the shortcuts of the residual encoder.
"""

from __future__ import annotations

import itertools

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .component import Component

MIN_SIZE, MAX_SIZE = 32, 256


def default_width(image_size: int) -> int:
    """Channels of the first level in the release: 64 at 64 pixels, 32 at 128, 16 at 256."""
    return max(4096 // image_size, 16)


def _levels(image_size: int) -> int:
    """Number of halvings from ``image_size`` down to 4 x 4; ValueError outside 32..256 or off the powers of two."""
    if image_size & (image_size - 1) or not MIN_SIZE <= image_size <= MAX_SIZE:
        raise ValueError(f"image_size is {image_size}, must be a power of two from {MIN_SIZE} to {MAX_SIZE}.")
    return image_size.bit_length() - 3


def _down(c_in: int, c_out: int) -> nn.Conv2d:
    return nn.Conv2d(c_in, c_out, 4, stride=2, padding=1, bias=False)


def _up(c_in: int, c_out: int) -> nn.ConvTranspose2d:
    return nn.ConvTranspose2d(c_in, c_out, 4, stride=2, padding=1, bias=False)


def _check_input(name: str, x: Tensor, channels: int, size: int) -> None:
    if x.shape[1:] != (channels, size, size):
        raise ValueError(f"{name} takes images ({channels}, {size}, {size}), got {tuple(x.shape[1:])}.")


class EDDeconv(Component):
    """Encoder-decoder of the depth (1 channel, no activation) and albedo (3 channels, tanh) sheets.

    (B, in_channels, S, S) in -1..1 -> (B, out_channels, S, S). ``norm_groups`` is the number of GroupNorm groups at
    ``nf`` channels (doubled where the channels are); by default four channels make a group, as in the release.
    """

    def __init__(
        self,
        in_channels: int = 3,
        out_channels: int = 1,
        image_size: int = 128,
        nf: int | None = None,
        bottleneck: int = 256,
        norm_groups: int | None = None,
        activation: str | None = None,
    ) -> None:
        levels = _levels(image_size)
        nf = nf or default_width(image_size)
        norm_groups = norm_groups or max(nf // 4, 1)
        if nf % norm_groups:
            raise ValueError(f"norm_groups is {norm_groups}, must divide nf, which is {nf}.")
        if activation not in (None, "tanh"):
            raise ValueError(f"activation is {activation!r}, must be None or 'tanh'.")
        super().__init__(
            dict(
                in_channels=in_channels,
                out_channels=out_channels,
                image_size=image_size,
                nf=nf,
                bottleneck=bottleneck,
                norm_groups=norm_groups,
                activation=activation,
            )
        )
        widths = [nf * 2**i for i in range(levels)]
        top = widths[-1]

        def norm(level: int) -> nn.GroupNorm:
            return nn.GroupNorm(norm_groups * 2**level, widths[level])

        layers: list[nn.Module] = []
        c = in_channels
        for level, width in enumerate(widths):
            layers.append(_down(c, width))
            if level < levels - 1:  # the 4 x 4 level is not normalised
                layers.append(norm(level))
            layers.append(nn.LeakyReLU(0.2, inplace=True))
            c = width
        layers += [nn.Conv2d(top, bottleneck, 4, bias=False), nn.ReLU(inplace=True)]  # 4 x 4 -> 1 x 1
        layers += [nn.ConvTranspose2d(bottleneck, top, 4, bias=False), nn.ReLU(inplace=True)]  # 1 x 1 -> 4 x 4
        layers += [nn.Conv2d(top, top, 3, padding=1, bias=False), nn.ReLU(inplace=True)]
        for level in range(levels - 2, -1, -1):
            width = widths[level]
            layers += [_up(widths[level + 1], width), norm(level), nn.ReLU(inplace=True)]
            layers += [nn.Conv2d(width, width, 3, padding=1, bias=False), norm(level), nn.ReLU(inplace=True)]
        layers.append(nn.Upsample(scale_factor=2, mode="nearest"))
        layers += [nn.Conv2d(nf, nf, 3, padding=1, bias=False), norm(0), nn.ReLU(inplace=True)]
        layers += [nn.Conv2d(nf, nf, 5, padding=2, bias=False), norm(0), nn.ReLU(inplace=True)]
        layers.append(nn.Conv2d(nf, out_channels, 5, padding=2, bias=False))
        if activation == "tanh":
            layers.append(nn.Tanh())
        self.network = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        _check_input(type(self).__name__, x, self._config["in_channels"], self._config["image_size"])
        return self.network(x)


class Encoder(Component):
    """View (6 numbers) and light (4 numbers) regressor: (B, in_channels, S, S) -> (B, out_channels) in -1..1 (tanh)."""

    def __init__(
        self, in_channels: int = 3, out_channels: int = 6, image_size: int = 128, nf: int | None = None
    ) -> None:
        levels = _levels(image_size)
        nf = nf or default_width(image_size)
        super().__init__(dict(in_channels=in_channels, out_channels=out_channels, image_size=image_size, nf=nf))
        layers: list[nn.Module] = []
        c = in_channels
        for level in range(levels):
            layers += [_down(c, nf * 2**level), nn.ReLU(inplace=True)]
            c = nf * 2**level
        layers += [nn.Conv2d(c, c, 4, bias=False), nn.ReLU(inplace=True)]  # 4 x 4 -> 1 x 1
        layers += [nn.Conv2d(c, out_channels, 1, bias=False), nn.Tanh()]
        self.network = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        _check_input(type(self).__name__, x, self._config["in_channels"], self._config["image_size"])
        return self.network(x).flatten(1)


class ResBlockDown(nn.Module):
    """(B, C, S, S) -> (B, C', S/2, S/2): ReLU, 3x3 stride 2, ReLU, 3x3; shortcut: mean over 2 x 2, then 1x1.

    The shortcut starts from the rectified input: the release applies its first ReLU in place, so its weights were
    trained that way.
    """

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, stride=2, padding=1, bias=False)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, padding=1, bias=False)
        self.conv_sc = nn.Conv2d(in_channels, out_channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(x)
        return self.conv_sc(F.avg_pool2d(x, 2)) + self.conv2(torch.relu(self.conv1(x)))


class ResEncoder(Component):
    """Latent encoder E: images (B, in_channels, S, S) in -1..1 -> latents (B, out_channels), unbounded."""

    def __init__(self, in_channels: int = 3, out_channels: int = 512, image_size: int = 128, nf: int = 32) -> None:
        levels = _levels(image_size)
        super().__init__(dict(in_channels=in_channels, out_channels=out_channels, image_size=image_size, nf=nf))
        widths = [nf * 2**i for i in range(levels)]
        top = widths[-1]
        layers: list[nn.Module] = [_down(in_channels, nf)]
        layers += [ResBlockDown(a, b) for a, b in itertools.pairwise(widths)]
        layers += [nn.ReLU(inplace=True), nn.Conv2d(top, 2 * top, 4, bias=False), nn.ReLU(inplace=True)]
        layers.append(nn.Conv2d(2 * top, out_channels, 1, bias=False))
        self.network = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        _check_input(type(self).__name__, x, self._config["in_channels"], self._config["image_size"])
        return self.network(x).flatten(1)
