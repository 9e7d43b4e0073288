"""A finished result: under another light, from another side, and as the files that a visitor can take away."""

from __future__ import annotations

import json
import math
import shlex
import shutil
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from gan2shape_hub.atomic import atomic_file
from gan2shape_hub.demo.shelf import Shelf, Subject, public_name
from gan2shape_hub.demo.visitors import DemoError
from gan2shape_hub.reconstruction import Reconstruction
from gan2shape_hub.rendering import Light, normals_from_depth, render_view, shade
from gan2shape_hub.rendering.environment import ENVIRONMENTS
from gan2shape_hub.results import image_files
from gan2shape_hub.results.animation import video_available, write_animation
from gan2shape_hub.results.contact_sheet import contact_sheet
from gan2shape_hub.results.edit import LIGHT_PRESETS, make_light, rotate_poses
from gan2shape_hub.results.image_files import to_pil, write_image
from gan2shape_hub.results.layout import cut_out
from gan2shape_hub.results.mesh_files import write_glb, write_obj, write_ply, zip_files
from gan2shape_hub.results.model import ModelOptions
from gan2shape_hub.results.texture import without_border
from gan2shape_hub.results.viewer import Viewer
from gan2shape_hub.results.views import frame_poses, middle, model_views, turntable_frames

RELIT_SIDE, TURNED_SIDE = 512, 384
"""Pixels of the quick pictures."""
STRIP = 5
"""Views of a strip."""
PATIENCE_S = 15.0
CLAY = 0.84
"""Reflectance of the bare shape, a neutral grey."""
EDGE = 0.97
"""The light never comes from further round than this part of the ball's radius: beyond it only rims are lit."""

_making = threading.Lock()


@dataclass(frozen=True, eq=False)
class Finished:
    """A result without the generator, which belongs to the shelf: what visitors hold must not keep checkpoints in
    memory. A copy that was adapted to the photograph stays with it."""

    id: str
    checkpoint: str
    subject: Subject
    result: Reconstruction
    options: dict[str, Any]
    """What the run was asked for: preset, seed, tuned."""
    cache: dict[Any, Any] = field(default_factory=dict)
    """What is made once."""

    def quick(self, side: int) -> Viewer:
        """The scene ready to be relit and turned at ``side`` pixels: what all lights and angles share is kept."""
        with _making:
            if side not in self.cache:
                self.cache[side] = self.result.viewer.lighter(side)
            return self.cache[side]

    @contextmanager
    def whole(self, shelf: Shelf) -> Iterator[Reconstruction]:
        """The result with what edits through the GAN need."""
        with shelf.use(self.checkpoint, PATIENCE_S) as pipeline:
            own = self.result.editor.generator is not None
            yield self.result if own else self.result.with_generator(pipeline.generator)


# -- edits -------------------------------------------------------------------------------------------------------------


