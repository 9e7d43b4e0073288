"""A tiny training of the shape networks; with the whole program, as one of several processes does it."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import torch
from conftest import tiny_config
from tiny_program import program

from gan2shape_hub.accelerator import make_accelerator
from gan2shape_hub.models.shape import ShapeNets
from gan2shape_hub.training.recipe import MultiviewRecipe
from gan2shape_hub.training.shape_training import train_appearance, train_shape
from gan2shape_hub.training.sheet_nets import starting_nets
from gan2shape_hub.training.trainer import Job, Training
from gan2shape_hub.training.view_pool import ViewPool

TRAIN = {"shape": train_shape, "appearance": train_appearance}


def tiny_pool(identities=5, views=4, size=32) -> ViewPool:
    rng = torch.Generator().manual_seed(0)
    small = torch.rand(identities * views, 3, 8, 8, generator=rng)
    images = torch.nn.functional.interpolate(small, (size, size), mode="bilinear").mul(255).to(torch.uint8)
    turns = torch.rand(identities, views, 2, generator=rng) - 0.5
    return ViewPool(images.unflatten(0, (identities, views)), torch.zeros(identities, views, 16), turns)


def tiny_sheet(size=32) -> torch.Tensor:
    axis = torch.linspace(-1, 1, size)
    return 1.01 - 0.05 * torch.exp(-2 * (axis[:, None] ** 2 + axis**2))


def tiny_nets() -> ShapeNets:
    return starting_nets(tiny_config(), tiny_sheet(), 8, width=8, encoder_width=8)


def tiny_training(**changes) -> MultiviewRecipe:
    """Keys of the training or of what is around it."""
    own = {f.name for f in dataclasses.fields(MultiviewRecipe)}
    values = {"steps": 6, "parts": 2, "warm_up": 2, "save_every": 2, "learning_rate": 1e-3, **changes}
    training = Training(**{name: value for name, value in values.items() if name not in own})
    return MultiviewRecipe(
        training, **{"identities": 1} | {name: value for name, value in values.items() if name in own}
    )


def train(folder, phase="shape", after_save=None, seed=0, **changes) -> ShapeNets:
    return TRAIN[phase](
        tiny_nets(),
        tiny_pool(),
        tiny_config(),
        None,
        tiny_training(**changes),
        Job(seed, folder, make_accelerator("cpu"), print),
        after_save,
    )


def train_with_others(work: Path) -> int:
    """Both trainings and the program, in each of the processes that the environment tells of."""
    for phase in TRAIN:
        train(work / phase, phase, parts=4, save_every=1, steps=3)
    return program(work / "program")
