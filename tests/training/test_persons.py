"""Poses and persons' shapes out of lit views whose truth is known: domes with noses under lamps of second order."""

import dataclasses

import pytest
import torch
from lamps import SIZE, config, dome, nets
from safetensors.torch import save_file
from torch import nn

from gan2shape_hub.models.sheet_unet import SheetUNet
from gan2shape_hub.rendering.camera import Pose
from gan2shape_hub.rendering.photometric import harmonics
from gan2shape_hub.rendering.renderer import raw_to_depth, render_view, warp_depth
from gan2shape_hub.rendering.shading import normals_from_depth
from gan2shape_hub.rendering.transfer import box_importance
from gan2shape_hub.stage_config import PhotometricConfig
from gan2shape_hub.training.faults import with_faults
from gan2shape_hub.training.persons import PersonShapes, fused, person_terms
from gan2shape_hub.training.poses import _turned, pose_terms, to_view
from gan2shape_hub.training.recipe import PersonalDepthRecipe, PersonsRecipe, PosesRecipe
from gan2shape_hub.training.relief import find_relief, read_views
from gan2shape_hub.training.sheet_nets import start_from
from gan2shape_hub.training.view_pool import CHUNK, ViewPool

PER_GREY = 0.4
"""View units of yaw that a picture's grey, -1..1, stands for."""


class ReadsGrey(nn.Module):
    """A view network that knows: every picture's grey says its yaw."""

    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(PER_GREY))

    def forward(self, images):
        yaw = torch.zeros(len(images), 6)
        yaw[:, 1] = images.mean((1, 2, 3)) * self.scale
        return yaw


def sheet(height=2.0, ridge=0.0):
    return raw_to_depth(dome(height, ridge)[:, 0], config().camera)[0]


def middle(depth):
    box = box_importance(config().prior.default_box, SIZE, 0.0)[0, 0]
    return (depth * box).sum() / box.sum()


def lit_pool(folder, sheets, yaws, angle=1.0):
    """Views of ``sheets`` at ``yaws`` (view units, as they are read; the truth is ``angle`` times that), each under
    eight lamps."""
    rng, camera = torch.Generator().manual_seed(1), config().camera
    lamps = torch.randn(8, 9, generator=rng) * torch.tensor([0.2, 0.5, 0.5, 0.5, *[0.1] * 5])
    grey = torch.tensor(yaws) / PER_GREY
    ratios = torch.zeros(len(sheets), len(yaws), 8, SIZE, SIZE)
    for i, one in enumerate(sheets):
        for k, yaw in enumerate(yaws):
            view = torch.zeros(1, 6)
            view[0, 1] = angle * yaw
            depth, _ = warp_depth(one[None], Pose.from_view(view, camera), camera)
            normals = -normals_from_depth(depth, camera)[0].flatten(1)
            ratios[i, k] = (lamps @ harmonics(normals).T).view(8, SIZE, SIZE)
    images = ((grey + 1) * 127.5).round().to(torch.uint8)[None, :, None, None, None]
    images = images.expand(len(sheets), -1, 3, SIZE, SIZE).contiguous()
    save_file({"ratios": ratios.half()}, folder / "000000.safetensors")
    assert len(sheets) <= CHUNK
    none = torch.zeros(len(sheets), len(yaws), 2)
    return ViewPool(images, none, none, None, (folder / "000000.safetensors",), lit=True)


def knowing():
    return dataclasses.replace(nets(dome()), view=ReadsGrey())


def test_light_tells_relief_and_angle(tmp_path):
    average, camera = sheet(), config().camera
    truth = middle(average) + 0.8 * (average - middle(average))
    pool = lit_pool(tmp_path, [truth, truth], [-0.32, 0.0, 0.3], angle=1.2)
    readings = read_views(pool, knowing(), config())
    assert readings[0, :, 1] == pytest.approx(torch.tensor([-0.32, 0.0, 0.3]), abs=2e-3)
    found = find_relief(pool, readings, average, config(), PosesRecipe(front_deg=5.0), lambda text: None)
    assert found.relief == pytest.approx(0.8, abs=0.04)
    assert found.angle == pytest.approx(1.2, abs=0.05)
    scaled = found.camera(camera)
    assert scaled.max_depth - scaled.min_depth == pytest.approx(
        found.relief * (camera.max_depth - camera.min_depth), abs=1e-4
    )
    # What the networks say of the scaled range is the scaled sheet.
    again = raw_to_depth(dome()[:, 0], scaled)[0]
    assert torch.allclose(again, found.sheet(average), atol=1e-4)


def test_relief_where_no_view_is_turned_is_that_of_the_front(tmp_path):
    average = sheet()
    truth = middle(average) + 0.9 * (average - middle(average))
    pool = lit_pool(tmp_path, [truth], [0.0, 0.02])
    readings = read_views(pool, knowing(), config())
    found = find_relief(pool, readings, average, config(), PosesRecipe(), lambda text: None)
    assert found.relief == pytest.approx(0.9, abs=0.05)
    assert found.angle == PosesRecipe().angles[0], "nothing is known of it"


