"""A call works under whatever the caller has set, and leaves all of it as it was."""

import contextlib
import os
import random

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState, GradientState, PartialState
from conftest import tiny_pipeline

from gan2shape_hub import GAN2ShapePipeline
from gan2shape_hub.surroundings import ordinary_


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tiny_pipeline().save_pretrained(tmp_path_factory.mktemp("checkpoint") / "tiny")


@pytest.fixture(scope="module")
def wanted(folder):
    pipeline = GAN2ShapePipeline.from_pretrained(folder, device="cpu")
    return pipeline(pipeline.sample(seed=1), seed=2)


@contextlib.contextmanager
def default_dtype(dtype):
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


SETTINGS = {
    "no_grad": torch.no_grad,
    "inference_mode": torch.inference_mode,
    "autocast": lambda: torch.autocast("cpu", torch.bfloat16),
    "float64": lambda: default_dtype(torch.float64),
    "meta": lambda: torch.device("meta"),
}


@pytest.mark.parametrize("name", SETTINGS)
def test_results_are_the_same_under_any_of_the_callers_settings(folder, wanted, name):
    with SETTINGS[name]():
        before = surroundings()
        pipeline = GAN2ShapePipeline.from_pretrained(folder, device="cpu")
        result = pipeline(pipeline.sample(seed=1), seed=2)
        assert surroundings() == before
    for field in ("depth", "albedo", "view", "light"):
        assert torch.equal(getattr(result.scene, field), getattr(wanted.scene, field))
    assert not result.scene.depth.is_inference()
    assert not result.latent.is_inference()
    again = pipeline(result.latent, seed=2)  # what came out goes in again
    assert torch.equal(again.scene.depth, wanted.scene.depth)


def surroundings():
    """What is global, or the thread's."""
    return {
        "grad": torch.is_grad_enabled(),
        "inference": torch.is_inference_mode_enabled(),
        "autocast": torch.is_autocast_enabled("cpu"),
        "dtype": torch.get_default_dtype(),
        "device": torch.get_default_device(),
        "torch": torch.get_rng_state().tolist(),
        "numpy": np.random.get_state()[1].tolist(),  # noqa: NPY002  (the global one)
        "python": random.getstate(),
        "environment": dict(os.environ),
        "threads": torch.get_num_threads(),
        "deterministic": torch.are_deterministic_algorithms_enabled(),
        "accelerate": [dict(s._shared_state) for s in (PartialState, AcceleratorState, GradientState)],
    }


def test_nothing_global_changes(folder, tmp_path):
    before = surroundings()
    pipeline = GAN2ShapePipeline.from_pretrained(folder, mixed_precision="bf16")
    result = pipeline(torch.rand(3, 40, 40, generator=torch.Generator().manual_seed(0)))
    result.rotate(10, through_gan=True)
    result.save(tmp_path / "out", turntable=False)
    assert surroundings() == before


def test_a_failed_call_changes_nothing_either(folder):
    pipeline = GAN2ShapePipeline.from_pretrained(folder, device="cpu")
    with default_dtype(torch.float64), torch.no_grad():
        before = surroundings()
        with pytest.raises(KeyError, match="mine"):
            pipeline(pipeline.sample(seed=1), callback=lambda progress: {}["mine"])
        assert surroundings() == before


@pytest.fixture
def host():
    """A program with an accelerate state of its own."""
    kept = [(s, dict(s._shared_state)) for s in (PartialState, AcceleratorState, GradientState)]
    AcceleratorState._reset_state(reset_partial_state=True)
    yield Accelerator(mixed_precision="bf16", cpu=True)
    for state, values in kept:
        state._shared_state.clear()
        state._shared_state.update(values)


def test_the_hosts_accelerator_stays_what_it_is(folder, host):
    for precision in ("no", "bf16"):
        pipeline = GAN2ShapePipeline.from_pretrained(folder, mixed_precision=precision)
        pipeline(pipeline.sample(seed=1))
        assert host.mixed_precision == "bf16"
        assert AcceleratorState().mixed_precision == "bf16"
        assert pipeline.device == host.device


def test_networks_made_in_inference_mode_are_usable(wanted):
    with torch.inference_mode():
        pipeline = tiny_pipeline()
    assert not any(p.is_inference() for m in pipeline.components.values() for p in (*m.parameters(), *m.buffers()))
    assert torch.isfinite(pipeline(pipeline.sample(seed=1)).depth).all()
    with torch.inference_mode():
        layer = torch.nn.BatchNorm2d(2)
    assert ordinary_(layer) is layer
    layer.weight.square().sum().backward()
    assert layer.weight.grad is not None
