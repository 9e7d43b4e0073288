"""Pictures of reconstructed faces: a row of tiles each, nothing picked."""

from __future__ import annotations

from typing import TYPE_CHECKING

from PIL import Image

from gan2shape_hub.results.image_files import to_pil
from gan2shape_hub.results.layout import Tile, cut_out

if TYPE_CHECKING:
    from gan2shape_hub.reconstruction import Reconstruction
    from gan2shape_hub.records import Alignment

LIGHTS = ("left", "right")
LAMPS = {"left": (0.7, 0.5), "right": (-0.7, 0.5)}
"""Rays on bare shapes: less from the side than the lights of the same names, which leave half a face in its shadow."""
YAWS = (-35.0, 35.0)
"""Degrees away from the photograph's view, as all of these."""
PHOTOGRAPH_YAWS = (-15.0, 15.0)
GAN_YAWS = (-30.0, -15.0, 15.0, 30.0)
GREYS = 64
"""Shades of a bare shape's tile: more cannot be seen, and cost most of the file."""


def overview_row(result: Reconstruction, size: int) -> list[Tile]:
    """Eight tiles: the input; the bare shape lit from both sides, then turned to both; the textured mesh turned; the
    input's own pixels lit from the left."""
    tiles = [Tile("input", to_pil(result.source).resize((size, size), Image.Resampling.LANCZOS))]
    tiles += [
        bare(f"shape, lit from the {name}", result.render(light=lamp, **shaped(size))) for name, lamp in LAMPS.items()
    ]
    for yaw, side in zip(YAWS, ("right", "left"), strict=True):  # from where the face looks
        tiles.append(bare(turned("shape", yaw), result.render(yaw, light=LAMPS[side], **shaped(size))))
    tiles += [Tile(turned("mesh", yaw), result.render(yaw, size=size)) for yaw in YAWS]
    return [*tiles, Tile("relit from the left", cut_out(result.relight("left", size=size), result.alpha))]


def gan_row(result: Reconstruction) -> list[Tile]:
    """Tiles: the input, then turned and relit through the generator (synthesised at its full size)."""
    views = result.rotate(list(GAN_YAWS), through_gan=True)
    relit = result.relight(list(LIGHTS), through_gan=True)
    tiles = [Tile("input", to_pil(result.source))]
    tiles += [Tile(turned("GAN", yaw), view) for yaw, view in zip(GAN_YAWS, views, strict=True)]
    return tiles + [Tile(f"GAN, lit from the {light}", view) for light, view in zip(LIGHTS, relit, strict=True)]


def photograph_rows(result: Reconstruction, size: int) -> list[list[Tile]]:
    """Tiles of a photograph's reconstruction: how it was read and its shape; turned and relit, and put back into it."""
    first = [Tile("photograph", _central_square(result.alignment.photograph)), Tile("aligned", to_pil(result.source))]
    first.append(Tile(f"the GAN's, {result.inversion_db:.1f} dB", result.inverted))
    first.append(bare("shape, lit from the left", result.render(light=LAMPS["left"], **shaped(size))))
    first += [Tile(turned("mesh", yaw), result.render(yaw, size=size)) for yaw in YAWS]
    views = result.rotate(list(PHOTOGRAPH_YAWS), through_gan=True)
    second = [Tile(turned("GAN", yaw), view) for yaw, view in zip(PHOTOGRAPH_YAWS, views, strict=True)]
    second.append(Tile("relit from the left", cut_out(result.relight("left", size=size), result.alpha)))
    edits = [(f"turned {yaw:+.0f}°, put back", {"yaw_deg": yaw, "through_gan": True}) for yaw in PHOTOGRAPH_YAWS]
    edits.append(("relit, put back", {"light": "left"}))
    second += [Tile(label, _around(result.edit_photograph(**edit), result.alignment)) for label, edit in edits]
    return [first, second]


def bare(label: str, picture: Image.Image) -> Tile:
    """A tile of an untextured shape, in so few greys that the page's file stays small."""
    return Tile(label, picture.quantize(GREYS, dither=Image.Dither.NONE).convert("RGB"))


def shaped(size: int) -> dict[str, int | bool]:
    """What ``render`` is told for a bare shape."""
    return {"shaded_only": True, "size": size}


def turned(what: str, yaw: float) -> str:
    return f"{what}, yaw {yaw:+.0f}°"


def _central_square(picture: Image.Image) -> Image.Image:
    side = min(picture.size)
    left, top = (picture.width - side) // 2, (picture.height - side) // 2
    return picture.crop((left, top, left + side, top + side))


def _around(picture: Image.Image, alignment: Alignment) -> Image.Image:
    """The part of a photograph around the reconstructed square, twice as large."""
    x, y = alignment.matrix @ (0.5, 0.5, 1.0)
    side = int(min(2 * alignment.side, *picture.size))
    left = int(min(max(x - side / 2, 0), picture.width - side))
    top = int(min(max(y - side / 2, 0), picture.height - side))
    return picture.crop((left, top, left + side, top + side))
