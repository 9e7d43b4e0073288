"""Files are read back by other readers than the ones that wrote them."""

import io
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
import trimesh
from face_scene import CAMERA, face_scene
from PIL import Image

from gan2shape_hub.rendering.shading import normals_from_depth
from gan2shape_hub.results import animation, image_files, mesh_files
from gan2shape_hub.results.export import ExportOptions
from gan2shape_hub.results.mesh import build_mesh

QUADRANTS = {(0, 0): (255, 0, 0), (1, 0): (0, 255, 0), (0, 1): (0, 0, 255), (1, 1): (255, 255, 255)}
"""(right half, lower half) -> colour."""


def quadrant_texture(size: int = 64) -> Image.Image:
    image = Image.new("RGB", (size, size))
    half = size // 2
    for (right, lower), colour in QUADRANTS.items():
        image.paste(colour, (right * half, lower * half, right * half + half, lower * half + half))
    return image


@pytest.fixture
def mesh():
    return build_mesh(face_scene(32).depth, CAMERA)


def sampled(texture: Image.Image, uv: np.ndarray) -> np.ndarray:
    """Nearest texel at ``uv`` whose v points up."""
    array = np.asarray(texture.convert("RGB"))
    height, width = array.shape[:2]
    return array[
        ((1 - uv[:, 1]) * height).astype(int).clip(0, height - 1), (uv[:, 0] * width).astype(int).clip(0, width - 1)
    ]


def assert_quadrants(vertices: np.ndarray, colours: np.ndarray) -> None:
    """What is up left in space (x < 0, y > 0) is the texture's upper left, and so on."""
    for (right, lower), colour in QUADRANTS.items():
        x, y = vertices[:, 0] * (2 * right - 1), vertices[:, 1] * (1 - 2 * lower)
        corner = (x > 0.1) & (y > 0.1)
        assert corner.any()
        assert (colours[corner] == colour).all()


def test_trimesh_reads_the_glb_back(tmp_path, mesh):
    path = mesh_files.write_glb(tmp_path / "mesh.glb", mesh, quadrant_texture(), CAMERA)
    tri = trimesh.load(path, force="mesh", process=False)
    assert (len(tri.vertices), len(tri.faces)) == (len(mesh.vertices), len(mesh.faces))
    assert tri.face_normals[:, 2].mean() > 0.5
    uv = tri.visual.uv
    assert uv.min() >= 0
    assert uv.max() <= 1
    assert_quadrants(tri.vertices, sampled(tri.visual.material.baseColorTexture, uv))


def test_pygltflib_reads_the_glb_back(tmp_path, mesh):
    pygltflib = pytest.importorskip("pygltflib")
    path = mesh_files.write_glb(tmp_path / "mesh.glb", mesh, quadrant_texture(), CAMERA)
    gltf = pygltflib.GLTF2().load(str(path))
    blob = gltf.binary_blob()

    def view(index: int) -> bytes:
        part = gltf.bufferViews[index]
        return blob[part.byteOffset or 0 : (part.byteOffset or 0) + part.byteLength]

    def accessor(index: int, dtype: str, width: int) -> np.ndarray:
        entry = gltf.accessors[index]
        data = np.frombuffer(view(entry.bufferView), dtype)[: entry.count * width]
        return data.reshape(-1, width) if width > 1 else data

    (primitive,) = gltf.meshes[0].primitives
    positions = accessor(primitive.attributes.POSITION, "<f4", 3)
    normals = accessor(primitive.attributes.NORMAL, "<f4", 3)
    uv = accessor(primitive.attributes.TEXCOORD_0, "<f4", 2)
    assert gltf.accessors[primitive.indices].componentType == 5123, "so few vertices are numbered in 16 bits"
    indices = accessor(primitive.indices, "<u2", 1)
    assert np.isfinite(positions).all()
    assert indices.max() == len(positions) - 1
    assert normals[:, 2].mean() > 0.5
    np.testing.assert_allclose(np.linalg.norm(normals, axis=1), 1, atol=1e-3)
    material = gltf.materials[primitive.material]
    assert material.doubleSided
    assert material.pbrMetallicRoughness.metallicFactor == 0
    assert material.pbrMetallicRoughness.roughnessFactor == 1
    image = gltf.images[gltf.textures[material.pbrMetallicRoughness.baseColorTexture.index].source]
    assert not image.uri, "the texture is embedded"
    texture = Image.open(io.BytesIO(view(image.bufferView)))
    assert_quadrants(positions, sampled(texture, np.stack((uv[:, 0], 1 - uv[:, 1]), 1)))  # glTF's v points down


