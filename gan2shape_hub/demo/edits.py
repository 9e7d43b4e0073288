"""A finished result under another light and from another side: quickly, or through the GAN."""

from __future__ import annotations

import math
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

import torch
from PIL import Image

from gan2shape_hub.demo.quick import QuickLook, light_from_ball
from gan2shape_hub.demo.shelf import DemoError, Shelf
from gan2shape_hub.demo.work import Finished
from gan2shape_hub.rendering import Light

RELIT_SIDE, TURNED_SIDE = 512, 384
"""Pixels of the quick pictures."""
STRIP = 5
"""Views of a strip."""
PATIENCE_S = 15.0

_making = threading.Lock()


class BallLight(NamedTuple):
    """Where the light sits on the ball (right, up in -1..1), and its strengths (0 or more)."""

    right: float
    up: float
    ambient: float
    diffuse: float


@contextmanager
def one_thread() -> Iterator[None]:
    """Small work is done by this thread alone: beside a run that uses every core, waiting for a second thread costs
    more than it helps. PyTorch keeps the number per thread."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def quick_look(finished: Finished, size: int) -> QuickLook:
    """The cached `QuickLook` of a result."""
    with _making:
        if ("quick", size) not in finished.cache:
            finished.cache["quick", size] = QuickLook(finished.result, size)
        return finished.cache["quick", size]


def relit(finished: Finished, ball: BallLight) -> Image.Image:
    """The photograph under another light, 512 pixels."""
    with one_thread():
        return quick_look(finished, RELIT_SIDE).relight(_light(finished, ball))


def turned(finished: Finished, yaw_deg: float, pitch_deg: float, *, shaded_only: bool = False) -> Image.Image:
    """The mesh from another side, 384 pixels."""
    yaw_deg, pitch_deg = _angles(finished, yaw_deg, pitch_deg)
    with one_thread():
        return quick_look(finished, TURNED_SIDE).turn(yaw_deg, pitch_deg, shaded_only=shaded_only)


def strip(finished: Finished, pitch_deg: float = 0.0) -> list[tuple[Image.Image, str]]:
    """Pictures from the left to the right, each with its caption."""
    return [(turned(finished, yaw, pitch_deg), _caption(yaw)) for yaw in _strip_angles(finished)]


def relit_through_gan(finished: Finished, ball: BallLight, shelf: Shelf) -> Image.Image:
    """The generator's picture of the person under another light, at its full size."""
    light = _light(finished, ball)
    with shelf.use(finished.checkpoint, PATIENCE_S) as pipeline:
        return finished.with_editor(pipeline).relight(light, through_gan=True)


def turned_through_gan(finished: Finished, yaw_deg: float, pitch_deg: float, shelf: Shelf) -> Image.Image:
    """The generator's picture from another side, at its full size."""
    angles = _angles(finished, yaw_deg, pitch_deg)
    with shelf.use(finished.checkpoint, PATIENCE_S) as pipeline:
        return finished.with_editor(pipeline).rotate(*angles, through_gan=True)


def strip_through_gan(finished: Finished, pitch_deg: float, shelf: Shelf) -> list[tuple[Image.Image, str]]:
    yaws = _strip_angles(finished)
    with shelf.use(finished.checkpoint, PATIENCE_S) as pipeline:
        pictures = finished.with_editor(pipeline).rotate(yaws, pitch_deg, through_gan=True)
    return [(picture.resize((512, 512)), _caption(yaw)) for picture, yaw in zip(pictures, yaws, strict=True)]


def relit_in_photograph(finished: Finished, ball: BallLight, edited: Image.Image | None = None) -> Image.Image:
    """The relit square back in the photograph; ``edited`` is one that the generator made, None relights the pixels."""
    result = finished.result
    if result.alignment is None:
        raise DemoError("There is no photograph to paste into: this face was drawn by the generator.")
    if edited is None:
        edited = result.relight(_light(finished, ball), size=result.source.shape[-1])
    return result.paste(edited)


def _light(finished: Finished, ball: BallLight) -> Light:
    try:
        return light_from_ball(*ball, like=finished.result.depth)
    except ValueError as error:
        raise DemoError(f"{error}") from None


def _angles(finished: Finished, yaw_deg: float, pitch_deg: float) -> tuple[float, float]:
    if not (math.isfinite(yaw_deg) and math.isfinite(pitch_deg)):
        raise DemoError(f"the angles are {yaw_deg} and {pitch_deg}, must be finite numbers of degrees.")
    yaw, pitch = finished.result.config.rotation_limit_deg
    if abs(yaw_deg) > yaw or abs(pitch_deg) > pitch:
        raise DemoError(
            f"the angles are {yaw_deg:g} and {pitch_deg:g} degrees, must be within ±{yaw:g} and ±{pitch:g} degrees."
        )
    return float(yaw_deg), float(pitch_deg)


def _strip_angles(finished: Finished) -> list[float]:
    limit = min(finished.result.config.rotation_limit_deg[0], 45.0)
    return [round(limit * (2 * k / (STRIP - 1) - 1), 1) for k in range(STRIP)]


def _caption(yaw: float) -> str:
    return "front" if yaw == 0 else f"{'left' if yaw > 0 else 'right'} {abs(yaw):g}°"
