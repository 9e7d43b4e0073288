"""Programs that call one demo at the same time: every answer is the caller's own, memory stays flat, nothing stays."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from pathlib import Path

from gradio_client import Client, handle_file
from gradio_client.exceptions import AppError
from PIL import Image

ROOT = Path(__file__).resolve().parents[2]


def run(seconds: float, seed: int, clients: int = 6) -> tuple[dict[str, int], list[str], list[float]]:
    """Let ``clients`` call for ``seconds``.

    Returns:
        Outcome -> how often, findings, and the server's memory in GB, two values a second.
    """
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        port = 8900 + os.getpid() % 90
        log = (folder / "log").open("w+")
        server = subprocess.Popen(
            [sys.executable, str(ROOT / "app.py"), "--port", str(port)],
            stdout=log,
            stderr=log,
            env={**os.environ, "TMPDIR": temporary},
        )
        try:
            address = f"http://127.0.0.1:{port}/"
            _await(address, server)
            counts: dict[str, int] = {"answered": 0, "refused": 0}
            findings: list[str] = []
            deadline, memory = time.monotonic() + seconds, []
            threads = [
                threading.Thread(target=_client, args=(address, seed + k, deadline, folder, counts, findings))
                for k in range(clients)
            ]
            for thread in threads:
                thread.start()
            while any(thread.is_alive() for thread in threads):
                memory.append(resident_gb(server.pid))
                time.sleep(0.5)
            if server.poll() is not None:
                findings.append(f"the server ended with {server.returncode}")
        finally:
            server.terminate()
            server.wait(60)
        if left := list(folder.glob("gan2shape-demo-*")):
            findings.append(f"the server left {left[0].name}")
        log.seek(0)
        findings += [line for line in log.read().splitlines() if line.startswith("demo: ") or "Traceback" in line]
        log.close()
    return counts, findings, memory


def resident_gb(pid: int) -> float:
    """Memory of a process that lies in RAM."""
    text = Path(f"/proc/{pid}/statm").read_text(encoding="ascii")
    return int(text.split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e9


def _await(address: str, server: subprocess.Popen) -> None:
    for _ in range(600):
        if server.poll() is not None:
            raise RuntimeError("the demo does not start: try `gan2shape demo`.")
        try:
            urllib.request.urlopen(address, timeout=5).close()
            return
        except OSError:
            time.sleep(0.5)
    raise RuntimeError("the demo did not start within 5 minutes: try `gan2shape demo`.")


def _client(
    address: str, seed: int, deadline: float, folder: Path, counts: dict[str, int], findings: list[str]
) -> None:
    """One program's calls in an order of its own, some of them wrong."""
    rng = random.Random(seed)
    photograph = folder / f"photo-{seed}.png"
    Image.effect_noise((96, 80), 60 + seed % 50).save(photograph)
    client, own = Client(address, verbose=False, download_files=str(folder / f"client-{seed}")), None
    while time.monotonic() < deadline:
        kind = rng.choice(["seed", "photograph", "wrong", "sample", *["relight", "rotate", "download"] * 2])
        number = rng.randrange(10**6)
        try:
            if kind == "seed":
                _, _, own = client.predict(seed=number, preset="instant", api_name="/reconstruct")
                if f"--seed {number} " not in own["command"]:
                    findings.append(f"client {seed}: asked for {number}, was told '{own['command']}'")
            elif kind == "photograph":
                client.predict(image=handle_file(str(photograph)), preset="instant", api_name="/reconstruct")
            elif kind == "wrong":
                client.predict(image=handle_file(__file__), preset="instant", api_name="/reconstruct")
            elif kind == "sample":
                if client.predict(seed=number, api_name="/sample")[1] != number:
                    findings.append(f"client {seed}: a sample of another seed than {number}")
            elif kind == "download":
                client.predict(kind=rng.choice(["glb", "ply", "maps", "settings"]), api_name="/download")
            else:
                value = {"relight": {"right": rng.uniform(-1, 1)}, "rotate": {"yaw": rng.uniform(-40, 40)}}[kind]
                client.predict(**value, api_name=f"/{kind}")
            counts["answered"] += 1
        except AppError as error:
            known = ["no face", "no known format", "queue is full"]
            known += [] if own else ["no result yet"]  # a result that was there may not be lost
            if any(words in str(error).lower() for words in known):
                counts["refused"] += 1
            else:
                findings.append(f"client {seed}, {kind}: {error}")
        except Exception as error:  # whatever a client sees beside the demo's own sentences is a finding
            findings.append(f"client {seed}, {kind}: {type(error).__name__}: {error}")
    client.close()
