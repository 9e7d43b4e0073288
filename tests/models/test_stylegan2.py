"""The generator: mapping in parts, latents of every kind, noise modes, the fast form against the twin."""

import copy
import json

import pytest
import torch

from gan2shape_hub.models import stylegan2
from gan2shape_hub.models.stylegan2 import StyleGAN2Generator, channels_at


def tiny(size=32, **kwargs):
    torch.manual_seed(0)
    generator = StyleGAN2Generator(size, channel_base=16 * size, channel_max=24, latent_dim=20, **kwargs)
    for conv in generator.convs:
        conv.noise_strength.fill_(0.3)
        conv.bias.normal_()
    generator.latent_mean.normal_()
    return generator


def test_channels_of_the_configurations():
    assert channels_at(1024, 32768) == [512, 512, 512, 512, 512, 256, 128, 64, 32]  # config F
    assert channels_at(128, 16384) == [512, 512, 512, 512, 256, 128]  # config E
    with pytest.raises(ValueError, match="image_size is 100"):
        channels_at(100, 16384)


def test_parameter_count_of_config_e_at_128():
    with torch.device("meta"):
        generator = StyleGAN2Generator(128)
    assert generator.num_latents == 12
    convs = 1 * 512 * 512 + 2 * 512 * 512 * 3 + 512 * 256 + 256 * 256 + 256 * 128 + 128 * 128
    assert sum(c.weight.numel() for c in generator.convs) == 9 * convs


def test_mapping_in_parts():
    generator = tiny()
    z = torch.randn(4, 20)
    w = generator.mapping(z)
    for k in range(1, 9):
        assert torch.allclose(generator.mapping(generator.mapping(z, stop=k), start=k), w, atol=1e-6)
    normalised = generator.mapping(z, stop=0)
    assert torch.allclose(normalised.square().mean(1), torch.ones(4), atol=1e-5)
    assert torch.allclose(generator.mapping(z * 7), w, atol=1e-5), "pixel norm removes the length"
    assert not torch.allclose(generator.mapping(z * 7, start=1), generator.mapping(z, start=1))
    with pytest.raises(ValueError):
        generator.mapping(z, start=5, stop=4)


@pytest.mark.parametrize("size", [4, 8, 16, 32, 64])
@pytest.mark.parametrize("clamp", [None, 0.8])
def test_fast_is_the_reference(size, clamp):
    generator = tiny(size, conv_clamp=clamp).double()
    w = generator.mapping(torch.randn(3, 20, dtype=torch.float64))
    fast, plain = generator(w), generator(w, impl="reference")
    assert fast.shape == (3, 3, size, size)
    assert torch.allclose(fast, plain, rtol=1e-8, atol=1e-10)
    assert fast.is_contiguous()


@pytest.mark.parametrize("plus", [False, True])
@pytest.mark.parametrize("split", [False, True])
@pytest.mark.parametrize("clamp", [None, 0.8])
def test_gradients_are_the_reference_s(plus, split, clamp, monkeypatch):
    generator = tiny(32, conv_clamp=clamp).double()
    monkeypatch.setattr(stylegan2, "CHUNK_BYTES", 2000 if split else 2**40)
    assert (generator._first_single_block(3, torch.zeros(1)) < 4) == split
    w = torch.randn(3, *([8] if plus else []), 20, dtype=torch.float64, requires_grad=True)
    cotangent = torch.randn(3, 3, 32, 32, dtype=torch.float64)
    (a,) = torch.autograd.grad(generator(w), w, cotangent)
    (b,) = torch.autograd.grad(generator(w, impl="reference"), w, cotangent)
    assert torch.allclose(a, b, rtol=1e-7, atol=1e-9)


def test_images_one_by_one_are_the_same(monkeypatch):
    generator = tiny()
    w = generator.mapping(torch.randn(3, 20))
    together = generator(w)
    monkeypatch.setattr(stylegan2, "CHUNK_BYTES", 2000)
    assert torch.allclose(generator(w), together, atol=1e-5)
    rng = lambda: torch.Generator().manual_seed(3)  # noqa: E731
    drawn = generator(w, noise="random", generator=rng())
    monkeypatch.setattr(stylegan2, "CHUNK_BYTES", 2**40)
    assert torch.allclose(generator(w, noise="random", generator=rng()), drawn, atol=1e-5)


