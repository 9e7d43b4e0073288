"""FFHQ's alignment from BlazeFace's key points, on a real portrait and on what is none."""

import warnings

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFilter

from gan2shape_hub.errors import InputError
from gan2shape_hub.records import Alignment
from gan2shape_hub.results.paste import paste
from gan2shape_hub.stages import align

data = pytest.importorskip("skimage.data")

MEAN_POINTS = np.array(
    [(0.3760, 0.4846), (0.6268, 0.4817), (0.5071, 0.6255), (0.5064, 0.7514), (0.2381, 0.5445), (0.7539, 0.5391)]
)
"""Where the key points of 300 generated, FFHQ-aligned faces lie on average, as fractions of the picture."""


@pytest.fixture(scope="module")
def astronaut():
    """A portrait, 512 x 512 (NASA, public domain)."""
    return Image.fromarray(data.astronaut())


@pytest.fixture(scope="module")
def aligned(astronaut):
    return align.align_face(astronaut)


def similarity(side, angle_deg, x, y):
    """Matrix of a square with this side and turn around the centre (x, y)."""
    a = side * np.exp(1j * np.radians(angle_deg))
    corner = complex(x, y) - a * (0.5 + 0.5j)
    return np.array([[a.real, -a.imag, corner.real], [a.imag, a.real, corner.imag]])


def place(picture, size, matrix, colour=(90, 100, 110)):
    canvas = Image.new("RGB", size, colour)
    return paste(picture, Alignment(canvas, picture, matrix), feather=0.02)


def test_the_square_of_the_mean_points_is_the_picture():
    matrix = align.face_square(MEAN_POINTS)
    assert np.abs(matrix - np.array([[1, 0, 0], [0, 1, 0]])).max() < 0.02


def test_the_square_follows_a_similarity():
    move = similarity(300, 25, 400, 250)
    moved = np.c_[MEAN_POINTS, np.ones(6)] @ move.T
    base = np.vstack((align.face_square(MEAN_POINTS), (0, 0, 1)))
    assert np.allclose(align.face_square(moved), move @ base)


def test_a_portrait_is_cut_as_ffhq_cuts(aligned):
    assert aligned.faces == 1
    assert aligned.score > 0.9
    assert aligned.side == pytest.approx(171, abs=6)
    assert abs(aligned.angle_deg) < 4
    assert aligned.square.size == (round(aligned.side),) * 2
    face, _ = align.find_faces(aligned.square)[0]
    points = face.points.numpy() / aligned.square.width
    assert np.abs(points[:4] - MEAN_POINTS[:4]).max() < 0.05


def test_matrix_and_inverse_undo_each_other(aligned):
    x, y = aligned.matrix @ np.array([0.3, 0.8, 1])
    assert np.allclose(aligned.inverse @ np.array([x, y, 1]), [0.3, 0.8])


def test_an_aligned_square_comes_back_untouched(aligned):
    again = align.align_face(aligned.square)
    assert np.array_equal(np.asarray(again.square), np.asarray(aligned.square))
    assert np.array_equal(again.matrix, [[aligned.square.width, 0, 0], [0, aligned.square.width, 0]])


@pytest.mark.parametrize(("side", "angle_deg"), [(400, 0), (300, 30), (220, -25)])
def test_a_turned_and_scaled_face_is_found_where_it_lies(aligned, side, angle_deg):
    matrix = similarity(side, angle_deg, 420, 260)
    found = align.align_face(place(aligned.square, (800, 560), matrix))
    middle = np.array([0.5, 0.5, 1])
    assert np.linalg.norm((found.matrix - matrix) @ middle) < 0.03 * side
    assert found.side == pytest.approx(side, rel=0.08)
    assert found.angle_deg == pytest.approx(angle_deg, abs=4)


