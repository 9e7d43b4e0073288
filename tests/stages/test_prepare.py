"""Bad input is refused in one sentence that names it and the remedy; odd but good input is read right."""

import io
import struct
import warnings
import zlib

import numpy as np
import pytest
import torch
from PIL import Image, ImageCms

from gan2shape_hub.stages.prepare import InputError, load_image, prepare_square

RED, GREEN, BLUE, WHITE = (255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255)


def quadrants(side: int = 64) -> Image.Image:
    """Red top left, green top right, blue bottom left, white bottom right."""
    image = Image.new("RGB", (side, side))
    half = side // 2
    for colour, corner in zip((RED, GREEN, BLUE, WHITE), ((0, 0), (half, 0), (0, half), (half, half)), strict=True):
        image.paste(colour, (*corner, corner[0] + half, corner[1] + half))
    return image


def corners(image: Image.Image) -> list[tuple[int, ...]]:
    w, h = image.size
    return [image.getpixel(p) for p in ((2, 2), (w - 3, 2), (2, h - 3), (w - 3, h - 3))]


def close(got, expected, tolerance=12) -> bool:
    return all(abs(a - b) <= tolerance for p, q in zip(got, expected, strict=True) for a, b in zip(p, q, strict=True))


# ---------------------------------------------------------------------------- refused