def test_the_obj_names_files_that_exist_and_keeps_its_texture_upright(tmp_path, mesh):
    path, mtl, png = mesh_files.write_obj(tmp_path / "my face.obj", mesh, quadrant_texture(), CAMERA)
    assert re.search(r"^mtllib (\S+)$", path.read_text(), re.M)[1] == mtl.name
    names = re.findall(r"^map_K. (\S+)$", mtl.read_text(), re.M)
    assert set(names) == {png.name}
    assert all(file.exists() for file in (mtl, png))
    tri = trimesh.load(path, force="mesh", process=False)
    assert len(tri.faces) == len(mesh.faces)
    assert tri.face_normals[:, 2].mean() > 0.5
    assert_quadrants(tri.vertices, sampled(tri.visual.material.image, tri.visual.uv))
    archive = mesh_files.zip_files(tmp_path / "face.zip", (path, mtl, png))
    assert sorted(zipfile.ZipFile(archive).namelist()) == ["my face.obj", "my_face.mtl", "my_face.png"]


def test_the_ply_has_vertex_colours(tmp_path, mesh):
    path = mesh_files.write_ply(tmp_path / "mesh.ply", mesh, quadrant_texture(), CAMERA)
    tri = trimesh.load(path, process=False)
    assert len(tri.faces) == len(mesh.faces)
    assert_quadrants(tri.vertices, tri.visual.vertex_colors[:, :3])


# ---------------------------------------------------------------------------- images


def test_depth_survives_npy_and_png(tmp_path):
    depth = face_scene().depth
    image_files.write_depth_npy(tmp_path / "depth.npy", depth)
    stored = np.load(tmp_path / "depth.npy")
    assert stored.dtype == np.float32
    np.testing.assert_array_equal(stored, depth.numpy())

    mask = torch.ones_like(depth)
    mask[:5] = 0
    scale = image_files.write_depth_png(tmp_path / "depth.png", depth, mask=mask)
    assert Image.open(tmp_path / "depth.png").mode == "I;16"
    back = image_files.read_depth_png(tmp_path / "depth.png")
    assert np.isnan(back[:5]).all()
    assert np.abs(back[5:] - depth.numpy()[5:]).max() <= (scale.far - scale.near) / 65534
    values = np.asarray(Image.open(tmp_path / "depth.png"))
    near, far = (depth[5:] == depth[5:].min()).numpy(), (depth[5:] == depth[5:].max()).numpy()
    assert (values[5:][near] == 65535).all(), "near is bright, as in every picture of depth"
    assert (values[5:][far] == 1).all(), "and what is not known is darker than the furthest"
    assert (values[:5] == 0).all()


def test_a_constant_or_empty_depth_map_is_no_crash(tmp_path):
    image_files.write_depth_png(tmp_path / "flat.png", torch.ones(8, 8))
    np.testing.assert_array_equal(image_files.read_depth_png(tmp_path / "flat.png"), np.ones((8, 8)))
    image_files.write_depth_png(tmp_path / "none.png", torch.full((8, 8), torch.nan))
    assert np.isnan(image_files.read_depth_png(tmp_path / "none.png")).all()
    image_files.depth_to_pil(torch.full((8, 8), torch.nan))


def test_normals_use_the_opengl_colours():
    """A surface facing right (its depth grows to the right) is red, one facing up green, one facing us neither."""
    ramp = torch.linspace(0.95, 1.05, 32)
    for depth, expected in (
        (torch.ones(32, 32), (0, 0)),
        (ramp.expand(32, 32), (1, 0)),
        (ramp.flip(0)[:, None].expand(32, 32), (0, 1)),
    ):
        r, g, b = image_files.normals_to_pil(normals_from_depth(depth[None], CAMERA)).getpixel((16, 16))
        assert (r > 140, g > 140) == (expected[0] == 1, expected[1] == 1)
        assert min(r, g) > 110
        assert b > 128


