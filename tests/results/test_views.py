"""The whole way: photograph, texture, mesh, picture; and the pages and folders made of it."""

import json

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from face_scene import CAMERA, face_scene, light, turned
from PIL import Image
from test_texture import painted, photograph, psnr

from gan2shape_hub.atomic import ExportError
from gan2shape_hub.rendering.camera import Pose
from gan2shape_hub.rendering.mesh_renderer import clay_picture, render_mesh
from gan2shape_hub.results.contact_sheet import contact_sheet
from gan2shape_hub.results.edit import rotate_poses
from gan2shape_hub.results.export import ExportOptions, export_scene
from gan2shape_hub.results.image_files import read_depth_png
from gan2shape_hub.results.layout import PAPER, Tile, page
from gan2shape_hub.results.mesh import build_mesh
from gan2shape_hub.results.model import Model
from gan2shape_hub.results.viewer import Viewer
from gan2shape_hub.results.views import BACKGROUND, frame_poses, middle, model_views, turntable_frames

SIZE = 64


@pytest.fixture(scope="module")
def scene() -> Viewer:
    known, pose = face_scene(SIZE), turned(10)
    source = photograph(painted(192), known.depth, pose)
    return Viewer(CAMERA, source, known.depth, known.albedo, pose, light(), known.mask)


@pytest.fixture(scope="module")
def model(scene) -> Model:
    """The object alone."""
    known = face_scene(SIZE)
    mesh = build_mesh(known.depth, CAMERA, mask=known.mask)
    return Model(mesh, scene.texture, mesh)


def test_the_mesh_shows_the_photograph_again_from_its_own_view(scene, model):
    (view,) = model_views(model, scene.pose, CAMERA, SIZE)
    picture = view.image[0]
    paper = torch.tensor(BACKGROUND)[:, None, None]
    covered = (picture - paper).abs().sum(0) > 0.05
    covered = -F.max_pool2d(-covered[None].float(), 5, 1, 2)[0] > 0  # away from the outline
    assert covered.float().mean() > 0.3
    assert (picture[:, 0, 0] - paper[:, 0, 0]).abs().max() < 1e-5
    # Corner pixels' centres align in a rendering, edges in a photograph that was shrunk.
    at = ((2 * torch.arange(SIZE) / (SIZE - 1) - 1) * (SIZE - 1)) / SIZE
    grid = torch.stack(torch.meshgrid(at, at, indexing="xy"), -1)
    blurred = F.avg_pool2d(F.pad(scene.source[None], (1,) * 4, mode="replicate"), 3, 1)
    expected = F.grid_sample(blurred, grid[None], align_corners=False, padding_mode="border")[0]
    assert psnr(picture, expected, covered) > 27


def test_clay_is_grey_and_lit_from_above_left(model):
    (view,) = model_views(model, rotate_poses([(0, 0)], CAMERA), CAMERA, SIZE)
    (picture,) = clay_picture(view, BACKGROUND)
    mesh = model.mesh
    by_sample = render_mesh(
        mesh.vertices, mesh.faces, mesh.uv, model.texture, Pose.identity(1), CAMERA, SIZE, shaded_only=True
    )
    inside = by_sample.mask[0, 0] == 1
    assert (picture - by_sample.image[0])[:, inside].abs().mean() < 0.02
    inner = picture[:, 8:-8, 12:-12]
    assert (inner.amax(0) - inner.amin(0)).max() < 0.15
    assert inner[:, :24, :20].mean() > inner[:, 24:, 20:].mean()


def test_turned_far_the_object_stays_in_the_picture(scene, model):
    poses = rotate_poses([(0, 0), (60, 0), (-60, 0), (0, 30), (0, -30)], CAMERA, pivot=middle(model.mesh))
    for view in model_views(model, frame_poses(poses, model.mesh, CAMERA), CAMERA, SIZE):
        shown = (view.image[0] - torch.tensor(BACKGROUND)[:, None, None]).abs().sum(0) > 0.05
        assert shown.float().mean() > 0.15
        edge = torch.cat((shown[0], shown[-1], shown[:, 0], shown[:, -1]))
        assert edge.float().mean() < 0.02


