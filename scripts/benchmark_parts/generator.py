"""Speed of the face generator and its taps, beside OpenVINO's time for the wheel's own network.

Everything is timed in turn, round after round, because a shared machine's speed drifts; a time is the median of the
rounds, a ratio the median of the rounds' ratios. The weights do not matter for time, so they are random unless a
wheel is given.

    python scripts/benchmark_parts/generator.py --wheel random_face-2021.7.21.1-py3-none-any.whl
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from gan2shape_hub.conversion.random_face import WHEEL_SHA256, check_sha256, read_generator
from gan2shape_hub.generator import sample_latents
from gan2shape_hub.models.mobile_stylegan import MobileStyleGANGenerator

NETWORK = "random_face/data/SynthesisNetwork"
PAUSE_S = 0.03
"""Between two measurements: threads that wait for more work of the one must not slow the other."""


def run(wheel: str | Path | None = None, rounds: int = 9, micro_batches: tuple[int, ...] = (1, 2, 4, 8)) -> dict:
    """Seconds an image and ratios; those with ``openvino`` in their name only where ``wheel`` is given.

    ``micro_batches``: images that go through a tap at once; ``image_at`` takes one at a time on a CPU.
    """
    if wheel is None:
        torch.manual_seed(0)
        generator = MobileStyleGANGenerator().requires_grad_(False).eval()
    else:
        generator = read_generator(Path(wheel))
    w = sample_latents(generator, 1, torch.Generator().manual_seed(7))
    report = {"threads": torch.get_num_threads(), "torch": torch.__version__, "rounds": rounds}
    calls: dict[str, Callable[[], object]] = {"full_1024": lambda: _forward(generator, w)}
    for size in sorted(generator.tap_sizes):
        calls[f"tap{size}_forward"] = lambda size=size: _forward(generator, w, size)
        calls[f"tap{size}_forward_backward"] = lambda size=size: _backward(generator, w, size)
    if wheel is not None:
        theirs = _openvino(Path(wheel), w)
        calls["openvino_full_1024"] = theirs
        report["max_difference_to_openvino"] = float(np.abs(theirs() - _forward(generator, w).numpy()).max())

    times = take_turns(calls, rounds)
    report |= {f"{name}_s": statistics.median(values) for name, values in times.items()}
    if wheel is not None:
        report["ratio_full_to_openvino"] = ratio(times, "full_1024", "openvino_full_1024")
    for name in times:
        if name.startswith("tap"):
            report[f"ratio_{name}_to_full"] = ratio(times, name, "full_1024")
            if wheel is not None:
                report[f"ratio_{name}_to_openvino_full"] = ratio(times, name, "openvino_full_1024")
    return report | _micro_batches(generator, micro_batches, max(rounds // 3, 1))


def take_turns(calls: dict[str, Callable[[], object]], rounds: int) -> dict[str, list[float]]:
    """Seconds of every call in every round; each round runs each of them once, after one that warms up."""
    times: dict[str, list[float]] = {name: [] for name in calls}
    for number in range(rounds + 1):
        for name, call in calls.items():
            time.sleep(PAUSE_S)
            begun = time.perf_counter()
            call()
            if number:
                times[name].append(time.perf_counter() - begun)
    return times


def ratio(times: dict[str, list[float]], name: str, other: str) -> float:
    """Median of the rounds' ratios of two calls."""
    return statistics.median(a / b for a, b in zip(times[name], times[other], strict=True))


@torch.no_grad()
def _forward(generator: MobileStyleGANGenerator, w: Tensor, size: int | None = None) -> Tensor:
    return generator(w) if size is None else generator.image_at(w, size)


def _backward(generator: MobileStyleGANGenerator, w: Tensor, size: int) -> Tensor:
    """Gradient to w of a tap's image under a constant cotangent; the batch goes through at once."""
    w = w.detach().requires_grad_()
    image = generator.read_tap(generator.tap_features(w, size), w, size)
    return torch.autograd.grad(image, w, torch.ones_like(image))[0]


def _micro_batches(generator: MobileStyleGANGenerator, counts: tuple[int, ...], rounds: int) -> dict:
    """Seconds an image of a tap's forward and backward, by the number of images that go through at once."""
    report = {}
    for size in sorted(generator.tap_sizes):
        latents = generator.latent_mean + torch.randn(max(counts), generator.latent_dim)
        calls = {str(n): lambda n=n, size=size, w=latents: _backward(generator, w[:n], size) for n in counts}
        times = take_turns(calls, rounds)
        each = {n: statistics.median(times[str(n)]) / n for n in counts}
        report |= {f"tap{size}_forward_backward_s_an_image_of_{n}": seconds for n, seconds in each.items()}
        report[f"tap{size}_best_micro_batch"] = min(each, key=each.get)
    return report


def _openvino(wheel: Path, w: Tensor) -> Callable[[], np.ndarray]:
    """The wheel's own synthesis network in float32, on as many threads as PyTorch has."""
    import openvino

    check_sha256(wheel, WHEEL_SHA256)
    settings = {
        "INFERENCE_PRECISION_HINT": "f32",
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_NUM_THREADS": torch.get_num_threads(),
    }
    with zipfile.ZipFile(wheel) as archive, tempfile.TemporaryDirectory() as folder:
        files = [archive.extract(NETWORK + suffix, folder) for suffix in (".xml", ".bin")]
        request = openvino.Core().compile_model(files[0], "CPU", settings).create_infer_request()
    style = w.numpy()
    return lambda: next(iter(request.infer({0: style}).values()))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--wheel", help="random-face wheel: also time OpenVINO on its network")
    parser.add_argument("--rounds", type=int, default=9)
    options = parser.parse_args()
    print(json.dumps(run(options.wheel, options.rounds), indent=2))