def test_noise_modes():
    generator = tiny()
    w = generator.mapping(torch.randn(2, 20))
    assert torch.equal(generator(w), generator(w))
    assert not torch.allclose(generator(w), generator(w, noise="none"))
    seeded = [generator(w, noise="random", generator=torch.Generator().manual_seed(s)) for s in (1, 1, 2)]
    assert torch.equal(seeded[0], seeded[1])
    assert not torch.allclose(seeded[0], seeded[2])
    same = generator(w[:1].expand(2, -1), noise="random", generator=torch.Generator().manual_seed(1))
    assert not torch.allclose(same[0], same[1]), "every image has its own noise"
    with pytest.raises(ValueError, match=r"needs a torch\.Generator"):
        generator(w, noise="random")
    with pytest.raises(ValueError, match="noise is 'fixed'"):
        generator(w, noise="fixed")
    with pytest.raises(ValueError, match="impl is 'cuda'"):
        generator(w, impl="cuda")


def test_w_and_w_plus_and_mixing():
    generator = tiny()
    w = generator.mapping(torch.randn(4, 20))
    plus = generator.broadcast(w)
    assert plus.shape == (4, generator.num_latents, 20)
    assert torch.allclose(generator(plus), generator(w), atol=1e-6)
    mixed = generator.mix(w[:2], w[2:], crossover=3)
    assert torch.equal(mixed[:, :3], plus[:2, :3])
    assert torch.equal(mixed[:, 3:], plus[2:, 3:])
    with pytest.raises(ValueError, match="w has shape"):
        generator(torch.zeros(2, 3, 20))


def test_image_at_other_sizes():
    generator = tiny()
    w = torch.randn(2, 20)
    image = generator(w)
    assert torch.equal(generator.image_at(w, 32), image)
    half = image.unflatten(3, (16, 2)).unflatten(2, (16, 2)).mean((3, 5))
    assert torch.allclose(generator.image_at(w, 16), half, atol=1e-6)
    assert generator.image_at(w, 64).shape == (2, 3, 64, 64)


def test_truncation():
    generator = tiny()
    w = torch.randn(2, 20)
    assert torch.allclose(generator.truncate(w, 1.0), w, atol=1e-6)
    assert torch.allclose(generator.truncate(w, 0.0), generator.latent_mean.expand(2, -1))
    half = generator.truncate(generator.broadcast(w), 0.5)
    assert torch.allclose(half[:, 0], (w + generator.latent_mean) / 2)


def test_a_changed_weight_is_noticed():
    """Frozen weights are packed once; whatever way they change, the packing follows."""
    generator = tiny()
    w = torch.randn(1, 20)
    generator(w)
    for change in (
        lambda p: p.mul_(torch.randn_like(p)),
        lambda p: p.data.mul_(torch.randn_like(p)),
        lambda p: setattr(p, "data", torch.randn_like(p)),
    ):
        for conv in generator.convs:
            change(conv.weight)
        assert torch.allclose(generator(w), generator(w, impl="reference"), atol=1e-4)
    twin = copy.deepcopy(generator)
    twin.load_state_dict(tiny(32).state_dict())
    assert torch.allclose(twin(w), tiny(32)(w), atol=1e-5)


def test_fine_tuning():
    generator = tiny()
    assert not any(p.requires_grad for p in generator.parameters())
    w = torch.randn(2, 20)
    frozen = generator(w)
    generator.requires_grad_(True)
    images = generator(w)
    assert torch.allclose(images, frozen, atol=1e-5)
    images.square().mean().backward()
    used = {n for n, p in generator.named_parameters() if not n.startswith("mapping.")}
    assert all(p.grad is not None for n, p in generator.named_parameters() if n in used)


def test_inference_mode_and_bfloat16_autocast():
    generator = tiny()
    w = torch.randn(2, 20)
    exact = generator(w)
    with torch.inference_mode():
        assert torch.allclose(generator(w), exact, atol=1e-6)
    with torch.autocast("cpu", torch.bfloat16):
        v = w.clone().requires_grad_()
        rough = generator(v)
        rough.float().sum().backward()
    assert rough.dtype == torch.float32, "images add up in the latents' precision"
    assert (rough - exact).abs().max() < 0.1 * exact.abs().max()
    assert torch.isfinite(v.grad).all()


def test_half_precision_module():
    generator = tiny()
    w = torch.randn(2, 20)
    exact = generator(w)
    rough = generator.to(torch.bfloat16)(w.to(torch.bfloat16))
    assert rough.dtype == torch.bfloat16
    assert (rough.float() - exact).abs().max() < 0.2 * exact.abs().max()


def test_config_round_trip():
    generator = tiny(16, conv_clamp=256.0, mapping_layers=2, demod_eps_per_fan_in=True)
    again = StyleGAN2Generator.from_config(json.loads(json.dumps(generator.config)))
    again.load_state_dict(generator.state_dict(), strict=True)
    w = again.mapping(torch.randn(1, 20))
    assert torch.equal(again(w), generator(w))
    with pytest.raises(ValueError, match="channels has 2 widths"):
        StyleGAN2Generator(16, channels=[4, 4])
