"""Generators of pictures that are no squares: the bars are found, photographs are cut to what lies between them."""

import numpy as np
import pytest
import stylegan2_originals as originals
import torch
from PIL import Image

from gan2shape_hub import GAN2ShapePipeline
from gan2shape_hub.config import CategoryConfig, ConfigError, RoundConfig, ScheduleConfig
from gan2shape_hub.conversion import rosinality
from gan2shape_hub.conversion.samples import frame_of
from gan2shape_hub.hub import read_config
from gan2shape_hub.targets import prepare_photograph, within_frame

WIDTHS, SIZE, DIM = [12, 10, 8, 8], 32, 16


def pictures(rows=0, columns=0, count=3):
    images = torch.rand(count, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(0)) * 1.4 - 0.4
    if rows:
        images[:, :, :rows] = images[:, :, -rows:] = -0.97
    if columns:
        images[:, :, :, :columns] = images[:, :, :, -columns:] = -1
    return images


def test_bars_are_what_all_pictures_have():
    assert frame_of(pictures()) == (1, 1)
    assert frame_of(pictures(rows=4)) == (0.75, 1)
    assert frame_of(pictures(columns=8)) == (1, 0.5)
    assert frame_of(torch.full((3, 3, SIZE, SIZE), -1.0)) == (1, 1), "dark generators"
    some = pictures(rows=4)
    some[1] = pictures()[1]
    assert frame_of(some) == (1, 1), "a dark edge of some pictures is no bar"
    uneven = pictures()
    uneven[:, :, :4] = -1
    assert frame_of(uneven) == (1, 1), "nor is one on one side alone"


@pytest.fixture(scope="module")
def cars(tmp_path_factory):
    """A generator whose last noise map makes the upper and lower eighth black, as LSUN's cars have them."""
    folder = tmp_path_factory.mktemp("cars")
    g, _ = originals.rosinality_weights(SIZE, WIDTHS, dim=DIM)
    last, rgb = 2 * len(WIDTHS) - 2, f"to_rgbs.{len(WIDTHS) - 2}"
    for name in g:
        if name.endswith("noise.weight"):
            g[name] *= 0.02
    g[f"noises.noise_{last}"] = torch.zeros(1, 1, SIZE, SIZE)
    g[f"noises.noise_{last}"][:, :, :4] = g[f"noises.noise_{last}"][:, :, -4:] = 1e4
    g[f"convs.{last - 1}.noise.weight"] = torch.ones(1)
    g[f"{rgb}.conv.weight"] = -0.05 * g[f"{rgb}.conv.weight"].abs()
    g[f"{rgb}.conv.modulation.weight"] *= 0
    torch.save({"g_ema": g, "latent_avg": torch.zeros(DIM)}, folder / "cars.pt")
    report = rosinality.convert(folder / "cars.pt", "car", folder / "cars", space="pca")
    return folder / "cars", report


def test_a_conversion_finds_them(cars):
    folder, report = cars
    assert read_config(folder).frame == (0.75, 1.0)
    assert any("75% of the square's height" in note for note in report.notes)


def photograph(width, height):
    across, down = np.meshgrid(np.linspace(50, 250, width), np.linspace(50, 250, height))
    return Image.fromarray(np.stack([across, down, across], -1).astype(np.uint8))


@pytest.mark.parametrize("size", [(160, 90), (80, 60), (60, 100)])
@pytest.mark.parametrize("frame", [(0.75, 1.0), (1.0, 0.5)])
def test_photographs_are_cut_to_the_frame(size, frame):
    picture = photograph(*size)
    alignment = prepare_photograph(picture, CategoryConfig("things", image_size=32, frame=frame)).alignment
    square = np.asarray(alignment.square)
    side = len(square)
    height, width = (round(side * part) for part in frame)
    y, x = (side - height) // 2, (side - width) // 2
    inside = square[y : y + height, x : x + width]
    assert inside.min() >= 50
    assert square.astype(int).sum() == inside.astype(int).sum(), "black around it"
    assert height == size[1] or width == size[0] or min(size[1] - height, size[0] - width) <= 1, "as large as it can be"
    # the matrix says where the square lies in the photograph, pixel for pixel
    left, top = (int(v) for v in alignment.matrix[:, 2])
    assert np.array_equal(inside, np.asarray(picture)[top + y : top + y + height, left + x : left + x + width])


def test_squares_that_are_cut_out_already_stay_whole():
    picture = photograph(64, 64)
    config = CategoryConfig("things", image_size=32, frame=(0.75, 1.0))
    assert np.array_equal(prepare_photograph(picture, config, align=False).alignment.square, picture)


def test_masks_end_at_the_frame():
    masks = torch.ones(2, 1, 32, 32)
    assert torch.equal(within_frame(masks, (1.0, 1.0)), masks)
    cut = within_frame(masks, (0.75, 1.0))
    assert bool((cut[:, :, 4:28] == 1).all())
    assert cut.sum() == 2 * 24 * 32
    assert within_frame(masks, (1.0, 0.5)).sum() == 2 * 32 * 16


def test_a_run_of_a_wide_photograph(cars):
    """The object ends at the bars, and the reconstruction goes back into the photograph."""
    pipeline = GAN2ShapePipeline.from_pretrained(cars[0], device="cpu")
    schedule = ScheduleConfig(
        (RoundConfig(1, 1, 1),), prior_iterations=2, batch_size=2, collected_batches=2, invert_iterations=2
    )
    result = pipeline(photograph(160, 90), preset=schedule, seed=0)
    bar = len(result.object_mask) // 8
    assert result.object_mask[:bar].max() == result.object_mask[-bar:].max() == 0
    assert result.object_mask[bar:-bar].max() > 0.5
    assert np.abs(result.alignment.matrix - [[120, 0, 20], [0, 120, -15]]).max() == 0
    pasted = np.asarray(result.paste(result.inverted))
    assert pasted.shape == (90, 160, 3)
    assert np.array_equal(pasted[:, :20], np.asarray(photograph(160, 90))[:, :20]), "beside the frame nothing changes"


@pytest.mark.parametrize("frame", [(0.5, 0.5), (0.0, 1.0), (1.0, 1.5)])
def test_frames_that_make_no_sense(frame):
    with pytest.raises(ConfigError, match="frame"):
        CategoryConfig("things", frame=frame)
