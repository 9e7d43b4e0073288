"""MobileStyleGAN generator (Belousov, arXiv 2104.04767): StyleGAN2's mapping network, a wavelet-based synthesis
network of depthwise-separable modulated convolutions, and cheap early "taps" that read a small image out of its
features.

Written for inference and for gradients to the latent. Three identities keep it fast on a CPU and on a GPU:

* a depthwise convolution commutes with scaling its channels, so the style is applied once, after it, or folded into
  the pointwise weights where no gradient is wanted;
* constant demodulation and learning-rate gains are folded into the stored weights;
* the wavelet sub-bands of a feature map are stored as contiguous channel groups (low, high 0, 1, 2), so that the
  inverse Haar transform is eight additions of contiguous blocks in channels-last memory.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from gan2shape_hub.models.component import Component
from gan2shape_hub.models.mapping import MappingNetwork

SLOPE = 0.2


def _pointwise(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """1x1 convolution of channels-last x (B, C, H, W) as one matrix product: the same speed with any number of
    threads, where PyTorch's convolution falls back to a slow path with one."""
    return F.linear(x.permute(0, 2, 3, 1), weight.flatten(1), bias).permute(0, 3, 1, 2)


class _FrozenSeparable(torch.autograd.Function):
    """A separable layer with constant weights: gradients flow to the input and the style only.

    The depthwise input gradient is the same fast forward convolution with the kernel turned by 180 degrees (several
    times faster on CPUs than autograd's), and only the depthwise result and the output are kept.
    """

    @staticmethod
    def forward(ctx, x, style, depthwise, pointwise, bias, noise):
        y = F.conv2d(x, depthwise, padding=1, groups=x.shape[1])
        if len(x) == 1:
            out = _pointwise(y, pointwise * style, bias)
        else:
            out = _pointwise(y * style, pointwise, bias)
        out = F.leaky_relu_(out.add_(noise), SLOPE)
        ctx.save_for_backward(y, style, depthwise, pointwise, out)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx, grad):
        y, style, depthwise, pointwise, out = ctx.saved_tensors
        grad = grad.contiguous(memory_format=torch.channels_last)
        grad = torch.ops.aten.leaky_relu_backward(grad, out, SLOPE, True)
        scaled = _pointwise(grad, pointwise.transpose(0, 1))
        grad_style = (scaled * y).sum(dim=(2, 3), keepdim=True)
        if not ctx.needs_input_grad[0]:
            return None, grad_style, None, None, None, None
        # (channels of) a depthwise convolution commute with the style, so it is folded into the small kernel.
        if len(y) == 1:
            kernel = depthwise.flip(2, 3) * style.transpose(0, 1)
            grad_x = F.conv2d(scaled, kernel, padding=1, groups=y.shape[1])
        else:
            grad_x = F.conv2d(scaled * style, depthwise.flip(2, 3), padding=1, groups=y.shape[1])
        return grad_x, grad_style, None, None, None, None


