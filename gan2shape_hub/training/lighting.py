"""Photometric stereo over a crowd: what many differently lit heads together say of their average shape.

Where skin is plain, turned views say little: nothing on a forehead marks its place. But lamps differ from photograph to
photograph, and the brightness of a matte surface is, to first order, a combination of the albedo and the albedo times
the three parts of the normal, with one set of four weights a photograph (Basri and Jacobs 2003; for faces in the wild
Kemelmacher-Shlizerman and Seitz 2011). So the normals of the right shape span the ways in which the brightness of a
crowd varies. A span does not know the normals' scale or slant (the bas-relief ambiguity); turned views do.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import Tensor

from gan2shape_hub.atomic import atomic_file
from gan2shape_hub.config import CategoryConfig
from gan2shape_hub.models.shape import ShapeNets
from gan2shape_hub.rendering.camera import Pose
from gan2shape_hub.rendering.details import blur
from gan2shape_hub.rendering.renderer import visible_from
from gan2shape_hub.rendering.scene import canonical
from gan2shape_hub.rendering.shading import normals_from_depth
from gan2shape_hub.rendering.transfer import box_importance
from gan2shape_hub.training.view_pool import ViewPool

GAMMA = 2.2
LUMA = (0.3, 0.59, 0.11)
REDUCTION = 4
"""Of the image's side."""
SMOOTH = 4.0
"""Standard deviation, in pixels of a 128 pixel image, of the blur of sheets before their normals are taken. Fine folds
would explain lips, teeth and brows, which vary by more than light; and averaged normals of folds, highlights."""
RIDGE = 1e-3
"""On the three directional weights of a photograph, against an ill-posed fit where little of a head is seen."""
PLAIN = 3.0
"""Pixels count by their spread to the power of -PLAIN: brows and hair vary for other reasons than light."""


@dataclass(frozen=True)
class LitHeads:
    """Photographs of many heads in the average head's frame, ``REDUCTION`` times smaller: ``brightness`` (N, s, s) over
    the average photograph's, ``seen`` (N, s, s) of 0 and 1, ``spread`` (s, s), which is what light does not explain."""

    brightness: Tensor
    seen: Tensor
    spread: Tensor

    def __len__(self) -> int:
        return len(self.brightness)

    def to(self, device: torch.device) -> LitHeads:
        return LitHeads(self.brightness.to(device), self.seen.to(device), self.spread.to(device))


def load_lit_heads(
    path: Path,
    pool: ViewPool,
    nets: ShapeNets,
    config: CategoryConfig,
    log: Callable[[str], None],
    identities: int = 100,
) -> LitHeads:
    """What ``path`` keeps, made from the pool's first identities and the networks' shape and views where there is no
    such file: a resumed training sees what it saw before. An OSError says what cannot be read or written."""
    if not path.exists():
        heads = collect_lit_heads(pool, nets, config, identities)
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_file(path) as part:
            save_file({name: getattr(heads, name) for name in LitHeads.__dataclass_fields__}, part)
        log(f"{len(heads)} lit heads in one frame")
    return LitHeads(**load_file(path))


