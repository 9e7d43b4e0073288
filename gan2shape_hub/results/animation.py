"""Turntables as MP4 (where PyAV is installed: the ``video`` extra) or animated WebP (Pillow alone)."""

from __future__ import annotations

import io
import itertools
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from gan2shape_hub.arguments import require
from gan2shape_hub.atomic import atomic_file
from gan2shape_hub.errors import MissingPackage


def video_available() -> bool:
    """Whether MP4 can be written: PyAV is there and brings an H.264 encoder, which every browser plays."""
    try:
        import av
    except ImportError:
        return False
    return "libx264" in av.codecs_available


def check_video() -> None:
    """MissingPackage where MP4 cannot be written, before any frame is drawn."""
    require("av", "video", "a turntable as MP4")
    if not video_available():
        raise MissingPackage("this build of av cannot write H.264: install av from the index, or pass video=False.")


def write_animation(
    path: str | Path, frames: Iterable[Image.Image], *, fps: int = 24, video: bool | None = None
) -> Path:
    """Write equally sized RGB ``frames`` that loop.

    Args:
        path: its suffix is replaced by .mp4 or .webp.
        frames: at least one; an iterator is drawn one frame at a time when a video is written.
        fps: frames a second.
        video: True writes MP4, False WebP; None writes MP4 where `video_available`.

    Returns:
        The path written. ExportError if it cannot be, ValueError if there are no frames.
    """
    path = Path(path)
    video = video_available() if video is None else video
    return _write_mp4(path.with_suffix(".mp4"), frames, fps) if video else _write_webp(path, list(frames), fps)


def _write_mp4(path: Path, frames: Iterable[Image.Image], fps: int) -> Path:
    import av

    frames = iter(frames)
    first = next(frames, None)
    if first is None:
        raise ValueError("frames is empty, must hold at least one image.")
    # H.264 as browsers take it halves the colour resolution, so sides must be even.
    width, height = (n - n % 2 for n in first.size)
    # faststart puts the index in front, so that a web page can start playing before it has the whole file.
    options = {"movflags": "faststart"}
    with atomic_file(path) as part, av.open(str(part), "w", format="mp4", options=options) as container:
        stream = container.add_stream("libx264", rate=fps, options={"crf": "18", "preset": "veryfast"})
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        for image in itertools.chain([first], frames):
            array = np.ascontiguousarray(np.asarray(image.convert("RGB"))[:height, :width])
            container.mux(stream.encode(av.VideoFrame.from_ndarray(array, format="rgb24")))
        container.mux(stream.encode())
    return path


def _write_webp(path: Path, frames: Sequence[Image.Image], fps: int) -> Path:
    if not frames:
        raise ValueError("frames is empty, must hold at least one image.")
    path = path.with_suffix(".webp")
    data = io.BytesIO()
    rest = list(frames[1:])
    frames[0].save(
        data, "WEBP", save_all=True, append_images=rest, duration=round(1000 / fps), loop=0, quality=85, method=3
    )
    with atomic_file(path) as part:
        part.write_bytes(data.getvalue())
    return path
