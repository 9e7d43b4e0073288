import math

import pytest
import torch

from gan2shape_hub.config import CameraConfig
from gan2shape_hub.evaluation.canonical_face import canonical_mesh, mirror_permutation
from gan2shape_hub.evaluation.face_depth import (
    EARS,
    NOSE_TIP,
    depth_correlation,
    evaluate_depth,
    identity_correlation,
    inner_points,
    pearson,
    sample_face,
    tabulate,
    without_quadric,
)
from gan2shape_hub.evaluation.facemesh import FaceLandmarks
from gan2shape_hub.evaluation.head_pose import average_mesh, fit_similarity, head_pose, turn_deg
from gan2shape_hub.rendering.camera import Pose, focal_px, project, unproject

CAMERA = CameraConfig()
SIZE = 128


def rotation(yaw: float, pitch: float = 0.0, roll: float = 0.0) -> torch.Tensor:
    angles = torch.tensor([[pitch, yaw, roll]], dtype=torch.float64).deg2rad()
    return Pose.from_angles(angles).rotation[0]


def landmarks(yaw=0.0, pitch=0.0, roll=0.0, mesh=None, width=60.0, size=SIZE) -> FaceLandmarks:
    """The canonical (or another) mesh seen from the side, in the middle of an image of ``size`` pixels."""
    points = (canonical_mesh() if mesh is None else mesh) @ rotation(yaw, pitch, roll).T
    points = points * width * size / SIZE + torch.tensor([(size - 1) / 2, (size - 1) / 2, 0.0])
    return FaceLandmarks(points.float(), (size, size), 1.0)


def sheet_through(mark: FaceLandmarks, relief: float = 1.0, size: int = SIZE) -> torch.Tensor:
    """Depth sheet of a smooth surface (a quartic in x and y) fitted to the mesh, scene units, around depth 1."""
    pixels = mark.in_image((size, size)).double()
    scale = size / 2

    def terms(x, y):
        x, y = (x - scale) / scale, (y - scale) / scale
        return torch.stack([x**i * y**j for i in range(5) for j in range(5 - i)], -1)

    z = pixels[:, 2] / focal_px(size, CAMERA.fov_deg) * relief
    coefficients = torch.linalg.lstsq(terms(pixels[:, 0], pixels[:, 1]), z[:, None]).solution[:, 0]
    v, u = torch.meshgrid(torch.arange(size).double(), torch.arange(size).double(), indexing="ij")
    return 1 + terms(u, v) @ coefficients


def on_surface(mark: FaceLandmarks, sheet: torch.Tensor) -> FaceLandmarks:
    """The same landmarks with the z that the sheet has under them, in pixels."""
    z = sample_face(sheet, mark).points[:, 2]
    points = mark.points.clone()
    points[:, 2] = ((z - z.mean()) * focal_px(mark.image_size[1], CAMERA.fov_deg)).float()
    return FaceLandmarks(points, mark.image_size, 1.0)


def test_canonical_mesh_is_symmetric_and_one_wide():
    mesh, mirror = canonical_mesh(), mirror_permutation()
    assert mesh.shape == (468, 3)
    assert torch.equal(mirror[mirror], torch.arange(468))
    assert mirror[33] == 263  # outer eye corners
    assert mirror[61] == 291  # corners of the mouth
    assert mirror[NOSE_TIP] == NOSE_TIP
    assert torch.equal(mesh[mirror] * torch.tensor([-1.0, 1, 1]), mesh)
    assert (mesh[EARS[0]] - mesh[EARS[1]]).norm() == pytest.approx(1)
    # Right side left in the image, forehead up, nose toward the camera.
    assert mesh[33, 0] < 0
    assert mesh[10, 1] < mesh[152, 1]
    assert mesh[NOSE_TIP, 2] == mesh[:, 2].min() or mesh[NOSE_TIP, 2] < mesh[EARS[0], 2]


@pytest.mark.parametrize("angles", [(0, 0, 0), (25, 0, 0), (-40, 5, 3), (10, -20, -8)])
def test_head_pose_has_the_renderers_signs(angles):
    assert head_pose(landmarks(*angles)) == pytest.approx(angles, abs=1e-3)


