"""The long training: exact resumption, several processes, and a loss that knows the true shape."""

import dataclasses
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from conftest import tiny_config, tiny_generator
from pretraining_run import tiny_nets, tiny_pool, train
from torch import nn

from gan2shape_hub.config import ProjectionConfig
from gan2shape_hub.models.shape import ShapeNets
from gan2shape_hub.rendering.camera import Pose
from gan2shape_hub.rendering.renderer import raw_to_depth, render_view
from gan2shape_hub.training.directions import with_measured_units
from gan2shape_hub.training.multiview import MultiviewLoss, appearance_loss, multiview_loss, pitch_disagreement
from gan2shape_hub.training.sheet_nets import _raw_of
from gan2shape_hub.training.view_pool import PoolSettings, load_pool

SCRIPT = Path(__file__).with_name("pretraining_run.py")


def weights(nets):
    return {f"{name}.{key}": value for name, module in nets.modules() for key, value in module.state_dict().items()}


class Killed(Exception):
    pass


@pytest.mark.parametrize(("phase", "learns"), [("shape", {"depth", "view"}), ("appearance", {"albedo", "light"})])
def test_a_run_that_is_killed_goes_on_as_if_it_was_not(tmp_path, phase, learns):
    def kill(step, nets):
        if step == 4:
            raise Killed

    whole = weights(train(tmp_path / "whole", phase))
    with pytest.raises(Killed):
        train(tmp_path / "parts", phase, after_save=kill)
    resumed = weights(train(tmp_path / "parts", phase))
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)
    start = weights(tiny_nets())
    assert {name.split(".")[0] for name in whole if not torch.equal(whole[name], start[name])} == learns


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
            train(tmp_path)
    assert torch.load(tmp_path / "state.pt", weights_only=True)["step"] == 2
    train(tmp_path)


def test_another_runs_folder_is_refused(tmp_path):
    train(tmp_path, steps=2)
    with pytest.raises(ValueError, match="other settings"):
        train(tmp_path, steps=2, learning_rate=2e-3)


def test_the_same_seed_gives_the_same_and_another_one_does_not(tmp_path):
    one, same = (weights(train(tmp_path / name, steps=2)) for name in ("a", "b"))
    other = weights(train(tmp_path / "c", steps=2, seed=1))
    assert all(torch.equal(one[name], same[name]) for name in one)
    assert any(not torch.equal(one[name], other[name]) for name in one)


def test_two_processes_do_what_one_does_with_twice_the_identities(tmp_path):
    alone, together = tmp_path / "alone", tmp_path / "together"
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    subprocess.run([sys.executable, SCRIPT, alone, "4"], check=True, env=environment, timeout=300)
    # accelerate's name for several processes on one machine; the script takes the CPU, so they talk through gloo.
    launch = [sys.executable, "-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes", "2"]
    launch += ["--num_machines", "1", "--mixed_precision", "no", "--dynamo_backend", "no", "--main_process_port", "0"]
    subprocess.run([*launch, SCRIPT, together, "2"], check=True, env=environment, timeout=300)
    one, two = (json.loads((folder / "losses.json").read_text()) for folder in (alone, together))
    assert {phase: len(losses) for phase, losses in one.items()} == {"shape": 3, "appearance": 3}
    for phase, losses in one.items():
        assert two[phase] == pytest.approx(losses, abs=2e-5)


class Says(nn.Module):
    """A network with one answer to every image."""

    def __init__(self, answers):
        super().__init__()
        self.answers = nn.Parameter(answers)

    def forward(self, images):
        return self.answers[: len(images)] if len(self.answers) > 1 else self.answers.expand(len(images), -1, -1, -1)


