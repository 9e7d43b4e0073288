"""A scene's layers continued beyond the sheet's frame, so that a model holds all that a photograph shows of an object.

The sheet is seen by its own, canonical camera; a head that the photograph shows nearer or lower reaches beyond it.
There the sheet goes on as it ends.
"""

from __future__ import annotations

import math
from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor

from gan2shape_hub.config import CameraConfig
from gan2shape_hub.rendering.camera import Pose, project, unproject
from gan2shape_hub.results.mesh import Window

MARGIN = 5 / 32
"""Of the sheet's side, on each side."""
ARRIVES = 0.08
"""Of the sheet's side: over so much below the upper edge the outline tells how it arrives there."""
HEM = 0.12
"""Of the sheet's side: over so much above its lower edge the sheet is brought to a plain curve."""
INNER = 1.0
"""Of its height: below it a balloon's shape is mixed in."""
BROWS = 0.3
"""Of the sheet's side: so far are a head's brows below its upper end."""
STEEPER = 1.5
"""By how many times its slope a surface becomes steeper at its outline."""
FRAYED = 2 / 128
"""Of the sheet's side: so near to its edge the sheet bends, since nothing beyond holds it."""


def margin(side: int) -> int:
    """Pixels by which a sheet of ``side`` pixels goes on."""
    return round(MARGIN * side)


def wide_camera(camera: CameraConfig, side: int) -> CameraConfig:
    """The camera of a sheet of ``side`` pixels with its margins: the same focal length, more to see."""
    spread = math.tan(math.radians(camera.fov_deg) / 2) * (side - 1 + 2 * margin(side)) / (side - 1)
    return replace(camera, fov_deg=2 * math.degrees(math.atan(spread)), border_px=0)


def widened(maps: Tensor) -> Tensor:
    """(C, S, S) with margins that repeat the border."""
    return F.pad(maps[None], (margin(maps.shape[-1]),) * 4, mode="replicate")[0]


def mirrored(picture: Tensor) -> Tensor:
    """(C, S, S) with margins in which it is mirrored: no streaks where an object goes on."""
    return F.pad(picture[None], (margin(picture.shape[-1]),) * 4, mode="reflect")[0]


def widened_depth(depth: Tensor) -> Tensor:
    """(S, S) with margins that go on as the sheet is a little inside its edge, smoother and smoother, since its noise
    would be drawn out into pleats."""
    kernel = depth.new_tensor([[[0.25, 0.5, 0.25]]])

    def smoothed(line: Tensor) -> Tensor:
        for _ in range(4):
            line = F.conv1d(F.pad(line[None, None], (1, 1), mode="replicate"), kernel)[0, 0]
        return line

    frayed, reach = round(FRAYED * depth.shape[-1]), margin(depth.shape[-1])
    depth = depth[frayed:-frayed, frayed:-frayed] if frayed else depth
    for _ in range(reach + frayed):
        depth = torch.cat((smoothed(depth[0])[None], depth, smoothed(depth[-1])[None]))
        depth = torch.cat((smoothed(depth[:, 0])[:, None], depth, smoothed(depth[:, -1])[:, None]), 1)
    return depth


def without_ceiling(alpha: Tensor) -> Tensor:
    """A widened mask (S, S) that ends where the photograph ends above."""
    rows = round(alpha.shape[-1] * MARGIN / (1 + 2 * MARGIN))
    return torch.cat((torch.zeros_like(alpha[:rows]), alpha[rows:]))


def crowned(alpha: Tensor) -> Tensor:
    """A widened mask (S, S) in 0..1 whose object, where the photograph's upper edge cuts it, is closed above by a
    crown: an arch over the cut that goes on as the outline arrives at its two ends."""
    side = alpha.shape[-1]
    rows = round(side * MARGIN / (1 + 2 * MARGIN))
    cut = torch.nonzero(alpha[rows] > 0.5)[:, 0]
    if not len(cut):
        return without_ceiling(alpha)
    reach = max(1, round(ARRIVES * side))
    below = torch.nonzero((alpha[rows : rows + reach + 1] > 0.5).any(0))[:, 0]
    half, lower = (0.5 * float(it[-1] - it[0] + 1) for it in (cut, below))
    centre = max(0.0, (lower**2 - half**2 + reach**2) / (2 * reach))  # of the circle through both widths, below the cut
    radius = math.hypot(half, centre)
    across = torch.arange(side).to(alpha) - 0.5 * float(cut[0] + cut[-1])
    arch = (radius**2 - across.square()).clamp_min(0).sqrt() - centre
    arch = arch * min(1, half / 2 / (radius - centre), 0.9 * rows / (radius - centre))
    above = (arch - torch.arange(rows, 0, -1).to(alpha)[:, None] + 1).clamp(0, 1)
    return torch.cat((above, alpha[rows:]))


def shown(depth: Tensor, alpha: Tensor, pose: Pose, camera: CameraConfig) -> tuple[Tensor, Tensor]:
    """Which points of a widened sheet ``depth`` (S, S) are the object's by ``alpha`` (M, M): (S, S) bool; and where the
    photograph shows them: (S, S, 2), pixels of the sheet."""
    side = depth.shape[-1]
    pixels = project(pose.apply(unproject(depth[None], camera), camera), camera, (side, side))
    lookup = (2 * pixels + 1) / side - 1
    return F.grid_sample(alpha[None, None].to(depth), lookup, align_corners=False)[0, 0] > 0.5, pixels[0]


