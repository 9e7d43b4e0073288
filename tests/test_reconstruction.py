"""The pipeline from a sample to files, with the real classes at tiny size."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
import trimesh
from PIL import Image

from gan2shape_hub import Cancelled, GAN2ShapePipeline


@pytest.fixture(scope="module")
def tiny():
    from conftest import tiny_pipeline

    pipeline = tiny_pipeline()
    return pipeline, pipeline(pipeline.sample(seed=3), seed=5)


def test_the_same_seed_gives_the_same_bits_and_another_does_not(tiny):
    pipeline, result = tiny
    again = pipeline(pipeline.sample(seed=3), seed=5)
    assert torch.equal(result.depth, again.depth)
    assert torch.equal(result.scene.view, again.scene.view)
    assert not torch.equal(result.depth, pipeline(pipeline.sample(seed=3), seed=6).depth)


def test_a_run_changes_no_weight_of_the_checkpoint(tiny):
    pipeline, _ = tiny
    before = {n: {k: v.clone() for k, v in m.state_dict().items()} for n, m in pipeline.components.items()}
    pipeline(pipeline.sample(seed=1))
    for name, module in pipeline.components.items():
        assert all(torch.equal(v, before[name][k]) for k, v in module.state_dict().items()), name


def test_the_callback_sees_every_step_and_cancels(tiny):
    pipeline, _ = tiny
    seen = []
    pipeline(pipeline.sample(seed=1), callback=lambda p: seen.append((p.step, p.fraction)))
    assert [step for step, _ in seen] == ["decompose"] * 2 + ["explore"] * 2 + ["collect"] * 2 + ["refine"] * 2
    fractions = [f for _, f in seen]
    assert fractions == sorted(fractions)
    assert fractions[-1] == pytest.approx(1, abs=0.05)
    with pytest.raises(Cancelled, match="explore"):
        pipeline(pipeline.sample(seed=1), callback=lambda p: p.step != "explore")


def test_saved_and_loaded_it_says_the_same(tiny, tmp_path):
    pipeline, result = tiny
    pipeline.save_pretrained(tmp_path / "checkpoint")
    loaded = GAN2ShapePipeline.from_pretrained(tmp_path / "checkpoint", device="cpu")
    assert torch.equal(loaded(loaded.sample(seed=3), seed=5).depth, result.depth)


def test_save_writes_what_it_promises(tiny, tmp_path):
    _, result = tiny
    names = {file.name for file in result.save(tmp_path / "out", video=False)}
    assert names >= {
        *("mesh.glb", "mesh.obj", "mesh.mtl", "mesh.png", "mesh.ply", "depth.npy", "depth.png", "normals.png"),
        *("albedo.png", "mask.png", "input.png", "reconstruction.png", "contact_sheet.png", "turntable.webp"),
        "result.json",
    }
    depth = np.load(tmp_path / "out" / "depth.npy")
    assert depth.dtype == np.float32
    assert depth.shape == (32, 32)
    assert json.loads((tmp_path / "out" / "result.json").read_text())["seed"] == 5
    mesh = trimesh.load(tmp_path / "out" / "mesh.glb", force="mesh")
    assert np.isfinite(mesh.vertices).all()
    assert mesh.face_normals[:, 2].mean() > 0


def test_edits_have_the_sizes_and_numbers_asked_for(tiny):
    pipeline, result = tiny
    assert len(result.rotate([-10, 0, 10])) == 3
    assert result.rotate(10, through_gan=True).size == (pipeline.generator.image_size,) * 2
    assert result.relight("left", size=96).size == (96, 96)
    assert result.render(20, 5, (0.5, 0.0), size=64).size == (64, 64)


def test_light_from_all_around_goes_wherever_a_light_goes(tiny, tmp_path):
    pipeline, result = tiny
    Image.new("RGB", (64, 32), (200, 120, 60)).save(tmp_path / "room.png")
    whole = pipeline.generator.image_size
    for light in ("sunset", tmp_path / "room.png"):
        picture = np.asarray(result.relight(light, size=64), dtype=float)
        plain = np.asarray(result.relight("flat", size=64), dtype=float)
        warmth = [(x[..., 0] - x[..., 2]).mean() for x in (picture, plain)]
        assert warmth[0] > warmth[1]
        assert result.relight(light, through_gan=True).size == (whole, whole)
        assert result.render(20, 5, light, size=32).size == (32, 32)
        assert result.render(20, 5, light, size=32, shaded_only=True).size == (32, 32)


def test_lights_from_either_side_look_different(tiny):
    _, result = tiny
    left = np.asarray(result.relight((1.0, 0.0), size=64), dtype=float)[16:48]
    right = np.asarray(result.relight((-1.0, 0.0), size=64), dtype=float)[16:48]
    difference = (left - right).mean(axis=2)
    # Whatever the random shape is, light from the left and from the right do not look the same.
    assert np.abs(difference).max() > 1


def test_bf16_autocast_runs_on_the_cpu():
    from conftest import tiny_pipeline

    pipeline = tiny_pipeline()
    pipeline.mixed_precision = "bf16"
    assert bool(torch.isfinite(pipeline(pipeline.sample(seed=2)).depth).all())


def test_without_shape_nets_it_starts_from_the_ellipsoid(narrow_nets):
    from conftest import tiny_config, tiny_generator

    pipeline = GAN2ShapePipeline(tiny_config(), tiny_generator(), device="cpu")
    steps = []
    pipeline(pipeline.sample(seed=2), callback=lambda p: steps.append(p.step))
    assert steps[0] == "prior"


def test_several_images_are_reconstructed_jointly(tiny):
    pipeline, _ = tiny
    results = pipeline([pipeline.sample(seed=1), pipeline.sample(seed=2)])
    assert len(results) == 2
    assert results[0].report.input.sample_seed == 1
    assert not torch.equal(results[0].latent, results[1].latent)


@pytest.mark.parametrize(
    ("bad", "words"),
    [
        ([], "empty"),
        (torch.full((16,), float("nan")), "finite"),
        ("no/such/file.png", "no/such/file.png"),
        (np.full((64, 64, 3), np.nan), "finite"),
    ],
)
def test_bad_input_is_one_sentence(tiny, bad, words):
    pipeline, _ = tiny
    with pytest.raises(ValueError, match=words) as caught:
        pipeline(bad)
    assert "\n" not in str(caught.value)
