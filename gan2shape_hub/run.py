"""What every stage of a run needs: configuration, device, randomness, feature losses, progress and cancellation."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from gan2shape_hub.accelerator import Optimizer, autocast
from gan2shape_hub.cancel import CancelToken
from gan2shape_hub.config import CategoryConfig, RoundConfig, ScheduleConfig
from gan2shape_hub.errors import Cancelled
from gan2shape_hub.generator import Generator
from gan2shape_hub.models.latent_projection import gan_image
from gan2shape_hub.plan import Step
from gan2shape_hub.records import Progress


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
    """A record of the steps that were done."""

    steps: list[StepRecord] = field(default_factory=list)
    last: float = field(default_factory=time.perf_counter)

    def note(self, step: str, round_index: int, loss: float) -> None:
        now = time.perf_counter()
        if not self.steps or (self.steps[-1].step, self.steps[-1].round) != (step, round_index + 1):
            self.steps.append(StepRecord(step, round_index + 1, 0, loss, loss, 0.0))
        record = self.steps[-1]
        record.iterations, record.last_loss = record.iterations + 1, loss
        record.seconds, self.last = round(record.seconds + now - self.last, 3), now


@dataclass(frozen=True)
class Run:
    """One reconstruction (or joint run): constants and services, nothing that a stage computes."""

    config: CategoryConfig
    schedule: ScheduleConfig
    rng: torch.Generator
    """CPU generator; random numbers are drawn there and moved, so that a seed means the same on every device."""
    steps: tuple[Step, ...] = ()
    """The plan."""
    step: Step | None = None
    """The one that is under way."""
    perceptual: nn.Module | None = None
    discriminator: nn.Module | None = None
    encoder: nn.Module | None = None
    """The checkpoint's latent encoder, where the search for a latent begins."""
    masker: nn.Module | None = None
    """The checkpoint's, of images (B, 3, S, S) in -1..1: masks (B, 1, S, S)."""
    precision: str = "no"
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    callback: Callable[[Progress], Any] | None = None
    cancel: CancelToken | None = None
    clock: Clock = field(default_factory=Clock)

    def at(self, step: Step) -> Run:
        """The same run at ``step``."""
        return dataclasses.replace(self, step=step)

    @property
    def iterations(self) -> int:
        """Of the current step."""
        return self.step.iterations

    @property
    def round(self) -> RoundConfig:
        """What the current step's round asks for."""
        return self.schedule.rounds[self.step.round - 1]

    def uniform(self, low: float, high: float, *shape: int) -> Tensor:
        return torch.empty(shape).uniform_(low, high, generator=self.rng).to(self.device)

    def normal(self, *shape: int) -> Tensor:
        return torch.randn(shape, generator=self.rng).to(self.device)

    def integers(self, high: int, *shape: int) -> Tensor:
        return torch.randint(high, shape, generator=self.rng).to(self.device)

    def coin(self) -> bool:
        return bool(torch.rand((), generator=self.rng) < 0.5)

    def autocast(self) -> AbstractContextManager:
        """The networks' precision."""
        return autocast(self.device, self.precision)

    def optimizer(self, parameters: list[nn.Parameter], learning_rate: float) -> Optimizer:
        adam = torch.optim.Adam(
            parameters, lr=learning_rate, betas=self.schedule.betas, weight_decay=self.schedule.weight_decay
        )
        return Optimizer(adam, self.device, self.precision)

    def gan_image(self, generator: Generator, latent: Tensor, size: int) -> Tensor:
        """The generator's image of latents (B, D) or (B, L, D) as the shape nets see it: (B, 3, size, size) in about
        -1..1, centre-cropped where the category is."""
        return gan_image(generator, latent, size, self.config.crop_fraction)

    def image_features(self, images: Tensor) -> list[Tensor]:
        """Perceptual feature maps of images (B, 3, S, S); an empty list without a perceptual network."""
        if self.perceptual is None:
            return []
        with self.autocast():
            maps = self.perceptual.features(_as_weights(images, self.perceptual), self.config.loss.perceptual_layers)
        return [m.float() for m in maps]

    def projection_features(self, images: Tensor) -> list[Tensor]:
        """Features that step 2 compares: the discriminator's first maps where there is one, else perceptual ones."""
        if self.discriminator is None:
            return self.image_features(images)
        with self.autocast():
            images = _as_weights(images, self.discriminator)
            maps = self.discriminator.features(images, self.config.loss.discriminator_layers)
        return [m.float() for m in maps]

    def tick(self, iteration: int, loss: Tensor | float, preview: Callable[[], Any]) -> None:
        """Report one finished iteration of the current step; raises Cancelled where the callback returns False or the
        token says so, and stops on NaN."""
        value, step = float(loss), self.step
        round_index = max(step.round - 1, 0)
        self.clock.note(step.name, round_index, value)
        if value != value:
            raise FloatingPointError(
                f"the loss of step '{step.name}' became NaN at iteration {iteration + 1}: lower the learning rate of "
                "the preset, or use float32 instead of mixed precision."
            )
        wanted = True
        if self.callback is not None:
            wanted = self.callback(
                Progress(
                    step=step.name,
                    label=step.label,
                    round=round_index,
                    rounds=len(self.schedule.rounds),
                    iteration=iteration + 1,
                    iterations=step.iterations,
                    loss=value,
                    fraction=self._fraction(iteration + 1),
                    preview=preview,
                )
            )
        if wanted is False or (self.cancel is not None and self.cancel.cancelled):
            raise Cancelled(f"cancelled in step '{step.name}' at iteration {iteration + 1} of {step.iterations}.")

    def _fraction(self, iteration: int) -> float:
        """Part of the plan's work that is done after so many iterations of the current step."""
        steps = self.steps or (self.step,)
        work = [each.cost * each.iterations for each in steps]
        before = sum(work[: steps.index(self.step)])
        return min((before + self.step.cost * iteration) / max(sum(work), 1e-6), 1.0)


def _as_weights(images: Tensor, network: nn.Module) -> Tensor:
    """``images`` in the precision that the network's weights are held in."""
    return images.to(next(network.parameters()).dtype)
