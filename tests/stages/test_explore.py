"""Step 2: what is sampled, what the encoder learns, and what is collected."""

import dataclasses
import math

import pytest
import torch
from conftest import tiny_config
from stage_run import Losses, Table, changed, copy_of, make_nets, make_run, make_state, make_targets

from gan2shape_hub.config import GaussianConfig, LightingConfig, ProjectionConfig, diagonal_gaussian
from gan2shape_hub.models.latent_projection import LatentProjection
from gan2shape_hub.records import Scene, Targets
from gan2shape_hub.rendering.scene import render_scene
from gan2shape_hub.stages import explore
from gan2shape_hub.stages.explore import project_views, render_pseudo, sample_lights, sample_views, train_projection

# -- sampling -------------------------------------------------------------------------------------------------------


def gaussian_with_correlations():
    root = torch.tril(torch.randn(6, 6, generator=torch.Generator().manual_seed(2), dtype=torch.float64)) * 0.04
    root[5] = 0  # a coordinate that does not vary
    covariance = root @ root.T
    rows = tuple(tuple(float(x) for x in row) for row in covariance)
    return GaussianConfig(mean=(0.05, -0.1, 0.0, 0.1, 0.0, 0.02), covariance=rows), covariance


def test_views_have_the_gaussians_mean_and_covariance(pipeline):
    gaussian, covariance = gaussian_with_correlations()
    run = make_run(pipeline, config=tiny_config(view_gaussian=gaussian, view_yaw_scale=1.2))
    views = sample_views(40_000, run)
    assert views.shape == (40_000, 6)
    assert torch.allclose(views.mean(0), torch.tensor(gaussian.mean), atol=2e-3)
    scale = torch.tensor([1, 1.2, 1, 1, 1, 1], dtype=torch.float64)
    wanted = covariance * scale[:, None] * scale
    assert torch.allclose(torch.cov(views.double().T), wanted, atol=0.03 * float(wanted.diagonal().max()))
    assert views[:, 5].std() < 1e-6


def test_views_stay_within_what_the_view_net_can_say(pipeline):
    config = tiny_config(view_gaussian=diagonal_gaussian((0.0,) * 6, (3.0,) * 6))
    views = sample_views(200, make_run(pipeline, config=config))
    assert views.abs().max() == 1


def test_samples_are_the_seeds(pipeline):
    config = tiny_config()
    first, second, other = (sample_views(5, make_run(pipeline, config=config, seed=s)) for s in (1, 1, 2))
    assert torch.equal(first, second)
    assert not torch.equal(first, other)


def test_lights_are_random_within_their_ranges(pipeline):
    lighting = LightingConfig((-0.7, 0.9), (-0.2, 0.8), (-0.1, 0.6), -0.6)
    run = make_run(pipeline, config=tiny_config(lighting=lighting))
    base = torch.tensor([[0.2, -0.4, 0.5, 0.5]]).expand(5000, 4)
    light = sample_lights(base, run)
    for column, (low, high) in ((2, lighting.direction_x), (3, lighting.direction_y)):
        assert low <= light[:, column].min() < low + 0.02
        assert high - 0.02 < light[:, column].max() <= high
    # Strengths are output / 2 + 0.5: a diffuse strength raised by r lowers the ambient one by 0.6 r.
    extra = (light[:, 1] - base[:, 1]) / 2
    assert -0.1 <= extra.min() < -0.09
    assert 0.59 < extra.max() <= 0.6 + 1e-6
    assert torch.allclose((light[:, 0] - base[:, 0]) / 2, -0.6 * extra, atol=1e-6)
    assert abs(float(torch.corrcoef(torch.stack([extra, light[:, 2]]))[0, 1])) < 0.05  # drawn apart


# -- pseudo images --------------------------------------------------------------------------------------------------


def dome(size=32):
    """Depth (1, S, S) of a bump, nearer in the middle."""
    axis = torch.linspace(-1, 1, size)
    return (1.03 - 0.1 * torch.exp(-2 * (axis[:, None] ** 2 + axis**2)))[None]


def scene_seen_from_the_side(yaw=0.35):
    view = torch.tensor([[0.05, yaw, 0.0, 0.0, 0.0, 0.0]])
    albedo = torch.rand(1, 3, 32, 32, generator=torch.Generator().manual_seed(0)) - 0.5
    return Scene(dome(), albedo, view, torch.tensor([[0.2, 0.1, 0.3, 0.1]]))


def fixed(monkeypatch, view, light):
    monkeypatch.setattr(explore, "sample_views", lambda count, run: view.expand(count, -1).clone())
    monkeypatch.setattr(explore, "sample_lights", lambda base, run: light.expand(len(base), -1).clone())


