"""One page that shows a whole reconstruction: what went in, what came out, and the shape from many sides."""

from __future__ import annotations

from PIL import Image

from gan2shape_hub.rendering.shading import normals_from_depth
from gan2shape_hub.results.edit import rotate_poses
from gan2shape_hub.results.image_files import depth_to_pil, normals_to_pil, to_pil
from gan2shape_hub.results.layout import Tile, page
from gan2shape_hub.results.texture import without_border
from gan2shape_hub.results.viewer import Viewer
from gan2shape_hub.results.views import clay_views, frame_poses, middle, textured_views

TURNS = ((-60, 0), (-30, 0), (0, 0), (30, 0), (60, 0), (0, -25), (0, 25))
"""(yaw, pitch) in degrees of the clay and textured rows, from the canonical front."""
LIGHTS = ("left", "right", "top", "below", "rim", "flat")


def contact_sheet(viewer: Viewer, *, tile: int = 256) -> Image.Image:
    """Four rows of seven labelled tiles: input and layers, clay from seven sides, textured from seven sides, relit.

    ``tile`` is their side in pixels; the page is about 7.9 x 4.9 tiles large.
    """
    camera, mesh = viewer.camera, viewer.sheet
    depth = without_border(viewer.depth, camera)
    normals = normals_from_depth(depth[None], camera)
    diffuse = (normals * viewer.light.direction[:, :, None, None]).sum(1).clamp_min(0)
    shading = viewer.light.ambient + viewer.light.diffuse * diffuse
    shading = shading / shading.max().clamp_min(1e-6) * 2 - 1  # networks share out brightness freely: white is the most
    layers = [
        Tile("input", to_pil(viewer.source)),
        Tile("reconstruction", to_pil(viewer.reconstruction)),
        Tile("albedo", to_pil(viewer.albedo)),
        Tile("shading", to_pil(shading)),
        Tile("depth", depth_to_pil(depth)),
        Tile("normals", normals_to_pil(normals)),
        Tile("texture", to_pil(viewer.texture)),
    ]
    poses = frame_poses(rotate_poses(TURNS, camera, pivot=middle(mesh)), mesh, camera)
    names = [_angle_name(yaw, pitch) for yaw, pitch in TURNS]
    clay = [Tile(*item) for item in zip(names, map(to_pil, clay_views(mesh, poses, camera, tile)), strict=True)]
    textured = textured_views(mesh, viewer.texture, poses, camera, tile)
    turned = [Tile(*item) for item in zip(names, map(to_pil, textured), strict=True)]
    return page([layers, clay, turned, _relit_row(viewer, tile)], tile=tile)


def _angle_name(yaw: int, pitch: int) -> str:
    if not (yaw or pitch):
        return "front"
    axis, angle = ("pitch", pitch) if pitch else ("yaw", yaw)
    return f"{axis} {'+' if angle > 0 else '-'}{abs(angle)}°"


def _relit_row(viewer: Viewer, tile: int) -> list[Tile]:
    """The input's view under other lights, and one where both view and light are new."""
    lit = {name: viewer.lit_texture(name) for name in LIGHTS}
    tiles = [
        Tile(f"light: {name}", to_pil(next(textured_views(viewer.sheet, texture, viewer.pose, viewer.camera, tile))))
        for name, texture in lit.items()
    ]
    pose = frame_poses(rotate_poses([(-35, 8)], viewer.camera, pivot=middle(viewer.sheet)), viewer.sheet, viewer.camera)
    picture = next(textured_views(viewer.sheet, lit["left"], pose, viewer.camera, tile))
    return [*tiles, Tile("turned and relit", to_pil(picture))]