def png_header(width: int, height: int) -> bytes:
    """A well-formed PNG that claims a size; decoding it would need width * height * 3 bytes."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    rows = chunk(b"IDAT", zlib.compress(b"\0" * 100))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + rows + chunk(b"IEND", b"")


def encoded(image: Image.Image, kind: str) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind)
    return buffer.getvalue()


NOISE = Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8))
BAD_FILES = {
    "empty.png": (b"", "is empty"),
    "text.png": (b"hello, this is no image at all", "not an image"),
    "cut.jpg": (encoded(NOISE, "JPEG")[:1200], "corrupt or truncated"),
    "cut.png": (encoded(NOISE, "PNG")[:3000], "corrupt or truncated"),
    "cut.webp": (encoded(NOISE, "WEBP")[:600], "corrupt|not an image"),
    "flipped.png": (encoded(NOISE, "PNG").replace(b"IDAT", b"IDAX"), "corrupt|not an image"),
    "one.png": (encoded(Image.new("RGB", (1, 1)), "PNG"), "1 x 1 pixels, must be at least 32"),
    "thin.png": (encoded(Image.new("RGB", (500, 20)), "PNG"), "500 x 20 pixels"),
    "bomb.png": (png_header(20_000, 20_000), "at most 80,000,000"),
    "big.png": (png_header(10_000, 10_000), "10000 x 10000 pixels, must have at most 80,000,000"),
    "photo.heic": (b"\0\0\0\x18ftypheic" + b"\0" * 50, "HEIC|corrupt"),  # without and with pillow-heif
}


def assert_one_sentence(error: pytest.ExceptionInfo[InputError]) -> None:
    text = str(error.value)
    assert "\n" not in text
    assert text.endswith(".")
    assert ": " in text, "the remedy follows a colon"
    assert error.value.__suppress_context__ or error.value.__cause__ is None


@pytest.mark.parametrize("name", BAD_FILES)
def test_a_bad_file_is_refused_in_one_sentence(tmp_path, name):
    data, expected = BAD_FILES[name]
    path = tmp_path / name
    path.write_bytes(data)
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # PIL's bomb warning must not reach the user
        with pytest.raises(InputError, match=expected) as error:
            load_image(path)
    assert name in str(error.value)
    assert_one_sentence(error)


def test_a_bomb_is_refused_before_it_is_decoded(tmp_path, monkeypatch):
    path = tmp_path / "big.png"
    path.write_bytes(png_header(3000, 3000))
    monkeypatch.setattr(Image.Image, "load", lambda self: pytest.fail("decoded"))
    with pytest.raises(InputError, match="at most 1,000,000"):
        load_image(path, max_pixels=1_000_000)


@pytest.mark.parametrize(
    ("path", "expected"),
    [("nowhere.png", "does not exist"), (".", "a folder"), ("http://127.0.0.1:9/c.png", "download")],
)
def test_a_path_without_a_file_is_refused(tmp_path, monkeypatch, path, expected):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=expected) as error:
        load_image(path)
    assert_one_sentence(error)


GOOD = np.full((40, 50, 3), 0.5, dtype=np.float32)
BAD_VALUES = {
    "nan": (np.where(np.arange(50)[None, :, None] == 3, np.nan, GOOD), "NaN or infinite"),
    "inf": (np.where(np.arange(50)[None, :, None] == 3, np.inf, GOOD), "NaN or infinite"),
    "nan tensor": (torch.full((3, 40, 40), float("nan")), "NaN or infinite"),
    "nan tiff": (Image.fromarray(np.full((40, 40), np.nan, dtype=np.float32)), "NaN or infinite"),
    "range -1..1": (np.linspace(-1, 1, 4800, dtype=np.float32).reshape(40, 40, 3), "from -1 to 1, must be in 0..1"),
    "range 0..255": (GOOD * 255, "must be in 0..1"),
    "deep tiff": (Image.fromarray(np.full((40, 40), 70_000, dtype=np.int32)), "8 or 16 bits"),
    "channels first": (np.zeros((3, 40, 50), np.uint8), r"shape \(3, 40, 50\)"),
    "two channels": (np.zeros((40, 50, 2), np.uint8), r"shape \(40, 50, 2\)"),
    "vector": (np.zeros(50, np.uint8), r"shape \(50,\)"),
    "no pixels": (np.zeros((0, 50, 3), np.uint8), r"shape \(0, 50, 3\)"),
    "batch of 2": (torch.zeros(2, 3, 40, 40), r"shape \(2, 3, 40, 40\)"),
    "channels last tensor": (torch.zeros(40, 40, 3), r"shape \(40, 40, 3\)"),
    "int64": (np.zeros((40, 50, 3), np.int64), "type int64"),
    "bool": (np.zeros((40, 50, 3), bool), "type bool"),
    "complex": (np.zeros((40, 50, 3), np.complex64), "type complex64"),
    "too small": (np.zeros((40, 31, 3), np.uint8), "31 x 40"),
    "list": ([[0, 1], [1, 0]], "type list"),
    "none": (None, "type NoneType"),
}


@pytest.mark.parametrize("case", BAD_VALUES)
def test_a_bad_value_is_refused_in_one_sentence(case):
    value, expected = BAD_VALUES[case]
    with pytest.raises(InputError, match=expected) as error:
        load_image(value, name="photo")
    assert str(error.value).startswith("photo ")
    assert_one_sentence(error)


# ---------------------------------------------------------------------------- handled


@pytest.mark.parametrize("mode", ["RGB", "P", "CMYK", "YCbCr", "RGBA", "HSV"])
def test_every_colour_mode_keeps_its_colours(mode):
    image = load_image(quadrants().convert(mode))
    assert image.mode == "RGB"
    assert close(corners(image), (RED, GREEN, BLUE, WHITE))


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF", "BMP", "GIF"])
def test_every_file_format_keeps_its_colours(tmp_path, kind):
    path = tmp_path / f"image.{kind.lower()}"
    quadrants().save(path, kind)
    assert close(corners(load_image(str(path))), (RED, GREEN, BLUE, WHITE), tolerance=60 if kind == "WEBP" else 12)


def test_a_cmyk_jpeg_keeps_its_colours(tmp_path):
    path = tmp_path / "print.jpg"
    quadrants().convert("CMYK").save(path, quality=95)
    assert close(corners(load_image(path)), (RED, GREEN, BLUE, WHITE))


@pytest.mark.parametrize("kind", ["png", "tiff"])
def test_16_bit_grey_is_scaled_not_clipped(tmp_path, kind):
    ramp = np.tile(np.linspace(0, 65535, 64).astype(np.uint16), (64, 1))
    path = tmp_path / f"deep.{kind}"
    Image.fromarray(ramp).save(path)
    got = np.asarray(load_image(path))[0, :, 0]
    assert np.abs(got - np.linspace(0, 255, 64)).max() <= 1


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied(tmp_path, orientation):
    undo = {
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_90,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }
    stored = quadrants().transpose(undo[orientation]) if orientation in undo else quadrants()
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = tmp_path / "turned.png"
    stored.save(path, exif=exif)
    assert corners(load_image(path)) == [RED, GREEN, BLUE, WHITE]


def test_the_first_frame_of_an_animation_is_used_with_a_warning(tmp_path):
    path = tmp_path / "moving.gif"
    quadrants().save(path, save_all=True, append_images=[Image.new("RGB", (64, 64), BLUE)])
    with pytest.warns(UserWarning, match="first"):
        image = load_image(path)
    assert close(corners(image), (RED, GREEN, BLUE, WHITE))


def test_alpha_becomes_the_mask_and_transparent_pixels_become_grey():
    image = quadrants()
    image.putalpha(Image.new("L", image.size, 255))
    image.paste((255, 0, 0, 0), (0, 0, 32, 64))  # left half: red but transparent
    loaded = load_image(image)
    assert loaded.mode == "RGBA"
    prepared = prepare_square(loaded, 32, source_size=64)
    assert prepared.mask.shape == (1, 1, 32, 32)
    assert prepared.mask[..., :15].max() == 0
    assert prepared.mask[..., 17:].min() == 1
    assert prepared.image[..., :12].abs().max() < 0.02


def test_a_palette_with_a_transparent_colour_has_a_mask(tmp_path):
    path = tmp_path / "sprite.gif"
    image = Image.new("P", (64, 64), 0)
    image.putpalette([0, 0, 0, 255, 0, 0])
    image.paste(1, (0, 0, 64, 32))
    image.save(path, transparency=0)
    prepared = prepare_square(load_image(path), 32)
    assert prepared.mask[..., :15, :].min() == 1
    assert prepared.mask[..., 17:, :].max() == 0


def test_an_opaque_alpha_channel_gives_no_mask():
    image = load_image(quadrants().convert("RGBA"))
    assert image.mode == "RGB"
    assert prepare_square(image, 32).mask is None


def test_a_colour_profile_is_applied():
    """A photograph in a swapped-primaries space must come out in sRGB, one with sRGB's profile unchanged."""
    image = quadrants()
    image.info["icc_profile"] = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    assert close(corners(load_image(image)), (RED, GREEN, BLUE, WHITE), tolerance=2)
    image.info["icc_profile"] = b"not a profile"
    assert corners(load_image(image)) == [RED, GREEN, BLUE, WHITE]


