"""One shape has to explain how a generated head looks when the generator turns it: the losses on turned views.

The method's third step asks that one shape explain all projected views under an albedo and a light that networks
predict. Over many identities those stay blurred for long, and a blurred texture teaches little shape. Here a view
explains another one with its own pixels: they travel along the sheet from the view in which they were seen to the
other one, so that every pore is a witness. Skin hardly changes along the directions of W that turn a head; the light
stays where it is instead of turning with it, so details are compared and not brightness (``rendering/details.py``).
Nothing else is known of the images: no landmark, no 3D label, no face model.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gan2shape_hub.config import CategoryConfig
from gan2shape_hub.models.perceptual import feature_loss, masked_l1
from gan2shape_hub.models.shape import ShapeNets
from gan2shape_hub.rendering.camera import Pose
from gan2shape_hub.rendering.details import details
from gan2shape_hub.rendering.scene import render_scene, smoothness
from gan2shape_hub.rendering.shading import normals_from_depth
from gan2shape_hub.rendering.transfer import transfer
from gan2shape_hub.training.lighting import LitHeads, lighting_loss
from gan2shape_hub.training.recipe import MultiviewLoss


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
    turns: Tensor | None = None,
    heads: LitHeads | None = None,
    lit: Tensor | None = None,
) -> dict[str, Tensor]:
    """Terms of the loss, each the mean over the identities.

    Args:
        views: (n, m, 3, S, S) in -1..1, m views of n identities.
        inputs: the same as the networks see them, with brightness and contrast changed.
        sources: the first so many views of each identity give a depth, which has to explain all the other views.
        mirror: (n) bool; the depth of these identities is mirrored first. Objects are nearly symmetric, and the rest
            of the asymmetry is learnt when it is not mirrored.
        importance: (1, 1, S, S), see :func:`box_importance`.
        turns: (n, m, 2), the pitch and yaw, view units, that the walks say; None where nothing is known of them.
        heads, lit: heads under many lights and the (n, k) of them that each identity's shape has to explain; None
            leaves brightness out.

    Returns:
        ``image``, ``perceptual``, ``agreement``, ``smoothness``, ``turns`` and ``lighting``, unweighted, and their
        weighted sum, ``loss``.
    """
    n, m = views.shape[:2]
    camera = config.camera
    depth = nets.predict_depth(inputs[:, :sources].flatten(0, 1), config)
    view = nets.predict_view(inputs.flatten(0, 1), config)
    oriented = torch.where(mirror.repeat_interleave(sources)[:, None, None], depth.flip(-1), depth)
    pairs = [(i, s, t) for i in range(n) for s in range(sources) for t in range(m) if s != t]
    identity, source, target = torch.tensor(pairs, device=views.device).T
    with torch.no_grad():
        flat = details(views.flatten(0, 1), config.details)
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
    if turns is not None:
        terms["turns"] = pitch_disagreement(view.unflatten(0, (n, m))[..., :2], turns)
    if heads is not None:
        shape = oriented.unflatten(0, (n, sources)).mean(dim=1)
        terms["lighting"] = lighting_loss(heads, lit, shape, config)
    terms["loss"] = terms["image"] + sum(getattr(weights, name) * terms[name] for name in terms if name != "image")
    return terms


def pitch_disagreement(found: Tensor, walked: Tensor) -> Tensor:
    """How far the pitch differences of an identity's views are from those of their walks (scalar, view units).

    Pixels hardly say how a head nods: little moves, and much of it like a smaller head. Walks do, but for their unit,
    which is the one in which the views agree with the walks' yaw, which pixels say well.

    Args:
        found, walked: (n, m, 2) pitch and yaw of m views of n identities.
    """
    found, walked = (v - v.mean(dim=1, keepdim=True) for v in (found, walked))
    yaw, steps = found[..., 1].detach(), walked[..., 1]
    unit = ((yaw * steps).sum(dim=1) / steps.square().sum(dim=1).clamp_min(1e-4)).clamp(0.3, 1.5)
    return F.smooth_l1_loss(found[..., 0], unit[:, None] * walked[..., 0], beta=0.05)


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