def test_several_faces_are_ordered_by_size(aligned):
    picture = place(aligned.square, (900, 500), similarity(200, 0, 130, 250))
    for side, x in ((320, 450), (140, 780)):
        picture = paste(aligned.square, Alignment(picture, aligned.square, similarity(side, 0, x, 250)), feather=0.02)
    found = align.find_faces(picture)
    middles = [(matrix @ np.array([0.5, 0.5, 1]))[0] for _, matrix in found]
    assert middles == pytest.approx([450, 130, 780], abs=15)
    assert align.align_face(picture).side == pytest.approx(320, rel=0.08)
    second = align.align_face(picture, face_index=1)
    assert second.faces == 3
    assert second.side == pytest.approx(200, rel=0.08)
    with pytest.raises(InputError, match=r"face_index is 3, but image shows 3 faces: pass 0 to 2"):
        align.align_face(picture, face_index=3)


def test_pictures_without_a_face_are_refused_with_the_way_out():
    for picture in (Image.new("RGB", (300, 200), "white"), Image.fromarray(data.coffee())):
        with pytest.raises(InputError, match=r"no face was found in 'cup.png': .*--no-align") as caught:
            align.align_face(picture, name="'cup.png'")
        assert caught.value.numbers == {"smallest_px": 40}
        assert "upright ones of 40 pixels or larger and turned ones of 40 were looked for" in str(caught.value)


@pytest.mark.parametrize(
    ("size", "place"), [((6000, 4000), (4100, 2300)), ((12_000, 900), (8100, 300)), ((500, 9000), (50, 6300))]
)
def test_a_face_of_85_pixels_is_found_in_large_pictures_and_panoramas(astronaut, size, place):
    picture, part = Image.new("RGB", size, (110, 120, 130)), 85 / 103
    picture.paste(astronaut.resize((round(512 * part),) * 2, Image.Resampling.LANCZOS), place)
    found = align.align_face(picture)
    assert found.faces == 1
    left, top, right, bottom = found.box
    assert right - left == pytest.approx(85, abs=6)
    assert ((left + right) / 2 - place[0]) / part == pytest.approx(224, abs=10)
    assert ((top + bottom) / 2 - place[1]) / part == pytest.approx(122, abs=10)


@pytest.mark.parametrize("angle_deg", [90, 135, 180, -120])
def test_a_face_in_any_direction_is_found(aligned, angle_deg):
    matrix = similarity(240, angle_deg, 260, 220)
    found = align.align_face(place(aligned.square, (500, 450), matrix))
    assert found.faces == 1
    assert np.linalg.norm((found.matrix - matrix) @ np.array([0.5, 0.5, 1])) < 8
    assert abs((found.angle_deg - angle_deg + 180) % 360 - 180) < 5


@pytest.mark.parametrize("size", [12, 30])
def test_a_tiny_face_is_refused(aligned, size):
    picture = place(aligned.square, (240, 200), similarity(size / 0.6, 0, 120, 100))
    with pytest.raises(InputError, match=r"no face was found|only \d+ pixels large, must be at least 40"):
        align.align_face(picture)


def test_black_and_white_is_as_good(astronaut, aligned):
    grey = align.align_face(astronaut.convert("L").convert("RGB"))
    assert np.abs(grey.matrix - aligned.matrix).max() < 0.04 * aligned.side


def test_a_face_cut_by_the_border_is_mirrored_with_a_warning(aligned):
    # The right part of the face is missing.
    picture = place(aligned.square, (600, 420), similarity(400, 0, 300, 210)).crop((0, 0, 350, 420))
    with pytest.warns(UserWarning, match="cut by the border"):
        found = align.align_face(picture)
    values = np.asarray(found.square, dtype=float)
    assert found.square.width == found.square.height
    assert values[:, -5:].std() > 0  # no black bar
    assert values[:, -5:].mean() > 20


def test_transparency_travels_and_ends_at_the_border(astronaut):
    alpha = Image.new("L", astronaut.size, 255)
    picture = astronaut.crop((0, 90, 512, 512))  # the face's upper square lies beyond the border
    picture.putalpha(alpha.crop((0, 90, 512, 512)))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = align.align_face(picture)
    assert found.square.mode == "RGBA"
    cover = np.asarray(found.square.getchannel("A"))
    assert cover[0].max() == 0
    assert cover[-1].min() == 255