def known_scene(config):
    """Views (1, 3, 3, S, S) of a textured dome, and networks that know its shape and the views."""
    axis = torch.linspace(-1, 1, config.image_size)
    raw = -2 * torch.exp(-(axis[:, None] ** 2 + axis**2) / 0.3)[None, None]
    depth = raw_to_depth(raw, config.camera)
    small = torch.rand(1, 3, 16, 16, generator=torch.Generator().manual_seed(1)) * 1.6 - 0.8
    texture = nn.functional.interpolate(small, (config.image_size,) * 2, mode="bicubic", align_corners=True)
    view = torch.tensor([[0.0, 0.0, 0, 0, 0, 0], [0.02, 0.3, 0, 0, 0, 0], [-0.05, -0.25, 0, 0, 0, 0]])
    pose = Pose.from_view(view, config.camera)
    images = render_view(depth.expand(3, -1, -1), texture, pose, config.camera).image
    nets = dataclasses.replace(tiny_nets(), depth=Says(raw), view=Says(view))
    return images[None], nets, raw


def terms(nets, views, config, **changes):
    return multiview_loss(
        nets,
        views,
        views,
        2,
        torch.tensor([False]),
        config,
        None,
        MultiviewLoss(**changes),
        torch.ones(1, 1, config.image_size, config.image_size),
    )


def test_the_loss_prefers_the_true_shape_and_the_true_views():
    config = tiny_config(add_mean=False)
    views, nets, raw = known_scene(config)
    true = terms(nets, views, config)["image"].item()
    flatter = dataclasses.replace(nets, depth=Says(raw * 0.3))
    less_turned = dataclasses.replace(nets, view=Says(nets.view.answers.detach() * 0.5))
    assert true < 0.1
    assert terms(flatter, views, config)["image"].item() > 2 * true
    assert terms(less_turned, views, config)["image"].item() > 2 * true


def test_relief_comes_out_of_turned_views():
    config = tiny_config(add_mean=False)
    views, nets, raw = known_scene(config)
    learnt = Says(raw * 0.3)
    nets = dataclasses.replace(nets, depth=learnt, view=Says(nets.view.answers.detach()).requires_grad_(False))
    optimizer = torch.optim.Adam(learnt.parameters(), lr=0.02)
    for _ in range(80):
        optimizer.zero_grad()
        terms(nets, views, config, smoothness=0.05)["loss"].backward()
        optimizer.step()
    found, true = (raw_to_depth(r.detach(), config.camera)[0, 4:-4, 4:-4] for r in (learnt.answers, raw))
    start = raw_to_depth(raw * 0.3, config.camera)[0, 4:-4, 4:-4]
    assert (found - true).abs().mean() < 0.6 * (start - true).abs().mean()


def test_pitch_is_compared_in_the_unit_that_the_yaw_has():
    walked = torch.tensor([[[0.1, -0.4], [0.0, 0.0], [-0.2, 0.4]]])
    assert pitch_disagreement(0.7 * walked + 0.3, walked) < 1e-9, "a common pose and another unit cost nothing"
    assert pitch_disagreement(0.7 * walked * torch.tensor([0.2, 1.0]), walked) > 1e-3
    found = (0.7 * walked).requires_grad_()
    pitch_disagreement(found * torch.tensor([0.5, 1.0]), walked).backward()
    assert found.grad[..., 1].abs().max() == 0, "the yaw is the pixels' matter"


def test_agreement_is_of_views_of_one_identity():
    config = tiny_config(add_mean=False)
    views, nets, raw = known_scene(config)
    assert terms(nets, views, config)["agreement"].item() < 1e-6
    apart = dataclasses.replace(nets, depth=Says(torch.cat([raw, raw * 0.5])))
    assert terms(apart, views, config)["agreement"].item() > 0.01


def test_appearance_leaves_the_shape_alone():
    config, nets = tiny_config(), tiny_nets()
    nets.train("albedo", "light")
    pool = tiny_pool()
    views = pool.floats(torch.tensor([[0], [1]]), torch.tensor([[0, 1, 2], [1, 2, 3]]))
    loss = appearance_loss(
        nets, views, 2, torch.tensor([True, False]), config, None, MultiviewLoss(), torch.ones(1, 1, 32, 32)
    )["loss"]
    loss.backward()
    assert all(p.grad is None for p in (*nets.depth.parameters(), *nets.view.parameters()))
    assert all(p.grad is not None for p in (*nets.albedo.parameters(), *nets.light.parameters()))


