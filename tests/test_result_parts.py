"""A result's record and report; sheets, masks and networks of different sides."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest
import torch
from conftest import tiny_pipeline
from PIL import Image

from gan2shape_hub.rendering.scene import resized_scene


@pytest.fixture(scope="module")
def pipeline():
    return tiny_pipeline()


@pytest.fixture(scope="module")
def photograph() -> Image.Image:
    small = np.random.default_rng(0).integers(0, 255, (4, 4, 3), dtype=np.uint8)
    return Image.fromarray(small).resize((96, 96), Image.Resampling.BICUBIC)


@pytest.fixture(scope="module")
def result(pipeline, photograph):
    return pipeline(photograph, seed=5)


# -- the record and its report ----------------------------------------------------------------------------------------


def test_its_name_is_short(result):
    name = repr(result)
    assert len(name) < 150
    assert name.startswith("Reconstruction(face, preset 'fast', seed 5, sheet 32 px, source 96 px, inverted at ")
    assert "inverted" not in repr(result.with_report(psnr_db=None))


def test_what_the_caller_knows_joins_the_report_of_another_value(result):
    told = result.with_report(checkpoint="somewhere", warnings=("dark",))
    assert told.report.checkpoint == "somewhere"
    assert told.scene is result.scene
    assert result.report.checkpoint is None
    more = told.settings.keys() - result.settings.keys()
    assert more == {"checkpoint", "warnings"}, "what is not known is not in result.json"
    with pytest.raises(TypeError):
        result.settings["checkpoint"] = "elsewhere"
    with pytest.raises(TypeError, match="psnr"):
        result.with_report(psnr=3)


def test_the_report_is_plain_values(pipeline, photograph):
    one, other = pipeline([photograph, torch.zeros(16)])
    for item in (one, other):
        assert json.loads(json.dumps(item.report.to_dict())) == json.loads(json.dumps(dict(item.settings)))
    assert one.report.steps == other.report.steps
    assert (one.report.number, other.report.number) == (1, 2)
    assert one.settings["joint"] == {"image": 1, "images": 2}
    assert one.settings["square"] == (96.0, 0.0, 0.0, 0.0, 96.0, 0.0)
    assert "latent" not in one.settings
    assert np.shape(other.settings["latent"]) == (1, 16)
    assert other.settings["psnr_db"] is None


# -- sides --------------------------------------------------------------------------------------------------------


def hill(result, side: int):
    """``result`` with a sheet of ``side`` pixels that is a smooth hill."""
    at = (torch.arange(side) + 0.5) / side * 2 - 1
    depth = 1.05 - 0.1 * torch.exp(-(at[:, None] ** 2 + at**2) / 0.4)
    return dataclasses.replace(result, scene=dataclasses.replace(resized_scene(result.scene, side), depth=depth[None]))


@pytest.fixture(scope="module")
def coarse(result):
    return hill(result, 32)


@pytest.fixture(scope="module")
def fine(result):
    """The same with a sheet twice as fine as what the networks see."""
    return hill(result, 64)


def difference(one: Image.Image, other: Image.Image) -> float:
    return float(np.abs(np.asarray(one, dtype=float) - np.asarray(other, dtype=float)).mean())


def test_a_sheet_may_be_finer_than_the_networks(coarse, fine):
    assert fine.view_depth.shape == fine.mask.shape == (64, 64)
    assert fine.object_mask.shape == (32, 32)
    assert (fine.object_mask - coarse.object_mask).abs().mean() < 0.01
    for edit in ({"light": "left"}, {"yaw_deg": 8.0}, {"yaw_deg": 8.0, "through_gan": True}):
        edited = fine.edit_photograph(**edit)
        assert edited.size == (96, 96)
        assert difference(edited, coarse.edit_photograph(**edit)) < 1


def test_the_encoder_sees_a_fine_sheet_at_its_own_side(coarse, fine):
    latent = coarse.project(coarse.pose, coarse.light)
    assert (fine.project(fine.pose, fine.light) - latent).norm() < 0.1 * (latent - coarse.latent).norm()


@pytest.mark.parametrize("side", [16, 32, 80])
def test_a_mask_of_any_side_limits_the_edit(result, photograph, side):
    alpha = torch.zeros(side, side)
    alpha[:, : side // 2] = 1
    masked = dataclasses.replace(result, alpha=alpha)
    assert masked.object_mask is alpha
    edited = np.asarray(masked.edit_photograph(light=(1.5, 0.0)), dtype=int)
    change = np.abs(edited - np.asarray(photograph, dtype=int)).max(-1)
    assert change[:, 66:].max() == 0
    assert change[20:-20, 20:40].mean() > 5
