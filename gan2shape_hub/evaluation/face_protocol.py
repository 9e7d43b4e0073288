"""The benchmark on generated faces: one face at a time, then statistics over all of them (``scripts/evaluate.py``).

The pipeline is passed in: this module only calls its public methods (``sample``, ``__call__``) and those of the
reconstruction it returns.
"""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageDraw
from torch import Tensor

from gan2shape_hub.evaluation.canonical_face import canonical_mesh
from gan2shape_hub.evaluation.depth_metrics import scene_psnr_db
from gan2shape_hub.evaluation.edits import Relit, Turn, face_mask, log_brightness_ratio
from gan2shape_hub.evaluation.face_depth import FaceDepth, sample_face
from gan2shape_hub.evaluation.facemesh import FaceLandmarks, FaceMesh
from gan2shape_hub.evaluation.head_pose import fit_head, head_pose, turn_deg
from gan2shape_hub.results.image_files import depth_to_pil, to_pil
from gan2shape_hub.results.layout import Tile, page
from gan2shape_hub.stages.prior import ellipsoid_depth

PARTS = ("depth", "rotation", "relighting")
"""What can be measured; ``depth`` always is."""


@dataclass(frozen=True)
class Protocol:
    """What is asked of every face."""

    preset: str | None = None
    truncation: float = 0.7
    run_seed: int = 0
    """Of the reconstruction's randomness, the same for all faces."""
    parts: tuple[str, ...] = PARTS
    yaws_deg: tuple[float, ...] = (-25.0, -12.5, 0.0, 12.5, 25.0)
    lights_x: tuple[float, ...] = (-1.0, -0.5, 0.0, 0.5, 1.0)
    """x of the direction that the rays travel; y is 0."""