@contextmanager
def one_thread() -> Iterator[None]:
    """Small work is done by this thread alone: beside a run that uses every core, waiting for a second thread costs
    more than it helps. PyTorch keeps the number per thread."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def ball_light(right: float, up: float, ambient: float, diffuse: float, like: Tensor | None = None) -> Light:
    """The light at a point of a ball in front of the face, batch of one.

    Args:
        right, up: where on the ball the light sits, -1..1, 0 being the camera; beyond the ball's edge: at its edge.
        ambient, diffuse: 0 or more.

    Raises:
        DemoError: a number is not finite, or is negative.
    """
    radius = math.hypot(right, up)
    if radius > EDGE:
        right, up = right / radius * EDGE, up / radius * EDGE
    toward = math.sqrt(max(1 - right * right - up * up, 0.0)) if math.isfinite(radius) else 0.0
    try:
        return make_light(-right, up, ambient, diffuse, direction_z=toward, like=like)
    except ValueError as error:
        raise DemoError(str(error)) from None


def ball_of_preset(name: str) -> tuple[float, float, float, float]:
    """(right, up, ambient, diffuse) of a light of `LIGHT_PRESETS`, as `ball_light` takes them."""
    ambient, diffuse, (x, y, z) = LIGHT_PRESETS[name]
    length = math.sqrt(x * x + y * y + z * z)
    return round(-x / length, 3), round(y / length, 3), ambient, diffuse


def relit(
    finished: Finished,
    ball: tuple[float, float, float, float],
    environment: str = "",
    shelf: Shelf | None = None,
) -> Image.Image:
    """The photograph under another light, 512 pixels; where a ``shelf`` is given the generator's picture of it, at its
    full size. ``ball``: as `ball_light`; ``environment``: one of `ENVIRONMENTS` in its place."""
    if environment and environment not in ENVIRONMENTS:
        raise DemoError(f"environment is '{environment}', must be one of {', '.join(ENVIRONMENTS)}, or empty.")
    light = environment or ball_light(*ball, like=finished.result.depth)
    if shelf is not None:
        with finished.whole(shelf) as result:
            return result.relight(light, through_gan=True)
    with one_thread():
        quick = finished.quick(RELIT_SIDE)
        return quick.redraw(quick.pose, light, RELIT_SIDE)


def turned(finished: Finished, yaw_deg: float, pitch_deg: float, shelf: Shelf | None = None) -> Image.Image:
    """The mesh from another side, 384 pixels; where a ``shelf`` is given the generator's picture, at its full size."""
    config = finished.result.config
    _check_angles(yaw_deg, pitch_deg, config.rotation_limit_deg if shelf is None else config.generated_limit_deg)
    if shelf is not None:
        with finished.whole(shelf) as result:
            return result.rotate(float(yaw_deg), float(pitch_deg), through_gan=True)
    with one_thread():
        return _view(finished.quick(TURNED_SIDE), yaw_deg, pitch_deg)


@torch.no_grad()
def _view(viewer: Viewer, yaw_deg: float, pitch_deg: float) -> Image.Image:
    """The model turned as `Viewer.render` turns it, on nothing: pages are light or dark."""
    model, camera = viewer.shown, viewer.camera
    poses = rotate_poses([(yaw_deg, pitch_deg)], camera, start=viewer.pose, pivot=middle(model.body))
    poses = frame_poses(poses, model.body, camera)
    (seen,) = model_views(model, poses, camera, TURNED_SIDE, supersample=1, picture_only=True, background=(0, 0, 0))
    cover = seen.mask[0].clamp(0, 1)
    picture = to_pil((seen.image[0] + 1) / cover.clamp_min(1e-3) - 1)  # black, which is -1, taken out of the edges
    picture.putalpha(image_files.mask_to_pil(cover[0]))
    return picture


def strip(finished: Finished, pitch_deg: float = 0.0, shelf: Shelf | None = None) -> Iterator[tuple[Image.Image, str]]:
    """Pictures from the left to the right, each with its caption, as they are made."""
    limit = finished.result.config.generated_limit_deg[0]
    for k in range(STRIP):
        yaw = round(limit * (2 * k / (STRIP - 1) - 1), 1)
        picture = turned(finished, yaw, pitch_deg, shelf)
        caption = "front" if yaw == 0 else f"{'left' if yaw > 0 else 'right'} {abs(yaw):g}°"
        yield (picture if shelf is None else picture.resize((512, 512))), caption


def relit_in_photograph(
    finished: Finished, ball: tuple[float, float, float, float], edited: Image.Image | str | None = None
) -> Image.Image:
    """The relit square back in the photograph; ``edited`` is one that the generator made; an environment's name or None
    (the ball) relights the pixels."""
    result = finished.result
    if result.alignment is None:
        raise DemoError("There is no photograph to paste into: this face was drawn by the generator.")
    if edited is None or isinstance(edited, str):
        edited = result.relight(edited or ball_light(*ball, like=result.depth), size=result.source.shape[-1])
    return result.paste(edited)