def window(there: Tensor, pixels: Tensor) -> Window:
    """The part of a widened sheet whose object the photograph shows (`shown`): cut straight along rows and columns,
    where more than half of the object's points are outside. Above, a crown closes it."""
    side = len(there)
    edge = round(side * MARGIN / (1 + 2 * MARGIN)) - 0.5
    x, y = pixels.unbind(-1)

    def outside(which: Tensor, dim: int) -> Tensor:
        return torch.nonzero((there & which).sum(dim) > 0.5 * there.sum(dim))[:, 0]

    low, high, below = outside(x < edge, 0), outside(x > side - 1 - edge, 0), outside(y > side - 1 - edge, 1)
    return Window(
        0,
        int(below.min()) - 1 if len(below) else side - 1,
        int(low.max()) + 1 if len(low) else 0,
        int(high.min()) - 1 if len(high) else side - 1,
    )


def raised(depth: Tensor, there: Tensor, crowned: Tensor) -> Tensor:
    """A widened sheet ``depth`` (S, S) whose part above the brows is drawn up, so that what it had at the upper end of
    the object ``there`` is at that of the object with its crown; both (S, S) bool. Beyond its frame it knows nothing,
    and would be a tube or a cone."""
    side = len(depth)
    first, crown = (int(torch.nonzero(mask.any(1))[0]) if mask.any() else 0 for mask in (there, crowned))
    rows = torch.arange(side, dtype=torch.float64)
    brows = first + BROWS * side
    rows = torch.where(rows < brows, brows - (brows - rows) * (brows - first) / (brows - crown), rows).clamp_min(0)
    low = rows.long().clamp(max=side - 2)
    return torch.lerp(depth[low], depth[low + 1], (rows - low).to(depth)[:, None])


def rounded(depth: Tensor, there: Tensor) -> Tensor:
    """A widened sheet ``depth`` (S, S) whose object, ``there`` (S, S) bool, goes over at its outline into the balloon
    that it is most like: a sheet flattens there toward the wall behind it, as no head does."""
    side = len(depth)
    high = balloon(F.max_pool2d(there.to(depth)[None, None], 5, 1, 2)[0, 0] > 0)
    share = (high / (INNER * high.max()).clamp_min(1e-9)).clamp(max=1)
    share = share * share * (3 - 2 * share)
    at = torch.linspace(-1, 1, side).to(depth)
    terms = torch.stack((torch.ones_like(depth), at[:, None].expand(side, side), -high), -1)
    weight = (share**4 * (1 - share) * there)[..., None].double()  # a brim has little to say
    normal = torch.einsum("rca,rcb->ab", weight * terms, terms.double()) + 1e-9 * torch.eye(3).to(weight)
    found = torch.linalg.solve(normal, torch.einsum("rca,rc->a", weight * terms, depth.double()))
    like = (terms.double() @ found).to(depth)
    return like + share * (depth - like)


def balloon(inside: Tensor) -> Tensor:
    """(S, S): how high a balloon stands over the flat region ``inside`` (S, S) bool, in parts of S: the square root of
    the solution of Poisson's equation (`results.inflate`), free at the frame; conjugate gradients."""
    side, cover = len(inside), inside.float()

    def outflow(x: Tensor) -> Tensor:
        wide = F.pad(x[None, None], (1, 1, 1, 1), mode="replicate")[0, 0]
        around = wide[:-2, 1:-1] + wide[2:, 1:-1] + wide[1:-1, :-2] + wide[1:-1, 2:]
        return cover * (4 * x - around)

    x, rest = torch.zeros_like(cover), 4 / side**2 * cover
    step, energy = rest, rest.square().sum()
    enough = 1e-6 * energy
    for _ in range(4 * side):
        if energy <= enough:
            break
        forth = outflow(step)
        length = energy / (step * forth).sum()
        x, rest = x + length * step, rest - length * forth
        energy, before = rest.square().sum(), energy
        step = rest + energy / before * step
    return x.clamp_min(0).sqrt()


def hemmed(depth: Tensor, there: Tensor, bottom: int) -> Tensor:
    """A widened sheet ``depth`` (S, S) that ends at the row ``bottom`` in a plain curve, a parabola over the columns of
    the object: folds of a neck would show as waves of its lower edge, which nothing of a picture tells."""
    side = len(depth)
    reach = max(2, round(HEM * side))
    at = torch.linspace(-1, 1, side).to(depth).double()
    powers = torch.stack((torch.ones_like(at), at, at.square()), 1)
    band = slice(max(0, bottom - reach // 2), bottom + 1)
    weight = there[band].double()
    if int((weight.sum(0) > 0).sum()) < 8:
        return depth
    normal = torch.einsum("rc,ca,cb->ab", weight, powers, powers) + 1e-9 * torch.eye(3).to(powers)
    curve = powers @ torch.linalg.solve(normal, torch.einsum("rc,ca->a", weight * depth[band].double(), powers))
    known = depth[band][there[band]]
    curve = curve.clamp(known.min(), known.max())
    share = ((torch.arange(side).to(depth) - bottom) / reach + 1).clamp(0, 1)
    share = (share * share * (3 - 2 * share))[:, None]
    return depth + share * (curve.to(depth) - depth)
