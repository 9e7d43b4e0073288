"""Light walk and photometric stereo as stages: what they ask of the generator, and what they make of its answer."""

import dataclasses

import pytest
import torch
import torch.nn.functional as F

from gan2shape_hub.config import CameraConfig, CategoryConfig, LightWalkConfig, ProjectionConfig, ScheduleConfig
from gan2shape_hub.models.latent_projection import LatentProjection
from gan2shape_hub.models.shape import ShapeNets
from gan2shape_hub.plan import Abilities, Images, plan, step
from gan2shape_hub.records import Targets
from gan2shape_hub.rendering import Pose, normals_from_depth, warp_depth
from gan2shape_hub.run import Run
from gan2shape_hub.stages.light_walk import walk_light
from gan2shape_hub.stages.photometric import into_canonical, photometric_stereo
from gan2shape_hub.state import State

SIZE, LAYERS = 32, 6
CONFIG = CategoryConfig(
    category="ball",
    image_size=SIZE,
    camera=CameraConfig(border_px=0),
    projection=ProjectionConfig(
        space="pca",
        components=3,
        light_directions=((1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0)),
        light_layers=(2, 3),
    ),
    light_walk=LightWalkConfig(steps=((1, 0, 0), (-1, 0, 0), (0, 1, 0), (0, -1, 0), (1, 1, 0), (-1, 1, 0))),
)
SCHEDULE = ScheduleConfig(light_walk_size=64)


def ball(size, bumps=0.004):
    """Depth and mask of a face-like bowl; without bumps what everybody has in common."""
    v, u = torch.meshgrid(torch.linspace(-1, 1, size), torch.linspace(-1, 1, size), indexing="ij")
    radius = torch.hypot(u / 0.6, v / 0.8)
    depth = 0.97 + 0.04 * radius.clamp(max=1.2).square() + bumps * torch.sin(9 * u) * torch.cos(8 * v)
    return depth, (radius < 0.95).float()


class LampGenerator(torch.nn.Module):
    """Draws the bumpy bowl under the lamp that the latents of layers 2 and 3 say."""

    num_latents, latent_dim = LAYERS, 3

    def __init__(self):
        super().__init__()
        self.register_buffer("latent_mean", torch.zeros(3))
        self.register_buffer("component_basis", torch.eye(3))
        self.register_buffer("component_std", torch.ones(3))
        self.asked = []

    def image_at(self, w, size):
        w = w if w.ndim == 3 else w[:, None].expand(-1, LAYERS, -1)
        self.asked += [(size, row) for row in w]
        normals = -normals_from_depth(ball(size)[0][None], CONFIG.camera)[0]
        lamp = F.normalize(torch.cat([-w[:, 2:3, 0], -w[:, 2:3, 1], -torch.ones(len(w), 1)], 1), dim=1)
        shading = 0.35 + 0.65 * torch.einsum("bc,chw->bhw", lamp, normals).clamp_min(0)
        return (0.6 * shading[:, None].expand(-1, 3, -1, -1)) ** (1 / 2.2) * 2 - 1

    def forward(self, w):
        return self.image_at(w, SIZE)


@pytest.fixture
def start():
    generator = LampGenerator()
    nets = ShapeNets.create(CONFIG, 3, width=8, encoder_width=8).frozen()
    with torch.no_grad():
        for weight in nets.view.parameters():
            weight.zero_()  # it says: seen from the front
        image = generator.image_at(torch.zeros(1, 3), SIZE)
    targets = Targets(image, torch.zeros(1, 3), image, ball(SIZE)[1][None, None])
    generator.asked.clear()
    average = ball(SIZE, bumps=0.0)[0]
    return State(targets, LatentProjection(generator, CONFIG.projection), nets, average=average)


def run_of(name, iterations):
    this = step(name, iterations)
    return Run(CONFIG, SCHEDULE, torch.Generator().manual_seed(0), (this,), this)


def test_the_lamp_moves_and_nothing_else(start):
    lit = walk_light(start, run_of("light", 7)).lit
    assert lit.shape == (1, 7, 3, 64, 64)
    asked = start.generator.asked
    assert [size for size, _ in asked] == [64] * 7
    for (_, latent), steps in zip(asked, ((0, 0, 0), *CONFIG.light_walk.steps), strict=True):
        moved = torch.zeros(LAYERS, 3)
        moved[[2, 3]] = torch.tensor(steps, dtype=torch.float)
        assert torch.equal(latent, moved)
    left, right = lit[0, 1, 0], lit[0, 2, 0]
    assert float(left[:, :32].mean()) > float(right[:, :32].mean()), "a lamp on the left lights the left"
    assert start.lit is None


