"""Masks of people: MediaPipe's selfie segmentation (a MobileNetV3 with a light decoder), and a guided filter that takes
its 256 pixels to the picture's own edges.

It was trained on labelled masks. Its person includes hair, hats, shoulders and clothes; there is no class for the head.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gan2shape_hub.models.component import Component

SIDE = 256
"""Side the network was trained with, pixels."""
BLOCKS = (
    # expanded channels, kernel, stride, channels of the squeeze (0: none), output channels
    (16, 3, 2, 8, 16),
    (72, 3, 2, 0, 24),
    (88, 3, 1, 0, 24),
    (96, 5, 2, 24, 32),
    (128, 5, 1, 32, 32),
    (128, 5, 1, 32, 32),
    (96, 5, 1, 24, 32),
    (96, 5, 1, 24, 32),
)
HARD_FROM = 3
"""The first block with hard swish in the place of ReLU (the stem has it too)."""
LOOKS = (("reflect", False), ("replicate", True))
"""Further looks, from further away: what stands around the picture, and whether it is mirrored."""
FURTHER, REACH = 192, 4
"""Side of the picture in those looks, in pixels of 256; by how many pixels their coarser edges are widened."""
SKIPS = (0, 2)
"""Blocks whose outputs, at 64 and 32 pixels, the decoder sees again; with the stem's at 128."""


class SelfieMasker(Component):
    """Images (B, 3, S, S) in -1..1, any S, to masks (B, 1, S, S) in 0..1, float32: 1 on people, soft at hair.

    Args:
        radius: of the guided filter's window, in pixels of the network's 256.
        epsilon: contrast (squared, of colours in 0..1) above which an edge of the picture is one of the mask.

    One person is meant: of several that do not touch, the one nearest to the middle, and no stray pieces. The person is
    the same from further away and mirrored; blurred things beside it, which generators paint next to turned heads, are
    taken for people in one look and not in the next, and have to be seen in all.
    """

    def __init__(self, radius: int = 3, epsilon: float = 3e-5) -> None:
        super().__init__(dict(radius=radius, epsilon=epsilon))
        self.radius, self.epsilon = radius, epsilon
        # The modules stand in the order in which they are run: the conversion counts on it.
        self.stem = SameConv(3, 16, 3, 2)
        ins = [16, *(block[-1] for block in BLOCKS)]
        self.blocks = nn.ModuleList(
            InvertedResidual(ins[i], *block, hard=i >= HARD_FROM) for i, block in enumerate(BLOCKS)
        )
        self.head, self.head_gate = nn.Conv2d(32, 128, 1), nn.Conv2d(32, 128, 1)
        self.decoder = nn.ModuleList((Fuse(128, 24), Fuse(24, 16), Fuse(16, 16)))
        self.out = nn.ConvTranspose2d(16, 1, 2, 2)

    def forward(self, images: Tensor) -> Tensor:
        colours = images.float() / 2 + 0.5
        small = _resized(colours, (SIDE, SIDE))
        slope, offset = guided_slopes(small, middle_piece(self.confirmed(small)), self.radius, self.epsilon)
        fine = colours if max(images.shape[-2:]) > SIDE else small
        slope, offset = (_resized(x, fine.shape[-2:]) for x in (slope, offset))
        masks = ((slope * fine).sum(1, keepdim=True) + offset).clamp(0, 1)
        return _resized(masks, images.shape[-2:])

    def confirmed(self, colours: Tensor) -> Tensor:
        """As `alpha`, less what is not there in each of ``LOOKS``."""
        border = (SIDE - FURTHER) // 2
        far = _resized(colours, (FURTHER, FURTHER))
        looks = [F.pad(far.flip(3) if mirrored else far, (border,) * 4, mode) for mode, mirrored in LOOKS]
        alpha, *others = self.alpha(torch.cat([colours, *looks])).chunk(1 + len(LOOKS))
        for other, (_, mirrored) in zip(others, LOOKS, strict=True):
            inner = other[..., border:-border, border:-border]
            seen = _resized(inner.flip(3) if mirrored else inner, (SIDE, SIDE))
            alpha = torch.minimum(alpha, _widened(seen, REACH))
        return alpha

    def alpha(self, colours: Tensor) -> Tensor:
        """Colours (B, 3, 256, 256) in 0..1 to the network's own answer (B, 1, 256, 256) in 0..1, float32."""
        x = F.hardswish(self.stem(colours.to(self.out.weight)))
        skips = [x]
        for i, block in enumerate(self.blocks):
            x = block(x)
            if i in SKIPS:
                skips.append(x)
        x = F.relu(self.head(x)) * torch.sigmoid(self.head_gate(x.mean((2, 3), keepdim=True)))
        for fuse, skip in zip(self.decoder, reversed(skips), strict=True):
            x = fuse(F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False), skip)
        return torch.sigmoid(self.out(x)).float()


class SameConv(nn.Conv2d):
    """A convolution with TensorFlow's SAME padding: even sides at stride 2 are padded more below and right."""

    def __init__(self, ins: int, outs: int, kernel: int, stride: int, groups: int = 1) -> None:
        super().__init__(ins, outs, kernel, stride, groups=groups)
        before, after = (kernel - stride) // 2, (kernel - stride + 1) // 2
        self.around = (before, after, before, after)

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(F.pad(x, self.around))


