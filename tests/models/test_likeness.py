"""Whether a picture still shows the person."""

import pytest
import torch
from conftest import tiny_pipeline

from gan2shape_hub.config import InvertConfig
from gan2shape_hub.models.likeness import unlikeness


def smooth(seed):
    """A picture (1, 3, 64, 64) of soft spots."""
    noise = torch.rand(1, 3, 8, 8, generator=torch.Generator().manual_seed(seed)) * 2 - 1
    return torch.nn.functional.interpolate(noise, (64, 64), mode="bicubic", align_corners=True).clamp(-1, 1)


def test_it_grows_with_what_is_different_in_the_face_and_with_nothing_else():
    seen = tiny_pipeline().perceptual, InvertConfig().face_box
    one, other = smooth(0), smooth(1)
    assert unlikeness(one, one, *seen) == pytest.approx(0, abs=1e-4)
    found = [unlikeness(one + part * (other - one), one, *seen) for part in (0.1, 0.3, 1.0)]
    assert found == sorted(found)
    assert found[0] < 0.5 * found[-1]
    behind = one.clone()
    behind[..., :12], behind[..., 52:], behind[..., :16, :] = 1, -1, 0
    assert unlikeness(behind, one, *seen) == pytest.approx(0, abs=1e-4), "hair and background are not the person"