def inverse_haar(x: Tensor) -> Tensor:
    """Inverse 2D Haar transform: (B, 4C, H, W), sub-bands as four contiguous groups of C channels (low, three highs),
    to (B, C, 2H, 2W). Keeps channels-last memory."""
    b, c4, h, w = x.shape
    low, h0, h1, h2 = x.chunk(4, dim=1)
    a, d = low + h0, low - h0
    e, f = h1 + h2, h1 - h2
    out = x.new_empty((b, 2 * h, 2 * w, c4 // 4)).permute(0, 3, 1, 2)
    if torch.is_grad_enabled() and x.requires_grad:
        rows = [torch.stack(pair, dim=-1).flatten(-2) for pair in ((a + e, a - e), (d + f, d - f))]
        y = torch.stack(rows, dim=-2).reshape(b, c4 // 4, 2 * h, 2 * w) * 0.5
        return y.contiguous(memory_format=torch.channels_last)
    torch.add(a, e, out=out[:, :, 0::2, 0::2])
    torch.sub(a, e, out=out[:, :, 0::2, 1::2])
    torch.add(d, f, out=out[:, :, 1::2, 0::2])
    torch.sub(d, f, out=out[:, :, 1::2, 1::2])
    return out.mul_(0.5)


class _InverseHaar(torch.autograd.Function):
    """Inverse Haar with its exact adjoint (the transform is orthogonal up to the sampling grid: the adjoint is the
    forward Haar transform), so that neither direction goes through strided copies of autograd's."""

    @staticmethod
    def forward(ctx, x: Tensor) -> Tensor:
        with torch.no_grad():
            return inverse_haar(x)

    @staticmethod
    @once_differentiable
    def backward(ctx, g: Tensor) -> Tensor:
        g00, g01 = g[:, :, 0::2, 0::2], g[:, :, 0::2, 1::2]
        g10, g11 = g[:, :, 1::2, 0::2], g[:, :, 1::2, 1::2]
        a, d = g00 + g01, g10 + g11
        e, f = g00 - g01, g10 - g11
        b, c, h, w = a.shape
        out = g.new_empty((b, h, w, 4 * c)).permute(0, 3, 1, 2)
        torch.add(a, d, out=out[:, :c])
        torch.sub(a, d, out=out[:, c : 2 * c])
        torch.add(e, f, out=out[:, 2 * c : 3 * c])
        torch.sub(e, f, out=out[:, 3 * c :])
        return out.mul_(0.5)


def _upsample(x: Tensor) -> Tensor:
    return _InverseHaar.apply(x) if torch.is_grad_enabled() and x.requires_grad else inverse_haar(x)


class _Style(nn.Module):
    """Affine map from a latent (B, 512) to per-channel scales (B, C, 1, 1)."""

    def __init__(self, latent_dim: int, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(channels, latent_dim))
        self.bias = nn.Parameter(torch.ones(channels))

    def forward(self, w: Tensor) -> Tensor:
        return F.linear(w, self.weight, self.bias)[:, :, None, None]


class SeparableLayer(nn.Module):
    """Style, depthwise 3x3, pointwise 1x1, fixed noise map, bias, leaky ReLU 0.2."""

    def __init__(self, latent_dim: int, in_channels: int, out_channels: int, size: int) -> None:
        super().__init__()
        self.style = _Style(latent_dim, in_channels)
        self.depthwise = nn.Parameter(torch.randn(in_channels, 1, 3, 3) / 3)
        self.pointwise = nn.Parameter(torch.randn(out_channels, in_channels, 1, 1) / math.sqrt(in_channels))
        self.bias = nn.Parameter(torch.zeros(out_channels))
        self.register_buffer("noise", torch.zeros(1, 1, size, size))

    def forward(self, x: Tensor, w: Tensor) -> Tensor:
        style = self.style(w)
        if any(p.requires_grad for p in (self.depthwise, self.pointwise, self.bias)):  # fine-tuning (pivotal tuning)
            y = F.conv2d(x, self.depthwise, padding=1, groups=x.shape[1])
            return F.leaky_relu(_pointwise(y * style, self.pointwise, self.bias) + self.noise, SLOPE)
        return _FrozenSeparable.apply(x, style, self.depthwise, self.pointwise, self.bias, self.noise)


class SynthesisBlock(nn.Module):
    """Doubles the resolution: style, inverse Haar (4C -> C channels), two separable layers."""

    def __init__(self, latent_dim: int, in_channels: int, out_channels: int, size: int) -> None:
        super().__init__()
        self.style = _Style(latent_dim, in_channels)
        self.conv1 = SeparableLayer(latent_dim, in_channels // 4, out_channels, size)
        self.conv2 = SeparableLayer(latent_dim, out_channels, out_channels, size)

    def forward(self, x: Tensor, w: Tensor, layers: int = 2) -> Tensor:
        style = self.style(w)
        x = self.conv1(_upsample(x * style if torch.is_grad_enabled() else x.mul_(style)), w)
        return self.conv2(x, w) if layers == 2 else x


class TapHead(nn.Module):
    """Reads a small RGB image out of the features at its resolution.

    One modulated 1x1 convolution gives a linear image and ``widths[0]`` channels; modulated 3x3 convolutions refine
    it. Trained to match the full image, downsampled by area (``training/taps.py``).
    """

    def __init__(self, latent_dim: int, channels: int, size: int, widths: Sequence[int]) -> None:
        super().__init__()
        self.style_in = _Style(latent_dim, channels)
        self.conv_in = nn.Conv2d(channels, widths[0] + 3, 1)
        self.styles = nn.ModuleList(_Style(latent_dim, c) for c in widths)
        outs = [*widths[1:], 3]
        self.convs = nn.ModuleList(nn.Conv2d(i, o, 3, padding=1) for i, o in zip(widths, outs, strict=True))
        self.position = nn.Parameter(torch.zeros(1, widths[0] + 3, size, size))
        """The generator's later noise maps are fixed, so what they add is the same in every image."""

    def forward(self, x: Tensor, w: Tensor) -> Tensor:
        style, weight = self.style_in(w), self.conv_in.weight
        if len(x) == 1:  # the style scales the few weights instead of the many pixels
            weight = weight * style
        else:
            x = x * style
        y = _pointwise(x, weight, self.conv_in.bias) + self.position
        image, y = y[:, :3], y[:, 3:].contiguous(memory_format=torch.channels_last)
        for style, conv in zip(self.styles, self.convs, strict=True):
            y = conv(F.leaky_relu(y, SLOPE) * style(w))
        return image + y


class MobileStyleGANGenerator(Component):
    """Latents to images.

    ``generator(w)`` takes w (B, latent_dim) or (B, num_latents, latent_dim) and returns (B, 3, S, S), about -1..1, not
    clamped. ``generator.image_at(w, size)`` returns the same image at 64 or 128 pixels from an early tap, at a
    fraction of the cost and cheap to differentiate. ``generator.mapping`` is the mapping network.

    Args:
        channels: features at 4, 8, ... pixels; each entry after the first doubles the resolution; the image is twice
            as large again (the last layer predicts wavelet coefficients).
        taps: (size, layer, widths) of each head that reads a small image out of the features: after the first or
            the second layer of the block at that size, with these channels inside the head.
    """

    def __init__(
        self,
        channels: Sequence[int] = (512, 512, 512, 512, 512, 256, 128, 64),
        latent_dim: int = 512,
        taps: Sequence[tuple[int, int, Sequence[int]]] = ((64, 2, (128, 64, 48)), (128, 1, (64, 32))),
        components: int = 64,
    ) -> None:
        super().__init__(
            {
                "channels": list(channels),
                "latent_dim": latent_dim,
                "taps": [[size, layer, list(widths)] for size, layer, widths in taps],
                "components": components,
            }
        )
        self.latent_dim = latent_dim
        self.num_latents = len(channels)
        self.image_size = 4 * 2 ** len(channels)
        self.mapping = MappingNetwork(latent_dim)
        self.input = nn.Parameter(torch.randn(1, channels[0], 4, 4))
        self.style = _Style(latent_dim, channels[0])
        self.conv = nn.Parameter(torch.randn(channels[0], channels[0], 3, 3) / math.sqrt(9 * channels[0]))
        self.bias = nn.Parameter(torch.zeros(channels[0]))
        self.register_buffer("noise", torch.zeros(1, 1, 4, 4))
        self.blocks = nn.ModuleList(
            SynthesisBlock(latent_dim, channels[i], channels[i + 1], 8 * 2**i) for i in range(len(channels) - 1)
        )
        self.style_rgb = _Style(latent_dim, channels[-1])
        self.to_rgb = nn.Parameter(torch.randn(12, channels[-1], 1, 1) / math.sqrt(channels[-1]))
        self.bias_rgb = nn.Parameter(torch.zeros(12))
        sizes = {4 * 2**i: c for i, c in enumerate(channels)}
        self.tap_heads = nn.ModuleDict(
            {str(size): TapHead(latent_dim, sizes[size], size, widths) for size, _, widths in taps}
        )
        self._tap_layer = {size: layer for size, layer, _ in taps}
        self.register_buffer("latent_mean", torch.zeros(latent_dim))
        self.register_buffer("component_basis", torch.zeros(components, latent_dim))
        self.register_buffer("component_std", torch.ones(components))

    @property
    def tap_sizes(self) -> tuple[int, ...]:
        return tuple(int(s) for s in self.tap_heads)

    def truncate(self, w: Tensor, psi: float) -> Tensor:
        """Pull latents toward the mean: psi 1 keeps them, 0 gives the average image."""
        return self.latent_mean + psi * (w - self.latent_mean)

    def forward(self, w: Tensor) -> Tensor:
        latents = self._latents(w)
        if torch.is_grad_enabled() or len(w) == 1:
            return self._full(latents)
        # One image at a time: the features of a batch no longer fit a CPU's cache, and folding the style into the
        # weights needs single images. Accelerators want the batch.
        if w.device.type != "cpu":
            return self._full(latents)
        return torch.cat([self._full(row[None]) for row in latents])

    def image_at(self, w: Tensor, size: int) -> Tensor:
        """The image at ``size`` pixels, (B, 3, size, size): from the tap where there is one, else downsampled."""
        if str(size) not in self.tap_heads:
            image = self(w)
            return image if size == self.image_size else F.interpolate(image, (size, size), mode="area")
        latents = self._latents(w)
        if w.device.type == "cpu" and len(w) > 1:
            return torch.cat([self._tap(row[None], size) for row in latents])
        return self._tap(latents, size)

    def tap_features(self, w: Tensor, size: int) -> Tensor:
        """What the tap at ``size`` reads: features (B, C, size, size), channels-last."""
        return self._features(self._latents(w), size, self._tap_layer[size])

    def read_tap(self, features: Tensor, w: Tensor, size: int) -> Tensor:
        """Image (B, 3, size, size) out of ``tap_features``."""
        return self.tap_heads[str(size)](features, self._latents(w)[:, int(math.log2(size)) - 2])

    def _tap(self, latents: Tensor, size: int) -> Tensor:
        return self.read_tap(self.tap_features(latents, size), latents, size)

    def _full(self, latents: Tensor) -> Tensor:
        x = self._features(latents, self.image_size // 2)
        y = _pointwise(x * self.style_rgb(latents[:, -1]), self.to_rgb, self.bias_rgb)
        return _upsample(y.contiguous(memory_format=torch.channels_last)).contiguous()

    def _features(self, latents: Tensor, size: int, layer: int = 2) -> Tensor:
        x = self.input * self.style(latents[:, 0])
        x = F.conv2d(x, self.conv, self.bias, padding=1)
        x = F.leaky_relu(x + self.noise, SLOPE).contiguous(memory_format=torch.channels_last)
        blocks = int(math.log2(size)) - 2
        for i in range(blocks):
            x = self.blocks[i](x, latents[:, i + 1], layers=layer if i == blocks - 1 else 2)
        return x

    def _latents(self, w: Tensor) -> Tensor:
        if w.ndim == 2 and w.shape[1] == self.latent_dim:
            return w[:, None].expand(-1, self.num_latents, -1)
        if w.ndim == 3 and w.shape[1:] == (self.num_latents, self.latent_dim):
            return w
        raise ValueError(
            f"w has shape {tuple(w.shape)}, must be (B, {self.latent_dim}) or "
            f"(B, {self.num_latents}, {self.latent_dim})."
        )
