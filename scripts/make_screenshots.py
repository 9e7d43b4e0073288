"""Pictures of the demo for README and docs, taken from the running page in headless Chromium.

Examples:
    python scripts/make_screenshots.py                        docs/figures/demo*.png
    python scripts/make_screenshots.py --preset fast --seed 7
"""

from __future__ import annotations

import argparse
import shutil
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))
ARGUMENTS = ["--no-sandbox", "--use-angle=swiftshader", "--enable-unsafe-swiftshader", "--disable-dev-shm-usage"]
PATIENCE_MS = 600_000


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=7, help="of the generated face")
    parser.add_argument("--preset", default="fast", help="instant, fast or balanced")
    parser.add_argument("--output", default=str(ROOT / "docs" / "figures"), help="folder of the pictures")
    options = parser.parse_args(arguments)
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    if chromium is None:
        print("make_screenshots: Chromium is missing: install it (Debian: apt-get install chromium).", file=sys.stderr)
        return 1
    files = take(chromium, Path(options.output), options.seed, options.preset)
    print("\n".join(str(file) for file in files))
    return 0


def take(chromium: str, folder: Path, seed: int, preset: str) -> list[Path]:
    """The demo in light and dark, and on a phone; the files written."""
    from playwright.sync_api import sync_playwright

    from gan2shape_hub.demo import page as layout
    from gan2shape_hub.demo.desk import Desk

    desk = Desk()
    list(desk.estimates(desk.shelf.default, False, None))  # so that the pictures show times
    demo = layout.build(desk)
    _, address, _ = layout.launch(demo, desk, prevent_thread_lock=True, quiet=True)
    files = []
    try:
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=chromium, args=ARGUMENTS)
            for name, theme, size, tabs in (
                ("demo", "light", (1280, 1010), ("Model", "Relight")),
                ("demo_dark", "dark", (1280, 1010), ("Rotate",)),
                ("demo_phone", "light", (390, 844), ("Model",)),
            ):
                page = browser.new_page(viewport={"width": size[0], "height": size[1]}, device_scale_factor=1)
                page.set_default_timeout(PATIENCE_MS)
                page.goto(f"{address}?__theme={theme}")
                reconstruct(page, seed, preset)
                for tab in tabs:
                    page.locator("#result_tabs").get_by_role("tab", name=tab).click()
                    time.sleep(3)  # the viewer turns up, pictures settle
                    file = folder / (f"{name}.png" if tab == tabs[0] else f"{name}_{tab.lower()}.png")
                    page.screenshot(path=str(file), full_page=name != "demo_phone")
                    files.append(file)
                page.close()
            browser.close()
    finally:
        demo.close()
    return files


def reconstruct(page, seed: int, preset: str) -> None:
    """Draw a face and reconstruct it; returns when everything is on the page."""
    page.get_by_role("tab", name="Generated face").click()
    page.locator("#note", has_text="Drawn by the generator").wait_for()
    time.sleep(1)  # a number that is filled in while its tab is still being built is lost
    page.fill("#seed input", str(seed))
    page.click("#draw")
    page.locator("#note", has_text=f"seed {seed},").wait_for()
    page.locator("#preset label", has_text=preset).click()
    page.click("#start")
    page.wait_for_selector("#card[data-state=running], #card[data-state=done]")
    page.wait_for_selector("#card[data-state=done]")
    page.wait_for_selector("#viewer [data-shown]")
    page.wait_for_selector("#turntable video, #turntable img")
    # Every file is made: the program must not end in the middle of a computation.
    page.wait_for_function("() => !document.querySelector('#get_contact')?.textContent.includes('…')")
    page.locator("#viewer").scroll_into_view_if_needed()


if __name__ == "__main__":
    sys.exit(main())
