"""The long training of a category's shape nets: resumable to the exact step, the same on one process or several.

Everything random of a step comes from a generator seeded by (seed, step), and every process takes its own part of the
step's identities; so a run that was killed goes on as if it had not been, and two processes with n identities each do
what one does with 2n.
"""

from __future__ import annotations

import copy
import json
import math
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path

import torch
from accelerate import Accelerator
from torch import Tensor, nn

from gan2shape_hub.atomic import atomic_file
from gan2shape_hub.config import CategoryConfig
from gan2shape_hub.models.shape import ShapeNets
from gan2shape_hub.rendering.transfer import box_importance
from gan2shape_hub.training.lighting import load_lit_heads
from gan2shape_hub.training.multiview import MultiviewLoss, appearance_loss, multiview_loss
from gan2shape_hub.training.view_pool import ViewPool


@dataclass(frozen=True)
class PretrainingSettings:
    """What a run does. All but ``save_every`` must stay the same when it is resumed."""

    steps: int = 4000
    identities: int = 4
    """Of a step, on each process."""
    views: int = 3
    """Of each identity in a step."""
    sources: int = 2
    """How many of them give a depth (an albedo), which has to explain the others."""
    learning_rate: float = 4e-4
    warm_up: int = 100
    ema: float = 0.998
    """Of the averaged weights, which are what is kept in the end."""
    mirror: float = 0.5
    """How often an identity's sheets are mirrored."""
    lit: int = 64
    """Heads under other lights that each identity's shape has to explain in a step."""
    jitter: float = 0.15
    """Brightness and contrast of what the depth and view networks see."""
    seed: int = 0
    save_every: int = 100
    loss: MultiviewLoss = field(default_factory=MultiviewLoss)


@dataclass(frozen=True)
class Batch:
    """views and inputs (n, m, 3, S, S) in -1..1: the images, and how the networks see them; mirror (n) bool; turns
    (n, m, 2), the pitch and yaw of the walks in view units; lit (n, k) in 0..1, where in the list of lit heads those
    are that the shape has to explain."""

    views: Tensor
    inputs: Tensor
    mirror: Tensor
    turns: Tensor
    lit: Tensor


Terms = Callable[[Batch], dict[str, Tensor]]
"""The terms of a loss, ``loss`` being what is minimised; each a mean over the identities."""


def train_shape(
    nets: ShapeNets,
    pool: ViewPool,
    config: CategoryConfig,
    perceptual: nn.Module | None,
    settings: PretrainingSettings,
    accelerator: Accelerator,
    folder: Path,
    log: Callable[[str], None],
    after_save: Callable[[int, ShapeNets], None] | None = None,
) -> ShapeNets:
    """Train depth and view of ``nets`` in place on how heads turn; returns a copy with the averaged weights.

    ``folder`` holds state.pt (rewritten every ``save_every`` steps) and log.jsonl; the same call goes on from there.
    ``after_save`` gets the step and the averaged networks.

    Raises:
        ValueError: ``folder`` is another run's; FloatingPointError: the loss became NaN.
    """
    # Networks learn from mirrored images too, which is what averaging would give at twice the price.
    config = replace(config, average_mirrored=False)
    importance = box_importance(config.prior.default_box, config.image_size, settings.loss.background).to(
        accelerator.device
    )
    heads = None
    if settings.loss.lighting:
        with accelerator.main_process_first():
            heads = load_lit_heads(folder / "lit-heads.safetensors", pool, nets, config, log).to(accelerator.device)
    if heads is not None and not len(heads):  # no view shows enough of the object
        heads = None

    def terms(batch: Batch) -> dict[str, Tensor]:
        return multiview_loss(
            nets,
            batch.views,
            batch.inputs,
            settings.sources,
            batch.mirror,
            config,
            perceptual,
            settings.loss,
            importance,
            batch.turns,
            heads,
            None if heads is None else (batch.lit * len(heads)).long(),
        )

    return _train(nets, ("depth", "view"), terms, pool, settings, accelerator, folder, log, after_save)


def train_appearance(
    nets: ShapeNets,
    pool: ViewPool,
    config: CategoryConfig,
    perceptual: nn.Module | None,
    settings: PretrainingSettings,
    accelerator: Accelerator,
    folder: Path,
    log: Callable[[str], None],
    after_save: Callable[[int, ShapeNets], None] | None = None,
) -> ShapeNets:
    """Train albedo and light of ``nets`` in place under the shape that there is; otherwise as :func:`train_shape`."""
    importance = box_importance(config.prior.default_box, config.image_size, settings.loss.background).to(
        accelerator.device
    )

    def terms(batch: Batch) -> dict[str, Tensor]:
        return appearance_loss(
            nets, batch.views, settings.sources, batch.mirror, config, perceptual, settings.loss, importance
        )

    return _train(nets, ("albedo", "light"), terms, pool, settings, accelerator, folder, log, after_save)


