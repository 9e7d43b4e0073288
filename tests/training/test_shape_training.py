"""Shape networks taught on turned views: exact resumption, several processes, a loss that knows the true shape."""

import dataclasses
import json
import socket

import pytest
import torch
from children import Child
from conftest import tiny_config, tiny_generator
from shape_run import tiny_nets, tiny_pool, tiny_sheet, train, train_with_others
from torch import nn

from gan2shape_hub import hub
from gan2shape_hub.accelerator import make_accelerator
from gan2shape_hub.config import ProjectionConfig
from gan2shape_hub.models.latent_projection import LatentProjection
from gan2shape_hub.rendering.camera import Pose
from gan2shape_hub.rendering.photometric import log_ratios
from gan2shape_hub.rendering.renderer import raw_to_depth, render_view
from gan2shape_hub.training.directions import with_measured_units
from gan2shape_hub.training.multiview import appearance_loss, multiview_loss, pitch_disagreement
from gan2shape_hub.training.recipe import MultiviewLoss, ViewsRecipe
from gan2shape_hub.training.sheet_nets import raw_of
from gan2shape_hub.training.trainer import Job
from gan2shape_hub.training.view_pool import CHUNK, make_pool


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


@pytest.fixture
def one_thread():
    """As each of the two processes has: several sum in another order, which grows with the steps."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def test_two_processes_do_what_one_does(tmp_path, one_thread):
    """Losses of the first steps to rounding; and the whole program comes to its end."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    # What accelerate launch and torchrun tell each of their processes; these take the CPU, so they talk through gloo.
    environment = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2"}
    ranks = [{"RANK": str(rank), "LOCAL_RANK": str(rank)} for rank in range(2)]
    several = [Child(train_with_others, tmp_path, environment={**environment, **rank}) for rank in ranks]
    ends = [child.wait() for child in several]
    assert [code for code, _, _ in ends] == [0, 0], ends
    for phase in ("shape", "appearance"):
        train(tmp_path / "alone" / phase, phase, parts=4, save_every=1, steps=3)
        one, two = (
            [json.loads(line)["loss"] for line in (folder / phase / "log.jsonl").read_text().splitlines()]
            for folder in (tmp_path / "alone", tmp_path)
        )
        assert len(one) == 3
        assert two == pytest.approx(one, abs=2e-5)
    assert "recipe.json" in {f.name for f in (tmp_path / "program" / "checkpoint").iterdir()}
    assert "depth_net" in hub.read_components(tmp_path / "program" / "checkpoint")


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


def test_networks_start_from_a_sheet():
    config, nets, sheet = tiny_config(), tiny_nets(), tiny_sheet()
    images = torch.rand(3, 3, 32, 32, generator=torch.Generator().manual_seed(1)) * 2 - 1
    with torch.no_grad():
        found = nets.predict_depth(images, config)
    spread = config.camera.max_depth - config.camera.min_depth
    assert (found.mean(dim=0) - sheet)[4:-4, 4:-4].abs().mean() < 0.15 * spread
    raw = raw_to_depth(raw_of(sheet, config), config.camera)[0]
    inner = slice(config.camera.border_px, -config.camera.border_px)  # the border is pinned
    assert torch.allclose(raw[:, inner], sheet[:, inner], atol=0.01 * spread)


def directed_config(lights=False):
    rows = [tuple(row) for row in torch.eye(8).tolist()]
    lit = {"light_directions": tuple(rows[2:5]), "light_layers": (1, 2)} if lights else {}
    projection = ProjectionConfig(
        space="pca", components=8, view_directions=tuple(rows[:2]), view_units=(0.1, 0.2), **lit
    )
    return tiny_config(projection=projection)


def load(folder, recipe, config=None, log=print, seed=0, masker=None):
    job = Job(seed, folder, make_accelerator("cpu"), log)
    return make_pool(config or directed_config(), tiny_generator(), recipe, job, masker)


def test_the_pool_is_made_once_and_grows(tmp_path):
    said, recipe = [], ViewsRecipe(identities=2, views=3)
    pool = load(tmp_path, recipe, log=said.append)
    assert pool.images.shape == (2, 3, 3, 32, 32)
    assert pool.images.dtype == torch.uint8
    own = tiny_generator().image_at(pool.latents[1, :1], 32).clamp(-1, 1)
    assert (pool.floats(torch.tensor([1]), torch.tensor([0])) - own).abs().max() < 1.01 / 127.5
    again = load(tmp_path, recipe, log=said.append)
    assert len(said) == 1
    assert torch.equal(again.images, pool.images)
    larger = load(tmp_path, ViewsRecipe(identities=3, views=3), log=said.append)
    assert torch.equal(larger.images[:2], pool.images)
    with pytest.raises(ValueError, match="other settings"):
        load(tmp_path, recipe, seed=1)
    assert pool.masks is None
    with pytest.raises(ValueError, match="no lit views"):
        pool.ratios(0, 0)


def test_the_pool_holds_masks_and_lights(tmp_path):
    def left_half(images):
        mask = torch.ones_like(images[:, :1])
        mask[..., 16:] = 0
        return mask

    config, generator = directed_config(lights=True), tiny_generator()
    recipe = ViewsRecipe(identities=CHUNK + 1, views=2, lit=True, masks=True)
    pool = load(tmp_path, recipe, config, masker=left_half)
    assert pool.masks.shape == (CHUNK + 1, 2, 1, 32, 32)
    assert pool.masks[0, 1, 0, 3, 15:17].tolist() == [255, 0]
    latent = pool.latents[CHUNK, 1:2]
    steps = torch.tensor(config.light_walk.steps)
    lit = generator.image_at(LatentProjection(generator, config.projection).relight(latent, steps), 32).clamp(-1, 1)
    wanted = log_ratios(lit, generator.image_at(latent, 32).clamp(-1, 1)[0])
    found = pool.ratios(CHUNK, 1)
    assert found.dtype == torch.float16
    assert torch.allclose(found.float(), wanted, atol=2e-3)
    assert wanted.abs().max() > 0.05


def test_turned_views_are_spread_over_the_yaw(tmp_path):
    yaw = load(tmp_path, ViewsRecipe(identities=2, views=5)).turns[:, 1:, 1]
    assert (yaw.diff(dim=1) > 0).all(), "one in each stratum, from one side to the other"


def test_units_are_what_the_view_network_sees(tmp_path):
    config, said, recipe = directed_config(), [], ViewsRecipe(identities=2, views=4)
    pool = load(tmp_path, recipe)
    seen = torch.zeros(8, 6)
    seen[:, :2] = pool.turns.flatten(0, 1) * torch.tensor([0.5, 0.7]) + 0.1
    answers = iter(seen.split(4))
    nets = dataclasses.replace(tiny_nets(), view=lambda images: next(answers))
    config = dataclasses.replace(config, add_mean=False)
    views = pool.floats(torch.tensor([[0], [1]]), torch.arange(4).expand(2, -1))
    measured = with_measured_units(config, nets, views, pool.turns, said.append)
    assert measured.projection.view_units == pytest.approx((0.1 * 0.5, 0.2 * 0.7), abs=1e-5)
    again = load(tmp_path, recipe, measured)
    assert torch.allclose(again.turns, pool.turns * torch.tensor([0.5, 0.7]), atol=1e-5), "the same steps, other angles"


def test_without_directions_there_is_no_pool(tmp_path):
    with pytest.raises(ValueError, match="no directions"):
        load(tmp_path, ViewsRecipe(identities=1), tiny_config())
