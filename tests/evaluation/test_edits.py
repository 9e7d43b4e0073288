import math

import pytest
import torch

from gan2shape_hub.evaluation.canonical_face import canonical_mesh
from gan2shape_hub.evaluation.edits import (
    Relit,
    Turn,
    face_mask,
    log_brightness_ratio,
    summarise_relighting,
    summarise_turns,
)
from gan2shape_hub.evaluation.facemesh import FaceLandmarks


def frontal(size: int = 256) -> FaceLandmarks:
    points = canonical_mesh() * size / 2 + torch.tensor([(size - 1) / 2, (size - 1) / 2, 0.0])
    return FaceLandmarks(points.float(), (size, size), 1.0)


def test_turns_by_hand():
    turns = [Turn(-20, -18, 0), Turn(0, 2, 0), Turn(20, 16, 0), Turn(10, None, 0)]
    summary = summarise_turns(turns)
    assert summary.slope == pytest.approx(34 / 40)
    assert summary.mean_error_deg == pytest.approx((2 + 2 + 4) / 3)
    assert (summary.pictures, summary.lost) == (4, 1)


def test_turns_that_end_far_from_frontal_can_be_left_out():
    turns = [Turn(25, 25, 0), Turn(25, 5, 20), Turn(-25, -25, 20)]
    assert summarise_turns(turns, within_deg=30).mean_error_deg == pytest.approx(0)
    assert summarise_turns(turns).mean_error_deg == pytest.approx(20 / 3)


def test_nothing_measured():
    summary = summarise_turns([Turn(5, None, 0)])
    assert math.isnan(summary.slope)
    assert summary.lost == 1
    assert summarise_relighting([]).faces == 0


def test_relighting_by_hand():
    rising = [Relit(1, 0.4), Relit(-1, -0.4), Relit(0, 0.1)]
    dip = [Relit(-1, 0.0), Relit(0, -0.1), Relit(1, 0.8)]
    summary = summarise_relighting([rising, dip])
    assert summary.rising == 0.5
    # Ranks 0 1 2 and 1 0 2 against 0 1 2: 1 and 0.5.
    assert summary.rank_correlation == pytest.approx(0.75)
    assert summary.ratio_gain == pytest.approx(math.exp(0.8))


@pytest.mark.parametrize("size", [128, 512])
def test_brightness_ratio_of_a_picture_that_is_bright_on_the_left(size):
    picture = torch.full((3, size, size), -0.5)
    picture[:, :, : size // 2] = 0.5
    # 0.75 over 0.25 on the 0..1 scale.
    assert log_brightness_ratio(picture, frontal(size)) == pytest.approx(math.log(3), abs=0.02)
    assert log_brightness_ratio(picture.flip(2), frontal(size)) == pytest.approx(-math.log(3), abs=0.02)


def test_face_mask_covers_the_mesh():
    mask = face_mask(frontal(256), 64)
    assert mask.shape == (64, 64)
    assert mask[32, 32] == 1
    assert mask[0].sum() == 0
    width, height = mask.any(dim=0).sum().item(), mask.any(dim=1).sum().item()
    assert width == pytest.approx(32, abs=2)
    assert height == pytest.approx(64 / 2 * (canonical_mesh()[152] - canonical_mesh()[10])[1].item(), abs=2)
