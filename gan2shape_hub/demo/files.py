"""The files that a visitor can take away, made one after the other, the quick ones first."""

from __future__ import annotations

import json
import shlex
import shutil
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import trimesh
from PIL import Image

from gan2shape_hub.atomic import atomic_file
from gan2shape_hub.demo.shelf import ROOT
from gan2shape_hub.demo.work import Finished
from gan2shape_hub.rendering import normals_from_depth
from gan2shape_hub.rendering.mesh_renderer import CLAY
from gan2shape_hub.results.animation import video_available, write_animation
from gan2shape_hub.results.contact_sheet import contact_sheet
from gan2shape_hub.results.image_files import (
    depth_to_pil,
    mask_to_pil,
    normals_to_pil,
    to_pil,
    write_depth_npy,
    write_depth_png,
    write_image,
)
from gan2shape_hub.results.mesh import SheetMesh, build_mesh, to_trimesh
from gan2shape_hub.results.mesh_files import write_glb, write_obj, write_ply, zip_files
from gan2shape_hub.results.views import turntable_frames

TURNTABLE_FPS = 16


@dataclass(frozen=True)
class Download:
    """One button: what it is called, the file's name, how it is made."""

    key: str
    label: str
    file: str
    make: Callable[[Finished, Path], Any]


def glb(finished: Finished, path: Path) -> None:
    result = finished.result
    write_glb(path, result.sheet, to_pil(result.texture), result.config.camera)


def viewer_glb(finished: Finished, path: Path) -> None:
    """The model for the page's viewer: a quarter of the download's faces, for phones, and without light. The texture
    is lit as the photograph is, and the viewer's own surroundings would tint it."""
    result = finished.result
    mesh = to_trimesh(_light_sheet(finished), to_pil(result.texture), result.config.camera)
    data = trimesh.exchange.gltf.export_glb(mesh, include_normals=True, tree_postprocessor=_without_light)
    with atomic_file(path) as part:
        part.write_bytes(data)


def _without_light(tree: dict[str, Any]) -> None:
    tree["extensionsUsed"] = [*tree.get("extensionsUsed", []), "KHR_materials_unlit"]
    for material in tree["materials"]:
        material["extensions"] = {"KHR_materials_unlit": {}}


def clay_glb(finished: Finished, path: Path) -> None:
    """The bare shape, for the viewer."""
    colour = Image.new("RGB", (8, 8), tuple(round(255 * channel) for channel in CLAY))
    write_glb(path, _light_sheet(finished), colour, finished.result.config.camera)


def _light_sheet(finished: Finished) -> SheetMesh:
    return build_mesh(finished.result.depth, finished.result.config.camera, upsample=1)


def obj_zip(finished: Finished, path: Path) -> None:
    result = finished.result
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        files = write_obj(Path(folder) / "model.obj", result.sheet, to_pil(result.texture), result.config.camera)
        zip_files(path, files)


def ply(finished: Finished, path: Path) -> None:
    result = finished.result
    write_ply(path, result.sheet, to_pil(result.texture), result.config.camera)


def depth_picture(finished: Finished) -> Image.Image:
    result = finished.result
    return depth_to_pil(result.view_depth, result.mask)


def normals_picture(finished: Finished) -> Image.Image:
    result = finished.result
    return normals_to_pil(normals_from_depth(result.view_depth[None], result.config.camera))


def maps_zip(finished: Finished, path: Path) -> None:
    result = finished.result
    with tempfile.TemporaryDirectory(dir=path.parent) as name:
        folder = Path(name)
        write_depth_png(folder / "depth.png", result.view_depth, mask=result.mask)
        write_depth_npy(folder / "depth.npy", result.view_depth)
        write_image(folder / "depth_coloured.png", depth_picture(finished))
        write_image(folder / "normals.png", normals_picture(finished))
        write_image(folder / "mask.png", mask_to_pil(result.mask))
        write_image(folder / "albedo.png", to_pil(result.albedo))
        write_image(folder / "texture.png", to_pil(result.texture))
        write_image(folder / "input.png", to_pil(result.source))
        write_image(folder / "reconstruction.png", to_pil(result.reconstruction))
        zip_files(path, tuple(sorted(folder.iterdir())))


