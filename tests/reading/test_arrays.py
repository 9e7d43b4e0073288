"""Arrays and tensors of every kind: read, or one sentence before anything large is made of them."""

import tracemalloc
import warnings

import numpy as np
import pytest
import torch
from conftest import tiny_config, tiny_pipeline
from PIL import Image

from gan2shape_hub.errors import InputError
from gan2shape_hub.given_mask import given_masks
from gan2shape_hub.stages.prepare import load_image

RAMP = np.tile(np.linspace(0, 1, 48), (40, 1))


def refused(call, words: str, code: str) -> None:
    with pytest.raises(InputError, match=words) as caught:
        call()
    assert caught.value.code == code
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "given",
    [
        (RAMP * 65535).astype(">u2"),
        RAMP.astype(">f4"),
        RAMP.astype(np.longdouble),
        RAMP.astype(np.float16),
        np.ma.masked_array(RAMP, RAMP < 0.5),
        RAMP[::-1],
        torch.from_numpy(RAMP).to(torch.bfloat16),
        torch.view_as_complex(torch.stack((torch.zeros(40, 48), -torch.from_numpy(RAMP).float()), -1)).conj().imag,
        torch.from_numpy(RAMP).requires_grad_(),
    ],
    ids=["big-endian uint16", "big-endian", "longdouble", "half", "masked", "reversed", "bfloat16", "negative", "grad"],
)
def test_what_has_values_is_read(given):
    found = np.asarray(load_image(given))[5, :, 0] / 255
    assert np.abs(found - RAMP[0]).max() < 0.005


def test_float8_is_read():
    found = np.asarray(load_image(torch.from_numpy(RAMP).to(torch.float8_e4m3fn)))[5, :, 0] / 255
    assert np.abs(found - RAMP[0]).max() < 0.05


def unusual_tensors():
    ones = torch.ones(40, 48)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what they are made by goes or is not finished
        quantised, nested = torch.quantize_per_tensor(ones, 0.1, 0, torch.quint8), torch.nested.nested_tensor([ones])
    return {
        "sparse": ones.to_sparse(),
        "quantised": quantised,
        "meta": ones.to("meta"),
        "nested": nested,
        "complex": torch.complex(ones, ones).conj(),
    }


@pytest.mark.parametrize("kind", unusual_tensors())
def test_tensors_without_plain_values_are_one_sentence(kind):
    tensor = unusual_tensors()[kind]
    refused(lambda: load_image(tensor, name="photo"), rf"photo is of type Tensor \(.*{kind}", "bad-array")
    refused(lambda: given_masks(tensor, [None], tiny_config()), rf"mask is of type Tensor \(.*{kind}", "bad-mask")


@pytest.mark.parametrize("dtype", ["O", "U3", "S3", "M8[s]", "m8[s]", "V4", "c8", "b1", "i8", [("a", "u1")]], ids=str)
def test_arrays_of_other_things_are_one_sentence(dtype):
    refused(lambda: load_image(np.zeros((40, 48), dtype), name="photo"), "photo has type .*uint8", "bad-array")


def test_size_is_looked_at_before_anything_is_converted():
    huge = {
        "uint16": np.broadcast_to(np.uint16(7), (60_000, 60_000)),
        "float": np.broadcast_to(np.float64(0.5), (60_000, 60_000, 3)),
        "tensor": torch.tensor(0.5).expand(3, 60_000, 60_000),
    }
    tracemalloc.start()
    for given in huge.values():
        refused(
            lambda given=given: load_image(given), "60000 x 60000 pixels, must have at most 80,000,000", "too-large"
        )
        plane = given[..., 0] if isinstance(given, np.ndarray) and given.ndim == 3 else given
        plane = plane[0] if isinstance(plane, torch.Tensor) else plane
        refused(lambda plane=plane: given_masks(plane, [None], tiny_config()), "must have at most", "too-large")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1e6


def test_conversion_needs_little_beside_its_result():
    deep = np.full((3000, 2000, 3), 1285, np.uint16)
    tracemalloc.start()
    image = load_image(deep)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert image.getpixel((1999, 2999)) == (5, 5, 5)
    assert peak < 4 * deep.size


MASK = np.arange(32 * 32).reshape(32, 32) % 32 < 16


@pytest.mark.parametrize(
    "given",
    [
        MASK.astype(np.longdouble),
        MASK.astype(">f8"),
        MASK.astype(">u2"),
        MASK.astype(np.float16),
        np.ma.masked_array(MASK.astype(np.uint8)),
        torch.from_numpy(MASK).to(torch.float8_e4m3fn),
        Image.fromarray(MASK).convert("LA").convert("La"),
        Image.merge("LAB", [Image.fromarray(MASK).convert("L"), *[Image.new("L", (32, 32), 128)] * 2]),
    ],
    ids=["longdouble", "big-endian", "big-endian uint16", "half", "masked", "float8", "La", "LAB"],
)
def test_masks_of_every_kind_are_read(given):
    found = given_masks(given, [None], tiny_config())
    assert (found[0, 0] - torch.from_numpy(MASK).float()).abs().max() < 0.02


@pytest.mark.parametrize("dtype", ["O", "U3", "M8[s]", "c8", [("a", "u1")]], ids=str)
def test_masks_of_other_things_are_one_sentence(dtype):
    refused(
        lambda: given_masks(np.zeros((32, 32), dtype), [None], tiny_config()), "mask is of type ndarray", "bad-mask"
    )


def test_latents_that_are_no_latents_are_one_sentence():
    pipeline = tiny_pipeline()
    for dtype, words in ((torch.complex64, "complex"), (torch.int64, "must be floating point")):
        with pytest.raises(InputError, match=words):
            pipeline(torch.ones(1, 16, dtype=dtype))
    with pytest.raises(InputError, match="sparse"):
        pipeline(torch.ones(1, 16).to_sparse())
    with pytest.raises(InputError, match="meta"):
        pipeline(torch.ones(1, 16, device="meta"))
