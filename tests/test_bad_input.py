"""Photographs as people take them: each gives a sane mesh or one sentence."""

import contextlib
from pathlib import Path

import numpy as np
import pytest
from conftest import tiny_pipeline
from PIL import Image, ImageDraw, ImageFilter, ImageOps

from gan2shape_hub import GAN2ShapePipeline, InputError
from gan2shape_hub.config import RoundConfig, ScheduleConfig

data = pytest.importorskip("skimage.data")
CHECKPOINT = Path(__file__).resolve().parent.parent / "checkpoints" / "face"
INSTANT = ScheduleConfig(rounds=(RoundConfig(0, 0, 0),), from_pretrained=True, invert_iterations=0)
EYES, MOUTH = ((205, 107), (245, 112)), (222, 148)
"""Pixels of the astronaut's face, which is about 100 pixels large."""


def astronaut() -> Image.Image:
    """A portrait, 512 x 512 (NASA, public domain)."""
    return Image.fromarray(data.astronaut())


def cut_by_the_border() -> Image.Image:
    return astronaut().crop((0, 0, 255, 512))


def black_and_white() -> Image.Image:
    return astronaut().convert("L")


def lit_from_one_side() -> Image.Image:
    """The right half of the face is nearly black, and the left one burnt out."""
    values = np.asarray(astronaut(), dtype=np.float32)
    light = 1.9 / (1 + np.exp((np.arange(512) - 222) / 9)) + 0.12
    return Image.fromarray((values * light[None, :, None]).clip(0, 255).astype(np.uint8))


def with_sunglasses() -> Image.Image:
    picture = astronaut()
    draw = ImageDraw.Draw(picture)
    for x, y in EYES:
        draw.ellipse((x - 17, y - 12, x + 17, y + 13), fill=(12, 12, 14))
    draw.line((*EYES[0], *EYES[1]), fill=(12, 12, 14), width=4)
    return picture


def with_a_hand_before_the_mouth() -> Image.Image:
    picture = astronaut()
    draw = ImageDraw.Draw(picture)
    x, y = MOUTH
    for finger in range(4):
        draw.ellipse((x - 34, y - 18 + 13 * finger, x + 30, y - 4 + 13 * finger), fill=(196 - 6 * finger, 140, 118))
    draw.rectangle((x + 14, y - 14, x + 60, y + 46), fill=(190, 134, 112))
    return picture.filter(ImageFilter.GaussianBlur(0.7))


def painted() -> Image.Image:
    """Flat patches of few colours, as brush strokes leave them."""
    picture = astronaut().filter(ImageFilter.MedianFilter(5)).filter(ImageFilter.ModeFilter(7))
    return ImageOps.posterize(picture, 3)


def a_profile() -> Image.Image:
    """A man seen from the side, at a camera (skimage, CC0)."""
    return Image.fromarray(data.camera())


def nobody() -> Image.Image:
    return Image.fromarray(data.coffee())


def three_pixels() -> Image.Image:
    return Image.new("RGB", (3, 1), "white")


def all_background() -> Image.Image:
    return Image.new("RGBA", (128, 128), (255, 255, 255, 0))


PEOPLE = (
    cut_by_the_border,
    black_and_white,
    lit_from_one_side,
    with_sunglasses,
    with_a_hand_before_the_mouth,
    painted,
    a_profile,
)
NOTHING = ((nobody, "no-face"), (three_pixels, "too-small"), (all_background, "no-face"))


def assert_sane(mesh, least: int = 1000) -> None:
    assert len(mesh.faces) >= least
    assert np.isfinite(mesh.vertices).all()
    assert np.isfinite(mesh.face_normals).all()
    assert mesh.faces.max() < len(mesh.vertices)
    assert mesh.extents.max() < 3  # an image side is 1


@pytest.fixture(scope="module")
def faces():
    return tiny_pipeline(align="face", schedules={"fast": INSTANT})


@pytest.mark.filterwarnings("ignore::UserWarning")  # that the tiny generator knows nobody
@pytest.mark.parametrize("taken", PEOPLE, ids=lambda taken: taken.__name__)
def test_a_difficult_photograph_of_somebody_gives_a_mesh(faces, taken):
    result = faces(taken())
    assert result.report.input.faces == 1
    assert_sane(result.mesh(), least=1)  # random networks leave next to nothing


@pytest.mark.parametrize(("taken", "code"), NOTHING, ids=lambda value: getattr(value, "__name__", value))
def test_a_photograph_of_nobody_gives_a_sentence(faces, taken, code):
    with pytest.raises(InputError) as caught:
        faces(taken())
    assert caught.value.code == code
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("covered", [0, 3])
@pytest.mark.parametrize("use_mask", [False, True])
def test_a_mask_of_nothing_gives_a_sentence(use_mask, covered):
    """Whether the category uses masks or not: who passes one means it."""
    pipeline = tiny_pipeline(use_mask=use_mask, schedules={"fast": INSTANT})
    mask = np.zeros((64, 64), np.uint8)
    mask[30, 30 : 30 + covered] = 1
    with pytest.raises(InputError, match=r"mask (is empty|covers 0\.\d+%).*must be 1 on the object") as caught:
        pipeline(pipeline.sample(seed=1), mask=mask)
    assert caught.value.code == "empty-mask"
    transparent = Image.new("RGBA", (64, 64), "grey")
    transparent.putalpha(Image.fromarray(mask * 255))
    if use_mask:
        with pytest.raises(InputError, match="mask"):
            pipeline(transparent)
    else:  # the whole sheet is what remains
        assert_sane(pipeline(transparent).mesh(), least=1)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.skipif(not (CHECKPOINT / "model_index.json").exists(), reason="the face checkpoint is not built")
def test_the_shipped_checkpoint_with_difficult_photographs():
    pipeline = GAN2ShapePipeline.from_pretrained(CHECKPOINT, device="cpu")
    for taken in PEOPLE:
        assert_sane(pipeline(taken(), preset="instant").mesh())
    for seed in (7, 8):
        turned = pipeline(pipeline.sample(seed=seed), preset="instant").rotate(70)
        with contextlib.suppress(InputError):  # of which the test above knows that it is one sentence
            assert_sane(pipeline(turned, preset="instant").mesh())
    for taken, code in NOTHING:
        with pytest.raises(InputError) as caught:
            pipeline(taken(), preset="instant")
        assert caught.value.code == code
