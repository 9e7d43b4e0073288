"""Resampling and modulated convolution of StyleGAN2 in plain PyTorch.

Two forms of the modulated convolution live here. ``modulated_conv`` scales the activations by the style, convolves
once with weights shared by the batch, and scales by the demodulation: exact, and several times faster than giving
every sample its own weights (that formulation is the readable twin in ``stylegan2_reference.py``). Where the weights
are frozen, as everywhere in GAN2Shape, it is one autograd node that works in place and computes only the gradients
of activations, styles and demodulation.

Weights are correlated (``torch.nn.functional.conv2d``), never flipped; an upsampling layer scatters them
(``u[2 i + k] += w[k] x[i]``) and low-passes the result. Karras et al., "Analyzing and Improving the Image Quality of
StyleGAN", CVPR 2020, appendix B.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

FIR_TAPS = (1.0, 3.0, 3.0, 1.0)
SLOPE = 0.2
"""Slope of the leaky ReLU."""


def fir_kernel(gain: float, like: Tensor) -> Tensor:
    """The (4, 4) low-pass [1, 3, 3, 1] x [1, 3, 3, 1] of sum ``gain``, on the device and in the dtype of ``like``."""
    taps = torch.tensor(FIR_TAPS, device=like.device, dtype=like.dtype)
    return torch.outer(taps, taps) * (gain / sum(FIR_TAPS) ** 2)


def upfirdn2d(x: Tensor, kernel: Tensor, up: int = 1, down: int = 1, pad: tuple[int, int] = (0, 0)) -> Tensor:
    """Insert ``up - 1`` zeros after every pixel, pad (before, after) with zeros, convolve, keep each ``down``-th pixel.

    x (B, C, H, W), kernel (kh, kw), padding in pixels of the upsampled image, the same for rows and columns ->
    (B, C, H', W') with ``H' = (H up + sum(pad) - kh) // down + 1``. The kernel is flipped: a true convolution.
    General and slow; the layers use the specialised forms below, the tests compare them with this.
    """
    b, c, h, w = x.shape
    x = F.pad(x.reshape(b, c, h, 1, w, 1), (0, up - 1, 0, 0, 0, up - 1)).reshape(b, c, h * up, w * up)
    x = F.pad(x, (pad[0], pad[1], pad[0], pad[1]))
    weight = kernel.flip(0, 1).to(x.dtype).expand(c, 1, -1, -1)
    return F.conv2d(x, weight, groups=c)[:, :, ::down, ::down]


def blur(x: Tensor, pad: int, gain: float = 1.0, stride: int = 1) -> Tensor:
    """Low-pass with [1, 3, 3, 1] in both directions: (B, C, H, W) -> (B, C, (H + 2 pad - 4) // stride + 1, ...).

    One depthwise 4 x 4 convolution: in channels-last memory it runs at the speed of memory, and was measured as fast
    as two one-dimensional passes (5.5 against 6.0 ms for two maps of 128 x 128 x 128 on one core), without their
    intermediate. The kernel is symmetric, so no flip is needed and the operation is its own adjoint.
    """
    c = x.shape[1]
    return F.conv2d(x, fir_kernel(gain, x).expand(c, 1, 4, 4), stride=stride, padding=pad, groups=c)


def upsample_image(image: Tensor) -> Tensor:
    """Double the size of an image with the [1, 3, 3, 1] filter: (B, C, H, W) -> (B, C, 2 H, 2 W)."""
    c = image.shape[1]
    kernel = fir_kernel(4.0, image).expand(c, 1, 4, 4)
    return F.conv_transpose2d(image, kernel, stride=2, padding=1, groups=c)


def pack_weight(weight: Tensor, up: bool) -> Tensor:
    """Weight (C_out, C_in, k, k) in the order and memory layout that ``modulated_conv`` wants."""
    return (weight.transpose(0, 1) if up else weight).contiguous(memory_format=memory_format(weight))


def memory_format(x: Tensor) -> torch.memory_format:
    """Channels-last on CPUs and for half precision on GPUs, where it is faster; plain elsewhere."""
    if x.device.type == "cpu" or x.dtype in (torch.float16, torch.bfloat16):
        return torch.channels_last
    return torch.contiguous_format


def modulated_conv(
    x: Tensor,
    style: Tensor,
    demod: Tensor,
    weight: Tensor,
    bias: Tensor,
    noise: Tensor | None,
    up: bool,
    clamp: float | None,
) -> Tensor:
    """``clamp(leaky_relu(conv(x * style) * demod + noise + bias))``, the whole StyleGAN2 layer.

    x (B, C_in, H, W); style (B, C_in); demod (B, C_out), the activation's gain included; weight as packed by
    ``pack_weight``; bias (C_out); noise (1 or B, 1, S, S) or None -> (B, C_out, S, S), S = 2 H where ``up``.
    Gradients flow to x, style and demod, and to weight, bias and noise where those require them.
    """
    trained = weight.requires_grad or bias.requires_grad or (noise is not None and noise.requires_grad)
    if not (trained and torch.is_grad_enabled()):
        return _FrozenModulatedConv.apply(x, style, demod, weight, bias, noise, up, clamp)
    y = _convolve(x * style.to(x.dtype)[:, :, None, None], weight, up)
    y = y * demod.to(x.dtype)[:, :, None, None] + bias.to(x.dtype)[:, None, None]
    y = F.leaky_relu(y if noise is None else y + noise.to(x.dtype), SLOPE)
    return y if clamp is None else y.clamp(-clamp, clamp)


def _convolve(x: Tensor, weight: Tensor, up: bool) -> Tensor:
    if not up:
        return F.conv2d(x, weight, padding=weight.shape[-1] // 2)
    return blur(F.conv_transpose2d(x, weight, stride=2), pad=1, gain=4.0)


def _convolve_adjoint(grad: Tensor, weight: Tensor, up: bool) -> Tensor:
    if not up:
        return F.conv_transpose2d(grad, weight, padding=weight.shape[-1] // 2)
    return F.conv2d(blur(grad, pad=2, gain=4.0), weight, stride=2)


def _pixel_sum(a: Tensor, weight: Tensor | None = None) -> Tensor:
    """Sum of ``a`` (B, C, H, W) over the pixels, weighted by (1 or B, 1, H, W) where given -> (B, C).

    Accumulated in float32 where ``a`` is in half precision.
    """
    rows = a.permute(0, 2, 3, 1).flatten(1, 2)
    if a.dtype in (torch.float16, torch.bfloat16) or not rows.is_contiguous():
        dtype = torch.promote_types(a.dtype, torch.float32)
        return (a if weight is None else a * weight).sum((2, 3), dtype=dtype)
    # In channels-last memory a matrix product beats the reduction, and needs no weighted copy.
    weights = rows.new_ones(1, rows.shape[1]) if weight is None else weight.to(a.dtype).flatten(1)[:, None]
    return (weights @ rows).squeeze(1)


class _FrozenModulatedConv(torch.autograd.Function):
    """``modulated_conv`` with constant weight, bias and noise; saves its input and output only."""

    @staticmethod
    def forward(ctx, x, style, demod, weight, bias, noise, up, clamp):
        scaled = x * style.to(x.dtype)[:, :, None, None]
        y = _convolve(scaled.contiguous(memory_format=memory_format(x)), weight, up)
        y.mul_(demod.to(x.dtype)[:, :, None, None])
        if noise is not None:
            y.add_(noise.to(x.dtype))
        F.leaky_relu_(y.add_(bias.to(x.dtype)[:, None, None]), SLOPE)
        if clamp is not None:
            y.clamp_(-clamp, clamp)
        ctx.save_for_backward(x, style, demod, weight, bias, noise, y)
        ctx.up, ctx.clamp = up, clamp
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx, grad):
        x, style, demod, weight, bias, noise, y = ctx.saved_tensors
        if ctx.clamp is not None:
            grad = grad * (y.abs() < ctx.clamp)
        grad = grad.contiguous(memory_format=memory_format(x))
        # The convolution's output is not kept. With g the gradient before the activation and p = conv * demod + noise
        # + bias the activation's input, g p = grad y (leaky ReLU is homogeneous), so that
        # sum g conv = (sum grad y - sum g noise - bias sum g) / demod.
        buffer = grad * y  # large maps are written over one another: fresh memory is what takes the time
        moved = _pixel_sum(buffer)
        g = torch.ops.aten.leaky_relu_backward.grad_input(grad, y, SLOPE, True, grad_input=buffer)
        grad_demod = None
        if ctx.needs_input_grad[2]:
            moved = moved - bias * _pixel_sum(g)
            if noise is not None:
                moved = moved - _pixel_sum(g, noise)
            grad_demod = (moved / demod).to(demod.dtype)
        g.mul_(demod.to(g.dtype)[:, :, None, None])
        g = _convolve_adjoint(g, weight, ctx.up)
        grad_style = grad_x = None
        if ctx.needs_input_grad[1]:
            same = buffer.shape == g.shape and buffer.stride() == g.stride()
            grad_style = _pixel_sum(torch.mul(g, x, out=buffer if same else None)).to(style.dtype)
        if ctx.needs_input_grad[0]:
            grad_x = g.mul_(style.to(g.dtype)[:, :, None, None])
        return grad_x, grad_style, grad_demod, None, None, None, None, None
