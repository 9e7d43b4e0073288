"""The judge by a scan: heads of known shape, photographed by the renderer, score what they must."""

import dataclasses
import hashlib
import io
import math
import tarfile

import numpy as np
import pytest
import torch
from PIL import Image

from gan2shape_hub.config import CameraConfig
from gan2shape_hub.evaluation import scan_mesh
from gan2shape_hub.evaluation.pinned import EvaluationError, PinnedArchive, default_folder
from gan2shape_hub.evaluation.scan import GREY, SIDE_LIGHT, WHITE, photograph, score, score_depth
from gan2shape_hub.evaluation.scan_mesh import Scan, parse_obj
from gan2shape_hub.records import Alignment
from gan2shape_hub.rendering.camera import focal_px

CAMERA = CameraConfig()
PICTURE = 128


def head(relief: float = 0.25, cells: int = 48) -> Scan:
    """A dome with a nose, a quarter of its side deep, half dark and half bright."""
    steps = torch.linspace(-0.5, 0.5, cells)
    y, x = torch.meshgrid(steps, steps, indexing="ij")
    z = -relief * (0.8 * torch.cos(math.pi * x) * torch.cos(math.pi * y) + 0.4 * torch.exp(-(x**2 + y**2) / 0.01))
    index = torch.arange(cells * cells).reshape(cells, cells)
    a, b, c, d = (i.flatten() for i in (index[:-1, :-1], index[:-1, 1:], index[1:, :-1], index[1:, 1:]))
    texture = torch.full((3, 8, 8), -0.5)
    texture[:, :, 4:] = 0.5
    corner = torch.tensor([[-0.3, -0.4], [0.3, -0.4], [0.3, 0.4], [-0.3, 0.4]])
    points = torch.stack((x, y, z - z.mean()), -1).reshape(-1, 3)
    faces = torch.cat((torch.stack((a, c, b), 1), torch.stack((b, c, d), 1)))
    return Scan(points, faces, points[:, :2] + 0.5, texture, corner, face_width=0.6, face_back=1.0)


def whole(picture, left=0.0, top=0.0, side=float(PICTURE)) -> Alignment:
    """The square of ``side`` pixels at (left, top)."""
    return Alignment(picture.image, picture.image, np.array([[side, 0.0, left], [0.0, side, top]]))


def truth(picture, alignment, size, relief=1.0, tilt=0.0):
    """The sheet (size, size) that a perfect method would return, its relief multiplied by ``relief``."""
    rows, columns = (np.arange(size) + 0.5) / size, (np.arange(size) + 0.5) / size
    u, v = np.meshgrid(columns, rows)
    x, y = alignment.matrix @ np.stack((u.ravel(), v.ravel(), np.ones(size * size))) - 0.5
    x, y = torch.tensor(x).clamp(0, PICTURE - 1.001), torch.tensor(y).clamp(0, PICTURE - 1.001)
    i, j = x.long(), y.long()
    fx, fy, d = x - i, y - j, picture.depth
    value = (d[j, i] * (1 - fx) + d[j, i + 1] * fx) * (1 - fy) + (d[j + 1, i] * (1 - fx) + d[j + 1, i + 1] * fx) * fy
    scene = value.reshape(size, size) * size / alignment.side / focal_px(size, CAMERA.fov_deg)
    inside = picture.depth[picture.face].mean() * size / alignment.side / focal_px(size, CAMERA.fov_deg)
    return 1 + relief * (scene - inside) + tilt * torch.tensor(u - 0.5)


@pytest.fixture(scope="module")
def picture():
    return photograph(head(), size=PICTURE)


@pytest.mark.parametrize(
    ("size", "square"), [(64, (0.0, 0.0, 128.0)), (128, (10.0, 6.0, 100.0)), (256, (0.0, 0.0, 128.0))]
)
def test_the_truth_scores_full_marks_at_any_size_and_place(picture, size, square):
    alignment = whole(picture, *square)
    found = score_depth(truth(picture, alignment, size), alignment, picture)
    assert found.correlation == pytest.approx(1, abs=1e-4)
    assert found.scale == pytest.approx(1, abs=0.01)
    assert found.rmse_percent < 0.1
    assert found.mad_deg < 1
    assert found.mad_fitted_deg < 0.5
    assert found.side < 0.01
    assert found.seen == 1


