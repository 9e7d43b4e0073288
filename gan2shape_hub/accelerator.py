"""The device and precision of a run, as accelerate finds them."""

from __future__ import annotations

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState

PRECISIONS = ("no", "bf16", "fp16")


def make_accelerator(device: torch.device | str | None = None, mixed_precision: str = "no") -> Accelerator:
    """Accelerator on ``device`` (None: the GPU, MPS or CPU that is there) with autocast as asked for.

    accelerate keeps one state a process and refuses a second precision; pipelines of different precision may live in
    one process, so that state is made anew where it differs.
    """
    if mixed_precision not in PRECISIONS:
        raise ValueError(f"mixed_precision is {mixed_precision!r}, must be one of {', '.join(PRECISIONS)}.")
    on_cpu = device is not None and torch.device(device).type == "cpu"
    if AcceleratorState._shared_state:
        state = AcceleratorState()
        if state.mixed_precision != mixed_precision or (on_cpu and state.device.type != "cpu"):
            AcceleratorState._reset_state(reset_partial_state=True)
    return Accelerator(mixed_precision=mixed_precision, cpu=on_cpu)
