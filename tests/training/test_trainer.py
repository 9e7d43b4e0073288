"""The one loop: exact resumption, whole states, parts, seeds, averages."""

import json
from pathlib import Path

import pytest
import torch
from torch import nn

from gan2shape_hub.accelerator import make_accelerator
from gan2shape_hub.config import ConfigError
from gan2shape_hub.training.trainer import Job, Training, train


class Killed(Exception):
    pass


def fit(folder, seed=0, module=None, after_save=None, scale=lambda name: 1.0, broken=None, **changes):
    """A line through noisy points y = 2 x + 1, a few drawn for every part."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        line = module or nn.Linear(1, 1)

    def terms(rng):
        x = torch.randn(8, 1, generator=rng)
        error = line(x) - (2 * x + 1 + 0.1 * torch.randn(8, 1, generator=rng))
        loss = error.square().mean()
        return {"bias": error.detach().mean(), "loss": loss if broken is None else loss * broken}

    training = Training(**{"steps": 8, "parts": 2, "warm_up": 2, "save_every": 3, "learning_rate": 0.05, **changes})
    job = Job(seed, folder, make_accelerator("cpu"), print)
    found = train({"line": line}, terms, training, job, scale=scale, after_save=after_save)["line"]
    return {name: value.clone() for name, value in found.state_dict().items()}


def same(one, other):
    return all(torch.equal(one[name], other[name]) for name in one)


def steps_in(folder):
    return [json.loads(line)["step"] for line in (folder / "log.jsonl").read_text().splitlines()]


@pytest.mark.parametrize("at", [3, 6, 8])
def test_a_run_that_is_killed_goes_on_to_the_same_bits(tmp_path, at):
    def kill(step, averaged):
        if step == at:
            raise Killed

    whole = fit(tmp_path / "whole")
    with pytest.raises(Killed):
        fit(tmp_path / "parts", after_save=kill)
    assert same(whole, fit(tmp_path / "parts"))
    assert steps_in(tmp_path / "parts") == steps_in(tmp_path / "whole") == [3, 6, 8]
    assert same(whole, fit(tmp_path / "parts")), "a finished run is read again"


def test_a_half_written_state_is_never_seen(tmp_path, monkeypatch):
    """Saving dies in the middle: the state before it is still there, and the run goes on from it."""
    save, calls = torch.save, []

    def dies(state, path):
        save(state, path)
        calls.append(path)
        if len(calls) == 2:
            Path(path).write_bytes(b"half")
            raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(torch, "save", dies)
        with pytest.raises(Killed):
            fit(tmp_path / "parts")
    assert torch.load(tmp_path / "parts" / "state.pt", weights_only=True)["step"] == 3
    assert same(fit(tmp_path / "whole"), fit(tmp_path / "parts"))
    assert steps_in(tmp_path / "parts") == [3, 6, 8], "what was logged and not saved is logged once"


def test_another_runs_folder_is_refused(tmp_path):
    fit(tmp_path)
    fit(tmp_path, save_every=2)
    for changes in ({"learning_rate": 0.1}, {"seed": 1}, {"parts": 4}):
        with pytest.raises(ValueError, match="other settings"):
            fit(tmp_path, **changes)


def test_the_same_seed_gives_the_same_and_another_one_does_not(tmp_path):
    one = fit(tmp_path / "a")
    assert same(one, fit(tmp_path / "b", save_every=100))
    assert not same(one, fit(tmp_path / "c", seed=1))


def test_it_learns_and_averages(tmp_path):
    line = nn.Linear(1, 1)
    found = fit(tmp_path, module=line, steps=120, ema=0.95)
    assert found["weight"].item() == pytest.approx(2, abs=0.05)
    assert found["bias"].item() == pytest.approx(1, abs=0.05)
    assert not same(found, line.state_dict())
    assert not line.weight.requires_grad


def test_a_part_of_the_rate_for_some(tmp_path):
    line = nn.Linear(1, 1)
    before = line.weight.detach().clone()
    found = fit(tmp_path, module=line, scale=lambda name: 0.0 if name == "line.weight" else 1.0)
    assert torch.equal(found["weight"], before)
    assert found["bias"].item() != pytest.approx(line.bias.detach().item() + 1)


def test_a_loss_that_is_no_number_ends_it(tmp_path):
    with pytest.raises(FloatingPointError, match="NaN at step 0"):
        fit(tmp_path, broken=float("nan"))


def test_rates_rise_and_fall():
    training = Training(steps=100, warm_up=10, learning_rate=1.0, final=0.1)
    rates = [training.rate(step) for step in range(100)]
    assert rates[0] == pytest.approx(0.1)
    assert rates[10] == pytest.approx(1.0)
    assert rates[10:] == sorted(rates[10:], reverse=True)
    assert rates[-1] == pytest.approx(0.1, abs=0.01)
    with pytest.raises(ConfigError, match=r"training\.parts is 0"):
        Training(steps=1, parts=0)