@pytest.mark.parametrize("relief", [0.5, 2.0])
def test_scale_is_what_the_relief_has_to_be_multiplied_with(picture, relief):
    alignment = whole(picture)
    found = score_depth(truth(picture, alignment, 64, relief), alignment, picture)
    assert found.scale == pytest.approx(1 / relief, rel=0.01)
    assert found.correlation == pytest.approx(1, abs=1e-4)
    assert found.rmse_percent < 0.1
    assert found.mad_deg > 5 > 0.5 > found.mad_fitted_deg


def test_a_tilt_is_taken_out_of_the_fitted_figures_only(picture):
    alignment = whole(picture)
    found = score_depth(truth(picture, alignment, 64, tilt=0.05), alignment, picture)
    assert found.scale == pytest.approx(1, abs=0.02)
    assert found.correlation < 0.99
    # The plane rises by 0.05 over a square that is 0.175 wide: 15.9 degrees where the surface is frontal.
    assert 10 < found.mad_deg < 17
    assert found.mad_fitted_deg < 0.7


def test_errors_are_measured_in_face_widths_and_degrees(picture):
    """A flat sheet has no correlation, and its normals are off by the surface's own slope."""
    alignment = whole(picture)
    right = truth(picture, alignment, 64)
    flat = score_depth(torch.ones(64, 64), alignment, picture)
    assert flat.correlation == 0
    y, x = torch.meshgrid(*[(torch.arange(PICTURE) + 0.5) / PICTURE] * 2, indexing="ij")
    terms = torch.stack((torch.ones(PICTURE**2), x.flatten(), y.flatten()), 1).double()[picture.face.flatten()]
    depth = picture.depth[picture.face]
    spread = depth - terms @ torch.linalg.lstsq(terms, depth[:, None]).solution[:, 0]
    assert flat.rmse_percent == pytest.approx(100 * float(spread.square().mean().sqrt()) / picture.face_width, rel=0.05)
    assert picture.face_width == pytest.approx(0.6 * 0.95 * PICTURE)
    bump = right.clone()
    bump[32, 32] += 0.01
    assert score_depth(bump, alignment, picture).mad_deg > score_depth(right, alignment, picture).mad_deg


def test_what_is_not_seen_does_not_count_but_is_told(picture):
    alignment = whole(picture)
    sheet = truth(picture, alignment, 64)
    sheet[:, :32] = float("nan")
    found = score_depth(sheet, alignment, picture)
    assert found.correlation == pytest.approx(1, abs=1e-4)
    assert 0.45 < found.seen < 0.55
    mask = torch.zeros(64, 64)
    mask[30:35, 30:35] = 1
    with pytest.raises(ValueError, match="pixels of the scan's face"):
        score_depth(sheet, alignment, picture, mask=mask)


def test_photographs(picture):
    """Depth is that of the mesh, the turn goes to the image's left, light comes from where it should."""
    # Nose to rim of the outline's corners, in pixels.
    centre, corner = picture.depth[63:65, 63:65].mean(), picture.depth[int(64 + 0.38 * 122), 64]
    expected = 0.25 * (0.8 + 0.4 - 0.8 * math.cos(math.pi * (int(64 + 0.38 * 122) - 63.5) / 121.6)) * 121.6
    assert float(corner - centre) == pytest.approx(expected, rel=0.02)
    assert float(picture.face.double().mean()) == pytest.approx(0.6 * 0.8 * 0.95**2 * 0.9**2, rel=0.03)
    turned = photograph(head(), yaw_deg=30, background=WHITE, size=PICTURE)
    nearest = turned.depth.nan_to_num(math.inf).argmin() % PICTURE  # the nose
    assert nearest < 60
    shown = np.asarray(turned.image)
    assert shown[0, 0].tolist() == [255, 255, 255]
    assert np.asarray(picture.image)[0, 0].tolist() == [128, 128, 128]
    assert turned.face.sum() > 0.7 * picture.face.sum()
    lit = np.asarray(photograph(head(), light=SIDE_LIGHT, size=PICTURE).image).astype(float)
    plain = np.asarray(picture.image).astype(float)
    assert lit[64, 40].mean() / plain[64, 40].mean() > 1.3 * lit[64, 88].mean() / plain[64, 88].mean()