def test_positive_yaw_looks_to_the_images_left_and_positive_pitch_down():
    mark = landmarks(yaw=20, pitch=10)
    forward = mark.points[NOSE_TIP] - mark.points[list(EARS)].mean(dim=0)
    level = landmarks().points[NOSE_TIP] - landmarks().points[list(EARS)].mean(dim=0)
    assert forward[0] < level[0]
    assert forward[1] > level[1]


def test_head_pose_ignores_size_place_and_an_open_mouth():
    mesh = canonical_mesh()
    jaw = mesh[:, 1] > 0.35
    mesh[jaw, 1] += 0.08
    mark = landmarks(yaw=15, mesh=mesh, width=211.0)
    mark.points.add_(torch.tensor([100.0, -30.0, 7.0]))
    yaw, pitch, roll = head_pose(mark)
    assert yaw == pytest.approx(15, abs=0.2)
    assert roll == pytest.approx(0, abs=0.2)
    assert abs(pitch) < 2.5


def test_turn_divides_rotations():
    turn, start = rotation(20), rotation(5, 12, 2)
    base = canonical_mesh() * 50
    before = FaceLandmarks((base @ start.T).float(), (SIZE, SIZE), 1.0)
    after = FaceLandmarks((base @ (turn @ start).T).float(), (SIZE, SIZE), 1.0)
    assert turn_deg(before, after) == pytest.approx((20, 0, 0), abs=1e-3)


def test_fit_similarity_recovers_motions_of_a_batch():
    mesh = canonical_mesh()
    r = torch.stack((rotation(30, 10), rotation(-5, 3, 80)))
    moved = torch.tensor([2.0, 0.5]).double()[:, None, None] * mesh @ r.mT + torch.tensor([[[1.0, 2, 3]]])
    fit = fit_similarity(mesh, moved)
    torch.testing.assert_close(fit.rotation, r)
    torch.testing.assert_close(fit.scale, torch.tensor([2.0, 0.5]).double())
    torch.testing.assert_close(fit.back(moved), mesh.expand(2, -1, -1))
    torch.testing.assert_close(fit.apply(mesh), moved)


def test_average_mesh_of_turned_faces_is_the_face():
    turned = torch.stack([canonical_mesh() @ rotation(yaw).T * 40 + 7 for yaw in (-30, -10, 10, 30)])
    torch.testing.assert_close(average_mesh(turned), canonical_mesh(), atol=2e-3, rtol=0)


def test_correlation_of_a_matching_sheet_is_one_and_of_its_inverse_minus_one():
    mark = landmarks(yaw=12)
    sheet = sheet_through(mark)
    mark = on_surface(mark, sheet)
    assert depth_correlation(sheet, mark) == pytest.approx(1, abs=1e-6)
    assert depth_correlation(2 - sheet, mark) == pytest.approx(-1, abs=1e-6)
    assert depth_correlation(torch.ones(SIZE, SIZE), mark) == 0


def test_sheet_and_picture_may_have_different_sizes():
    mark = landmarks(yaw=12)
    sheet = sheet_through(mark, size=64)
    large = on_surface(landmarks(yaw=12, size=1024), sheet)
    assert depth_correlation(sheet, large) == pytest.approx(1, abs=1e-6)
    # The centre of the first of 64 pixels is the middle of 16 pixels of 1024: 7.5.
    corner = FaceLandmarks(torch.full((468, 3), 7.5), (1024, 1024), 1.0)
    torch.testing.assert_close(corner.in_image((64, 64))[0, :2], torch.zeros(2))


def test_points_off_the_mask_the_picture_or_without_depth_are_not_used():
    mark = landmarks()
    sheet = sheet_through(mark)
    mark = on_surface(mark, sheet)
    mask = torch.ones(SIZE, SIZE)
    mask[:, :50] = 0
    broken = sheet.clone()
    broken[:, :50] = 7
    broken[:5] = math.nan
    assert depth_correlation(broken, mark) < 0.9
    assert depth_correlation(broken, mark, mask) == pytest.approx(1, abs=1e-6)
    assert depth_correlation(sheet, mark, torch.zeros(SIZE, SIZE)) == 0
    outside = FaceLandmarks(mark.points + torch.tensor([200.0, 0, 0]), mark.image_size, 1.0)
    assert not sample_face(sheet, outside).usable.any()


