"""The one loop in which everything is trained by gradient: resumable to the step, the same on one process or several.

A step is the mean of ``parts``, each with randomness of its own that (seed, step, part) says. Processes share the parts
out, so that a recipe means the same however many there are, and one process takes them in turn: the features of a small
part fit a processor's cache. A run that was killed goes on as if it had not been.
"""

from __future__ import annotations

import copy
import json
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from accelerate import Accelerator
from torch import Tensor, nn

from gan2shape_hub.atomic import atomic_file
from gan2shape_hub.typed_json import check

Terms = Callable[[torch.Generator], dict[str, Tensor]]
"""The terms of the loss of one part, which draws what it needs from the generator; ``loss`` is what is minimised."""
Learners = dict[str, nn.Module]


@dataclass(frozen=True)
class Job:
    """What every piece of long work needs: its seed, the folder that it goes on from, processes, and who is told."""

    seed: int
    folder: Path
    accelerator: Accelerator
    log: Callable[[str], None]


STATE, LOG = "state.pt", "log.jsonl"


@dataclass(frozen=True)
class Training:
    """How something is trained. All but ``save_every`` must stay the same when it is resumed."""

    steps: int
    parts: int = 1
    """Of a step; their gradients are averaged."""
    learning_rate: float = 4e-4
    warm_up: int = 20
    """Steps of a linear start; half a cosine follows, down to ``final`` of the rate."""
    final: float = 0.05
    ema: float = 0.998
    """Of the averaged weights, which are what is kept in the end."""
    betas: tuple[float, float] = (0.9, 0.99)
    weight_decay: float = 0.0
    clip: float = 1.0
    """Largest norm of the gradient."""
    save_every: int = 100

    def __post_init__(self) -> None:
        for name, least in (("steps", 0), ("parts", 1), ("save_every", 1), ("warm_up", 0)):
            check(getattr(self, name) >= least, f"training.{name}", getattr(self, name), f"{least} or more")
        check(self.learning_rate > 0, "training.learning_rate", self.learning_rate, "above 0")

    def rate(self, step: int) -> float:
        """The learning rate of ``step``, counted from 0."""
        if step < self.warm_up:
            return self.learning_rate * (step + 1) / self.warm_up
        done = (step - self.warm_up) / max(self.steps - self.warm_up, 1)
        return self.learning_rate * (self.final + (1 - self.final) * (1 + math.cos(math.pi * min(done, 1.0))) / 2)


def train(
    learners: Mapping[str, nn.Module],
    terms: Terms,
    training: Training,
    job: Job,
    *,
    scale: Callable[[str], float] = lambda name: 1.0,
    after_save: Callable[[int, Learners], None] | None = None,
) -> Learners:
    """Train ``learners`` in place; returns copies with the averaged weights, frozen.

    Args:
        job: its folder holds state.pt (rewritten every ``save_every`` steps) and log.jsonl; the same call goes on from
            there.
        scale: part of the learning rate by parameter, ``<learner>.<name>``.
        after_save: gets the step and the averaged copies, on the main process.

    Raises:
        ValueError: the folder holds a run with other settings; FloatingPointError: the loss became NaN.
    """
    folder, accelerator, log = job.folder, job.accelerator, job.log
    for module in learners.values():
        module.requires_grad_(True).train()
    averaged = {name: copy.deepcopy(module).requires_grad_(False).eval() for name, module in learners.items()}
    groups: dict[float, list[nn.Parameter]] = {}
    for name, module in learners.items():
        for key, parameter in module.named_parameters():
            groups.setdefault(scale(f"{name}.{key}"), []).append(parameter)
    optimizer = torch.optim.Adam(
        [{"params": group, "lr": 0.0} for group in groups.values()],
        betas=training.betas,
        weight_decay=training.weight_decay,
    )
    parameters = [parameter for group in groups.values() for parameter in group]
    settings = {**asdict(training), "seed": job.seed, "save_every": None, "betas": list(training.betas)}
    first = _resume(folder, learners, averaged, optimizer, settings)
    title, sums = "/".join(folder.parts[-2:]), {}
    if first and first < training.steps:
        log(f"{title} goes on at step {first}")
    begun, since = time.perf_counter(), first
    for step in range(first, training.steps):
        for group, part in zip(optimizer.param_groups, groups, strict=True):
            group["lr"] = training.rate(step) * part
        optimizer.zero_grad(set_to_none=True)
        for name, value in _gradients(terms, training, job.seed, step, parameters, accelerator).items():
            sums[name] = sums.get(name, 0.0) + value
        nn.utils.clip_grad_norm_(parameters, training.clip)
        optimizer.step()
        _follow(averaged, learners, min(training.ema, (step + 1) / (step + 10)))
        done = step + 1
        if done % training.save_every and done < training.steps:
            continue
        means = {name: round(value / (done - since), 5) for name, value in sums.items()}
        seconds = (time.perf_counter() - begun) / (done - first)
        sums, since = {}, done
        if accelerator.is_main_process:
            left = (training.steps - done) * seconds / 60
            text = ", ".join(f"{name} {value:.4f}" for name, value in means.items())
            log(f"{title} {done}/{training.steps}: {text} ({seconds:.2f} s a step, {left:.0f} min left)")
            with (folder / LOG).open("a") as out:
                line = {"step": done, "rate": training.rate(step), **means, "seconds": round(seconds, 3)}
                out.write(json.dumps(line) + "\n")
            _save(folder, done, learners, averaged, optimizer, settings)
            if after_save is not None:
                after_save(done, averaged)
        accelerator.wait_for_everyone()
    for module in learners.values():
        module.requires_grad_(False).eval()
    return averaged


