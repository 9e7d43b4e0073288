"""The wheel, built and installed where there is no clone: the command reconstructs in an empty folder."""

import os
import re
import shutil
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest
from conftest import tiny_pipeline

ROOT = Path(__file__).resolve().parent.parent
PIP = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    """Built from a copy, so that nothing is left in the clone."""
    source = tmp_path_factory.mktemp("source")
    for name in ("pyproject.toml", "README.md", "LICENSE", "NOTICE"):
        shutil.copy(ROOT / name, source)
    shutil.copytree(
        ROOT / "gan2shape_hub", source / "gan2shape_hub", ignore=shutil.ignore_patterns("__pycache__", "*.egg-info")
    )
    command = [*PIP, "wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", str(source / "dist"), str(source)]
    subprocess.run(command, check=True, timeout=120)
    (built,) = (source / "dist").glob("*.whl")
    return built


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory) -> Path:
    """Folder of the commands of an environment of its own, which sees this one's packages after its own."""
    environment = tmp_path_factory.mktemp("environment") / "venv"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", environment], check=True, timeout=60)
    python = environment / "bin" / "python"
    subprocess.run([*PIP, "--python", str(python), "install", "--no-deps", str(wheel)], check=True, timeout=120)
    (packages,) = environment.glob("lib/python*/site-packages")
    ours = {sysconfig.get_path("purelib"), sysconfig.get_path("platlib")}
    (packages / "these.pth").write_text("\n".join(sorted(ours)) + "\n")  # .pth files in there (this clone) do not count
    return environment / "bin"


def run(installed: Path, folder: Path, *arguments: str) -> subprocess.CompletedProcess:
    environment = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "GAN2SHAPE_CHECKPOINT")}
    command = [str(installed / "gan2shape"), *arguments]
    return subprocess.run(
        command, capture_output=True, text=True, cwd=folder, env=environment, timeout=120, check=False
    )


def test_the_wheel_holds_what_it_needs_and_nothing_else(wheel):
    names = zipfile.ZipFile(wheel).namelist()
    assert {re.split(r"[-/]", name)[0] for name in names} == {"gan2shape_hub"}
    assert "gan2shape_hub/py.typed" in names
    assert {"gan2shape_hub/demo/examples/faces.json", "gan2shape_hub/demo/assets/model-viewer.min.js"} <= set(names)
    assert any(name.startswith("gan2shape_hub/models/data/") for name in names)
    shipped = {name for name in names if name.endswith(".py")}
    assert shipped == {f.relative_to(ROOT).as_posix() for f in (ROOT / "gan2shape_hub").rglob("*.py")}


def test_the_command_reconstructs_in_an_empty_folder(installed, tmp_path):
    checkpoint = tiny_pipeline().save_pretrained(tmp_path / "tiny")
    here = tmp_path / "empty"
    here.mkdir()
    told = run(installed, here, "--help")
    assert told.returncode == 0, told.stderr
    assert "reconstruct" in told.stdout
    options = ["--seed", "1", "--preset", "fast", "--no-turntable", "--quiet", "--device", "cpu", "--output", "out"]
    done = run(installed, here, "reconstruct", "--checkpoint", str(checkpoint), *options)
    assert done.returncode == 0, done.stderr
    assert {"mesh.glb", "mesh.obj", "mesh.ply", "depth.npy", "result.json"} <= {
        p.name for p in (here / "out").iterdir()
    }


def test_a_space_installs_the_dependencies_and_the_demo():
    tomllib = pytest.importorskip("tomllib")  # Python 3.11 and later
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    lines = (ROOT / "requirements.txt").read_text(encoding="utf-8").splitlines()
    wanted = project["dependencies"] + project["optional-dependencies"]["demo"]
    assert [line for line in lines if line and not line.startswith("#")] == wanted
