"""A test for strangers: whose shape is whose? Bare shapes in a shuffled order above the pictures they came from."""

from __future__ import annotations

import random
import string
from collections.abc import Sequence
from typing import TYPE_CHECKING

from figure_parts.faces import bare

from gan2shape_hub.rendering import render_mesh
from gan2shape_hub.results.edit import rotate_poses
from gan2shape_hub.results.image_files import to_pil
from gan2shape_hub.results.layout import Tile
from gan2shape_hub.results.views import BACKGROUND, frame_poses, middle

if TYPE_CHECKING:
    from PIL import Image

    from gan2shape_hub.reconstruction import Reconstruction

SHUFFLE_SEED = 20210503
"""Of the order of the shapes: fixed before anybody saw one."""


def front(result: Reconstruction, size: int) -> Image.Image:
    """The bare shape from its own front, whichever way the photographed head is turned: the pose tells nothing."""
    sheet, camera = result.sheet, result.config.camera
    poses = frame_poses(rotate_poses([(0.0, 0.0)], camera, pivot=middle(sheet)), sheet, camera)
    blank = sheet.vertices.new_zeros(3, 2, 2)
    view = render_mesh(
        sheet.vertices, sheet.faces, sheet.uv, blank, poses, camera, size, background=BACKGROUND, shaded_only=True
    )
    return to_pil(view.image)


def matching_rows(
    shapes: Sequence[Image.Image], inputs: Sequence[Image.Image], shuffle_seed: int = SHUFFLE_SEED
) -> tuple[list[list[Tile]], dict[str, int]]:
    """The rows, and the key.

    Args:
        shapes, inputs: of the same people in the same order, at most 26.
        shuffle_seed: of the order in which the shapes are shown.

    Returns:
        Shapes with letters in a shuffled order and inputs with numbers from 1 in the given one; letter -> number.
    """
    order = list(range(len(inputs)))
    random.Random(shuffle_seed).shuffle(order)
    letters = string.ascii_uppercase[: len(order)]
    lettered = [bare(letter, shapes[i]) for letter, i in zip(letters, order, strict=True)]
    numbered = [Tile(str(i + 1), picture) for i, picture in enumerate(inputs)]
    return [lettered, numbered], {letter: i + 1 for letter, i in zip(letters, order, strict=True)}