def test_amplitude_by_hand():
    mark = landmarks(width=60)
    # Ears 60 pixels apart; nose 0.03 scene units in front of them.
    sheet = torch.full((SIZE, SIZE), 1.03, dtype=torch.float64)
    u, v = (round(float(x)) for x in mark.points[NOSE_TIP, :2])
    sheet[v - 3 : v + 4, u - 3 : u + 4] = 1.0
    width = 60 * 1.03 / focal_px(SIZE, 10)
    assert sample_face(sheet, mark).amplitude == pytest.approx(0.03 / width, rel=1e-4)
    mesh = canonical_mesh()
    expected = float(mesh[EARS[0], 2] - mesh[NOSE_TIP, 2])
    assert sample_face(sheet, mark).mesh_amplitude == pytest.approx(expected, rel=1e-4)


def test_amplitude_does_not_depend_on_the_pose():
    turned = landmarks(yaw=25, pitch=8)
    frontal = sample_face(torch.ones(SIZE, SIZE), landmarks())
    assert sample_face(torch.ones(SIZE, SIZE), turned).mesh_amplitude == pytest.approx(frontal.mesh_amplitude, rel=1e-4)


def test_lifted_points_lie_on_the_unprojected_sheet():
    mark = landmarks()
    mark = FaceLandmarks(mark.points.round(), mark.image_size, 1.0)
    sheet = sheet_through(mark)
    points = sample_face(sheet, mark).points
    u, v = mark.points[7, :2].long().tolist()
    torch.testing.assert_close(points[7], unproject(sheet[None], CAMERA)[0, v, u])
    torch.testing.assert_close(project(points[None], CAMERA, (SIZE, SIZE))[0], mark.points[:, :2].double())


def people(count: int, seed: int = 0) -> list[torch.Tensor]:
    """Meshes whose relief differs smoothly and symmetrically from person to person."""
    rng = torch.Generator().manual_seed(seed)
    mesh = canonical_mesh()
    x, y = mesh[:, 0], mesh[:, 1]
    bumps = torch.stack((x**2 * y, y**2, x**2, (3 * y).cos()))
    return [
        mesh + torch.stack((0 * x, 0 * x, 0.2 * torch.randn(4, generator=rng, dtype=torch.float64) @ bumps), 1)
        for _ in range(count)
    ]


def test_identity_is_one_for_the_right_persons_and_zero_for_the_same_face_for_everybody():
    yaws = [-20, -8, 3, 11, 24, 0]
    faces, same = [], []
    average = sheet_through(landmarks())
    for yaw, mesh in zip(yaws, people(6), strict=True):
        mark = landmarks(yaw=yaw, mesh=mesh)
        sheet = sheet_through(mark, relief=0.7)
        faces.append(sample_face(sheet, on_surface(mark, sheet)))
        frontal = landmarks(mesh=mesh)
        same.append(sample_face(average, frontal))
    assert identity_correlation(faces) > 0.95
    assert abs(identity_correlation(same)) < 0.3
    assert math.isnan(identity_correlation(faces[:2]))


def test_inner_points_are_those_of_the_features():
    inner = inner_points()
    assert int(inner.sum()) == 396
    assert inner[[NOSE_TIP, 33, 263, 61, 291]].all()  # eyes and mouth
    assert not inner[[*EARS, 10, 152]].any()  # forehead and chin
    assert canonical_mesh()[inner, 0].abs().max() <= 0.4


def test_a_quadric_and_nothing_else_is_taken_out():
    xy = canonical_mesh()[inner_points(), :2]
    x, y = xy.unbind(1)
    quadric, bump = 3 - 2 * x + y + 4 * x * x - x * y + 0.5 * y * y, torch.exp(-(x * x + y * y) / 0.01)
    assert without_quadric(quadric, xy).abs().max() == 0
    torch.testing.assert_close(without_quadric(quadric + bump, xy), without_quadric(bump, xy), atol=1e-9, rtol=0)
    assert pearson(without_quadric(quadric + bump, xy), bump) > 0.8


