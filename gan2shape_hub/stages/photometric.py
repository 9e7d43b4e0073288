"""The object's own relief, read off the pictures of its light walk (``stages/light_walk.py``).

An addition to the paper. The sheet starts as the category's average one in the image's view (or what the networks say);
lights, normals and the surface are then found in turn (``rendering/photometric.py``, ``rendering/integrate.py``). Free
lights leave a freedom to the shape (bas-relief): low frequencies are the average sheet's, which many views and people
have found together, and the details are the person's own.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from gan2shape_hub.config import CameraConfig, CategoryConfig
from gan2shape_hub.records import Scene
from gan2shape_hub.rendering.camera import Pose
from gan2shape_hub.rendering.integrate import depth_from_normals
from gan2shape_hub.rendering.photometric import fit_lights, fit_normals, log_ratios, luminance
from gan2shape_hub.rendering.renderer import visible_from, warp_depth
from gan2shape_hub.rendering.scene import canonical, resized
from gan2shape_hub.rendering.shading import normals_from_depth
from gan2shape_hub.run import Run
from gan2shape_hub.stages.preview import scene_preview
from gan2shape_hub.state import State


@torch.no_grad()
def photometric_stereo(state: State, run: Run) -> State:
    """Depth (K, S, S) and view (K, 6) of the scenes, S being the lit images' side; albedo and light stay."""
    config, targets, scenes = run.config, state.targets, []
    every, rounds = state.seen(config), config.photometric.rounds
    size = state.lit.shape[-1]
    for k in range(len(targets)):
        scene, mask = every.select(slice(k, k + 1)), targets.masks[k : k + 1]
        # The background has no part in how the head is held: the same head before a white wall is not turned more.
        view = state.nets.predict_view(targets.images[k : k + 1] * mask, config)
        known = state.average is not None and not config.photometric.from_nets
        base = state.average[None] if known else scene.depth
        base = _larger(base, size)
        scene = Scene(base, resized(scene.albedo, size), view, scene.light)
        pose, mask = Pose.from_view(view, config.camera), resized(mask, size)[0, 0].clamp(0, 1)
        start, _ = warp_depth(base, pose, config.camera)
        depth, now = start[0], scene
        lit, blur = state.lit[k], config.photometric.blur_px * size / 128
        evidence = Evidence.of(log_ratios(lit[1:], lit[0], blur), lit[0], start[0], mask, config)
        for number in range(rounds):
            depth, spread = stereo_round(evidence, start[0], depth, config)
            sheet = into_canonical(depth, mask, base[0], pose, config.camera)
            now = dataclasses.replace(scene, depth=sheet[None])
            preview = scene_preview(targets.images[k], lambda now=now: now, config)
            run.tick(k * rounds + number, spread, preview)
        scenes.append(now)
    return state.replace(scene=Scene.cat(scenes))


@dataclass(frozen=True)
class Evidence:
    """What a light walk says of a view's pixels.

    ratios: (J, P) logarithms; weight: (S, S), what each pixel's normal counts; told: (P), what it says of the lights:
    that in the category's box, which the average shape knows best.
    """

    ratios: Tensor
    weight: Tensor
    told: Tensor

    @classmethod
    def of(cls, ratios: Tensor, unlit: Tensor, start: Tensor, mask: Tensor, config: CategoryConfig) -> Evidence:
        """Of log ratios (J, S, S) of the view ``unlit`` (3, S, S) that shows about the depth ``start`` (S, S) inside
        ``mask`` (S, S). Hair is dark, and what is seen at a grazing angle is seen badly."""
        constants = config.photometric
        brightness, box = luminance(unlit), _box(config.prior.default_box, unlit.shape[-1]).to(unlit)
        typical = (brightness * mask * box).sum() / (mask * box).sum().clamp_min(1e-6)
        bright = (brightness / (constants.dark * typical).clamp_min(1e-6)).clamp(0, 1).square()
        frontal = normals_from_depth(start[None], config.camera)[0, 2].clamp(0, 1)
        weight = mask * bright * frontal**constants.grazing_power
        return cls(ratios.flatten(1), weight, (weight * box).flatten())


