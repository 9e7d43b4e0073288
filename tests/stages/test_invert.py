"""Finding latents, and tuning a copy of the generator."""

import dataclasses

import pytest
import stage_run
import torch
import torch.nn.functional as F

from gan2shape_hub.errors import Cancelled
from gan2shape_hub.models.latent_projection import LatentProjection, along
from gan2shape_hub.records import Targets
from gan2shape_hub.stages.invert import (
    coarse_size,
    encoded,
    find_latent,
    invert,
    latent_directions,
    pace,
    psnr_db,
    trainable_weights,
    tune,
)


def make_run(pipeline, callback=None, encoder=None):
    run = stage_run.make_run(pipeline, "invert", 6, callback=callback)
    return dataclasses.replace(run, encoder=encoder)


def search(pipeline, image, iterations, run=None, mask=None):
    projection = LatentProjection(pipeline.generator, pipeline.config.projection)
    return find_latent(image, iterations, projection, run or make_run(pipeline), mask)


@pytest.fixture
def sampled(pipeline):
    """A latent (1, D) and the whole generator's image of it (1, 3, 32, 32)."""
    latent = pipeline.sample(seed=3, truncation=1.0).latent
    return latent, picture(pipeline.generator, latent).clamp(-1, 1)


def picture(generator, latent):
    """(B, 3, 32, 32) as the whole generator makes it, at 64 pixels, averaged."""
    return F.avg_pool2d(generator(latent), 2)


def test_whitened_coordinates_reproduce_the_spread_of_w(pipeline):
    generator = pipeline.generator
    directions = latent_directions(generator)
    z = torch.randn(4000, generator.latent_dim, generator=torch.Generator().manual_seed(5))
    w = generator.mapping(z) - generator.latent_mean
    expected, found = w.T @ w / len(w), directions.T @ directions
    assert directions.shape == (generator.latent_dim,) * 2
    assert (found - expected).norm() < 0.15 * expected.norm()
    lengths = directions.norm(dim=1)
    assert (lengths.diff() <= 1e-6).all()  # the commonest direction first


def test_more_iterations_come_closer(pipeline, sampled):
    _, image = sampled
    run = make_run(pipeline)
    start = search(pipeline, image, 2, run)
    assert start.psnr_db < 30
    found = search(pipeline, image, 30, run)
    assert found.latent.shape == (1, pipeline.generator.num_latents, pipeline.generator.latent_dim)
    assert found.image.shape == image.shape
    assert found.image.abs().max() <= 1
    assert found.psnr_db > start.psnr_db + 3
    assert found.psnr_db == pytest.approx(psnr_db(picture(pipeline.generator, found.latent), image), abs=1e-3)


def test_the_same_image_gives_the_same_latent(pipeline, sampled):
    first, second = (search(pipeline, sampled[1], 6, make_run(pipeline)) for _ in range(2))
    assert torch.equal(first.latent, second.latent)


def test_it_stops_where_nothing_is_left_to_do(pipeline):
    mean = picture(pipeline.generator, pipeline.generator.latent_mean[None]).clamp(-1, 1)
    found = search(pipeline, mean, 50, make_run(pipeline))
    assert found.iterations == 0
    assert found.psnr_db > 40
    latent = pipeline.generator.latent_mean + 0.05 * torch.ones_like(pipeline.generator.latent_mean)
    near = picture(pipeline.generator, latent[None]).clamp(-1, 1)
    closer = search(pipeline, near, 400, make_run(pipeline))
    assert closer.iterations < 400
    assert closer.psnr_db > 40


def test_the_result_is_the_whole_generators_and_not_the_taps(pipeline, sampled):
    """The tap of a random generator shows something else: a search that trusted it would end far off."""
    latent, image = sampled
    assert psnr_db(pipeline.generator.image_at(latent, 32), image) < 15
    found = search(pipeline, image, 40, make_run(pipeline))
    assert psnr_db(picture(pipeline.generator, found.latent), image) > 20
    assert psnr_db(pipeline.generator.image_at(found.latent, 32), image) < found.psnr_db - 3


def test_without_a_perceptual_network(pipeline, sampled):
    del pipeline.components["perceptual"]
    assert search(pipeline, sampled[1], 6, make_run(pipeline)).psnr_db > 0


