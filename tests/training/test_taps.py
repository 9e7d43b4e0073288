"""Training of tap heads: they gain on the linear read-out, and are judged by the same latents whatever the seed."""

from __future__ import annotations

import re

import pytest
import torch

from gan2shape_hub.accelerator import make_accelerator
from gan2shape_hub.models.mobile_stylegan import MobileStyleGANGenerator
from gan2shape_hub.training.recipe import TapsRecipe
from gan2shape_hub.training.taps import load_tap_images, tap_targets, train_tap
from gan2shape_hub.training.trainer import Job, Training


def tiny_generator() -> MobileStyleGANGenerator:
    torch.manual_seed(0)
    generator = MobileStyleGANGenerator(channels=(16, 16, 16), latent_dim=8, taps=((8, 2, (8, 6)),), components=2)
    return generator.requires_grad_(False).eval()


def recipe(**changes) -> TapsRecipe:
    values = {"steps": 12, "parts": 2, "warm_up": 2, "learning_rate": 3e-3, "ema": 0.5, "save_every": 6, **changes}
    return TapsRecipe(images=6, linear_images=6, training=Training(**values))


def taught(folder, said, **changes) -> MobileStyleGANGenerator:
    generator, what = tiny_generator(), recipe(**changes)
    accelerator = make_accelerator("cpu")
    known = load_tap_images(generator, what, Job(1, folder / "images", accelerator, said.append))
    db = train_tap(generator, 8, known, what, Job(2, folder / "tap8", accelerator, said.append))
    said.append(f"unseen {db:.2f} dB")
    return generator


def unseen_db(lines: list[str]) -> list[float]:
    return [float(found[1]) for line in lines if (found := re.search(r"unseen (-?[\d.]+) dB", line))]


def test_training_gains_on_the_linear_read_out(tmp_path) -> None:
    said: list[str] = []
    generator = taught(tmp_path, said, steps=60)
    start, *_, saved, end = unseen_db(said)
    assert end > start
    assert end == saved, "what is kept are the averaged weights"
    assert not any(p.requires_grad for p in generator.parameters())


def test_the_images_are_the_full_ones_made_smaller(tmp_path) -> None:
    generator = tiny_generator()
    known = load_tap_images(generator, recipe(), Job(1, tmp_path, make_accelerator("cpu"), print))
    assert len(known.latents) == len(known.images[8]) == 6
    wanted = tap_targets(generator, known.latents[2:3])[8]
    assert known.images[8][2:3].float() == pytest.approx(wanted, abs=2e-3)


def test_a_head_that_was_trained_is_read_again(tmp_path) -> None:
    first, again = taught(tmp_path, []), taught(tmp_path, [])
    for name, value in first.tap_heads["8"].state_dict().items():
        assert torch.equal(value, again.tap_heads["8"].state_dict()[name])
