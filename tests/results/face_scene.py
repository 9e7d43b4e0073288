"""A synthetic face-like scene whose every part is known: shared by the tests of results."""

from dataclasses import dataclass

import torch

from gan2shape_hub.config import CameraConfig
from gan2shape_hub.rendering.camera import Pose
from gan2shape_hub.rendering.shading import Light

CAMERA = CameraConfig()


@dataclass(frozen=True)
class Scene:
    depth: torch.Tensor
    mask: torch.Tensor
    albedo: torch.Tensor
    nose: tuple[int, int]
    """Row and column of the point nearest to the viewer."""


def face_scene(size: int = 64) -> Scene:
    """A head before a wall: ellipsoid, nose, brows, sockets and mouth; pinned border columns; skin-coloured albedo."""
    y, x = torch.meshgrid(torch.linspace(-1, 1, size), torch.linspace(-1, 1, size), indexing="ij")
    inside = 1 - (x / 0.72) ** 2 - ((y - 0.05) / 0.9) ** 2

    def bump(cx: float, cy: float, sx: float, sy: float) -> torch.Tensor:
        return torch.exp(-(((x - cx) / sx) ** 2) - ((y - cy) / sy) ** 2)

    features = 0.022 * bump(0, 0.12, 0.1, 0.16) + 0.012 * bump(0, -0.1, 0.06, 0.2) + 0.008 * bump(0, 0.5, 0.2, 0.07)
    features = features + 0.01 * bump(0, -0.3, 0.5, 0.08) + 0.012 * bump(0, 0.78, 0.2, 0.1)
    features = features - 0.014 * bump(0.28, -0.12, 0.14, 0.09) - 0.014 * bump(-0.28, -0.12, 0.14, 0.09)
    depth = 1.03 - inside.clamp_min(0).sqrt() * 0.075 - inside.clamp(0, 0.3) / 0.3 * features
    columns = max(1, round(CAMERA.border_px * size / 128))
    depth[:, :columns] = CAMERA.border_depth
    depth[:, -columns:] = CAMERA.border_depth
    mask = (inside > 0).float()
    skin = torch.tensor([0.55, 0.2, 0.05])[:, None, None] + 0.15 * (bump(0, 0.45, 0.25, 0.08) * 1.0)[None]
    wall = torch.tensor([-0.3, -0.1, 0.2])[:, None, None]
    row, column = divmod(int(depth.argmin()), size)
    return Scene(depth, mask, torch.where(mask > 0, skin, wall), (row, column))


def turned(yaw_deg: float, pitch_deg: float = 0.0) -> Pose:
    return Pose.from_angles(torch.tensor([[pitch_deg, yaw_deg, 0.0]]).deg2rad())


def light(ambient: float = 0.4, diffuse: float = 0.6, x: float = 0.0, y: float = 0.0) -> Light:
    direction = torch.nn.functional.normalize(torch.tensor([[x, y, 1.0]]))
    return Light(torch.tensor([ambient]), torch.tensor([diffuse]), direction)
