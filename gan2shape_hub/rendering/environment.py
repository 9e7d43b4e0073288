"""Light from all around, in nine numbers a colour (Ramamoorthi and Hanrahan 2001).

What a matt surface receives changes slowly with where it faces, so that spherical harmonics up to the second order hold
all but a few per cent of it. Directions are those of the camera frame: x right, y down, z away.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from gan2shape_hub.rendering.shading import Light

GAMMA = 2.2
"""Pictures hold about this root of linear light."""
BANDS = (1.0, *(2 / 3,) * 3, *(1 / 4,) * 5)
"""What is left of each order's radiance in irradiance over pi: a surface averages over its hemisphere."""
EXPOSURE = 1.0
"""Brightness, as pictures hold it, that surfaces facing the camera have on average once an environment is `exposed`."""
LEAST = 0.02
"""Of the linear shading: nine numbers ring below zero behind a hard lamp."""


def harmonics(directions: Tensor) -> Tensor:
    """The nine real spherical harmonics (9, ...) of unit ``directions`` (3, ...), orthonormal, by order."""
    x, y, z = directions
    one = torch.ones_like(x)
    a, b = math.sqrt(3 / (4 * math.pi)), math.sqrt(15 / (4 * math.pi))
    return torch.stack(
        (
            one * math.sqrt(1 / (4 * math.pi)),
            *(a * y, a * z, a * x),
            *(b * x * y, b * y * z, b / math.sqrt(12) * (3 * z * z - 1), b * x * z, b / 2 * (x * x - y * y)),
        )
    )


@dataclass(frozen=True, eq=False)
class Environment:
    """``radiance`` (3, 9): coefficients of `harmonics`, linear light, red, green and blue."""

    radiance: Tensor

    def __post_init__(self) -> None:
        if tuple(self.radiance.shape) != (3, 9) or not bool(self.radiance.isfinite().all()):
            raise ValueError(f"radiance has shape {tuple(self.radiance.shape)}, must be (3, 9) and finite.")

    def to(self, like: Tensor) -> Environment:
        """On the device and of the type of ``like``."""
        return Environment(self.radiance.to(like))

    def irradiance(self, toward: Tensor) -> Tensor:
        """(3, ...) irradiance over pi, linear, of surfaces with outward unit normals ``toward`` (3, ...): 1 where all
        radiance is 1. May be a little below 0 behind a hard lamp."""
        return torch.einsum("ck,k...->c...", self.radiance * self.radiance.new_tensor(BANDS), harmonics(toward))

    def seen(self, direction: Tensor) -> Tensor:
        """(...) grey radiance from unit ``direction`` (3, ...), 0 or more."""
        return torch.einsum("k,k...->...", self.radiance.mean(0), harmonics(direction)).clamp_min(0)

    def shading(self, normals: Tensor) -> Tensor:
        """(B, 3, ...) what pictures' colours are multiplied by; ``normals`` (B, 3, ...) as `normals_from_depth` has
        them."""
        linear = self.irradiance(-normals.transpose(0, 1)).clamp_min(LEAST)
        return linear.pow(1 / GAMMA).transpose(0, 1)

    def turned(self, degrees: float) -> Environment:
        """Turned about the vertical: what was behind the camera comes to the image's left at 90, and right at -90."""
        angle = math.radians(degrees)
        cos, sin = math.cos(angle), math.sin(angle)
        radiance = self.radiance.cpu()  # not every accelerator has least squares
        around = _sphere(16).to(radiance)
        x, y, z = around
        before = torch.stack((cos * x - sin * z, y, cos * z + sin * x))
        values = radiance @ harmonics(before)
        # Orders do not mix under rotations, so that any set of directions gives the coefficients exactly.
        turned = torch.linalg.lstsq(harmonics(around).T, values.T).solution.T.contiguous()
        return Environment(turned.to(self.radiance))

    def exposed(self) -> Environment:
        """As bright as a camera would take it: `EXPOSURE` on what faces it."""
        toward = _sphere(16).to(self.radiance)
        facing = (-toward[2]).clamp_min(0)
        mean = (self.irradiance(toward).mean(0).clamp_min(0) * facing).sum() / facing.sum()
        if not float(mean) > 1e-8:
            raise ValueError("the environment gives no light: take a picture that is not black.")
        return Environment(self.radiance * (EXPOSURE**GAMMA / mean))

    def light(self) -> Light:
        """The nearest single lamp (batch of one) for what faces the camera, where nothing else is understood."""
        here = Environment(self.radiance.cpu())
        toward = _sphere(16).to(here.radiance)
        toward = toward[:, toward[2] < -0.2]
        grey = here.shading(-toward[None]).mean(1)[0]
        ambient, *slope = torch.linalg.lstsq(torch.cat((torch.ones_like(toward[:1]), toward)).T, grey[:, None]).solution
        slope = torch.cat(slope)
        diffuse = slope.norm().clamp_min(1e-6)
        parts = ambient.clamp_min(0), diffuse[None], -(slope / diffuse)[None]
        return Light(*(part.to(self.radiance) for part in parts))


