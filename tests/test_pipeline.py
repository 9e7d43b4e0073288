"""A run: reproducible, observable, cancellable, and without effect on the checkpoint."""

import copy
import dataclasses
import json

import pytest
import torch
from conftest import tiny_config, tiny_generator, tiny_pipeline

from gan2shape_hub import Cancelled, ConfigError, GAN2ShapePipeline, ScheduleConfig
from gan2shape_hub.accelerator import autocast
from gan2shape_hub.config import RoundConfig, from_dict
from gan2shape_hub.hub import CheckpointError
from gan2shape_hub.models.shape import ShapeNets
from gan2shape_hub.models.stylegan2 import StyleGAN2Generator
from gan2shape_hub.stages.prior import ellipsoid_depth

pytestmark = pytest.mark.usefixtures("narrow_nets")
TWO_ROUNDS = ScheduleConfig(
    rounds=(RoundConfig(2, 1, 2, mirror=True), RoundConfig(1, 0, 1)), batch_size=2, collected_batches=3
)


@pytest.fixture(scope="module")
def shared():
    """A pipeline for tests that do not change it."""
    return tiny_pipeline()


def state_of(pipeline):
    return {n: {k: v.clone() for k, v in m.state_dict().items()} for n, m in pipeline.components.items()}


def same_state(a, b):
    return all(torch.equal(v, b[name][key]) for name, state in a.items() for key, v in state.items())


def same_scene(a, b):
    pairs = [(getattr(a.scene, f), getattr(b.scene, f)) for f in ("depth", "albedo", "view", "light")]
    return all(torch.equal(x, y) for x, y in [*pairs, (a.latent, b.latent)])


# -- reproducible ---------------------------------------------------------------------------------------------------


def test_everything_random_comes_from_the_seed(shared):
    sample = shared.sample(seed=1)
    torch.manual_seed(1)
    first = shared(sample, seed=3)
    torch.manual_seed(2)
    state = torch.get_rng_state()
    second = shared(sample, seed=3)
    assert same_scene(first, second)
    assert torch.equal(torch.get_rng_state(), state), "the caller's global generator was used"
    assert not same_scene(first, shared(sample, seed=4))


def test_a_generator_takes_the_place_of_the_seed(shared):
    sample = shared.sample(seed=1)
    given = shared(sample, generator=torch.Generator().manual_seed(3))
    assert same_scene(given, shared(sample, seed=3))
    assert given.report.seed is None


def test_runs_do_not_influence_each_other(shared):
    a, b = shared.sample(seed=1), shared.sample(seed=2)
    first = shared(a)
    shared(b)
    assert same_scene(first, shared(a))


def test_a_list_of_one_is_the_image_itself(shared):
    sample = shared.sample(seed=1)
    (listed,) = shared([sample])
    assert same_scene(listed, shared(sample))


def test_result_json_repeats_the_run(tmp_path, shared):
    result = shared(shared.sample(seed=9, truncation=0.4), preset=TWO_ROUNDS, seed=6)
    result.save(tmp_path, turntable=False)
    told = json.loads((tmp_path / "result.json").read_text())
    sample = shared.sample(seed=told["sample_seed"], truncation=told["truncation"])
    again = shared(sample, preset=from_dict(ScheduleConfig, told["schedule"]), seed=told["seed"])
    assert same_scene(result, again)
    assert told["preset"] == "custom"
    assert told["versions"]["torch"] == torch.__version__
    assert [(s["step"], s["round"], s["iterations"]) for s in told["steps"]] == [
        ("decompose", 1, 2), ("explore", 1, 1), ("collect", 1, 3), ("refine", 1, 2),
        ("decompose", 2, 1), ("collect", 2, 3), ("refine", 2, 1),
    ]  # fmt: skip
    assert all(s["seconds"] >= 0 and s["last_loss"] == s["last_loss"] for s in told["steps"])
    assert sum(s["seconds"] for s in told["steps"]) <= told["seconds"] + 0.1


def test_result_json_repeats_a_run_from_a_latent(shared):
    latent = torch.randn(1, 4, 16, generator=torch.Generator().manual_seed(0))
    result = shared(latent)
    told = json.loads(json.dumps(result.report.to_dict()))
    assert same_scene(result, shared(torch.tensor(told["latent"])))


# -- observable -----------------------------------------------------------------------------------------------------


def test_the_callback_is_told_every_iteration_in_order(shared):
    seen = []
    shared([shared.sample(seed=1), shared.sample(seed=2)], preset=TWO_ROUNDS, callback=seen.append)
    told = [(p.round, p.step, p.iteration, p.iterations) for p in seen]
    wanted = []
    # Six views in all are three of each image, in batches of two: 2 x 2 batches.
    for index, steps in enumerate([[("decompose", 2), ("explore", 1), ("collect", 4), ("refine", 2)],
                                   [("decompose", 1), ("collect", 4), ("refine", 1)]]):  # fmt: skip
        wanted += [(index, step, i + 1, n) for step, n in steps for i in range(n)]
    assert told == wanted
    assert {p.rounds for p in seen} == {2}
    assert all(p.loss == p.loss for p in seen)
    fractions = [p.fraction for p in seen]
    assert fractions == sorted(fractions)
    assert fractions[0] > 0
    assert fractions[-1] == pytest.approx(1)


