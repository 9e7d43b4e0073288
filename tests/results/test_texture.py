"""The baked texture is the photograph where the photograph shows it, and seamless where it does not."""

import pytest
import torch
import torch.nn.functional as F
from face_scene import CAMERA, face_scene, light, turned

from gan2shape_hub.rendering.camera import Pose
from gan2shape_hub.rendering.renderer import render_view, visible_from
from gan2shape_hub.rendering.shading import normals_from_depth, shade
from gan2shape_hub.results.texture import bake_texture, upsample_depth

SIZE, FINE = 64, 192


def painted(size: int) -> torch.Tensor:
    """Smooth colours with stripes too fine for the working size."""
    y, x = torch.meshgrid(torch.linspace(-1, 1, size), torch.linspace(-1, 1, size), indexing="ij")
    stripes = 0.15 * torch.sin(110 * x)
    return torch.stack((0.5 * x + stripes, 0.5 * y + stripes, 0.3 * torch.cos(3 * x * y) + stripes))


def photograph(texture: torch.Tensor, depth: torch.Tensor, pose: Pose) -> torch.Tensor:
    """The scene photographed at FINE pixels; pixel edges, not centres, align with those of the working size."""
    fine = upsample_depth(depth, FINE)
    image = render_view(fine[None], texture[None], pose, CAMERA).image
    # Rendered, the corner pixels' centres align with the sheet's; a photograph reaches half a small pixel further.
    at = (2 * torch.arange(FINE) + 1) / FINE - 1
    at = at * SIZE / (SIZE - 1)
    grid = torch.stack(torch.meshgrid(at, at, indexing="xy"), -1)
    return F.grid_sample(image, grid[None], "bicubic", "border", align_corners=True)[0]


def psnr(a: torch.Tensor, b: torch.Tensor, where: torch.Tensor) -> float:
    error = ((a - b) ** 2).mean(0)[where].mean()
    return float(10 * torch.log10(4 / error))


def bake(yaw: float, albedo_offset: float = 0.0):
    scene, lamp = face_scene(SIZE), light()
    pose = turned(yaw)
    truth = painted(FINE)
    source = photograph(truth, scene.depth, pose)
    # An albedo that, shaded, is the truth at the working size, but for a cast of colour.
    _, diffuse = shade(torch.zeros(1, 3, SIZE, SIZE), normals_from_depth(scene.depth[None], CAMERA), lamp)
    coarse = F.interpolate(truth[None], (SIZE, SIZE), mode="bilinear", align_corners=True, antialias=True)
    albedo = ((coarse / 2 + 0.5) / (0.4 + 0.6 * diffuse) * 2 - 1)[0] + albedo_offset
    return scene, pose, truth, bake_texture(source, scene.depth, albedo, pose, lamp, CAMERA)


def test_a_frontal_photograph_is_recovered_down_to_its_fine_detail():
    _, _, truth, baked = bake(0)
    assert baked.image.shape == (3, FINE, FINE)
    assert baked.confidence.shape == (1, FINE, FINE)
    inner = torch.zeros(FINE, FINE, dtype=torch.bool)
    inner[8:-8, 8:-8] = True
    assert (baked.confidence[0][inner] == 1).float().mean() > 0.99
    # Half a small pixel of misalignment alone would bring this below 25 dB (stripes).
    assert psnr(baked.image, truth, inner) > 35


@pytest.mark.parametrize("yaw", [-25.0, 25.0])
def test_a_turned_photograph_is_recovered_where_it_is_seen(yaw):
    scene, pose, truth, baked = bake(yaw)
    confident = baked.confidence[0] > 0.99
    assert 0.4 < confident.float().mean() < 0.98
    assert psnr(baked.image, truth, confident) > 26
    hidden = visible_from(scene.depth[None], pose, CAMERA)[0] < 0.5
    hidden = F.interpolate(hidden[None].float(), (FINE, FINE), mode="nearest")[0] > 0.5
    assert hidden.any()
    assert baked.confidence[hidden].max() < 0.6, "what the view hides is not taken from it"
    assert baked.confidence[hidden].mean() < 0.05


def test_hidden_parts_take_the_colours_of_the_seam():
    """The albedo's colour cast is gone where it meets the photograph, and hidden parts still show the albedo."""
    scene, _, truth, baked = bake(25, albedo_offset=0.3)
    object_only = F.interpolate(scene.mask[None, None], (FINE, FINE), mode="nearest")[0, 0] > 0.5
    filled = (baked.confidence[0] < 0.01) & object_only
    assert filled.sum() > 100
    coarse = F.avg_pool2d(baked.image[None] - truth[None], 9, 1, 4)[0]
    assert coarse[:, filled].abs().mean() < 0.15, "an unmatched fill is off by 0.3 or more"


def test_texture_size_and_arguments():
    scene, lamp = face_scene(SIZE), light()
    arguments = (scene.depth, scene.albedo, turned(5), lamp, CAMERA)
    assert bake_texture(painted(100), *arguments, size=40).image.shape == (3, 40, 40)
    assert bake_texture(painted(32), *arguments).image.isfinite().all()
    with pytest.raises(ValueError, match="must be"):
        bake_texture(painted(100), scene.depth[:10], *arguments[1:])


def test_upsampled_depth_keeps_its_corners_and_does_not_ring():
    depth = torch.where(torch.arange(16)[None] < 8, 0.95, 1.04).expand(16, 16)
    fine = upsample_depth(depth, 61)
    torch.testing.assert_close(fine[::4, ::4], depth)
    assert fine.min() >= 0.95
    assert fine.max() <= 1.04
