"""A tiny pretraining run, also started by ``accelerate launch``: prints the losses of its steps as JSON."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).parents[1]))
from conftest import tiny_config

from gan2shape_hub.accelerator import make_accelerator
from gan2shape_hub.models.shape import ShapeNets
from gan2shape_hub.training.pretraining import PretrainingSettings, train_appearance, train_shape
from gan2shape_hub.training.sheet_nets import with_sheet_nets
from gan2shape_hub.training.view_pool import ViewPool

TRAIN = {"shape": train_shape, "appearance": train_appearance}


def tiny_pool(identities=5, views=4, size=32) -> ViewPool:
    rng = torch.Generator().manual_seed(0)
    small = torch.rand(identities * views, 3, 8, 8, generator=rng)
    images = torch.nn.functional.interpolate(small, (size, size), mode="bilinear").mul(255).to(torch.uint8)
    turns = torch.rand(identities, views, 2, generator=rng) - 0.5
    return ViewPool(images.unflatten(0, (identities, views)), torch.zeros(identities, views, 16), turns)


def tiny_nets() -> ShapeNets:
    config = tiny_config()
    nets = ShapeNets.create(config, 8, width=8, encoder_width=8)
    return with_sheet_nets(nets, torch.rand(3, 3, 32, 32, generator=torch.Generator().manual_seed(1)) * 2 - 1, config)


def train(folder, phase="shape", identities=2, after_save=None, **changes) -> ShapeNets:
    settings = PretrainingSettings(
        **{"steps": 6, "identities": identities, "warm_up": 2, "save_every": 2, "learning_rate": 1e-3, **changes}
    )
    return TRAIN[phase](
        tiny_nets(), tiny_pool(), tiny_config(), None, settings, make_accelerator("cpu"), folder, print, after_save
    )


if __name__ == "__main__":
    work, losses = Path(sys.argv[1]), {}
    for phase in TRAIN:
        train(work / phase, phase, identities=int(sys.argv[2]), save_every=1, steps=3)
        if make_accelerator("cpu").is_main_process:
            lines = (work / phase / "log.jsonl").read_text().splitlines()
            losses[phase] = [json.loads(line)["loss"] for line in lines]
    if losses:
        (work / "losses.json").write_text(json.dumps(losses))
