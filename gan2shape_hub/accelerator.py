"""The device and precision of a run, as accelerate finds them."""

from __future__ import annotations

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState

PRECISIONS = ("no", "bf16", "fp16")


def check_device(device: torch.device | str) -> torch.device:
    """``device`` as torch.device; ValueError in one sentence where torch does not know it or cannot use it here."""
    try:
        found = torch.device(device)
    except (RuntimeError, TypeError):
        raise ValueError(f"device is {device!r}, must be cpu, cuda, mps or another device of torch.") from None
    try:
        torch.empty(1, device=found)
    except (AssertionError, RuntimeError, NotImplementedError):
        raise ValueError(f"device is {str(found)!r}, which torch cannot use on this machine: choose 'cpu'.") from None
    return found


def make_accelerator(device: torch.device | str | None = None, mixed_precision: str = "no") -> Accelerator:
    """Accelerator on ``device`` (None: the GPU, MPS or CPU that is there) with autocast as asked for.

    accelerate keeps one state a process and refuses a second precision or device; pipelines of different kinds may live
    in one process, so that state is made anew where it differs.
    """
    if mixed_precision not in PRECISIONS:
        raise ValueError(f"mixed_precision is {mixed_precision!r}, must be one of {', '.join(PRECISIONS)}.")
    on_cpu = device is not None and torch.device(device).type == "cpu"
    if AcceleratorState._shared_state:
        state = AcceleratorState()
        # A state that was made for the CPU alone would keep a later pipeline off the GPU.
        other_device = state.device.type != "cpu" if on_cpu else bool(getattr(state, "_cpu", False))
        if state.mixed_precision != mixed_precision or other_device:
            AcceleratorState._reset_state(reset_partial_state=True)
    try:
        return Accelerator(mixed_precision=mixed_precision, cpu=on_cpu)
    except (ValueError, NotImplementedError):
        AcceleratorState._reset_state(reset_partial_state=True)
        raise ValueError(f"mixed_precision is {mixed_precision!r}, which does not work here: use 'no'.") from None
