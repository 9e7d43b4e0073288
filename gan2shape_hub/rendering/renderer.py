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
from gan2shape_hub.rendering.camera import Pose, focal_px, pixel_rays, project, unproject
from gan2shape_hub.rendering.rasterize import rasterize


@dataclass(frozen=True)
class RenderedView:
    """A sheet seen from a pose: ``image`` (B,3,H,W) in the texture's range, ``mask`` (B,1,H,W) of 0 and 1 in the image's
    dtype (1: the sheet is there), view ``depth`` (B,H,W) in scene units, ``grid`` (B,H,W,2) as `sampling_grid` has it.
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
    batch, height, width = depth.shape
    points = pose.apply(unproject(depth, camera), camera)
    batch = points.shape[0]
    pixels = project(points, camera, (height, width)).reshape(batch, -1, 2)
    faces = sheet_faces((height, width), depth.device)
    fragments = rasterize(pixels, points[..., 2].reshape(batch, -1), faces, (height, width), impl)
    margin = (camera.max_depth - camera.min_depth) / 2
    far = camera.max_depth + margin
    view_depth = torch.where(fragments.face >= 0, fragments.depth, far).clamp(camera.min_depth - margin, far)
    return view_depth, (view_depth < far).to(depth.dtype)[:, None]


def sampling_grid(view_depth: Tensor, pose: Pose, camera: CameraConfig) -> Tensor:
    """Where each pixel of a view lies in the canonical image: (B,H,W,2), x before y, -1..1 from the first pixel's
    centre to the last's (``align_corners=True``).

    ``view_depth`` (B,H,W). The points on the view's rays are moved back by ``pose`` and projected.
    """
    height, width = view_depth.shape[1:]
    ray_x, ray_y = pixel_rays((height, width), camera, view_depth)
    back = pose.inverse()
    r, o = back.rotation[:, :, :, None, None], back.offset(camera)[:, :, None, None]
    # A point is depth times its ray, so it is the ray that is rotated; x and y in planes of their own, which is what
    # vectorises.
    x, y, z = (view_depth * (r[:, k, 0] * ray_x + r[:, k, 1] * ray_y + r[:, k, 2]) + o[:, k] for k in range(3))
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

    Where the sheet is not seen, the image is ``background``, or with None (the default, as in the reference) the texture
    where the ray meets the background's depth, its border colours repeated outwards: no hard edge for a network to
    latch on to. The mask says what is valid. A depth, texture or pose of batch 1 serves the whole batch.
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
