"""What all results are made from."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from gan2shape_hub.config import CameraConfig
from gan2shape_hub.rendering.camera import Pose
from gan2shape_hub.rendering.shading import Light
from gan2shape_hub.results.mesh import SheetMesh


@dataclass(frozen=True)
class Assets:
    """A finished reconstruction of one image, as its results need it; tensors on one device, no batch dimension."""

    camera: CameraConfig
    source: Tensor
    """(3, P, P) in -1..1, the prepared photograph."""
    reconstruction: Tensor
    """(3, R, R) in -1..1, the scene rendered in the input's view."""
    depth: Tensor
    """(S, S) canonical depth, scene units."""
    albedo: Tensor
    """(3, S, S) in -1..1, canonical."""
    texture: Tensor
    """(3, T, T) in -1..1, canonical, as the photograph is lit."""
    mesh: SheetMesh
    pose: Pose
    """Canonical frame to the input's view, batch of one."""
    light: Light
    """The photograph's, batch of one."""