def _check_angles(yaw_deg: float, pitch_deg: float, limit: tuple[float, float]) -> None:
    if not (math.isfinite(yaw_deg) and math.isfinite(pitch_deg)):
        raise DemoError(f"the angles are {yaw_deg} and {pitch_deg}, must be finite numbers of degrees.")
    yaw, pitch = limit
    if abs(yaw_deg) > yaw or abs(pitch_deg) > pitch:
        raise DemoError(
            f"the angles are {yaw_deg:g} and {pitch_deg:g} degrees, must be within ±{yaw:g} and ±{pitch:g} degrees."
        )


# -- files -------------------------------------------------------------------------------------------------------------

DOWNLOADS = {
    "glb": ("GLB", "model.glb"),
    "settings": ("Settings", "settings.json"),
    "ply": ("PLY", "model.ply"),
    "obj": ("OBJ (zip)", "model_obj.zip"),
    "maps": ("Maps (zip)", "maps.zip"),
    "turntable": ("Turntable", "turntable.mp4" if video_available() else "turntable.webp"),
    "contact": ("Contact sheet", "contact_sheet.png"),
}
"""Kind of file -> its button and its name, in the order in which they are made: the quick ones first."""


@dataclass(frozen=True)
class View:
    """What the page's viewer shows: a quarter of the download's faces, for phones."""

    file: str
    words: str
    reach_deg: tuple[int, int]
    """Yaw and pitch beyond which there is nothing to see."""


VIEWS = {
    "textured": View("view.glb", "The model", (75, 35)),
    "shape": View("shape.glb", "The bare shape", (75, 35)),
    "behind": View("behind.glb", "The model with its background", (40, 25)),
}


def file_of(finished: Finished, folder: Path, kind: str) -> Path:
    """The file of a kind of ``DOWNLOADS`` or ``VIEWS``, made where it is not there yet. Each result has a folder of
    its own in ``folder``."""
    path = folder / finished.id / (VIEWS[kind].file if kind in VIEWS else DOWNLOADS[kind][1])
    if not path.exists():
        path.parent.mkdir(mode=0o700, exist_ok=True)
        with torch.no_grad():
            _write(finished, kind, path)
    return path


def _write(finished: Finished, kind: str, path: Path) -> None:
    viewer, camera = finished.result.viewer, finished.result.config.camera
    if kind == "glb":
        write_glb(path, viewer.shown.mesh, viewer.shown.picture, camera)
    elif kind == "ply":
        write_ply(path, viewer.shown.mesh, viewer.shown.picture, camera)
    elif kind == "obj":
        with tempfile.TemporaryDirectory(dir=path.parent) as folder:
            zip_files(path, write_obj(Path(folder) / "model.obj", viewer.shown.mesh, viewer.shown.picture, camera))
    elif kind == "maps":
        with tempfile.TemporaryDirectory(dir=path.parent) as folder:
            _write_maps(viewer, Path(folder))
            zip_files(path, tuple(sorted(Path(folder).iterdir())))
    elif kind == "turntable":
        limit = finished.result.config.rotation_limit_deg[0]
        frames = turntable_frames(viewer.shown, camera, yaw_limit_deg=limit)
        write_animation(path, frames, fps=16, video=path.suffix == ".mp4")
    elif kind == "contact":
        write_image(path, contact_sheet(viewer))
    elif kind == "shape":
        # Its light is part of the clay: all around as a viewer's is, it would model little.
        light = replace(viewer, mesh_side=0)
        clay, texture = to_pil(lit_clay(light.wide, light.shown.picture.width)), light.shown.picture
        if texture.mode == "RGBA":
            clay.putalpha(texture.getchannel("A"))
        write_glb(path, light.shown.mesh, clay, camera, unlit=True)
    elif kind == "settings":
        with atomic_file(path) as part:
            part.write_text(json.dumps(settings(finished), indent=2, default=str) + "\n", encoding="utf-8")
    else:
        # Without light: the texture is lit as the photograph is, and the viewer's surroundings would tint it.
        light = replace(viewer, mesh_side=0)
        model = light.model(ModelOptions(background=True)) if kind == "behind" else light.shown
        write_glb(path, model.mesh, model.picture, camera, unlit=True)


