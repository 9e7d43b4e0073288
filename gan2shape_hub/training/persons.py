"""Shapes of single generated objects, each fused from the light walks of its views, and a network taught them.

The generator relights a view in place, so photometric stereo finds the normals that it shows
(``stages/photometric.py``). What several views of one identity find is brought into the canonical frame and averaged,
each place by how well each view sees it. The depth network then says it from one picture: with photographs' faults, and
under other lights than the generator's own, which the pool's log ratios give.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from gan2shape_hub.config import CameraConfig, CategoryConfig
from gan2shape_hub.models.shape import ShapeNets
from gan2shape_hub.rendering.camera import Pose, focal_px
from gan2shape_hub.rendering.renderer import raw_to_depth, visible_from, warp_depth
from gan2shape_hub.rendering.scene import canonical
from gan2shape_hub.stages.photometric import Evidence, stereo_round
from gan2shape_hub.training.chunks import make_chunks, read_chunks
from gan2shape_hub.training.faults import with_faults
from gan2shape_hub.training.recipe import PersonalDepthRecipe, PersonsRecipe
from gan2shape_hub.training.trainer import Job, Terms
from gan2shape_hub.training.view_pool import ViewPool

CHUNK = 20
"""Identities a file."""
DIMMED = 0.8
"""Of a log ratio, when an image is lit by it: the generator's lamps are stronger than most."""
FAINT = 0.02
"""Weight of what no view shows: it stays where it is."""


@dataclass(frozen=True)
class PersonShapes:
    """own (N, S, S): how the canonical depth of N identities departs from the average sheet, scene units; weight
    (N, S, S) in 0..1, how much their views say of it."""

    own: Tensor
    weight: Tensor

    def __len__(self) -> int:
        return len(self.own)

    def targets(self, sheet: Tensor, recipe: PersonsRecipe) -> Tensor:
        """Depths (N, S, S) about ``sheet``: what all have in common is the sheet's, and what is not known too."""
        common = (self.own * self.weight).sum(0) / self.weight.sum(0).clamp_min(0.5)
        return sheet + (self.own - common) * self.weight / (self.weight + recipe.known)


def make_persons(
    pool: ViewPool, nets: ShapeNets, sheet: Tensor, config: CategoryConfig, recipe: PersonsRecipe, job: Job
) -> PersonShapes:
    """The shapes of all identities of a lit pool, in the job's folder; ``sheet`` (S, S) is the average depth."""

    def make(which: range) -> dict[str, Tensor]:
        each = [fused(pool, identity, nets, sheet, config, recipe) for identity in which]
        own, weight = (torch.stack(part) for part in zip(*each, strict=True))
        return {"own": own, "weight": weight.half()}

    make_chunks(job, len(pool), make, CHUNK)
    return read_persons(job.folder, len(pool))


def read_persons(folder: Path, count: int) -> PersonShapes:
    paths = sorted(folder.glob("*.safetensors"))[: -(-count // CHUNK)]
    return PersonShapes(*(read_chunks(paths, name, count).float() for name in ("own", "weight")))


@torch.no_grad()
def fused(
    pool: ViewPool, identity: int, nets: ShapeNets, sheet: Tensor, config: CategoryConfig, recipe: PersonsRecipe
) -> tuple[Tensor, Tensor]:
    """Departure from ``sheet`` and weight (S, S) of one identity, on the CPU."""
    count, camera = pool.images.shape[1], config.camera
    every = torch.arange(count)
    images, masks = (x.to(sheet.device) for x in pool.masked(torch.full_like(every, identity), every))
    poses = Pose.from_view(nets.predict_view(images * masks, config), camera)
    starts, _ = warp_depth(sheet.expand(count, -1, -1), poses, camera)
    own = weight = torch.zeros_like(sheet)
    seen = torch.zeros_like(sheet)
    for view in range(count):
        ratios = pool.ratios(identity, view).to(sheet)
        evidence = Evidence.of(ratios, images[view], starts[view], masks[view, 0], config)
        depth = starts[view]
        for _ in range(config.photometric.rounds):
            depth, _ = stereo_round(evidence, starts[view], depth, config)
        found, say = _canonical(depth, evidence.weight, sheet, poses.index(view), camera)
        share = say**recipe.power
        own, weight, seen = own + found * share, weight + share, seen + say
    return (own / weight.clamp_min(FAINT)).cpu(), (seen / 2).clamp(0, 1).cpu()


def _canonical(
    view_depth: Tensor, weight: Tensor, sheet: Tensor, pose: Pose, camera: CameraConfig
) -> tuple[Tensor, Tensor]:
    """How ``view_depth`` (S, S) departs from ``sheet`` in the canonical frame, and its weight there."""
    depth, there = warp_depth(view_depth[None], pose.inverse(), camera)
    inside = canonical(weight[None, None], depth, pose, camera, padding="zeros")
    return depth[0] - sheet, (there * inside * visible_from(depth, pose, camera))[0, 0]


def person_terms(
    nets: ShapeNets,
    pool: ViewPool,
    targets: Tensor,
    weights: Tensor,
    config: CategoryConfig,
    recipe: PersonalDepthRecipe,
    device: torch.device,
) -> Terms:
    """Terms that teach ``nets.depth`` the depths ``targets`` with ``weights`` (N, S, S each) from every view."""
    camera, size = config.camera, config.image_size
    per_pixel = focal_px(size, camera.fov_deg) / camera.center_depth

    def slopes(depth: Tensor) -> Tensor:
        along = (depth[:, 1:-1, 2:] - depth[:, 1:-1, :-2], depth[:, 2:, 1:-1] - depth[:, :-2, 1:-1])
        return torch.stack(along, 1) * (per_pixel / 2)

    def terms(rng: torch.Generator) -> dict[str, Tensor]:
        identity = torch.randint(len(targets), (recipe.batch,), generator=rng)
        view = torch.randint(pool.images.shape[1], (recipe.batch,), generator=rng)
        images, masks = pool.masked(identity, view)
        images = torch.stack([_lit(image, pool, i, v, rng) for image, i, v in zip(images, identity, view, strict=True)])
        wanted, weight = targets[identity], weights[identity] + FAINT
        flip = (torch.rand(recipe.batch, generator=rng) < 0.5)[:, None, None]
        inputs = with_faults(images, rng) * masks
        inputs = torch.where(flip[:, None], inputs.flip(-1), inputs).to(device)
        wanted, weight = (torch.where(flip, x.flip(-1), x).to(device) for x in (wanted, weight))
        depth = raw_to_depth(nets.depth(inputs).float(), camera)
        error = depth - wanted
        total = weight.sum((1, 2), keepdim=True)
        error = error - (error * weight).sum((1, 2), keepdim=True) / total
        inner = weight[:, 1:-1, 1:-1]
        slant = ((slopes(depth) - slopes(wanted)).abs().sum(1) * inner).sum() / inner.sum()
        away = (error.abs() * weight).sum() / total.sum()
        return {"slopes": slant, "depth": away, "loss": slant + recipe.depth * away}

    return terms


def _lit(image: Tensor, pool: ViewPool, identity: Tensor, view: Tensor, rng: torch.Generator) -> Tensor:
    """The image (3, S, S) under one of the pool's lights, or, as often, as it is."""
    if torch.rand((), generator=rng) < 0.5:
        return image
    ratios = pool.ratios(int(identity), int(view))
    ratio = ratios[int(torch.randint(len(ratios), (), generator=rng))].float() * DIMMED
    return ((image / 2 + 0.5).clamp(0, 1) * (ratio / 2.2).exp()).clamp(0, 1) * 2 - 1
