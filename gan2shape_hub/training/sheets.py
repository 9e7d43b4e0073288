"""Contact sheets of a training: what the networks make of a few images, to look at."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from gan2shape_hub.config import CategoryConfig
from gan2shape_hub.models.shape import ShapeNets
from gan2shape_hub.rendering.camera import Pose
from gan2shape_hub.rendering.renderer import render_view
from gan2shape_hub.rendering.scene import render_scene
from gan2shape_hub.results.image_files import to_pil, write_image
from gan2shape_hub.results.layout import Tile, page
from gan2shape_hub.stages.preview import clay

YAWS_DEG = (-35.0, 0.0, 35.0, 70.0)


@torch.no_grad()
def write_sheet(path: Path, nets: ShapeNets, images: Tensor, config: CategoryConfig) -> None:
    """A row for each of ``images`` (N, 3, S, S): input, reconstruction, albedo, and the bare shape from all sides."""
    images = images.to(next(nets.depth.parameters()).device)
    scene = nets.predict_scene(images, config)
    drawn, _ = render_scene(scene.depth, scene.albedo, scene.view, scene.light, config.camera)
    surface = clay(scene.depth, config)
    rows = []
    for i in range(len(images)):
        row = [
            Tile("input", to_pil(images[i])),
            Tile("reconstruction", to_pil(drawn.image[i].clamp(-1, 1))),
            Tile("albedo", to_pil(scene.albedo[i])),
        ]
        for yaw in YAWS_DEG:
            pose = Pose.from_angles(torch.deg2rad(surface.new_tensor([[0.0, yaw, 0.0]])))
            seen = render_view(scene.depth[i : i + 1], surface[i : i + 1], pose, config.camera, background=0.9)
            row.append(Tile(f"yaw {yaw:+.0f}", to_pil(seen.image[0].clamp(-1, 1))))
        rows.append(row)
    write_image(path, page(rows, tile=128))
