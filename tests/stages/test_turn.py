"""Views that the generator turns by itself, and the relief and poses that explain them."""

import dataclasses

import pytest
import torch
from conftest import tiny_config, tiny_pipeline
from stage_run import Losses, Table, changed, copy_of, make_nets, make_run, make_state, make_targets

from gan2shape_hub.config import AdjustConfig, ProjectionConfig, RoundConfig, ScheduleConfig
from gan2shape_hub.errors import Cancelled, ConfigError
from gan2shape_hub.rendering.camera import Pose
from gan2shape_hub.rendering.renderer import raw_to_depth, render_view
from gan2shape_hub.stages.adjust import adjust
from gan2shape_hub.stages.preview import clay
from gan2shape_hub.stages.turn import turn

DIRECTIONS = tuple(tuple(float(i == axis) for i in range(8)) for axis in (0, 1))


def directed(**changes):
    projection = ProjectionConfig(space="pca", components=8, view_directions=DIRECTIONS, view_units=(0.1, 0.2))
    return tiny_config(projection=projection, **changes)


@pytest.fixture
def turning():
    return tiny_pipeline(projection=directed().projection, average_mirrored=False, add_mean=False)


def test_the_first_view_is_the_generators_own_and_the_others_turn(turning):
    run, targets, nets = (
        make_run(turning, "turn", 8, turned_views=4),
        make_targets(turning, 2),
        make_nets(turning.config),
    )
    views = turn(make_state(turning, nets, targets), run).turned
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
    one, other = (
        turn(make_state(turning, make_nets(turning.config), given), make_run(turning, "turn", 3, turned_views=3)).turned
        for given in (targets, wide)
    )
    assert torch.allclose(one, other, atol=1e-5)


def test_nothing_is_turned_where_nothing_is_known_or_asked_for(turning, pipeline):
    asks = ScheduleConfig(rounds=(), turned_views=4, adjust_iterations=2)
    assert [step.name for step in turning.plan(turning.sample(seed=1), preset=asks)] == ["turn", "adjust"]
    assert turning.plan(turning.sample(seed=1), preset=dataclasses.replace(asks, turned_views=0)) == ()
    assert pipeline.plan(pipeline.sample(seed=1), preset=asks) == ()


def scene(config):
    """A dome, three views of it, and networks that know it."""
    axis = torch.linspace(-1, 1, 32)
    raw = -2 * torch.exp(-(axis[:, None] ** 2 + axis**2) / 0.3)[None, None]
    small = torch.rand(1, 3, 16, 16, generator=torch.Generator().manual_seed(2)) * 1.6 - 0.8
    texture = torch.nn.functional.interpolate(small, (32, 32), mode="bicubic", align_corners=True)
    view = torch.tensor([[0.0, 0, 0, 0, 0, 0], [0.02, 0.3, 0, 0, 0, 0], [-0.05, -0.25, 0, 0, 0, 0]])
    depth = raw_to_depth(raw, config.camera).expand(3, -1, -1)
    return raw, view, render_view(depth, texture, Pose.from_view(view, config.camera), config.camera).image


def adjusted(turning, *, relief=1.0, angles=1.0, iterations=60):
    """Scene of ``adjust`` from networks whose relief and angles are wrong by these factors, and the true ones."""
    turning.components.pop("perceptual", None)  # pixels alone, which are easy to reason about
    losses = Losses()
    run = make_run(turning, "adjust", iterations, callback=losses)
    raw, view, images = scene(turning.config)
    targets = dataclasses.replace(make_targets(turning), images=images[:1], originals=images[:1])
    nets = make_nets(turning.config)
    nets = dataclasses.replace(nets, depth=Table(images[:1], raw * relief), view=Table(images, view * angles))
    before = copy_of(nets)
    found = adjust(make_state(turning, nets, targets, turned=images[None]), run).scene
    assert changed(nets, before) == set(), "the networks are left alone"
    assert [p.step for p in losses.progress] == ["adjust"] * iterations
    return found, raw_to_depth(raw, turning.config.camera), raw_to_depth(raw * relief, turning.config.camera), losses


