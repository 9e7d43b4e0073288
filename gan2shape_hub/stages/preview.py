"""A look at the current state of a run, made only when somebody asks for it."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from gan2shape_hub.config import CategoryConfig
from gan2shape_hub.records import Scene
from gan2shape_hub.rendering.scene import render_scene
from gan2shape_hub.rendering.shading import normals_from_depth

KEY_LIGHT = (0.45, 0.35, 1.0)
"""Direction its rays travel: from the upper left, toward the face."""

Preview = Callable[[], tuple[Tensor, Tensor, Tensor] | None]


def scene_preview(image: Tensor, scene: Callable[[], Scene], config: CategoryConfig) -> Preview:
    """A function that returns (input, reconstruction, shaded shape), each (3, S, S) in -1..1 on the CPU.

    ``image`` (3, S, S); ``scene`` gives what would be returned now (a batch of one).
    """

    @torch.no_grad()
    def preview() -> tuple[Tensor, Tensor, Tensor]:
        now = scene()
        view, _ = render_scene(now.depth, now.albedo, now.view, now.light, config.camera)
        return image.cpu(), view.image[0].clamp(-1, 1).cpu(), clay(now.depth, config)[0].cpu()

    return preview


def no_preview() -> None:
    """Nothing can be shown before the latent is known."""


def clay(depth: Tensor, config: CategoryConfig) -> Tensor:
    """Depth (B, S, S) as an unpainted, lit surface (B, 3, S, S) in -1..1."""
    normals = normals_from_depth(depth, config.camera)
    direction = torch.nn.functional.normalize(normals.new_tensor(KEY_LIGHT), dim=0)
    lit = (normals * direction[:, None, None]).sum(dim=1, keepdim=True).clamp_min(0)
    return ((0.15 + 0.85 * lit) * 2 - 1).expand(-1, 3, -1, -1)
