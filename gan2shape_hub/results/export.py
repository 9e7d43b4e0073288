"""Everything a reconstruction is saved as, in one folder that appears whole or not at all."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import torch
from PIL import Image

from gan2shape_hub.arguments import user_path
from gan2shape_hub.atomic import atomic_folder
from gan2shape_hub.config import CameraConfig
from gan2shape_hub.rendering.shading import normals_from_depth
from gan2shape_hub.results import image_files, mesh_files
from gan2shape_hub.results.animation import check_video, write_animation
from gan2shape_hub.results.contact_sheet import contact_sheet
from gan2shape_hub.results.edit import rotate_poses
from gan2shape_hub.results.mesh_files import HEIGHT_MM
from gan2shape_hub.results.model import Model, ModelOptions
from gan2shape_hub.results.viewer import Viewer
from gan2shape_hub.results.views import PATHS, frame_poses, middle, model_picture, turntable_frames

FILES = frozenset(
    {
        *("mesh.glb", "mesh.obj", "mesh.mtl", "mesh.png", "mesh.ply", "mesh.stl", "mesh.3mf", "poster.png"),
        *("depth.npy", "depth.png", "normals.png", "mask.png", "albedo.png", "input.png", "reconstruction.png"),
        *("contact_sheet.png", "turntable.mp4", "turntable.webp", "result.json"),
    }
)
"""All that an export may write: an older one's are gone when a newer one is there."""
EDITS = frozenset(f"{where}{what}.png" for where in ("", "photograph_") for what in ("rotated_[-+]*", "relit_*"))
"""Names of the pictures that the command line adds."""
POSTER, POSTER_YAW = 640, -25.0
"""Side of the poster in pixels, and how far its model is turned, degrees."""


@dataclass(frozen=True)
class ExportOptions:
    """What is saved besides the maps. MissingPackage: an MP4 is asked for and there is no PyAV."""

    model: ModelOptions = field(default_factory=ModelOptions)
    height_mm: float = HEIGHT_MM
    """Of STL and 3MF, which closed shapes get."""
    turntable: bool = True
    """Also draw the turntable, the slowest part."""
    path: str = "turn"
    """How it moves (`PATHS`)."""
    video: bool | None = None
    """True: turntable.mp4, False: turntable.webp; None: MP4 where PyAV is installed."""

    def __post_init__(self) -> None:
        if not self.height_mm > 0:
            raise ValueError(f"height_mm is {self.height_mm}, must be above 0.")
        if self.path not in PATHS:
            raise ValueError(f"path is '{self.path}', must be one of {', '.join(PATHS)}.")
        if self.turntable and self.video:
            check_video()


@torch.no_grad()
def export_scene(
    folder: str | Path,
    viewer: Viewer,
    options: ExportOptions | None = None,
    *,
    result_json: str | None = None,
    yaw_limit_deg: float = 45.0,
    pictures: Mapping[str, Image.Image] | None = None,
) -> list[Path]:
    """Save a reconstruction.

    Args:
        folder: made if missing, ``~`` is the home folder; the files of an earlier run are replaced in one step, others
            are left alone.
        viewer: what to save.
        options: in which form; None: the front, with its turntable.
        result_json: text of ``result.json``; None leaves it out.
        yaw_limit_deg: how far the turntable swings to each side.
        pictures: name of a file -> further picture, of an edit; those that an earlier run of the command line wrote
            (`EDITS`) go where there are any.

    Returns:
        The files: mesh.glb, mesh.obj with mesh.mtl and mesh.png, mesh.ply, of closed shapes mesh.stl and mesh.3mf;
        depth.npy (larger is further) and depth.png (near is bright, its scale in its text fields), both seen from the
        input's viewpoint; normals.png and mask.png of the same view; albedo.png (canonical); input.png,
        reconstruction.png, contact_sheet.png, poster.png; the turntable; result.json; ``pictures``.

    Raises:
        ExportError: one sentence naming the path and the remedy. Nothing half-written is left, as on Ctrl-C.
    """
    folder, options = user_path(folder), options or ExportOptions()
    camera = viewer.camera
    depth, mask = viewer.seen[0], viewer.seen[1] if options.model.background else viewer.object_seen
    maps = {
        "normals": image_files.normals_to_pil(normals_from_depth(depth[None], camera), mask),
        "mask": image_files.mask_to_pil(mask),
        "albedo": image_files.to_pil(viewer.albedo),
        "input": image_files.to_pil(viewer.source),
        "reconstruction": image_files.to_pil(viewer.reconstruction),
    }
    # Two halves of about as much work: the model and frames of the turntable here, pages and files beside it.
    own = FILES if pictures is None else FILES | EDITS
    with atomic_folder(folder, own=own) as part, ThreadPoolExecutor(1) as writer:
        for name, picture in (pictures or {}).items():
            image_files.write_image(part / name, picture)
        jobs = [
            writer.submit(image_files.write_depth_npy, part / "depth.npy", depth),
            writer.submit(image_files.write_depth_png, part / "depth.png", depth, mask=mask),
            *(writer.submit(image_files.write_image, part / f"{name}.png", it) for name, it in maps.items()),
        ]
        model = viewer.model(options.model)
        normal_map = None if model.normal_map is None else image_files.to_pil(model.normal_map)
        jobs.append(writer.submit(_write_meshes, part, model, camera, normal_map))
        if options.model.closed:
            jobs.append(writer.submit(mesh_files.write_stl, part / "mesh.stl", model.body, camera, options.height_mm))
            jobs.append(writer.submit(mesh_files.write_3mf, part / "mesh.3mf", model.body, camera, options.height_mm))
        jobs.append(writer.submit(_write_pages, part, viewer, model))
        if options.turntable:
            frames = turntable_frames(model, camera, yaw_limit_deg=yaw_limit_deg, path=options.path)
            write_animation(part / "turntable.mp4", frames, fps=16, video=options.video)
        if result_json is not None:
            (part / "result.json").write_text(result_json, encoding="utf-8")
        for job in jobs:
            job.result()
        names = sorted(file.name for file in part.iterdir())
    return [folder / name for name in names]


def _write_meshes(folder: Path, model: Model, camera: CameraConfig, normal_map: Image.Image | None) -> None:
    mesh, texture = model.mesh, model.picture
    png = mesh_files.texture_png(texture)
    mesh_files.write_glb(folder / "mesh.glb", mesh, texture, camera, png=png, normal_map=normal_map)
    mesh_files.write_obj(folder / "mesh.obj", mesh, texture, camera, png=png)
    mesh_files.write_ply(folder / "mesh.ply", mesh, texture, camera)


@torch.no_grad()
def _write_pages(folder: Path, viewer: Viewer, model: Model) -> None:
    image_files.write_image(folder / "contact_sheet.png", contact_sheet(viewer, model))
    image_files.write_image(folder / "poster.png", poster(model, viewer.camera))


def poster(model: Model, camera: CameraConfig) -> Image.Image:
    """One picture that shows what the model is."""
    pose = rotate_poses([(POSTER_YAW, 0.0)], camera, pivot=middle(model.body))
    return model_picture(model, frame_poses(pose, model.body, camera), camera, POSTER)
