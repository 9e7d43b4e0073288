"""A look at the current state of a run, made only when somebody asks for it."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from gan2shape_hub.config import CategoryConfig
from gan2shape_hub.models.shape import ShapeNets
from gan2shape_hub.records import Targets
from gan2shape_hub.rendering.scene import render_scene
from gan2shape_hub.rendering.shading import normals_from_depth

KEY_LIGHT = (0.45, 0.35, 1.0)
"""Direction its rays travel: from the upper left, toward the face."""


def scene_preview(
    nets: ShapeNets, targets: Targets, config: CategoryConfig, which: int = 0
) -> Callable[[], tuple[Tensor, Tensor, Tensor]]:
    """A function that returns (input, reconstruction, shaded shape), each (3, S, S) in -1..1 on the CPU."""

    @torch.no_grad()
    def preview() -> tuple[Tensor, Tensor, Tensor]:
        image = targets.images[which : which + 1]
        scene = nets.predict_scene(image, config)
        view, _ = render_scene(scene.depth, scene.albedo, scene.view, scene.light, config.camera)
        return image[0].cpu(), view.image[0].clamp(-1, 1).cpu(), clay(scene.depth, config)[0].cpu()

    return preview


def clay(depth: Tensor, config: CategoryConfig) -> Tensor:
    """Depth (B, S, S) as an unpainted, lit surface (B, 3, S, S) in -1..1."""
    normals = normals_from_depth(depth, config.camera)
    direction = torch.nn.functional.normalize(normals.new_tensor(KEY_LIGHT), dim=0)
    lit = (normals * direction[:, None, None]).sum(dim=1, keepdim=True).clamp_min(0)
    return ((0.15 + 0.85 * lit) * 2 - 1).expand(-1, 3, -1, -1)
