"""``gan2shape reconstruct`` in a process of its own, with a tiny checkpoint."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from children import Child
from conftest import tiny_config, tiny_pipeline
from PIL import Image

from gan2shape_hub.arguments import require
from gan2shape_hub.cli import main, reconstruct
from gan2shape_hub.cli.common import Pace, progress
from gan2shape_hub.config import RoundConfig, ScheduleConfig


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    endless = ScheduleConfig(rounds=(RoundConfig(100_000, 0, 0),), batch_size=2)
    schedules = {"fast": tiny_config().schedules["fast"], "endless": endless}
    folder = tmp_path_factory.mktemp("checkpoint") / "tiny"
    return tiny_pipeline(schedules=schedules).save_pretrained(folder)


def start(checkpoint, *arguments):
    return Child(main, ["reconstruct", "--checkpoint", str(checkpoint), "--device", "cpu", *map(str, arguments)])


def run(checkpoint, *arguments):
    return start(checkpoint, *arguments).wait()


def leftovers(folder):
    return sorted(p.name for p in folder.iterdir())


def test_a_generated_face_with_everything(checkpoint, tmp_path):
    out = tmp_path / "new" / "out"
    options = ("--views", "-30,0,12.5", "--light", "left", "--light", "rim", "--run-seed", 3, "--no-turntable")
    code, stdout, stderr = run(checkpoint, "--seed", 7, "--output", out, "--json", *options)
    assert code == 0, stderr
    report = json.loads(stdout)  # nothing else on standard output
    assert report["output"] == str(out)
    assert report["seed"] == 3
    assert report["preset"] == "fast"
    assert set(report["files"]) == {p.name for p in out.iterdir()}
    edits = {"rotated_-30.png", "rotated_+0.png", "rotated_+12.5.png", "relit_left.png", "relit_rim.png"}
    assert {"mesh.glb", "depth.npy", "result.json", "contact_sheet.png", *edits} <= set(report["files"])
    for name in edits:
        with Image.open(out / name) as picture:
            assert picture.size == (64, 64)
    told = json.loads((out / "result.json").read_text())
    assert (told["sample_seed"], told["seed"], told["truncation"]) == (7, 3, 0.7)
    assert told["checkpoint"] == str(checkpoint)
    assert "Step 3: shape from all views 1/2" in stderr
    assert [line for line in stderr.splitlines() if line[:4] in ("  0%", "100%")] == [
        *("  0% Loading the checkpoint", "  0% Looking at the picture", "100% Saved")
    ]
    assert " 90% Saving" in stderr
    assert "Traceback" not in stderr
    assert "Warning" not in stderr
    assert leftovers(tmp_path / "new") == ["out"]
    (out / "note.txt").write_text("mine")
    code, _, stderr = run(checkpoint, "--seed", 8, "--output", out, "--light", "left", "--no-turntable", "--quiet")
    assert code == 0, stderr
    left = {p.name for p in out.iterdir()}
    assert left & {*edits, "note.txt"} == {"relit_left.png", "note.txt"}, "two runs are mixed"


def test_a_photograph(checkpoint, tmp_path):
    photo = tmp_path / "photo.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (40, 52, 3), dtype=np.uint8)).save(photo)
    code, stdout, stderr = run(checkpoint, photo, "-o", tmp_path / "out", "--no-turntable", "--quiet")
    assert code == 0, stderr
    assert stdout.startswith(f"{tmp_path / 'out'}: ")
    told = json.loads((tmp_path / "out" / "result.json").read_text())
    assert told["image"] == str(photo)
    assert told["psnr_db"] is not None
    # What is worth a warning is a line, without Python's file names.
    assert all(line.startswith("reconstruct: ") for line in stderr.splitlines()), stderr


@pytest.mark.parametrize("bad", ["missing", "not an image"])
def test_an_unusable_file_is_one_line_and_leaves_nothing(checkpoint, tmp_path, bad):
    photo = tmp_path / "photo.png"
    if bad == "not an image":
        photo.write_text("hello")
    before = leftovers(tmp_path)
    code, stdout, stderr = run(checkpoint, photo, "--output", tmp_path / "out")
    assert code == 1
    assert stdout == ""
    assert stderr.count("\n") == 1
    assert stderr.startswith(f"reconstruct: '{photo}' ")
    assert leftovers(tmp_path) == before


def test_ctrl_c_leaves_nothing_half_written(checkpoint, tmp_path):
    child = start(checkpoint, "--seed", 1, "--preset", "endless", "--output", tmp_path / "out")
    while "Step 1" not in child.err.read_text():
        assert child.process.is_alive(), child.err.read_text()
        time.sleep(0.02)
    os.kill(child.process.pid, signal.SIGINT)
    code, out, err = child.wait()
    assert code == 130
    assert out == ""
    assert err.splitlines()[-1] == "reconstruct: stopped: nothing half-written was left."
    assert "Traceback" not in err
    assert leftovers(tmp_path) == []


# -- without a process of its own -------------------------------------------------------------------------------------


def fails(capsys, checkpoint, *arguments):
    """The one line that is said."""
    code = reconstruct.main([*map(str, arguments), "--checkpoint", str(checkpoint), "--quiet", "--device", "cpu"])
    assert code == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1, err
    return err


def test_an_output_that_cannot_be_written_is_told_before_the_run(capsys, checkpoint, tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    for place in (tmp_path / "file", tmp_path / "file" / "out"):
        assert "file' is a file): choose another folder" in fails(capsys, checkpoint, "--seed", 1, "-o", place)
    monkeypatch.setattr(os, "access", lambda path, mode: False)  # root may write everywhere
    assert "no permission in" in fails(capsys, checkpoint, "--seed", 1, "-o", tmp_path / "out")
    assert leftovers(tmp_path) == ["file"]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--light", "moon"), "light preset is 'moon', must be one of left, "),
        (("--preset", "slow"), "preset is 'slow', must be one of endless, fast"),
        (("--truncation", "3"), "truncation is 3.0, must be between 0 and 1"),
        (("--device", "gpu"), "device is 'gpu'"),
    ],
)
def test_mistakes_are_told_before_the_run(capsys, checkpoint, tmp_path, options, words):
    code = reconstruct.main(["--seed", "1", "-o", str(tmp_path / "out"), "--checkpoint", str(checkpoint), *options])
    err = capsys.readouterr().err
    assert code == 1
    assert words in err
    assert err.count("\n") == 1
    assert leftovers(tmp_path) == []


def test_checkpoints_that_are_none(capsys, checkpoint, tmp_path):
    (tmp_path / "empty").mkdir()
    error = fails(capsys, tmp_path / "empty", "--seed", 1, "-o", tmp_path / "out")
    assert "empty" in error
    damaged = tmp_path / "damaged"
    tiny_pipeline().save_pretrained(damaged)
    weights = damaged / "depth_net" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    assert "truncated" in fails(capsys, damaged, "--seed", 1, "-o", tmp_path / "out")
    text = (checkpoint / "config.json").read_text().replace('"fov_deg"', '"fov"')
    (damaged / "config.json").write_text(text)
    assert "unknown key 'camera.fov'" in fails(capsys, damaged, "--seed", 1, "-o", tmp_path / "out")
    assert leftovers(tmp_path) == ["damaged", "empty"]


@pytest.mark.parametrize(
    "arguments",
    [
        ["-o", "out"],
        ["a.png", "--seed", "1", "-o", "out"],
        ["--seed", "1"],
        ["--seed", "-1", "-o", "out"],
        ["--seed", str(2**64), "-o", "out"],
        ["--seed", "1", "-o", "out", "--views", "left"],
        ["--seed", "1", "-o", "out", "--views", "nan"],
        ["--seed", "1", "-o", "out", "--views"],
    ],
)
def test_arguments_that_make_no_sense(capsys, arguments):
    with pytest.raises(SystemExit) as caught:
        reconstruct.main(arguments)
    assert caught.value.code == 2
    assert "usage: " in capsys.readouterr().err


@pytest.mark.parametrize(
    ("given", "wanted"),
    [
        (["--views", "-30,0,30"], [-30, 0, 30]),
        (["--views=-30,0"], [-30, 0]),
        (["--views", "-.5"], [-0.5]),
        (["--views", "10"], [10]),
        ([], []),
    ],
)
def test_views_may_start_with_a_minus(given, wanted):
    assert reconstruct.parse_arguments(["--seed", "1", "-o", "out", *given]).views == wanted


def test_the_examples_in_the_help_are_arguments():
    program = "gan2shape reconstruct "
    lines = [line.split(program)[1] for line in reconstruct.__doc__.splitlines() if program in line]
    assert len(lines) >= 4
    for line in lines:
        options = reconstruct.parse_arguments(line.split("   ")[0].split())
        assert options.output == Path("out")


def test_mistakes_are_told_before_the_weights_are_read(capsys, checkpoint, tmp_path):
    """The checkpoint's configuration alone is enough for that."""
    bare = tmp_path / "bare"
    bare.mkdir()
    (bare / "config.json").write_bytes((checkpoint / "config.json").read_bytes())
    out = tmp_path / "out"
    assert "preset is 'slow'" in fails(capsys, bare, "--seed", 1, "-o", out, "--preset", "slow")
    assert "absent.png' does not exist" in fails(capsys, bare, tmp_path / "absent.png", "-o", out)
    assert "model_index.json is missing" in fails(capsys, bare, "--seed", 1, "-o", out)  # only now


