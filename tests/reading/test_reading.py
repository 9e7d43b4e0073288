"""What people and programs bring as a picture: files of every kind, addresses, bytes, and files that mean harm."""

import functools
import http.server
import io
import os
import struct
import sys
import threading
import warnings
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, features

from gan2shape_hub.cancel import CancelToken, stoppable
from gan2shape_hub.errors import Cancelled, InputError
from gan2shape_hub.reading import source
from gan2shape_hub.reading.decode import PixelLimits, open_picture
from gan2shape_hub.reading.formats import SUFFIXES, is_photograph
from gan2shape_hub.reading.jpeg import MAX_SCANS, count_scans
from gan2shape_hub.stages.prepare import load_image

COLOURS = ((255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255))


def quadrants(width: int = 64, height: int = 64) -> Image.Image:
    """Red top left, green top right, blue bottom left, white bottom right."""
    image = Image.new("RGB", (width, height))
    for number, colour in enumerate(COLOURS):
        x, y = number % 2 * width // 2, number // 2 * height // 2
        image.paste(colour, (x, y, x + width // 2, y + height // 2))
    return image


def assert_quadrants(image: Image.Image, tolerance: int = 12) -> None:
    w, h = image.size
    found = [image.getpixel(p)[:3] for p in ((w // 4, h // 4), (3 * w // 4, h // 4), (w // 4, 3 * h // 4))]
    assert np.abs(np.array(found) - np.array(COLOURS[:3])).max() <= tolerance


def encoded(image: Image.Image, kind: str, **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def refused(given, words: str, code: str, **options) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(InputError, match=words) as caught:
            load_image(given, name="photo", **options)
    text = str(caught.value)
    assert caught.value.code == code
    assert "\n" not in text
    assert text.endswith(".")
    assert ": " in text


# ---------------------------------------------------------------------------- formats


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("a.jfif", "JPEG"),
        ("a.jpe", "JPEG"),
        ("a.jp2", "JPEG2000"),
        ("a.ppm", "PPM"),
        ("a.avif", "AVIF"),
        ("A.JPG", "JPEG"),
    ],
)
def test_formats_are_read_and_known_by_their_names(tmp_path, name, kind):
    if kind == "AVIF" and not features.check("avif"):
        pytest.skip("this Pillow reads no AVIF")
    quadrants().save(tmp_path / name, kind)
    assert_quadrants(load_image(tmp_path / name), 40)
    assert is_photograph(name)


def test_what_macos_writes_beside_a_photograph_is_none():
    assert not is_photograph("._IMG_1.JPG")
    assert not is_photograph(".jpg")
    assert not is_photograph("notes.txt")
    assert ".heic" in SUFFIXES


def test_heic_is_read_where_pillow_heif_is(tmp_path):
    heif = pytest.importorskip("pillow_heif")
    path = tmp_path / "photo.heic"
    heif.from_pillow(quadrants(96, 64)).save(path)
    registered = "HEIF" in Image.OPEN
    image = load_image(path)
    assert image.size == (96, 64)
    assert_quadrants(image, 40)
    assert ("HEIF" in Image.OPEN) is registered, "Pillow is the caller's"
    path.write_bytes(path.read_bytes()[:300])
    refused(path, "corrupt or truncated", "corrupt")


def test_heic_without_pillow_heif_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    (tmp_path / "photo.heic").write_bytes(b"\0\0\0\x18ftypheic" + b"\0" * 50)
    refused(tmp_path / "photo.heic", r"HEIC photograph: pip install 'gan2shape-hub\[heic\]'", "heic")


@pytest.mark.parametrize("head", [b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 99 99\n", b"8BPS\0\1" + b"\0" * 60])
def test_formats_that_are_not_named_are_not_opened(tmp_path, monkeypatch, head):
    """An EPS file under another name would start Ghostscript."""
    monkeypatch.setenv("PATH", "")
    (tmp_path / "a.png").write_bytes(head + b"showpage\n" * 9)
    refused(tmp_path / "a.png", "not an image in a known format: pass a JPEG, PNG", "not-an-image")


# ---------------------------------------------------------------------------- large ones


def test_a_telephones_photograph_is_decoded_reduced(tmp_path):
    """48 megapixels under the demo's limits."""
    path = tmp_path / "phone.jpg"
    Image.new("L", (8064, 6048), 90).save(path, quality=60)
    image = load_image(path, max_pixels=64_000_000, kept_pixels=40_000_000)
    assert image.size == (4032, 3024)
    assert image.getpixel((2000, 1500)) == pytest.approx((90, 90, 90), abs=2)


@pytest.mark.parametrize(("kind", "size"), [("JPEG", (600, 400)), ("PNG", (600, 400))])
def test_what_is_kept_is_reduced(tmp_path, kind, size):
    path = tmp_path / "large"
    quadrants(1200, 800).save(path, kind)
    image = load_image(path, max_pixels=1_000_000, kept_pixels=300_000)
    assert image.size == size
    assert_quadrants(image)
    assert load_image(path).size == (1200, 800)


def test_only_jpeg_may_be_larger_than_what_is_decoded(tmp_path):
    quadrants(1200, 800).save(tmp_path / "a.jpg")
    quadrants(1200, 800).save(tmp_path / "progressive.jpg", progressive=True)
    quadrants(1200, 800).save(tmp_path / "a.png")
    assert load_image(tmp_path / "a.jpg", max_pixels=300_000).size == (600, 400)
    for name in ("progressive.jpg", "a.png"):
        refused(tmp_path / name, "1200 x 800 pixels, must have at most 300,000", "too-large", max_pixels=300_000)
    refused(tmp_path / "a.jpg", "must have at most 6,400", "too-large", max_pixels=100)


def test_a_jpeg_that_claims_the_impossible_is_refused(tmp_path):
    data = encoded(quadrants(), "JPEG")
    frame = data.index(b"\xff\xc0") + 5
    (tmp_path / "bomb.jpg").write_bytes(data[:frame] + struct.pack(">HH", 65_000, 65_000) + data[frame + 4 :])
    refused(tmp_path / "bomb.jpg", "65000 x 65000 pixels, must have at most 400,000,000", "too-large")


@pytest.mark.slow
def test_memory_stays_flat_with_200_megapixels(tmp_path):
    """The picture would be 600 MB."""
    path = tmp_path / "panorama.jpg"
    Image.new("RGB", (20_000, 10_000), (20, 90, 160)).save(path, quality=60)
    if os.fork() == 0:  # its peak is its own: it starts from what this process holds now
        import resource

        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        fits = load_image(path, max_pixels=64_000_000, kept_pixels=40_000_000).size == (5000, 2500)
        grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
        os._exit(0 if fits and grown < 200_000 else 1)
    assert os.wait()[1] == 0


# ---------------------------------------------------------------------------- scans


def with_scans(count: int) -> bytes:
    """A progressive JPEG whose last scan is repeated until there are ``count`` in all."""
    data = encoded(quadrants(), "JPEG", progressive=True)
    last = data.rindex(b"\xff\xda")
    scans = count_scans(io.BytesIO(data), "photo")
    return data[:-2] + data[last:-2] * (count - scans) + b"\xff\xd9"


def test_scans_are_counted(tmp_path):
    assert count_scans(io.BytesIO(encoded(quadrants(), "JPEG")), "photo") == 1
    assert 6 <= count_scans(io.BytesIO(encoded(quadrants(), "JPEG", progressive=True)), "photo") <= 12
    assert count_scans(io.BytesIO(with_scans(MAX_SCANS)), "photo") == MAX_SCANS
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (800, 1000, 3), dtype=np.uint8))
    data = encoded(noise, "JPEG", quality=98)  # longer than what is searched at a time
    assert len(data) > 2**20
    stream = io.BytesIO(data + with_scans(MAX_SCANS))  # telephones put a second picture behind the first
    stream.seek(7)
    assert count_scans(stream, "photo") == 1
    assert stream.tell() == 7


def test_a_jpeg_without_end_is_refused_before_it_is_decoded(tmp_path, monkeypatch):
    path = tmp_path / "scans.jpg"
    path.write_bytes(with_scans(MAX_SCANS))
    assert_quadrants(load_image(path))
    path.write_bytes(with_scans(MAX_SCANS + 1))
    lazy = Image.open(path)
    monkeypatch.setattr(Image.Image, "load", lambda self: pytest.fail("decoded"))
    refused(path, "JPEG of over 50 scans", "too-many-scans")
    refused(lazy, "photo is a JPEG of over 50 scans", "too-many-scans")
    path.write_bytes(b"\xff\xd8\xff\xe0\0\2" + b"\xff\xe0\0\2" * 30_000)
    refused(path, "20,000 segments", "too-many-scans")


def test_decoding_can_be_stopped(monkeypatch):
    monkeypatch.setattr("gan2shape_hub.cancel.LOOK_EVERY_S", 0)  # it takes less than that
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (600, 600, 3), dtype=np.uint8))
    token = CancelToken()

    class Pressed(io.BytesIO):
        decoding = False

        def read(self, size=-1):
            if self.decoding and self.tell() > 70_000:
                token.cancel()
            return super().read(size)

    stream = Pressed(encoded(noise, "JPEG", quality=95))
    with stoppable(token):
        image = open_picture(stream, "photo", PixelLimits(10**6, 10**6))
        stream.decoding = True
        with pytest.raises(Cancelled):
            image.load()


# ---------------------------------------------------------------------------- where they come from


def test_bytes_and_open_files_are_read(tmp_path):
    data = encoded(quadrants(), "PNG")
    path = tmp_path / "a b.png"
    path.write_bytes(data)
    written = io.BytesIO()
    quadrants().save(written, "PNG")  # stands at its end
    for given in (data, bytearray(data), memoryview(data), io.BytesIO(data), written, path.as_uri(), path, str(path)):
        assert_quadrants(load_image(given))
    assert written.tell() == len(written.getvalue())
    with path.open("rb") as stream:
        assert_quadrants(load_image(stream))
        assert not stream.closed
    refused(stream, "photo cannot be read", "unreadable")
    refused(io.StringIO("text"), "open as text", "unreadable")
    refused(b"", "photo is empty", "corrupt")
    refused(b"no picture", "photo is not an image", "not-an-image")


def test_home_is_understood(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    quadrants().save(tmp_path / "a.png")
    assert_quadrants(load_image("~/a.png"))


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_):
        pass


@pytest.fixture
def served(tmp_path):
    handler = functools.partial(Quiet, directory=tmp_path)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def test_addresses_are_downloaded(tmp_path, served, monkeypatch):
    quadrants().save(tmp_path / "a.jpg")
    (tmp_path / "a.txt").write_text("no picture")
    assert_quadrants(load_image(f"{served}/a.jpg"))
    refused(f"{served}/b.jpg", "cannot be downloaded .*404", "not-found")
    refused(f"{served}/a.txt", "not an image", "not-an-image")
    refused("https://[", "cannot be downloaded", "not-found")
    refused(Path(f"{served}/a.jpg"), "does not exist", "not-found")  # a path is never an address
    monkeypatch.setattr(source, "MAX_DOWNLOAD_BYTES", 100)
    refused(f"{served}/a.jpg", "more than .* MB", "too-large")


def test_what_is_no_file_is_one_sentence_at_once(tmp_path):
    os.mkfifo(tmp_path / "pipe.jpg")
    refused(tmp_path / "pipe.jpg", "no ordinary file", "unreadable")
    refused("/dev/zero", "no ordinary file", "unreadable")
    refused("a\0b.jpg", "is no path", "not-found")
    refused("x" * 5000, "cannot be read", "unreadable")
    refused("a\ud800.jpg", "is no path|does not exist", "not-found")
    refused("~nobody-of-this-name/a.jpg", "is no path|does not exist", "not-found")
    loop = tmp_path / "loop.jpg"
    loop.symlink_to(loop)
    refused(loop, "cannot be read|no path", "unreadable")


def test_a_huge_file_is_not_read(tmp_path):
    for size, words, code in (
        (6 * 2**30, "6.0 GB large, must have at most 1 GB", "too-large"),
        (2**29, "not an image", "not-an-image"),
    ):
        with (tmp_path / "huge.jpg").open("wb") as stream:
            stream.truncate(size)
        refused(tmp_path / "huge.jpg", words, code)


# ---------------------------------------------------------------------------- PIL


@pytest.mark.parametrize(
    "mode", ["1", "L", "La", "LA", "PA", "RGBX", "RGBa", "LAB", "I", "F", "I;16", "I;16L", "I;16B"]
)
def test_every_mode_of_pillow_is_read(mode):
    if mode in ("La", "RGBa"):
        image = Image.new("LA" if mode == "La" else "RGBA", (40, 50), "white").convert(mode)
    elif mode == "PA":
        image = Image.new("P", (40, 50), 1)
        image.putpalette((0, 0, 0, 255, 255, 255))
        image = image.convert("PA")
    elif mode == "LAB":
        image = Image.new(mode, (40, 50), (255, 128, 128))
    else:
        white = {"1": 1, "F": 255.0, "L": 255, "LA": (255, 255)}
        image = Image.new(mode, (40, 50), white.get(mode, 65535 if mode.startswith("I") else (255,) * 4))
    found = load_image(image)
    assert found.mode == "RGB"
    assert min(found.getpixel((20, 20))) > 250
    assert image.mode == mode


def test_premultiplied_alpha_is_alpha():
    image = Image.new("LA", (40, 40), (200, 128))
    found = load_image(image.convert("La"))
    assert found.mode == "RGBA"
    assert found.getpixel((9, 9)) == pytest.approx((200, 200, 200, 128), abs=1)


def test_closed_images_are_told_from_damaged_ones(tmp_path):
    path = tmp_path / "a.png"
    quadrants().save(path)
    with Image.open(path) as closed:
        pass
    refused(closed, "photo is a closed image: open it again", "unreadable")
    loaded = Image.open(path)
    loaded.load()
    loaded.close()
    refused(loaded, "photo is a closed image: open it again", "unreadable")
    path.write_bytes(path.read_bytes()[:100])
    refused(Image.open(path), "photo is corrupt or truncated", "corrupt")