def test_persons_are_told_from_one_another(tmp_path):
    noses = [sheet(ridge=0.3), sheet(ridge=-0.3), sheet()]
    pool, average = lit_pool(tmp_path, noses, [-0.25, 0.0, 0.25]), sheet()
    # A sheet of 32 pixels has blocks of four: held to those, no nose would be left.
    loose = dataclasses.replace(config(), photometric=PhotometricConfig(tie=5e-4))
    each = [fused(pool, i, knowing(), average, loose, PersonsRecipe()) for i in range(3)]
    shapes = PersonShapes(*(torch.stack(part) for part in zip(*each, strict=True)))
    targets = shapes.targets(average, PersonsRecipe())
    truth = torch.stack(noses) - torch.stack(noses).mean(0)
    found = targets - targets.mean(0)
    inner = (slice(None), slice(8, 24), slice(8, 24))
    for i in range(2):
        pair = torch.stack((found[inner][i].flatten(), truth[inner][i].flatten()))
        assert torch.corrcoef(pair)[0, 1] > 0.75
    assert (targets - average).abs()[2][8:24, 8:24].mean() < (targets - average).abs()[0][8:24, 8:24].mean()
    unknown = PersonShapes(shapes.own, torch.zeros_like(shapes.weight))
    assert torch.equal(unknown.targets(average, PersonsRecipe()), average.expand(3, -1, -1))


def test_a_depth_network_learns_who_is_who(tmp_path):
    pool = lit_pool(tmp_path, [sheet(), sheet()], [-0.25, 0.25])
    # Two persons that any network can tell apart.
    images = pool.images.clone()
    images[0, :, :, :16], images[1, :, :, 16:] = 255, 255
    pool, average = dataclasses.replace(pool, images=images), sheet()
    targets = torch.stack((sheet(ridge=0.6), sheet(ridge=-0.6)))
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = SheetUNet(3, 1, SIZE, nf=8, skip=8, resolution=16)
    start_from(net, average, config(), 0.3)
    assert (
        raw_to_depth(net(pool.floats(torch.tensor([0]), torch.tensor([0]))), config().camera) - average
    ).abs().mean() < 5e-3
    some = dataclasses.replace(knowing(), depth=net)
    terms = person_terms(
        some, pool, targets, torch.ones_like(targets), config(), PersonalDepthRecipe(batch=4), torch.device("cpu")
    )
    optimizer = torch.optim.Adam(net.parameters(), lr=3e-3)
    losses = []
    for step in range(60):
        optimizer.zero_grad()
        loss = terms(torch.Generator().manual_seed(step))["loss"]
        loss.backward()
        optimizer.step()
        losses.append(float(loss))
    assert sum(losses[-10:]) < 0.7 * sum(losses[:10])


def test_a_view_is_read_back_from_its_pose():
    camera, rng = config().camera, torch.Generator().manual_seed(0)
    views = (torch.rand(20, 6, generator=rng) * 2 - 1) * torch.tensor([0.3, 0.8, 0.3, 1, 1, 1])
    moves = dataclasses.replace(camera, view_translation_z=0.1)
    assert torch.allclose(to_view(Pose.from_view(views, moves), moves), views, atol=1e-5)
    views[:, 5] = 0.0
    assert torch.allclose(to_view(Pose.from_view(views, camera), camera), views, atol=1e-5), "a camera without z"


def test_renders_show_the_pose_that_they_are_labelled_with():
    """A texture on a sheet, seen from one side and turned, is the texture seen from the pose that is said."""
    camera, rng = config().camera, torch.Generator().manual_seed(0)
    rough = torch.rand(1, 3, 8, 8, generator=rng)
    texture = nn.functional.interpolate(rough, (SIZE, SIZE), mode="bicubic", align_corners=True)
    views = torch.zeros(4, 6)
    views[:, 1] = torch.tensor([-0.2, -0.1, 0.1, 0.2])
    depth = sheet().expand(4, -1, -1)
    ones = torch.ones(4, 1, SIZE, SIZE)
    start = render_view(
        depth, torch.cat((texture.expand(4, -1, -1, -1), ones), 1), Pose.from_view(views, camera), camera
    )
    recipe = PosesRecipe(pitch_deg=4.0, yaw_deg=12.0)
    found, said = _turned(start.image * start.mask, views, sheet(), camera, recipe, rng)
    assert (said - views)[:, :2].abs().max() > 0.03
    wanted = render_view(depth, texture.expand(4, -1, -1, -1), Pose.from_view(said, camera), camera)
    inner = (slice(None), slice(None), slice(10, 22), slice(10, 22))
    error = (found[:, :3] - wanted.image)[inner].abs().mean()
    unturned = (start.image[:, :3] - wanted.image)[inner].abs().mean()
    assert error < 0.35 * unturned


def test_a_view_network_learns_from_renders(tmp_path):
    pool = lit_pool(tmp_path, [sheet()], [-0.2, 0.2])
    some, readings = knowing(), torch.zeros(1, 2, 6)
    readings[0, :, 1] = torch.tensor([-0.2, 0.2])
    terms = pose_terms(some, pool, readings, sheet(), config(), PosesRecipe(batch=4))
    found = terms(torch.Generator().manual_seed(0))
    assert found["loss"] > 0
    found["loss"].backward()
    assert some.view.scale.grad.abs() > 0
    again = terms(torch.Generator().manual_seed(0))
    assert torch.equal(again["loss"], found["loss"])
    assert not torch.equal(terms(torch.Generator().manual_seed(1))["loss"], found["loss"])


def test_faults_are_of_every_kind_and_repeatable():
    images = torch.rand(64, 3, 16, 16, generator=torch.Generator().manual_seed(0)) * 2 - 1
    one, same, other = (with_faults(images, torch.Generator().manual_seed(seed)) for seed in (1, 1, 2))
    assert torch.equal(one, same)
    assert not torch.equal(one, other)
    assert one.abs().max() <= 1
    grey = (one - one.mean(1, keepdim=True)).abs().mean((1, 2, 3)) < 0.06
    assert 0 < grey.sum() < 32, "some are black and white, most are not"
    assert ((one - images).abs().mean((1, 2, 3)) > 0.01).all()
