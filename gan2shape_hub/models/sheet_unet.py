"""A network for depth and albedo sheets that keeps identities apart: an encoder-decoder with skips and a template.

The released decoder hangs on 256 numbers and learns one average object for everybody long before anything else. Here
coarse features reach the decoder by skips, and what all objects of a category have in common is a sheet of its own
(``template``), so that the rest of the network has only the differences to say.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gan2shape_hub.models.component import Component

MAX_WIDTH = 256


class SheetUNet(Component):
    """(B, in_channels, S, S) in -1..1 -> (B, out_channels, S, S).

    Args:
        in_channels, out_channels, image_size: of the sheets; image_size is a power of two, 32 or more.
        nf: channels at half the resolution; they double with every halving, up to 256.
        skip: side of the finest feature maps that the decoder sees. Finer ones are not registered with a canonical
            sheet when the object is turned, and would print the picture's texture on the relief.
        resolution: side at which the decoder ends; its output is interpolated to ``image_size``.
        activation: None or "tanh".
        template: whether a learnt sheet is added before the activation.
    """

    def __init__(
        self,
        in_channels: int = 3,
        out_channels: int = 1,
        image_size: int = 128,
        nf: int = 32,
        skip: int = 32,
        resolution: int = 64,
        activation: str | None = None,
        template: bool = True,
    ) -> None:
        if image_size < 32 or image_size & (image_size - 1):
            raise ValueError(f"image_size is {image_size}, must be a power of two of 32 or more.")
        for name, side in (("skip", skip), ("resolution", resolution)):
            if side & (side - 1) or not 4 < side <= image_size:
                raise ValueError(f"{name} is {side}, must be a power of two above 4 and at most {image_size}.")
        if activation not in (None, "tanh"):
            raise ValueError(f"activation is {activation!r}, must be None or 'tanh'.")
        super().__init__(
            dict(
                in_channels=in_channels,
                out_channels=out_channels,
                image_size=image_size,
                nf=nf,
                skip=skip,
                resolution=resolution,
                activation=activation,
                template=template,
            )
        )
        self.image_size, self.skip, self.activation = image_size, skip, activation
        sides = [image_size >> i for i in range(1, image_size.bit_length() - 2)]  # S/2 .. 4
        widths = {side: min(nf << i, MAX_WIDTH) for i, side in enumerate(sides)}
        widths[image_size] = max(nf // 2, 8)
        self.down = nn.ModuleList()
        channels = in_channels
        for side in sides:
            self.down.append(_Block(channels, widths[side], kernel=4, stride=2, norm=side < image_size // 2))
            channels = widths[side]
        self.middle = _Block(channels, channels)
        self.up = nn.ModuleList()
        side = 4
        while side < resolution:
            side *= 2
            extra = widths[side] if side <= skip and side < image_size else 0
            self.up.append(_Block(channels + extra, widths[side]))
            channels = widths[side]
        self.last = nn.Conv2d(channels, out_channels, 3, padding=1)
        self.template = nn.Parameter(torch.zeros(1, out_channels, image_size, image_size)) if template else None
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, a=0.2)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
        with torch.no_grad():
            self.last.weight.mul_(0.2)  # starts close to the template

    def forward(self, x: Tensor) -> Tensor:
        channels, size = self._config["in_channels"], self.image_size
        if x.shape[1:] != (channels, size, size):
            raise ValueError(f"SheetUNet takes images ({channels}, {size}, {size}), got {tuple(x.shape[1:])}.")
        seen = {}
        for block in self.down:
            x = block(x)
            seen[x.shape[-1]] = x
        x = self.middle(x)
        for block in self.up:
            x = F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False)
            side = x.shape[-1]
            if side <= self.skip and side in seen:
                x = torch.cat((x, seen[side]), 1)
            x = block(x)
        x = self.last(x)
        if x.shape[-1] != size:
            x = F.interpolate(x, (size, size), mode="bicubic", align_corners=False)
        if self.template is not None:
            x = x + self.template
        return torch.tanh(x) if self.activation == "tanh" else x


class _Block(nn.Module):
    """Convolution, group normalisation of up to 8 groups, leaky ReLU."""

    def __init__(self, c_in: int, c_out: int, kernel: int = 3, stride: int = 1, norm: bool = True) -> None:
        super().__init__()
        self.conv = nn.Conv2d(c_in, c_out, kernel, stride=stride, padding=1, bias=not norm)
        self.norm = nn.GroupNorm(math.gcd(8, c_out), c_out) if norm else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        return F.leaky_relu(self.norm(self.conv(x)), 0.2)
