"""The whole making of a checkpoint at tiny size."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

from conftest import tiny_pipeline

from gan2shape_hub import hub
from gan2shape_hub.cli.train import main
from gan2shape_hub.training.recipe import (
    AverageRecipe,
    LightRecipe,
    MultiviewRecipe,
    NetworksRecipe,
    PersonalDepthRecipe,
    PoolRecipe,
    PosesRecipe,
    Recipe,
    TapsRecipe,
    TurnRecipe,
    UnitsRecipe,
    ViewsRecipe,
)
from gan2shape_hub.training.trainer import Training


def few(steps: int = 4, parts: int = 2) -> Training:
    return Training(steps=steps, parts=parts, warm_up=1, save_every=2, learning_rate=1e-3)


def tiny_recipe(**changes) -> Recipe:
    shape = MultiviewRecipe(few(), identities=1, lit=4)
    values = dict(
        taps=TapsRecipe(images=4, linear_images=3, training=few()),
        turn=TurnRecipe(
            width=8,
            encoder_width=8,
            images=24,
            encoder=few(),
            encoder_batch=3,
            renders=few(),
            batch=3,
            measured=2,
            smallest_step_deg=0.0,
            views=ViewsRecipe(3, 3),
            turned=few(),
            shape=shape,
            appearance=shape,
            projection=few(2),
        ),
        light=LightRecipe(images=3, purity=0.0),
        average=AverageRecipe(people=2, yaws_deg=(-20.0, 20.0), purity=0.0),
        pool=PoolRecipe(3, 3, lights=3),
        poses=PosesRecipe(
            ViewsRecipe(2, 2, lit=True, masks=True), reliefs=(0.8, 1.0), angles=(1.0, 1.1), training=few(), batch=4
        ),
        networks=NetworksRecipe(PersonalDepthRecipe(few(), batch=2), shape, shape),
        units=UnitsRecipe(2, (-1.0, 1.0)),
    )
    return Recipe(**{**values, **changes})


def bare_checkpoint(folder: Path, **changes) -> Path:
    """A generator, features, and nothing that was trained."""
    pipeline = tiny_pipeline(use_mask=True, **changes)
    kept = {name: pipeline.components[name] for name in ("generator", "perceptual")}
    return hub.save_components(folder, pipeline.config, kept)


def program(folder: Path, *options: str, recipe: Recipe | None = None) -> int:
    """The command on ``folder``/checkpoint, with ``folder``/work."""
    checkpoint, file = folder / "checkpoint", folder / "tiny.json"
    if not checkpoint.exists():
        bare_checkpoint(checkpoint)
        file.write_text((recipe or tiny_recipe()).to_json())
    work = ["--work", str(folder / "work"), "--recipe", str(file), "--device", "cpu"]
    return main([str(checkpoint), *work, *options])


def until_killed(folder: Path, lines: int) -> int:
    """A run that is killed when it has said so many lines; it ends well if it has fewer to say."""
    write, said = sys.stdout.write, 0

    def counts(text: str) -> int:
        nonlocal said
        said += "\n" in text
        if said > lines:
            os.kill(os.getpid(), signal.SIGKILL)
        return write(text)

    sys.stdout.write = counts
    return program(folder)
