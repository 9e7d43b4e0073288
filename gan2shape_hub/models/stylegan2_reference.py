"""The readable twin of StyleGAN2's synthesis: every sample gets its own weights, in one grouped convolution.

This is how the paper writes modulation and demodulation, and how the public ports compute it. It is slower by
several times; the tests compare values and gradients with it, and scripts/benchmark.py times it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch.nn.functional as F
from torch import Tensor

from .stylegan2_ops import SLOPE, fir_kernel, upfirdn2d

if TYPE_CHECKING:
    from .stylegan2 import StyledConv, StyleGAN2Generator


def synthesize(generator: StyleGAN2Generator, ws: Tensor, noises: list[Tensor | None]) -> Tensor:
    """ws (B, L, D), a noise map (1 or B, 1, S, S) or None a convolution -> images (B, 3, S, S)."""
    clamp = generator.conv_clamp
    x = generator.const.expand(ws.shape[0], -1, -1, -1)
    image = None
    for level, to_rgb in enumerate(generator.to_rgbs):
        for i in range(max(2 * level - 1, 0), 2 * level + 1):
            conv = generator.convs[i]
            x = styled_conv(conv, x, ws[:, i], noises[i], generator.demod_eps(conv), clamp)
        weight = to_rgb.weight * to_rgb.style(ws[:, 2 * level + 1])[:, None]
        rgb = per_sample_conv(x, weight[..., None, None]) + to_rgb.bias[:, None, None]
        if clamp is not None:
            rgb = rgb.clamp(-clamp, clamp)
        image = rgb if image is None else upfirdn2d(image, fir_kernel(4.0, image), up=2, pad=(2, 1)) + rgb
    return image


def styled_conv(
    conv: StyledConv, x: Tensor, w: Tensor, noise: Tensor | None, eps: float, clamp: float | None
) -> Tensor:
    """One layer: x (B, C_in, H, W), w (B, D) -> (B, C_out, S, S)."""
    weight = conv.weight * conv.style(w)[:, None, :, None, None]  # (B, C_out, C_in, 3, 3)
    weight = weight * (weight.square().sum((2, 3, 4), keepdim=True) + eps).rsqrt()
    y = per_sample_conv(x, weight, up=conv.up) * 2**0.5
    if noise is not None:
        y = y + noise
    y = F.leaky_relu(y + conv.bias[:, None, None], SLOPE)
    return y if clamp is None else y.clamp(-clamp, clamp)


def per_sample_conv(x: Tensor, weight: Tensor, up: bool = False) -> Tensor:
    """x (B, C_in, H, W), weight (B, C_out, C_in, k, k), one a sample -> (B, C_out, H, W), doubled where ``up``."""
    b, c_out, c_in, k, _ = weight.shape
    grouped = x.reshape(1, b * c_in, *x.shape[2:])
    if up:
        weight = weight.transpose(1, 2).reshape(b * c_in, c_out, k, k)
        y = F.conv_transpose2d(grouped, weight, stride=2, groups=b)
        y = y.reshape(b, c_out, *y.shape[2:])
        return upfirdn2d(y, fir_kernel(4.0, y), pad=(1, 1))
    y = F.conv2d(grouped, weight.reshape(b * c_out, c_in, k, k), padding=k // 2, groups=b)
    return y.reshape(b, c_out, *y.shape[2:])
