"""How a model looks turned to the side: beside the generator's own turned picture, and how much of it was ever seen."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from gan2shape_hub.config import CameraConfig
from gan2shape_hub.evaluation.identity import IdentityJudge, descriptor_distance
from gan2shape_hub.models.perceptual import PerceptualNetwork, feature_loss
from gan2shape_hub.rendering.mesh_renderer import render_mesh
from gan2shape_hub.results.edit import rotate_poses
from gan2shape_hub.results.image_files import to_pil
from gan2shape_hub.results.model import ModelOptions
from gan2shape_hub.results.sides import FRONTAL, facing
from gan2shape_hub.results.texture import shrink
from gan2shape_hub.results.viewer import Viewer
from gan2shape_hub.results.views import middle

SIDE = 256
"""Pixels of the pictures that are compared."""
GREY = (0.0, 0.0, 0.0)
"""Behind the object, -1..1."""


@dataclass(frozen=True)
class SideView:
    """One model turned once."""

    yaw_deg: float
    perceptual: float
    """Distance to the generator's picture where the model is: the perceptual network's maps, in units of their root
    mean square."""
    to_turned: float
    to_input: float
    """dlib's distances to the generator's turned picture and to the input; NaN where it finds no face."""
    seen: float
    """Part of the model's pixels that a photograph or a drawn view shows at a cosine of 0.35 at least."""
    picture: Image.Image


@torch.no_grad()
def measure_side(
    viewer: Viewer,
    yaw_deg: float,
    turned: Image.Image,
    own: Image.Image,
    perceptual: PerceptualNetwork,
    judge: IdentityJudge,
    *,
    sides: bool,
) -> SideView:
    """Turn the front as ``viewer`` has it by ``yaw_deg`` and judge it.

    Args:
        turned: the generator's picture from there.
        own: the input.
        perceptual, judge: what distances are taken by.
        sides: whether the model wears drawn views.
    """
    model, layers = viewer.model(ModelOptions(sides=sides)), viewer.wide
    # Photographs are aligned by their faces, which stay in the middle.
    pose = rotate_poses([(yaw_deg, 0.0)], viewer.camera, start=viewer.pose, pivot=middle(model.body))

    def draw(texture: Tensor, camera: CameraConfig) -> tuple[Tensor, Tensor]:
        mesh = model.mesh
        view = render_mesh(mesh.vertices, mesh.faces, mesh.uv, texture, pose, camera, SIDE, background=GREY)
        return view.image, view.mask

    image, mask = draw(model.texture, viewer.camera)
    small = np.array(turned.convert("RGB").resize((SIDE, SIDE), Image.Resampling.LANCZOS))
    wanted = torch.from_numpy(small).to(image).movedim(-1, 0)[None] / 127.5 - 1
    pair = [perceptual.features(picture * mask) for picture in (image, wanted)]
    whole, cover = draw(model.texture, layers.camera)
    picture = to_pil(whole[0])
    faces = [judge.descriptor(one) for one in (picture, turned, own)]
    known, _ = draw(_seen(layers, sides, model.texture.shape[-1]).expand(3, -1, -1) * 2 - 1, layers.camera)
    inside = cover[0, 0] > 0.99
    seen = ((known[0, 0, inside] + 1) / 2).mean()
    return SideView(
        yaw_deg,
        float(feature_loss(*pair, mask)),
        descriptor_distance(faces[0], faces[1]),
        descriptor_distance(faces[0], faces[2]),
        float(seen),
        picture,
    )


def _seen(layers: Viewer, sides: bool, size: int) -> Tensor:
    """(1, T, T) of 0 and 1: the texels of a model's front that a picture shows well."""
    baked, side = layers.coloured(None, sides), layers.depth.shape[-1]
    photograph = facing(layers.depth, layers.pose, layers.camera) * shrink(baked.confidence[None], (side, side))
    seen = photograph >= FRONTAL[0]
    if baked.sides is not None:
        seen |= shrink(baked.sides[None], (side, side)) >= 0.5
    return F.interpolate(seen.float(), (size, size), mode="bilinear", align_corners=True)[0]
