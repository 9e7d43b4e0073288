"""BlazeFace (Bazarevsky et al., arXiv 1907.05047; MediaPipe's short-range model): where the faces of a photograph are.

The weights (Apache-2.0) ship with the package, see ``data/blazeface.md``; ``scripts/build_face_detector.py`` makes the
file. Points are in continuous pixels: the first pixel of an image covers 0..1, its centre is 0.5.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from safetensors.torch import load as load_safetensors
from torch import Tensor, nn

from gan2shape_hub.models.component import Component

WEIGHTS = "blazeface.safetensors"
SIDE = 128
"""Side the network was trained with, pixels."""
KEY_POINTS = ("eye_left", "eye_right", "nose", "mouth", "ear_left", "ear_right")
"""Sides are the image's: ``eye_left`` is the eye further left in an upright picture."""
MIN_SCORE = 0.5
SMALLEST = 26
"""Pixels of the smallest face the network finds, a fifth of the side it was trained with."""
COARSE_PIXELS, TURNED_PIXELS, FINE_PIXELS = 2**20, 2**19, 2**22
"""How large a picture is made, at most, for the first look, for looks at the picture turned, and for the last ones: a
core needs about a second for 2**20."""
TILE, OVERLAP = 512, 64
"""Larger pictures are looked at in tiles of this side, which stay in the processor's cache; a face of more than the
overlap is found at half the size."""
_TURNS = (Image.Transpose.ROTATE_90, Image.Transpose.ROTATE_180, Image.Transpose.ROTATE_270)
MOST = 32
"""Answers of a turned or fine look, the surest first, that are worth a closer one."""


@dataclass(frozen=True)
class Face:
    """One face of a photograph."""

    box: tuple[float, float, float, float]
    """(left, top, right, bottom) from the brows to the chin, continuous pixels; may reach beyond the image."""
    points: Tensor
    """(6, 2) float32, x and y of ``KEY_POINTS`` in continuous pixels; may lie beyond the image."""
    score: float
    """The network's confidence, 0..1."""

    @property
    def size(self) -> float:
        """Longer side of the box, pixels."""
        left, top, right, bottom = self.box
        return max(right - left, bottom - top)


