"""Object masks out of a scene: a known object before a known background."""

import pytest
import torch
import torch.nn.functional as F
from conftest import tiny_config, tiny_pipeline
from PIL import Image

from gan2shape_hub import InputError
from gan2shape_hub.config import CameraConfig, ProjectionConfig
from gan2shape_hub.models.selfie_masker import SelfieMasker
from gan2shape_hub.records import Scene
from gan2shape_hub.rendering import Pose, project, render_view
from gan2shape_hub.stages.mask import (
    TURNS_DEG,
    cover,
    first_answer,
    mask_from_scene,
    mask_from_turns,
    nearness,
    otsu,
)

SIZE = 64
CAMERA = CameraConfig(border_px=0)


def disc(radius, x=SIZE / 2 - 0.5, y=SIZE / 2 - 0.5):
    rows, columns = torch.meshgrid(torch.arange(SIZE), torch.arange(SIZE), indexing="ij")
    return ((columns - x) ** 2 + (rows - y) ** 2).sqrt() < radius


def scene_of(shape, albedo=None):
    """A mound where the bool map ``shape`` is, as soft at its foot as a network's, frontal, in flat light."""
    soft = F.avg_pool2d(F.pad(shape[None, None].float(), (6,) * 4, mode="replicate"), 13, stride=1)[0]
    depth = 1.05 - 0.1 * soft
    light = torch.tensor([[1.0, -1.0, 0.0, 0.0]])  # ambient 1, diffuse 0
    return Scene(depth, torch.zeros(1, 3, SIZE, SIZE) if albedo is None else albedo, torch.zeros(1, 6), light)


def painted(shape, inside=(0.6, -0.2, -0.4), outside=(-0.6, 0.1, 0.5)):
    colours = [torch.tensor(c)[:, None, None] for c in (inside, outside)]
    noise = 0.05 * torch.randn(3, SIZE, SIZE, generator=torch.Generator().manual_seed(0))
    return (torch.where(shape, *colours) + noise).clamp(-1, 1)[None]


def overlap(mask, shape):
    found = mask[0, 0] > 0.5
    return float((found & shape).sum() / (found | shape).sum())


def test_colours_correct_what_the_shape_gets_wrong():
    """The networks' shape is a tenth too small and beside the object; the mask is the object's all the same."""
    true, rough = disc(20), disc(17, x=SIZE / 2 + 2)
    image = painted(true)
    assert overlap(rough[None, None].float(), true) < 0.75
    mask = mask_from_scene(image, scene_of(rough, image), CAMERA)
    assert mask.shape == (1, 1, SIZE, SIZE)
    assert mask.min() >= 0
    assert mask.max() <= 1
    assert overlap(mask, true) > 0.9


def test_without_a_difference_of_colour_the_shape_decides():
    shape = disc(18)
    image = painted(shape, inside=(0.1, 0.1, 0.1), outside=(0.1, 0.1, 0.1))
    assert overlap(mask_from_scene(image, scene_of(shape, image), CAMERA), shape) > 0.85


def test_a_colour_of_the_background_far_from_the_object_stays_background():
    """A spot of the object's colour in the corner is no object: the shape knows that it is far."""
    true, spot = disc(18), disc(6, x=8, y=8)
    image = painted(true | spot)
    mask = mask_from_scene(image, scene_of(true, image), CAMERA)[0, 0]
    assert mask[spot].mean() < 0.5
    assert mask[true].mean() > 0.9


def test_a_flat_sheet_hides_nothing():
    nothing = torch.zeros(SIZE, SIZE, dtype=torch.bool)
    assert nearness(torch.ones(SIZE, SIZE), ~nothing) is None
    assert bool((mask_from_scene(painted(disc(10)), scene_of(nothing), CAMERA) == 1).all())


def test_otsu_divides_two_heaps():
    assert otsu(torch.cat((torch.full((50,), 0.1), torch.full((20,), 0.9)))) == pytest.approx(0.5, abs=0.05)


