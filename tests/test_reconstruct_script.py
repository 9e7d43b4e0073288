"""scripts/reconstruct.py as it is used: in a process of its own, with a tiny checkpoint."""

import importlib.util
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from conftest import tiny_config, tiny_pipeline
from PIL import Image

from gan2shape_hub.config import RoundConfig, ScheduleConfig

SCRIPT = Path(__file__).resolve().parent.parent / "scripts" / "reconstruct.py"


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    endless = ScheduleConfig(rounds=(RoundConfig(100_000, 0, 0),), batch_size=2)
    schedules = {"fast": tiny_config().schedules["fast"], "endless": endless}
    folder = tmp_path_factory.mktemp("checkpoint") / "tiny"
    return tiny_pipeline(schedules=schedules).save_pretrained(folder)


@pytest.fixture(scope="module")
def script():
    spec = importlib.util.spec_from_file_location("reconstruct_script", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def start(checkpoint, *arguments):
    command = [sys.executable, str(SCRIPT), "--checkpoint", str(checkpoint), "--device", "cpu", *map(str, arguments)]
    return subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"},
        # A shell that runs the tests in the background has its children ignore Ctrl-C.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )


def run(checkpoint, *arguments):
    process = start(checkpoint, *arguments)
    out, err = process.communicate(timeout=200)
    return process.returncode, out, err


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
    assert "Step 3: shape from all views 2/2" in stderr
    assert "100%" in stderr
    assert "Traceback" not in stderr
    assert "Warning" not in stderr
    assert leftovers(tmp_path / "new") == ["out"]


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
    process = start(checkpoint, "--seed", 1, "--preset", "endless", "--output", tmp_path / "out")
    seen = ""
    try:
        while "Step 1" not in seen:
            seen += process.stderr.read(1)
            assert process.poll() is None, seen
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=100)
    finally:
        process.kill()
    assert process.returncode == 130
    assert out == ""
    assert err.splitlines()[-1] == "reconstruct: stopped: nothing half-written was left."
    assert "Traceback" not in err
    assert leftovers(tmp_path) == []


# -- without a process of its own -------------------------------------------------------------------------------------


def fails(script, capsys, checkpoint, *arguments):
    """The one line that is said."""
    code = script.main([*map(str, arguments), "--checkpoint", str(checkpoint), "--quiet", "--device", "cpu"])
    assert code == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1, err
    return err


def test_an_output_that_cannot_be_written_is_told_before_the_run(script, capsys, checkpoint, tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    for place in (tmp_path / "file", tmp_path / "file" / "out"):
        assert "file' is a file): choose another folder" in fails(script, capsys, checkpoint, "--seed", 1, "-o", place)
    monkeypatch.setattr(os, "access", lambda path, mode: False)  # root may write everywhere
    assert "no permission in" in fails(script, capsys, checkpoint, "--seed", 1, "-o", tmp_path / "out")
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
def test_mistakes_are_told_before_the_run(script, capsys, checkpoint, tmp_path, options, words):
    code = script.main(["--seed", "1", "-o", str(tmp_path / "out"), "--checkpoint", str(checkpoint), *options])
    err = capsys.readouterr().err
    assert code == 1
    assert words in err
    assert err.count("\n") == 1
    assert leftovers(tmp_path) == []


def test_checkpoints_that_are_none(script, capsys, checkpoint, tmp_path):
    (tmp_path / "empty").mkdir()
    error = fails(script, capsys, tmp_path / "empty", "--seed", 1, "-o", tmp_path / "out")
    assert "empty" in error
    damaged = tmp_path / "damaged"
    tiny_pipeline().save_pretrained(damaged)
    weights = damaged / "depth_net" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    assert "truncated" in fails(script, capsys, damaged, "--seed", 1, "-o", tmp_path / "out")
    text = (checkpoint / "config.json").read_text().replace('"fov_deg"', '"fov"')
    (damaged / "config.json").write_text(text)
    assert "unknown key 'camera.fov'" in fails(script, capsys, damaged, "--seed", 1, "-o", tmp_path / "out")
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
def test_arguments_that_make_no_sense(script, capsys, arguments):
    with pytest.raises(SystemExit) as caught:
        script.main(arguments)
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
def test_views_may_start_with_a_minus(script, given, wanted):
    assert script.parse_arguments(["--seed", "1", "-o", "out", *given]).views == wanted


def test_the_examples_in_the_help_are_arguments(script):
    lines = [line.split("reconstruct.py ")[1] for line in script.__doc__.splitlines() if "reconstruct.py " in line]
    assert len(lines) >= 4
    for line in lines:
        options = script.parse_arguments(line.split("   ")[0].split())
        assert options.output == "out/"
