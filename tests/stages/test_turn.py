"""Views that the generator turns by itself, and what step 3 makes of them."""

import dataclasses

import pytest
import torch
from conftest import tiny_config, tiny_pipeline
from stage_run import Table, changed, copy_of, make_nets, make_run, make_targets

from gan2shape_hub.config import LossConfig, ProjectionConfig, RoundConfig, ScheduleConfig
from gan2shape_hub.rendering.camera import Pose
from gan2shape_hub.rendering.renderer import raw_to_depth, render_view
from gan2shape_hub.stages.explore import collect_views
from gan2shape_hub.stages.refine import refine, transfer_loss
from gan2shape_hub.stages.turn import collect_turned

DIRECTIONS = tuple(tuple(float(i == axis) for i in range(8)) for axis in (0, 1))


def directed(**changes):
    projection = ProjectionConfig(space="pca", components=8, view_directions=DIRECTIONS, view_units=(0.1, 0.2))
    return tiny_config(projection=projection, **changes)


@pytest.fixture
def turning():
    return tiny_pipeline(
        projection=directed().projection, loss=LossConfig(transfer_weight=1.0), average_mirrored=False, add_mean=False
    )


def test_the_first_view_is_the_generators_own_and_the_others_turn(turning):
    run, targets, nets = make_run(turning), make_targets(turning, 2), make_nets(turning.config)
    views = collect_turned(nets, targets, 4, run)
    assert views.shape == (2, 5, 3, 32, 32)
    assert torch.equal(views[:, 0], targets.originals)
    for k in range(2):
        own = nets.predict_view(targets.originals[k : k + 1], turning.config)[:, :2]
        wanted = torch.tensor([[0.0, 0.6]]) - own  # 36 degrees of 60
        limit = run.config.projection.view_step_limit
        assert (wanted / torch.tensor([0.1, 0.2])).abs().max() > limit, "far views are cut to what the walk allows"
        assert all((views[k, j] - views[k, 0]).abs().mean() > 1e-3 for j in range(1, 5))


def test_latents_of_every_layer_are_turned_too(turning):
    targets = make_targets(turning)
    layers = turning.generator.num_latents
    wide = dataclasses.replace(targets, latents=targets.latents[:, None].expand(-1, layers, -1))
    one = collect_turned(make_nets(turning.config), targets, 3, make_run(turning))
    other = collect_turned(make_nets(turning.config), wide, 3, make_run(turning))
    assert torch.allclose(one, other, atol=1e-5)


def test_nothing_is_turned_where_nothing_is_known_or_asked_for(turning, pipeline):
    assert collect_turned(make_nets(turning.config), make_targets(turning), 0, make_run(turning)) is None
    assert collect_turned(make_nets(pipeline.config), make_targets(pipeline), 4, make_run(pipeline)) is None


def scene(config):
    """A dome, three views of it, and networks that know it."""
    axis = torch.linspace(-1, 1, 32)
    raw = -2 * torch.exp(-(axis[:, None] ** 2 + axis**2) / 0.3)[None, None]
    small = torch.rand(1, 3, 8, 8, generator=torch.Generator().manual_seed(2)) * 1.6 - 0.8
    texture = torch.nn.functional.interpolate(small, (32, 32), mode="bicubic", align_corners=True)
    view = torch.tensor([[0.0, 0, 0, 0, 0, 0], [0.02, 0.3, 0, 0, 0, 0], [-0.05, -0.25, 0, 0, 0, 0]])
    depth = raw_to_depth(raw, config.camera).expand(3, -1, -1)
    return raw, view, render_view(depth, texture, Pose.from_view(view, config.camera), config.camera).image


def test_the_loss_prefers_the_true_relief(turning):
    run = make_run(without_features(turning))
    raw, view, images = scene(turning.config)
    targets = dataclasses.replace(make_targets(turning), images=images[:1], originals=images[:1])
    nets = dataclasses.replace(make_nets(turning.config), view=Table(images, view))
    losses = []
    for relief in (1.0, 0.3, 1.8):
        told = dataclasses.replace(nets, depth=Table(images[:1], raw * relief))
        with torch.no_grad():
            losses.append(transfer_loss(told, targets, images[None], torch.tensor([0]), run).item())
    assert losses[0] < 0.7 * min(losses[1:])


def without_features(pipeline):
    """The pipeline without its perceptual network: pixels alone, which are easy to reason about."""
    pipeline.components.pop("perceptual")
    return pipeline


def test_step_3_listens_to_turned_views_only_with_a_weight(turning):
    results = []
    for weight in (0.0, 1.0):
        turning.config = dataclasses.replace(turning.config, loss=LossConfig(transfer_weight=weight))
        run, targets, nets = make_run(turning), make_targets(turning), make_nets(turning.config)
        views, turned = collect_views(nets, targets, 2, run), collect_turned(nets, targets, 3, run)
        before = copy_of(nets)
        refine(nets, targets, views, RoundConfig(0, 0, 2), run, turned)
        assert changed(nets, before) == {"depth", "albedo", "view", "light"}
        results.append(nets.depth.state_dict())
    assert any(not torch.equal(results[0][name], results[1][name]) for name in results[0])


def test_a_preset_without_iterations_is_forward_passes_alone(turning):
    schedule = ScheduleConfig(rounds=(RoundConfig(0, 0, 0),), batch_size=2)
    seen = []
    result = turning(turning.sample(seed=1), preset=schedule, callback=seen.append)
    assert seen == []
    expected = turning._nets(schedule, 0).predict_scene(result.image[None], turning.config)
    assert torch.equal(result.depth, expected.depth[0])