@pytest.mark.parametrize(
    "value",
    [
        np.asarray(quadrants()),
        np.asarray(quadrants()).astype(np.uint16) * 257,
        np.asarray(quadrants()).astype(np.float64) / 255,
        torch.from_numpy(np.array(quadrants())).permute(2, 0, 1),
        (torch.from_numpy(np.array(quadrants())).permute(2, 0, 1)[None] / 255).half(),
    ],
    ids=["uint8", "uint16", "float64", "tensor", "half batch"],
)
def test_arrays_and_tensors_mean_the_same_image(value):
    assert corners(load_image(value)) == [RED, GREEN, BLUE, WHITE]


def test_the_callers_image_is_left_alone():
    image = quadrants().convert("P")
    before = image.tobytes()
    load_image(image)
    assert (image.mode, image.tobytes()) == ("P", before)


# ---------------------------------------------------------------------------- the square


def test_the_square_is_the_centre_and_spans_minus_one_to_one():
    wide = Image.new("RGB", (200, 64), BLUE)
    wide.paste(quadrants(), (68, 0))
    prepared = prepare_square(load_image(wide), 32, source_size=48)
    assert prepared.image.shape == (1, 3, 32, 32)
    assert prepared.source.shape == (1, 3, 48, 48)
    expected = torch.tensor([RED, GREEN, BLUE, WHITE]) / 127.5 - 1
    got = torch.stack([prepared.image[0, :, y, x] for y in (2, -3) for x in (2, -3)])
    torch.testing.assert_close(got, expected, atol=0.02, rtol=0)
    assert prepared.image.min() >= -1
    assert prepared.image.max() <= 1


def test_a_small_photograph_is_not_blown_up_beyond_the_working_size():
    assert prepare_square(Image.new("RGB", (40, 40)), 64).source.shape[-1] == 64
    assert prepare_square(Image.new("RGB", (90, 90)), 64).source.shape[-1] == 90


def test_center_crop_keeps_the_middle():
    image = Image.new("RGB", (64, 64), BLUE)
    image.paste(RED, (16, 16, 48, 48))
    prepared = prepare_square(image, 32, center_crop=32)
    torch.testing.assert_close(prepared.image[0].amin((1, 2)), torch.tensor([1.0, -1.0, -1.0]))
    with pytest.raises(InputError, match="center_crop"):
        prepare_square(image, 32, center_crop=-1)


def test_shrinking_is_antialiased():
    """Fine stripes average out instead of turning into moire."""
    stripes = np.zeros((256, 256, 3), np.uint8)
    stripes[:, ::2] = 255
    inner = prepare_square(Image.fromarray(stripes), 32).image[..., 4:-4]
    assert inner.abs().max() < 0.05


def test_an_animation_whose_second_frame_is_damaged_shows_its_first(tmp_path):
    whole, moving = tmp_path / "whole.gif", tmp_path / "moving.gif"
    first, second = (Image.fromarray(np.random.default_rng(k).integers(0, 255, (40, 40), np.uint8)) for k in (0, 1))
    first.save(whole, save_all=True, append_images=[second], duration=50)
    data = whole.read_bytes()
    at = data.rindex(b"\x21\xf9\x04")  # the control block of the second frame, cut to one byte
    moving.write_bytes(data[: at + 2] + b"\x01\x00\x00" + data[at + 8 :])
    with pytest.warns(UserWarning, match="several frames"):
        read = load_image(moving)
    assert np.array_equal(np.asarray(read), np.asarray(first.convert("RGB")))
