"""Training of tap heads goes on from a head that is there, and judges by the same latents whatever the seed."""

from __future__ import annotations

import re

import pytest
import torch

from gan2shape_hub.models.mobile_stylegan import MobileStyleGANGenerator
from gan2shape_hub.training import taps
from gan2shape_hub.training.taps import TapTraining, train_tap


def tiny_generator() -> MobileStyleGANGenerator:
    torch.manual_seed(0)
    return MobileStyleGANGenerator(channels=(16, 16, 16), latent_dim=8, taps=((8, 2, (8, 6)),), components=2).eval()


def settings(**changes) -> TapTraining:
    plain = dict(iterations=12, batch_size=2, first_images=6, linear_images=6, checkpoint_every=6, ema=0.5)
    return TapTraining(**plain | changes)


def unseen_db(lines: list[str]) -> list[float]:
    return [float(re.search(r"unseen (-?[\d.]+) dB", line)[1]) for line in lines]


def test_continued_training_starts_where_the_head_was() -> None:
    generator, first, more = tiny_generator(), [], []
    train_tap(generator, 8, settings(), log=first.append)
    head = {name: value.clone() for name, value in generator.tap_heads["8"].state_dict().items()}
    train_tap(generator, 8, settings(iterations=0, seed=1, continued=True), log=more.append)
    assert unseen_db(more)[0] == unseen_db(first)[-1]
    for name, value in generator.tap_heads["8"].state_dict().items():
        assert torch.equal(value, head[name])


def test_training_gains_on_the_linear_read_out() -> None:
    lines: list[str] = []
    train_tap(tiny_generator(), 8, settings(iterations=60, learning_rate=3e-3), log=lines.append)
    start, *_, end = unseen_db(lines)
    assert end > start


def test_a_killed_run_goes_on_to_the_same_head(tmp_path, monkeypatch) -> None:
    whole, again = tiny_generator(), tiny_generator()
    train_tap(whole, 8, settings(), checkpoint=tmp_path / "whole.pt", log=lambda _: None)

    class KilledError(Exception):
        pass

    def save_and_die(*arguments) -> None:
        save(*arguments)
        raise KilledError

    save = taps._save
    monkeypatch.setattr(taps, "_save", save_and_die)
    with pytest.raises(KilledError):
        train_tap(tiny_generator(), 8, settings(), checkpoint=tmp_path / "killed.pt", log=lambda _: None)
    monkeypatch.undo()
    train_tap(again, 8, settings(), checkpoint=tmp_path / "killed.pt", log=lambda _: None)
    for name, value in whole.tap_heads["8"].state_dict().items():
        assert torch.allclose(value, again.tap_heads["8"].state_dict()[name], atol=1e-5), name