def test_what_lies_behind_the_face_is_not_judged(picture):
    """Of the dome, only what lies a tenth of its side before its middle."""
    near = photograph(dataclasses.replace(head(), face_back=-0.1), size=PICTURE)
    expected = picture.face & (picture.depth < -0.1 * 0.95 * PICTURE)
    assert 0.2 * picture.face.sum() < expected.sum() < 0.95 * picture.face.sum()
    assert (near.face ^ expected).sum() <= 0.01 * expected.sum()


@pytest.mark.filterwarnings("ignore:the generator reproduces")
def test_a_result_of_the_pipeline_is_judged(pipeline):
    picture = photograph(head(), size=64)
    result = pipeline(picture.image)
    found = score(result, picture)
    assert all(math.isfinite(v) for v in vars(found).values())
    assert found == score_depth(result.view_depth, result.alignment, picture, mask=result.mask, camera=CAMERA)
    with pytest.raises(ValueError, match="has no photograph"):
        score(pipeline(pipeline.sample(seed=1)), picture)


OBJ = "# head\nmtllib x\n\nv 0 0 0\nv 1 0 0\nv 0 1 0\nv 1 1 5\nvt 0 0\nvt 1 0\nvt 0 1\nvt 0.5 0.5\n"


def test_seams_of_an_obj_become_several_vertices():
    points, faces, places = parse_obj(OBJ + "f 1/1 2/2 3/3\nf 2/4/7 4/1 3/3\n")
    assert points.shape == (5, 3)  # vertex 2 twice
    assert faces.shape == (2, 3)
    assert points[faces[1]].tolist() == [[1, 0, 0], [1, 1, 5], [0, 1, 0]]
    assert places[faces[1]].tolist() == [[0.5, 0.5], [0, 0], [0, 1]]
    with pytest.raises(ValueError, match="triangulate"):
        parse_obj(OBJ + "f 1/1 2/2 4/4 3/3\nf 1/1 2/2 3/3\n")


def test_the_archive_is_checked_and_read_and_never_trusted(tmp_path, monkeypatch):
    path = tmp_path / scan_mesh.SCAN.name
    picture = io.BytesIO()
    Image.new("RGB", (4, 2), (255, 0, 0)).save(picture, "JPEG")
    with tarfile.open(path, "w:gz") as archive:
        for name, content in ((scan_mesh.MESH, (OBJ + "f 1/1 2/2 3/3\nf 2/4 4/1 3/3\n").encode()),
                              (scan_mesh.TEXTURE, picture.getvalue())):  # fmt: skip
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    with pytest.raises(EvaluationError, match=r"download menpo3d==0\.8\.6 again"):
        scan_mesh.load_scan(tmp_path)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    monkeypatch.setattr(scan_mesh, "SCAN", PinnedArchive("menpo3d==0.8.6", path.name, digest))
    scan = scan_mesh.load_scan(tmp_path)
    assert scan.vertices.shape == (5, 3)
    assert scan.vertices.amax(0)[:2].tolist() == [0.5, 0.5]
    # The vertex at the upper left of the picture: v 1 is the first row, and depth 5 is nearest.
    assert scan.vertices[:, 2].min() == pytest.approx(-2.5)
    assert scan.texture.shape == (3, 2, 4)
    upper = scan.uv[scan.faces[0, 2]]
    assert upper.tolist() == pytest.approx([-0.5 / 3, -0.5])  # the picture's corner, beyond the first texel's centre


def test_the_real_scan():
    if not (default_folder() / scan_mesh.SCAN.name).exists():
        pytest.skip("the scan's archive is not in the cache: scripts/evaluate.py scan fetches it")
    scan = scan_mesh.load_scan()
    assert scan.faces.shape == (12228, 3)
    picture = photograph(scan, background=GREY, size=PICTURE)
    assert 2000 < int(picture.face.sum()) < 3200
    v, u = np.unravel_index(int(torch.where(picture.face, picture.depth, 1e9).argmin()), (PICTURE, PICTURE))
    assert (abs(u - 69) < 4) & (abs(v - 72) < 5)  # the tip of the nose