def test_a_discriminators_features_are_compared_too(pipeline, sampled):
    """The search sees them: with a discriminator it ends elsewhere, and asks it at full working size alone."""
    _, image = sampled
    run = make_run(pipeline)
    seen = []

    class Discriminator(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = torch.nn.Conv2d(3, 4, 3, padding=1)

        def features(self, images, layers):
            seen.append(images.shape[-1])
            return [F.relu(self.layer(images))] * layers

    torch.manual_seed(0)
    judged = dataclasses.replace(run, discriminator=Discriminator().requires_grad_(False))
    first, second = search(pipeline, image, 12, run), search(pipeline, image, 12, judged)
    assert set(seen) == {32}
    assert len(seen) == 1 + 12 - int(
        12 * run.config.invert.coarse
    )  # the photograph once, then every iteration of the last part
    assert not torch.equal(first.latent, second.latent)


def test_progress_is_reported_and_can_cancel(pipeline, sampled):
    seen = []
    search(pipeline, sampled[1], 6, make_run(pipeline, seen.append))
    assert [p.iteration for p in seen] == [1, 2, 3, 4, 5, 6]
    assert {p.step for p in seen} == {"invert"}
    with pytest.raises(Cancelled, match="step 'invert' at iteration 2"):
        search(pipeline, sampled[1], 6, make_run(pipeline, lambda p: p.iteration < 2))


def test_no_iterations_give_the_average_image(pipeline, sampled):
    found = search(pipeline, sampled[1], 0, make_run(pipeline))
    assert torch.allclose(found.latent[0], pipeline.generator.latent_mean.expand_as(found.latent[0]))
    assert found.iterations == 0


def test_the_smallest_tap_below_the_working_size_is_the_coarse_one(pipeline):
    generator = pipeline.generator
    assert generator.tap_sizes == (32,)
    assert coarse_size(generator, 64) == 32
    assert coarse_size(generator, 32) == 32
    assert coarse_size(torch.nn.Identity(), 128) == 128


def test_tuning_adapts_a_copy_and_leaves_the_rest(pipeline, sampled):
    generator = pipeline.generator
    before = {name: value.clone() for name, value in generator.state_dict().items()}
    latent, image = sampled
    other = picture(generator, pipeline.sample(seed=4, truncation=1.0).latent)
    photograph = (image + 0.5 * (other - image)).clamp(-1, 1)  # what the latent does not give
    targets = Targets(torch.cat((photograph, image)), latent.repeat(2, 1), torch.cat((image, image)))
    photographs = {"photographs": (True, False), "quality_db": (None, None), "unlikeness": (None, None)}
    state = stage_run.make_state(pipeline, stage_run.make_nets(pipeline.config), targets, **photographs)
    after = tune(state, stage_run.make_run(pipeline, "tune", 30))
    tuned, quality = after.targets, after.quality_db
    assert all(torch.equal(value, before[name]) for name, value in generator.state_dict().items())
    assert after.generator is not generator
    assert after.projection.generator is after.generator
    assert not any(p.requires_grad for p in after.generator.parameters())
    assert quality[0] > psnr_db(image, photograph) + 1
    assert quality[0] == pytest.approx(psnr_db(picture(after.generator, latent), photograph), abs=0.01)
    assert quality[1] is None
    assert tuned.originals.shape == targets.originals.shape
    kept = [n for n in before if n.startswith(("mapping.", "tap_heads.")) or n.endswith("noise")]
    assert kept
    assert all(torch.equal(after.generator.state_dict()[name], before[name]) for name in kept)


def test_the_weights_that_move_are_the_synthesis_networks(pipeline):
    moved = {id(p) for p in trainable_weights(pipeline.generator)}
    assert id(pipeline.generator.to_rgb) in moved
    assert not any(id(p) in moved for p in pipeline.generator.mapping.parameters())


def test_the_learning_rate_warms_up_and_comes_down():
    values = [pace(i, 50) for i in range(50)]
    assert values[0] < 0.25
    assert max(values) > 0.95
    assert values[-1] < 0.06


def test_similarity_in_decibels():
    zero = torch.zeros(1, 3, 4, 4)
    assert psnr_db(zero + 0.2, zero) == pytest.approx(20.0, abs=1e-4)  # 20 log10(2 / 0.2)
    assert psnr_db(zero, zero) == pytest.approx(100.0)


def test_the_object_comes_closer_where_it_counts_for_more(pipeline, sampled):
    """A picture of which no latent gives both halves: the half that is the object is matched better."""
    _, image = sampled
    other = picture(pipeline.generator, pipeline.sample(seed=9, truncation=1.0).latent).clamp(-1, 1)
    both = torch.cat((image[..., :16], other[..., 16:]), dim=-1)
    left = torch.zeros(1, 1, 32, 32)
    left[..., :16] = 1

    def left_db(mask):
        return psnr_db(search(pipeline, both, 24, mask=mask).image[..., :16], both[..., :16])

    assert left_db(left) > left_db(None) > left_db(1 - left)


class Knows(torch.nn.Module):
    """An encoder that answers with one encoding, but for the generator's average image: 0 there, or a ``bias`` that is
    in both, as in an encoder that learnt differences."""

    def __init__(self, pipeline, encoding, bias=0.0):
        super().__init__()
        self.encoding = torch.nn.Parameter(encoding, requires_grad=False)
        mean = pipeline.generator.latent_mean[None]
        self.average, self.bias = pipeline.generator.image_at(mean, 32).clamp(-1, 1), bias

    def forward(self, images):
        known = (images - self.average).abs().amax(dim=(1, 2, 3)) > 1e-4
        return self.encoding * known[:, None] + self.bias


@pytest.mark.parametrize(("relative", "bias"), [(False, 0.0), (True, 5.0)])
def test_the_search_starts_at_the_encoders_answer_where_it_is_closer(pipeline, relative, bias):
    run = make_run(pipeline)
    projection = dataclasses.replace(run.config.projection, relative=relative)
    pipeline.config = dataclasses.replace(run.config, projection=projection)
    run, projection = make_run(pipeline), LatentProjection(pipeline.generator, projection)
    encoding = torch.randn(1, projection.encoding_size, generator=torch.Generator().manual_seed(2))
    knows = Knows(pipeline, encoding, bias)
    latent = pipeline.generator.latent_mean + projection.offset(encoding)[0]
    image = picture(pipeline.generator, latent).clamp(-1, 1)
    directions = latent_directions(pipeline.generator)
    found = pipeline.generator.latent_mean + (encoded(image, knows, directions, projection, run) @ directions)[:, 0]
    assert torch.allclose(found, latent, atol=1e-3)
    # One iteration moves hardly: what it ends with is where it started.
    informed = dataclasses.replace(run, encoder=knows)
    assert search(pipeline, image, 1, informed).psnr_db > search(pipeline, image, 1, run).psnr_db + 3


def test_a_wrong_encoder_does_no_harm(pipeline):
    run = make_run(pipeline)
    mean = pipeline.generator.latent_mean[None]
    image = picture(pipeline.generator, mean + 0.05).clamp(-1, 1)
    wrong = Knows(pipeline, torch.full((1, 8), 3.0))
    misled = dataclasses.replace(run, encoder=wrong)
    assert torch.equal(search(pipeline, image, 4, misled).latent, search(pipeline, image, 4, run).latent)


def test_photographs_get_latents_and_the_others_keep_theirs(pipeline, sampled):
    latent, image = sampled
    mean = pipeline.generator.latent_mean[None]
    targets = Targets(image.repeat(2, 1, 1, 1), torch.cat((mean, latent)), image.repeat(2, 1, 1, 1))
    known = {"photographs": (True, False), "quality_db": (None, None), "unlikeness": (None, None)}
    state = stage_run.make_state(pipeline, stage_run.make_nets(pipeline.config), targets, **known)
    after = invert(state, make_run(pipeline))
    assert after.targets.latents.shape == (2, 4, 16), "one for each layer, of all"
    assert torch.equal(after.targets.latents[1], latent.expand(4, -1))
    assert torch.equal(after.targets.originals[1], image[0])
    assert not torch.equal(after.targets.latents[0], mean.expand(4, -1))
    assert after.quality_db[0] > 0
    assert after.quality_db[1] is None
    assert torch.equal(state.targets.latents, targets.latents)


class Reads(torch.nn.Module):
    """A view network that reads the yaw: how far an image lies on the way from one picture to another, -1 to 1, and
    what is bright where ``wall`` is 0, as networks do that never saw such a background."""

    def __init__(self, one, other, wall):
        super().__init__()
        self.middle, self.way, self.wall = (one + other) / 2, (other - one) / 2 * wall, wall

    def forward(self, images):
        yaw = ((images - self.middle) * self.way).sum((1, 2, 3)) / self.way.square().sum()
        yaw = yaw + (images * (1 - self.wall)).mean((1, 2, 3))
        return torch.nn.functional.pad(yaw[:, None], (1, 4))


@pytest.mark.parametrize("masked", [False, True])
def test_the_first_latent_is_turned_as_the_photograph_is(pipeline, masked):
    generator, directions = pipeline.generator, torch.eye(8)[:2]
    knows = dataclasses.replace(
        pipeline.config.projection, view_directions=tuple(map(tuple, directions.tolist())), view_units=(1.0, 1.0)
    )
    turned = [
        generator.latent_mean + along(generator, torch.tensor([[0.0, step]]), directions) for step in (-1, 1, 0.8)
    ]
    one, other, photograph = (generator.image_at(w, 32).clamp(-1, 1) for w in turned)
    wall = torch.ones(1, 1, 32, 32)
    if masked:  # a wall that is no part of the object says nothing of its pose, in neither picture
        wall[..., :16] = 0
        photograph = photograph * wall + (1 - wall)
    mean = generator.latent_mean[None]
    targets = Targets(photograph, mean, photograph, wall)
    nets = dataclasses.replace(stage_run.make_nets(pipeline.config), view=Reads(one, other, wall))
    found = {}
    for name, projection in (("turned", knows), ("as it is", pipeline.config.projection)):
        config = dataclasses.replace(pipeline.config, projection=projection, add_mean=False)
        run = stage_run.make_run(pipeline, "invert", 0, config=config)
        run = dataclasses.replace(run, masker=lambda images: wall)
        state = stage_run.make_state(
            pipeline, nets, targets, config, photographs=(True,), quality_db=(None,), unlikeness=(None,)
        )
        found[name] = invert(state, run).targets.latents[0]
    assert torch.equal(found["as it is"], mean.expand(4, -1))
    away = (found["turned"][0] - generator.latent_mean) @ generator.component_basis.T / generator.component_std
    assert float(away[1]) == pytest.approx(0.8, abs=0.2)
    assert float(away[[0, *range(2, 8)]].abs().max()) < 1e-4, "and nothing else of it is changed"