def test_without_a_checkpoint_one_sentence_says_what_to_do(capsys, tmp_path, monkeypatch):
    monkeypatch.delenv("GAN2SHAPE_CHECKPOINT", raising=False)
    monkeypatch.setattr("gan2shape_hub.hub.default.BESIDE", tmp_path)
    monkeypatch.chdir(tmp_path)
    assert reconstruct.main(["--seed", "1", "-o", "out"]) == 1
    assert capsys.readouterr().err.startswith("reconstruct: no checkpoint was named and checkpoints/face is not here: ")


def test_help_names_every_preset_and_needs_no_networks():
    program = [sys.executable, "-X", "importtime", "-c", "from gan2shape_hub.cli import main; main()"]
    done = subprocess.run([*program, "reconstruct", "--help"], capture_output=True, text=True, timeout=60, check=True)
    assert "instant, fast, balanced or paper" in " ".join(done.stdout.split())
    assert not re.search(r"\| +torch$", done.stderr, re.MULTILINE)
    assert re.search(r"\| +gan2shape_hub$", done.stderr, re.MULTILINE)


@pytest.mark.parametrize("terminal", [True, False])
def test_progress_is_one_line_on_a_terminal_and_few_in_a_file(capsys, monkeypatch, terminal):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: terminal, raising=False)
    with progress() as show:
        for step in range(1, 5):
            show(step / 4, "step 1" if step < 3 else "step 2", f"{step}/4")
    err = capsys.readouterr().err
    assert err.count("\n") == (1 if terminal else 3)
    assert err.split("\n")[-2].lstrip("\r").split("\r")[-1].startswith("100% step 2 4/4")
    with progress(quiet=True) as show:
        show(1, "step 1")
    assert capsys.readouterr().err == ""


def test_what_is_left_is_told_once_it_is_known():
    seconds = iter([0, 100, 101, 110, 130, 190])
    pace = Pace(lambda: next(seconds))
    assert pace.left(0) is None, "loading is no part of the pace"
    assert pace.left(0.01) is None
    assert pace.left(0.02) is None, "too early to say"
    assert pace.left(0.11) == pytest.approx(89)
    assert pace.left(0.31) == pytest.approx(69)
    assert pace.left(1) is None


def test_what_an_extra_has_is_named():
    require("torch", "demo", "the demo")
    with pytest.raises(ImportError, match=r"the demo needs nowhere_to_be_found: pip install 'gan2shape-hub\[demo\]'"):
        require("nowhere_to_be_found", "demo", "the demo")
