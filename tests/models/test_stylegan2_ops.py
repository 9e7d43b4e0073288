"""Resampling and modulated convolution: explicit loops, per-sample weights, gradients."""

import pytest
import torch
import torch.nn.functional as F

from gan2shape_hub.models import stylegan2_ops as ops
from gan2shape_hub.models.stylegan2_reference import per_sample_conv


def upfirdn_loop(x, kernel, up, down, pad):
    """The definition, one output pixel at a time (a true convolution: the kernel is read backwards)."""
    h, w = x.shape
    kh, kw = kernel.shape
    inserted = torch.zeros(h * up, w * up, dtype=x.dtype)
    for i in range(h):
        for j in range(w):
            inserted[i * up, j * up] = x[i, j]
    big = torch.zeros(h * up + sum(pad), w * up + sum(pad), dtype=x.dtype)
    big[pad[0] : pad[0] + h * up, pad[0] : pad[0] + w * up] = inserted
    rows = range(0, big.shape[0] - kh + 1, down)
    columns = range(0, big.shape[1] - kw + 1, down)
    out = torch.zeros(len(rows), len(columns), dtype=x.dtype)
    for a, i in enumerate(rows):
        for b, j in enumerate(columns):
            for p in range(kh):
                for q in range(kw):
                    out[a, b] += kernel[kh - 1 - p, kw - 1 - q] * big[i + p, j + q]
    return out


@pytest.mark.parametrize(
    ("up", "down", "pad"), [(1, 1, (1, 1)), (2, 1, (2, 1)), (1, 2, (1, 1)), (2, 1, (0, 3)), (3, 2, (1, 2))]
)
def test_upfirdn2d_is_its_definition(up, down, pad):
    x = torch.randn(2, 3, 5, 4, dtype=torch.float64)
    kernel = torch.randn(3, 4, dtype=torch.float64)  # asymmetric: a flip would show
    y = ops.upfirdn2d(x, kernel, up, down, pad)
    for b in range(2):
        for c in range(3):
            assert torch.allclose(y[b, c], upfirdn_loop(x[b, c], kernel, up, down, pad))


def test_fir_kernel_by_hand():
    kernel = ops.fir_kernel(1.0, torch.zeros(1))
    assert kernel[0].tolist() == [1 / 64, 3 / 64, 3 / 64, 1 / 64]
    assert kernel[1].tolist() == [3 / 64, 9 / 64, 9 / 64, 3 / 64]
    assert ops.fir_kernel(4.0, torch.zeros(1)).sum() == 4


@pytest.mark.parametrize(("pad", "stride"), [(1, 1), (2, 1), (1, 2)])
def test_blur_is_upfirdn(pad, stride):
    x = torch.randn(2, 3, 8, 8, dtype=torch.float64)
    expected = ops.upfirdn2d(x, ops.fir_kernel(4.0, x), down=stride, pad=(pad, pad))
    assert torch.allclose(ops.blur(x, pad, gain=4.0, stride=stride), expected)


def test_upsample_image_is_upfirdn():
    x = torch.randn(2, 3, 6, 6, dtype=torch.float64)
    expected = ops.upfirdn2d(x, ops.fir_kernel(4.0, x), up=2, pad=(2, 1))
    assert torch.allclose(ops.upsample_image(x), expected)


def test_upsample_image_by_hand():
    """A constant stays itself inside; next to the border the filter reaches over it."""
    y = ops.upsample_image(torch.ones(1, 1, 4, 4))
    assert torch.allclose(y[0, 0, 3], torch.tensor([0.75, 1, 1, 1, 1, 1, 1, 0.75]))
    assert torch.allclose(y[0, 0, 0, 0], torch.tensor(0.75**2))


