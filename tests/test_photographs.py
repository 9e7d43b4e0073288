"""Photographs end to end: any of them into the pipeline, the script and the folder script."""

import csv
import dataclasses
import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import tiny_pipeline
from PIL import Image

from gan2shape_hub import GAN2ShapePipeline, InputError
from gan2shape_hub.config import ProjectionConfig

data = pytest.importorskip("skimage.data")
ROOT = Path(__file__).resolve().parent.parent
CHECKPOINT = ROOT / "checkpoints" / "face"


@pytest.fixture(scope="module")
def astronaut():
    """A portrait, 512 x 512 (NASA, public domain)."""
    return Image.fromarray(data.astronaut())


@pytest.fixture(scope="module")
def faces():
    return tiny_pipeline(align="face")


@pytest.fixture(scope="module")
def checkpoint(faces, tmp_path_factory):
    return faces.save_pretrained(tmp_path_factory.mktemp("checkpoint") / "face")


@pytest.fixture
def script(monkeypatch):
    """``script("reconstruct")``: the module of scripts/."""
    monkeypatch.syspath_prepend(str(ROOT / "scripts"))

    def load(name):
        sys.modules.pop(name, None)
        return __import__(name)

    return load


def test_a_photograph_end_to_end(faces, astronaut):
    result = faces(astronaut)
    assert result.settings["faces"] == 1
    assert result.settings["psnr_db"] > 0
    assert result.alignment.side == pytest.approx(171, abs=6)
    assert result.source.shape[-1] == round(result.alignment.side)
    pasted = result.paste(result.relight("left", size=64))
    assert pasted.size == astronaut.size
    corner = (slice(0, 60), slice(0, 60))
    assert np.array_equal(np.asarray(pasted)[corner], np.asarray(astronaut)[corner])


def test_without_alignment_the_middle_is_taken(faces, astronaut):
    result = faces(astronaut, align=False)
    assert result.alignment.side == 512
    assert result.alignment.box is None


def test_other_categories_are_not_searched_for_faces(astronaut):
    result = tiny_pipeline()(astronaut)
    assert result.alignment.side == 512


def test_latents_have_no_photograph(faces):
    result = faces(faces.sample(seed=1))
    assert result.alignment is None
    assert result.inversion_db is None
    with pytest.raises(ValueError, match="no photograph to paste into"):
        result.paste(result.image)
    with pytest.raises(ValueError, match="no photograph to edit"):
        result.edit_photograph(yaw_deg=10)


@pytest.mark.parametrize("edit", [{"yaw_deg": 15.0}, {"light": "left"}, {"yaw_deg": 10.0, "through_gan": True}])
def test_an_edit_is_put_back_into_the_photograph(faces, astronaut, edit):
    result = faces(astronaut)
    edited = result.edit_photograph(**edit)
    assert edited.size == astronaut.size
    change = np.abs(np.asarray(edited, dtype=int) - np.asarray(astronaut, dtype=int)).max(-1)
    y, x = np.mgrid[0:512, 0:512] + 0.5
    u, v = np.einsum("ij,jhw->ihw", result.alignment.inverse, np.stack((x, y, np.ones_like(x))))
    inside = (np.minimum(u, v) > 0) & (np.maximum(u, v) < 1)
    assert change[~inside].max() == 0
    assert change[inside].max() > 10


def test_the_generators_own_picture_and_the_object_can_be_seen(faces, astronaut):
    result = faces(astronaut)
    assert result.inverted.size == (faces.generator.image_size,) * 2
    small = torch.tensor(np.asarray(result.inverted.resize((32, 32), Image.Resampling.BOX))) / 127.5 - 1
    error = (small.permute(2, 0, 1) - result.image).square().mean()
    assert result.inversion_db == pytest.approx(float(10 * torch.log10(4 / error)), abs=0.1)
    assert result.object_mask.shape == (32, 32)
    assert 0 <= result.object_mask.min() <= result.object_mask.max() <= 1


def test_a_photograph_keeps_its_latent_where_nothing_is_edited(astronaut):
    """What the inversion missed is no edit: turning by 0 degrees is the inversion's own picture."""
    projection = ProjectionConfig(space="pca", components=8, texture="image")
    pipeline = tiny_pipeline(align="face", projection=projection)
    result = pipeline(astronaut)
    moved = result.project(result.pose, result.light) - result.latent
    without = dataclasses.replace(result, alignment=None)  # taken for a generated image, which has no gap
    assert moved.norm() < 0.5 * (without.project(result.pose, result.light) - result.latent).norm()


def test_tuning_changes_a_copy(faces, astronaut):
    before = {name: value.clone() for name, value in faces.generator.state_dict().items()}
    result = faces(astronaut, tuned=True)
    assert result.editor.generator is not faces.generator
    assert all(torch.equal(value, before[name]) for name, value in faces.generator.state_dict().items())
    assert faces(astronaut).editor.generator is faces.generator


def test_unusable_photographs_are_one_sentence(faces, tmp_path):
    Image.new("RGB", (100, 100)).save(tmp_path / "black.png")
    with pytest.raises(InputError, match=r"no face was found in '.*black.png'.*--no-align") as caught:
        faces(tmp_path / "black.png")
    assert "\n" not in str(caught.value)
    with pytest.raises(InputError, match="no face was found in image 2"):
        faces([faces.sample(seed=0), Image.new("RGB", (64, 64))])