def test_sheet_nets_start_from_the_smoothed_average():
    config = tiny_config()
    nets = ShapeNets.create(config, 8, width=8, encoder_width=8)
    images = torch.rand(3, 3, 32, 32, generator=torch.Generator().manual_seed(1)) * 2 - 1
    with torch.no_grad():
        before = nets.predict_depth(images, config).mean(dim=0)
        after = tiny_nets().predict_depth(images, config).mean(dim=0)
    spread = config.camera.max_depth - config.camera.min_depth
    assert (after - (before + before.flip(-1)) / 2)[4:-4, 4:-4].abs().mean() < 0.15 * spread
    assert torch.allclose(raw_to_depth(_raw_of(before, config), config.camera)[0], before, atol=0.01 * spread)


def directed_config():
    directions = (torch.eye(8)[0].tolist(), torch.eye(8)[1].tolist())
    projection = ProjectionConfig(
        space="pca", components=8, view_directions=tuple(map(tuple, directions)), view_units=(0.1, 0.2)
    )
    return tiny_config(projection=projection)


def test_the_pool_is_made_once_and_grows(tmp_path):
    generator, config, said = tiny_generator(), directed_config(), []
    settings = PoolSettings(identities=2, views=3)
    pool = load_pool(tmp_path, config, generator, settings, said.append)
    assert pool.images.shape == (2, 3, 3, 32, 32)
    assert pool.images.dtype == torch.uint8
    own = generator.image_at(pool.latents[1, :1], 32).clamp(-1, 1)
    assert (pool.floats(torch.tensor([1]), torch.tensor([0])) - own).abs().max() < 1.01 / 127.5
    again = load_pool(tmp_path, config, generator, settings, said.append)
    assert len(said) == 1
    assert torch.equal(again.images, pool.images)
    larger = load_pool(tmp_path, config, generator, PoolSettings(identities=3, views=3), said.append)
    assert torch.equal(larger.images[:2], pool.images)
    with pytest.raises(ValueError, match="other settings"):
        load_pool(tmp_path, config, generator, PoolSettings(identities=2, views=3, seed=1), said.append)


def test_turned_views_are_spread_over_the_yaw(tmp_path):
    pool = load_pool(tmp_path, directed_config(), tiny_generator(), PoolSettings(identities=2, views=5), print)
    yaw = pool.turns[:, 1:, 1]
    assert (yaw.diff(dim=1) > 0).all(), "one in each stratum, from one side to the other"


def test_units_are_what_the_view_network_sees(tmp_path):
    config, said = directed_config(), []
    pool = load_pool(tmp_path, config, tiny_generator(), PoolSettings(identities=2, views=4), print)
    seen = torch.zeros(8, 6)
    seen[:, :2] = pool.turns.flatten(0, 1) * torch.tensor([0.5, 0.7]) + 0.1
    answers = iter(seen.split(4))
    nets = dataclasses.replace(tiny_nets(), view=lambda images: next(answers))
    config = dataclasses.replace(config, add_mean=False)
    views = pool.floats(torch.tensor([[0], [1]]), torch.arange(4).expand(2, -1))
    measured = with_measured_units(config, nets, views, pool.turns, said.append)
    assert measured.projection.view_units == pytest.approx((0.1 * 0.5, 0.2 * 0.7), abs=1e-5)
    again = load_pool(tmp_path, measured, tiny_generator(), PoolSettings(identities=2, views=4), print)
    assert torch.allclose(again.turns, pool.turns * torch.tensor([0.5, 0.7]), atol=1e-5), "the same steps, other angles"


def test_without_directions_there_is_no_pool(tmp_path):
    with pytest.raises(ValueError, match="no directions"):
        load_pool(tmp_path, tiny_config(), tiny_generator(), PoolSettings(identities=1), print)
