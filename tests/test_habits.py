"""What people and programs hand over out of habit: NumPy's numbers, tuples, home folders."""

import numpy as np
import pytest
import torch
from conftest import tiny_pipeline
from PIL import Image

from gan2shape_hub import GAN2ShapePipeline, Light


@pytest.fixture(scope="module")
def pipeline():
    return tiny_pipeline()


@pytest.fixture(scope="module")
def result(pipeline):
    return pipeline(pipeline.sample(seed=3), seed=5)


def same(one, other):
    if isinstance(one, list) or isinstance(other, list):
        return len(one) == len(other) and all(map(same, one, other))
    return np.array_equal(np.asarray(one), np.asarray(other))


# -- numbers ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", [np.int64(3), np.uint8(3), torch.tensor(3)], ids=lambda seed: type(seed).__name__)
def test_whole_numbers_of_any_library_are_seeds(pipeline, seed):
    sample = pipeline.sample(seed=seed, truncation=np.float32(0.5))
    assert sample.seed == 3
    assert type(sample.seed) is int
    assert same(sample.image, pipeline.sample(seed=3, truncation=0.5).image)


def test_a_runs_seed_too(pipeline, result):
    found = pipeline(pipeline.sample(seed=3), seed=np.int64(5))
    assert found.report.seed == 5
    assert torch.equal(found.depth, result.depth)


ANGLES = [
    np.linspace(-20, 20, 3),
    (-20, 0, 20),
    range(-20, 21, 20),
    torch.tensor([-20.0, 0, 20]),
    [np.int32(-20), 0, 20],
]


@pytest.mark.parametrize("yaw", ANGLES, ids=lambda yaw: type(yaw).__name__)
def test_angles_of_any_library(result, yaw):
    assert same(result.rotate(yaw, size=24), result.rotate([-20.0, 0.0, 20.0], size=24))


def test_single_angles_give_single_pictures(result):
    for yaw in (np.float64(20), np.array(20), torch.tensor(20)):
        assert same(result.rotate(yaw, np.float32(5), size=np.int64(24)), result.rotate(20, 5, size=24))
    assert isinstance(result.rotate(np.array([20]), size=24), list)


@pytest.mark.parametrize(
    "light", [[0.3, 0.1], np.array([0.3, 0.1]), torch.tensor([0.3, 0.1], dtype=torch.float64), (0.3, 0.1, 1)], ids=repr
)
def test_a_direction_is_a_light(result, light):
    assert same(result.relight(light, size=24), result.relight((0.3, 0.1), size=24))


def test_a_direction_of_three_numbers_has_its_own_depth(result):
    assert not same(result.relight((0.9, 0.1, 0.2), size=24), result.relight((0.9, 0.1), size=24))


@pytest.mark.parametrize(
    "lights",
    [("left", "right"), np.array(["left", "right"]), [(-1.3, 0.25, 1.0), (1.3, 0.25)], np.array([[1.3, 0.2], [0, 0]])],
    ids=repr,
)
def test_several_lights_give_several_pictures(result, lights):
    assert same(result.relight(lights, size=24), [result.relight(light, size=24) for light in lights])


def test_lights_of_one_library_call_through_the_gan(result):
    assert same(result.relight(("left",), through_gan=True), [result.relight("left", through_gan=True)])


NAN, LIGHTS = float("nan"), Light(torch.ones(2), torch.ones(2), torch.ones(2, 3))
WRONG = {
    "yaw nan": (lambda r: r.rotate(NAN), "yaw_deg is nan"),
    "yaw inf": (lambda r: r.rotate([0, np.inf], through_gan=True), "yaw_deg is inf"),
    "yaw text": (lambda r: r.rotate("20"), "yaw_deg is '20'"),
    "yaw None": (lambda r: r.rotate(None), "yaw_deg is None"),
    "yaw table": (lambda r: r.rotate(np.zeros((2, 2))), "yaw_deg is"),
    "yaw complex": (lambda r: r.render(1j), "yaw_deg is 1j"),
    "pitch nan": (lambda r: r.render(0, NAN), "pitch_deg is nan"),
    "size 0": (lambda r: r.rotate(0, size=0), "size is 0"),
    "size text": (lambda r: r.relight("left", size="64"), "size is '64'"),
    "size half": (lambda r: r.render(size=64.5), "size is 64.5"),
    "size huge": (lambda r: r.rotate(0, size=10**6), "size is 1000000"),
    "light None": (lambda r: r.relight(None, through_gan=True), "light is None"),
    "light number": (lambda r: r.relight(0.3), "light is 0.3"),
    "light of four": (lambda r: r.relight((1, 2, 3, 4)), "light is"),
    "light of nan": (lambda r: r.relight((NAN, 0)), "light direction is nan"),
    "light name": (lambda r: r.relight(("left", "middle")), "light preset is 'middle'"),
    "light dict": (lambda r: r.relight({"x": 1, "y": 2}), "light"),
    "two lights in one": (lambda r: r.relight(LIGHTS), "holds 2 lights"),
    "render light": (lambda r: r.render(light=0.3), "light is 0.3"),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_is_no_number_is_one_sentence(result, name):
    call, words = WRONG[name]
    with pytest.raises(ValueError, match=words) as caught:
        call(result)
    assert "\n" not in str(caught.value)


WRONG_RUNS = {
    "seed text": (lambda p: p.sample(seed="3"), "seed is '3'"),
    "seed half": (lambda p: p.sample(seed=3.5), "seed is 3.5"),
    "seed huge": (lambda p: p.sample(seed=2**64), "seed is 18446744073709551616"),
    "truncation": (lambda p: p.sample(truncation="all"), "truncation is 'all'"),
    "run's seed": (lambda p: p(torch.zeros(16), seed=[1]), r"seed is \[1\]"),
    "generator": (lambda p: p(torch.zeros(16), generator=np.random.default_rng(1)), "torch.Generator"),
    "preset": (lambda p: p(torch.zeros(16), preset=["fast"]), "preset is"),
}


@pytest.mark.parametrize("name", WRONG_RUNS)
def test_what_a_run_cannot_take_is_one_sentence(pipeline, name):
    call, words = WRONG_RUNS[name]
    with pytest.raises(ValueError, match=words) as caught:
        call(pipeline)
    assert "\n" not in str(caught.value)


# -- paths ------------------------------------------------------------------------------------------------------------


def test_a_tilde_is_the_home_folder(pipeline, result, tmp_path, monkeypatch):
    home, here = tmp_path / "home", tmp_path / "here"
    home.mkdir()
    here.mkdir()
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.chdir(here)
    files = result.save("~/out", turntable=False)
    assert all(file.is_file() and file.parent == home / "out" for file in files)
    assert pipeline.save_pretrained("~/tiny") == home / "tiny"
    assert GAN2ShapePipeline.from_pretrained("~/tiny", device="cpu").config == pipeline.config
    Image.new("RGB", (48, 48), "red").save(home / "photo.png")
    assert pipeline.prepare("~/photo.png", align=False).square.size == (48, 48)
    assert list(here.iterdir()) == []


def test_a_tilde_without_a_home_is_a_name(result, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result.save("~nobody-of-this-name/out", turntable=False)
    assert (tmp_path / "~nobody-of-this-name" / "out" / "mesh.glb").is_file()
