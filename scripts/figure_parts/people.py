"""The first picture of the pages: people as photographed, turned, as bare shapes and in other light, on white."""

from __future__ import annotations

from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from PIL import Image

from gan2shape_hub.rendering.mesh_renderer import clay_picture
from gan2shape_hub.results.edit import rotate_poses
from gan2shape_hub.results.image_files import to_pil
from gan2shape_hub.results.layout import Tile
from gan2shape_hub.results.views import frame_poses, middle, model_views

if TYPE_CHECKING:
    from gan2shape_hub.reconstruction import Reconstruction

YAWS = (-50.0, -25.0, 25.0, 50.0)
"""Degrees from the photograph's view."""
SHAPE_YAW, RELIT_YAW = 25.0, -15.0
LIGHTS = ("studio", "window", "sunset", "left")
"""A row's each, in turn."""
WHITE = (1.0, 1.0, 1.0)


def people_rows(people: list[Reconstruction], size: int) -> list[list[Tile]]:
    """A row for each of ``people``, seven tiles of ``size`` pixels; the last row says what they are."""
    rows = [people_row(person, LIGHTS[i % len(LIGHTS)], size) for i, person in enumerate(people)]
    return [*([replace(tile, label="") for tile in row] for row in rows[:-1]), rows[-1]]


def people_row(result: Reconstruction, light: str, size: int) -> list[Tile]:
    """Seven tiles: the input; the model turned to four sides, as a bare shape and under another light."""
    viewer, model = result.viewer, result.viewer.shown
    camera, body = viewer.camera, model.body
    angles = [(yaw, 0.0) for yaw in (*YAWS, SHAPE_YAW, RELIT_YAW)]
    poses = frame_poses(rotate_poses(angles, camera, start=viewer.pose, pivot=middle(body)), body, camera)
    lit = replace(model, texture=viewer.wide.lit(model.texture, light))
    turned = model_views(model, poses.index(slice(0, len(YAWS) + 1)), camera, size, background=WHITE)
    *heads, shape = turned
    (relit,) = model_views(lit, poses.index(slice(len(YAWS) + 1, None)), camera, size, background=WHITE)
    tiles = [Tile("photograph", to_pil(result.source).resize((size, size), Image.Resampling.LANCZOS))]
    tiles += [Tile(f"{yaw:+.0f}°", to_pil(view.image)) for yaw, view in zip(YAWS, heads, strict=True)]
    return [*tiles, Tile("shape", to_pil(clay_picture(shape, WHITE))), Tile("in other light", to_pil(relit.image))]


def officer() -> Image.Image:
    """The portrait of Grace Hopper that matplotlib comes with (James S. Davis, United States Navy: public domain).

    OSError where there is no matplotlib.
    """
    found = find_spec("matplotlib")
    if found is None:
        raise OSError("the picture of people needs matplotlib's portrait: pip install matplotlib.")
    with Image.open(Path(found.origin).parent / "mpl-data" / "sample_data" / "grace_hopper.jpg") as picture:
        return picture.convert("RGB")
