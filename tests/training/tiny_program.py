"""The whole making of a checkpoint at tiny size; as a script it is killed again and again, and started by accelerate.

tiny_program.py killed FOLDER     runs that die with SIGKILL, one after the other, until one comes to its end
tiny_program.py whole FOLDER      one run, on as many processes as there are
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).parents[1]))
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
        average=AverageRecipe(people=2, yaws_deg=(-20.0, 20.0)),
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


def killed_run(folder: Path, lines: int) -> bool:
    """A run in a process of its own, killed when it has said so many lines; whether it came to its end before."""
    child = os.fork()  # nothing was computed here yet: threads do not live through a fork
    if child == 0:
        torch.set_num_threads(1)
        write, said = os.write, 0

        class Counts:
            def write(self, text: str) -> int:
                nonlocal said
                write(1, text.encode())
                said += "\n" in text
                if said > lines:
                    os.kill(os.getpid(), signal.SIGKILL)
                return len(text)

            def flush(self) -> None:
                pass

        sys.stdout = Counts()
        os._exit(program(folder))
    _, status = os.waitpid(child, 0)
    assert status in (0, signal.SIGKILL), status
    return status == 0


if __name__ == "__main__":
    what, place = sys.argv[1], Path(sys.argv[2])
    torch.set_num_threads(1)
    if what == "whole":
        sys.exit(program(place))
    kills = 0
    while not killed_run(place, lines=6 + 7 * (kills % 3)):
        kills += 1
    print("kills:", kills)