def stereo_round(evidence: Evidence, start: Tensor, depth: Tensor, config: CategoryConfig) -> tuple[Tensor, Tensor]:
    """The view's depth (S, S) after one turn of lights, normals and surface, and what the lights left unexplained;
    normals and the bulge are held to ``start`` (S, S)."""
    constants, camera, weight = config.photometric, config.camera, evidence.weight
    prior, now = (-normals_from_depth(d[None], camera)[0].flatten(1) for d in (start, depth))
    lights, spread = fit_lights(evidence.ratios, now, evidence.told, constants.order, constants.ridge)
    normals = fit_normals(
        evidence.ratios,
        lights,
        spread * constants.doubt,
        now,
        weight.flatten(),
        prior=prior,
        order=constants.order,
        reach=constants.reach,
    )
    # What counts little knows little: hair and what lies beyond the mask go on as they were.
    share = (weight.flatten() / constants.trusted).clamp(max=1)
    normals = F.normalize(prior + share * (normals - prior), dim=0)
    depth = depth_from_normals(
        normals.view(3, *depth.shape),
        weight.clamp_min(constants.carries_on),
        start,
        camera,
        blocks=constants.blocks,
        tie=constants.tie,
    )
    return depth, spread.mean()


def into_canonical(view_depth: Tensor, mask: Tensor, base: Tensor, pose: Pose, camera: CameraConfig) -> Tensor:
    """The canonical sheet (S, S) of what the view's ``view_depth`` (S, S) shows inside ``mask`` (S, S).

    What it does not show goes on as ``base`` (S, S) does, without a step: the difference is carried on smoothly.
    """
    seen_depth, there = warp_depth(view_depth[None], pose.inverse(), camera)
    inside = canonical(mask[None, None], seen_depth, pose, camera, padding="zeros")
    sure = there * inside * visible_from(seen_depth, pose, camera)
    frontal = normals_from_depth(seen_depth, camera)[:, 2:].clamp(0, 1)
    return base + _carried_on((seen_depth - base)[:, None], sure * frontal)[0, 0]


def _carried_on(values: Tensor, weight: Tensor, least: float = 0.05) -> Tensor:
    """``values`` (1, 1, S, S) where they have ``weight``, elsewhere smooth and as those nearby: averages over ever
    larger cells fill in what smaller ones do not know (Gortler et al., "The lumigraph", 1996)."""
    if min(values.shape[-2:]) <= 2:
        mean = (values * weight).sum() / weight.sum().clamp_min(1e-6)
        return torch.full_like(values, float(mean))
    known = F.avg_pool2d(weight, 2, ceil_mode=True, count_include_pad=False)
    means = F.avg_pool2d(values * weight, 2, ceil_mode=True, count_include_pad=False) / known.clamp_min(1e-6)
    coarse = _carried_on(means, (known / least).clamp(max=1) * (known > 0))
    coarse = F.interpolate(coarse, values.shape[-2:], mode="bilinear", align_corners=False)
    share = (weight / least).clamp(0, 1)
    return share * values + (1 - share) * coarse


def _box(box: tuple[float, float, float, float], size: int) -> Tensor:
    """(size, size) 1 in the ellipse of ``box`` (top, left, bottom, right in 0..1), else 0."""
    top, left, bottom, right = box
    v, u = torch.meshgrid(torch.linspace(0, 1, size), torch.linspace(0, 1, size), indexing="ij")
    across = (u - (left + right) / 2) / ((right - left) / 2)
    along = (v - (top + bottom) / 2) / ((bottom - top) / 2)
    return (across.square() + along.square() < 1).float()


def _larger(depth: Tensor, size: int) -> Tensor:
    """Depth (1, S, S) on the rays of a sheet of ``size``."""
    if depth.shape[-1] == size:
        return depth
    return F.interpolate(depth[:, None], (size, size), mode="bicubic", align_corners=True)[:, 0]
