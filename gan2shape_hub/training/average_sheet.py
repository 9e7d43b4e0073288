"""The average object of a category, from the light walks of a crowd.

The generator relights people in place (``LatentProjection.relight``) from several sides. Brought into the frame of the
average object and averaged, the log ratios of many people have lost what is one person's, and photometric stereo on
what remains gives the normals that they have in common. Their integral is held to the networks' average sheet where
normals know little: the bulge as a whole.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from gan2shape_hub.config import CategoryConfig
from gan2shape_hub.generator import ComponentGenerator, sample_latents
from gan2shape_hub.models.average_sheet import AverageSheet
from gan2shape_hub.models.latent_projection import LatentProjection, gan_image
from gan2shape_hub.models.shape import ShapeNets
from gan2shape_hub.rendering.camera import Pose
from gan2shape_hub.rendering.integrate import depth_from_normals
from gan2shape_hub.rendering.photometric import fit_lights, fit_normals, log_ratios, luminance
from gan2shape_hub.rendering.renderer import visible_from
from gan2shape_hub.rendering.scene import canonical
from gan2shape_hub.rendering.shading import normals_from_depth
from gan2shape_hub.rendering.transfer import box_importance
from gan2shape_hub.stages.mask import Masker

REACH = 0.2
"""Radians by which the found normals differ from the networks' average."""
ALTERNATIONS = 8
"""Of lights, normals and their integral; the residual falls no further after six."""
SEEN = 0.15
"""Share of the people that must show a pixel under a light for it to count."""
CHUNK = 8


@dataclass(frozen=True)
class Crowd:
    """What J lit views show of many people, in the frame of ``sheet`` (S, S), the networks' average depth.

    ratios (J, S, S): mean log ratios; weights (J, S, S): the share in 0..1 of the people that show the pixel; cover
    (S, S): their mean mask, 1 where every person is.
    """

    sheet: Tensor
    ratios: Tensor
    weights: Tensor
    cover: Tensor

    def with_mirror_image(self) -> Crowd:
        """The same with everybody's mirror image: lights are free, so mirrored views are just further ones."""
        both = [torch.cat([x, x.flip(-1)]) for x in (self.ratios, self.weights)]
        sheet, cover = ((x + x.flip(-1)) / 2 for x in (self.sheet, self.cover))
        return Crowd(sheet, *both, cover)


@torch.no_grad()
def collect_crowd(
    generator: ComponentGenerator,
    nets: ShapeNets,
    masker: Masker,
    config: CategoryConfig,
    log: Callable[[str], None],
    people: int = 40,
    seed: int = 0,
    yaws_deg: tuple[float, ...] = (0.0,),
) -> Crowd:
    """Light walks of ``people`` generated objects from every yaw, where the category knows directions to turn along;
    else from their own view alone.

    ValueError where ``config`` knows no directions of light.
    """
    projection = LatentProjection(generator, config.projection)
    rng = torch.Generator().manual_seed(seed)
    latents = sample_latents(generator, people, rng, config.truncation)
    views = [_turned(latent[None], projection, nets, config, yaws_deg) for latent in latents]
    sheet = _mean_depth((view for turned in views for view in turned), projection, nets, config)
    camera, count = config.camera, len(config.light_walk.steps)
    box = box_importance(config.prior.default_box, config.image_size, 0.0)[0, 0].to(sheet)
    total = weight = torch.zeros(len(views[0]), count, *sheet.shape, device=sheet.device)
    masked = seen_at_all = torch.zeros_like(sheet)
    for person, turned in enumerate(views):
        ratios, weights = [], []
        for latent in turned:
            unlit, found = _light_walk(latent, projection, config)
            pose = Pose.from_view(nets.predict_view(unlit, config), camera)
            maps = torch.cat([found, masker(unlit)[0], luminance(unlit)])
            maps = canonical(maps[None], sheet[None], pose, camera)[0]
            visible = visible_from(sheet[None], pose, camera)[0, 0]
            mask, brightness = maps[count], maps[count + 1]
            # Hair and shadows are dark, and say little of the surface.
            typical = (brightness * mask * visible * box).sum() / (mask * visible * box).sum().clamp_min(1e-6)
            bright = (brightness / (config.photometric.dark * typical).clamp_min(1e-6)).clamp(0, 1).square()
            ratios.append(maps[:count])
            weights.append((mask * visible * bright).expand(count, -1, -1))
            masked, seen_at_all = masked + mask * visible, seen_at_all + visible
        total = total + torch.stack(ratios) * torch.stack(weights)
        weight = weight + torch.stack(weights)
        log(f"light walks of {person + 1} of {people}, from {len(turned)} sides")
    return Crowd(
        sheet,
        (total / weight.clamp_min(1e-3)).flatten(0, 1),
        (weight / people).flatten(0, 1),
        masked / seen_at_all.clamp_min(1),
    )