def _gradients(
    terms: Terms, training: Training, seed: int, step: int, parameters: list[nn.Parameter], accelerator: Accelerator
) -> dict[str, float]:
    """Leave the mean gradient of all parts in ``parameters``; the mean terms."""
    count = accelerator.num_processes
    mine = range(accelerator.process_index, training.parts, count)
    total: dict[str, Tensor] = {}
    for part in mine or (0,):  # a process without a part takes the first one, which then counts nothing
        rng = torch.Generator().manual_seed((seed * 1_000_003 + step) * training.parts + part)
        with accelerator.autocast():
            found = terms(rng)
        weight = 1 / training.parts if mine else 0.0
        (found["loss"] * weight).backward()
        for name, value in found.items():
            total[name] = total.get(name, 0.0) + value.detach().float() * weight
    values = torch.stack(list(total.values()))
    if count > 1:  # one message
        flat = [(torch.zeros_like(p) if p.grad is None else p.grad).flatten() for p in parameters]
        shared = accelerator.reduce(torch.cat([values, *flat]), "sum")
        values, *flat = shared.split([len(values), *(p.numel() for p in parameters)])
        for parameter, gradient in zip(parameters, flat, strict=True):
            parameter.grad = gradient.view_as(parameter).clone(memory_format=torch.preserve_format)
    if not bool(torch.isfinite(values).all()):
        raise FloatingPointError(f"the loss became NaN at step {step}: lower the learning rate.")
    return dict(zip(total, values.tolist(), strict=True))


@torch.no_grad()
def _follow(averaged: Learners, learners: Mapping[str, nn.Module], decay: float) -> None:
    for name, module in averaged.items():
        torch._foreach_lerp_(list(module.parameters()), list(learners[name].parameters()), 1 - decay)


def _resume(
    folder: Path,
    learners: Mapping[str, nn.Module],
    averaged: Learners,
    optimizer: torch.optim.Optimizer,
    settings: dict,
) -> int:
    """The step to go on from; log lines of steps that were not saved are dropped."""
    folder.mkdir(parents=True, exist_ok=True)
    path, log = folder / STATE, folder / LOG
    step = 0
    if path.exists():
        state = torch.load(path, weights_only=True, map_location="cpu")
        if state["settings"] != settings:
            raise ValueError(f"{folder} holds a run with other settings: choose another folder.")
        for name, module in averaged.items():
            learners[name].load_state_dict(state["learners"][name])
            module.load_state_dict(state["averaged"][name])
        optimizer.load_state_dict(state["optimizer"])
        step = int(state["step"])
    if log.exists():
        lines = [line for line in log.read_text().splitlines() if line.endswith("}")]
        kept = [line for line in lines if json.loads(line)["step"] <= step]
        with atomic_file(log) as part:
            part.write_text("".join(f"{line}\n" for line in kept))
    return step


def _save(
    folder: Path,
    step: int,
    learners: Mapping[str, nn.Module],
    averaged: Learners,
    optimizer: torch.optim.Optimizer,
    settings: dict,
) -> None:
    with atomic_file(folder / STATE) as part:
        torch.save(
            {
                "step": step,
                "settings": settings,
                "learners": {name: module.state_dict() for name, module in learners.items()},
                "averaged": {name: module.state_dict() for name, module in averaged.items()},
                "optimizer": optimizer.state_dict(),
            },
            part,
        )
