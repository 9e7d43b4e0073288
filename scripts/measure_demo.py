"""What the demo takes: start, relighting, memory. Prints a table for docs/demo.md.

Examples:
    python scripts/measure_demo.py
    python scripts/measure_demo.py --runs 20
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import os
import shutil
import statistics
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=20, help="runs of the preset instant, on generated faces")
    parser.add_argument("--port", type=int, default=7899, help="a free one")
    options = parser.parse_args(arguments)
    rows = [("start to the first usable page", f"{start_s(options.port):.1f} s", "10 s")]
    rows += work(options.runs)
    print("| what | measured | goal |\n| --- | --- | --- |")
    for row in rows:
        print("| " + " | ".join(row) + " |")
    load = os.getloadavg()[0]
    print(f"\nMeasured on {os.cpu_count()} CPU cores; load of the machine at the end {load:.1f}.")
    return 0


def start_s(port: int) -> float:
    """Seconds from the command to a page whose buttons can be pressed, in Chromium that runs already; to the first
    answer where there is none."""
    with contextlib.ExitStack() as stack:
        page = None
        if chromium := shutil.which("chromium"):
            from playwright.sync_api import sync_playwright

            playwright = stack.enter_context(sync_playwright())
            browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
            stack.callback(browser.close)
            page = browser.new_page()
        begun = time.perf_counter()
        process = subprocess.Popen(
            [sys.executable, str(ROOT / "app.py"), "--port", str(port)], stdout=subprocess.DEVNULL, cwd=ROOT
        )
        stack.callback(process.wait)
        stack.callback(process.terminate)
        while time.perf_counter() - begun < 300:
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=5) as answer:
                    answer.read()
                break
            except OSError:
                time.sleep(0.05)
        if page is not None:
            page.goto(f"http://127.0.0.1:{port}/")
            page.wait_for_selector("#start:enabled", timeout=300_000)
        return time.perf_counter() - begun


def work(runs: int) -> list[tuple[str, str, str]]:
    """Relighting at 256 pixels, and the memory of this process after 3 and after all runs."""
    from gan2shape_hub.demo import results
    from gan2shape_hub.demo.desk import Desk
    from gan2shape_hub.demo.runs import Order

    desk = Desk()
    session, memory, finished = desk.session("measured"), [], None
    for seed in range(runs):
        subject = desk.shelf.drawn(desk.shelf.default, seed)
        order = Order.of(session, subject, desk.shelf.presets(desk.shelf.default)[0][0], 0, False)
        *_, finished = desk.workshop.run(order)
        desk.workspace.finish(session, finished)
        results.forget_older(finished, session.folder)
        results.file_of(finished, session.folder, "textured")
        results.relit(finished, (-0.7, 0.2, 0.4, 0.8))
        results.turned(finished, 20, 0)
        gc.collect()
        memory.append(resident_gb())
    quick, times = finished.quick(256), []
    with results.one_thread():
        for k in range(40):
            light = results.ball_light(k / 40 - 0.5, 0.2, 0.4, 0.8, like=finished.result.depth)
            begun = time.perf_counter()
            quick.redraw(quick.pose, light, 256)
            times.append((time.perf_counter() - begun) * 1000)
    half = runs // 2
    growth = [(memory[b - 1] - memory[a - 1]) * 1000 for a, b in ((3, half), (half, runs))]
    return [
        ("relighting at 256 pixels, one thread (median of 40)", f"{statistics.median(times):.0f} ms", "150 ms"),
        ("memory after 3 runs", f"{memory[2]:.2f} GB", "2.5 GB"),
        (f"memory after {runs} runs", f"{memory[-1]:.2f} GB", "2.5 GB"),
        (f"growth, runs 3 to {half} and {half} to {runs}", f"{growth[0]:+.0f} and {growth[1]:+.0f} MB", "none"),
    ]


def resident_gb() -> float:
    with open("/proc/self/statm", encoding="ascii") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e9


if __name__ == "__main__":
    sys.exit(main())
