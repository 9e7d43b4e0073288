"""The discriminator: features stop where asked, minibatch statistics by hand, refusals that name the argument."""

import json

import pytest
import torch

from gan2shape_hub.models.stylegan2_discriminator import StyleGAN2Discriminator


def tiny(size=32, **kwargs):
    torch.manual_seed(0)
    return StyleGAN2Discriminator(size, channel_base=16 * size, channel_max=24, **kwargs)


def test_shapes():
    d = tiny(64)
    x = torch.randn(2, 3, 64, 64)
    assert d(x).shape == (2, 1)
    assert [f.shape[-1] for f in d.features(x, 4)] == [32, 16, 8, 4]
    assert d.num_features == 4


def test_features_run_no_further():
    d = tiny(32)
    ran = []
    for i, block in enumerate(d.blocks):
        block.register_forward_hook(lambda *_, i=i: ran.append(i))
    maps = d.features(torch.randn(1, 3, 32, 32), 2)
    assert ran == [0, 1]
    assert len(maps) == 2


def test_feature_zero_is_the_first_block_s_output():
    d = tiny(32)
    x = torch.randn(1, 3, 32, 32)
    first = []
    d.blocks[0].register_forward_hook(lambda _, __, out: first.append(out))
    assert torch.equal(d.features(x, 1)[0], first[0])
    assert first[0].shape[-1] == 16


def test_minibatch_stddev_by_hand():
    d = tiny(8, mbstd_group=2)
    x = torch.randn(4, 6, 4, 4)
    y = d._with_stddev(x)
    assert torch.equal(y[:, :6], x)
    pair = torch.stack([x[0], x[2]])  # of 4 images in groups of 2: images 0 and 2, 1 and 3
    expected = (pair.var(0, unbiased=False) + 1e-8).sqrt().mean()
    assert torch.allclose(y[0, 6], expected.expand(4, 4))
    assert torch.allclose(y[2, 6], y[0, 6])
    assert not torch.allclose(y[1, 6], y[0, 6])


def test_any_batch_is_accepted():
    d = tiny(8)
    for batch in (1, 3, 6, 7):
        assert d(torch.randn(batch, 3, 8, 8)).shape == (batch, 1)


def test_features_do_not_depend_on_neighbours():
    d = tiny(16)
    x = torch.randn(3, 3, 16, 16)
    assert torch.allclose(d.features(x, 2)[1][:1], d.features(x[:1], 2)[1], atol=1e-6)


def test_gradient_reaches_the_image():
    d = tiny(16, conv_clamp=256.0).double()
    x = torch.randn(2, 3, 16, 16, dtype=torch.float64, requires_grad=True)
    assert not any(p.requires_grad for p in d.parameters())
    assert torch.autograd.gradcheck(lambda v: d.features(v, 2)[1].sum((2, 3)), x, fast_mode=True)


def test_refusals():
    d = tiny(32)
    x = torch.randn(1, 3, 32, 32)
    for n in (0, 4):
        with pytest.raises(ValueError, match="must be 1 to 3"):
            d.features(x, n)
    with pytest.raises(ValueError, match="x has shape"):
        d(x[:, :, ::2, ::2])
    with pytest.raises(ValueError, match="multiples of 4"):
        d.features(x[:, :, :30], 2)


def test_features_of_images_of_another_size():
    d = tiny(32)
    x = torch.randn(1, 3, 64, 64)
    maps = d.features(x, 2)
    assert [f.shape[-1] for f in maps] == [32, 16]
    # Far from the border a map does not know how large the image is.
    crop = d.features(x[:, :, :32, :32], 1)[0]
    assert torch.allclose(crop[..., :12, :12], maps[0][..., :12, :12], atol=1e-5)


def test_config_round_trip():
    d = tiny(16, mbstd_group=8, conv_clamp=256.0)
    again = StyleGAN2Discriminator.from_config(json.loads(json.dumps(d.config)))
    again.load_state_dict(d.state_dict(), strict=True)
    x = torch.randn(2, 3, 16, 16)
    assert torch.equal(again(x), d(x))