def test_the_middle_square_is_taken_pixel_for_pixel(astronaut):
    wide = astronaut.crop((0, 100, 512, 300))
    found = align.align_center(wide)
    assert np.array_equal(np.asarray(found.square), np.asarray(wide.crop((156, 0, 356, 200))))
    assert np.array_equal(found.matrix, [[200, 0, 156], [0, 200, 0]])
    assert align.align_center(wide, center_crop=100).square.size == (100, 100)


def test_what_is_aligned_is_the_categorys_choice(astronaut):
    assert align.align_photograph(astronaut, "none", 32).faces == 0
    with pytest.raises(InputError, match="leave it out"):
        align.align_photograph(astronaut, "none", 32, face_index=0)


def test_cutting_is_exact_to_a_pixels_fraction():
    """A linear ramp survives any similarity: value = x of the photograph."""
    ramp = np.broadcast_to(np.linspace(0, 255, 256)[None], (256, 256)).astype(np.uint8)
    picture = Image.fromarray(np.stack((ramp, ramp.T, ramp), -1))
    for side in (20, 64, 150):
        matrix = similarity(100, 20, 128, 128)
        cut = np.asarray(align.cut_square(picture, matrix, side), dtype=float)
        centres = (np.arange(side) + 0.5) / side
        u, v = np.meshgrid(centres, centres)
        x = matrix[0, 0] * u + matrix[0, 1] * v + matrix[0, 2] - 0.5
        y = matrix[1, 0] * u + matrix[1, 1] * v + matrix[1, 2] - 0.5
        assert np.abs(cut[..., 0] - x).max() < 1.5
        assert np.abs(cut[..., 1] - y).max() < 1.5


def test_sunglasses_hide_nothing_that_is_needed(astronaut, aligned):
    (face, _), *_ = align.find_faces(astronaut)
    points, picture = face.points.numpy(), astronaut.copy()
    width, draw = float(np.linalg.norm(points[1] - points[0])), ImageDraw.Draw(picture)
    for x, y in points[:2]:
        draw.ellipse((x - 0.42 * width, y - 0.3 * width, x + 0.42 * width, y + 0.32 * width), fill=(12, 12, 14))
    draw.line((*points[0], *points[1]), fill=(12, 12, 14), width=4)
    found = align.align_face(picture)
    middle = np.array([0.5, 0.5, 1])
    assert np.linalg.norm((found.matrix - aligned.matrix) @ middle) < 0.05 * aligned.side
    assert found.side == pytest.approx(aligned.side, rel=0.08)
    assert abs(found.angle_deg - aligned.angle_deg) < 6


def test_a_painting_is_aligned_as_the_photograph_is(aligned):
    """Flat patches of few colours, as brush strokes leave them."""
    picture = place(aligned.square.resize((300, 300)), (500, 400), similarity(300, 0, 250, 200))
    painted = picture.filter(ImageFilter.MedianFilter(5)).filter(ImageFilter.ModeFilter(5)).quantize(24).convert("RGB")
    found, expected = align.align_face(painted), align.align_face(picture)
    assert np.abs(found.matrix - expected.matrix).max() < 0.06 * expected.side


def test_a_profile_is_found_and_the_back_of_a_head_is_not():
    """A man seen from the side through a camera's viewfinder, black and white (skimage, CC0)."""
    picture = Image.fromarray(data.camera()).convert("RGB")
    found = align.align_face(picture)
    left, top, right, bottom = found.box
    assert 190 < (left + right) / 2 < 280
    assert 70 < (top + bottom) / 2 < 160
    assert 70 < found.side < 140
    assert found.square.size[0] >= 128
    # From behind the ear there is no face left.
    x, y = (int(v) for v in found.matrix @ np.array([0.5, 0.5, 1.0]))
    behind = picture.crop((x - 150, y - 60, x - 25, y + 60))
    with pytest.raises(InputError, match="no face was found"):
        align.align_face(behind)
