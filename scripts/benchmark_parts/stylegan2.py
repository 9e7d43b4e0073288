"""StyleGAN2 at 128 pixels, channel multiplier 1: ours against the per-sample-weight twin and a matrix product.

All three are timed in the same run, turn and turn about, because a shared machine's speed drifts: what is reported is
the best of the rounds, and the shares are against the matrix product's best.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import torch

from gan2shape_hub.models.stylegan2 import StyleGAN2Generator

GMAC_FORWARD = 11.2
"""Multiply-accumulates an image in the convolutions (upsampling ones counted without the inserted zeros), in 1e9."""
MATRIX = 2048


def _seconds(call: Callable[[], object]) -> float:
    start = time.perf_counter()
    call()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - start


def run(batch: int = 8, rounds: int = 3, device: str = "cpu", seed: int = 0) -> dict[str, float | int]:
    """Seconds a batch, speed-ups over the twin, and shares of the matrix product's GFLOP/s (2 a MAC)."""
    torch.manual_seed(seed)
    generator = StyleGAN2Generator(128, channel_base=16384).to(device)
    for conv in generator.convs:
        conv.noise_strength.fill_(0.1)
    w = generator.mapping(torch.randn(batch, 512, device=device))
    cotangent = torch.randn(batch, 3, 128, 128, device=device)
    a, b = torch.randn(2, MATRIX, MATRIX, device=device)

    def forward(impl: str) -> None:
        with torch.no_grad():
            generator(w, impl=impl)

    def backward(impl: str) -> None:
        latent = w.clone().requires_grad_()
        torch.autograd.grad(generator(latent, impl=impl), latent, cotangent)

    def product() -> None:
        for _ in range(5):
            torch.mm(a, b)

    calls: dict[str, Callable[[], None]] = {
        "matmul": product,
        "forward": lambda: forward("fast"),
        "twin_forward": lambda: forward("reference"),
        "backward": lambda: backward("fast"),
        "twin_backward": lambda: backward("reference"),
    }
    for name in ("matmul", "forward", "backward"):
        calls[name]()  # warm up
    best = {name: float("inf") for name in calls}
    for i in range(rounds):
        for name, call in calls.items():
            if i == 0 or not name.startswith("twin"):  # the twin is slow: once is enough
                best[name] = min(best[name], _seconds(call))
    peak = 5 * 2 * MATRIX**3 / best["matmul"] / 1e9
    flop = 2 * GMAC_FORWARD * batch
    return {
        "batch": batch,
        "threads": torch.get_num_threads(),
        "matmul_gflops": peak,
        "forward_s": best["forward"],
        "forward_backward_s": best["backward"],
        "twin_forward_s": best["twin_forward"],
        "twin_forward_backward_s": best["twin_backward"],
        "forward_speedup": best["twin_forward"] / best["forward"],
        "forward_backward_speedup": best["twin_backward"] / best["backward"],
        "forward_share_of_matmul": flop / best["forward"] / peak,
        "forward_backward_share_of_matmul": 2 * flop / best["backward"] / peak,
    }


if __name__ == "__main__":
    for key, value in run().items():
        print(f"{key:35s} {value:.3f}" if isinstance(value, float) else f"{key:35s} {value}")
