"""Every category of the reference through the pipeline: StyleGAN2, its discriminator, the mapping's tail, masks."""

import dataclasses

import pytest
import torch

from gan2shape_hub import ConfigError, GAN2ShapePipeline
from gan2shape_hub.config import RoundConfig, ScheduleConfig
from gan2shape_hub.models.stylegan2 import StyleGAN2Generator
from gan2shape_hub.models.stylegan2_discriminator import StyleGAN2Discriminator
from gan2shape_hub.presets import PRESETS, category_preset

pytestmark = pytest.mark.usefixtures("narrow_nets")
TINY = ScheduleConfig(
    rounds=(RoundConfig(1, 2, 2, mirror=True, mirror_decompose=True), RoundConfig(1, 1, 1)),
    prior_iterations=2,
    batch_size=2,
    collected_batches=2,
    invert_iterations=3,
)


def make(name="face", *, discriminator=True, **changes):
    config = dataclasses.replace(
        category_preset(name), image_size=32, schedules={"tiny": TINY}, default_preset="tiny", **changes
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        generator = StyleGAN2Generator(64, channels=[16, 16, 12, 8, 6], latent_dim=32)
        critic = StyleGAN2Discriminator(64, channels=[16, 16, 12, 8, 6]) if discriminator else None
    return GAN2ShapePipeline(config, generator, discriminator=critic, device="cpu")


def box():
    mask = torch.zeros(32, 32)
    mask[8:26, 6:28] = 1
    return mask


@pytest.mark.parametrize("name", sorted(PRESETS))
def test_every_category_runs(name):
    pipeline = make(name)
    mask = box() if pipeline.config.use_mask else None
    result = pipeline(pipeline.sample(seed=1), mask=mask)
    for tensor in (result.depth, result.albedo, result.view, result.texture, result.view_depth):
        assert torch.isfinite(tensor).all()
    assert 0.9 - 1e-6 <= result.depth.min() <= result.depth.max() <= 1.1 + 1e-6
    assert result.rotate(15, through_gan=True).size == (64, 64)
    assert result.relight("left", through_gan=True).size == (64, 64)
    assert result.latent.shape == (1, 32)


def test_a_photograph_and_several_latents_of_a_category_without_taps():
    pipeline = make("car")
    photo = torch.rand(4, 40, 40, generator=torch.Generator().manual_seed(0))
    photo[3] = torch.nn.functional.interpolate(box()[None, None], (40, 40))[0, 0]  # alpha
    results = pipeline([photo, torch.zeros(32), torch.zeros(1, 10, 32)])
    assert all(r.latent.shape == (1, 10, 32) for r in results)
    assert all(torch.isfinite(r.depth).all() for r in results)


def test_step_2_compares_the_discriminators_first_maps(monkeypatch):
    pipeline, asked = make(), []
    plain = pipeline.discriminator.features

    def features(x, n):
        asked.append((tuple(x.shape), n))
        return plain(x, n)

    monkeypatch.setattr(pipeline.discriminator, "features", features)
    pipeline(pipeline.sample(seed=1))
    explored = sum(r.explore for r in TINY.rounds)
    assert asked == [((2, 3, 32, 32), 4)] * 2 * explored  # the pseudo and the projected images
    weights = {k: v.clone() for k, v in pipeline.discriminator.state_dict().items()}
    pipeline(pipeline.sample(seed=1))
    assert all(torch.equal(v, weights[k]) for k, v in pipeline.discriminator.state_dict().items())


def test_the_discriminator_changes_what_the_encoder_learns():
    results = []
    for with_it in (True, False):
        pipeline = make(discriminator=with_it)
        results.append(pipeline(pipeline.sample(seed=1)).editor.encoder.state_dict())
    assert any(not torch.equal(v, results[1][k]) for k, v in results[0].items())


def test_a_discriminator_too_small_for_the_layers_is_refused():
    small = StyleGAN2Discriminator(16, channels=[8, 8, 8])
    pipeline = make(discriminator=False)
    with pytest.raises(ConfigError, match=r"loss\.discriminator_layers is 4, must be 1 to 2"):
        GAN2ShapePipeline(pipeline.config, pipeline.generator, discriminator=small, device="cpu")


def test_an_object_mask_moves_the_ellipsoid():
    pipeline = make("car")
    still = dataclasses.replace(TINY, rounds=(), prior_iterations=60, learning_rate=1e-3)
    left, right = torch.zeros(32, 32), torch.zeros(32, 32)
    left[6:26, 3:14], right[6:26, 18:29] = 1, 1
    sample = pipeline.sample(seed=1)
    a, b = (pipeline(sample, preset=still, mask=m).depth for m in (left, right))
    assert a[:, 5:12].mean() < b[:, 5:12].mean() - 0.01
    assert b[:, 20:27].mean() < a[:, 20:27].mean() - 0.01


def test_a_crop_takes_the_same_part_of_photographs_and_generated_images():
    """Cats: 170 of 256 pixels are kept, so that what the encoder compares shows the same part of the picture."""
    pipeline = make("cat")
    sample = pipeline.sample(seed=3)
    result = pipeline(sample)
    assert (result.image - result.original[0]).abs().mean() < 0.05  # the prepared image and the generator's own
    side = round(64 * 170 / 256)
    assert result.source.shape[-1] == side
    first = (64 - side) // 2
    full = pipeline.generator(sample.latent)[0].clamp(-1, 1)[:, first : first + side, first : first + side]
    assert (result.source - full).abs().max() < 0.01


def test_saved_and_loaded_with_a_discriminator(tmp_path):
    pipeline = make("church")
    pipeline.save_pretrained(tmp_path / "church")
    loaded = GAN2ShapePipeline.from_pretrained(tmp_path / "church", device="cpu")
    assert loaded.config == pipeline.config
    assert type(loaded.discriminator).__name__ == "StyleGAN2Discriminator"
    sample = pipeline.sample(seed=1)
    assert torch.equal(loaded.sample(seed=1).latent, sample.latent)
    assert torch.equal(loaded(sample, mask=box()).depth, pipeline(sample, mask=box()).depth)
    without = GAN2ShapePipeline.from_pretrained(tmp_path / "church", device="cpu", discriminator=None)
    assert without.discriminator is None


def test_the_whole_mapping_network_as_the_tail():
    """Synthetic faces: first_layer 0, pixel norm included; the relative form starts at its singular point, z = 0."""
    pipeline = make("synthetic-face")
    result = pipeline(pipeline.sample(seed=1))
    assert all(torch.isfinite(p).all() for p in result.editor.encoder.parameters())
