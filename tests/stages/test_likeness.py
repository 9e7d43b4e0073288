"""Whether a picture still shows the person."""

import dataclasses

import pytest
import torch
from conftest import tiny_pipeline

from gan2shape_hub.plan import Images
from gan2shape_hub.stages.likeness import unlikeness


@pytest.fixture(scope="module")
def run():
    pipeline = tiny_pipeline(align="face")
    schedule = pipeline.config.schedule()
    return pipeline._run(schedule, torch.Generator(), Images(photographs=1))


def smooth(seed):
    """A picture (1, 3, 64, 64) of soft spots."""
    noise = torch.rand(1, 3, 8, 8, generator=torch.Generator().manual_seed(seed)) * 2 - 1
    return torch.nn.functional.interpolate(noise, (64, 64), mode="bicubic", align_corners=True).clamp(-1, 1)


def test_it_grows_with_what_is_different_in_the_face_and_with_nothing_else(run):
    one, other = smooth(0), smooth(1)
    assert unlikeness(one, one, run) == pytest.approx(0, abs=1e-4)
    found = [unlikeness(one + part * (other - one), one, run) for part in (0.1, 0.3, 1.0)]
    assert found == sorted(found)
    assert found[0] < 0.5 * found[-1]
    behind = one.clone()
    behind[..., :12], behind[..., 52:], behind[..., :16, :] = 1, -1, 0
    assert unlikeness(behind, one, run) == pytest.approx(0, abs=1e-4), "hair and background are not the person"


def test_it_is_not_known_without_faces_or_features(run):
    picture = smooth(0)
    assert unlikeness(picture, picture, dataclasses.replace(run, perceptual=None)) is None
    config = dataclasses.replace(run.config, align="none")
    assert unlikeness(picture, picture, dataclasses.replace(run, config=config)) is None
