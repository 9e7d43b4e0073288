"""What the tests of the demo's parts share; its fixtures come with ``pytest_plugins``."""

import asyncio
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from conftest import tiny_pipeline
from PIL import Image

from gan2shape_hub.demo.desk import Desk
from gan2shape_hub.demo.results import Finished
from gan2shape_hub.demo.runs import Order, Report
from gan2shape_hub.demo.shelf import Shelf
from gan2shape_hub.demo.visitors import Workspace


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    return tiny_checkpoint(tmp_path_factory.mktemp("checkpoints"))


@pytest.fixture
def desk(tmp_path, checkpoint):
    return Desk(Workspace(tmp_path), Shelf([checkpoint]))


@pytest.fixture
def photograph(tmp_path):
    return save_photograph(tmp_path / "portrait.png")


def tiny_checkpoint(folder):
    return str(tiny_pipeline().save_pretrained(folder / "tiny"))


def run(desk, subject, **options):
    """(Finished or None, reports) of a run."""
    order = Order.of(desk.session(None), subject, **{"preset": "fast", "seed": 0, "tuned": False, **options})
    items = list(desk.workshop.run(order))
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
