"""Photometric stereo on pictures of one object under several unknown lights.

The object is seen in place, so its albedo divides out: what is compared is the logarithm of each picture's brightness
over the unlit one's. For a distant light that is a smooth function of the normal, written in spherical harmonics of
first or second order (Basri and Jacobs, 2003). Lights and normals are found in turn, each by robust least squares.
Normals outward, in the camera's or any other common frame; P pixels, J pictures, B harmonics.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from gan2shape_hub.rendering.details import blur

LUMA = (0.2126, 0.7152, 0.0722)
"""Of linear red, green and blue (Rec. 709)."""
DARKEST = 0.004
"""Of linear brightness, 0..1: below, a pixel of 8 bits is mostly rounding."""
RATIOS = (0.15, 6.0)
"""Ratios beyond these are shadows and highlights."""
GRAZING = 0.12
"""Cosine between the line of sight and a normal that is found: nothing steeper can be seen."""
LONGEST_STEP = 0.3
"""Of the search for a normal, radians."""


def luminance(images: Tensor) -> Tensor:
    """Linear brightness (..., H, W) in 0..1 of images (..., 3, H, W) in -1..1 (gamma 2.2)."""
    linear = (images.clamp(-1, 1) / 2 + 0.5).clamp_min(1e-4) ** 2.2
    return (linear * linear.new_tensor(LUMA)[:, None, None]).sum(-3)


def log_ratios(lit: Tensor, unlit: Tensor, blur_px: float = 0.7) -> Tensor:
    """Logarithm of the brightness of images ``lit`` (J, 3, H, W) over that of ``unlit`` (3, H, W): (J, H, W).

    Both are blurred first, by a Gaussian of ``blur_px`` pixels: a division doubles noise.
    """
    brightness = luminance(torch.cat([unlit[None], lit]))
    if blur_px > 0:
        brightness = blur(brightness[:, None], blur_px)[:, 0]
    return (brightness[1:] / brightness[:1].clamp_min(DARKEST)).clamp(*RATIOS).log()


def harmonics(normals: Tensor, order: int = 2) -> Tensor:
    """Spherical harmonics (P, 4 or 9), unnormalised, of unit normals (3, P) up to ``order`` 1 or 2."""
    x, y, z = normals
    terms = [torch.ones_like(x), x, y, z]
    if order == 2:
        terms += [x * y, x * z, y * z, x * x - y * y, 3 * z * z - 1]
    return torch.stack(terms, 1)


def _harmonic_slopes(normals: Tensor, order: int) -> Tensor:
    """Derivatives (3, P, B) of `harmonics` by the normals' coordinates."""
    x, y, z = normals
    one, no = torch.ones_like(x), torch.zeros_like(x)
    terms = [(no, no, no), (one, no, no), (no, one, no), (no, no, one)]
    if order == 2:
        terms += [(y, x, no), (z, no, x), (no, z, y), (2 * x, -2 * y, no), (no, no, 6 * z)]
    return torch.stack([torch.stack(term) for term in terms], 2)


def fit_lights(
    ratios: Tensor, normals: Tensor, weights: Tensor, order: int = 2, ridge: float = 1e-3
) -> tuple[Tensor, Tensor]:
    """The lights that explain ``ratios`` on known normals.

    Args:
        ratios: (J, P) log ratios; normals: (3, P) unit.
        weights: (P) or (J, P), 0 or more.
        order: 1 or 2. ridge: on the second order, in parts of the weights' sum: pixels of one brightness tell little.

    Returns:
        lights (J, B) and the spread (J) of what they leave unexplained (root mean square).
    """
    basis = harmonics(normals, order)
    weights = weights.expand(len(ratios), -1).clamp_min(0)
    gram = torch.einsum("pi,jp,pk->jik", basis, weights, basis)
    right = torch.einsum("pi,jp,jp->ji", basis, weights, ratios)
    total = weights.sum(1).clamp_min(1e-6)
    held = torch.tensor([1e-6] * 4 + [ridge] * (basis.shape[1] - 4), device=ratios.device, dtype=ratios.dtype)
    lights = torch.linalg.solve(gram + total[:, None, None] * torch.diag(held), right[..., None])[..., 0]
    error = ratios - lights @ basis.T
    return lights, ((error.square() * weights).sum(1) / total).sqrt().clamp_min(1e-3)


def fit_normals(
    ratios: Tensor,
    lights: Tensor,
    spread: Tensor,
    start: Tensor,
    weights: Tensor,
    *,
    prior: Tensor | None = None,
    order: int = 2,
    reach: float = 0.3,
    iterations: int = 6,
) -> Tensor:
    """Unit normals (3, P) that explain ``ratios`` under known lights: Gauss-Newton on the sphere.

    Args:
        ratios: (J, P); lights: (J, B) and spread: (J), as `fit_lights` returns them.
        start: (3, P) where the search begins; prior: (3, P) what they are held to (None: the start).
        weights: (P) or (J, P) in 0..1. What explains a pixel badly (shadows, highlights) loses weight by itself.
        reach: standard deviation of the normals around the prior, radians.
    """
    normals, prior = start, start if prior is None else prior
    hold = 1 / reach**2
    spread = spread[:, None]
    for _ in range(iterations):
        error = ratios - lights @ harmonics(normals, order).T
        say = weights / ((1 + (error / (2 * spread)).square()) * spread.square())  # Cauchy
        one, other = _tangents(normals)
        slopes = torch.einsum("cpb,jb->cjp", _harmonic_slopes(normals, order), lights)
        along_one, along_other = (slopes * one[:, None]).sum(0), (slopes * other[:, None]).sum(0)
        back = prior - normals
        a, b, c = (
            (say * first * second).sum(0)
            for first, second in ((along_one, along_one), (along_one, along_other), (along_other, along_other))
        )
        a, c = a + hold, c + hold
        p = (say * along_one * error).sum(0) + hold * (back * one).sum(0)
        q = (say * along_other * error).sum(0) + hold * (back * other).sum(0)
        u, v = (c * p - b * q) / (a * c - b * b), (a * q - b * p) / (a * c - b * b)
        length = torch.hypot(u, v)
        short = (LONGEST_STEP / length.clamp_min(1e-9)).clamp(max=1)
        normals = F.normalize(normals + short * (u * one + v * other), dim=0)
        x, y, z = normals
        normals = F.normalize(torch.stack((x, y, z.clamp(max=-GRAZING))), dim=0)
    return normals


def _tangents(normals: Tensor) -> tuple[Tensor, Tensor]:
    """Two unit vectors (3, P) across each unit normal, and across each other."""
    z, x = normals.new_tensor([0.0, 0.0, 1.0])[:, None], normals.new_tensor([1.0, 0.0, 0.0])[:, None]
    one = F.normalize(torch.linalg.cross(normals, torch.where(normals[2].abs() < 0.9, z, x), dim=0), dim=0)
    return one, torch.linalg.cross(normals, one, dim=0)