@torch.no_grad()
def collect_lit_heads(pool: ViewPool, nets: ShapeNets, config: CategoryConfig, identities: int = 100) -> LitHeads:
    """Views of the pool's first ``identities`` and their mirror images on the average of their sheets; on the CPU.

    Views that show less than 0.3 of the category's box are left out; nothing is left where none shows more.
    """
    camera, views = config.camera, pool.images.shape[1]
    device = next(nets.depth.parameters()).device
    which = torch.arange(min(len(pool), identities))
    sheets = [
        nets.predict_depth(pool.floats(i[None], torch.zeros(1, dtype=torch.long)).to(device), config) for i in which
    ]
    sheet = torch.stack(sheets).mean(dim=0)
    sheet = ((sheet + sheet.flip(-1)) / 2).expand(views, -1, -1)
    bright, seen = [], []
    luma = torch.tensor(LUMA, device=device)[:, None, None]
    for i in which:
        images = pool.floats(i.expand(views), torch.arange(views)).to(device)
        pose = Pose.from_view(nets.predict_view(images, config), camera)
        luminance = ((images / 2 + 0.5).clamp(0.02, 1) ** GAMMA * luma).sum(dim=1, keepdim=True)
        bright.append(F.avg_pool2d(canonical(luminance, sheet, pose, camera), REDUCTION)[:, 0])
        seen.append(F.avg_pool2d(visible_from(sheet, pose, camera), REDUCTION)[:, 0] > 0.99)
    box = (
        F.avg_pool2d(box_importance(config.prior.default_box, config.image_size, 0.0).to(device), REDUCTION)[0, 0] > 0.5
    )
    brightness, mask = torch.cat(bright), (torch.cat(seen) & box).float()
    brightness, mask = (torch.cat([x, x.flip(-1)]) for x in (brightness, mask))
    enough = mask.sum(dim=(1, 2)) > 0.3 * box.sum()
    brightness, mask = brightness[enough], mask[enough]
    brightness = (
        brightness / ((brightness * mask).sum(dim=(1, 2)) / mask.sum(dim=(1, 2))).clamp_min(1e-3)[:, None, None]
    )
    average = (brightness * mask).sum(dim=0) / mask.sum(dim=0).clamp_min(1)
    heads = LitHeads(brightness / average.clamp_min(1e-3), mask, torch.full_like(average, 0.3))
    for _ in range(3):
        heads = LitHeads(heads.brightness, heads.seen, _spread(heads, sheet[:1], config))
    return LitHeads(*(x.cpu().contiguous() for x in (heads.brightness, heads.seen, heads.spread)))


def lighting_loss(heads: LitHeads, which: Tensor, depth: Tensor, config: CategoryConfig) -> Tensor:
    """How much of the brightness of heads no light on these sheets explains: scalar, the mean over the sheets of a
    robust square (half the log of 1 + the square) in units of each pixel's usual spread.

    Args:
        which: (n, k) indices of the lit heads that sheet i has to explain.
        depth: (n, S, S) canonical, each about the average head's.
    """
    error, seen = _unexplained(heads, which, depth, config)
    weight = seen * heads.spread.flatten() ** -PLAIN
    each = ((1 + error.square()).log() / 2 * weight).sum(dim=(1, 2)) / weight.sum(dim=(1, 2)).clamp_min(1e-6)
    return each.mean()  # so that two processes with n sheets each have what one has with 2n


def _unexplained(heads: LitHeads, which: Tensor, depth: Tensor, config: CategoryConfig) -> tuple[Tensor, Tensor]:
    """Residuals (n, k, P) over the spread after the best light of each head, and which pixels are seen."""
    size = heads.spread.shape[-1]
    smooth = blur(depth[:, None], SMOOTH * depth.shape[-1] / 128)[:, 0]
    normals = F.adaptive_avg_pool2d(normals_from_depth(smooth, config.camera), (size, size)).flatten(2)
    # Shifted and scaled to be well conditioned, which the span does not feel.
    basis = torch.stack(
        [torch.ones_like(normals[:, 0]), 2 * normals[:, 0], 2 * normals[:, 1], 4 * normals[:, 2] - 3.2], 1
    )
    spread = heads.spread.flatten()
    wanted, seen = heads.brightness[which].flatten(2), heads.seen[which].flatten(2)
    ridge = RIDGE * torch.diag(basis.new_tensor([0.0, 1.0, 1.0, 1.0]))
    weight = seen / spread.square()
    for _ in range(2):  # the second time without what does not fit: shadows, highlights, hair
        total = weight.sum(dim=2)
        gram = torch.einsum("nkp,nap,nbp->nkab", weight, basis, basis) / total[..., None, None] + ridge
        right = torch.einsum("nkp,nap,nkp->nka", weight, basis, wanted) / total[..., None]
        light = torch.linalg.solve(gram, right[..., None])[..., 0]
        error = (wanted - torch.einsum("nka,nap->nkp", light, basis)) / spread
        weight = seen / spread.square() / (1 + error.detach().square())
    return error, seen


def _spread(heads: LitHeads, sheet: Tensor, config: CategoryConfig) -> Tensor:
    """Mean absolute residual of each pixel (s, s) over up to 600 of the heads, enlarged a little."""
    which = torch.arange(0, len(heads), max(1, len(heads) // 600), device=heads.spread.device)
    error, seen = _unexplained(heads, which[None], sheet, config)
    found = (error.abs() * seen).sum(dim=(0, 1)) / seen.sum(dim=(0, 1)).clamp_min(1)
    return (1.2 * found.view_as(heads.spread) * heads.spread).clamp_min(0.03)
