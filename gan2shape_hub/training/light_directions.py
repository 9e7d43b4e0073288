"""Directions of W along which the light moves, and the layers of the generator that take them, found without labels.

A step along a component of W in one layer changes an image's brightness in a way that finite differences tell. A lamp
that moves changes the logarithm of the brightness, to first order, by the components of the surface's normal (Basri and
Jacobs, 2003), and those the shape networks know. So the light is the step whose change is nearest to a normal
component: a ridge regression over the pixels of a few images, with as many unknowns as there are components.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from gan2shape_hub.config import CategoryConfig
from gan2shape_hub.generator import ComponentGenerator, sample_latents
from gan2shape_hub.models.latent_projection import gan_image
from gan2shape_hub.models.shape import ShapeNets
from gan2shape_hub.rendering.camera import Pose
from gan2shape_hub.rendering.photometric import DARKEST, luminance
from gan2shape_hub.rendering.renderer import warp_depth
from gan2shape_hub.rendering.shading import normals_from_depth
from gan2shape_hub.rendering.transfer import box_importance
from gan2shape_hub.stages.mask import Masker

STEP = 1.5
"""Of the finite differences, in standard deviations of a component."""
RIDGE = 0.01
"""On the steps: a component that changes the log brightness by less than its root, 0.1 a step, says little."""
BLUR_PX = 5
"""Side of the window over which changes are averaged, at 128 pixels: an edge that moves is no light."""
CHUNK = 8


@dataclass(frozen=True)
class LightDirections:
    """Unit directions (3, components) of light from the left, from above and from the front in normalised components of
    W, the ``layers`` that take them, and their ``purity`` (3): the share in 0..1 of the changes of the log brightness
    that [1, normal] explains on images that were not fitted."""

    directions: Tensor
    layers: tuple[int, ...]
    purity: Tensor


@dataclass(frozen=True)
class Responses:
    """What steps along K components in each of L layers do to the log brightness of one image: mean products over the
    object's pixels, brightness as a whole taken out.

    changes (L, K, L, K): of the blurred changes with each other; edges (L, K, L, K): of what the blur takes away;
    with_normals (L, K, 3): of the changes with the normal's components to the left, upward and to the front; normals
    (3, 3): of those with each other.
    """

    changes: Tensor
    edges: Tensor
    with_normals: Tensor
    normals: Tensor


@dataclass(frozen=True)
class Purity:
    """How well directions (3) relight images in some layers: ``purity``, the share that normals explain; ``edges``, the
    change of edges over what normals explain; ``gain``, how much of its own normal component each adds (signed)."""

    purity: Tensor
    edges: Tensor
    gain: Tensor


@torch.no_grad()
def measure_responses(
    generator: ComponentGenerator,
    nets: ShapeNets,
    masker: Masker,
    config: CategoryConfig,
    log: Callable[[str], None],
    count: int = 10,
    seed: int = 0,
) -> tuple[tuple[int, ...], list[Responses]]:
    """Which layers change the picture at all (L of them), and the responses of ``count`` generated images in each."""
    rng = torch.Generator().manual_seed(seed)
    latents = sample_latents(generator, count, rng, config.truncation)[:, None].repeat(1, generator.num_latents, 1)
    layers = acting_layers(generator, latents[:1], config)
    found = []
    for i, latent in enumerate(latents):
        found.append(_responses(generator, nets, masker, config, latent[None], layers))
        log(f"brightness of image {i + 1} of {count} under steps in layers {', '.join(map(str, layers))}")
    return layers, found


def acting_layers(generator: ComponentGenerator, latent: Tensor, config: CategoryConfig) -> tuple[int, ...]:
    """The layers in which a step changes the image of ``latent`` (1, L, D) at ``image_size`` by a level of 8 bits."""
    unmoved = gan_image(generator, latent, config.image_size, config.crop_fraction)
    components = len(generator.component_std)
    step = _component_steps(generator).sum(0) / components**0.5
    acting = []
    for layer in range(generator.num_latents):
        moved = latent.clone()
        moved[:, layer] += step
        change = gan_image(generator, moved, config.image_size, config.crop_fraction) - unmoved
        if float(change.abs().max()) > 2 / 255:
            acting.append(layer)
    return tuple(acting)


def find_light_directions(
    layers: Sequence[int],
    responses: Sequence[Responses],
    turning: Sequence[Sequence[float]],
    log: Callable[[str], None],
    least: float,
) -> LightDirections | None:
    """The directions whose steps are nearest to lights, in the layers where they are purest.

    **Layers by measurement.** Every run of neighbouring layers is fitted on two thirds of the images and judged on the
    rest. Of those that move the light in all three directions the right way, the one with the best score is taken: the
    purity of the worst direction, divided by one plus the change of edges in the worst direction. Coarse layers explain
    brightness by moving the object, whose edges move along; fine ones change colours, which normals do not explain.

    Args:
        layers: the L layers that the responses are of; turning: directions (n, K) along which the object turns, which
            no light may contain (none: empty); least: purity below which nothing counts as light, 0..1.

    Returns:
        directions fitted on all images; None, with a line to ``log``, where the worst purity is below ``least``.
    """
    held_out = max(len(responses) // 3, 1)
    fitted, judged = responses[:-held_out], responses[-held_out:]
    best: tuple[float, range, Purity] | None = None
    for first in range(len(layers)):
        for last in range(first, len(layers)):
            run = range(first, last + 1)
            if layers[last] - layers[first] != last - first:
                continue
            purity = judge(judged, run, fit_steps(fitted, run, turning))
            score = float(purity.purity.min() / (1 + purity.edges.max()))
            log(
                f"layers {layers[first]} to {layers[last]}: purity {_numbers(purity.purity)}, "
                f"edges {_numbers(purity.edges)}, gain {_numbers(purity.gain)}, score {score:.3f}"
            )
            if float(purity.gain.min()) > 0 and (best is None or score > best[0]):
                best = score, run, purity
    if best is None or float(best[2].purity.min()) < least:
        log("no direction of W moves the light: relighting through the generator and light stereo are not available")
        return None
    _, run, purity = best
    directions = F.normalize(fit_steps(responses, run, turning).T, dim=1)
    return LightDirections(directions, tuple(layers[i] for i in run), purity.purity)


def fit_steps(responses: Sequence[Responses], layers: Sequence[int], turning: Sequence[Sequence[float]]) -> Tensor:
    """Steps (K, 3), shared by ``layers`` (indices into the responses'), whose changes of the log brightness are nearest
    to the normal's components, orthogonal to ``turning``."""
    changes = sum(_shared(r.changes, layers) for r in responses).double() / len(responses)
    wanted = sum(r.with_normals[list(layers)].sum(0) for r in responses).double() / len(responses)
    free = torch.eye(len(changes), dtype=changes.dtype, device=changes.device)
    held = RIDGE * free
    if len(turning):
        basis, _ = torch.linalg.qr(changes.new_tensor(turning).T)
        free = free - basis @ basis.T
    return (free @ torch.linalg.solve(free @ changes @ free + held, free @ wanted)).float()


def judge(responses: Sequence[Responses], layers: Sequence[int], steps: Tensor) -> Purity:
    """What ``steps`` (K, 3) do in ``layers``, mean over images."""
    found = []
    for r in responses:
        onto = r.with_normals[list(layers)].sum(0).T @ steps  # normals by directions
        weights = torch.linalg.pinv(r.normals, hermitian=True) @ onto  # a flat sheet has no normals to explain by
        explained = (weights * onto).sum(0)
        all_of_it, edges = ((steps * (_shared(x, layers) @ steps)).sum(0) for x in (r.changes, r.edges))
        least = torch.finfo(steps.dtype).tiny
        found.append(
            torch.stack((explained / all_of_it.clamp_min(least), edges / explained.clamp_min(least), weights.diag()))
        )
    return Purity(*torch.stack(found).mean(0))


def with_light(config: CategoryConfig, found: LightDirections | None) -> CategoryConfig:
    """``config`` that knows ``found``, or no directions of light."""
    rows = [] if found is None else found.directions.tolist()
    projection = dataclasses.replace(
        config.projection,
        light_directions=tuple(tuple(round(x, 5) for x in row) for row in rows),
        light_layers=() if found is None else found.layers,
    )
    return dataclasses.replace(config, projection=projection)


def _responses(
    generator: ComponentGenerator,
    nets: ShapeNets,
    masker: Masker,
    config: CategoryConfig,
    latent: Tensor,
    layers: Sequence[int],
) -> Responses:
    """Of the image of ``latent`` (1, L, D)."""
    size = config.image_size
    image = gan_image(generator, latent, size, config.crop_fraction).clamp(-1, 1)
    pose = Pose.from_view(nets.predict_view(image, config), config.camera)
    seen, _ = warp_depth(nets.predict_depth(image, config), pose, config.camera)
    normals = normals_from_depth(seen, config.camera)[0]  # inward, so to the left, upward and to the front outward
    weight = (masker(image) * box_importance(config.prior.default_box, size, 0.0).to(image))[0, 0].flatten()
    unmoved, steps = _log_brightness(image), _component_steps(generator)
    pixels = weight > 0.05
    root = (weight[pixels] / weight[pixels].sum()).sqrt()
    blurred, edges = [], []
    for layer in layers:
        for part in steps.split(CHUNK):
            moved = latent.repeat(len(part), 1, 1)
            moved[:, layer] += part
            lit = gan_image(generator, moved, size, config.crop_fraction).clamp(-1, 1)
            change = (_log_brightness(lit) - unmoved) / STEP
            smooth = _box(change, size)
            blurred.append(_centred(smooth.flatten(1)[:, pixels], root))
            edges.append((change - smooth).flatten(1)[:, pixels] * root)
    changes, fine = torch.cat(blurred), torch.cat(edges)
    wanted = _centred(normals.flatten(1)[:, pixels], root)
    shape = (len(layers), len(steps))
    return Responses(
        (changes @ changes.T).view(*shape, *shape),
        (fine @ fine.T).view(*shape, *shape),
        (changes @ wanted.T).view(*shape, 3),
        wanted @ wanted.T,
    )


def _component_steps(generator: ComponentGenerator) -> Tensor:
    """(K, D) a step of ``STEP`` along each component."""
    return STEP * generator.component_std[:, None] * generator.component_basis


def _log_brightness(images: Tensor) -> Tensor:
    """(N, S, S)."""
    return luminance(images).clamp_min(DARKEST).log()


def _box(maps: Tensor, size: int) -> Tensor:
    """Means of (N, S, S) over windows of ``BLUR_PX``."""
    reach = max(round(BLUR_PX * size / 128) // 2, 1)
    return F.avg_pool2d(maps[:, None], 2 * reach + 1, 1, reach, count_include_pad=False)[:, 0]


def _centred(rows: Tensor, root: Tensor) -> Tensor:
    """(N, P) without their weighted means, times the weights' ``root`` (P): brightness as a whole is left free."""
    return (rows - (rows @ root.square())[:, None]) * root


def _shared(products: Tensor, layers: Sequence[int]) -> Tensor:
    """(K, K) products of steps that ``layers`` share, of (L, K, L, K)."""
    chosen = list(layers)
    return products[chosen][:, :, chosen].sum((0, 2))


def _numbers(values: Tensor) -> str:
    return " ".join(f"{float(x):.2f}" for x in values)
