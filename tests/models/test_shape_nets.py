"""Shape nets: the released tensor tables, widths and sizes, and the order of layers in hand-checked places."""

import json
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from gan2shape_hub.models.shape_nets import EDDeconv, Encoder, ResBlockDown, ResEncoder

TABLES = Path(__file__).parents[1] / "data" / "released_layouts.txt"


def released(section):
    """name -> shape of one section of the table of released tensors."""
    lines = TABLES.read_text().split(f"[{section}]\n")[1].split("\n\n")[0].splitlines()
    rows = [line.split() for line in lines if line.strip()]
    return {name: () if shape == "scalar" else tuple(int(n) for n in shape.split("x")) for name, shape in rows}


def layout(net):
    return {name: tuple(t.shape) for name, t in net.state_dict().items()}


@pytest.mark.parametrize("size", [64, 128])
def test_released_layouts(size):
    assert layout(EDDeconv(3, 1, size)) == released(f"gan2shape netD at {size}")
    assert layout(Encoder(3, 6, size)) == released(f"gan2shape netV at {size}")
    assert layout(ResEncoder(3, 512, size)) == released(f"gan2shape netEnc at {size}")


def test_released_group_counts():
    groups = [m.num_groups for m in EDDeconv(3, 1, 128).modules() if isinstance(m, nn.GroupNorm)]
    assert groups == [8, 16, 32, 64, 64, 64, 32, 32, 16, 16, 8, 8, 8, 8]
    assert next(m.num_groups for m in EDDeconv(3, 1, 64).modules() if isinstance(m, nn.GroupNorm)) == 16


def test_parameter_counts():
    count = lambda net: sum(p.numel() for p in net.parameters()) / 1e6  # noqa: E731
    assert count(EDDeconv(3, 1, 128)) == pytest.approx(12.9, abs=0.05)
    assert count(Encoder(3, 6, 128)) == pytest.approx(7.0, abs=0.05)
    assert count(ResEncoder(3, 512, 128)) == pytest.approx(13.8, abs=0.05)


@pytest.mark.parametrize(("size", "nf"), [(32, 8), (64, 4), (128, 8), (256, 8), (32, 6)])
def test_sizes_and_widths(size, nf):
    x = torch.randn(2, 3, size, size)
    assert EDDeconv(3, 1, size, nf=nf, norm_groups=2, bottleneck=16)(x).shape == (2, 1, size, size)
    assert Encoder(3, 4, size, nf=nf)(x).shape == (2, 4)
    assert ResEncoder(3, 10, size, nf=nf)(x).shape == (2, 10)


def test_activations():
    x = torch.randn(2, 3, 32, 32)
    for net in (EDDeconv(3, 3, 32, nf=8, activation="tanh"), Encoder(3, 6, 32, nf=8)):
        for p in net.parameters():
            p.data.mul_(20)
        assert net(x).abs().max() <= 1
        assert isinstance(list(net.modules())[-1], nn.Tanh)
    assert not any(isinstance(m, nn.Tanh) for m in EDDeconv(3, 1, 32, nf=8).modules())
    assert not any(isinstance(m, nn.Tanh) for m in ResEncoder(3, 8, 32, nf=8).modules())


def test_residual_block_shortcut_is_rectified():
    block = ResBlockDown(2, 3).double()
    x = torch.randn(1, 2, 8, 8, dtype=torch.float64)
    r = x.clamp(min=0)
    pooled = (r[..., ::2, ::2] + r[..., 1::2, ::2] + r[..., ::2, 1::2] + r[..., 1::2, 1::2]) / 4
    shortcut = (
        torch.einsum("oi,bihw->bohw", block.conv_sc.weight[..., 0, 0], pooled) + block.conv_sc.bias[:, None, None]
    )
    main = F.conv2d(F.conv2d(r, block.conv1.weight, stride=2, padding=1).clamp(min=0), block.conv2.weight, padding=1)
    assert torch.allclose(block(x), shortcut + main)
    assert x.min() < 0, "the input must be left as it was"


@pytest.mark.parametrize(
    "net", [EDDeconv(3, 3, 32, nf=8, activation="tanh"), Encoder(3, 4, 32, nf=8), ResEncoder(3, 7, 32, nf=4)]
)
def test_config_round_trip(net):
    twin = type(net).from_config(json.loads(json.dumps(net.config)))
    twin.load_state_dict(net.state_dict())
    x = torch.randn(1, 3, 32, 32)
    assert torch.equal(twin(x), net(x))
    with pytest.raises(ValueError, match="no argument 'zdim'"):
        type(net).from_config({"zdim": 3})


def test_bad_arguments_are_named():
    with pytest.raises(ValueError, match="image_size is 48"):
        Encoder(3, 6, 48)
    with pytest.raises(ValueError, match="image_size is 512"):
        EDDeconv(3, 1, 512)
    with pytest.raises(ValueError, match="must divide nf"):
        EDDeconv(3, 1, 32, nf=6, norm_groups=4)
    with pytest.raises(ValueError, match="activation is 'relu'"):
        EDDeconv(3, 1, 32, activation="relu")
    with pytest.raises(ValueError, match="takes images"):
        Encoder(3, 6, 32, nf=4)(torch.zeros(1, 3, 64, 64))
