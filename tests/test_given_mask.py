"""Object masks as users give them: any form, any size, of the photograph or of its square."""

import numpy as np
import pytest
import torch
from conftest import tiny_config, tiny_pipeline
from PIL import Image

from gan2shape_hub.config import RoundConfig, ScheduleConfig
from gan2shape_hub.errors import InputError
from gan2shape_hub.given_mask import check_cover, given_masks
from gan2shape_hub.records import Alignment
from gan2shape_hub.stages.align import align_center, cut_square
from gan2shape_hub.stages.prepare import prepare_square

CONFIG = tiny_config()
SIZE = CONFIG.image_size


def box(height, width, top=0.25, bottom=0.75, left=0.25, right=0.5):
    """A mask of zeros with a box of ones, in parts of its sides."""
    mask = torch.zeros(height, width)
    mask[round(top * height) : round(bottom * height), round(left * width) : round(right * width)] = 1
    return mask


def photograph(width=96, height=64):
    rng = np.random.default_rng(0)
    return Image.fromarray(rng.integers(0, 256, (height, width, 3), dtype=np.uint8))


def turned_cut(picture):
    """A square of 40 pixels turned by 30 degrees, partly beyond the photograph's left border."""
    x, y = 40 * np.cos(np.radians(30)), 40 * np.sin(np.radians(30))
    matrix = np.array([[x, -y, 8.0], [y, x, 10.0]])
    return Alignment(picture, cut_square(picture, matrix, 48), matrix)


def test_square_masks_of_any_size_are_the_squares():
    for side in (16, SIZE, 100, 1024):
        found = given_masks(box(side, side), [None], CONFIG)
        assert found.shape == (1, 1, SIZE, SIZE)
        assert found.dtype == torch.float32
        assert (found[0, 0] - box(SIZE, SIZE)).abs().mean() < 0.04
    exact = torch.rand(SIZE, SIZE)
    assert torch.equal(given_masks(exact, [align_center(photograph())], CONFIG)[0, 0], exact)


def test_shrinking_is_antialiased():
    """A chequered mask of single pixels is grey from afar, not all or nothing."""
    board = (torch.arange(256)[:, None] + torch.arange(256)) % 2
    assert (given_masks(board, [None], CONFIG) - 0.5).abs().max() < 0.05


def test_every_form_says_the_same(tmp_path):
    mask = box(64, 64)
    grey = Image.fromarray((mask.numpy() * 255).astype(np.uint8))
    grey.save(tmp_path / "mask.png")
    Image.fromarray(mask.numpy().astype(np.uint8)).save(tmp_path / "labels.png")
    hole = Image.new("RGBA", (64, 64), (9, 200, 30, 255))
    hole.putalpha(grey)
    expected = given_masks(mask, [None], CONFIG)
    forms = [mask[None], mask[None, None], mask.double(), mask.half(), mask > 0.5, mask.long(), mask.numpy()]
    forms += [mask.numpy() > 0.5, mask.numpy().astype(np.uint8), mask.numpy().astype(np.uint16)]
    forms += [(mask * 255).to(torch.uint8), grey, grey.convert("1"), grey.convert("RGB"), hole]
    forms += [tmp_path / "mask.png", str(tmp_path / "mask.png"), tmp_path / "labels.png"]
    for form in forms:
        assert torch.allclose(given_masks(form, [None], CONFIG), expected, atol=1e-6)
    assert given_masks(None, [None], CONFIG) is None


def test_a_mask_of_the_photograph_is_cut_as_the_photograph_is():
    """Turned, scaled and reaching over the border: the same as an alpha channel, 0 beyond the border."""
    picture = photograph()
    mask = box(64, 96)
    alpha = picture.copy()
    alpha.putalpha(Image.fromarray((mask.numpy() * 255).astype(np.uint8)))
    for cut, transparent in (
        (turned_cut(picture), turned_cut(alpha)),
        (align_center(picture), align_center(alpha)),
    ):
        expected = prepare_square(transparent.square, SIZE).mask
        found = given_masks(mask, [cut], CONFIG)
        assert 0.05 < expected.mean() < 0.6
        assert (found - expected).abs().mean() < 0.02
    everywhere = given_masks(torch.ones(64, 96), [turned_cut(picture)], CONFIG)[0, 0]
    assert everywhere[-4:, :4].max() < 0.1  # the corner that lies beyond the border
    assert everywhere[8:16, 16:24].min() > 0.99


def test_the_photographs_mask_at_another_resolution():
    cut = turned_cut(photograph())
    fine, coarse = given_masks(box(64, 96), [cut], CONFIG), given_masks(box(640, 960), [cut], CONFIG)
    assert (fine - coarse).abs().mean() < 0.02