def from_panorama(panorama: Tensor) -> Environment:
    """Light of a picture of everything around.

    Args:
        panorama: (3, H, 2 H) linear radiance of 0 or more, equirectangular, as the camera would see it: its middle is
            behind the object, its edges behind the camera, its top row above.

    Returns:
        The projection onto nine harmonics, each pixel weighted by its solid angle; `Environment.exposed` makes it as
        bright as a photograph.
    """
    if panorama.dim() != 3 or panorama.shape[0] != 3 or min(panorama.shape[1:]) < 2:
        raise ValueError(f"panorama has shape {tuple(panorama.shape)}, must be (3, H, W) with H and W of 2 or more.")
    if not bool(panorama.isfinite().all()) or bool((panorama < 0).any()):
        raise ValueError("panorama holds numbers that are negative or not finite, must be radiance.")
    height, width = panorama.shape[1:]
    at = [(torch.arange(n, dtype=torch.float64) + 0.5) / n for n in (height, width)]
    down, around = (at[0] - 0.5) * math.pi, (at[1] - 0.5) * 2 * math.pi
    edges = torch.sin((torch.arange(height + 1, dtype=torch.float64) / height - 0.5) * math.pi)
    area = edges.diff() * (2 * math.pi / width)
    rays = [down.cos()[:, None] * around.sin(), down.sin()[:, None].expand(height, width)]
    rays.append(down.cos()[:, None] * around.cos())
    weights = harmonics(torch.stack(rays)) * area[:, None]
    return Environment(torch.einsum("chw,khw->ck", panorama.double().cpu(), weights).float())


@dataclass(frozen=True)
class Lamp:
    """An evenly bright round lamp: its direction as seen from the object, colour (linear) and radius in degrees."""

    toward: tuple[float, float, float]
    colour: tuple[float, float, float]
    radius_deg: float


def from_lamps(around: tuple[float, float, float], lamps: tuple[Lamp, ...]) -> Environment:
    """Lamps in surroundings of one colour, in closed form."""
    radiance = torch.zeros(3, 9, dtype=torch.float64)
    radiance[:, 0] = torch.tensor(around, dtype=torch.float64) * math.sqrt(4 * math.pi)
    for lamp in lamps:
        toward = torch.nn.functional.normalize(torch.tensor(lamp.toward, dtype=torch.float64), dim=0)
        cos = math.cos(math.radians(lamp.radius_deg))
        # Zonal harmonics of a cap about its own axis, over those of a point: integrals of Legendre's polynomials.
        cap = [1 - cos, *[(1 - cos * cos) / 2] * 3, *[(cos - cos**3) / 2] * 5]
        point = harmonics(toward) * 2 * math.pi * torch.tensor(cap, dtype=torch.float64)
        radiance += torch.tensor(lamp.colour, dtype=torch.float64)[:, None] * point
    return Environment(radiance.float())


def named(name: str) -> Environment:
    """One of `ENVIRONMENTS`, exposed; ValueError lists them."""
    if name not in ENVIRONMENTS:
        raise ValueError(f"environment is '{name}', must be one of {', '.join(ENVIRONMENTS)}.")
    return from_lamps(*ENVIRONMENTS[name]).exposed()


def _sphere(rows: int) -> Tensor:
    """(3, N) unit vectors spread evenly over the sphere."""
    count = rows * rows
    at = torch.arange(count, dtype=torch.float64) + 0.5
    y = 1 - 2 * at / count
    around = at * (math.pi * (3 - math.sqrt(5)))
    ring = (1 - y * y).sqrt()
    return torch.stack((ring * around.cos(), y, ring * around.sin()))


ENVIRONMENTS: dict[str, tuple[tuple[float, float, float], tuple[Lamp, ...]]] = {
    # A large softbox above left of the camera, a weaker one to the right, a strip behind.
    "studio": (
        (0.16, 0.16, 0.17),
        (
            Lamp((-0.75, -0.55, -0.75), (5.0, 5.0, 5.0), 28),
            Lamp((0.9, -0.05, -0.5), (0.9, 0.93, 1.0), 30),
            Lamp((0.6, -0.5, 0.8), (2.5, 2.6, 2.8), 22),
        ),
    ),
    # A window of daylight to the left, a warm room that gives some of it back.
    "window": (
        (0.16, 0.14, 0.12),
        (Lamp((-1.0, -0.2, -0.35), (3.6, 3.9, 4.3), 36), Lamp((1.0, 0.3, -0.3), (0.35, 0.28, 0.22), 50)),
    ),
    # A low sun to the right, a sky that is blue above and pale behind the camera, warm ground.
    "sunset": (
        (0.14, 0.15, 0.19),
        (
            Lamp((0.95, -0.2, -0.45), (11.0, 5.6, 2.2), 18),
            Lamp((0.0, -1.0, 0.1), (0.45, 0.6, 0.95), 60),
            Lamp((0.3, 1.0, -0.2), (0.5, 0.33, 0.2), 50),
        ),
    ),
}
"""Name -> colour of the surroundings, and lamps."""