def test_the_depth_picture_is_bright_in_front():
    scene = face_scene()
    grey = np.asarray(image_files.depth_to_pil(scene.depth).convert("L")).astype(int)
    assert grey[scene.nose] > 200
    assert grey[5, 5] < 60


# ---------------------------------------------------------------------------- animation


def frames(count: int = 4) -> list[Image.Image]:
    return [Image.new("RGB", (65, 64), (40 * i, 0, 255 - 40 * i)) for i in range(count)]


def test_webp_keeps_every_frame(tmp_path):
    path = animation.write_animation(tmp_path / "turn.mp4", iter(frames()), fps=10, video=False)
    assert path.name == "turn.webp"
    image = Image.open(path)
    assert image.n_frames == 4
    image.load()
    assert image.info["duration"] == 100
    assert image.info["loop"] == 0


def test_mp4_keeps_every_frame_in_its_colours(tmp_path):
    av = pytest.importorskip("av")
    path = animation.write_animation(tmp_path / "turn.webp", iter(frames()), fps=10, video=True)
    assert path.name == "turn.mp4"
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        assert (stream.codec_context.name, stream.codec_context.pix_fmt) == ("h264", "yuv420p")
        decoded = [frame.to_ndarray(format="rgb24") for frame in container.decode(stream)]
    assert len(decoded) == 4
    for i, frame in enumerate(decoded):
        assert frame.shape == (64, 64, 3)  # odd widths lose a column
        assert np.abs(frame.mean((0, 1)) - (40 * i, 0, 255 - 40 * i)).max() < 8


@pytest.mark.parametrize("video", [False, True])
def test_no_frames_are_refused(tmp_path, video):
    if video:
        pytest.importorskip("av")
    with pytest.raises(ValueError, match="frames"):
        animation.write_animation(tmp_path / "turn", [], video=video)
    assert list(tmp_path.iterdir()) == []


def test_normals_are_outward_and_those_of_trimesh(mesh):
    ours = mesh_files.export_normals(mesh).numpy()
    plain = trimesh.Trimesh(
        mesh_files.to_export_frame(mesh.vertices, CAMERA).numpy(), mesh.faces.numpy(), process=False
    )
    assert ours[:, 2].mean() > 0.5
    assert np.abs(np.linalg.norm(ours, axis=1) - 1).max() < 1e-5
    # Weighted by area here and by angle there: the same on a smooth sheet.
    assert np.median((ours * plain.vertex_normals).sum(axis=1)) > 0.999


WITHOUT_SCIPY = """
import sys
from pathlib import Path

sys.modules["scipy"] = None  # what a fresh installation has
sys.path.insert(0, sys.argv[1])
from face_scene import CAMERA, face_scene
from PIL import Image

from gan2shape_hub.results import mesh_files
from gan2shape_hub.results.mesh import build_mesh

mesh, folder = build_mesh(face_scene(32).depth, CAMERA), Path(sys.argv[2])
for write, name in ((mesh_files.write_glb, "a.glb"), (mesh_files.write_obj, "a.obj"), (mesh_files.write_ply, "a.ply")):
    write(folder / name, mesh, Image.new("RGB", (64, 64)), CAMERA)
"""


def test_meshes_are_written_without_scipy(tmp_path):
    """trimesh falls back to a loop of minutes and prints a traceback where it has to make normals without scipy."""
    here = str(Path(__file__).parent)
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_SCIPY, here, str(tmp_path)], capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    assert "scipy" not in done.stderr
    assert {file.name for file in tmp_path.iterdir()} >= {"a.glb", "a.obj", "a.ply"}


def test_a_video_without_its_package_is_refused_before_any_work(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "av", None)  # as where it is not installed
    with pytest.raises(ImportError, match=r"^a turntable as MP4 needs av: pip install 'gan2shape-hub\[video\]'\.$"):
        ExportOptions(video=True)
    assert list(tmp_path.iterdir()) == []
