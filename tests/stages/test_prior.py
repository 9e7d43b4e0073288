"""The ellipsoid by hand, the corrections of its box, and the depth net's fit to it."""

import dataclasses
import math

import pytest
import torch
from conftest import tiny_config
from stage_run import Losses, Table, changed, copy_of, make_nets, make_run, make_state, make_targets

from gan2shape_hub.config import PriorConfig
from gan2shape_hub.stages.prior import ellipsoid_box, ellipsoid_depth, fit_prior


def config(**prior):
    return tiny_config(prior=PriorConfig(**prior))


def mask_of(top, left, bottom, right, size=32):
    mask = torch.zeros(size, size)
    mask[top : bottom + 1, left : right + 1] = 1
    return mask


def test_box_of_a_mask_is_its_pixels():
    assert ellipsoid_box(config(), mask_of(4, 6, 20, 25)) == (4, 6, 20, 25)


def test_box_without_a_mask_is_the_categorys():
    assert ellipsoid_box(config(default_box=(0.1, 0.2, 0.9, 0.8)), None) == pytest.approx((3.1, 6.2, 27.9, 24.8))


@pytest.mark.parametrize("value", [0.0, 1.0, 0.4])
def test_a_mask_that_says_nothing_leaves_the_categorys_box(value):
    """Empty, or everything: an opaque image has the mask 1 everywhere, and no object fills it."""
    c = config(default_box=(0.1, 0.2, 0.9, 0.8))
    assert ellipsoid_box(c, torch.full((32, 32), value)) == ellipsoid_box(c, None)


def test_corrections_of_the_box_by_hand():
    mask = mask_of(6, 4, 18, 28)  # 12 high, 24 wide
    assert ellipsoid_box(config(extend_top=1 / 6), mask) == pytest.approx((4, 4, 18, 28))  # synthetic faces
    assert ellipsoid_box(config(extend_bottom=1 / 6), mask) == pytest.approx((6, 4, 20, 28))  # cars, churches
    celeba = config(bottom_to_edge=True, shrink_sides=1 / 12)
    assert ellipsoid_box(celeba, mask) == pytest.approx((6, 6, 31, 26))
    both = config(extend_top=0.5, extend_bottom=0.25)
    assert ellipsoid_box(both, mask) == pytest.approx((0, 4, 21, 28))  # each of the box's own height


def test_a_round_ellipsoid_by_hand():
    """Near at its middle, far at its rim and outside, on a sphere in between."""
    near, far, radius = 0.91, 1.02, 0.4
    depth = ellipsoid_depth(config(near=near, far=far, radius=radius), mask_of(6, 8, 22, 24))
    assert depth.shape == (32, 32)
    assert depth[14, 16] == pytest.approx(near)
    for rim in (depth[6, 16], depth[22, 16], depth[14, 8], depth[14, 24]):
        assert rim == pytest.approx(far, abs=1e-5)
    for outside in (depth[5, 16], depth[14, 7], depth[0, 0], depth[31, 31]):
        assert outside == pytest.approx(far)
    # Halfway out: the sphere's cap reaches (far - near) deep at the distance `rim` from its axis.
    rim = math.sqrt(radius**2 - (radius - (far - near)) ** 2)
    assert depth[14, 20] == pytest.approx(near + radius - math.sqrt(radius**2 - (rim / 2) ** 2))
    assert depth[14, 20] == depth[14, 12] == depth[10, 16] == depth[18, 16]


def test_a_tall_mask_makes_a_tall_ellipsoid():
    depth = ellipsoid_depth(config(), mask_of(2, 10, 30, 24))  # 28 high, 14 wide, middle (16, 17)
    assert depth.min() == depth[16, 17]
    # Twice as far along the long axis is as deep as once along the short one.
    assert depth[16 - 6, 17] == pytest.approx(float(depth[16, 17 + 3]), abs=1e-6)
    assert depth[16 + 12, 17] == pytest.approx(float(depth[16, 17 - 6]), abs=1e-6)
    inside = depth < 1.02 - 1e-4
    rows, columns = inside.any(1).nonzero().flatten(), inside.any(0).nonzero().flatten()
    assert (rows[0], rows[-1]) == (3, 29)
    assert (columns[0], columns[-1]) == (11, 23)


@pytest.mark.parametrize("mask", [mask_of(5, 5, 5, 5), mask_of(0, 0, 0, 31), mask_of(0, 3, 31, 3)])
def test_thin_masks_give_finite_depth(mask):
    depth = ellipsoid_depth(config(), mask)
    assert torch.isfinite(depth).all()
    assert depth.min() >= 0.91 - 1e-6
    assert depth.max() <= 1.02 + 1e-5


def inner(depth):
    return depth[..., 2:-2]  # without the pinned border


def test_the_depth_net_learns_the_ellipsoid(pipeline):
    nets, targets, losses = make_nets(pipeline.config), make_targets(pipeline, 2), Losses()
    before = copy_of(nets)
    prior = ellipsoid_depth(pipeline.config)
    start = (inner(nets.predict_depth(targets.images, pipeline.config)) - inner(prior)).abs().mean()
    after = fit_prior(make_state(pipeline, nets, targets), make_run(pipeline, "prior", 60, callback=losses)).nets
    end = inner(after.predict_depth(targets.images, pipeline.config)) - inner(prior)
    assert end.abs().mean() < 0.35 * start
    assert losses.fell(0.6)
    assert changed(nets, before) == set()
    assert changed(after, before) == {"depth"}
    assert [p.step for p in losses.progress] == ["prior"] * 60
    assert [p.iteration for p in losses.progress] == list(range(1, 61))


def test_every_image_gets_the_ellipsoid_of_its_own_mask(pipeline):
    left, right = mask_of(4, 2, 28, 13), mask_of(4, 18, 28, 29)
    targets = make_targets(pipeline, 2, masks=torch.stack([left, right])[:, None])
    config = dataclasses.replace(pipeline.config, use_mask=True)
    nets = dataclasses.replace(make_nets(config), depth=Table(targets.images, torch.zeros(2, 1, 32, 32)))
    run = make_run(pipeline, "prior", 30, config=config, learning_rate=0.05)
    first, second = (
        fit_prior(make_state(pipeline, nets, targets), run).nets.predict_depth(targets.images, config).detach()
    )
    for depth, mask in ((first, left), (second, right)):
        pair = torch.stack([inner(depth).flatten(), inner(ellipsoid_depth(config, mask)).flatten()])
        assert torch.corrcoef(pair)[0, 1] > 0.85
