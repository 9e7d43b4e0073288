"""Details of an image stay where a light changes, and move with the surface."""

import pytest
import torch
import torch.nn.functional as F

from gan2shape_hub.config import DetailsConfig
from gan2shape_hub.rendering import details as module
from gan2shape_hub.rendering.details import blur

SIZE = 64


def details(images: torch.Tensor) -> torch.Tensor:
    return module.details(images, DetailsConfig())


def skin(seed: int = 0) -> torch.Tensor:
    """(1, 3, S, S): fine texture, about a third of the range."""
    noise = torch.randn(1, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(seed))
    return (blur(noise, 1.0) * 0.5).clamp(-0.4, 0.4)


def lamp(x: float) -> torch.Tensor:
    """(1, 1, S, S) smooth brightness with its maximum at ``x`` of -1..1."""
    at = torch.linspace(-1, 1, SIZE)
    return 0.5 * torch.exp(-(((at - x) ** 2 + at[:, None] ** 2) / 0.5))[None, None]


def inside(x: torch.Tensor) -> torch.Tensor:
    return x[..., 8:-8, 8:-8]


def test_blur_is_a_gaussian_and_keeps_constants():
    impulse = torch.zeros(1, 1, 41, 41)
    impulse[0, 0, 20, 20] = 1
    blurred = blur(impulse, 3.0, 18)
    at = torch.arange(41) - 20.0
    variance = (blurred[0, 0].sum(0) * at**2).sum()
    assert blurred.sum() == pytest.approx(1, abs=1e-5)
    assert variance == pytest.approx(9, rel=0.02)
    torch.testing.assert_close(blur(torch.full((2, 3, 9, 7), 0.3), 2.0), torch.full((2, 3, 9, 7), 0.3))


def test_a_lamp_that_moves_changes_the_image_and_hardly_its_details():
    one, other = skin() + lamp(-0.5), skin() + lamp(0.5)
    assert inside(one - other).abs().mean() > 0.12
    assert inside(details(one) - details(other)).abs().mean() < 0.03
    assert inside(details(one)).abs().mean() > 0.15


def test_contrast_and_brightness_hardly_matter():
    image = skin()
    brighter = 0.6 * image + 0.3
    assert inside(details(image) - details(brighter)).abs().mean() < 0.3 * inside(details(image)).abs().mean()


def test_details_move_with_the_surface():
    image = skin()
    moved = image.roll(3, dims=-1)
    torch.testing.assert_close(inside(details(image).roll(3, dims=-1)), inside(details(moved)), atol=0.02, rtol=0)
    assert inside(details(moved) - details(image)).abs().mean() > 0.15


def test_flat_regions_are_not_blown_up():
    noise = 0.004 * torch.randn(1, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(3))
    assert details(noise).abs().max() < 0.1
    assert details(torch.full((1, 3, SIZE, SIZE), 0.7)).abs().max() < 1e-5


def test_scale_follows_the_image_and_gradients_flow():
    image = skin().requires_grad_(True)
    twice = F.interpolate(image, scale_factor=2, mode="bicubic", align_corners=False)
    small = F.avg_pool2d(details(twice), 2)
    assert inside(small - details(image)).abs().mean() < 0.35 * inside(details(image)).abs().mean()
    details(image).square().sum().backward()
    assert image.grad.isfinite().all()
    assert image.grad.abs().sum() > 0
