"""What a pipeline takes, and what it says of what it cannot take."""

import dataclasses
import re

import numpy as np
import pytest
import torch
from conftest import tiny_pipeline
from PIL import Image

from gan2shape_hub import ConfigError, InputError
from gan2shape_hub.models.stylegan2 import StyleGAN2Generator
from gan2shape_hub.records import Sample
from gan2shape_hub.targets import latent_of


@pytest.fixture(scope="module")
def shared():
    return tiny_pipeline()


@pytest.fixture(scope="module")
def masked():
    """The same for a category that uses object masks."""
    return tiny_pipeline(use_mask=True)


def picture(size=48, seed=0):
    """(S, S, 3) uint8, smooth."""
    small = np.random.default_rng(seed).integers(0, 255, (4, 4, 3), dtype=np.uint8)
    return np.array(Image.fromarray(small).resize((size, size), Image.Resampling.BICUBIC))


def same(a, b):
    return torch.equal(a.depth, b.depth) and torch.equal(a.albedo, b.albedo) and torch.equal(a.image, b.image)


# -- what it takes --------------------------------------------------------------------------------------------------


def test_a_photograph_in_any_form(shared, tmp_path):
    array = picture()
    Image.fromarray(array).save(tmp_path / "photo.png")
    forms = {
        "path": tmp_path / "photo.png",
        "str": str(tmp_path / "photo.png"),
        "PIL": Image.fromarray(array),
        "uint8": array,
        "float": array.astype(np.float32) / 255,
        "tensor": torch.from_numpy(array).permute(2, 0, 1),
        "batch of one": torch.from_numpy(array).permute(2, 0, 1)[None].float() / 255,
    }
    results = {name: shared(form) for name, form in forms.items()}
    for name, result in results.items():
        assert same(result, results["path"]), name
        assert result.report.psnr_db is not None
        assert result.source.shape == (3, 48, 48)
        assert result.image.shape == (3, 32, 32)
        assert result.latent.shape == (1, 4, 16)
    assert results["path"].report.input.image.endswith("photo.png")


def test_a_latent_in_any_form(shared):
    sample = shared.sample(seed=4)
    first = shared(sample)
    w = sample.latent
    for form in (w, w[0], w.double()):
        assert same(shared(form), first)
    plus = shared(w[:, None].expand(1, 4, 16))
    assert plus.latent.shape == (1, 4, 16)
    assert torch.allclose(plus.image, first.image, atol=1e-5)
    # The image is the generator's own: no inversion, and as sharp as the generator makes it.
    assert first.report.psnr_db is None
    assert first.source.shape == (3, 64, 64)
    assert np.abs(np.asarray(sample.image) / 127.5 - 1 - first.source.permute(1, 2, 0).numpy()).max() < 1e-6


def test_photographs_and_latents_in_one_list(shared):
    sample = shared.sample(seed=4)
    results = shared([picture(), sample, torch.zeros(16)])
    assert len(results) == 3
    assert [r.report.psnr_db is None for r in results] == [False, True, True]
    assert torch.equal(results[1].image, shared(sample).image)
    assert all(r.latent.shape == (1, 4, 16) for r in results)
    assert [r.report.number for r in results] == [1, 2, 3]
    # One set of networks: they learnt from all three.
    assert results[0].editor.encoder is results[2].editor.encoder


def test_inputs_stay_as_they_are(shared):
    array, latent = picture(), torch.zeros(1, 16)
    copies = array.copy(), latent.clone()
    shared([array, latent])
    assert np.array_equal(array, copies[0])
    assert torch.equal(latent, copies[1])


