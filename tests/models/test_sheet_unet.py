"""The depth and albedo network with skips and a template."""

import pytest
import torch

from gan2shape_hub.models.sheet_unet import SheetUNet


def net(**changes):
    torch.manual_seed(0)
    return SheetUNet(**{"image_size": 32, "nf": 8, "skip": 8, "resolution": 16, **changes})


def test_shapes_and_configuration_round_trip():
    for changes in ({}, {"out_channels": 3, "activation": "tanh", "resolution": 32, "skip": 32}, {"template": False}):
        one = net(**changes)
        out = one(torch.rand(2, 3, 32, 32) * 2 - 1)
        assert out.shape == (2, one.config["out_channels"], 32, 32)
        other = SheetUNet.from_config(one.config)
        other.load_state_dict(one.state_dict())
        x = torch.rand(1, 3, 32, 32)
        assert torch.equal(other(x), one(x))
    assert net(out_channels=3, activation="tanh")(torch.rand(1, 3, 32, 32)).abs().max() <= 1


def test_the_template_is_what_images_have_in_common():
    one, x = net(), torch.rand(2, 3, 32, 32)
    before = one(x)
    with torch.no_grad():
        one.template += 3
    assert torch.allclose(one(x), before + 3, atol=1e-5)


def test_every_part_learns_and_images_differ():
    one, x = net(), torch.rand(2, 3, 32, 32) * 2 - 1
    out = one(x)
    assert (out[0] - out[1]).abs().max() > 1e-3
    out.square().sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in one.parameters())


def test_fine_features_do_not_reach_the_decoder_directly():
    assert net(skip=8).up[-1].conv.in_channels < net(skip=16).up[-1].conv.in_channels


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"image_size": 24}, "image_size"),
        ({"skip": 12}, "skip"),
        ({"resolution": 64}, "resolution"),
        ({"activation": "relu"}, "activation"),
    ],
)
def test_impossible_arguments_are_named(changes, named):
    with pytest.raises(ValueError, match=named):
        net(**changes)


def test_another_size_is_refused():
    with pytest.raises(ValueError, match="32"):
        net()(torch.rand(1, 3, 64, 64))
