"""Pages of pictures of a training, to look at: what the phases found, and what the networks make of a few images."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from gan2shape_hub.config import CategoryConfig
from gan2shape_hub.models.latent_projection import gan_image
from gan2shape_hub.models.shape import ShapeNets
from gan2shape_hub.rendering import normals_from_depth, shade
from gan2shape_hub.rendering.camera import Pose
from gan2shape_hub.rendering.renderer import render_view
from gan2shape_hub.rendering.scene import render_scene
from gan2shape_hub.results.edit import make_light, rotate_poses
from gan2shape_hub.results.image_files import to_pil, write_image
from gan2shape_hub.results.layout import Tile, page
from gan2shape_hub.stages.preview import clay
from gan2shape_hub.training.context import Context, few_latents
from gan2shape_hub.training.view_pool import ViewPool

SHAPE_YAWS_DEG = (-35.0, 0.0, 35.0, 70.0)
TURNED_YAWS_DEG = (-30.0, -15.0, 0.0, 15.0, 30.0)
RELIT = {
    "unlit": (0, 0, 0),
    "left": (2, 0, 0),
    "right": (-2, 0, 0),
    "above": (0, 2, 0),
    "below": (0, -2, 0),
    "front": (0, 0, 2),
}
"""Steps along the directions of light."""
TILE = 128


@torch.no_grad()
def taps(context: Context) -> Image.Image:
    """Full images beside those of the taps."""
    generator, rows = context.components["generator"], []
    for latent in few_latents(context).split(1):
        full = generator(latent)
        row = []
        for size in generator.tap_sizes:
            row.append(Tile(f"{size} px", to_pil(F.interpolate(full, (size, size), mode="area").clamp(-1, 1))))
            row.append(Tile(f"tap at {size}", to_pil(generator.image_at(latent, size).clamp(-1, 1))))
        rows.append(row)
    return page(rows, tile=TILE)


@torch.no_grad()
def turned(context: Context) -> Image.Image:
    """Objects that the generator turns, level, to a few yaws."""
    config, nets, projection, rows = context.config, context.nets, context.projection, []
    for latent in few_latents(context).split(1):
        own = nets.predict_view(_image(latent, context), config)[:, :2]
        goals = own.new_tensor([(0.0, yaw) for yaw in TURNED_YAWS_DEG]) / config.camera.view_angle_deg
        walked = projection.walk(latent.expand(len(goals), -1), goals - own)
        tiles = [Tile("own view", to_pil(_image(latent, context)))]
        images = _image(walked, context)
        tiles += [Tile(f"to {yaw:+.0f}", to_pil(image)) for yaw, image in zip(TURNED_YAWS_DEG, images, strict=True)]
        rows.append(tiles)
    return page([*rows, *shape_rows(nets, _image(few_latents(context), context), config)], tile=TILE)


@torch.no_grad()
def relit(context: Context) -> Image.Image:
    """Objects, each unlit and under five lights."""
    rows = []
    for latent in few_latents(context):
        steps = torch.tensor(list(RELIT.values())).to(latent)
        images = _image(context.projection.relight(latent[None], steps), context)
        rows.append([Tile(name, to_pil(image)) for name, image in zip(RELIT, images, strict=True)])
    return page(rows, tile=TILE)


@torch.no_grad()
def average(context: Context) -> Image.Image:
    """The bare average object from the front and turned by 40 degrees, lit from the left and from the right."""
    depth, camera = context.components["average_sheet"]().cpu()[None], context.config.camera
    normals = normals_from_depth(depth, camera)
    tiles = []
    for name, side in (("left", 0.6), ("right", -0.6)):
        light = make_light(side, 0.4, ambient=0.1, diffuse=1.0)
        texture, _ = shade(torch.full_like(normals, 0.8), normals, light)
        for yaw in (0, 40):
            view = render_view(depth, texture, rotate_poses([(yaw, 0)], camera), camera, background=-1.0)
            tiles.append(Tile(f"{yaw} degrees, light {name}", to_pil(view.image)))
    return page([tiles])


def pool(views: ViewPool, config: CategoryConfig, count: int = 4) -> Image.Image:
    """The views of the first identities, their masks, and the first view under the first lights."""
    rows = []
    for i in range(min(len(views), count)):
        every = torch.arange(views.images.shape[1])
        images = views.floats(torch.full_like(every, i), every)
        angles = views.turns[i] * config.camera.view_angle_deg
        rows.append([Tile(f"yaw {angles[k, 1]:+.0f}", to_pil(images[k])) for k in every])
        if views.masks is not None:
            rows.append([Tile("mask", to_pil(mask.float().expand(3, -1, -1) / 127.5 - 1)) for mask in views.masks[i]])
        if views.lit:
            ratios = views.ratios(i, 0).float()[: len(every)]
            rows.append([Tile("log ratio", to_pil(ratio.expand(3, -1, -1).clamp(-1, 1))) for ratio in ratios])
    return page(rows, tile=TILE)


@torch.no_grad()
def persons(views: ViewPool, targets: Tensor, config: CategoryConfig, count: int = 8) -> Image.Image:
    """The first identities and their bare shapes, ``targets`` (N, S, S)."""
    rows, surface = [], clay(targets[:count], config)
    for i in range(min(len(targets), count)):
        image, _ = views.masked(torch.tensor([i]), torch.tensor([0]))
        rows.append([Tile("image", to_pil(image[0])), *_turntable(targets[i : i + 1], surface[i : i + 1], config)])
    return page(rows, tile=TILE)


def shapes(context: Context) -> Image.Image:
    """What the networks say of a few generated images."""
    return page(shape_rows(context.nets, _image(few_latents(context), context), context.config), tile=TILE)


def writer(folder: Path, images: Tensor, config: CategoryConfig) -> Callable[[int, ShapeNets], None]:
    """A trainer's ``after_save`` that draws what the networks say of ``images`` (N, 3, S, S) at every save."""

    def write(step: int, nets: ShapeNets) -> None:
        write_image(folder / f"{step:06d}.png", page(shape_rows(nets, images, config), tile=TILE))

    return write


@torch.no_grad()
def shape_rows(nets: ShapeNets, images: Tensor, config: CategoryConfig) -> list[list[Tile]]:
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
            Tile("albedo", to_pil(scene.albedo[i].clamp(-1, 1))),
        ]
        rows.append([*row, *_turntable(scene.depth[i : i + 1], surface[i : i + 1], config)])
    return rows


def _turntable(depth: Tensor, surface: Tensor, config: CategoryConfig) -> list[Tile]:
    """``depth`` (1, S, S) with the colours ``surface`` (1, 3, S, S) from all sides."""
    tiles = []
    for yaw in SHAPE_YAWS_DEG:
        pose = Pose.from_angles(torch.deg2rad(surface.new_tensor([[0.0, yaw, 0.0]])))
        seen = render_view(depth, surface, pose, config.camera, background=0.9)
        tiles.append(Tile(f"yaw {yaw:+.0f}", to_pil(seen.image[0].clamp(-1, 1))))
    return tiles


def _image(latents: Tensor, context: Context) -> Tensor:
    return gan_image(
        context.components["generator"], latents, context.config.image_size, context.config.crop_fraction
    ).clamp(-1, 1)
