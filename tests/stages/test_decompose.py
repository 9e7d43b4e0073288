"""Step 1 fits the albedo and nothing else."""

import dataclasses

import pytest
import torch
from stage_run import Losses, Table, changed, copy_of, make_nets, make_run, make_state, make_targets

from gan2shape_hub.models.shape import ShapeNets
from gan2shape_hub.rendering.scene import render_scene
from gan2shape_hub.stages.decompose import decompose


def render(nets, targets, config):
    scene = nets.predict_scene(targets.images, config)
    return render_scene(scene.depth, scene.albedo, scene.view, scene.light, config.camera)[0].image


@pytest.mark.parametrize("count", [1, 5], ids=["one image", "more than a batch"])
def test_the_render_comes_closer_and_only_the_albedo_net_learns(pipeline, count):
    nets, targets, losses = make_nets(pipeline.config), make_targets(pipeline, count), Losses()
    before, start = copy_of(nets), (render(nets, targets, pipeline.config) - targets.images).abs().mean()
    state = make_state(pipeline, nets, targets)
    after = decompose(state, make_run(pipeline, "decompose", 40, callback=losses))
    assert changed(nets, before) == set(), "the state before stays what it was"
    assert changed(after.nets, before) == {"albedo"}
    assert torch.equal(after.scene.albedo, torch.cat([after.nets.albedo(x) for x in targets.images.split(1)]))
    assert (render(after.nets, targets, pipeline.config) - targets.images).abs().mean() < 0.7 * start
    assert losses.fell(0.85)
    assert [(p.step, p.iteration, p.iterations) for p in losses.progress] == [
        ("decompose", i + 1, 40) for i in range(40)
    ]


def test_no_iterations_change_nothing(pipeline):
    nets = make_nets(pipeline.config)
    before = copy_of(nets)
    state = decompose(make_state(pipeline, nets, make_targets(pipeline)), make_run(pipeline, "decompose", 0))
    assert changed(state.nets, before) == set()


def test_the_same_seed_gives_the_same_albedo(pipeline):
    targets, results = make_targets(pipeline, 3), []
    for seed in (4, 4, 5):
        nets = make_nets(pipeline.config)
        run = make_run(pipeline, "decompose", 3, seed=seed, mirror=True)
        results.append(decompose(make_state(pipeline, nets, targets), run).scene.albedo)
    assert torch.equal(results[0], results[1])
    assert not torch.equal(results[0], results[2])  # other images of the joint run, other coins


def test_mirroring_makes_the_albedo_explain_the_image_both_ways(pipeline):
    """A flat, frontal scene, lit evenly: the albedo becomes the image, or with mirroring as symmetric as it can."""
    image, flat = torch.full((1, 3, 32, 32), 0.5), torch.zeros(1, 1, 32, 32)
    image[..., 16:] = -0.5
    targets = dataclasses.replace(make_targets(pipeline), images=image)
    asymmetry = {}
    for mirror in (False, True):
        nets = ShapeNets(
            depth=Table(image, flat),
            albedo=Table(image, flat.expand(1, 3, 32, 32)),
            view=Table(image, torch.zeros(1, 6)),
            light=Table(image, torch.tensor([[1.0, -1.0, 0.0, 0.0]])),  # ambient light only
            encoder=torch.nn.Identity(),
        )
        config = dataclasses.replace(pipeline.config, add_mean=False)
        run = dataclasses.replace(
            make_run(pipeline, "decompose", 40, config=config, mirror=mirror, learning_rate=0.05), perceptual=None
        )
        albedo = decompose(make_state(pipeline, nets, targets), run).scene.albedo
        asymmetry[mirror] = float((albedo - albedo.flip(-1)).abs().mean())
        if not mirror:
            assert (albedo - image)[..., 2:-2].abs().mean() < 0.05
    assert asymmetry[True] < 0.4 * asymmetry[False]


def test_the_background_is_explained_too_where_there_is_an_object_mask(pipeline):
    """The mask is of the pseudo views: without an albedo for the background, the encoder would see garbage there."""
    config = dataclasses.replace(pipeline.config, use_mask=True)
    masks = torch.zeros(1, 1, 32, 32)
    masks[..., :16] = 1
    results = []
    for m in (masks, None):
        nets, targets = make_nets(config), make_targets(pipeline, masks=m)
        state = decompose(make_state(pipeline, nets, targets), make_run(pipeline, "decompose", 3, config=config))
        results.append(state.scene.albedo)
    assert torch.equal(*results)


def test_without_a_perceptual_network(pipeline):
    nets, losses = make_nets(pipeline.config), Losses()
    run = dataclasses.replace(make_run(pipeline, "decompose", 20, callback=losses), perceptual=None)
    decompose(make_state(pipeline, nets, make_targets(pipeline)), run)
    assert losses.fell(0.95)
