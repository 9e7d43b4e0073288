"""Everything a reconstruction is saved as, in one folder that appears whole or not at all."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from PIL import Image

from gan2shape_hub.arguments import user_path
from gan2shape_hub.atomic import atomic_folder
from gan2shape_hub.rendering.shading import normals_from_depth
from gan2shape_hub.results import image_files, mesh_files
from gan2shape_hub.results.animation import check_video, write_animation
from gan2shape_hub.results.contact_sheet import contact_sheet
from gan2shape_hub.results.viewer import Viewer
from gan2shape_hub.results.views import turntable_frames

FILES = frozenset(
    {
        *("mesh.glb", "mesh.obj", "mesh.mtl", "mesh.png", "mesh.ply", "depth.npy", "depth.png", "normals.png"),
        *("mask.png", "albedo.png", "input.png", "reconstruction.png", "contact_sheet.png"),
        *("turntable.mp4", "turntable.webp", "result.json"),
    }
)
"""All that an export may write: an older one's are gone when a newer one is there."""
EDITS = frozenset(f"{where}{what}.png" for where in ("", "photograph_") for what in ("rotated_[-+]*", "relit_*"))
"""Names of the pictures that the command line adds."""


@torch.no_grad()
def export_scene(
    folder: str | Path,
    viewer: Viewer,
    *,
    result_json: str | None = None,
    turntable: bool = True,
    video: bool | None = None,
    yaw_limit_deg: float = 45.0,
    pictures: Mapping[str, Image.Image] | None = None,
) -> list[Path]:
    """Save a reconstruction.

    Args:
        folder: made if missing, ``~`` is the home folder; the files of an earlier run are replaced in one step, others
            are left alone.
        viewer: what to save.
        result_json: text of ``result.json``; None leaves it out.
        turntable: also draw the turntable, the slowest part.
        video: True: turntable.mp4, False: turntable.webp; None: MP4 where PyAV is installed.
        yaw_limit_deg: how far the turntable swings to each side.
        pictures: name of a file -> further picture, of an edit; those that an earlier run of the command line wrote
            (`EDITS`) go where there are any.

    Returns:
        The files: mesh.glb, mesh.obj with mesh.mtl and mesh.png, mesh.ply; depth.npy (larger is further) and depth.png
        (near is bright, its scale in its text fields), both seen from the input's viewpoint; normals.png and mask.png
        of the same view; albedo.png (canonical); input.png, reconstruction.png, contact_sheet.png; the turntable;
        result.json; ``pictures``.

    Raises:
        ExportError: one sentence naming the path and the remedy. Nothing half-written is left, as on Ctrl-C.
        MissingPackage: ``video`` is True and there is no PyAV; said before any work.
    """
    if turntable and video:
        check_video()
    folder = user_path(folder)
    camera = viewer.camera
    texture = image_files.to_pil(viewer.texture)
    depth, mask = viewer.seen
    normals = image_files.normals_to_pil(normals_from_depth(depth[None], camera))
    with atomic_folder(folder, own=FILES if pictures is None else FILES | EDITS) as part:
        for name, picture in (pictures or {}).items():
            image_files.write_image(part / name, picture)
        mesh_files.write_glb(part / "mesh.glb", viewer.sheet, texture, camera)
        mesh_files.write_obj(part / "mesh.obj", viewer.sheet, texture, camera)
        mesh_files.write_ply(part / "mesh.ply", viewer.sheet, texture, camera)
        image_files.write_depth_npy(part / "depth.npy", depth)
        image_files.write_depth_png(part / "depth.png", depth, mask=mask)
        image_files.write_image(part / "normals.png", normals)
        image_files.write_image(part / "mask.png", image_files.mask_to_pil(mask))
        image_files.write_image(part / "albedo.png", image_files.to_pil(viewer.albedo))
        image_files.write_image(part / "input.png", image_files.to_pil(viewer.source))
        image_files.write_image(part / "reconstruction.png", image_files.to_pil(viewer.reconstruction))
        image_files.write_image(part / "contact_sheet.png", contact_sheet(viewer))
        if turntable:
            frames = turntable_frames(viewer.sheet, viewer.texture, camera, yaw_limit_deg=yaw_limit_deg)
            write_animation(part / "turntable.mp4", frames, fps=16, video=video)
        if result_json is not None:
            (part / "result.json").write_text(result_json, encoding="utf-8")
        names = sorted(file.name for file in part.iterdir())
    return [folder / name for name in names]
