"""What the brightness of many differently lit heads says of their shape."""

import pytest
import torch
from conftest import tiny_config
from shape_run import tiny_nets, tiny_pool, train

from gan2shape_hub.rendering.renderer import raw_to_depth
from gan2shape_hub.rendering.shading import Light, normals_from_depth, shade
from gan2shape_hub.training.lighting import REDUCTION, LitHeads, collect_lit_heads, lighting_loss, load_lit_heads
from gan2shape_hub.training.multiview import multiview_loss
from gan2shape_hub.training.recipe import MultiviewLoss

SIZE = 32


def dome(across=0.3, along=0.3):
    """Canonical depth (1, S, S) of a bump with these squared widths."""
    axis = torch.linspace(-1, 1, SIZE)
    raw = -2 * torch.exp(-(axis[:, None] ** 2) / along - axis**2 / across)[None, None]
    return raw_to_depth(raw, tiny_config().camera)


def lit(depth, count=40):
    """``depth`` as matte, evenly coloured heads under ``count`` lights, over the average of them."""
    rng = torch.Generator().manual_seed(0)
    light = Light.from_output(torch.rand(count, 4, generator=rng) * torch.tensor([0.4, 0.4, 0.8, 0.8]) - 0.2)
    normals = normals_from_depth(depth, tiny_config().camera).expand(count, -1, -1, -1)
    bright = shade(torch.zeros(count, 3, SIZE, SIZE), normals, light)[0].mean(dim=1) + 1
    bright = torch.nn.functional.avg_pool2d(bright, REDUCTION)
    bright = bright / bright.mean(dim=(1, 2), keepdim=True)
    return LitHeads(bright / bright.mean(dim=0), torch.ones_like(bright), torch.full(bright.shape[1:], 0.03))


def test_the_shape_that_was_lit_explains_its_brightness_best():
    heads, config = lit(dome()), tiny_config()
    which = torch.arange(len(heads))[None]
    true = lighting_loss(heads, which, dome(), config).item()
    ridge, valley = dome(across=0.05), dome(along=0.05)
    assert true < 0.1 * lighting_loss(heads, which, ridge, config).item()
    assert true < 0.1 * lighting_loss(heads, which, valley, config).item()
    assert true < 0.1 * lighting_loss(heads, which, dome().flip(-1).roll(8, dims=-1), config).item()


def test_exposure_and_light_cost_nothing():
    heads, config, which = lit(dome()), tiny_config(), torch.arange(40)[None]
    other = LitHeads(heads.brightness * 0.5, heads.seen, heads.spread)
    assert (
        lighting_loss(other, which, dome(), config).item() < lighting_loss(heads, which, dome(), config).item() + 1e-4
    )


def test_pixels_that_are_not_seen_or_not_plain_say_less():
    heads, config, which = lit(dome()), tiny_config(), torch.arange(40)[None]
    spoilt = heads.brightness.clone()
    spoilt[:, :2] += torch.rand(40, 2, 8, generator=torch.Generator().manual_seed(1))
    plain = lighting_loss(LitHeads(spoilt, heads.seen, heads.spread), which, dome(), config).item()
    seen, spread = heads.seen.clone(), heads.spread.clone()
    seen[:, :2], spread[:2] = 0, 1.0
    assert lighting_loss(LitHeads(spoilt, seen, heads.spread), which, dome(), config).item() < 0.1 * plain
    assert lighting_loss(LitHeads(spoilt, heads.seen, spread), which, dome(), config).item() < 0.1 * plain


def test_light_shapes_what_it_falls_on():
    heads, config, which = lit(dome()), tiny_config(), torch.arange(40)[None]
    start = dome(across=0.08)
    change = torch.zeros_like(start).requires_grad_()
    optimizer = torch.optim.Adam([change], lr=2e-4)
    losses = []
    for _ in range(120):
        optimizer.zero_grad()
        loss = lighting_loss(heads, which, start + change, config)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.5 * losses[0]


def test_heads_are_collected_once_in_the_average_frame(tmp_path):
    config, said = tiny_config(), []
    pool, nets = tiny_pool(identities=4), tiny_nets()
    heads = load_lit_heads(tmp_path / "lit.safetensors", pool, nets, config, said.append)
    count = len(heads)
    assert 0 < count <= 2 * 4 * 4
    assert heads.brightness.shape == (count, SIZE // REDUCTION, SIZE // REDUCTION)
    mirrored, rest = heads.brightness[: count // 2].flip(-1), heads.brightness[count // 2 :]
    assert torch.allclose(mirrored, rest, rtol=1e-4), "mirrored, too"
    average = (heads.brightness * heads.seen).sum(dim=0) / heads.seen.sum(dim=0).clamp_min(1)
    assert average[heads.seen.sum(dim=0) > 0] == pytest.approx(1, abs=1e-3)
    other = tiny_pool(identities=4)
    other.images.zero_()
    again = load_lit_heads(tmp_path / "lit.safetensors", other, nets, config, said.append)
    assert torch.equal(again.brightness, heads.brightness)
    assert len(said) == 1
    assert len(collect_lit_heads(pool, nets, config, identities=2)) <= 16


def test_light_is_a_term_of_the_training():
    config, nets, pool = tiny_config(), tiny_nets(), tiny_pool()
    heads = collect_lit_heads(pool, nets, config)
    views = pool.floats(torch.tensor([[0], [1]]), torch.tensor([[0, 1, 2], [1, 2, 3]]))
    nets.train("depth")
    mirror, importance = torch.tensor([True, False]), torch.ones(1, 1, SIZE, SIZE)
    which = torch.zeros(2, 3, dtype=torch.long)
    terms = multiview_loss(
        nets, views, views, 2, mirror, config, None, MultiviewLoss(), importance, heads=heads, lit=which
    )
    without = multiview_loss(nets, views, views, 2, mirror, config, None, MultiviewLoss(), importance)
    assert terms["loss"].item() == pytest.approx((without["loss"] + terms["lighting"]).item(), abs=1e-5)
    terms["lighting"].backward()
    assert sum(p.grad.abs().sum() for p in nets.depth.parameters() if p.grad is not None) > 0


def test_sheets_count_the_same_alone_and_together():
    """As two processes with one sheet each, and one with two; the second sheet's heads show little."""
    heads, config = lit(dome()), tiny_config()
    heads.seen[20:, :6] = 0
    which, sheets = torch.stack([torch.arange(20), torch.arange(20, 40)]), torch.cat([dome(), dome(across=0.1)])
    together = lighting_loss(heads, which, sheets, config)
    alone = [lighting_loss(heads, which[i : i + 1], sheets[i : i + 1], config) for i in range(2)]
    assert together.item() == pytest.approx((alone[0] + alone[1]).item() / 2, rel=1e-5)


def test_training_goes_on_without_lit_heads(tmp_path, monkeypatch):
    """Where no view shows enough of the object, brightness is left out."""
    none = LitHeads(torch.zeros(0, 8, 8), torch.zeros(0, 8, 8), torch.ones(8, 8))
    monkeypatch.setattr("gan2shape_hub.training.shape_training.load_lit_heads", lambda *rest: none)
    train(tmp_path, steps=2)
    assert '"lighting"' not in (tmp_path / "log.jsonl").read_text()
