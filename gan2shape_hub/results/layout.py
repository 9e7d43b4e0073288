"""Labelled tiles on one page."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from gan2shape_hub.results.image_files import mask_to_pil

PAPER = (255, 255, 255)
INK = (55, 60, 68)
TILE = (241, 243, 246)
"""Behind an object that does not fill its tile; renderings use it as their background."""


@dataclass(frozen=True)
class Tile:
    label: str
    image: Image.Image


def cut_out(picture: Image.Image, mask: Tensor | None) -> Image.Image:
    """``picture`` on the colour of a tile outside ``mask`` (..., H, W) in 0..1, of any size; None: as it is."""
    if mask is None:
        return picture
    cover = mask_to_pil(mask).resize(picture.size, Image.Resampling.BILINEAR)
    return Image.composite(picture.convert("RGB"), Image.new("RGB", picture.size, TILE), cover)


def page(rows: Sequence[Sequence[Tile]], *, tile: int = 256) -> Image.Image:
    """Rows of labelled square tiles with rounded corners, each row spread over the page's width.

    Args:
        rows: at least one tile; rows that are shorter than the longest are centred.
        tile: side of a tile, pixels; text and margins scale with it.

    Returns:
        RGB page on white.

    Raises:
        ValueError: there is no tile.
    """
    columns = max((len(row) for row in rows), default=0)
    if columns == 0:
        raise ValueError("rows is empty, must hold at least one tile.")
    gap, margin = max(2, tile // 24), max(4, tile // 10)
    font = ImageFont.load_default(size=max(9, round(tile / 15)))
    caption = round(tile / 15 * 1.9)
    width = 2 * margin + columns * tile + (columns - 1) * gap
    height = 2 * margin + len(rows) * (tile + caption) + (len(rows) - 1) * gap - caption // 4
    sheet = Image.new("RGB", (width, height), PAPER)
    draw = ImageDraw.Draw(sheet)
    rounded = _rounded(tile, radius=max(3, tile // 20))
    for r, row in enumerate(rows):
        left = (width - len(row) * tile - (len(row) - 1) * gap) // 2
        top = margin + r * (tile + caption + gap)
        for c, item in enumerate(row):
            x = left + c * (tile + gap)
            picture = item.image.convert("RGB")
            if picture.size != (tile, tile):
                picture = picture.resize((tile, tile), Image.Resampling.LANCZOS)
            sheet.paste(picture, (x, top), rounded)
            draw.text((x + tile / 2, top + tile + caption * 0.5), item.label, INK, font, anchor="mm")
    return sheet


def _rounded(side: int, radius: int) -> Image.Image:
    """Mask of a square with antialiased round corners."""
    large = Image.new("L", (side * 4, side * 4), 0)
    ImageDraw.Draw(large).rounded_rectangle((0, 0, side * 4 - 1, side * 4 - 1), radius * 4, fill=255)
    return large.resize((side, side), Image.Resampling.LANCZOS)
