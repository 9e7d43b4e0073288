"""Models to take away: cut out along the mask, closed without a gap, read by others, as large as asked for."""

import json
import shutil
import subprocess
import zipfile
from xml.etree import ElementTree

import numpy as np
import pytest
import torch
import trimesh
from face_scene import CAMERA, face_scene, light, turned
from test_texture import painted, photograph

from gan2shape_hub.rendering.camera import project
from gan2shape_hub.results import mesh_files
from gan2shape_hub.results.export import ExportOptions
from gan2shape_hub.results.image_files import to_pil
from gan2shape_hub.results.inflate import STRENGTH, Region
from gan2shape_hub.results.mesh import build_mesh
from gan2shape_hub.results.model import ModelOptions
from gan2shape_hub.results.outline import border_edges
from gan2shape_hub.results.viewer import Viewer
from gan2shape_hub.results.wide import margin, widened_depth


@pytest.fixture(scope="module")
def scene() -> Viewer:
    known, pose = face_scene(64), turned(6)
    source = photograph(painted(192), known.depth, pose)
    alpha = known.mask.clone()
    alpha[40:, 20:44] = 1  # a neck that the frame cuts
    return Viewer(CAMERA, source, known.depth, known.albedo, pose, light(), alpha, cut_out=True)


def solid(mesh) -> trimesh.Trimesh:
    return trimesh.Trimesh(mesh.vertices.double().numpy(), mesh.faces.numpy())


def test_a_frayed_edge_is_not_drawn_out():
    depth = torch.full((64, 64), 1.0)
    depth[[0, -1]], depth[:, [0, -1]] = 1.1, 1.1  # the outermost pixels of a sheet bend
    wide = widened_depth(depth)
    assert wide.shape == (64 + 2 * margin(64),) * 2
    assert torch.equal(wide, torch.ones_like(wide))


def test_the_outline_lies_on_the_half_level():
    at = torch.linspace(-1, 1, 64)
    radius = (at[:, None] ** 2 + at**2).sqrt()
    mesh = build_mesh(torch.ones(64, 64), CAMERA, mask=((0.6 - radius) * 8 + 0.5).clamp(0, 1), upsample=1)
    rim = np.unique(border_edges(mesh.faces.numpy()))
    away = ((mesh.uv[rim] * 2 - 1).norm(dim=1) - 0.6) * 31.5
    assert away.abs().max() < 0.1, "pixels"
    corner = mesh.uv.double()[mesh.faces]
    sides = corner.roll(-1, 1) - corner
    area = (sides[:, 0, 0] * sides[:, 1, 1] - sides[:, 0, 1] * sides[:, 1, 0]).abs()
    assert (sides.square().sum(2).amax(1) / area).max() < 12, "no needles"


@pytest.mark.parametrize("shape", ["head", "relief"])
@pytest.mark.parametrize("faces", [None, 2000])
def test_closed_shapes_are_watertight_and_do_not_cut_through_themselves(scene, shape, faces):
    if faces:
        pytest.importorskip("fast_simplification")
    body = scene.model(ModelOptions(shape, faces=faces)).body
    tri = solid(body)
    assert tri.is_watertight
    assert tri.is_winding_consistent
    assert tri.volume > 0
    assert tri.body_count == 1
    # Every line of sight enters the body once and leaves it once.
    pixels, faces_ = project(body.vertices.double(), CAMERA, (100, 100)).numpy(), body.faces.numpy()
    a, b, c = (pixels[faces_[:, k]] for k in range(3))
    rays = np.random.default_rng(0).uniform(0, 99, (300, 1, 2))
    edges = [(q - p, rays - p) for p, q in ((a, b), (b, c), (c, a))]
    cross = [side[..., 0] * away[..., 1] - side[..., 1] * away[..., 0] for side, away in edges]
    enters = (np.minimum.reduce(cross) > 0).sum(1)
    leaves = (np.maximum.reduce(cross) < 0).sum(1)
    assert (enters == leaves).all()
    assert set(enters) == {0, 1}


def test_a_head_is_rounder_behind_than_a_relief(scene):
    front = scene.wide.sheet.vertices[:, 2].max()
    head, relief = (scene.model(ModelOptions(shape)).body.vertices[:, 2] for shape in ("head", "relief"))
    assert head.max() > front + 0.01
    assert (relief > relief.max() - 1e-5).float().mean() > 0.3, "a flat back"


def test_a_heads_back_goes_on_where_its_front_ends(scene):
    tri = solid(scene.model(ModelOptions("head")).body)
    tri.merge_vertices()
    front = tri.face_normals[:, 2] < 0  # facing the camera
    pairs = tri.face_adjacency
    seam = front[pairs[:, 0]] != front[pairs[:, 1]]
    ends = tri.vertices[tri.face_adjacency_edges[seam]][..., 1]
    seam = tri.face_adjacency_angles[seam][(ends < np.quantile(tri.vertices[:, 1], 0.6)).all(1)]
    assert len(seam) > 50
    assert np.median(seam) < np.radians(50)