def test_the_relief_is_the_persons_own(start):
    lit = walk_light(start, run_of("light", 7))
    found = photometric_stereo(lit, run_of("stereo", 2)).scene
    assert found.depth.shape == (1, 64, 64)
    assert found.albedo.shape == (1, 3, 64, 64)
    pose = Pose.from_view(found.view, CONFIG.camera)
    seen = warp_depth(found.depth, pose, CONFIG.camera)[0][0]
    begun = warp_depth(
        F.interpolate(start.average[None, None], (64, 64), mode="bicubic", align_corners=True)[0], pose, CONFIG.camera
    )[0][0]
    truth, mask = ball(64)
    inner = (mask > 0) & (F.avg_pool2d(mask[None, None], 9, 1, 4)[0, 0] == 1)

    def apart(depth):
        return float((depth - truth)[inner].std() / 0.002)

    assert apart(seen) < 0.5 * apart(begun)


def test_the_progress_counts_every_picture(start):
    ticks = []
    run = dataclasses.replace(run_of("light", 7), callback=lambda progress: ticks.append(progress.iteration))
    state = walk_light(start, run)
    photometric_stereo(state, dataclasses.replace(run_of("stereo", 2), callback=run.callback))
    assert ticks == [1, 2, 3, 4, 5, 6, 7, 1, 2]


@pytest.mark.parametrize("mask", ["empty", "three pixels", "everything", "half"])
def test_any_mask_gives_a_finite_sheet(start, mask):
    pixels = torch.zeros(1, 1, SIZE, SIZE)
    if mask == "three pixels":
        pixels[..., 10, 10:13] = 1
    elif mask == "everything":
        pixels[:] = 1
    elif mask == "half":
        pixels[..., : SIZE // 2] = 1
    state = start.replace(targets=dataclasses.replace(start.targets, masks=pixels))
    found = photometric_stereo(walk_light(state, run_of("light", 7)), run_of("stereo", 2)).scene
    assert bool(found.depth.isfinite().all())
    assert 0.85 < float(found.depth.min()) < float(found.depth.max()) < 1.2


def test_black_pictures_give_the_average(start):
    state = start.replace(lit=torch.full((1, 7, 3, 64, 64), -1.0))
    found = photometric_stereo(state, run_of("stereo", 2)).scene
    average = F.interpolate(start.average[None, None], (64, 64), mode="bicubic", align_corners=True)[0, 0]
    inside = ball(64)[1] > 0
    assert float((found.depth[0] - average)[inside].abs().max()) < 3e-3


def test_what_the_view_hides_goes_on_without_a_step():
    depth, mask = ball(64)
    pose = Pose.from_angles(torch.tensor([[0.0, 0.5, 0.0]]))
    view_depth, _ = warp_depth(depth[None], pose, CONFIG.camera)
    view_mask = warp_depth(torch.where(mask > 0, depth, 1.2)[None], pose, CONFIG.camera)[0][0] < 1.1
    base = ball(64, bumps=0.0)[0] + 0.005  # as far off as an average may be
    sheet = into_canonical(view_depth[0], view_mask.float(), base, pose, run_of("stereo", 1).config.camera)
    left, right = (mask > 0).clone(), (mask > 0).clone()
    left[:, 24:], right[:, :44] = False, False
    errors = sorted(float((sheet - depth)[side].abs().mean()) for side in (left, right))
    assert errors[0] < 1.5e-3, "the side that is seen"
    steps = (sheet - base).diff(dim=1).abs()[mask[:, 1:] > 0]
    assert float(steps.max()) < 6e-3


def test_the_plan_takes_the_light_where_it_can():
    schedule = ScheduleConfig(rounds=(), light_walk_size=64, turned_views=4, adjust_iterations=5)
    names = lambda can: [s.name for s in plan(schedule, can, Images())]  # noqa: E731
    assert names(Abilities(turns=True, relights=True)) == ["light", "stereo"]
    assert names(Abilities(turns=True)) == ["turn", "adjust"]
    assert names(Abilities()) == []
    steps = plan(schedule, Abilities.of(CONFIG, pretrained=True), Images(count=3))
    assert [s.iterations for s in steps] == [21, 6]
    assert "prior" in [s.name for s in plan(schedule, Abilities(pretrained=False, relights=True), Images())]