@dataclass(frozen=True)
class FaceResult:
    """All that was measured on one face. ``face``, ``prior`` and ``average`` are None where the judge found no face."""

    seed: int
    seconds: float
    """Of the reconstruction alone."""
    psnr_db: float
    """The scene rendered in the photograph's view, at the networks' size, inside the reconstruction's mask."""
    psnr_face_db: float
    """The same inside the outline of the face mesh."""
    yaw_deg: float
    face: FaceDepth | None
    prior: FaceDepth | None
    """The ellipsoid that the method starts from."""
    average: FaceDepth | None
    """The average face mesh in the judge's own pose: as good as knowing the pose and nothing of the person."""
    turns: dict[str, tuple[Turn, ...]] = field(default_factory=dict)
    """By way: ``gan`` or ``rendered``."""
    lights: dict[str, tuple[Relit, ...]] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Plain numbers, lists and None; :meth:`from_json` undoes it."""
        values: dict[str, Any] = {
            f.name: getattr(self, f.name) for f in dataclasses.fields(self) if f.type in ("int", "float")
        }
        values = {k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in values.items()}
        if self.face is not None:
            mark = self.face.landmarks
            values["landmarks"] = {
                "points": _rounded(mark.points),
                "image_size": list(mark.image_size),
                "score": mark.score,
            }
            for name in ("face", "prior", "average"):
                sampled: FaceDepth = getattr(self, name)
                values[name] = {"points": _rounded(sampled.points, 7), "usable": sampled.usable.int().tolist()}
        values["turns"] = {way: [dataclasses.asdict(t) for t in turns] for way, turns in self.turns.items()}
        values["lights"] = {way: [dataclasses.asdict(r) for r in relit] for way, relit in self.lights.items()}
        return values

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> FaceResult:
        values = dict(values)
        mark = values.pop("landmarks", None)
        for name in ("psnr_db", "psnr_face_db", "yaw_deg"):
            values[name] = math.nan if values[name] is None else values[name]
        for name in ("face", "prior", "average"):
            stored = values.get(name)
            values[name] = None
            if stored is not None:
                landmarks = FaceLandmarks(
                    torch.tensor(mark["points"], dtype=torch.float32), tuple(mark["image_size"]), mark["score"]
                )
                points = torch.tensor(stored["points"], dtype=torch.float64)
                values[name] = FaceDepth(landmarks, points, torch.tensor(stored["usable"]).bool())
        values["turns"] = {way: tuple(Turn(**t) for t in turns) for way, turns in values["turns"].items()}
        values["lights"] = {way: tuple(Relit(**r) for r in relit) for way, relit in values["lights"].items()}
        return cls(**values)


def _rounded(points: Tensor, digits: int = 3) -> list[list[float]]:
    return [[round(float(v), digits) for v in row] for row in points.tolist()]


def as_tensor(picture: Image.Image) -> Tensor:
    """(3, H, W) in -1..1 of a PIL image."""
    array = torch.from_numpy(np.array(picture.convert("RGB")))
    return array.permute(2, 0, 1).float() / 127.5 - 1


def average_face(landmarks: FaceLandmarks, like: FaceDepth) -> FaceDepth:
    """The canonical mesh in the pose of ``landmarks``, in place of the depth in ``like``."""
    posed = fit_head(landmarks.points).apply(canonical_mesh())
    return FaceDepth(landmarks, posed, torch.ones_like(like.usable))


def measure_face(pipeline: Any, mesh: FaceMesh, seed: int, protocol: Protocol) -> tuple[FaceResult, Image.Image]:
    """Reconstruct the generated face ``seed`` and judge it: the numbers, and a strip of pictures to look at."""
    sample = pipeline.sample(seed=seed, truncation=protocol.truncation)
    mark = mesh.landmarks(as_tensor(sample.image))
    begun = time.perf_counter()
    result = pipeline(sample, preset=protocol.preset, seed=protocol.run_seed)
    seconds = time.perf_counter() - begun
    size, camera = pipeline.config.image_size, pipeline.config.camera
    numbers: dict[str, Any] = {
        "seed": seed,
        "seconds": seconds,
        "psnr_db": scene_psnr_db(result),
        "psnr_face_db": math.nan,
        "yaw_deg": math.nan,
        "face": None,
        "prior": None,
        "average": None,
    }
    tiles = [Tile(f"seed {seed}", _with_points(sample.image, mark))]
    tiles.append(Tile("reconstruction", to_pil(result.reconstruction)))
    tiles.append(Tile("depth", depth_to_pil(result.view_depth, result.mask)))
    tiles.append(Tile("shape", result.render(shaded_only=True, size=256)))
    if mark is not None:
        face = sample_face(result.view_depth, mark, camera=camera)
        prior = sample_face(ellipsoid_depth(pipeline.config), mark, camera=camera)
        numbers.update(
            psnr_face_db=scene_psnr_db(result, face_mask(mark, size)),
            yaw_deg=head_pose(mark)[0],
            face=face,
            prior=prior,
            average=average_face(mark, face),
        )
        tiles[2] = Tile(f"depth {face.correlation:.3f}", tiles[2].image)
        side = 65 - numbers["yaw_deg"]
        tiles.append(Tile("side", result.render(yaw_deg=side, shaded_only=True, size=256)))
        if "rotation" in protocol.parts:
            numbers["turns"], pictures = _turned(result, mesh, mark, numbers["yaw_deg"], protocol)
            tiles += pictures
        if "relighting" in protocol.parts:
            numbers["lights"], pictures = _relit(result, mark, protocol)
            tiles += pictures
    return FaceResult(**numbers), page([tiles], tile=192)


def _turned(result: Any, mesh: FaceMesh, mark: FaceLandmarks, start: float, protocol: Protocol):
    turns, tiles = {}, []
    for way in ("gan", "rendered"):
        measured = []
        for yaw in protocol.yaws_deg:
            picture = result.rotate(yaw, through_gan=way == "gan")
            found = mesh.landmarks(as_tensor(picture))
            measured.append(Turn(yaw, None if found is None else turn_deg(mark, found)[0], start))
            if way == "gan" and abs(yaw) == max(map(abs, protocol.yaws_deg)):
                shown = "lost" if found is None else f"{measured[-1].measured_deg:+.0f}"
                tiles.append(Tile(f"{yaw:+.0f}: {shown}", picture))
        turns[way] = tuple(measured)
    return turns, tiles


def _relit(result: Any, mark: FaceLandmarks, protocol: Protocol):
    lights, tiles = {}, []
    for way in ("gan", "rendered"):
        pictures = result.relight([(x, 0.0) for x in protocol.lights_x], through_gan=way == "gan")
        ratios = [log_brightness_ratio(as_tensor(picture), mark) for picture in pictures]
        lights[way] = tuple(Relit(x, ratio) for x, ratio in zip(protocol.lights_x, ratios, strict=True))
        if way == "gan":
            tiles = [Tile(f"light {protocol.lights_x[i]:+.1f}", pictures[i]) for i in (0, -1)]
    return lights, tiles


def _with_points(picture: Image.Image, mark: FaceLandmarks | None, side: int = 384) -> Image.Image:
    """The picture with the mesh's points, near ones bright."""
    small = picture.convert("RGB").resize((side, side), Image.Resampling.LANCZOS)
    if mark is None:
        return small
    points = mark.in_image((side, side))
    near = 1 - (points[:, 2] - points[:, 2].min()) / (points[:, 2].max() - points[:, 2].min())
    draw = ImageDraw.Draw(small)
    for (x, y, _), n in zip(points.tolist(), near.tolist(), strict=True):
        draw.ellipse((x - 2, y - 2, x + 2, y + 2), fill=(int(255 * n), int(200 * n), 255 - int(255 * n)))
    return small


def stack_strips(strips: Sequence[Image.Image]) -> Image.Image:
    """Strips below each other on one white page."""
    page_width = max(strip.width for strip in strips)
    sheet = Image.new("RGB", (page_width, sum(strip.height for strip in strips)), (255, 255, 255))
    top = 0
    for strip in strips:
        sheet.paste(strip, (0, top))
        top += strip.height
    return sheet