def test_a_disc_is_inflated_to_a_sphere():
    at = torch.linspace(-1, 1, 48)
    mesh = build_mesh(
        torch.ones(48, 48), CAMERA, mask=((0.8 - (at[:, None] ** 2 + at**2).sqrt()) * 12 + 0.5).clamp(0, 1), upsample=1
    )
    place, faces = (mesh.uv * 2 - 1).double().numpy(), mesh.faces.numpy()
    outline = np.zeros(len(place), bool)
    outline[border_edges(faces)] = True
    bulge = Region.of(place, faces, outline).bulge()
    limit = 1.1 * 0.8 * STRENGTH
    sphere = limit * np.tanh(STRENGTH * np.sqrt(np.clip(0.64 - (place**2).sum(1), 0, None)) / limit)
    assert np.abs(bulge - sphere)[~outline].max() < 0.05
    assert (bulge[outline] == 0).all()
    assert (bulge[~outline] > 0).all()


def test_the_background_stands_behind_and_is_not_welded(scene):
    plain, kept = (scene.model(ModelOptions(background=b)) for b in (False, True))
    assert (solid(plain.mesh).body_count, solid(kept.mesh).body_count) == (1, 2)
    behind = kept.mesh.vertices[len(kept.body.vertices) :]
    assert behind[:, 2].min() > kept.body.vertices[:, 2].max()
    assert len(plain.texture) == 4, "hair thins out"
    assert kept.texture.shape[1] > plain.texture.shape[1]


def test_faces_and_texture_size_are_what_was_asked_for(scene):
    pytest.importorskip("fast_simplification")
    model = scene.model(ModelOptions(faces=1500, texture_size=512, texture="albedo"))
    assert 1000 < len(model.mesh.faces) <= 1500
    assert model.texture.shape[-1] == 512
    assert model.normal_map.shape[-1] == 512
    length = model.normal_map.square().sum(0).sqrt()
    assert (length - 1).abs().max() < 1e-4
    camera = scene.wide.camera
    seen = project(model.mesh.vertices, camera, (2, 2))
    torch.testing.assert_close(seen, model.mesh.uv, atol=2e-3, rtol=0)


def test_printers_read_millimetres(scene, tmp_path):
    body = scene.model(ModelOptions("head")).body
    tri = trimesh.load(mesh_files.write_stl(tmp_path / "a.stl", body, CAMERA, 120))
    assert tri.is_watertight
    assert tri.volume > 0
    assert tri.extents[2] == pytest.approx(120, abs=1e-3)
    with zipfile.ZipFile(mesh_files.write_3mf(tmp_path / "a.3mf", body, CAMERA, 120)) as archive:
        root = ElementTree.fromstring(archive.read("3D/3dmodel.model"))
    name = "{http://schemas.microsoft.com/3dmanufacturing/core/2015/02}"
    assert root.get("unit") == "millimeter"
    points = np.array([[float(v.get(axis)) for axis in "xyz"] for v in root.iter(f"{name}vertex")])
    faces = np.array([[int(t.get(k)) for k in ("v1", "v2", "v3")] for t in root.iter(f"{name}triangle")])
    assert trimesh.Trimesh(points, faces, process=False).is_watertight
    assert np.ptp(points[:, 2]) == pytest.approx(120, abs=1e-3)


VALIDATE = """
const validator = require('gltf-validator');
const data = new Uint8Array(require('fs').readFileSync(process.argv[1]));
validator.validateBytes(data).then(report => console.log(JSON.stringify(report.issues)));
"""


def test_the_khronos_validator_finds_nothing(scene, tmp_path):
    """Needs node and ``npm install gltf-validator`` where node finds it (NODE_PATH)."""
    node = shutil.which("node")
    if node is None or subprocess.run([node, "-e", "require('gltf-validator')"], capture_output=True).returncode:
        pytest.skip("node or its package gltf-validator is missing")
    model = scene.model(ModelOptions(background=True))
    flat = to_pil(torch.tensor([0.0, 0, 1])[:, None, None].expand(3, 8, 8))
    path = mesh_files.write_glb(tmp_path / "a.glb", model.mesh, model.picture, CAMERA, normal_map=flat, unlit=True)
    said = subprocess.run([node, "-e", VALIDATE, str(path)], capture_output=True, text=True, timeout=60)
    issues = json.loads(said.stdout)
    assert (issues["numErrors"], issues["numWarnings"]) == (0, 0), issues["messages"]


def test_what_cannot_be_made_is_told_before_the_work(monkeypatch):
    for bad in ({"shape": "bust"}, {"texture": "clay"}, {"faces": 10}, {"texture_size": 100}):
        with pytest.raises(ValueError, match=next(iter(bad))):
            ModelOptions(**bad)
    for bad in ({"height_mm": 0}, {"path": "loop"}):
        with pytest.raises(ValueError, match=next(iter(bad))):
            ExportOptions(**bad)
    monkeypatch.setattr("gan2shape_hub.results.model.find_spec", lambda name: None)
    with pytest.raises(OSError, match=r"pip install 'gan2shape-hub\[model\]'"):
        ModelOptions(faces=1000)