def test_a_grey_tensor_as_wide_as_the_latent_is_an_image():
    """(1, H, W) with W equal to the latent's size: only its height tells."""
    generator = StyleGAN2Generator(32, channels=[4] * 4, latent_dim=64)
    assert latent_of(torch.zeros(1, 64, 64), generator) is None
    assert latent_of(torch.zeros(64, 64), generator) is None
    assert latent_of(torch.zeros(3, 64, 64), generator) is None
    assert latent_of(torch.zeros(1, 8, 64), generator).shape == (1, 8, 64)
    assert latent_of(torch.zeros(64), generator).shape == (1, 64)
    assert latent_of(np.zeros((1, 64)), generator) is None


def test_samples(shared):
    image, latent = shared.sample(seed=1)
    again = shared.sample(seed=1)
    assert torch.equal(latent, again.latent)
    assert np.array_equal(np.asarray(image), np.asarray(again.image))
    assert image.size == (64, 64)
    assert latent.shape == (1, 16)
    assert not torch.equal(latent, shared.sample(seed=2).latent)
    mean = shared.generator.latent_mean
    assert torch.allclose(shared.sample(seed=1, truncation=0).latent[0], mean, atol=1e-6)
    full, half = (shared.sample(seed=1, truncation=psi).latent[0] for psi in (1, 0.5))
    assert torch.allclose(half - mean, (full - mean) / 2, atol=1e-6)
    unseeded = shared.sample()
    assert torch.equal(unseeded.latent, shared.sample(seed=unseeded.seed).latent)
    assert unseeded.truncation == shared.config.truncation


# -- masks ----------------------------------------------------------------------------------------------------------


def test_masks_in_any_form(masked):
    mask = torch.zeros(32, 32)
    mask[8:24, 8:24] = 1
    sample = masked.sample(seed=1)
    first = masked(sample, mask=mask)
    image = Image.fromarray((mask.numpy() * 255).astype(np.uint8))
    for form in (mask[None], mask[None, None], mask.numpy(), mask.double(), mask > 0.5, image):
        assert same(masked(sample, mask=form), first)
    assert not same(masked(sample, mask=1 - mask), first)
    both = masked([sample, sample], mask=torch.stack([mask, 1 - mask]))
    assert len(both) == 2


def test_the_alpha_channel_is_the_mask(masked):
    alpha = np.zeros((48, 48), dtype=np.uint8)
    alpha[12:36, 12:36] = 255
    seen = Image.fromarray(np.dstack([picture(), alpha]), "RGBA")
    opaque = Image.fromarray(picture())
    assert not torch.equal(masked(seen).image, masked(opaque).image)
    mask = torch.zeros(32, 32)
    mask[8:24, 8:24] = 1
    assert same(masked(seen), masked(seen, mask=mask))


@pytest.mark.parametrize(
    ("mask", "words"),
    [
        (torch.ones(16, 20), r"mask is 20 x 16 pixels, must be square: pass a mask of the same picture\."),
        (torch.ones(3, 32, 32), r"mask has shape \(3, 32, 32\), must be \(H, W\)\."),
        (torch.ones(1024), "mask has shape"),
        (torch.full((32, 32), 2.0), r"mask has values outside 0\.\.1"),
        (torch.full((32, 32), float("nan")), r"mask has values outside 0\.\.1"),
        (torch.zeros(32, 32), "mask is empty"),
        ("mask.png", r"'mask\.png' does not exist"),
    ],
)
def test_unusable_masks(masked, mask, words):
    with pytest.raises(InputError, match=words):
        masked(masked.sample(seed=1), mask=mask)


# -- what it cannot take --------------------------------------------------------------------------------------------


