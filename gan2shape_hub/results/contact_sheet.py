"""One page that shows a whole reconstruction: what went in, what came out, and the shape from many sides."""

from __future__ import annotations

from dataclasses import replace

from PIL import Image

from gan2shape_hub.rendering.mesh_renderer import clay_picture
from gan2shape_hub.rendering.shading import normals_from_depth
from gan2shape_hub.results.edit import rotate_poses
from gan2shape_hub.results.image_files import depth_to_pil, mask_to_pil, normals_to_pil, to_pil
from gan2shape_hub.results.layout import Tile, cut_out, page
from gan2shape_hub.results.model import Model
from gan2shape_hub.results.texture import without_border
from gan2shape_hub.results.viewer import Viewer
from gan2shape_hub.results.views import BACKGROUND, frame_poses, middle, model_views, shrunk

TURNS = ((-60, 0), (-30, 0), (0, 0), (30, 0), (60, 0), (0, -25), (0, 25))
"""(yaw, pitch) in degrees of the clay and textured rows, from the canonical front."""
LIGHTS = ("left", "right", "top", "studio", "window", "sunset")


def contact_sheet(viewer: Viewer, model: Model | None = None, *, tile: int = 256) -> Image.Image:
    """Four rows of labelled tiles: input and layers, clay from seven sides, textured from seven sides, relit.

    ``model`` is what is turned, by default the front; ``tile`` is the tiles' side in pixels: the page is about 7.9 x
    4.9 tiles large.
    """
    camera = viewer.camera
    model = viewer.shown if model is None else model
    depth = without_border(viewer.depth, camera)
    normals = normals_from_depth(depth[None], camera)
    diffuse = (normals * viewer.light.direction[:, :, None, None]).sum(1).clamp_min(0)
    shading = viewer.light.ambient + viewer.light.diffuse * diffuse
    shading = shading / shading.max().clamp_min(1e-6) * 2 - 1  # networks share out brightness freely: white is the most
    mask = viewer.matte if viewer.cut_out else None
    source = to_pil(viewer.source).resize((tile, tile), Image.Resampling.LANCZOS)
    layers = [
        Tile("input", source),
        *([Tile("cut out", cut_out(source, viewer.alpha))] if viewer.cut_out else []),
        Tile("mask", mask_to_pil(viewer.alpha)),
        Tile("shading", cut_out(_enlarged(to_pil(shading), tile), mask)),
        Tile("depth", cut_out(_enlarged(depth_to_pil(depth, mask), tile), mask)),
        Tile("normals", cut_out(_enlarged(normals_to_pil(normals), tile), mask)),
    ]
    poses = frame_poses(rotate_poses(TURNS, camera, pivot=middle(model.body)), model.body, camera)
    clay, turned = [], []
    for (yaw, pitch), view in zip(TURNS, model_views(model, poses, camera, tile), strict=True):
        clay.append(Tile(_angle_name(yaw, pitch), to_pil(clay_picture(view, BACKGROUND))))
        turned.append(Tile(_angle_name(yaw, pitch), to_pil(view.image)))
    return page([layers, clay, turned, _relit_row(viewer, tile)], tile=tile)


def _enlarged(maps: Image.Image, tile: int) -> Image.Image:
    """A map at the tile's side, so that its outline is as fine as the tile's."""
    return maps.resize((tile, tile), Image.Resampling.BICUBIC)


def _angle_name(yaw: int, pitch: int) -> str:
    if not (yaw or pitch):
        return "front"
    axis, angle = ("pitch", pitch) if pitch else ("yaw", yaw)
    return f"{axis} {'+' if angle > 0 else '-'}{abs(angle)}°"


def _relit_row(viewer: Viewer, tile: int) -> list[Tile]:
    """The input's view under other lights, and one where both view and light are new."""
    alpha = viewer.alpha if viewer.cut_out else None
    tiles = [Tile(f"light: {name}", cut_out(viewer.redraw(viewer.pose, name, tile), alpha)) for name in LIGHTS]
    front = shrunk(viewer.shown, 2 * tile)
    lit = replace(front, texture=viewer.wide.lit(front.texture, "left"))
    pose = rotate_poses([(-35, 8)], viewer.camera, pivot=middle(front.body))
    view = next(model_views(lit, frame_poses(pose, front.body, viewer.camera), viewer.camera, tile))
    return [*tiles, Tile("turned and relit", to_pil(view.image))]