def test_inner_correlation_sees_features_and_neither_tilt_nor_bulge():
    mark = landmarks(yaw=12)
    sheet = sheet_through(mark)
    mark = on_surface(mark, sheet)
    steps = torch.linspace(-1, 1, SIZE, dtype=torch.float64)
    bulge = 0.02 * (2 * steps[None] ** 2 + steps[:, None] ** 2 + steps[None])
    assert sample_face(sheet, mark).inner_correlation == pytest.approx(1, abs=1e-6)
    # Mesh pixels lie between the sheet's, so that a bulge is a quadric of theirs but for a little.
    assert sample_face(sheet + bulge, mark).inner_correlation == pytest.approx(1, abs=1e-3)
    assert sample_face(sheet + bulge, mark).correlation < 0.97
    assert sample_face(1 + bulge, mark).inner_correlation == pytest.approx(0, abs=0.2)
    assert sample_face(torch.ones(SIZE, SIZE), mark).inner_correlation == 0
    assert sample_face(2 - sheet, mark).inner_correlation == pytest.approx(-1, abs=1e-6)


def test_inner_identity_sees_persons_and_not_a_quadric():
    faces, wrong = [], []
    steps = torch.linspace(-1, 1, SIZE, dtype=torch.float64)
    rng = torch.Generator().manual_seed(1)
    meshes = people(6)
    sheets = [sheet_through(landmarks(mesh=mesh), relief=0.7) for mesh in meshes]
    for k, mesh in enumerate(meshes):
        a, b, c = (0.03 * torch.randn(3, generator=rng)).tolist()
        bulge = a * steps[None] ** 2 + b * steps[:, None] ** 2 + c * steps[:, None]
        mark = on_surface(landmarks(mesh=mesh), sheets[k])
        faces.append(sample_face(sheets[k] + bulge, mark))
        wrong.append(sample_face(sheets[k - 1] + bulge, mark))
    assert identity_correlation(faces, inner=True) > 0.9
    assert identity_correlation(faces, inner=True) > identity_correlation(faces)
    assert identity_correlation(wrong, inner=True) < 0.3


def test_table():
    mark = landmarks(yaw=12)
    sheet = sheet_through(mark)
    mark = on_surface(mark, sheet)
    sheets = torch.stack((sheet, 2 - sheet, sheet, sheet))
    table = evaluate_depth(sheets, [mark, mark, None, mark])
    assert table.inner == pytest.approx(1 / 3, abs=1e-6)
    assert evaluate_depth(torch.ones(1, SIZE, SIZE), [mark]).mean == 0  # a flat sheet is a failure, not a gap
    assert table.per_image[:2] == pytest.approx((1, -1), abs=1e-6)
    assert math.isnan(table.per_image[2])
    assert table.faces == 3
    assert table.mean == pytest.approx(1 / 3, abs=1e-6)
    assert table.std == pytest.approx(math.sqrt(4 / 3), abs=1e-6)  # 1, -1, 1 about 1/3, over n - 1
    assert table.p10 == pytest.approx(-0.6, abs=1e-6)  # sorted -1, 1, 1 at position 0.2
    assert table.as_dict()["per_image"][2] is None
    assert "correlation 0.333" in str(table)


def test_empty_table_and_bad_arguments():
    table = tabulate([None])
    assert math.isnan(table.mean)
    assert table.as_dict()["mean"] is None
    with pytest.raises(ValueError, match="mesh is None"):
        evaluate_depth(torch.ones(1, 8, 8), torch.zeros(1, 3, 32, 32))
    with pytest.raises(ValueError, match="as many of each"):
        evaluate_depth(torch.ones(1, 8, 8), [])
    with pytest.raises(ValueError, match=r"view_depth has shape \(8, 9\)"):
        sample_face(torch.ones(8, 9), landmarks())
    assert math.isnan(pearson(torch.ones(5), torch.arange(5)))