@torch.no_grad()
def solve_average(crowd: Crowd, config: CategoryConfig, log: Callable[[str], None]) -> AverageSheet:
    """The sheet whose normals explain the crowd; symmetric where the category is (``average_mirrored``)."""
    if config.average_mirrored:
        crowd = crowd.with_mirror_image()
    size, constants = crowd.sheet.shape[-1], config.photometric
    ratios, weights = crowd.ratios.flatten(1), crowd.weights.flatten(1)
    box = box_importance(config.prior.default_box, size, 0.0).to(ratios).flatten()
    inner = box * weights * (weights > SEEN)
    sure = crowd.weights.mean(0)
    prior = normals = _outward(crowd.sheet, config)
    depth = crowd.sheet
    for number in range(ALTERNATIONS):
        lights, spread = fit_lights(ratios, normals, inner, constants.order, constants.ridge)
        # Views of one crowd are not independent: together they count as one light walk.
        share = weights * len(config.light_walk.steps) / len(weights)
        error, spread = spread.square().mean().sqrt(), constants.doubt * spread
        normals = fit_normals(
            ratios, lights, spread, normals, share, prior=prior, order=constants.order, reach=REACH
        ).view(3, size, size)
        depth = depth_from_normals(
            normals, sure, crowd.sheet, config.camera, blocks=constants.blocks, tie=constants.tie
        )
        if config.average_mirrored:
            depth = (depth + depth.flip(-1)) / 2
        normals = _outward(depth, config)
        log(f"average sheet: {number + 1} of {ALTERNATIONS}, unexplained {float(error):.4f}")
    average = AverageSheet(size)
    average.depth.copy_(depth)
    average.cover.copy_(crowd.cover)
    return average


def _turned(
    latent: Tensor,
    projection: LatentProjection,
    nets: ShapeNets,
    config: CategoryConfig,
    yaws_deg: tuple[float, ...],
) -> list[Tensor]:
    """The latent (1, D) turned to every yaw, its pitch kept: further steps along that direction change the object."""
    if not projection.walks:
        return [latent]
    own = nets.predict_view(_image(latent, projection, config), config)[:, :2]
    yaws = torch.tensor(yaws_deg).to(own) / config.camera.view_angle_deg - own[:, 1]
    turns = torch.stack((torch.zeros_like(yaws), yaws), 1)
    return list(projection.walk(latent.expand(len(turns), -1), turns).split(1))


def _mean_depth(
    latents: Iterator[Tensor], projection: LatentProjection, nets: ShapeNets, config: CategoryConfig
) -> Tensor:
    """(S, S) of what the networks say of the images of all ``latents``."""
    total, count = 0, 0
    for latent in latents:
        depth = nets.predict_depth(_image(latent, projection, config), config)[0]
        total, count = total + depth, count + 1
    return total / count


def _light_walk(latent: Tensor, projection: LatentProjection, config: CategoryConfig) -> tuple[Tensor, Tensor]:
    """The unlit image (1, 3, S, S) of a latent (1, D) and the log ratios (J, S, S) of its light walk."""
    steps = torch.tensor(config.light_walk.steps).to(latent)
    unlit = _image(latent, projection, config)
    lit = [_image(part, projection, config) for part in projection.relight(latent, steps).split(CHUNK)]
    return unlit, log_ratios(torch.cat(lit), unlit[0])


def _image(latents: Tensor, projection: LatentProjection, config: CategoryConfig) -> Tensor:
    return gan_image(projection.generator, latents, config.image_size, config.crop_fraction).clamp(-1, 1)


def _outward(depth: Tensor, config: CategoryConfig) -> Tensor:
    """Outward normals (3, P) of depth (S, S)."""
    return -normals_from_depth(depth[None], config.camera)[0].flatten(1)
