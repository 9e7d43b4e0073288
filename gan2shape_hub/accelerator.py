"""Device and precision: of a run, without a trace in the program around it, and of the trainings of this repository."""

from __future__ import annotations

import functools
import os
import warnings
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from datetime import timedelta

import torch
import torch.nn.functional as F
from accelerate import Accelerator
from accelerate.state import PartialState
from accelerate.utils import InitProcessGroupKwargs
from torch import Tensor, nn

PRECISIONS = {"no": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


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


def find_device() -> torch.device:
    """The device of the program's own accelerate state where it has one, else the GPU, MPS or CPU that accelerate would
    take; its state, which is one for the whole process, and the environment stay as they are. A Mac's GPU on which
    torch lacks something that is needed is left for the CPU, with one warning."""
    if PartialState._shared_state:
        return PartialState().device
    fallback = os.environ.get("PYTORCH_ENABLE_MPS_FALLBACK")
    found = PartialState.default_device.fget(None)  # looks at torch alone
    if fallback is None:
        os.environ.pop("PYTORCH_ENABLE_MPS_FALLBACK", None)
    return found if found.type != "mps" or _is_complete(found) else torch.device("cpu")


@functools.cache
def _is_complete(device: torch.device) -> bool:
    """Whether ``device`` has what this package needs; a warning, once, where it does not."""
    missing = missing_operators(device)
    if missing:
        warnings.warn(
            f"this version of torch lacks {', '.join(missing)} on {device.type}: the CPU is taken; torch 2.12 or later "
            "may have them.",
            stacklevel=3,
        )
    return not missing


def missing_operators(device: torch.device) -> list[str]:
    """Names of the operators that this package needs and ``device`` cannot do, forward and backward: tried on a few
    pixels, because a version of torch says nothing of them."""
    small = (4, 4)
    tried: dict[str, Callable[[Tensor], Tensor]] = {
        "grid_sample with border padding": lambda x: F.grid_sample(
            x, x.movedim(1, -1)[..., :2], padding_mode="border", align_corners=True
        ),
        "bicubic grid_sample": lambda x: F.grid_sample(
            x, x.movedim(1, -1)[..., :2], "bicubic", "border", align_corners=False
        ),
        "bicubic interpolate": lambda x: F.interpolate(x, small, mode="bicubic", align_corners=True),
        "antialiased interpolate": lambda x: F.interpolate(x, small, mode="bilinear", antialias=True),
        "linalg.solve": lambda x: torch.linalg.solve(x[0] + 9 * torch.eye(8, device=device), x[0]),
        "scatter_reduce": lambda x: x.flatten().scatter_reduce(
            0, torch.zeros(x.numel(), dtype=torch.long, device=device), x.flatten(), "amax"
        ),
    }
    missing = []
    for name, operator in tried.items():
        try:
            x = torch.linspace(-0.9, 0.9, 192, device=device).view(1, 3, 8, 8).requires_grad_()
            operator(x).square().sum().backward()
            if not bool(torch.isfinite(x.grad).all()):
                missing.append(name)
        except (RuntimeError, NotImplementedError, AssertionError):
            missing.append(name)
    return missing


def check_precision(precision: str, device: torch.device) -> str:
    """``precision``; ValueError in one sentence where there is none of this name, or ``device`` cannot do it."""
    if precision not in PRECISIONS:
        raise ValueError(f"mixed_precision is {precision!r}, must be one of {', '.join(PRECISIONS)}.")
    too_old = precision == "bf16" and device.type == "cuda" and not torch.cuda.is_bf16_supported()
    if too_old or (precision == "fp16" and device.type == "cpu"):
        raise ValueError(f"mixed_precision is {precision!r}, which does not work here: use 'no'.")
    return precision


def autocast(device: torch.device, precision: str) -> AbstractContextManager:
    """Autocast of ``device`` to ``precision``."""
    return nullcontext() if precision == "no" else torch.autocast(device.type, PRECISIONS[precision])


class Optimizer:
    """An optimizer that undoes the scaling of float16 gradients and skips steps that overflowed."""

    def __init__(self, optimizer: torch.optim.Optimizer, device: torch.device, precision: str = "no") -> None:
        self._optimizer = optimizer
        self._scaler = torch.amp.GradScaler(device.type, enabled=precision == "fp16")

    def step(self, loss: Tensor) -> None:
        """One step down the gradient of ``loss`` (scalar)."""
        self._optimizer.zero_grad(set_to_none=True)
        self._scaler.scale(loss).backward()
        self._scaler.step(self._optimizer)
        self._scaler.update()


def holds_halves(module: nn.Module) -> bool:
    """Whether some of a network's numbers are of half precision."""
    return any(tensor.dtype in (torch.float16, torch.bfloat16) for tensor in module.state_dict().values())


def make_accelerator(device: torch.device | str | None = None, mixed_precision: str = "no") -> Accelerator:
    """The Accelerator of a training, whose process is its own, on ``device`` (None: what is there).

    ValueError where the process has one of another precision already.
    """
    on_cpu = device is not None and torch.device(device).type == "cpu"
    # Phases in which one process works alone may take longer than the half hour that is the default.
    patience = InitProcessGroupKwargs(timeout=timedelta(hours=12))
    return Accelerator(mixed_precision=mixed_precision, cpu=on_cpu, kwargs_handlers=[patience])
