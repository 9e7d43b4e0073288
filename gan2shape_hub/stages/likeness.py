"""Whether the generator's picture of a photograph still shows that person.

A PSNR does not say: at 20 dB one portrait is itself and another has other eyes, because hair and background weigh as
much as a mouth. Features of the face alone do, of the checkpoint's own perceptual network.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from gan2shape_hub.run import Run

SIDE = 64
"""Pixels of the face that are compared: what the perceptual network sees without averaging."""


@torch.no_grad()
def unlikeness(picture: Tensor, photograph: Tensor, run: Run) -> float | None:
    """How far two faces (1, 3, S, S) in -1..1, aligned alike, are apart: mean over the perceptual network's maps of one
    minus the cosine between features at the same place. 0 is the same picture, 0.2 to 0.4 mostly somebody else. None
    where the category aligns no faces, or there is no such network."""
    if run.perceptual is None or run.config.align != "face":
        return None
    top, left, bottom, right = run.config.invert.face_box
    faces = []
    for image in (picture, photograph):
        side = image.shape[-1]
        face = image.float()[..., round(top * side) : round(bottom * side), round(left * side) : round(right * side)]
        faces.append(F.interpolate(face, (SIDE, SIDE), mode="bilinear", antialias=True, align_corners=False))
    maps = zip(*(run.perceptual.features(face) for face in faces), strict=True)
    apart = [1 - F.cosine_similarity(one, other, dim=1).mean() for one, other in maps]
    return round(float(sum(apart)) / len(apart), 4)
