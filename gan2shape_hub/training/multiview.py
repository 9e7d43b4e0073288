"""One shape has to explain how a generated head looks when the generator turns it: the loss of joint pretraining.

The method's third step asks that one shape explain all projected views under an albedo and a light that networks
predict. Over many identities those stay blurred for long, and a blurred texture teaches little shape. Here a view
explains another one with its own pixels: they travel along the sheet from the view in which they were seen to the
other one, so that every pore is a witness. Lighting and skin hardly change along the directions of W that turn a head,
which makes the comparison fair. Nothing else is known of the images: no landmark, no 3D label, no face model.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gan2shape_hub.config import CategoryConfig
from gan2shape_hub.models.perceptual import feature_loss, masked_l1
from gan2shape_hub.models.shape import ShapeNets
from gan2shape_hub.rendering.camera import Pose
from gan2shape_hub.rendering.scene import render_scene, smoothness
from gan2shape_hub.rendering.shading import normals_from_depth
from gan2shape_hub.rendering.transfer import transfer


@dataclass(frozen=True)
class MultiviewLoss:
    """Weights of the loss, each relative to the mean absolute difference of the images."""

    perceptual: float = 0.5
    agreement: float = 0.3
    """Of the difference between the depths that two views of one identity give, in units of the depth range."""
    smoothness: float = 0.015
    """Of the second differences of the normals."""
    background: float = 0.35
    """What a pixel outside the category's box counts: what is behind the object does not turn with it."""
    occlusion: float = 0.006
    """Scene units that a point may lie behind the surface and still be taken as seen."""


def multiview_loss(
    nets: ShapeNets,
    views: Tensor,
    inputs: Tensor,
    sources: int,
    mirror: Tensor,
    config: CategoryConfig,
    perceptual: nn.Module | None,
    weights: MultiviewLoss,
    importance: Tensor,
) -> dict[str, Tensor]:
    """Terms of the loss, each the mean over the identities.

    Args:
        views: (n, m, 3, S, S) in -1..1, m views of n identities.
        inputs: the same as the networks see them, with brightness and contrast changed.
        sources: the first so many views of each identity give a depth, which has to explain all the other views.
        mirror: (n) bool; the depth of these identities is mirrored first. Objects are nearly symmetric, and the rest
            of the asymmetry is learnt when it is not mirrored.
        importance: (1, 1, S, S), see :func:`box_importance`.

    Returns:
        ``image``, ``perceptual``, ``agreement`` and ``smoothness``, unweighted, and their weighted sum ``loss``.
    """
    n, m = views.shape[:2]
    camera = config.camera
    depth = nets.predict_depth(inputs[:, :sources].flatten(0, 1), config)
    view = nets.predict_view(inputs.flatten(0, 1), config)
    oriented = torch.where(mirror.repeat_interleave(sources)[:, None, None], depth.flip(-1), depth)
    pairs = [(i, s, t) for i in range(n) for s in range(sources) for t in range(m) if s != t]
    identity, source, target = torch.tensor(pairs, device=views.device).T
    flat = views.flatten(0, 1)
    image, weight = transfer(
        flat[identity * m + source],
        oriented[identity * sources + source],
        Pose.from_view(view[identity * m + source], camera),
        Pose.from_view(view[identity * m + target], camera),
        camera,
        importance,
        weights.occlusion,
    )
    wanted = flat[identity * m + target]
    terms = {"image": masked_l1(image, wanted, weight)}
    terms["perceptual"] = _features_apart(image, flat, identity * m + target, weight, perceptual)
    several = depth.unflatten(0, (n, sources))
    spread = (several - several.mean(dim=1, keepdim=True)).abs() * importance[0]
    terms["agreement"] = (spread.mean(dim=(1, 2, 3)) / (camera.max_depth - camera.min_depth)).mean()
    terms["smoothness"] = smoothness(normals_from_depth(depth, camera))
    terms["loss"] = terms["image"] + sum(getattr(weights, name) * terms[name] for name in terms if name != "image")
    return terms


def appearance_loss(
    nets: ShapeNets,
    views: Tensor,
    sources: int,
    mirror: Tensor,
    config: CategoryConfig,
    perceptual: nn.Module | None,
    weights: MultiviewLoss,
    importance: Tensor,
) -> dict[str, Tensor]:
    """Step 3's loss for albedo and light alone: a view's albedo, lit and seen as in each view, must be its image.

    Shape and views are taken as they are. A mirrored albedo under a mirrored shape has to explain them too, which
    leaves one-sided brightness to the light. Arguments as in :func:`multiview_loss`.
    """
    n, m = views.shape[:2]
    flat, chosen = views.flatten(0, 1), views[:, :sources].flatten(0, 1)
    with torch.no_grad():
        depth = nets.predict_depth(chosen, config)
        view = nets.predict_view(flat, config)
    albedo = nets.albedo(chosen).float()
    light = nets.predict_light(flat, config)
    turned = mirror.repeat_interleave(sources)
    depth = torch.where(turned[:, None, None], depth.flip(-1), depth)
    albedo = torch.where(turned[:, None, None, None], albedo.flip(-1), albedo)
    pairs = [(i, s, t) for i in range(n) for s in range(sources) for t in range(m)]
    identity, source, target = torch.tensor(pairs, device=views.device).T
    seen = identity * m + target
    rendered, _ = render_scene(depth, albedo, view[seen], light[seen], config.camera, owner=identity * sources + source)
    with torch.no_grad():
        place = importance.expand(len(seen), -1, -1, -1)
        weight = rendered.mask * F.grid_sample(place, rendered.grid, padding_mode="border", align_corners=True)
    terms = {"image": masked_l1(rendered.image, flat[seen], weight)}
    terms["perceptual"] = _features_apart(rendered.image, flat, seen, weight, perceptual)
    terms["loss"] = terms["image"] + weights.perceptual * terms["perceptual"]
    return terms


def _features_apart(
    image: Tensor, views: Tensor, wanted: Tensor, weight: Tensor, perceptual: nn.Module | None
) -> Tensor:
    """Feature loss of ``image`` (N, 3, S, S) against ``views[wanted]``; 0 without a perceptual network."""
    if perceptual is None:
        return image.new_zeros(())
    with torch.no_grad():
        known = [f[wanted] for f in perceptual.features(views, 1)]
    return feature_loss(perceptual.features(image, 1), known, weight)
