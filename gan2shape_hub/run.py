"""What every stage of a run needs: configuration, device, randomness, feature losses, progress and cancellation."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor, nn

from gan2shape_hub.config import CategoryConfig, ScheduleConfig
from gan2shape_hub.models.latent_projection import LatentProjection, gan_image
from gan2shape_hub.records import Progress

STEP_COST = {
    "invert": 0.5,
    "tune": 2.0,
    "prior": 0.4,
    "decompose": 0.5,
    "explore": 1.2,
    "collect": 0.5,
    "refine": 1.0,
    "adjust": 0.3,
}
"""Rough cost of one iteration of each step, for the progress bar only."""


def planned_cost(schedule: ScheduleConfig, *, photographs: int, count: int, prior: bool, turns: bool) -> float:
    """Cost of a run over ``count`` images, ``photographs`` of which are to be inverted, in units of ``STEP_COST``.

    ``prior``: the ellipsoid has to be fitted; ``turns``: the checkpoint knows directions along which objects turn.
    """
    cost = photographs * schedule.invert_iterations * STEP_COST["invert"]
    cost += schedule.tune_iterations * STEP_COST["tune"] if photographs else 0
    cost += schedule.prior_iterations * STEP_COST["prior"] if prior else 0
    cost += count * schedule.adjust_iterations * STEP_COST["adjust"] if turns and schedule.adjusts else 0
    for r in schedule.rounds:
        cost += r.decompose * STEP_COST["decompose"] + r.explore * STEP_COST["explore"]
        if r.refine:
            batches = count * -(-schedule.views_of_each(count) // schedule.batch_size)
            cost += r.refine * STEP_COST["refine"] + batches * STEP_COST["collect"]
    return cost


class Cancelled(Exception):
    """The callback asked to stop; what was written is complete, nothing is half done."""


@dataclass
class StepRecord:
    """What a step of a round did, for result.json; losses of its first and last iteration."""

    step: str
    round: int
    iterations: int
    first_loss: float
    last_loss: float
    seconds: float


@dataclass
class Clock:
    """Work done and planned (units of ``STEP_COST``), for the fraction that progress reports, and a record of it."""

    planned: float = 1.0
    done: float = 0.0
    steps: list[StepRecord] = field(default_factory=list)
    last: float = field(default_factory=time.perf_counter)

    def note(self, step: str, round_index: int, loss: float) -> None:
        now = time.perf_counter()
        if not self.steps or (self.steps[-1].step, self.steps[-1].round) != (step, round_index + 1):
            self.steps.append(StepRecord(step, round_index + 1, 0, loss, loss, 0.0))
        record = self.steps[-1]
        record.iterations, record.last_loss = record.iterations + 1, loss
        record.seconds = round(record.seconds + now - self.last, 3)
        self.last, self.done = now, self.done + STEP_COST[step]


@dataclass(frozen=True)
class Run:
    """One reconstruction (or joint run): constants and services, nothing that a stage computes."""

    config: CategoryConfig
    schedule: ScheduleConfig
    accelerator: Accelerator
    rng: torch.Generator
    """CPU generator; random numbers are drawn there and moved, so that a seed means the same on every device."""
    generator: nn.Module
    projection: LatentProjection
    perceptual: nn.Module | None = None
    discriminator: nn.Module | None = None
    callback: Callable[[Progress], Any] | None = None
    round: int = 0
    clock: Clock = field(default_factory=Clock)
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))

    def uniform(self, low: float, high: float, *shape: int) -> Tensor:
        return torch.empty(shape).uniform_(low, high, generator=self.rng).to(self.device)

    def normal(self, *shape: int) -> Tensor:
        return torch.randn(shape, generator=self.rng).to(self.device)

    def integers(self, high: int, *shape: int) -> Tensor:
        return torch.randint(high, shape, generator=self.rng).to(self.device)

    def coin(self) -> bool:
        return bool(torch.rand((), generator=self.rng) < 0.5)

    def optimizer(self, parameters: list[nn.Parameter], learning_rate: float) -> torch.optim.Optimizer:
        optimizer = torch.optim.Adam(
            parameters, lr=learning_rate, betas=self.schedule.betas, weight_decay=self.schedule.weight_decay
        )
        # Prepared, so that it undoes the scaling of float16 gradients and skips steps that overflowed.
        return self.accelerator.prepare_optimizer(optimizer, device_placement=False)

    def gan_image(self, latent: Tensor, size: int, generator: nn.Module | None = None) -> Tensor:
        """The generator's image of latents (B, D) or (B, L, D) as the shape nets see it: (B, 3, size, size) in about
        -1..1, centre-cropped where the category is."""
        return gan_image(generator or self.generator, latent, size, self.config.crop_fraction)

    def image_features(self, images: Tensor) -> list[Tensor]:
        """Perceptual feature maps of images (B, 3, S, S); an empty list without a perceptual network."""
        if self.perceptual is None:
            return []
        with self.accelerator.autocast():
            maps = self.perceptual.features(_as_weights(images, self.perceptual), self.config.loss.perceptual_layers)
        return [m.float() for m in maps]

    def projection_features(self, images: Tensor) -> list[Tensor]:
        """Features that step 2 compares: the discriminator's first maps where there is one, else perceptual ones."""
        if self.discriminator is None:
            return self.image_features(images)
        with self.accelerator.autocast():
            images = _as_weights(images, self.discriminator)
            maps = self.discriminator.features(images, self.config.loss.discriminator_layers)
        return [m.float() for m in maps]

    def tick(self, step: str, iteration: int, iterations: int, loss: Tensor, preview: Callable[[], Any]) -> None:
        """Report one finished iteration; raises Cancelled where the callback returns False, and stops on NaN."""
        value = float(loss)
        self.clock.note(step, self.round, value)
        if value != value:
            raise FloatingPointError(
                f"the loss of step '{step}' became NaN at iteration {iteration + 1}: lower the learning rate of the "
                "preset, or use float32 instead of mixed precision."
            )
        if self.callback is None:
            return
        progress = Progress(
            step=step,
            round=self.round,
            rounds=len(self.schedule.rounds),
            iteration=iteration + 1,
            iterations=iterations,
            loss=value,
            fraction=min(self.clock.done / self.clock.planned, 1.0),
            preview=preview,
        )
        if self.callback(progress) is False:
            raise Cancelled(f"cancelled in step '{step}' at iteration {iteration + 1} of {iterations}.")


def _as_weights(images: Tensor, network: nn.Module) -> Tensor:
    """``images`` in the precision that the network's weights are held in."""
    return images.to(next(network.parameters()).dtype)
