"""Edits back into the photograph."""

import numpy as np
import pytest
import torch
from PIL import Image

from gan2shape_hub.records import Alignment
from gan2shape_hub.results.paste import feathered_square, keep_colours, paste, to_mask
from gan2shape_hub.stages.align import cut_square


def similarity(side, angle_deg, x, y):
    a = side * np.exp(1j * np.radians(angle_deg))
    corner = complex(x, y) - a * (0.5 + 0.5j)
    return np.array([[a.real, -a.imag, corner.real], [a.imag, a.real, corner.imag]])


@pytest.fixture
def photograph():
    """Smooth waves, 160 x 120."""
    y, x = np.mgrid[0:120, 0:160] / 20
    waves = np.stack((np.sin(x + y), np.cos(x - y), np.sin(2 * x)), -1) * 90 + 128
    return Image.fromarray(waves.astype(np.uint8))


def aligned(photograph, side=70, angle_deg=20, x=80, y=60, pixels=128):
    matrix = similarity(side, angle_deg, x, y)
    return Alignment(photograph, cut_square(photograph, matrix, pixels), matrix)


def difference(a, b):
    return np.abs(np.asarray(a.convert("RGB"), dtype=float) - np.asarray(b.convert("RGB"), dtype=float))


def test_an_unchanged_square_leaves_the_photograph_as_it_is(photograph):
    found = aligned(photograph)
    assert difference(paste(found.square, found), photograph).max() <= 6
    assert difference(paste(found.square, found), photograph).mean() < 0.3


def test_the_edit_shows_inside_and_nothing_changes_outside(photograph):
    found = aligned(photograph)
    result = paste(Image.new("RGB", (64, 64), (255, 0, 0)), found)
    assert result.size == photograph.size
    assert result.getpixel((80, 60)) == (255, 0, 0)
    y, x = np.mgrid[0:120, 0:160] + 0.5
    u = found.inverse[0, 0] * x + found.inverse[0, 1] * y + found.inverse[0, 2]
    v = found.inverse[1, 0] * x + found.inverse[1, 1] * y + found.inverse[1, 2]
    beyond = (np.minimum(u, v) < 0) | (np.maximum(u, v) > 1)
    assert difference(result, photograph)[beyond].max() == 0


def test_the_edge_is_soft(photograph):
    """No step from the photograph into the edit: neighbouring pixels change gradually."""
    flat = Image.new("RGB", (160, 120), (0, 0, 0))
    result = np.asarray(paste(Image.new("RGB", (64, 64), "white"), aligned(flat, side=100, angle_deg=0)), dtype=float)
    assert result.max() == 255
    assert np.abs(np.diff(result[60, :, 0])).max() < 60
    hard = np.asarray(paste(Image.new("RGB", (64, 64), "white"), aligned(flat, side=100, angle_deg=0), feather=0))
    assert np.abs(np.diff(hard[60, :, 0].astype(float))).max() == 255


def test_squares_beyond_the_border(photograph):
    found = aligned(photograph, side=100, x=0, y=0)
    # The mirrored part is blurred, and so is a little of the photograph next to it.
    assert difference(paste(found.square, found), photograph).max() <= 16
    assert difference(paste(found.square, found), photograph).mean() < 0.3
    far = aligned(photograph, side=20, x=-200, y=0)
    assert difference(paste(far.square, far), photograph).max() == 0


def test_tensors_masks_and_transparency(photograph):
    photograph.putalpha(Image.new("L", photograph.size, 77))
    found = aligned(photograph, angle_deg=0)
    result = paste(torch.ones(3, 32, 32), found)
    assert result.mode == "RGBA"
    assert result.getpixel((80, 60)) == (255, 255, 255, 77)
    nothing = paste(torch.ones(3, 32, 32), found, mask=Image.new("L", (8, 8), 0))
    assert difference(nothing, photograph).max() == 0


def test_misuse_is_named(photograph):
    found = aligned(photograph)
    with pytest.raises(ValueError, match=r"feather is 0.7, must be between 0 and 0.5"):
        paste(found.square, found, feather=0.7)
    with pytest.raises(ValueError, match="must be square"):
        paste(Image.new("RGB", (10, 20)), found)


def test_the_feathered_square():
    mask = np.asarray(feathered_square(50, 0.2), dtype=int)
    assert mask[25, 25] == 255
    assert mask[0].max() < 10
    assert (np.diff(mask[25, :25]) >= 0).all()
    assert np.array_equal(mask, mask.T)
    assert np.array_equal(mask, mask[::-1])


def test_colours_of_the_photograph_are_kept():
    """The generator's picture is too dark by 0.3; the edit, a brighter spot on it, is brought to the photograph's."""
    photograph = torch.full((1, 3, 96, 96), 0.2)
    before = torch.full((1, 3, 64, 64), -0.1)
    edited = before.clone()
    edited[..., 30:34, 30:34] += 0.5
    result = keep_colours(edited, before, photograph)
    assert result.shape == edited.shape
    assert result[..., :20, :20] == pytest.approx(0.2, abs=1e-3)
    assert result[..., 31, 31] == pytest.approx(0.7, abs=1e-3)


def test_fine_differences_are_left_to_the_generator():
    stripes = torch.ones(1, 3, 96, 96)
    stripes[..., ::2] = -1
    flat = torch.zeros(1, 3, 96, 96)
    assert keep_colours(flat, flat, stripes).abs().max() < 0.05


def test_a_cover_becomes_a_soft_mask_that_holds_it():
    cover = torch.zeros(64, 64)
    cover[20:40, 24:44] = 1
    mask = np.asarray(to_mask(cover), dtype=int)
    assert mask.shape == (64, 64)
    assert mask[22:38, 26:42].min() == 255
    assert mask[:12].max() == 0
    assert np.abs(np.diff(mask, axis=1)).max() < 140
