"""Fixtures of the tests in Chromium; a module of tests takes them with ``pytest_plugins``."""

import numpy as np
import pytest
from app_server import Visit, chromium, save_tiny, served
from conftest import tiny_pipeline
from PIL import Image


@pytest.fixture(scope="session")
def browser():
    with chromium() as instance:
        yield instance


@pytest.fixture(scope="session")
def tiny(tmp_path_factory):
    """Address and desk of a demo on a tiny checkpoint."""
    folder = tmp_path_factory.mktemp("demo")
    checkpoint = save_tiny(tiny_pipeline(), folder / "checkpoint")
    with served(checkpoint, root=folder / "work") as server:
        yield server


@pytest.fixture
def visit(browser, tiny):
    tab = Visit(browser, tiny[0])
    yield tab
    tab.close()


@pytest.fixture(scope="session")
def portrait(tmp_path_factory):
    """A photograph with a bright and a dark side."""
    path = tmp_path_factory.mktemp("photo") / "portrait.jpg"
    y, x = np.mgrid[0:200, 0:260] / 260
    rgb = np.stack((0.2 + 0.7 * x, 0.3 + 0.5 * y, 0.6 - 0.4 * x), -1)
    Image.fromarray((rgb * 255).astype(np.uint8)).save(path)
    return path
