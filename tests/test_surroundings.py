"""A call works under whatever the caller has set, and leaves all of it as it was."""

import contextlib
import copy
import os
import random
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState, GradientState, PartialState
from conftest import tiny_pipeline
from torch.utils._python_dispatch import TorchDispatchMode

from gan2shape_hub import GAN2ShapePipeline, accelerator
from gan2shape_hub.accelerator import missing_operators
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
def test_results_are_the_same_under_any_of_the_callers_settings(folder, wanted, tmp_path, name):
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
    with SETTINGS[name]():
        before = surroundings()
        found = looks(result)
        if name in ("float64", "meta"):  # files come from the CPU's own numbers, whatever else is set
            result.save(tmp_path / "out", turntable=False)
        assert surroundings() == before
    assert found == looks(wanted)


def looks(result):
    """What can be seen of a result, as bytes."""
    pictures = [
        *(result.render(10, size=32), result.rotate(10, 5, size=32), result.relight("left", size=32), result.inverted),
        *(result.rotate(10, through_gan=True), result.relight((0.5, 0.1), through_gan=True)),
    ]
    tensors = [
        result.normals,
        result.texture,
        result.view_depth,
        result.mask,
        result.reconstruction,
        result.object_mask,
    ]
    return [picture.tobytes() for picture in pictures] + [tensor.numpy().tobytes() for tensor in tensors]


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


# -- several at once --------------------------------------------------------------------------------------------------


def test_threads_and_pipelines_side_by_side(folder, wanted):
    """Two threads on one pipeline and one on another, under a default that all threads share."""
    one, other = (GAN2ShapePipeline.from_pretrained(folder, device="cpu") for _ in range(2))
    with default_dtype(torch.float64), ThreadPoolExecutor(3) as pool:
        runs = [pool.submit(lambda p=p: p(p.sample(seed=1), seed=2)) for p in (one, one, other)]
        found = [run.result().scene.depth for run in runs]
        assert torch.get_default_dtype() == torch.float64
    assert all(torch.equal(depth, wanted.scene.depth) for depth in found)


def test_copies_are_their_own(folder, wanted):
    pipeline = GAN2ShapePipeline.from_pretrained(folder, device="cpu")
    copied = copy.deepcopy(pipeline)
    assert torch.equal(copied(copied.sample(seed=1), seed=2).scene.depth, wanted.scene.depth)
    for parameter in copied.generator.parameters():
        parameter.zero_()
    assert torch.equal(pipeline(pipeline.sample(seed=1), seed=2).scene.depth, wanted.scene.depth)
    assert looks(copy.deepcopy(wanted)) == looks(wanted)


def test_moving_a_pipeline(folder):
    pipeline = GAN2ShapePipeline.from_pretrained(folder, device="cpu")
    places = lambda: {(t.device.type, t.dtype) for m in pipeline.components.values() for t in m.parameters()}  # noqa: E731
    assert pipeline.cpu() is pipeline
    assert pipeline.to(torch.float16) is pipeline
    assert (pipeline.device.type, places()) == ("cpu", {("cpu", torch.float16)})
    assert pipeline.sample(seed=1).image.size == (64, 64)
    assert pipeline.to("meta", torch.float32) is pipeline
    assert (pipeline.device.type, places()) == ("meta", {("meta", torch.float32)})
    if not torch.cuda.is_available():
        with pytest.raises(ValueError, match="device is 'cuda:0', which torch cannot use"):
            GAN2ShapePipeline.from_pretrained(folder, device="cpu").cuda()


FORKED = """
import multiprocessing, sys
from gan2shape_hub import GAN2ShapePipeline
pipeline = GAN2ShapePipeline.from_pretrained(sys.argv[1], device="cpu")

def depth(seed):
    return float(pipeline(pipeline.sample(seed=seed), seed=2).depth.double().sum())

with multiprocessing.get_context("fork").Pool(1) as pool:
    print(*pool.map(depth, [1]))
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the system does not fork")
def test_forks_of_a_program_that_has_loaded_it(folder, wanted):
    several = {**os.environ, "OMP_NUM_THREADS": "2"}  # which the child does not inherit, and would wait for
    command = [sys.executable, "-c", FORKED, folder]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, env=several)
    assert done.returncode == 0, done.stderr
    assert [float(word) for word in done.stdout.split()] == pytest.approx([float(wanted.depth.double().sum())])


# -- a Mac's GPU ------------------------------------------------------------------------------------------------------


class Without(TorchDispatchMode):
    """A torch that lacks some operators, and says so as it does on a Mac."""

    def __init__(self, *names):
        super().__init__()
        self.names = names

    def __torch_dispatch__(self, operator, types, args=(), kwargs=None):
        if operator.overloadpacket.__name__ in self.names:
            raise NotImplementedError(
                f"The operator 'aten::{operator}' is not currently implemented for the MPS device."
            )
        return operator(*args, **(kwargs or {}))


@pytest.mark.parametrize(
    ("operator", "name"),
    [
        ("grid_sampler_2d", "grid_sample with border padding"),
        ("grid_sampler_2d_backward", "grid_sample with border padding"),
        ("_upsample_bilinear2d_aa_backward", "antialiased interpolate"),
        ("upsample_bicubic2d", "bicubic interpolate"),
    ],
)
def test_operators_that_a_device_lacks_are_found(operator, name):
    with Without(operator):
        assert name in missing_operators(torch.device("cpu"))
    assert missing_operators(torch.device("cpu")) == []


def test_a_mac_whose_gpu_lacks_operators_takes_the_cpu_with_one_warning(folder, wanted, monkeypatch):
    """Here no such GPU can do anything at all."""
    monkeypatch.setattr(PartialState, "default_device", property(lambda _: torch.device("mps")))
    monkeypatch.setattr(PartialState, "_shared_state", {})
    accelerator._is_complete.cache_clear()
    with pytest.warns(UserWarning, match="lacks grid_sample .* on mps: the CPU is taken") as said:
        pipelines = [GAN2ShapePipeline.from_pretrained(folder) for _ in range(2)]
    accelerator._is_complete.cache_clear()
    assert len(said) == 1
    assert {pipeline.device.type for pipeline in pipelines} == {"cpu"}
    assert torch.equal(pipelines[0](pipelines[0].sample(seed=1), seed=2).depth, wanted.depth)


# -- threads ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("module", "before", "after"),
    [("gan2shape_hub", None, None), ("gan2shape_hub.cli", None, "passive"), ("gan2shape_hub.cli", "active", "active")],
)
def test_waiting_threads_sleep_in_command_lines_and_libraries_leave_that_to_others(module, before, after):
    environment = {k: v for k, v in os.environ.items() if k != "OMP_WAIT_POLICY"}
    environment |= {} if before is None else {"OMP_WAIT_POLICY": before}
    code = f"import {module}, os, sys; print(os.environ.get('OMP_WAIT_POLICY'), 'torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=True)
    assert done.stdout.split() == [str(after), "False"]
