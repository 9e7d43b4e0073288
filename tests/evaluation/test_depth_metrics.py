import math

import pytest
import torch

from gan2shape_hub.config import CameraConfig
from gan2shape_hub.evaluation.depth_metrics import evaluation_mask, mad, psnr_db, seen_depth, side

CAMERA = CameraConfig()


def test_side_is_the_standard_deviation_of_the_log_ratio():
    truth = torch.ones(1, 2, 2)
    predicted = torch.tensor([[[1.0, 1.0], [math.e**0.2, math.e**0.2]]])
    # Log ratios 0, 0, 0.2, 0.2: mean 0.1, every deviation 0.1.
    assert side(predicted, truth).item() == pytest.approx(0.1, abs=1e-7)


def test_side_ignores_scale_and_what_lies_outside_the_mask():
    truth = 1 + torch.rand(2, 8, 8, generator=torch.Generator().manual_seed(0))
    predicted, mask = 3 * truth, torch.ones(2, 8, 8)
    predicted[:, 0], mask[:, 0] = 0, 0
    assert side(predicted, truth, mask).abs().max() < 1e-7
    assert side(predicted, truth).isinf().all() or side(predicted, truth).isnan().all()


def test_mad_of_two_planes_is_the_angle_between_them():
    # z = 1 + a x in scene units, x = z (u - c) / f: z = 1 / (1 - a (u - c) / f). Slopes of 0 and 20 degrees.
    size, slope = 16, math.tan(math.radians(20))
    focal = (size - 1) / 2 / math.tan(math.radians(CAMERA.fov_deg) / 2)
    ray = (torch.arange(size).double() - (size - 1) / 2) / focal
    tilted = (1 / (1 - slope * ray)).expand(1, size, size)
    assert mad(tilted, torch.ones(1, size, size), CAMERA).item() == pytest.approx(20, abs=1e-6)
    assert mad(tilted, tilted, CAMERA).item() == pytest.approx(0, abs=1e-6)


def test_mad_averages_inside_the_mask():
    size, slope = 16, math.tan(math.radians(30))
    focal = (size - 1) / 2 / math.tan(math.radians(CAMERA.fov_deg) / 2)
    ray = (torch.arange(size).double() - (size - 1) / 2) / focal
    depth = torch.ones(1, size, size, dtype=torch.float64)
    depth[0, :, 8:] = 1 / (1 - slope * (ray[8:] - ray[8]))
    left, both = torch.zeros(1, size, size), torch.zeros(1, size, size)
    left[0, :, 1:7], both[0, :, 1:7], both[0, :, 9:15] = 1, 1, 1
    assert mad(depth, torch.ones_like(depth), CAMERA, left).item() == pytest.approx(0, abs=1e-6)
    # Half of the pixels flat, half on the slope, seen along other rays than its own: about 30 degrees.
    assert mad(depth, torch.ones_like(depth), CAMERA, both).item() == pytest.approx(15, abs=0.3)


def test_evaluation_mask_erodes_the_intersection_by_a_pixel():
    truth, predicted = torch.ones(1, 5, 6), torch.ones(1, 5, 6)
    predicted[0, :, 5] = 0
    expected = torch.zeros(5, 6, dtype=torch.bool)
    expected[1:4, 1:4] = True
    assert torch.equal(evaluation_mask(truth, predicted)[0], expected)
    assert evaluation_mask(truth, predicted, erode_px=0).sum() == 25


def test_psnr_by_hand():
    image, reference = torch.zeros(3, 2, 2), torch.zeros(3, 2, 2)
    image[:, 0, 0] = 0.2
    # Mean squared error 0.04 / 4 = 0.01 over the range 2: 10 log10(4 / 0.01).
    assert psnr_db(image, reference) == pytest.approx(26.0206, abs=1e-4)
    mask = torch.ones(2, 2)
    mask[0, 0] = 0
    assert psnr_db(image, reference, mask) == math.inf
    assert math.isnan(psnr_db(image, reference, torch.zeros(2, 2)))


def test_shapes_are_named():
    with pytest.raises(ValueError, match=r"\(1, 2, 2\), \(1, 2, 3\)"):
        side(torch.ones(1, 2, 2), torch.ones(1, 2, 3))
    with pytest.raises(ValueError, match="images have shapes"):
        psnr_db(torch.ones(3, 2, 2), torch.ones(3, 2, 3))
    with pytest.raises(ValueError, match="masks have shapes"):
        evaluation_mask(torch.ones(2, 2), torch.ones(2, 2))


def test_the_judges_look_at_what_a_reconstruction_shows(pipeline):
    result = pipeline(pipeline.sample(seed=3))
    depth, mask = seen_depth(result.depth, result.view, result.config.camera)
    assert torch.equal(depth, result.view_depth)
    assert torch.equal(mask, result.mask)
