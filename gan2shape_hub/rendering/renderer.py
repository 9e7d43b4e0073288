"""Views of a canonical sheet: warp its depth with a z-buffer, then sample its texture (paper section 3.1).

As in the reference implementation a view is made in two steps. `warp_depth` draws the canonical depth as a mesh from
the pose; `sampling_grid` takes every pixel of that view back to the canonical frame, where the texture is sampled.
Gradients reach depth and pose through the interpolated view depth and through the grid, and the texture through the
bilinear sampling. Silhouettes have no gradient of their own: which face a pixel shows is not differentiated.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor

from gan2shape_hub.config import CameraConfig
from gan2shape_hub.rendering.camera import Pose, focal_px, pixel_rays, project, unproject, widen
from gan2shape_hub.rendering.rasterize import find_winners, plane_depth
from gan2shape_hub.rendering.search import NEAR, screen_planes


@dataclass(frozen=True)
class RenderedView:
    """A sheet seen from a pose: ``image`` (B,3,H,W) in the texture's range, ``mask`` (B,1,H,W) of 0 and 1 (1: the sheet
    is there), view ``depth`` (B,H,W) in scene units, ``grid`` (B,H,W,2) as `sampling_grid` has it.
    """

    image: Tensor
    mask: Tensor
    depth: Tensor
    grid: Tensor


def pinned_border(depth: Tensor, camera: CameraConfig) -> Tensor:
    """``depth`` (B,H,W) with its left and right border columns set to ``camera.border_depth``.

    ``camera.border_px`` columns at a width of 128, as many in proportion at other widths (at least one, and none where
    border_px is 0).
    """
    if camera.border_px <= 0:
        return depth
    width = depth.shape[-1]
    columns = max(1, round(camera.border_px * width / 128))
    border = torch.full_like(depth[..., :columns], camera.border_depth)
    return torch.cat((border, depth[..., columns : width - columns], border), -1)


def raw_to_depth(raw: Tensor, camera: CameraConfig) -> Tensor:
    """Depth (B,H,W) of a depth network's output ``raw`` (B,1,H,W) or (B,H,W), any range.

    tanh(raw - mean of the image) mapped from -1..1 to min_depth..max_depth, then the border pinned. (The reference
    multiplies the border by 1.02 by mistake; here it is exactly ``camera.border_depth``.)
    """
    if raw.dim() == 4 and raw.shape[1] == 1:
        raw = raw[:, 0]
    if raw.dim() != 3:
        raise ValueError(f"raw has shape {tuple(raw.shape)}, must be (B, 1, H, W) or (B, H, W).")
    raw = widen(raw)
    unit = torch.tanh(raw - raw.mean((1, 2), keepdim=True))
    middle, half = (camera.max_depth + camera.min_depth) / 2, (camera.max_depth - camera.min_depth) / 2
    return pinned_border(middle + half * unit, camera)


def sheet_faces(size: tuple[int, int], device: torch.device | str | None = None) -> Tensor:
    """Faces (2(H-1)(W-1),3) int64 of a sheet of ``size`` (H,W) whose vertices are numbered row by row.

    Two faces a cell, one after the other, split from its top right to its bottom left pixel; wound so that their
    right-hand normal points towards the camera of a frontal sheet (outward).
    """
    return _sheet_faces(tuple(size), str(torch.device(device or "cpu")))


@lru_cache(maxsize=16)
def _sheet_faces(size: tuple[int, int], device: str) -> Tensor:
    height, width = size
    index = torch.arange(height * width, device=device).reshape(height, width)
    a, b, c, d = index[:-1, :-1], index[:-1, 1:], index[1:, :-1], index[1:, 1:]
    return torch.stack((a, c, b, b, c, d), -1).reshape(-1, 3)


def warp_depth(depth: Tensor, pose: Pose, camera: CameraConfig, impl: str = "auto") -> tuple[Tensor, Tensor]:
    """View depth (B,H,W) of the canonical ``depth`` (B,H,W) seen from ``pose``, and its mask (B,1,H,W) of 0 and 1.

    Clamped to [min_depth - m, max_depth + m], m = (max_depth - min_depth) / 2. Pixels that the sheet does not cover
    are at max_depth + m with mask 0, and so are pixels where the sheet is that far. ``impl`` as in `rasterize`.
    """
    if depth.dim() != 3 or min(depth.shape[1:]) < 2:
        raise ValueError(f"depth has shape {tuple(depth.shape)}, must be (B, H, W) with H and W 2 or more.")
    height, width = depth.shape[1:]
    x, y, z = _move(depth, pose, camera)
    z = z.clamp_min(NEAR)  # not drawn at NEAR, and no division by zero whose gradient would be NaN
    focal = focal_px(width, camera.fov_deg)
    planes = screen_planes(
        *(c.flatten(1) for c in (x / z * focal + (width - 1) / 2, y / z * focal + (height - 1) / 2, z))
    )
    winner = find_winners(planes, sheet_faces((height, width), depth.device), (height, width), impl)
    margin = (camera.max_depth - camera.min_depth) / 2
    far = camera.max_depth + margin
    view_depth = plane_depth(planes, _sheet_corners(winner), winner, far).clamp(camera.min_depth - margin, far)
    return view_depth, (view_depth.detach() < far).to(depth.dtype)[:, None]


def _sheet_corners(winner: Tensor) -> list[Tensor]:
    """`corner_index` of a sheet of the size of ``winner`` (B,H,W), by arithmetic: no table to look up.

    A cell's two faces share its top right and bottom left vertex; the third is the top left or the bottom right one.
    """
    batch, height, width = winner.shape
    face = winner.clamp_min(0)
    cell = face >> 1
    first = cell + torch.div(cell, width - 1, rounding_mode="floor")  # a row has one cell fewer than vertices
    first += torch.arange(batch, device=winner.device)[:, None, None] * (height * width)
    return [first + (face & 1) * (width + 1), first + width, first + 1]


def _move(depth: Tensor, pose: Pose, camera: CameraConfig) -> tuple[Tensor, Tensor, Tensor]:
    """x, y, z, each (B,H,W), of the pixels of ``depth`` (B,H,W) after ``pose``.

    A point is depth times its ray, so it is the rays that are rotated; coordinates in planes of their own vectorise.
    """
    ray_x, ray_y = pixel_rays((depth.shape[1], depth.shape[2]), camera, depth)
    r, o = pose.rotation[:, :, :, None, None], pose.offset(camera)[:, :, None, None]
    x, y, z = (depth * (r[:, k, 0] * ray_x + (r[:, k, 1] * ray_y + r[:, k, 2])) + o[:, k] for k in range(3))
    return x, y, z


def sampling_grid(view_depth: Tensor, pose: Pose, camera: CameraConfig) -> Tensor:
    """Where each pixel of a view lies in the canonical image: (B,H,W,2), x before y, -1..1 from the first pixel's
    centre to the last's (``align_corners=True``).

    ``view_depth`` (B,H,W). The points on the view's rays are moved back by ``pose`` and projected.
    """
    height, width = view_depth.shape[1:]
    x, y, z = _move(view_depth, pose.inverse(), camera)
    z = z.clamp_min(NEAR)
    focal = focal_px(width, camera.fov_deg)
    return torch.stack((x / z * (2 * focal / (width - 1)), y / z * (2 * focal / (height - 1))), -1)


def render_view(
    depth: Tensor,
    texture: Tensor,
    pose: Pose,
    camera: CameraConfig,
    *,
    background: float | None = None,
    impl: str = "auto",
) -> RenderedView:
    """The sheet ``depth`` (B,H,W) with ``texture`` (B,C,H,W) seen from ``pose``.

    Where the sheet is not seen, the image is ``background``, or with None (the default, as in the reference) the
    texture where the ray meets the background's depth, its border colours repeated outwards: no hard edge for a network
    to latch on to. The mask says what is valid. A depth, texture or pose of batch 1 serves the whole batch.
    """
    view_depth, mask = warp_depth(depth, pose, camera, impl)
    grid = sampling_grid(view_depth, pose, camera)
    texture = texture.expand(grid.shape[0], *texture.shape[1:])
    image = F.grid_sample(texture, grid, mode="bilinear", padding_mode="border", align_corners=True)
    if background is not None:
        image = torch.where(mask > 0, image, background)
    return RenderedView(image, mask, view_depth, grid)


def visible_from(depth: Tensor, pose: Pose, camera: CameraConfig, tolerance: float = 0.005) -> Tensor:
    """Which pixels of the canonical sheet ``depth`` (B,H,W) are seen from ``pose``: (B,1,H,W) of 0 and 1.

    A pixel is seen where it falls into the view and is at most ``tolerance`` (scene units) behind the view's surface
    there. No gradient.
    """
    with torch.no_grad():
        size = (depth.shape[1], depth.shape[2])
        view_depth, _ = warp_depth(depth, pose, camera)
        points = pose.apply(unproject(depth, camera), camera)
        scale = points.new_tensor([size[1] - 1, size[0] - 1])
        grid = project(points, camera, size) / scale * 2 - 1
        nearest = F.grid_sample(view_depth[:, None], grid, padding_mode="border", align_corners=True)
        # A thousandth of a pixel of grace, for the outermost pixels of a view that does not move them.
        inside = (grid.abs() <= 1 + 2e-3 / scale).all(-1)[:, None]
        return (inside & (points[..., 2][:, None] <= nearest + tolerance)).to(depth.dtype)