class Squeeze(nn.Module):
    """The weights (B, C, 1, 1) in 0..1 of the channels of x (B, C, H, W)."""

    def __init__(self, channels: int, hidden: int) -> None:
        super().__init__()
        self.down, self.up = nn.Conv2d(channels, hidden, 1), nn.Conv2d(hidden, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        return torch.sigmoid(self.up(F.relu(self.down(x.mean((2, 3), keepdim=True)))))


class InvertedResidual(nn.Module):
    """MobileNetV3's block (Howard et al., arXiv 1905.02244): expand, filter each channel, weigh them, project."""

    def __init__(
        self, ins: int, expanded: int, kernel: int, stride: int, squeeze: int, outs: int, *, hard: bool
    ) -> None:
        super().__init__()
        self.activation = F.hardswish if hard else F.relu
        self.residual = stride == 1 and ins == outs
        self.expand = nn.Conv2d(ins, expanded, 1)
        self.depthwise = SameConv(expanded, expanded, kernel, stride, groups=expanded)
        self.squeeze = Squeeze(expanded, squeeze) if squeeze else None
        self.project = nn.Conv2d(expanded, outs, 1)

    def forward(self, x: Tensor) -> Tensor:
        y = self.activation(self.depthwise(self.activation(self.expand(x))))
        y = self.project(y if self.squeeze is None else y * self.squeeze(y))
        return x + y if self.residual else y


class Fuse(nn.Module):
    """A decoder's level: the coarse (B, I, H, W) joins the encoder's ``skip`` (B, C, H, W), weighted by what both
    say."""

    def __init__(self, ins: int, channels: int) -> None:
        super().__init__()
        self.enter = nn.Conv2d(ins, channels, 1)
        self.squeeze = Squeeze(channels, channels)
        self.mix = nn.Conv2d(channels, channels, 1)
        self.depthwise = SameConv(channels, channels, 3, 1, groups=channels)

    def forward(self, x: Tensor, skip: Tensor) -> Tensor:
        x = self.enter(x)
        x = F.relu(self.mix(skip * self.squeeze(skip + x) + x))
        return x + F.relu(self.depthwise(x))


def middle_piece(alpha: Tensor, cell: int = 4, core: int = 3) -> Tensor:
    """``alpha`` (B, 1, H, W) in 0..1 of one connected piece: the one around the most opaque window, the nearest to the
    middle where many are as opaque. What thin veils join to it is as faint as they.

    Greyscale reconstruction (Vincent, 1993) out of that window, on cells of ``cell`` pixels, by which H and W divide;
    the window reaches ``core`` cells.
    """
    coarse = F.max_pool2d(alpha, cell)
    height, width = coarse.shape[-2:]
    y, x = (torch.linspace(-1, 1, n, device=alpha.device) for n in (height, width))
    score = _box(F.avg_pool2d(alpha, cell), core) - 0.05 * (y[:, None] ** 2 + x**2)
    seed = F.one_hot(score.flatten(1).argmax(1), height * width).view_as(coarse).to(alpha)
    piece, grown = coarse, torch.minimum(_widened(seed, core), coarse)
    while not torch.equal(piece, grown):
        piece = grown
        for _ in range(16):  # a cell each: few comparisons, which wait for a GPU
            grown = torch.minimum(F.max_pool2d(grown, 3, 1, 1), coarse)
    return torch.minimum(alpha, F.interpolate(piece, scale_factor=cell))


def guided_slopes(guide: Tensor, values: Tensor, radius: int, epsilon: float) -> tuple[Tensor, Tensor]:
    """The linear function of the colours ``guide`` (B, 3, H, W), in 0..1, that ``values`` (B, 1, H, W) are nearest to
    around every pixel: slope (B, 3, H, W) and offset (B, 1, H, W).

    The colour version of He et al., "Guided image filtering" (2013). As their "Fast guided filter" (2015) says, both
    may be enlarged and applied to the same picture at a higher resolution: its edges become edges of the values.
    Windows reach ``radius`` pixels; ``epsilon`` is the squared contrast below which colours do not count.
    """
    mean_guide, mean = _box(guide, radius), _box(values, radius)
    covariance = _box(guide * values, radius) - mean_guide * mean  # (B, 3, H, W)
    i, j = torch.triu_indices(3, 3)
    upper = _box(guide[:, i] * guide[:, j], radius) - mean_guide[:, i] * mean_guide[:, j]
    square = guide.new_zeros(len(guide), *guide.shape[-2:], 3, 3)
    square[..., i, j] = square[..., j, i] = upper.permute(0, 2, 3, 1)
    square = square + epsilon * torch.eye(3, device=guide.device)
    slope = torch.linalg.solve(square, covariance.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
    offset = mean - (slope * mean_guide).sum(1, keepdim=True)
    return _box(slope, radius), _box(offset, radius)


def _box(x: Tensor, radius: int) -> Tensor:
    """Means over windows of 2 ``radius`` + 1 pixels, cut at the borders."""
    size = 2 * radius + 1
    x = F.avg_pool2d(x, (1, size), 1, (0, radius), count_include_pad=False)
    return F.avg_pool2d(x, (size, 1), 1, (radius, 0), count_include_pad=False)


def _widened(x: Tensor, radius: int) -> Tensor:
    """Largest values within ``radius`` pixels to the sides, and up and down."""
    size = 2 * radius + 1
    return F.max_pool2d(F.max_pool2d(x, (1, size), 1, (0, radius)), (size, 1), 1, (radius, 0))


def _resized(x: Tensor, size: tuple[int, int]) -> Tensor:
    if x.shape[-2:] == size:
        return x
    return F.interpolate(x, size, mode="bilinear", align_corners=False, antialias=True)
