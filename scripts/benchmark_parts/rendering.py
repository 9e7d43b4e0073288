"""Speed of the renderer, beside the depth net whose training it must not slow down.

    python scripts/benchmark_parts/rendering.py

On a busy machine the milliseconds mean little: compare the ratio, whose two sides take turns.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable

import torch
import torch.nn.functional as F

from gan2shape_hub.config import CameraConfig
from gan2shape_hub.rendering import Pose, render_mesh, render_view, sheet_faces, unproject, warp_depth

CAMERA = CameraConfig()
YAW = 0.25


def run(batch: int = 8, size: int = 128, repeats: int = 5, mesh_views: int = 36) -> dict:
    """Milliseconds (the best of ``repeats``) and ratios; see the keys."""
    render = _render_step(batch, size, YAW)
    steps = {
        "render_forward_backward_ms": render,
        "render_without_rotation_ms": _render_step(batch, size, 0.0),
        "render_batch_of_one_ms": _render_step(1, size, YAW),
        "warp_only_ms": _warp(batch, size),
        "depth_net_forward_backward_ms": _net_step(batch, size),
    }
    best = _take_turns(steps, repeats)
    best["ratio_render_to_depth_net"] = best["render_forward_backward_ms"] / best["depth_net_forward_backward_ms"]
    best["batch_cost"] = best["render_forward_backward_ms"] / (batch * best["render_batch_of_one_ms"])
    best[f"mesh_{mesh_views}_views_256px_s"] = _take_turns({"mesh": _turntable(size, mesh_views)}, 1)["mesh"] / 1000
    return {
        "batch": batch,
        "size_px": size,
        "yaw_rad": YAW,
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        **{key: round(value, 3) for key, value in best.items()},
    }


def _take_turns(steps: dict[str, Callable[[], object]], repeats: int) -> dict[str, float]:
    """Best time of each step, milliseconds; a round runs each of them once, so that all see the same load."""
    best = {}
    for k in range(repeats + 1):
        for name, step in steps.items():
            start = time.perf_counter()
            step()
            if k or repeats == 1:  # the first round warms up
                best[name] = min(best.get(name, float("inf")), 1000 * (time.perf_counter() - start))
    return best


def _sheet(batch: int, size: int) -> torch.Tensor:
    """Depth (B,S,S): a smooth bumpy dome."""
    generator = torch.Generator().manual_seed(0)
    bumps = F.interpolate(torch.randn(batch, 1, 9, 9, generator=generator), (size, size), mode="bicubic")[:, 0]
    u = torch.linspace(-1, 1, size)
    return 1.03 - 0.09 * torch.exp(-2 * (u[None] ** 2 + u[:, None] ** 2)) + 0.004 * bumps


def _pose(batch: int, yaw: float) -> tuple[torch.Tensor, Pose]:
    angles = torch.tensor([[0.0, yaw, 0.0]]).repeat(batch, 1).requires_grad_()
    return angles, Pose.from_angles(angles)


def _render_step(batch: int, size: int, yaw: float) -> Callable[[], object]:
    depth = _sheet(batch, size).requires_grad_()
    texture = torch.rand(batch, 3, size, size, generator=torch.Generator().manual_seed(1)).requires_grad_()

    def step() -> object:
        angles, pose = _pose(batch, yaw)
        view = render_view(depth, texture, pose, CAMERA)
        return torch.autograd.grad(view.image.mean() + view.depth.mean(), (depth, texture, angles))

    return step


def _warp(batch: int, size: int) -> Callable[[], object]:
    depth = _sheet(batch, size)
    _, pose = _pose(batch, YAW)
    return lambda: warp_depth(depth, pose.detach(), CAMERA)


def _net_step(batch: int, size: int) -> Callable[[], object]:
    from gan2shape_hub.models.shape_nets import EDDeconv

    net = EDDeconv(image_size=size)
    images = torch.randn(batch, 3, size, size)

    def step() -> None:
        net.zero_grad()
        net(images).mean().backward()

    return step


def _turntable(size: int, views: int) -> Callable[[], object]:
    vertices = unproject(_sheet(1, size), CAMERA).reshape(-1, 3)
    v, u = torch.meshgrid(torch.linspace(0, 1, size), torch.linspace(0, 1, size), indexing="ij")
    uv = torch.stack((u, v), -1).reshape(-1, 2)
    angles = torch.zeros(views, 3)
    angles[:, 1] = torch.linspace(-1.5, 1.5, views)
    texture = torch.rand(3, size, size)
    faces = sheet_faces((size, size))
    return lambda: render_mesh(vertices, faces, uv, texture, Pose.from_angles(angles), CAMERA, 256)


if __name__ == "__main__":
    print(json.dumps(run(), indent=2))