def test_the_next_one_is_asked_where_a_masker_finds_nothing():
    """Of three images the first masker knows one, the second another; the third is the object itself."""
    images = torch.stack([torch.full((3, 8, 8), v) for v in (-1.0, 0.0, 1.0)])
    left = torch.zeros(1, 1, 8, 8)
    left[..., :4] = 1
    asked = []

    def first(x):
        return torch.where((x.mean((1, 2, 3)) < -0.5)[:, None, None, None], left, 0.3 * left)

    def second(x):
        asked.append(x)
        return torch.where((x.mean((1, 2, 3)) < 0.5)[:, None, None, None], 1 - left, 0 * left)

    masks = first_answer(images, [first, second])
    assert torch.equal(masks, torch.cat([left, 1 - left, torch.ones_like(left)]))
    assert torch.equal(asked[0], images[1:])
    assert torch.equal(first_answer(images[:1], [first, second]), left)
    assert len(asked) == 1
    assert cover(masks).tolist() == [0.5, 0.5, 1.0]


class TestPipeline:
    """What becomes the object mask of a category that uses one."""

    @pytest.fixture
    def seen(self, monkeypatch):
        """The masks of each run, caught where the first step gets them."""
        from gan2shape_hub import pipeline as module

        caught, original = [], module.decompose

        def decompose(state, run):
            caught.append(state.targets.masks)
            return original(state, run)

        monkeypatch.setattr(module, "decompose", decompose)
        return caught

    def test_a_function_makes_it(self, seen):
        pipeline = tiny_pipeline(use_mask=True)
        left = torch.zeros(1, 1, 32, 32)
        left[..., :16] = 1
        given = []
        pipeline(pipeline.sample(seed=0), mask=lambda images: given.append(images) or left)
        assert torch.equal(seen[0], left)
        assert given[0].shape == (1, 3, 32, 32)

    def test_a_component_makes_it_and_alpha_comes_first(self, seen):
        class Right(torch.nn.Module):
            def forward(self, images):
                mask = torch.zeros_like(images[:, :1])
                mask[..., 16:] = 1
                return mask

        pipeline = tiny_pipeline(use_mask=True)
        pipeline.components["masker"] = Right()
        pipeline(Image.new("RGB", (64, 64), "red"))
        assert seen[0][..., 16:].min() == 1
        assert seen[0][..., :16].max() == 0
        picture = Image.new("RGBA", (64, 64), (200, 0, 0, 0))
        picture.paste((0, 200, 0, 255), (0, 0, 64, 32))
        pipeline(picture)
        assert seen[1][..., :15, :].min() == 1
        assert seen[1][..., 17:, :].max() == 0

    def test_where_the_component_finds_nothing_the_pretrained_shape_makes_it(self, seen):
        pipeline = tiny_pipeline(use_mask=True)
        sample = pipeline.sample(seed=0)
        pipeline(sample)
        pipeline.components["masker"] = SelfieMasker().requires_grad_(False).eval()
        pipeline.components["masker"].out.bias.fill_(-20)
        pipeline(sample)
        assert torch.equal(seen[0], seen[1])

    def test_the_pretrained_shape_makes_it_where_nothing_else_does(self, seen):
        pipeline = tiny_pipeline(use_mask=True)
        sample = pipeline.sample(seed=0)
        result = pipeline(sample)
        assert seen[0].std() > 0.01
        assert torch.equal(seen[0], pipeline._masker()(result.image[None]))
        for name in ("depth_net", "view_net"):
            pipeline.components.pop(name)
        pipeline(sample)
        assert bool((seen[1] == 1).all())

    def test_an_answer_that_is_no_mask_is_named(self):
        pipeline = tiny_pipeline(use_mask=True)
        with pytest.raises(InputError, match=r"the masker's answer is no mask: mask has shape \(1, 3, 32, 32\)"):
            pipeline(pipeline.sample(seed=0), mask=lambda images: images)
        assert tiny_config().use_mask is False


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_networks_in_half_precision_tell_it_too(dtype):
    config = tiny_config()
    pipeline = tiny_pipeline()
    images = pipeline.generator.image_at(pipeline.sample(seed=0).latent, 32)
    expected = pipeline._masker()(images)
    for module in pipeline.components.values():
        module.to(dtype)
    found = pipeline._masker()(images)
    assert found.dtype == torch.float32
    assert found.shape == (1, 1, config.image_size, config.image_size)
    assert (found - expected).abs().mean() < 0.15

    def test_the_mesh_is_cut_out_where_somebody_knows_the_object(self):
        pipeline = tiny_pipeline()
        sample = pipeline.sample(seed=0)
        whole = pipeline(sample)
        assert whole.alpha is None
        left = torch.zeros(32, 32)
        left[:, :16] = 1
        result = pipeline(sample, mask=left)
        assert torch.equal(result.alpha, left)
        assert 0.3 < len(result.sheet.vertices) / len(whole.sheet.vertices) < 0.7
        places = result.pose.apply(result.sheet.vertices[None], result.config.camera)
        seen = project(places, result.config.camera, (32, 32))[0, :, 0]
        assert float(seen.max()) < 17.5, "to a pixel and a half"
        assert pipeline(sample, mask=torch.zeros(32, 32)).alpha is None

    def test_the_masker_sees_the_picture_as_sharp_as_it_is(self):
        class Middle(torch.nn.Module):
            def forward(self, images):
                self.side = images.shape[-1]
                mask = torch.zeros_like(images[:, :1])
                mask[..., self.side // 4 : -self.side // 4] = 1
                return mask

        pipeline = tiny_pipeline()
        pipeline.components["masker"] = masker = Middle()
        result = pipeline(Image.new("RGB", (300, 300), "red"))
        assert result.alpha.shape == (300, 300)
        assert masker.side == 300
        assert len(result.sheet.vertices) < 0.7 * len(
            tiny_pipeline()(Image.new("RGB", (300, 300), "red")).sheet.vertices
        )


# -- what turns -------------------------------------------------------------------------------------------------------


def turning(shape, grain=3, behind=None):
    """An image (1, 3, S, S) and its turned ones of a textured mound before a background that stays; the sheet, and
    where the mound is seen (S, S)."""
    rng = torch.Generator().manual_seed(1)

    def texture():
        coarse = torch.rand(1, 3, SIZE // grain, SIZE // grain, generator=rng) * 1.6 - 0.8
        return F.interpolate(coarse, (SIZE, SIZE), mode="bilinear")

    yaws = torch.tensor([0.0, *TURNS_DEG]) / CAMERA.view_angle_deg
    views = torch.stack((torch.zeros_like(yaws), yaws), 1)
    sheet = scene_of(shape).depth[0]
    sheet = torch.where(sheet > 1.0499, torch.full_like(sheet, 1.05), sheet)
    surface = torch.cat([texture(), (sheet < 1.0495).float()[None, None]], 1).expand(len(views), -1, -1, -1)
    pose = Pose.from_view(F.pad(views, (0, 4)), CAMERA)
    seen = render_view(sheet.expand(len(views), -1, -1), surface, pose, CAMERA)
    there = seen.image[:, 3:] * seen.mask
    background = texture() if behind is None else torch.full((1, 3, SIZE, SIZE), behind)
    images = seen.image[:, :3] * there + background * (1 - there)
    return images[:1], images[1:], views[1:], sheet, there[0, 0] > 0.5


@pytest.mark.parametrize("behind", [None, 0.9])
def test_what_turns_is_the_object(behind):
    image, turned, views, sheet, truth = turning(disc(18, 30, 34), behind=behind)
    rough = 0.3 * 1.05 + 0.7 * scene_of(disc(20)).depth[0]  # the category's, elsewhere, larger and flatter
    for known, least in ((sheet, 0.8), (rough, 0.65)):
        mask = mask_from_turns(image, turned, views, known, CAMERA)
        assert mask.shape == (1, 1, SIZE, SIZE)
        assert overlap(mask, truth) > least


def test_a_picture_that_keeps_its_place_is_background_but_for_the_sheet():
    image, _, views, _, _ = turning(disc(18))
    sheet = torch.where(disc(14), 1.0, 1.05)
    mask = mask_from_turns(image, image.expand(len(views), -1, -1, -1), views, sheet, CAMERA)
    assert float(cover(mask)) < 0.2


def test_categories_with_masks_and_no_masker_ask_what_turns():
    directions = tuple(tuple(float(i == k) for i in range(8)) for k in range(2))
    projection = ProjectionConfig(space="pca", components=8, view_directions=directions, view_units=(0.1, -0.15))
    pipeline = tiny_pipeline(use_mask=True, projection=projection)
    sample = pipeline.sample(seed=1)
    result = pipeline(sample, seed=0)
    assert result.alpha is not None
    assert 0.01 < float(cover(result.alpha[None, None])) < 1
    given = torch.zeros(32, 32)
    given[8:24, 8:24] = 1
    assert torch.equal(pipeline(sample, seed=0, mask=given).alpha, given), "who gives one means it"
    assert tiny_pipeline(projection=projection)(sample, seed=0).alpha is None, "faces are not cut out by it"