def test_a_pseudo_view_under_the_inputs_view_and_light_is_the_scene(pipeline, monkeypatch):
    scene, run = scene_seen_from_the_side(), make_run(pipeline)
    fixed(monkeypatch, scene.view, scene.light)
    rendered, _ = render_scene(scene.depth, scene.albedo, scene.view, scene.light, run.config.camera)
    targets = Targets(rendered.image, torch.zeros(1, 16), rendered.image)
    pick = torch.zeros(2, dtype=torch.int64)
    image, mask, view, light = render_pseudo(scene, pick, targets.select(pick), run)
    assert torch.allclose(image, rendered.image.clamp(-1, 1).expand(2, -1, -1, -1), atol=1e-5)
    assert torch.allclose(mask, rendered.mask.expand(2, -1, -1, -1), atol=1e-5)
    assert torch.equal(view, scene.view.expand(2, -1))
    assert torch.equal(light, scene.light.expand(2, -1))


def test_the_object_mask_comes_back_where_it_was(pipeline, monkeypatch):
    """A mask is drawn on the photograph; from the photograph's own view, the pseudo image's mask is that one."""
    scene = scene_seen_from_the_side()
    run = make_run(pipeline, config=tiny_config(use_mask=True))
    fixed(monkeypatch, scene.view, scene.light)
    masks = torch.zeros(1, 1, 32, 32)
    masks[..., 8:24, 10:20] = 1
    rendered, _ = render_scene(scene.depth, scene.albedo, scene.view, scene.light, run.config.camera)
    targets = Targets(rendered.image, torch.zeros(1, 16), rendered.image, masks)
    pick = torch.zeros(1, dtype=torch.int64)
    _, mask, _, _ = render_pseudo(scene, pick, targets.select(pick), run)
    wanted = masks * rendered.mask
    overlap = (mask * wanted).sum() / torch.maximum(mask, wanted).sum()
    assert overlap > 0.85
    # Seen from the other side, it moves with the sheet.
    fixed(monkeypatch, -scene.view, scene.light)
    _, turned, _, _ = render_pseudo(scene, pick, targets.select(pick), run)
    assert (turned * wanted).sum() / torch.maximum(turned, wanted).sum() < 0.8


def test_masks_are_not_used_without_the_configurations_say_so(pipeline):
    scene, results = scene_seen_from_the_side(), []
    for masks in (None, torch.zeros(1, 1, 32, 32)):
        images = torch.zeros(1, 3, 32, 32)
        chosen = Targets(images, torch.zeros(1, 16), images, masks)
        results.append(render_pseudo(scene, torch.zeros(1, dtype=torch.int64), chosen, make_run(pipeline))[1])
    assert torch.equal(*results)


# -- the encoder ----------------------------------------------------------------------------------------------------

CONFIGS = {
    "pca": ProjectionConfig(space="pca", components=8),
    "tail": ProjectionConfig(space="mapping_tail", first_layer=5),
    "absolute": ProjectionConfig(space="mapping_tail", first_layer=5, relative=False),
}


def nets_for(config, pipeline):
    nets = make_nets(config)
    if config.projection.space == "mapping_tail":
        size = LatentProjection(pipeline.generator, config.projection).encoding_size
        nets = dataclasses.replace(nets, encoder=type(nets.encoder)(3, size, config.image_size, nf=8))
    return nets


@pytest.mark.parametrize("kind", CONFIGS)
def test_the_encoder_learns_and_nothing_else_does(pipeline, kind):
    config = tiny_config(projection=CONFIGS[kind])
    losses, nets = Losses(), nets_for(config, pipeline)
    before, weights = copy_of(nets), {k: v.clone() for k, v in pipeline.generator.state_dict().items()}
    targets = make_targets(pipeline, 2)
    run = make_run(pipeline, "explore", 3, config=config, callback=losses)
    after = train_projection(make_state(pipeline, nets, targets, config), run)
    assert changed(nets, before) == set()
    assert changed(after.nets, before) == {"encoder"}
    assert all(torch.equal(v, weights[k]) for k, v in pipeline.generator.state_dict().items())
    assert [(p.step, p.iteration, p.iterations) for p in losses.progress] == [("explore", i + 1, 3) for i in range(3)]


def test_projections_come_closer_to_the_pseudo_images(pipeline, monkeypatch):
    """Pseudo images that the generator can make: other identities. The encoder has to find them from the image."""
    config, nets = pipeline.config, make_nets(pipeline.config)
    targets, others = make_targets(pipeline, 1), make_targets(pipeline, 6)

    def pseudo(scene, pick, chosen, run):
        which = run.integers(6, len(pick))
        zeros = torch.zeros(len(pick), 6)
        return others.images[which], torch.ones(len(pick), 1, 32, 32), zeros, zeros[:, :4]

    monkeypatch.setattr(explore, "render_pseudo", pseudo)
    losses = Losses()
    config = dataclasses.replace(config, projection=dataclasses.replace(config.projection, offset_weight=0.0))
    run = make_run(pipeline, "explore", 40, config=config, callback=losses, batch_size=4)
    train_projection(make_state(pipeline, nets, targets, config), run)
    assert losses.fell(0.85)