def test_fractions_of_a_photograph_without_shape_nets_count_those_steps_too(shared):
    pipeline = GAN2ShapePipeline(shared.config, shared.generator, device="cpu")
    seen = []
    pipeline(torch.rand(3, 40, 40), callback=seen.append)
    assert [p.step for p in seen][:6] == ["invert"] * 4 + ["prior"] * 2
    fractions = [p.fraction for p in seen]
    assert fractions == sorted(fractions)
    assert fractions[-1] == pytest.approx(1)


def test_previews_are_made_on_demand(shared):
    previews = []

    def look(progress):
        if progress.step == "refine":
            previews.append(progress.preview())

    shared(shared.sample(seed=1), callback=look)
    for picture in previews[0]:
        assert picture.shape == (3, 32, 32)
        assert picture.abs().max() <= 1
    assert len(previews) == 2
    assert not torch.equal(previews[0][1], previews[1][1])  # of the moment they are made in


@pytest.mark.parametrize("answer", [None, True, 0, "no"])
def test_only_false_cancels(shared, answer):
    shared(shared.sample(seed=1), callback=lambda progress: answer)


# -- cancelling, failing --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("step", ["invert", "prior", "decompose", "explore", "collect", "refine"])
def test_cancelling_leaves_everything_as_it_was(step):
    pipeline = tiny_pipeline()
    before, image = state_of(pipeline), torch.rand(3, 40, 40, generator=torch.Generator().manual_seed(0))
    schedule = dataclasses.replace(pipeline.config.schedule(), from_pretrained=False)
    with pytest.raises(Cancelled, match=f"cancelled in step '{step}' at iteration 1 of "):
        pipeline(image, preset=schedule, callback=lambda p: p.step != step)
    assert same_state(before, state_of(pipeline))
    assert not any(p.requires_grad for m in pipeline.components.values() for p in m.parameters())
    assert not any(m.training for m in pipeline.components.values())


def test_an_error_of_the_callback_comes_through(shared):
    def broken(progress):
        raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        shared(shared.sample(seed=1), callback=broken)


def test_a_loss_that_becomes_nan_names_the_step_and_the_remedy(shared):
    wild = dataclasses.replace(shared.config.schedule(), learning_rate=1e30)
    with pytest.raises(FloatingPointError, match=r"step 'decompose' became NaN at iteration 2: lower the learning"):
        shared(shared.sample(seed=1), preset=wild)


# -- what a run starts from -----------------------------------------------------------------------------------------


def test_a_run_without_iterations_says_what_the_networks_say(shared):
    still = ScheduleConfig(rounds=(), batch_size=2)
    sample = shared.sample(seed=1)
    result = shared(sample, preset=still)
    net = shared.components["depth_net"]
    wanted = ShapeNets(*[net] * 5).predict_depth(result.image[None], shared.config)
    assert torch.allclose(result.scene.depth, wanted, atol=1e-6)
    assert not torch.equal(result.scene.depth, shared(sample).scene.depth)


def test_without_shape_nets_the_depth_is_the_ellipsoid():
    pipeline = GAN2ShapePipeline(tiny_config(), tiny_generator(), device="cpu")
    still = ScheduleConfig(rounds=(), prior_iterations=50, learning_rate=1e-3)
    depth = pipeline(pipeline.sample(seed=2), preset=still).depth[:, 2:-2]
    prior = ellipsoid_depth(pipeline.config)[:, 2:-2]
    assert torch.corrcoef(torch.stack([depth.flatten(), prior.flatten()]))[0, 1] > 0.8


def test_from_pretrained_false_starts_from_the_ellipsoid_but_keeps_the_encoder(shared):
    schedule = dataclasses.replace(shared.config.schedule(), from_pretrained=False, rounds=(RoundConfig(1, 0, 0),))
    steps = []
    result = shared(shared.sample(seed=2), preset=schedule, callback=lambda p: steps.append(p.step))
    assert steps == ["prior", "prior", "decompose"]
    encoder = shared.components["latent_encoder"].state_dict()
    assert all(torch.equal(v, encoder[k]) for k, v in result.editor.encoder.state_dict().items())


@pytest.mark.parametrize("missing", ["view_net", "light_net", "albedo_net", "latent_encoder", "perceptual"])
def test_any_optional_network_may_be_missing(shared, missing):
    components = {k: v for k, v in shared.components.items() if k not in (missing, "generator")}
    pipeline = GAN2ShapePipeline(shared.config, shared.generator, **components, device="cpu")
    assert torch.isfinite(pipeline(pipeline.sample(seed=1)).depth).all()


# -- precision ------------------------------------------------------------------------------------------------------