class BlazeBlock(nn.Module):
    """relu(shortcut(x) + pointwise(depthwise3x3(x))); the shortcut pools and pads channels where they differ."""

    def __init__(self, in_channels: int, out_channels: int, stride: int) -> None:
        super().__init__()
        self.stride, self.extra = stride, out_channels - in_channels
        self.depthwise = nn.Conv2d(
            in_channels, in_channels, 3, stride, padding=1 if stride == 1 else 0, groups=in_channels
        )
        self.pointwise = nn.Conv2d(in_channels, out_channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        if self.stride == 2:  # TensorFlow's SAME padding of even sides: below and right only
            y, x = self.depthwise(F.pad(x, (0, 1, 0, 1))), F.max_pool2d(x, 2)
        else:
            y = self.depthwise(x)
        if self.extra:
            x = F.pad(x, (0, 0, 0, 0, 0, self.extra))
        return F.relu(x + self.pointwise(y))


class BlazeFace(Component):
    """Images to one answer an anchor.

    Args:
        fine: output channels of the blocks up to stride 8; a stride-2 block stands where ``strides`` says.
        coarse: of the blocks at stride 16, the first of which has stride 2.
    """

    def __init__(
        self,
        stem: int = 24,
        fine: Sequence[int] = (24, 28, 32, 36, 42, 48, 56, 64, 72, 80, 88),
        coarse: Sequence[int] = (96, 96, 96, 96, 96),
        halving: Sequence[int] = (2, 5),
    ) -> None:
        super().__init__(dict(stem=stem, fine=list(fine), coarse=list(coarse), halving=list(halving)))
        self.stem = nn.Conv2d(3, stem, 5, 2)
        ins = [stem, *fine]
        self.fine = nn.ModuleList(BlazeBlock(ins[i], c, 2 if i in halving else 1) for i, c in enumerate(fine))
        ins = [fine[-1], *coarse]
        self.coarse = nn.ModuleList(BlazeBlock(ins[i], c, 2 if i == 0 else 1) for i, c in enumerate(coarse))
        self.fine_scores, self.fine_boxes = nn.Conv2d(fine[-1], 2, 1), nn.Conv2d(fine[-1], 2 * 16, 1)
        self.coarse_scores, self.coarse_boxes = nn.Conv2d(coarse[-1], 6, 1), nn.Conv2d(coarse[-1], 6 * 16, 1)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Images (B, 3, H, W) in -1..1, sides multiples of 16, to rows (B, A, 16) and score logits (B, A).

        The rows are centre x, y, width, height and six key points x, y, in pixels from the anchor; A is two anchors a
        cell of 8 pixels and six a cell of 16, row by row (``anchors``). At 128 x 128 A is 896.
        """
        x = F.relu(self.stem(F.pad(images, (1, 2, 1, 2))))
        for block in self.fine:
            x = block(x)
        y = x
        for block in self.coarse:
            y = block(y)
        batch = len(images)
        maps = ((self.fine_boxes(x), self.fine_scores(x)), (self.coarse_boxes(y), self.coarse_scores(y)))
        rows = [boxes.permute(0, 2, 3, 1).reshape(batch, -1, 16) for boxes, _ in maps]
        scores = [logits.permute(0, 2, 3, 1).reshape(batch, -1) for _, logits in maps]
        return torch.cat(rows, 1), torch.cat(scores, 1)


@cache
def anchors(height: int, width: int) -> Tensor:
    """Anchor centres (A, 2), x and y in pixels, in the order of ``BlazeFace``'s rows."""
    maps = []
    for stride, repeats in ((8, 2), (16, 6)):
        y = (torch.arange(height // stride) + 0.5) * stride
        x = (torch.arange(width // stride) + 0.5) * stride
        grid = torch.stack(torch.meshgrid(x, y, indexing="xy"), -1).reshape(-1, 2)
        maps.append(grid.repeat_interleave(repeats, 0))
    return torch.cat(maps)


@cache
def load_blazeface() -> BlazeFace:
    """The network with its shipped weights, on the CPU in float32, shared by all callers; it is never changed."""
    data = resources.files("gan2shape_hub.models").joinpath("data", WEIGHTS).read_bytes()
    network = BlazeFace()
    network.load_state_dict({name: tensor.float() for name, tensor in load_safetensors(data).items()}, strict=True)
    return network.requires_grad_(False).eval().to(memory_format=torch.channels_last)


@dataclass(frozen=True)
class Look:
    """One look at a photograph."""

    sides: tuple[int, ...]
    """Its longer side at each scale, pixels; the next is twice as fine."""
    turns: int = 0
    """Quarter turns, counterclockwise, that the picture is given; at each, faces up to 45 degrees off are found."""
    first: bool = False
    """The look at upright faces of ordinary size, whose answers are likelier than others'."""

    def smallest(self, width: int, height: int) -> float:
        """Pixels, in a photograph of this size, of the smallest face that is looked for."""
        return SMALLEST * max(width, height) / self.sides[-1]


def looks(width: int, height: int) -> tuple[Look, ...]:
    """How a photograph is searched, in this order and until something is found: coarsely, then upside down and on its
    sides, then finer and finer. The fewer pixels across, the finer: a panorama's faces are no smaller than others'."""
    coarse, turned = (_sides(width, height, pixels) for pixels in (COARSE_PIXELS, TURNED_PIXELS))
    fine = [side for side in _sides(width, height, FINE_PIXELS, filled=True) if side > coarse[-1]]
    return (Look(coarse, first=True), *(Look(turned, turns) for turns in (2, 1, 3)), *(Look((side,)) for side in fine))


def _sides(width: int, height: int, pixels: int, filled: bool = False) -> tuple[int, ...]:
    """Longer sides 128, 256, ... of at most so many pixels in all, no finer than one and a half times the picture;
    ``filled``: and one that is as fine as the pixels allow."""
    longest, per_square = max(width, height), min(width, height) / max(width, height)
    finest = min((pixels / per_square) ** 0.5, 1.5 * longest)
    sides = [SIDE]
    while 2 * sides[-1] <= finest:
        sides.append(2 * sides[-1])
    last = round(min(finest, longest))
    return (*sides, last) if filled and last > 1.2 * sides[-1] else tuple(sides)


def detect_faces(image: Image.Image, look: Look | None = None, *, min_score: float = MIN_SCORE) -> list[Face]:
    """Every face of ``image`` that ``look`` (None: the first of ``looks``) finds, largest first; the same face seen at
    several scales is one answer.

    Args:
        image: PIL image; other modes than RGB are converted, transparent pixels keep the colour stored under them.
        look: how it is searched.
        min_score: confidence, 0..1, below which an answer is dropped.

    Returns:
        Faces with positions in continuous pixels of ``image``; an empty list where there is none.
    """
    image = image.convert("RGB")
    look = look or looks(*image.size)[0]
    found = [_answers(image, side, look.turns, min_score) for side in look.sides]
    rows, scores = torch.cat([r for r, _ in found]), torch.cat([s for _, s in found])
    faces = [Face((*r[0].tolist(), *r[1].tolist()), r[2:], s) for r, s in merge(rows, scores)]
    if not look.first:
        faces = sorted(faces, key=lambda face: -face.score)[:MOST]
    return sorted(faces, key=lambda face: -face.size)


def _answers(image: Image.Image, side: int, turns: int, min_score: float) -> tuple[Tensor, Tensor]:
    """Rows (N, 8, 2) in pixels of ``image`` (RGB) and scores (N), seen with its longer side at ``side`` pixels."""
    width, height = image.size
    scale = side / max(width, height)
    size = (max(round(width * scale), 1), max(round(height * scale), 1))
    resample = Image.Resampling.BOX if scale < 0.25 else Image.Resampling.BILINEAR
    small = image.resize(size, resample)
    if turns:
        small = small.transpose(_TURNS[turns - 1])
    found = [_tile_answers(small, box, min_score) for box in _tiles(*small.size)]
    rows, scores = torch.cat([r for r, _ in found]), torch.cat([s for _, s in found])
    x, y = rows.unbind(-1)
    back = ((x, y), (size[0] - y, x), (size[0] - x, size[1] - y), (y, size[1] - x))[turns]
    rows = torch.stack(back, -1) * torch.tensor([width / size[0], height / size[1]])
    box = rows[:, :2]  # its corners have turned too: the upper left one comes first again
    return torch.cat((box.amin(1, True), box.amax(1, True), rows[:, 2:]), 1), scores


def _tiles(width: int, height: int) -> list[tuple[int, int, int, int]]:
    """Boxes (left, top, right, bottom) of at most ``TILE`` pixels a side that cover the picture and overlap."""
    lefts, tops = (
        [0] if length <= TILE else [*range(0, length - TILE, TILE - OVERLAP), length - TILE]
        for length in (width, height)
    )
    return [(x, y, min(x + TILE, width), min(y + TILE, height)) for y in tops for x in lefts]


def _tile_answers(image: Image.Image, box: tuple[int, int, int, int], min_score: float) -> tuple[Tensor, Tensor]:
    tile = image.crop(box)
    padded = tuple(max(-(-n // 16) * 16, SIDE) for n in tile.size)
    canvas = Image.new("RGB", padded)
    left, top = (padded[0] - tile.width) // 2, (padded[1] - tile.height) // 2
    canvas.paste(tile, (left, top))
    rows, scores = decode(load_blazeface(), to_input(canvas), min_score)
    return rows + torch.tensor([box[0] - left, box[1] - top]), scores


def to_input(image: Image.Image) -> Tensor:
    """PIL RGB to (1, 3, H, W) in -1..1."""
    return torch.from_numpy(np.array(image, dtype=np.float32) / 127.5 - 1).permute(2, 0, 1)[None]


@torch.no_grad()
def decode(network: BlazeFace, images: Tensor, min_score: float = MIN_SCORE) -> tuple[Tensor, Tensor]:
    """Rows (N, 8, 2) in pixels (corners of the box, six key points) and scores (N) of the answers for images
    (1, 3, H, W) in -1..1 that reach ``min_score``; the same face answers many times (see ``merge``)."""
    rows, logits = network(images)
    scores = torch.sigmoid(logits[0])
    keep = scores >= min_score
    centres = anchors(*images.shape[-2:])[keep]
    rows = rows[0, keep].reshape(-1, 8, 2)
    middle, half = rows[:, 0] + centres, rows[:, 1] / 2
    points = rows[:, 2:] + centres[:, None]
    return torch.cat(((middle - half)[:, None], (middle + half)[:, None], points), 1), scores[keep]


def merge(rows: Tensor, scores: Tensor, overlap: float = 0.3) -> list[tuple[Tensor, float]]:
    """Weighted non-maximum suppression: answers (N, 8, 2) that overlap (intersection over union) the best one by
    ``overlap`` are averaged by their scores (N), as MediaPipe does. Returns (row (8, 2), score) of each face."""
    faces = []
    while len(rows):
        best = int(scores.argmax())
        same = _overlap(rows[best, :2], rows[:, :2]) > overlap
        same[best] = True
        weight = scores[same]
        faces.append(((rows[same] * weight[:, None, None]).sum(0) / weight.sum(), float(scores[best])))
        rows, scores = rows[~same], scores[~same]
    return faces


def _overlap(box: Tensor, boxes: Tensor) -> Tensor:
    """Intersection over union of ``box`` (2, 2) with each of ``boxes`` (N, 2, 2)."""
    low, high = torch.maximum(box[0], boxes[:, 0]), torch.minimum(box[1], boxes[:, 1])
    common = (high - low).clamp_min(0).prod(1)
    area = (boxes[:, 1] - boxes[:, 0]).prod(1) + (box[1] - box[0]).prod()
    return common / (area - common).clamp_min(1e-9)
