"""Photometric stereo: a known relief under lights that nobody tells."""

import math

import pytest
import torch
import torch.nn.functional as F
from rendering.test_integrate import CAMERA, error, head

from gan2shape_hub.rendering import normals_from_depth
from gan2shape_hub.rendering.integrate import depth_from_normals
from gan2shape_hub.rendering.photometric import fit_lights, fit_normals, harmonics, log_ratios, luminance

DIRECTIONS = torch.tensor(
    [[x, y, -1.0] for x in (-0.9, -0.3, 0.3, 0.9) for y in (-0.8, 0.0, 0.8)],
)
"""Towards the lamps."""


def lit(normals, directions=DIRECTIONS, seed=0, noise=0.0):
    """(J + 1, 3, H, W) of a speckled object: unlit (a lamp in front), then under each lamp."""
    rng = torch.Generator().manual_seed(seed)
    albedo = 0.2 + 0.6 * torch.rand(3, *normals.shape[1:], generator=rng)
    every = F.normalize(torch.cat([torch.tensor([[0.0, 0.0, -1.0]]), directions]), dim=1)
    shading = 0.35 + 0.65 * torch.einsum("jc,chw->jhw", every, normals).clamp_min(0)
    linear = albedo[None] * shading[:, None]
    linear = linear + noise * torch.randn(linear.shape, generator=rng)
    return linear.clamp(1e-4, 1) ** (1 / 2.2) * 2 - 1


def degrees(found, truth, mask):
    cosine = (found * truth).sum(0).clamp(-1, 1)[mask > 0]
    return float(torch.rad2deg(torch.acos(cosine)).mean())


def solve(normals, mask, start, images, rounds=2, reach=1.0):
    ratios = log_ratios(images[1:], images[0], blur_px=0).flatten(1)
    found, begin, weights = start.flatten(1), start.flatten(1), mask.flatten()
    for _ in range(rounds):
        # No noise to guard against here: the second order is free to be the bend of the logarithm.
        lights, spread = fit_lights(ratios, found, weights, ridge=1e-6)
        found = fit_normals(ratios, lights, spread, found, weights, prior=begin, reach=reach)
    return found.view_as(normals)


def rough(size=96):
    """What the search may start from: the bowl without the bumps."""
    return -normals_from_depth(head(size, bumps=False)[0][None], CAMERA)[0]


@pytest.mark.parametrize(("noise", "limit"), [(0.0, 2.0), (0.01, 4.0)])
def test_normals_of_a_speckled_relief(noise, limit):
    _, normals, mask = head(96)
    found = solve(normals, mask, rough(), lit(normals, noise=noise))
    assert degrees(rough(), normals, mask) > 3.5, "or there is nothing to find"
    assert degrees(found, normals, mask) < limit


def test_depth_within_a_hundredth():
    """Lights, normals and the surface in turn: that normals are a surface's takes a freedom from the lights."""
    depth, normals, mask = head(96)
    bowl, images = head(96, bumps=False)[0], lit(normals)
    sheet, ratios = bowl, log_ratios(images[1:], images[0], blur_px=0).flatten(1)
    for _ in range(4):
        now = -normals_from_depth(sheet[None], CAMERA)[0].flatten(1)
        lights, spread = fit_lights(ratios, now, mask.flatten(), ridge=1e-6)
        found = fit_normals(ratios, lights, spread, now, mask.flatten(), prior=rough().flatten(1), reach=1.0)
        sheet = depth_from_normals(found.view_as(normals), mask, bowl, CAMERA, tie=1.0)
    assert error(bowl, depth, mask) > 0.07, "or there is nothing to find"
    assert error(sheet, depth, mask) < 0.01


def test_shadows_and_highlights_count_less():
    _, normals, mask = head(96)
    images = lit(normals)
    images[3, :, 30:60, 30:50] = -0.95  # a cast shadow in one picture
    images[7, :, 40:50, 40:70] = 1.0  # a highlight in another
    found = solve(normals, mask, rough(), images)
    assert degrees(found, normals, mask) < 2.5


def test_half_of_it_masked():
    _, normals, mask = head(96)
    mask[:, 48:] = 0
    images = lit(normals)
    images[:, :, :, 48:] = torch.rand(images[:, :, :, 48:].shape, generator=torch.Generator().manual_seed(1))
    found = solve(normals, mask, rough(), images)
    assert degrees(found, normals, mask) < 2.0


def test_lights_on_known_normals():
    _, normals, mask = head(64)
    truth = torch.randn(5, 9, generator=torch.Generator().manual_seed(2)) * 0.3
    ratios = truth @ harmonics(normals.flatten(1)).T
    lights, spread = fit_lights(ratios, normals.flatten(1), mask.flatten(), ridge=1e-8)
    assert torch.allclose(lights @ harmonics(normals.flatten(1)).T * mask.flatten(), ratios * mask.flatten(), atol=1e-3)
    assert float(spread.max()) < 2e-3


def test_harmonics_slopes_are_their_derivatives():
    from gan2shape_hub.rendering.photometric import _harmonic_slopes

    normals = F.normalize(torch.randn(3, 6, generator=torch.Generator().manual_seed(3)).double(), dim=0)
    for order in (1, 2):
        for axis in range(3):
            moved = normals.clone()
            moved[axis] += 1e-6
            numeric = (harmonics(moved, order) - harmonics(normals, order)) / 1e-6
            assert torch.allclose(_harmonic_slopes(normals, order)[axis], numeric, atol=1e-5)


def test_luminance_is_linear():
    white, grey = torch.ones(3, 2, 2), torch.full((3, 2, 2), 2 * 0.5 ** (1 / 2.2) - 1)
    assert torch.allclose(luminance(white), torch.ones(2, 2), atol=1e-5)
    assert torch.allclose(luminance(grey), torch.full((2, 2), 0.5), atol=1e-5)


def test_ratios_are_bounded_and_blind_to_albedo():
    images = lit(head(32)[1])
    ratios = log_ratios(images[1:], images[0], blur_px=0)
    assert bool(ratios.isfinite().all())
    black = log_ratios(torch.full((1, 3, 8, 8), -1.0), torch.full((3, 8, 8), -1.0))
    assert bool(black.isfinite().all())
    assert float(log_ratios(images[:1], images[0]).abs().max()) < 1e-5
    assert float(ratios.max()) <= math.log(6) + 1e-6
