"""Panoramas as linear radiance: Radiance files written here byte by byte, photographs, and what is refused."""

import numpy as np
import pytest
import torch
from PIL import Image

from gan2shape_hub.errors import InputError
from gan2shape_hub.reading.panorama import SIDE, read_panorama


def rgbe(colours: np.ndarray) -> np.ndarray:
    """(H, W, 4) uint8 of linear (H, W, 3), as Ward has it."""
    largest = colours.max(-1)
    mantissa, exponent = np.frexp(largest)
    scale = np.where(largest > 1e-32, mantissa * 256 / np.maximum(largest, 1e-32), 0)
    return np.concatenate(
        (colours * scale[..., None], np.where(largest > 1e-32, exponent + 128, 0)[..., None]), -1
    ).astype(np.uint8)


def radiance_file(pixels: np.ndarray, *, packed: bool) -> bytes:
    height, width, _ = pixels.shape
    data = b"#?RADIANCE\nFORMAT=32-bit_rle_rgbe\n\n" + f"-Y {height} +X {width}\n".encode()
    for row in pixels:
        if not packed:
            data += row.tobytes()
            continue
        data += bytes((2, 2, width >> 8, width & 255))
        for channel in row.T:
            at = 0
            while at < width:
                run = 1
                while at + run < width and run < 127 and channel[at + run] == channel[at]:
                    run += 1
                if run > 2:
                    data += bytes((128 + run, channel[at]))
                else:
                    run = min(2, width - at)
                    data += bytes((run, *channel[at : at + run]))
                at += run
    return data


@pytest.mark.parametrize("packed", [False, True])
def test_a_radiance_file_is_read_as_it_was_written(tmp_path, packed):
    colours = np.random.default_rng(0).uniform(0.2, 1, (12, 24, 3)) * np.logspace(-2, 3, 24)[:, None]
    colours[3:6, 4:20] = [30.0, 2.0, 0.25]
    (tmp_path / "sky.hdr").write_bytes(radiance_file(rgbe(colours), packed=packed))
    found = read_panorama(tmp_path / "sky.hdr")
    assert found.shape == (3, 12, 24)
    error = (found - torch.from_numpy(colours).permute(2, 0, 1)).abs().amax(0)
    assert (error <= torch.from_numpy(colours.max(-1)) / 100).all(), "eight bits of the brightest colour"


def test_large_files_are_averaged(tmp_path):
    colours = np.ones((2 * SIDE, 16, 3)) * np.arange(2 * SIDE)[:, None, None]
    (tmp_path / "sky.hdr").write_bytes(radiance_file(rgbe(colours), packed=False))
    found = read_panorama(tmp_path / "sky.hdr")
    assert found.shape == (3, SIDE, 8)
    assert found[0, -1, 0] == pytest.approx(2 * SIDE - 1.5, rel=0.01)


def test_a_photograph_becomes_linear(tmp_path):
    Image.new("RGB", (64, 32), (255, 188, 0)).save(tmp_path / "sky.png")
    red, green, blue = read_panorama(tmp_path / "sky.png")[:, 10, 10]
    assert float(red) == pytest.approx(1)
    assert float(green) == pytest.approx(0.503, abs=0.01)
    assert float(blue) == 0


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"v/1\x01" + bytes(60), "OpenEXR: save it as Radiance"),
        (b"#?RADIANCE\n\n", "no size"),
        (b"#?RADIANCE\n\n-Y 90000 +X 90000\n", "8192 x 4096"),
        (b"#?RADIANCE\n\n-Y 16 +X 32\n" + bytes(100), "corrupt or truncated"),
        (b"#?RADIANCE\n\n-Y 16 +X 32\n" + bytes((2, 2, 0, 32, 200, 1)) * 9, "corrupt or truncated"),
        (b"no picture at all, only words and words", "sky"),
    ],
)
def test_what_cannot_be_read_is_one_sentence(tmp_path, data, message):
    (tmp_path / "sky.hdr").write_bytes(data)
    with pytest.raises(InputError, match=message):
        read_panorama(tmp_path / "sky.hdr")


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(InputError, match=r"sky\.hdr cannot be read"):
        read_panorama(tmp_path / "sky.hdr")