def _write_maps(viewer: Viewer, folder: Path) -> None:
    depth, mask = viewer.seen[0], viewer.object_seen
    image_files.write_depth_png(folder / "depth.png", depth, mask=mask)
    image_files.write_depth_npy(folder / "depth.npy", depth)
    for name, picture in {
        "depth_coloured": cut_out(depth_picture(viewer), viewer.object_seen),
        "normals": cut_out(normals_picture(viewer), viewer.object_seen),
        "mask": image_files.mask_to_pil(mask),
        **{name: to_pil(getattr(viewer, name)) for name in ("albedo", "texture", "reconstruction")},
        "input": to_pil(viewer.source),
    }.items():
        write_image(folder / f"{name}.png", picture)


def lit_clay(viewer: Viewer, side: int, right: float = -0.5) -> Tensor:
    """The bare surface as a canonical texture (3, side, side): grey clay under a soft lamp above the camera, further
    to the ``right`` or the left (-1..1)."""
    normals = normals_from_depth(without_border(viewer.depth, viewer.camera)[None], viewer.camera)
    clay = torch.full_like(normals, CLAY * 2 - 1)
    lit, _ = shade(clay, normals, ball_light(right, 0.5, 0.3, 0.75, like=normals))
    return F.interpolate(lit, (side, side), mode="bicubic", align_corners=True)[0].clamp(-1, 1)


def shape_picture(viewer: Viewer) -> Image.Image:
    """The bare surface as the photograph sees it, cut out; lit from the right, the half that a slider shows of it."""
    picture = render_view(
        without_border(viewer.depth, viewer.camera)[None],
        lit_clay(viewer, viewer.depth.shape[-1], 0.5)[None],
        viewer.pose,
        viewer.camera,
    )
    return cut_out(to_pil(picture.image[0]), viewer.object_seen)


def depth_picture(viewer: Viewer) -> Image.Image:
    return image_files.depth_to_pil(viewer.seen[0], viewer.object_seen)


def normals_picture(viewer: Viewer) -> Image.Image:
    return image_files.normals_to_pil(normals_from_depth(viewer.seen[0][None], viewer.camera))


def settings(finished: Finished) -> dict[str, Any]:
    """Everything that repeats the run, with the command line that does."""
    told = {
        "command": command(finished),
        **finished.result.report.to_dict(),
        "checkpoint": public_name(finished.checkpoint),
    }
    return {**told, "image": finished.subject.name} if finished.subject.is_photograph else told


def command(finished: Finished) -> str:
    """The command that repeats the run, beside the checkpoint's folder."""
    subject, options = finished.subject, finished.options
    if subject.is_photograph:
        words = [subject.name]
        words += ["--face", str(subject.face_index)] if subject.face_index else []
        words += [] if subject.align else ["--no-align"]
        words += ["--tune"] if options["tuned"] else []
    else:
        words = ["--seed", str(subject.item.seed), "--truncation", f"{subject.item.truncation:g}"]
    words += [
        "--checkpoint",
        public_name(finished.checkpoint),
        "--preset",
        options["preset"],
        "--run-seed",
        str(options["seed"]),
    ]
    return shlex.join(["gan2shape", "reconstruct", *words, "--output", "out/"])


def make_all(finished: Finished, folder: Path, wanted: Callable[[], bool]) -> Iterator[tuple[str, Path]]:
    """Every download as it is ready; ends early when ``wanted`` says no (the visitor left, or has a new result)."""
    for kind in DOWNLOADS:
        if not wanted():
            return
        try:
            path = file_of(finished, folder, kind)
        except OSError:
            if folder.is_dir():
                raise
            return  # the session ended meanwhile and took its folder along
        yield kind, path


def forget_older(finished: Finished, folder: Path) -> None:
    """Remove the files of the session's earlier results."""
    for old in folder.iterdir():
        if old.is_dir() and old.name != finished.id:
            shutil.rmtree(old, ignore_errors=True)
