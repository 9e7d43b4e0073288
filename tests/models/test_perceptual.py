"""Perceptual features in the right colours and scale, and the losses by hand."""

import pytest
import torch
import torch.nn.functional as F

from gan2shape_hub.models.perceptual import PerceptualNetwork, feature_loss, masked_l1


def network(**kwargs):
    torch.manual_seed(0)
    return PerceptualNetwork(widths=(3, 4, 5), **kwargs).requires_grad_(False).eval()


def images(size=16, batch=2, seed=0):
    return torch.rand(batch, 3, size, size, generator=torch.Generator().manual_seed(seed)) * 2 - 1


def test_features_are_vgg16s():
    net, x = network(max_size=64), images()
    # What VGG16 was trained with: blue, green, red in 0..255, less the data's mean.
    red, green, blue = (x.unbind(1)[i] * 127.5 + 127.5 for i in range(3))
    y = torch.stack([blue - 103.939, green - 116.779, red - 123.68], dim=1)
    expected = []
    for number, block in enumerate((net.block1, net.block2, net.block3)):
        y = F.max_pool2d(y, 2) if number else y
        for conv in block:
            y = torch.relu(F.conv2d(y, conv.weight, conv.bias, padding=1))
        expected.append(y)
    maps = net.features(x)
    assert [tuple(f.shape) for f in maps] == [(2, 4, 8, 8), (2, 5, 4, 4)]
    for found, wanted in zip(maps, expected[1:], strict=True):
        assert torch.allclose(found, wanted, rtol=1e-4, atol=1e-4)


def test_large_images_are_averaged_down_first():
    net = network(max_size=8)
    x = images(32)
    for found, wanted in zip(net.features(x), network(max_size=64).features(F.avg_pool2d(x, 4)), strict=True):
        assert torch.allclose(found, wanted, rtol=1e-4, atol=1e-3)
    assert net.features(images(12))[0].shape[-1] == 3  # 12 -> 6


def test_the_caller_s_images_stay_as_they_are_and_get_gradients():
    net, x = network(), images().requires_grad_(True)
    before = x.detach().clone()
    sum(f.square().mean() for f in net.features(x)).backward()
    assert torch.equal(x.detach(), before)
    assert x.grad.abs().sum() > 0


def test_masked_l1_by_hand():
    prediction = torch.tensor([[[[1.0, 2.0]], [[3.0, 5.0]]], [[[0.0, 0.0]], [[0.0, 4.0]]]])  # (2, 2, 1, 2)
    target = torch.zeros_like(prediction)
    assert masked_l1(prediction, target) == pytest.approx(15 / 8)
    mask = torch.tensor([[[[1.0, 0.0]]], [[[1.0, 1.0]]]])
    # Image 1: (1 + 3) / 2 of one pixel; image 2: 4 / 4 of two. Each image counts as much, however small its mask.
    assert masked_l1(prediction, target, mask) == pytest.approx((2 + 1) / 2)
    half = torch.tensor([[[[0.5, 1.0]]], [[[1.0, 1.0]]]])
    assert masked_l1(prediction, target, half) == pytest.approx(((0.5 * 4 + 7) / (1.5 * 2) + 1) / 2)
    assert masked_l1(prediction, target, torch.zeros_like(mask)) == 0  # nothing to see: no NaN


def test_feature_loss_by_hand():
    a = (torch.full((1, 2, 2, 2), 3.0), torch.full((1, 1, 1, 1), 10.0))
    b = (torch.full((1, 2, 2, 2), 2.0), torch.full((1, 1, 1, 1), -5.0))
    # Distance over the target's root mean square, averaged over the maps.
    assert feature_loss(a, b) == pytest.approx((1 / 2 + 15 / 5) / 2)
    left = torch.tensor([[[[1.0, 0.0], [1.0, 0.0]]]])
    a[0][..., 1] = 100  # outside the mask
    assert feature_loss(a[:1], b[:1], left) == pytest.approx(1 / 2)


def test_feature_loss_does_not_depend_on_the_features_scale():
    net, x, y = network(), images(seed=1), images(seed=2)
    maps, wanted = net.features(x), net.features(y)
    loss = feature_loss(maps, wanted)
    assert feature_loss([f * 100 for f in maps], [f * 100 for f in wanted]) == pytest.approx(float(loss), rel=1e-5)
    assert feature_loss(wanted, wanted) == 0
    dark = [torch.zeros_like(f) for f in wanted]
    assert torch.isfinite(feature_loss(maps, dark))


def test_a_mask_of_the_image_is_averaged_to_the_maps():
    net, x = network(), images(32, batch=1)
    y = x.clone()
    y[..., 24:] = -x[..., 24:]
    mask = torch.ones(1, 1, 32, 32)
    mask[..., 8:] = 0
    # Far from the change, features agree, so a mask that keeps to them sees no difference (but for the target's rms,
    # which is over the whole map).
    assert feature_loss(net.features(x)[:1], net.features(y)[:1], mask) < 1e-6
    assert feature_loss(net.features(x)[:1], net.features(y)[:1]) > 1e-3
