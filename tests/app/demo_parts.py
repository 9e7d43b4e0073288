"""What the tests of the demo's parts share."""

import asyncio
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from conftest import tiny_pipeline
from PIL import Image

from gan2shape_hub.demo.work import Finished, Report, reconstruct


def tiny_checkpoint(folder):
    return str(tiny_pipeline().save_pretrained(folder / "tiny"))


def run(desk, subject, **options):
    """(Finished or None, reports) of a run."""
    session = desk.session(None)
    options = {"preset": "fast", "seed": 0, "tuned": False, **options}
    items = list(reconstruct(session, subject, options, desk.shelf, desk.line, desk.speeds))
    finished = items[-1] if isinstance(items[-1], Finished) else None
    return finished, [item for item in items if isinstance(item, Report)]


def save_photograph(path):
    """A photograph of nothing, 96 x 72 pixels."""
    noise = np.random.default_rng(0).integers(0, 255, (6, 8, 3), dtype=np.uint8)
    Image.fromarray(noise).resize((96, 72), Image.Resampling.BICUBIC).save(path)
    return path


def awaited(work):
    """The answer of a coroutine, run in a thread of its own: playwright keeps the main one for the whole session."""
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(asyncio.run, work).result()