def test_relief_comes_out_of_turned_views(turning):
    # The same bend is four times as sharp a pixel on a sheet of 32 as on one of 128.
    turning.config = dataclasses.replace(turning.config, adjust=AdjustConfig(smoothness=0.1))
    found, true, start, losses = adjusted(turning, relief=0.4)
    inner = (..., slice(4, -4), slice(4, -4))
    assert (found.depth - true)[inner].abs().mean() < 0.75 * (start - true)[inner].abs().mean()
    assert losses.fell(0.8)


def test_poses_are_adjusted_too(turning):
    *_, losses = adjusted(turning, angles=0.7)
    assert losses.fell(0.8)


def test_the_same_seed_gives_the_same_relief(turning):
    one, *_ = adjusted(turning, relief=0.4, iterations=5)
    other, *_ = adjusted(turning, relief=0.4, iterations=5)
    assert torch.equal(one.depth, other.depth)
    assert torch.equal(one.view, other.view)


def test_the_pipeline_shows_the_adjusted_scene(turning):
    plain = ScheduleConfig(rounds=(RoundConfig(0, 0, 0),), batch_size=2)
    with_views = dataclasses.replace(plain, turned_views=3, adjust_iterations=4)
    sample = turning.sample(seed=1)
    before, after = turning(sample, preset=plain), turning(sample, preset=with_views)
    assert not torch.equal(before.depth, after.depth)
    assert torch.equal(before.scene.light, after.scene.light)
    assert torch.equal(turning(sample, preset=with_views).depth, after.depth)


def test_it_can_be_cancelled(turning):
    schedule = ScheduleConfig(rounds=(RoundConfig(0, 0, 0),), batch_size=2, turned_views=3, adjust_iterations=9)
    seen = []

    def stop(progress):
        seen.append(progress.preview())
        return len(seen) < 3

    with pytest.raises(Cancelled):
        turning(turning.sample(seed=1), preset=schedule, callback=stop)
    assert len(seen) == 3
    assert all(picture.shape == (3, 32, 32) for picture in seen[0])


def test_schedules_with_step_3_cannot_adjust(turning):
    schedule = ScheduleConfig(rounds=(RoundConfig(0, 0, 1),), batch_size=2, turned_views=3, adjust_iterations=2)
    with pytest.raises(ConfigError, match=r"adjust_iterations .* round\.refine .*: set one of them to 0") as caught:
        turning(turning.sample(seed=1), preset=schedule)
    assert caught.value.code == "steps-exclude-each-other"


def test_the_preview_never_goes_back_to_the_shape_before(turning):
    """Step 1 follows the adjustment: what it shows, and what comes out, has the adjusted shape."""
    schedule = ScheduleConfig(rounds=(RoundConfig(3, 0, 0),), batch_size=2, turned_views=3, adjust_iterations=4)
    shown = []
    result = turning(turning.sample(seed=1), preset=schedule, callback=lambda p: shown.append((p.step, p.preview()[2])))
    last = [picture for step, picture in shown if step == "adjust"][-1]
    assert torch.equal(last, clay(result.scene.depth, turning.config)[0])
    assert all(torch.equal(picture, last) for step, picture in shown if step == "decompose")
    first = next(picture for step, picture in shown if step == "turn")
    assert not torch.equal(first, last)


def test_a_preset_without_iterations_is_forward_passes_alone(turning):
    schedule = ScheduleConfig(rounds=(RoundConfig(0, 0, 0),), batch_size=2)
    seen = []
    result = turning(turning.sample(seed=1), preset=schedule, callback=seen.append)
    assert seen == []
    expected = turning._nets(schedule, 0).predict_scene(result.image[None], turning.config)
    assert torch.equal(result.depth, expected.depth[0])
