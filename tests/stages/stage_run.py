"""What a stage needs, at tiny size."""

from __future__ import annotations

import copy

import torch
from torch import nn

from gan2shape_hub.config import RoundConfig, ScheduleConfig
from gan2shape_hub.models.latent_projection import LatentProjection
from gan2shape_hub.models.shape import ShapeNets
from gan2shape_hub.plan import step
from gan2shape_hub.records import Targets
from gan2shape_hub.run import Run
from gan2shape_hub.state import State


def make_run(
    pipeline, *step_, seed=0, rng=None, callback=None, config=None, precision="no", mirror=False, **schedule
) -> Run:
    """A run at a step: its name and iterations."""
    config = config or pipeline.config
    rounds = (RoundConfig(mirror=mirror, mirror_decompose=mirror),)
    return Run(
        config=config,
        schedule=ScheduleConfig(
            **{"batch_size": 2, "learning_rate": 1e-3, "encoder_learning_rate": 1e-3, "rounds": rounds, **schedule}
        ),
        rng=rng or torch.Generator().manual_seed(seed),
        step=step(*step_, round_number=1) if step_ else None,
        precision=precision,
        perceptual=pipeline.perceptual,
        discriminator=pipeline.discriminator,
        callback=callback,
    )


def make_state(pipeline, nets, targets, config=None, **known) -> State:
    projection = LatentProjection(pipeline.generator, (config or pipeline.config).projection)
    return State(targets, projection, nets.frozen(), **known)


def make_nets(config, seed=0) -> ShapeNets:
    return ShapeNets.create(config, 8, seed=seed, width=8, encoder_width=8)


def make_targets(pipeline, count=1, masks=None) -> Targets:
    latents = torch.cat([pipeline.sample(seed=seed).latent for seed in range(count)])
    images = pipeline.generator.image_at(latents, pipeline.config.image_size).clamp(-1, 1)
    return Targets(images=images, latents=latents, originals=images, masks=masks)


class Table(nn.Module):
    """A network that says what it is told: one learnable value for every image it knows (K, ...)."""

    def __init__(self, images: torch.Tensor, values: torch.Tensor) -> None:
        super().__init__()
        self.register_buffer("images", images.clone())
        self.values = nn.Parameter(values.clone())

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.values[torch.cdist(images.flatten(1), self.images.flatten(1)).argmin(dim=1)]


class Losses:
    """A callback that writes down what it is told."""

    def __init__(self) -> None:
        self.progress = []

    def __call__(self, progress) -> None:
        self.progress.append(progress)

    @property
    def values(self) -> list[float]:
        return [p.loss for p in self.progress]

    def fell(self, by: float) -> bool:
        """Whether the mean of the last fifth is below that of the first by the factor ``by``."""
        n = max(len(self.values) // 5, 1)
        return sum(self.values[-n:]) < by * sum(self.values[:n])


def changed(nets: ShapeNets, before: ShapeNets) -> set[str]:
    """Names of the networks whose weights differ."""
    return {
        name
        for (name, module), (_, old) in zip(nets.modules(), before.modules(), strict=True)
        if any(not torch.equal(a, b) for a, b in zip(module.parameters(), old.parameters(), strict=True))
    }


def copy_of(nets: ShapeNets) -> ShapeNets:
    return copy.deepcopy(nets)
