"""Whether the generator's picture of a photograph still shows that person.

A PSNR does not say: at 20 dB one portrait is itself and another has other eyes, because hair and background weigh as
much as a mouth. Features of the face alone do, of the checkpoint's own perceptual network.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from gan2shape_hub.models.perceptual import PerceptualNetwork

SIDE = 64
"""Pixels of the face that are compared: what the perceptual network sees without averaging."""


@torch.no_grad()
def unlikeness(
    picture: Tensor, photograph: Tensor, network: PerceptualNetwork, box: tuple[float, float, float, float]
) -> float:
    """How far two faces, aligned alike, are apart: mean over the network's maps of one minus the cosine between
    features at the same place. 0 is the same picture, 0.2 to 0.4 mostly somebody else.

    Args:
        picture, photograph: (1, 3, any, any) in -1..1.
        box: (top, left, bottom, right) in 0..1 of the face.
    """
    top, left, bottom, right = box
    faces = []
    for image in (picture, photograph):
        side = image.shape[-1]
        face = image.float()[..., round(top * side) : round(bottom * side), round(left * side) : round(right * side)]
        faces.append(F.interpolate(face, (SIDE, SIDE), mode="bilinear", antialias=True, align_corners=False))
    maps = zip(*(network.features(face) for face in faces), strict=True)
    apart = [1 - F.cosine_similarity(one, other, dim=1).mean() for one, other in maps]
    return float(sum(apart)) / len(apart)
