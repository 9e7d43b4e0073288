"""Client processes: one process imports the libraries with the environment of a test, and forks a fresh child a call.

Importing torch takes seconds and forking milliseconds, so every load in the tests can be a process of its own.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Outcome:
    """What a child did: the value of ``result``, or the class names and text of its error; and all it printed."""

    result: Any
    error: list[str]
    message: str
    chain: str
    printed: str


class Clients:
    """Runs snippets of Python in processes that see ``environment``; ``close`` ends them."""

    def __init__(self, environment: dict[str, str], folder: Path) -> None:
        clean = {k: v for k, v in os.environ.items() if not k.startswith(("HF_", "HUGGING"))}
        clean |= {"OMP_NUM_THREADS": "1", "HF_HUB_DISABLE_XET": "1", "HF_HUB_DISABLE_TELEMETRY": "1"}
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self._count = 0
        self._process = subprocess.Popen(
            [sys.executable, __file__], stdin=subprocess.PIPE, text=True, env={**clean, **environment}, cwd=folder
        )

    def start(self, code: str, **arguments: Any) -> Path:
        """Run ``code``, which sets ``result``; ``arguments`` (JSON-able) are its variables."""
        self._count += 1
        out = self._folder / f"{self._count}.json"
        self._process.stdin.write(json.dumps({"code": code, "arguments": arguments, "out": str(out)}) + "\n")
        self._process.stdin.flush()
        return out

    def wait(self, out: Path, timeout_s: float = 300.0) -> Outcome:
        until = time.monotonic() + timeout_s
        while not out.exists():
            assert time.monotonic() < until, f"no answer after {timeout_s} s"
            assert self._process.poll() is None, "the client process died"
            time.sleep(0.02)
        return Outcome(**json.loads(out.read_text()), printed=out.with_suffix(".log").read_text())

    def run(self, code: str, **arguments: Any) -> Outcome:
        return self.wait(self.start(code, **arguments))

    def close(self) -> None:
        self._process.stdin.close()
        self._process.wait(timeout=60)


def _serve() -> None:
    import signal

    import torch

    import gan2shape_hub.hub  # imported before the forks

    with torch.device("meta"):  # torch imports a second's worth of modules for the first network it builds there
        torch.randn(1).div(2)

    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    for line in sys.stdin:
        request = json.loads(line)
        if "GAN2ShapePipeline" in request["code"]:  # what every such child would import, and so for the first optimizer
            import gan2shape_hub.pipeline  # noqa: F401

            torch.optim.SGD([torch.zeros(1)]).zero_grad()
        if os.fork() == 0:
            _child(request)


def _child(request: dict[str, Any]) -> None:
    import traceback

    out = Path(request["out"])
    log = os.open(out.with_suffix(".log"), os.O_CREAT | os.O_WRONLY)
    os.dup2(log, 1)
    os.dup2(log, 2)
    answer = {"result": None, "error": [], "message": "", "chain": ""}
    try:
        scope = dict(request["arguments"])
        exec(request["code"], scope)
        answer["result"] = scope.get("result")
    except BaseException as error:
        answer["error"] = [cls.__name__ for cls in type(error).__mro__]
        answer["message"], answer["chain"] = str(error), traceback.format_exc()
    sys.stdout.flush()
    sys.stderr.flush()
    part = out.with_suffix(".part")
    part.write_text(json.dumps(answer))
    part.rename(out)
    os._exit(0)


if __name__ == "__main__":
    _serve()