def truncated_png(folder):
    Image.fromarray(picture()).save(folder / "cut.png")
    data = (folder / "cut.png").read_bytes()
    (folder / "cut.png").write_bytes(data[: len(data) // 2])
    return folder / "cut.png"


def text_file(folder):
    (folder / "notes.png").write_text("not an image")
    return folder / "notes.png"


def empty_file(folder):
    (folder / "empty.jpg").touch()
    return folder / "empty.jpg"


BAD = {
    "missing": (lambda f: f / "none.png", r"none\.png' does not exist: check the path"),
    "folder": (lambda f: f, "is a folder: pass the path of an image file"),
    "truncated": (truncated_png, r"cut\.png' is corrupt or truncated"),
    "text": (text_file, r"notes\.png' is not an image in a known format"),
    "empty file": (empty_file, r"empty\.jpg' is empty"),
    "address": (lambda f: "http://127.0.0.1:9/a.png", "cannot be downloaded"),
    "one pixel": (lambda f: np.zeros((1, 1, 3), np.uint8), "1 x 1 pixels, must be at least 32"),
    "huge": (lambda f: Image.new("L", (20000, 20000)), "20000 x 20000 pixels, must have at most 80,000,000"),
    "NaN": (lambda f: np.full((64, 64, 3), np.nan), "NaN or infinite"),
    "range": (lambda f: np.full((64, 64, 3), 200.0), r"must be in 0\.\.1"),
    "shape": (lambda f: np.zeros((2, 64, 64, 3), np.uint8), "has shape"),
    "two at once": (lambda f: torch.zeros(2, 3, 64, 64), "pass one image"),
    "signed": (lambda f: np.zeros((64, 64, 3), np.int64), "int64"),
    "a number": (lambda f: 3, "of type int"),
    "nothing": (lambda f: None, "of type NoneType"),
    "empty list": (lambda f: [], "empty list"),
    "nested": (lambda f: [[picture()]], "of type list"),
    "latent of another size": (lambda f: torch.zeros(1, 512), r"latent has shape \(1, 512\), must be \(16\)"),
    "flat latent of another size": (lambda f: torch.zeros(15), r"latent has shape \(15,\)"),
    "several latents": (lambda f: torch.zeros(3, 16), "pass several as a list"),
    "other layers": (lambda f: torch.zeros(1, 18, 16), r"latent has shape \(1, 18, 16\).*\(1, 4, 16\)"),
    "NaN latent": (lambda f: torch.full((1, 16), float("nan")), "latent has values that are NaN"),
    "foreign sample": (lambda f: Sample(None, torch.zeros(1, 512), 1, 0.7), "latent has shape"),
}


@pytest.mark.parametrize("name", BAD)
def test_unusable_inputs_are_one_sentence(shared, tmp_path, name):
    make, words = BAD[name]
    given = make(tmp_path)
    seen = []
    with pytest.raises(InputError, match=words) as caught:
        shared(given, callback=lambda p: seen.append(p))
    message = str(caught.value)
    assert "\n" not in message
    assert message.endswith(".")
    assert not re.search(r"[a-z]\. [A-Z]", message), "more than one sentence"
    assert not seen


def test_the_bad_one_of_several_is_named_before_any_is_worked_on(shared):
    seen = []
    with pytest.raises(InputError, match="image 3 has values that are NaN"):
        shared([picture(), shared.sample(seed=1), np.full((64, 64, 3), np.nan)], callback=seen.append)
    assert not seen


@pytest.mark.parametrize("truncation", [-0.1, 1.5, float("nan")])
def test_truncation_out_of_range(shared, truncation):
    with pytest.raises(ValueError, match=r"truncation is .* must be (between 0 and 1|a finite number)"):
        shared.sample(seed=1, truncation=truncation)


def test_a_preset_that_is_not_there(shared):
    with pytest.raises(ConfigError, match="preset is 'slow', must be one of fast"):
        shared(shared.sample(seed=1), preset="slow")


def test_alpha_that_hides_everything(masked):
    hidden = np.dstack([picture(), np.zeros((48, 48), np.uint8)])
    with pytest.raises(InputError, match="mask is empty"):
        masked(hidden)
    # Where masks are not used, it is a grey picture like any other.
    config = dataclasses.replace(masked.config, use_mask=False)
    assert torch.isfinite(tiny_pipeline(**{"use_mask": config.use_mask})(hidden).depth).all()
