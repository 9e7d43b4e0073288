"""A running demo and a headless Chromium, for the tests of the page."""

from __future__ import annotations

import contextlib
import dataclasses
import io
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from gan2shape_hub import GAN2ShapePipeline
from gan2shape_hub.config import RoundConfig, ScheduleConfig
from gan2shape_hub.demo import page as layout
from gan2shape_hub.demo.desk import Desk
from gan2shape_hub.demo.shelf import Shelf
from gan2shape_hub.demo.visitors import Workspace

ROOT = Path(__file__).resolve().parents[2]
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
ARGUMENTS = ["--no-sandbox", "--use-angle=swiftshader", "--enable-unsafe-swiftshader", "--disable-dev-shm-usage"]
PATIENCE_MS = 120_000
"""Of every wait: the machine may be busy, and waiting ends as soon as there is something to see."""


def chromium_path() -> str:
    """Where Chromium is. Its absence skips a test on somebody's own machine and fails it in CI."""
    for name in BROWSERS:
        if found := shutil.which(name):
            return found
    if os.environ.get("CI"):
        pytest.fail("Chromium is missing: .ci/run installs it with apt-get when it may.")
    pytest.skip("Chromium is not installed (Debian: apt-get install chromium)")


@contextmanager
def chromium() -> Iterator:
    """A headless Chromium, driven by playwright."""
    path = chromium_path()
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=ARGUMENTS)
        yield browser
        browser.close()


@contextmanager
def served(*checkpoints: str | Path, root: Path, **options) -> Iterator[tuple[str, Desk]]:
    """The address of a running demo, and its desk."""
    root.mkdir(parents=True, exist_ok=True)
    before = os.environ.get("GRADIO_TEMP_DIR")
    desk = Desk(Workspace(root), Shelf([str(c) for c in checkpoints]))
    demo = layout.build(desk)
    _, address, _ = layout.launch(demo, desk, prevent_thread_lock=True, quiet=True, **options)
    try:
        yield address, desk
    finally:
        demo.close()
        # A demo sets it for its process, where an earlier one may still run: to that one, uploads are elsewhere then.
        if before is None:
            os.environ.pop("GRADIO_TEMP_DIR", None)
        else:
            os.environ["GRADIO_TEMP_DIR"] = before


def save_tiny(pipeline: GAN2ShapePipeline, folder: Path) -> Path:
    """A tiny checkpoint whose presets are instant (no step at all), fast (a few) and balanced (endless)."""
    fast = pipeline.config.schedules["fast"]
    schedules = {
        "instant": dataclasses.replace(fast, rounds=()),
        "fast": fast,
        "balanced": dataclasses.replace(fast, rounds=(RoundConfig(100_000, 0, 0),)),
    }
    pipeline.config = dataclasses.replace(pipeline.config, schedules=schedules)
    return pipeline.save_pretrained(folder)


def face_checkpoint(folder: Path) -> Path:
    """The shipped face checkpoint with the presets instant (forward passes alone) and fast (shortened): tests look at
    the page, not at the quality of a run."""
    source = ROOT / "checkpoints" / "face"
    shutil.copytree(source, folder)
    config = json.loads((source / "config.json").read_text(encoding="utf-8"))
    fast = config["schedules"]["fast"]
    short = dataclasses.asdict(ScheduleConfig(rounds=(RoundConfig(2, 0, 0),)))
    small = {"invert_iterations": 3, "light_walk_size": 128}
    config["schedules"] = {
        "instant": {**fast, "rounds": [], "invert_iterations": 0, "light_walk_size": 128},
        "fast": {**fast, **small, "rounds": short["rounds"], "collected_batches": 1},
    }
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    return folder


def picture(data: bytes) -> np.ndarray:
    """The pixels of a file, (H, W, 3), 0..255."""
    return np.asarray(Image.open(io.BytesIO(data)).convert("RGB"), float)


class Visit:
    """One tab: the page, and what it complained about or asked other machines for."""

    def __init__(
        self,
        browser,
        address: str,
        *,
        width: int = 1100,
        height: int = 760,
        query: str = "",
        motion: str = "reduce",
    ) -> None:
        self.address = address
        size = {"width": width, "height": height}
        # Reduced motion: the viewer's swing would keep a processor busy that has the page's graphics to do as well.
        self.context = browser.new_context(viewport=size, accept_downloads=True, reduced_motion=motion)
        self.context.set_default_timeout(PATIENCE_MS)
        self.page = self.context.new_page()
        self.errors: list[str] = []
        self.outside: list[str] = []
        self.page.on("console", lambda message: self._heard(message.type, message.text))
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))
        self.page.on("request", lambda request: self._asked(request.url))
        self.page.goto(address + query)
        self.page.wait_for_selector("#start")

    def _heard(self, kind: str, text: str) -> None:
        if kind == "error":
            self.errors.append(text)

    def _asked(self, url: str) -> None:
        if not url.startswith((self.address, "data:", "blob:")):
            self.outside.append(url)

    def upload(self, path: Path) -> None:
        self.page.locator("#photo input[type=file]").first.set_input_files(str(path))

    def draw(self, seed: int) -> None:
        """Let the generator draw a face, and wait for it."""
        self.page.get_by_role("tab", name="Generated face").click()
        self.page.locator("#note", has_text="Drawn by the generator").wait_for()
        wanted = self.page.locator("#note", has_text=f"seed {seed},")
        for _ in range(20):  # a number that is filled in while its tab is still being built is lost
            if wanted.count():
                return
            self.page.fill("#seed input", str(seed))
            self.page.wait_for_timeout(300)
            if self.page.input_value("#seed input") == str(seed):
                self.page.click("#draw")
                with contextlib.suppress(Exception):
                    wanted.wait_for(timeout=5000)
        wanted.wait_for()

    def choose(self, preset: str) -> None:
        self.page.locator("#preset label", has_text=preset).click()

    def reconstruct(self, preset: str = "instant") -> None:
        """Press the button, wait for the end and for the results."""
        self.choose(preset)
        self.page.click("#start")
        self.page.wait_for_selector("#card[data-state=running], #card[data-state=done]")
        self.page.wait_for_selector("#card[data-state=done]")
        self.page.wait_for_selector("#viewer [data-shown*='/session-']")

    def open(self, tab: str) -> None:
        """A tab of the results."""
        self.page.locator("#result_tabs").get_by_role("tab", name=tab).first.click()

    def source(self, selector: str) -> str:
        """Address of the picture in a component."""
        return self.page.locator(f"{selector} img").first.get_attribute("src") or ""

    def fetched(self, selector: str) -> bytes:
        """The picture in a component."""
        answer = self.context.request.get(self.source(selector))
        assert answer.ok, answer.status
        return answer.body()

    def toast(self) -> str:
        body = self.page.locator("[data-testid=toast-body]").first
        body.wait_for()
        return body.inner_text()

    def close(self) -> None:
        self.context.close()
