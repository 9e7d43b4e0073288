"""Perceptual features: the first three blocks of VGG16, and the losses built on feature maps."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gan2shape_hub.models.component import Component


class PerceptualNetwork(Component):
    """VGG16 up to relu3_3. ``features(images)`` takes (B, 3, H, W) in -1..1 and returns relu2_2 (B, c2, H/2, W/2) and
    relu3_3 (B, c3, H/4, W/4).

    Args:
        widths: channels of the three blocks.
        max_size: larger images are averaged down to this side first; the features of small faces are what
            distinguishes them, and the cost stays bounded.
        bgr_mean: mean colour (B, G, R; 0..255) that the network was trained with.
    """

    def __init__(
        self,
        widths: Sequence[int] = (64, 128, 256),
        max_size: int = 64,
        bgr_mean: Sequence[float] = (103.939, 116.779, 123.68),
    ) -> None:
        super().__init__(dict(widths=list(widths), max_size=max_size, bgr_mean=list(bgr_mean)))
        a, b, c = widths
        self.block1 = nn.ModuleList([nn.Conv2d(3, a, 3, padding=1), nn.Conv2d(a, a, 3, padding=1)])
        self.block2 = nn.ModuleList([nn.Conv2d(a, b, 3, padding=1), nn.Conv2d(b, b, 3, padding=1)])
        self.block3 = nn.ModuleList(nn.Conv2d(b if i == 0 else c, c, 3, padding=1) for i in range(3))
        self.max_size = max_size
        self._mean = tuple(bgr_mean)

    def features(self, images: Tensor, layers: int = 2) -> list[Tensor]:
        """The first ``layers`` (1 or 2) of relu2_2 and relu3_3; no block beyond them is run."""
        mean = images.new_tensor(self._mean)[:, None, None]
        x = (images.flip(1) + 1) * 127.5 - mean
        while x.shape[-1] > self.max_size and x.shape[-1] % 2 == 0:
            x = F.avg_pool2d(x, 2)
        x = x.contiguous(memory_format=torch.channels_last)
        maps = []
        for block in (self.block1, self.block2, self.block3)[: layers + 1]:
            x = x if block is self.block1 else F.max_pool2d(x, 2)
            for conv in block:
                x = F.relu(conv(x))
            maps.append(x)
        return maps[1:]


def masked_l1(prediction: Tensor, target: Tensor, mask: Tensor | None = None) -> Tensor:
    """Mean absolute difference over the pixels of ``mask`` (B, 1, H, W), per image and then over the batch."""
    difference = (prediction - target).abs()
    if mask is None:
        return difference.mean()
    weight = mask.sum(dim=(1, 2, 3)).clamp_min(1) * prediction.shape[1]
    return ((difference * mask).sum(dim=(1, 2, 3)) / weight).mean()


def feature_loss(prediction: Sequence[Tensor], target: Sequence[Tensor], mask: Tensor | None = None) -> Tensor:
    """Mean over the feature maps of the masked L1 distance in units of the target's root mean square."""
    total = prediction[0].new_zeros(())
    for p, t in zip(prediction, target, strict=True):
        scale = t.square().mean(dim=(1, 2, 3), keepdim=True).sqrt().clamp_min(1e-6)
        small = None if mask is None else F.adaptive_avg_pool2d(mask, p.shape[-2:])
        total = total + masked_l1(p / scale, t / scale, small)
    return total / len(prediction)