def turntable(finished: Finished, path: Path) -> None:
    result = finished.result
    frames = turntable_frames(
        result.sheet, result.texture, result.config.camera, yaw_limit_deg=result.config.rotation_limit_deg[0]
    )
    write_animation(path, frames, fps=TURNTABLE_FPS, video=path.suffix == ".mp4")


def sheet_of_contacts(finished: Finished, path: Path) -> None:
    write_image(path, contact_sheet(finished.result.viewer))


def settings(finished: Finished, path: Path | None = None) -> dict[str, Any]:
    """Everything that repeats the run, with the command line that does; also written to ``path``."""
    told = {"command": command(finished), "checkpoint": finished.checkpoint, **finished.result.report.to_dict()}
    if finished.subject.is_photograph:
        told["image"] = finished.subject.name
    if path is not None:
        with atomic_file(path) as part:
            part.write_text(json.dumps(told, indent=2, default=str) + "\n", encoding="utf-8")
    return told


def command(finished: Finished) -> str:
    """The command, run in a clone of the repository, that repeats the run."""
    subject, options = finished.subject, finished.options
    folder = Path(finished.checkpoint)
    inside = folder.is_absolute() and ROOT in folder.parents
    checkpoint = folder.relative_to(ROOT).as_posix() if inside else finished.checkpoint
    if subject.is_photograph:
        words = [subject.name]
        words += ["--face", str(subject.face_index)] if subject.face_index else []
        words += [] if subject.align else ["--no-align"]
        words += ["--tune"] if options["tuned"] else []
    else:
        words = ["--seed", str(subject.item.seed), "--truncation", f"{subject.item.truncation:g}"]
    words += ["--checkpoint", checkpoint, "--preset", options["preset"], "--run-seed", str(options["seed"])]
    return shlex.join(["gan2shape", "reconstruct", *words, "--output", "out/"])


DOWNLOADS = (
    Download("glb", "GLB", "model.glb", glb),
    Download("settings", "Settings", "settings.json", settings),
    Download("ply", "PLY", "model.ply", ply),
    Download("obj", "OBJ (zip)", "model_obj.zip", obj_zip),
    Download("maps", "Maps (zip)", "maps.zip", maps_zip),
    Download("turntable", "Turntable", "turntable.mp4", turntable),
    Download("contact", "Contact sheet", "contact_sheet.png", sheet_of_contacts),
)
"""In the order in which they are made."""


def file_of(finished: Finished, folder: Path, download: Download) -> Path:
    """The file of a download, made where it is not there yet. Each result has a folder of its own."""
    name = download.file
    if download.key == "turntable" and not video_available():
        name = "turntable.webp"
    path = folder / finished.id / name
    if not path.exists():
        path.parent.mkdir(mode=0o700, exist_ok=True)
        download.make(finished, path)
    return path


def viewer_file(finished: Finished, folder: Path, *, textured: bool = True) -> Path:
    """What the viewer shows: the model with its texture, or its bare shape."""
    name, make = ("view.glb", viewer_glb) if textured else ("shape.glb", clay_glb)
    return file_of(finished, folder, Download("viewer", "", name, make))


def make_all(finished: Finished, folder: Path, wanted: Callable[[], bool]) -> Iterator[tuple[Download, Path]]:
    """Every download as it is ready; ends early when ``wanted`` says no (the visitor left, or has a new result)."""
    for download in DOWNLOADS:
        if not wanted():
            return
        try:
            path = file_of(finished, folder, download)
        except OSError:
            if folder.is_dir():
                raise
            return  # the session ended meanwhile and took its folder along
        yield download, path


def forget_older(finished: Finished, folder: Path) -> None:
    """Remove the files of the session's earlier results."""
    for old in folder.iterdir():
        if old.is_dir() and old.name != finished.id:
            shutil.rmtree(old, ignore_errors=True)