def test_bf16_autocast_stays_near_single_precision(shared):
    sample, plain = shared.sample(seed=1), shared(shared.sample(seed=1))
    half = GAN2ShapePipeline(**_parts(shared), mixed_precision="bf16", device="cpu")
    result = half(sample)
    assert result.report.mixed_precision == "bf16"
    assert result.depth.dtype == torch.float32
    assert torch.isfinite(result.depth).all()
    assert (result.depth - plain.depth).abs().mean() < 0.01  # of a range of 0.2
    assert not torch.equal(result.depth, plain.depth)  # it was used
    assert same_scene(shared(sample), plain)  # and left the other pipeline's precision alone


def _parts(pipeline):
    return {"config": pipeline.config, **{k: copy.deepcopy(v) for k, v in pipeline.components.items()}}


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("space", ["pca", "mapping_tail"])
def test_weights_held_in_half_precision(tmp_path, dtype, space):
    config = tiny_config()
    config = dataclasses.replace(config, projection=dataclasses.replace(config.projection, space=space, first_layer=0))
    pipeline = GAN2ShapePipeline(config, tiny_generator(), perceptual=tiny_pipeline().perceptual, device="cpu")
    pipeline.save_pretrained(tmp_path / "checkpoint")
    loaded = GAN2ShapePipeline.from_pretrained(tmp_path / "checkpoint", dtype=dtype, device="cpu")
    assert next(loaded.generator.parameters()).dtype == dtype
    result = loaded(loaded.sample(seed=1))
    assert torch.isfinite(result.depth).all()
    assert result.rotate(10, through_gan=True).size == (64, 64)
    loaded(torch.rand(3, 40, 40))  # a photograph: inversion too


def test_a_cpu_computes_in_single_precision_whatever_the_weights_are_held_in(tmp_path, shared):
    shared.save_pretrained(tmp_path / "checkpoint", dtype="fp16")
    wanted = GAN2ShapePipeline.from_pretrained(tmp_path / "checkpoint", device="cpu")
    loaded = GAN2ShapePipeline.from_pretrained(tmp_path / "checkpoint", dtype="fp16", device="cpu")
    before = state_of(loaded)
    sample, same_sample = loaded.sample(seed=1), wanted.sample(seed=1)
    assert torch.equal(sample.latent, same_sample.latent)
    assert sample.image.tobytes() == same_sample.image.tobytes()
    result, same_result = loaded(sample), wanted(sample)
    assert same_scene(result, same_result)
    edits = [one.relight("left", through_gan=True).tobytes() for one in (result, same_result)]
    assert edits[0] == edits[1]
    assert same_state(before, state_of(loaded)), "the weights in memory stay what they were asked to be"
    assert all(v.dtype != torch.float32 for state in before.values() for v in state.values())


# -- components -----------------------------------------------------------------------------------------------------


def test_networks_of_another_size_are_refused(tmp_path):
    pipeline, nets = tiny_pipeline(), ShapeNets.create(tiny_config(image_size=64), 8, width=8, encoder_width=8)
    parts = _parts(pipeline)
    for name, net, words in (
        ("depth_net", nets.depth, "depth_net has image_size 64, must be 32"),
        ("albedo_net", parts["depth_net"], "albedo_net has out_channels 1, must be 3"),
        ("view_net", parts["light_net"], "view_net has out_channels 4, must be 6"),
        ("latent_encoder", nets.encoder, "latent_encoder has image_size 64"),
    ):
        with pytest.raises(ConfigError, match=words):
            GAN2ShapePipeline(**{**parts, name: net}, device="cpu")
    # In a folder, every file is all right by itself; loading them together tells.
    pipeline.components["depth_net"] = nets.depth
    pipeline.save_pretrained(tmp_path / "mixed")
    with pytest.raises(CheckpointError, match=r"mixed: depth_net has image_size 64") as caught:
        GAN2ShapePipeline.from_pretrained(tmp_path / "mixed", device="cpu")
    assert "\n" not in str(caught.value)


def test_a_projection_that_the_generator_cannot_do_is_refused():
    generator = StyleGAN2Generator(32, channels=[8, 8, 8, 8], latent_dim=16)
    with pytest.raises(ConfigError, match="principal components"):
        GAN2ShapePipeline(tiny_config(), generator, device="cpu")


def test_devices_and_precisions_that_do_not_exist(shared):
    for device in ("gpu", "cuda:99", 3.5):
        with pytest.raises(ValueError, match="device is") as caught:
            GAN2ShapePipeline(**_parts(shared), device=device)
        assert "\n" not in str(caught.value)
    with pytest.raises(ValueError, match="mixed_precision is 'half', must be one of no, bf16, fp16"):
        GAN2ShapePipeline(**_parts(shared), device="cpu", mixed_precision="half")
    shared(shared.sample(seed=1))


def test_autocast_is_the_runs_own():
    for precision in ("no", "bf16", "no", "bf16"):
        with autocast(torch.device("cpu"), precision):
            product = torch.ones(2, 2) @ torch.ones(2, 2)
        assert product.dtype == (torch.bfloat16 if precision == "bf16" else torch.float32)
    with pytest.raises(ValueError, match="mixed_precision is 'fp16', which does not work here"):
        GAN2ShapePipeline(tiny_config(), tiny_generator(), device="cpu", mixed_precision="fp16")