def test_a_square_photograph_is_known_by_its_own_size():
    picture = photograph(64, 64)
    matrix = np.array([[32.0, 0.0, 16.0], [0.0, 32.0, 16.0]])  # the middle half
    cut = Alignment(picture, cut_square(picture, matrix, 32), matrix)
    whole = given_masks(box(64, 64, 0.25, 0.75, 0.25, 0.75), [cut], CONFIG)
    assert whole.min() > 0.45  # the box is the square; half at the edge
    assert whole[..., 2:-2, 2:-2].min() > 0.99
    assert given_masks(box(48, 48, 0.25, 0.75, 0.25, 0.75), [cut], CONFIG).mean() < 0.3


def test_the_centre_crop_counts_for_the_photographs_mask():
    config = tiny_config(category="cat", center_crop=128)
    cut = align_center(photograph(64, 64))
    found = given_masks(box(64, 64, 0.25, 0.75, 0.25, 0.75), [cut], config)
    assert found[..., 2:-2, 2:-2].min() > 0.99


def test_several_images_take_one_mask_or_one_each():
    a, b = box(SIZE, SIZE), 1 - box(SIZE, SIZE)
    assert torch.equal(given_masks(a, [None] * 3, CONFIG), a.expand(3, 1, SIZE, SIZE))
    for given in ([a, b], torch.stack([a, b]), torch.stack([a, b])[:, None], np.stack([a, b]), (a[None], b.numpy())):
        assert torch.equal(given_masks(given, [None, None], CONFIG)[:, 0], torch.stack([a, b]))
    mixed = given_masks([box(64, 96), b], [align_center(photograph()), None], CONFIG)
    assert mixed.shape == (2, 1, SIZE, SIZE)
    with pytest.raises(InputError, match="mask is a list of 3 for 2 images: pass one for all, or one each"):
        given_masks([a, a, a], [None, None], CONFIG)
    with pytest.raises(InputError, match="mask 2 has values outside"):
        given_masks([a, a * 2], [None, None], CONFIG)


@pytest.mark.parametrize(
    ("mask", "words"),
    [
        (torch.ones(3, 32, 32), r"mask has shape \(3, 32, 32\), must be \(H, W\)\."),
        (torch.ones(1024), "mask has shape"),
        (torch.ones(0, 4), "mask has shape"),
        (torch.full((32, 32), 2.0), r"mask has values outside 0\.\.1"),
        (torch.full((32, 32), -0.1), r"mask has values outside 0\.\.1"),
        (torch.full((40, 40), float("nan")), r"mask has values outside 0\.\.1"),
        (np.full((32, 32), 7, dtype=np.int64), r"mask has values outside 0\.\.1"),
        (torch.ones(64, 64, dtype=torch.complex64), "mask is of type Tensor"),
        (np.full((32, 32), "x"), "mask is of type ndarray"),
        (7, "mask is of type int"),
        ("mask.png", r"'mask\.png' does not exist"),
        (Image.new("L", (3, 3), 255), "mask is 3 x 3 pixels, must be at least 32"),
        (torch.ones(20, 30), r"mask is 30 x 20 pixels, must be square: pass a mask of the same picture\."),
    ],
)
def test_what_is_no_mask_is_said_in_one_sentence(mask, words):
    with pytest.raises(InputError, match=words):
        given_masks(mask, [None], CONFIG)


def test_a_mask_of_another_picture_is_told_from_the_photographs():
    with pytest.raises(InputError, match="mask is 64 x 96 pixels, must be square or with the photograph's 96 x 64"):
        given_masks(torch.ones(96, 64), [turned_cut(photograph(96, 64))], CONFIG)


def test_masks_that_leave_nothing():
    empty = torch.zeros(1, 1, SIZE, SIZE)
    with pytest.raises(InputError, match="mask is empty: it must be 1 on the object"):
        check_cover(empty)
    three = empty.clone()
    three[..., 5, 5:8] = 1
    with pytest.raises(InputError, match=r"mask covers 0\.29% of the square, must cover at least 1%"):
        check_cover(three)
    check_cover(box(SIZE, SIZE)[None, None])


def test_a_run_with_the_photographs_mask():
    """Cut out of the photograph, it gives what the same mask of the square gives, and another says something else."""
    once = ScheduleConfig(rounds=(RoundConfig(1, 1, 1),), prior_iterations=1, collected_batches=1, invert_iterations=1)
    pipeline = tiny_pipeline(use_mask=True, schedules={"fast": once})
    picture, mask = photograph(), box(64, 96)
    cut = given_masks(mask, [align_center(picture)], pipeline.config)
    first = pipeline(picture, mask=mask).depth
    # Threads sum in another order from run to run.
    assert torch.allclose(first, pipeline(picture, mask=cut).depth, rtol=0, atol=2e-6)
    assert not torch.allclose(first, pipeline(picture, mask=1 - mask).depth, rtol=0, atol=2e-5)
    with pytest.raises(InputError, match="mask is empty"):
        pipeline(picture, mask=torch.zeros(64, 96))