def _train(
    nets: ShapeNets,
    names: tuple[str, ...],
    terms_of: Terms,
    pool: ViewPool,
    settings: PretrainingSettings,
    accelerator: Accelerator,
    folder: Path,
    log: Callable[[str], None],
    after_save: Callable[[int, ShapeNets], None] | None,
) -> ShapeNets:
    parameters = nets.train(*names)
    optimizer = torch.optim.Adam(parameters, lr=settings.learning_rate, betas=(0.9, 0.99))
    averaged = copy.deepcopy(nets)
    for _, module in averaged.modules():
        module.requires_grad_(False).eval()
    first = _resume(folder, nets, averaged, optimizer, settings)
    sums: dict[str, float] = {}
    begun = time.perf_counter()
    for step in range(first, settings.steps):
        rate = settings.learning_rate * _schedule(step, settings)
        for group in optimizer.param_groups:
            group["lr"] = rate
        batch = _batch(pool, step, settings, accelerator)
        optimizer.zero_grad(set_to_none=True)
        with accelerator.autocast():
            terms = terms_of(batch)
        accelerator.backward(terms["loss"])
        _average_gradients(parameters, accelerator)
        nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        _follow(averaged, nets, names, min(settings.ema, (step + 1) / (step + 10)))
        shared = accelerator.reduce(torch.stack([term.detach() for term in terms.values()]), "mean")
        if not bool(torch.isfinite(shared).all()):
            raise FloatingPointError(f"the loss became NaN at step {step}: lower the learning rate.")
        for name, value in zip(terms, shared.tolist(), strict=True):
            sums[name] = sums.get(name, 0.0) + value
        done = step + 1
        if done % settings.save_every and done < settings.steps:
            continue
        count = done - max(first, (done - 1) // settings.save_every * settings.save_every)
        means = {name: round(value / count, 5) for name, value in sums.items()}
        sums = {}
        if accelerator.is_main_process:
            seconds = (time.perf_counter() - begun) / (done - first)
            text = " ".join(f"{name} {value:.4f}" for name, value in means.items())
            log(f"step {done}/{settings.steps}: {text} ({seconds:.2f} s a step)")
            with (folder / "log.jsonl").open("a") as out:
                out.write(json.dumps({"step": done, "rate": rate, **means, "seconds": round(seconds, 3)}) + "\n")
            _save(folder, done, nets, averaged, optimizer, settings)
            if after_save is not None:
                after_save(done, averaged)
        accelerator.wait_for_everyone()
    return averaged


def _schedule(step: int, settings: PretrainingSettings) -> float:
    """Share of the learning rate: a linear start, then half a cosine down to a twentieth."""
    if step < settings.warm_up:
        return (step + 1) / settings.warm_up
    done = (step - settings.warm_up) / max(settings.steps - settings.warm_up, 1)
    return 0.05 + 0.95 * (1 + math.cos(math.pi * min(done, 1.0))) / 2


def _batch(pool: ViewPool, step: int, settings: PretrainingSettings, accelerator: Accelerator) -> Batch:
    """This process's part of the step's identities."""
    rng = torch.Generator().manual_seed(settings.seed * 1_000_003 + step)
    total = settings.identities * accelerator.num_processes
    available = pool.images.shape[1]
    identity = torch.randint(len(pool), (total,), generator=rng)
    view = torch.stack([torch.randperm(available, generator=rng)[: settings.views] for _ in range(total)])
    flip = torch.rand(total, generator=rng) < 0.5
    mirror = torch.rand(total, generator=rng) < settings.mirror
    gain = 1 + settings.jitter * (torch.rand(total, 1, 1, 1, 1, generator=rng) * 2 - 1)
    shift = settings.jitter * (torch.rand(total, 1, 1, 1, 1, generator=rng) * 2 - 1)
    lit = torch.rand(total, settings.lit, generator=rng)
    mine = slice(accelerator.process_index, None, accelerator.num_processes)
    identity, view, flip, mirror = identity[mine], view[mine], flip[mine], mirror[mine]
    views = pool.floats(identity[:, None], view)
    views = torch.where(flip[:, None, None, None, None], views.flip(-1), views)
    turns = pool.turns[identity[:, None], view]
    turns = torch.where(flip[:, None, None], turns * turns.new_tensor([1.0, -1.0]), turns)
    inputs = (views * gain[mine] + shift[mine]).clamp(-1, 1)
    device = accelerator.device
    return Batch(views.to(device), inputs.to(device), mirror.to(device), turns.to(device), lit[mine].to(device))


def _average_gradients(parameters: list[nn.Parameter], accelerator: Accelerator) -> None:
    """Mean over the processes, as one message."""
    if accelerator.num_processes == 1:
        return
    flat = accelerator.reduce(torch.cat([p.grad.flatten() for p in parameters]), "mean")
    for p, part in zip(parameters, flat.split([p.numel() for p in parameters]), strict=True):
        p.grad.copy_(part.view_as(p))


@torch.no_grad()
def _follow(averaged: ShapeNets, nets: ShapeNets, names: tuple[str, ...], decay: float) -> None:
    for name in names:
        torch._foreach_lerp_(
            list(getattr(averaged, name).parameters()), list(getattr(nets, name).parameters()), 1 - decay
        )


def _resume(
    folder: Path, nets: ShapeNets, averaged: ShapeNets, optimizer: torch.optim.Optimizer, settings: PretrainingSettings
) -> int:
    path = folder / "state.pt"
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        return 0
    state = torch.load(path, weights_only=True, map_location="cpu")
    if state["settings"] != _fixed(settings):
        raise ValueError(f"{folder} holds a run with other settings: choose another folder.")
    for f in fields(nets):
        getattr(nets, f.name).load_state_dict(state["nets"][f.name])
        getattr(averaged, f.name).load_state_dict(state["averaged"][f.name])
    optimizer.load_state_dict(state["optimizer"])
    return int(state["step"])


def _save(
    folder: Path,
    step: int,
    nets: ShapeNets,
    averaged: ShapeNets,
    optimizer: torch.optim.Optimizer,
    settings: PretrainingSettings,
) -> None:
    with atomic_file(folder / "state.pt") as part:
        torch.save(
            {
                "step": step,
                "settings": _fixed(settings),
                "nets": {name: module.state_dict() for name, module in nets.modules()},
                "averaged": {name: module.state_dict() for name, module in averaged.modules()},
                "optimizer": optimizer.state_dict(),
            },
            part,
        )


def _fixed(settings: PretrainingSettings) -> dict:
    """What must not change between a run and its resumption."""
    values = asdict(settings)
    del values["save_every"]
    return values
