"""Cameras, rasterisation, shading and views: pure functions of tensors, the pose always an argument."""

from gan2shape_hub.rendering.camera import Pose, focal_px, project, unproject
from gan2shape_hub.rendering.environment import Environment
from gan2shape_hub.rendering.mesh_renderer import RenderedMesh, render_mesh, vertex_normals
from gan2shape_hub.rendering.rasterize import Fragments, rasterize
from gan2shape_hub.rendering.renderer import (
    RenderedView,
    pinned_border,
    raw_to_depth,
    render_view,
    sampling_grid,
    sheet_faces,
    visible_from,
    warp_depth,
)
from gan2shape_hub.rendering.shading import Light, normals_from_depth, shade

__all__ = [
    "Environment",
    "Fragments",
    "Light",
    "Pose",
    "RenderedMesh",
    "RenderedView",
    "focal_px",
    "normals_from_depth",
    "pinned_border",
    "project",
    "rasterize",
    "raw_to_depth",
    "render_mesh",
    "render_view",
    "sampling_grid",
    "shade",
    "sheet_faces",
    "unproject",
    "vertex_normals",
    "visible_from",
    "warp_depth",
]