def test_a_large_penalty_keeps_the_latent(pipeline):
    """The regulariser pulls offsets to zero: with a huge weight, projections stay at the input's latent."""
    targets, lengths = make_targets(pipeline, 1), []
    for weight in (0.0, 1000.0):
        projection = dataclasses.replace(pipeline.config.projection, offset_weight=weight, relative=False)
        config = dataclasses.replace(pipeline.config, projection=projection)
        state = make_state(pipeline, make_nets(config), targets, config)
        state = train_projection(state, make_run(pipeline, "explore", 15, config=config))
        encoding = state.nets.encoder(targets.images)
        lengths.append(float(state.projection.offset(encoding)[0].norm().detach()))
    assert lengths[1] < 0.5 * lengths[0]


def test_a_smaller_training_size_reads_the_smaller_image(pipeline, monkeypatch):
    sizes, plain = [], pipeline.generator.image_at
    monkeypatch.setattr(pipeline.generator, "image_at", lambda w, size: sizes.append(size) or plain(w, size))
    projection = dataclasses.replace(pipeline.config.projection, training_size=16)
    config = dataclasses.replace(pipeline.config, projection=projection)
    state = make_state(pipeline, make_nets(config), make_targets(pipeline), config)
    train_projection(state, make_run(pipeline, "explore", 1, config=config))
    assert 16 in sizes


# -- collecting -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [1, 2])
def test_collected_views(pipeline, count):
    nets, targets, losses = make_nets(pipeline.config), make_targets(pipeline, count), Losses()
    before = copy_of(nets)
    run = make_run(pipeline, "collect", 3 * count, callback=losses)
    views = project_views(make_state(pipeline, nets, targets), 5, run)  # batches of 2, 2 and 1
    assert views.images.shape == (count, 5, 3, 32, 32)
    assert views.masks.shape == (count, 5, 1, 32, 32)
    assert views.views.shape == (count, 5, 6)
    assert views.lights.shape == (count, 5, 4)
    assert not views.images.requires_grad
    assert views.images.abs().max() <= 1
    assert 0 <= views.masks.min() <= views.masks.max() <= 1
    assert changed(nets, before) == set()
    total = 3 * count
    assert [(p.step, p.iteration, p.iterations) for p in losses.progress] == [
        ("collect", i + 1, total) for i in range(total)
    ]


def test_views_of_an_image_belong_to_it(pipeline):
    """With an encoder that never moves a latent, every projected view is the generator's image of its own input."""
    targets = make_targets(pipeline, 3)
    nets = make_nets(pipeline.config)
    for p in nets.encoder.parameters():
        p.data.zero_()
    views = project_views(make_state(pipeline, nets, targets), 3, make_run(pipeline, "collect", 6))
    for k in range(3):
        for image in views.images[k]:
            assert torch.allclose(image, targets.originals[k], atol=1e-4)


def test_an_input_keeps_its_latent_in_the_relative_form(pipeline, monkeypatch):
    targets, nets = make_targets(pipeline, 1), make_nets(pipeline.config)
    ones = torch.ones(1, 1, 32, 32)
    monkeypatch.setattr(
        explore,
        "render_pseudo",
        lambda scene, pick, chosen, run: (chosen.originals, ones, torch.zeros(1, 6), torch.zeros(1, 4)),
    )
    views = project_views(make_state(pipeline, nets, targets), 1, make_run(pipeline, "collect", 1))
    assert torch.allclose(views.images[0], targets.originals, atol=1e-4)


def test_depth_and_albedo_of_the_current_networks_are_shown(pipeline, monkeypatch):
    """The pseudo images are rendered from what the networks say now, each target's from its own."""
    targets = make_targets(pipeline, 2)
    raw = torch.stack([torch.zeros(1, 32, 32), 5 * (dome() - 1)])
    nets = dataclasses.replace(make_nets(pipeline.config), depth=Table(targets.images, raw))
    seen = {}

    def remember(scene, pick, chosen, run):
        seen["depth"] = scene.depth
        return render_pseudo(scene, pick, chosen, run)

    monkeypatch.setattr(explore, "render_pseudo", remember)
    project_views(make_state(pipeline, nets, targets), 1, make_run(pipeline, "collect", 2))
    assert torch.equal(seen["depth"], nets.predict_depth(targets.images, pipeline.config))
    assert math.isclose(float(seen["depth"][0, :, 4:28].std()), 0, abs_tol=1e-6)
    assert seen["depth"][1, :, 4:28].std() > 0.005