def test_the_command_line(script, checkpoint, astronaut, tmp_path, capsys):
    astronaut.save(tmp_path / "photo.png")
    common = ["--checkpoint", str(checkpoint), "--quiet", "--no-turntable", "--json", "--device", "cpu"]
    reconstruct = script("reconstruct")
    assert reconstruct.main([str(tmp_path / "photo.png"), "-o", str(tmp_path / "a"), *common]) == 0
    settings = json.loads((tmp_path / "a" / "result.json").read_text(encoding="utf-8"))
    assert settings["faces"] == 1
    Image.new("RGB", (80, 60)).save(tmp_path / "nobody.png")
    assert reconstruct.main([str(tmp_path / "nobody.png"), "-o", str(tmp_path / "b"), *common]) == 1
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert error.startswith("reconstruct: no face was found in ")
    assert reconstruct.main([str(tmp_path / "nobody.png"), "-o", str(tmp_path / "b"), "--no-align", *common]) == 0
    assert reconstruct.main([str(tmp_path / "photo.png"), "-o", str(tmp_path / "c"), "--face", "5", *common]) == 1
    assert "face_index is 5" in capsys.readouterr().err


def test_a_folder_is_resumed_and_survives_a_bad_file(script, checkpoint, astronaut, tmp_path, capsys, monkeypatch):
    photos, out = tmp_path / "photos", tmp_path / "out"
    photos.mkdir()
    astronaut.save(photos / "b.png")
    astronaut.convert("L").save(photos / "c.jpg")
    (photos / "a.jpg").write_bytes(b"no image")
    (photos / "notes.txt").write_text("not a photograph")
    folder = script("reconstruct_folder")
    command = [str(photos), "-o", str(out), "--checkpoint", str(checkpoint), "--no-turntable", "--device", "cpu"]
    assert folder.main(command) == 2
    with (out / "summary.csv").open(encoding="utf-8") as stream:
        rows = {row["file"]: row for row in csv.DictReader(stream)}
    assert {name: row["status"] for name, row in rows.items()} == {"a.jpg": "failed", "b.png": "done", "c.jpg": "done"}
    assert "not an image" in rows["a.jpg"]["note"]
    assert float(rows["b.png"]["psnr_db"]) > 0
    assert "2 of 3 reconstructed" in capsys.readouterr().out

    # Only the one that failed is tried again, and now it is there.
    astronaut.save(photos / "a.jpg")
    times = {name: (out / name / "result.json").stat().st_mtime_ns for name in ("b", "c")}
    assert folder.main(command) == 0
    assert {name: (out / name / "result.json").stat().st_mtime_ns for name in ("b", "c")} == times
    assert not (out / "a" / "error.txt").exists()
    assert "3 of 3 reconstructed" in capsys.readouterr().out


def test_a_folder_without_photographs(script, tmp_path, capsys):
    folder = script("reconstruct_folder")
    assert folder.main([str(tmp_path / "nowhere"), "-o", str(tmp_path / "out")]) == 1
    assert folder.main([str(tmp_path), "-o", str(tmp_path / "out")]) == 1
    assert "holds no photographs" in capsys.readouterr().err


def test_names_that_differ_in_the_suffix_only_do_not_collide(script, tmp_path):
    for name in ("a.jpg", "a.png", "b.JPG"):
        (tmp_path / name).touch()
    jobs = script("reconstruct_folder").find_jobs(tmp_path, tmp_path / "out")
    assert [target.name for _, target in jobs] == ["a.jpg", "a.png", "b"]


@pytest.mark.slow
@pytest.mark.skipif(not (CHECKPOINT / "model_index.json").exists(), reason="the face checkpoint is not built")
def test_inversion_reaches_its_targets(astronaut):
    """At 128 pixels: 25 dB as the mean of 20 generated faces, 20 dB on a photograph, 24 dB with tuning."""
    import time

    from gan2shape_hub.stages.align import align_face
    from gan2shape_hub.stages.invert import invert, tune
    from gan2shape_hub.stages.prepare import prepare_square

    pipeline = GAN2ShapePipeline.from_pretrained(CHECKPOINT, device="cpu")
    schedule = pipeline.config.schedule()
    run = pipeline._run(schedule, torch.Generator().manual_seed(0), None, photographs=1, count=1)
    found = []
    for seed in range(20):
        image = pipeline.generator.image_at(pipeline.sample(seed=seed).latent, 128).clamp(-1, 1)
        begun = time.perf_counter()
        found.append(invert(image, schedule.invert_iterations, run).psnr_db)
        print(f"seed {seed}: {found[-1]:.2f} dB in {time.perf_counter() - begun:.0f} s")
    print(f"mean {np.mean(found):.2f} dB")
    image = prepare_square(align_face(astronaut).square, 128).image
    photograph = invert(image, schedule.invert_iterations, run)
    print(f"astronaut {photograph.psnr_db:.2f} dB")
    from gan2shape_hub.records import Targets

    targets = Targets(image, photograph.latent, photograph.image)
    begun = time.perf_counter()
    _, _, (tuned,) = tune(targets, [True], run)
    print(f"tuned {tuned:.2f} dB in {time.perf_counter() - begun:.0f} s")
    assert np.mean(found) >= 25
    assert photograph.psnr_db >= 20
    assert tuned >= 24