def test_a_turntable_renders_each_view_once_and_loops(scene, model):
    frames = list(turntable_frames(model, CAMERA, yaw_limit_deg=40, frames=8, size=32))
    assert len(frames) == 8
    assert len({id(frame) for frame in frames}) == 5
    assert frames[1] is frames[3]  # on the way back
    assert np.abs(np.asarray(frames[2]).astype(int) - np.asarray(frames[6])).max() > 30  # the two ends


def test_the_contact_sheet_has_four_rows_of_seven(scene):
    sheet = contact_sheet(scene, tile=40)
    assert sheet.mode == "RGB"
    assert sheet.width > 7 * 40
    assert sheet.height > 4 * 40
    assert sheet.getpixel((0, 0)) == PAPER


def test_pages_place_and_centre_tiles():
    red, blue = Image.new("RGB", (50, 50), (255, 0, 0)), Image.new("L", (10, 10), 30)
    sheet = page([[Tile("one", red), Tile("two", red)], [Tile("three", blue)]], tile=50)
    array = np.asarray(sheet)
    middle_column = sheet.width // 2
    assert (array[30, 30] == (255, 0, 0)).all()
    assert tuple(array[30, middle_column]) == PAPER  # the gap of the first row
    assert (array[-30:, middle_column] == 30).all(1).any()  # the second row's only tile is centred
    with pytest.raises(ValueError, match="rows is empty"):
        page([])


FILES = {
    *("albedo.png", "contact_sheet.png", "depth.npy", "depth.png", "input.png", "mask.png", "mesh.glb", "mesh.mtl"),
    *("mesh.obj", "mesh.ply", "mesh.png", "normals.png", "poster.png", "reconstruction.png", "result.json"),
    "turntable.webp",
}


def test_a_scene_is_saved_whole(scene, tmp_path, monkeypatch):
    monkeypatch.setattr(
        "gan2shape_hub.results.export.contact_sheet", lambda scene, model: contact_sheet(scene, model, tile=24)
    )
    monkeypatch.setattr("gan2shape_hub.results.export.turntable_frames", lambda *a, **k: [Image.new("RGB", (16, 16))])
    out = tmp_path / "out"
    files = export_scene(out, scene, ExportOptions(video=False), result_json=json.dumps({"seed": 7}))
    assert {file.name for file in files} == FILES
    assert all(file.stat().st_size > 0 for file in files)
    depth = np.load(out / "depth.npy")
    assert depth.dtype == np.float32
    seen = np.asarray(Image.open(out / "mask.png")) > 127
    assert np.abs(read_depth_png(out / "depth.png") - depth)[seen].max() < 1e-4
    # Yaw +10 turns the nose to the left of where it is in the canonical frame.
    column = np.unravel_index(np.where(seen, depth, 9).argmin(), depth.shape)[1]
    assert column < face_scene(SIZE).nose[1]
    # A newer one leaves nothing of it, and what is somebody's own.
    (out / "note.txt").write_text("mine")
    files = export_scene(out, scene, ExportOptions(turntable=False))
    assert {file.name for file in files} == FILES - {"turntable.webp", "result.json"}
    assert {file.name for file in out.iterdir()} == {*(file.name for file in files), "note.txt"}


def test_a_failure_half_way_leaves_no_folder(scene, tmp_path, monkeypatch):
    def interrupted(*args, **kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr("gan2shape_hub.results.export.contact_sheet", interrupted)
    with pytest.raises(KeyboardInterrupt):
        export_scene(tmp_path / "out", scene)
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "file").write_text("")
    with pytest.raises(ExportError, match=r"choose another folder\.$"):
        export_scene(tmp_path / "file", scene)