def test_upsampling_convolution_scatters_unflipped():
    """One pixel of 1 in the middle: before the low-pass the result is the kernel itself, at twice the position."""
    weight = torch.arange(1.0, 10).view(1, 1, 3, 3)
    x = torch.zeros(1, 1, 3, 3)
    x[0, 0, 1, 1] = 1
    scattered = torch.zeros(1, 1, 7, 7)
    scattered[0, 0, 2:5, 2:5] = weight[0, 0]
    expected = ops.upfirdn2d(scattered, ops.fir_kernel(4.0, x), pad=(1, 1))
    ours = ops._convolve(x, ops.pack_weight(weight, up=True), up=True)
    assert torch.allclose(ours, expected)
    assert not torch.allclose(ours, expected.flip(2, 3)), "the kernel is asymmetric"
    plain = ops._convolve(x, ops.pack_weight(weight, up=False), up=False)
    assert torch.allclose(plain[0, 0], weight[0, 0].flip(0, 1)), "correlation mirrors an impulse"


def layer(up, dtype=torch.float64, batch=2, noise_batch=1):
    torch.manual_seed(0)
    c_in, c_out, size = 3, 5, 6
    out = 2 * size if up else size
    make = lambda *shape: torch.randn(shape, dtype=dtype)  # noqa: E731
    return dict(
        x=make(batch, c_in, size, size),
        style=1 + 0.5 * make(batch, c_in),
        demod=0.5 + make(batch, c_out).abs(),
        weight=make(c_out, c_in, 3, 3),
        bias=make(c_out),
        noise=make(noise_batch, 1, out, out),
    )


def twin(x, style, demod, weight, bias, noise, up, clamp):
    per_sample = weight * style[:, None, :, None, None] * demod[:, :, None, None, None]
    y = per_sample_conv(x, per_sample, up) + bias[:, None, None]
    y = F.leaky_relu(y if noise is None else y + noise, 0.2)
    return y if clamp is None else y.clamp(-clamp, clamp)


@pytest.mark.parametrize("up", [False, True])
@pytest.mark.parametrize("clamp", [None, 1.5])
@pytest.mark.parametrize("noise", [0, 1, 2])
def test_modulated_conv_and_gradients_match_per_sample_weights(up, clamp, noise):
    inputs = layer(up, noise_batch=max(noise, 1))
    if noise == 0:
        inputs["noise"] = None
    wanted = ("x", "style", "demod")
    values, gradients = [], []
    cotangent = None
    for function, packed in ((ops.modulated_conv, True), (twin, False)):
        given = {k: v.clone().requires_grad_(k in wanted) if v is not None else None for k, v in inputs.items()}
        leaves = [given[k] for k in wanted]
        if packed:
            given["weight"] = ops.pack_weight(given["weight"], up)
        y = function(**given, up=up, clamp=clamp)
        cotangent = torch.randn_like(y) if cotangent is None else cotangent
        values.append(y)
        gradients.append(torch.autograd.grad(y, leaves, cotangent))
    assert torch.allclose(*values)
    for a, b in zip(*gradients, strict=True):
        assert torch.allclose(a, b)


@pytest.mark.parametrize("up", [False, True])
def test_frozen_gradcheck(up):
    inputs = layer(up)
    given = [inputs[k].requires_grad_() for k in ("x", "style", "demod")]
    weight = ops.pack_weight(inputs["weight"], up)

    def run(x, style, demod):
        return ops.modulated_conv(x, style, demod, weight, inputs["bias"], inputs["noise"], up, None)

    assert torch.autograd.gradcheck(run, given)


def test_trainable_weights_take_the_composed_path():
    inputs = layer(True)
    weight = inputs.pop("weight").requires_grad_()
    y = ops.modulated_conv(**inputs, weight=ops.pack_weight(weight, True), up=True, clamp=None)
    y.sum().backward()
    assert weight.grad.abs().sum() > 0
    frozen = ops.modulated_conv(**inputs, weight=ops.pack_weight(weight.detach(), True), up=True, clamp=None)
    assert torch.allclose(y, frozen)
