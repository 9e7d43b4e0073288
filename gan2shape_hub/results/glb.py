"""Binary glTF 2.0 of a textured mesh, written by hand: textures are encoded once and as the caller likes.

Faces that the texture leaves partly transparent are a primitive of their own. Only they blend: a viewer that sorts
nothing would else show a nose through a cheek.
"""

from __future__ import annotations

import json
import struct
from typing import Any

import numpy as np

FLOAT, USHORT, UINT = 5126, 5123, 5125
VERTICES, INDICES = 34962, 34963


class _Buffer:
    """The binary part, and what describes it."""

    def __init__(self) -> None:
        self.data = bytearray()
        self.views: list[dict[str, Any]] = []
        self.accessors: list[dict[str, Any]] = []

    def view(self, data: bytes, **more: Any) -> int:
        self.views.append({"buffer": 0, "byteOffset": len(self.data), "byteLength": len(data), **more})
        self.data += data + bytes(-len(data) % 4)
        return len(self.views) - 1

    def array(self, values: np.ndarray, target: int, **more: Any) -> int:
        kind = {1: "SCALAR", 2: "VEC2", 3: "VEC3", 4: "VEC4"}[values.shape[1] if values.ndim == 2 else 1]
        kind_of_number, component = "<f4", FLOAT
        if values.dtype.kind in "iu":  # 65535 itself means no vertex
            kind_of_number, component = ("<u2", USHORT) if values.max() < 65535 else ("<u4", UINT)
        data = np.ascontiguousarray(values, kind_of_number).tobytes()
        self.accessors.append(
            {
                "bufferView": self.view(data, target=target),
                "componentType": component,
                "count": len(values),
                "type": kind,
                **more,
            }
        )
        return len(self.accessors) - 1


def glb(
    vertices: np.ndarray,
    normals: np.ndarray,
    uv: np.ndarray,
    faces: np.ndarray,
    blended: np.ndarray,
    texture: bytes,
    *,
    normal_map: bytes | None = None,
    unlit: bool = False,
) -> bytes:
    """A GLB file.

    Args:
        vertices, normals: (V, 3), y up, outward.
        uv: (V, 2), v down, 0 and 1 at the texture's outer edges.
        faces: (F, 3); ``blended`` (F,) bool: which the texture's alpha makes transparent.
        texture, normal_map: PNG files, in memory; the latter's green is up (as OpenGL has it).
        unlit: shown as the texture is, without light (KHR_materials_unlit).

    Returns:
        The file: double-sided matt material, metallic 0 and roughness 1.
    """
    out = _Buffer()
    attributes = {
        "POSITION": out.array(
            vertices,
            VERTICES,
            min=vertices.min(0).astype(np.float32).tolist(),
            max=vertices.max(0).astype(np.float32).tolist(),
        ),
        "NORMAL": out.array(normals, VERTICES),
        "TEXCOORD_0": out.array(uv, VERTICES),
    }
    if normal_map is not None:  # else readers make them up, each in its own way
        along = np.array([1.0, 0, 0]) - normals * normals[:, :1]
        length = np.linalg.norm(along, axis=1, keepdims=True)
        along = np.where(length > 1e-6, along / np.maximum(length, 1e-6), [0.0, 0, -1])
        attributes["TANGENT"] = out.array(np.concatenate((along, np.ones_like(length)), 1), VERTICES)
    images = [texture] if normal_map is None else [texture, normal_map]
    surface: dict[str, Any] = {
        "name": "surface",
        "pbrMetallicRoughness": {"baseColorTexture": {"index": 0}, "metallicFactor": 0.0, "roughnessFactor": 1.0},
        "doubleSided": True,
    }
    if normal_map is not None:
        surface["normalTexture"] = {"index": 1}
    if unlit:
        surface["extensions"] = {"KHR_materials_unlit": {}}
    materials, primitives = [], []
    for part, change in ((~blended, {}), (blended, {"name": "fringe", "alphaMode": "BLEND"})):
        if part.any():
            indices = out.array(faces[part].ravel(), INDICES)
            primitives.append({"attributes": attributes, "indices": indices, "material": len(materials)})
            materials.append({**surface, **change})
    tree: dict[str, Any] = {
        "asset": {"version": "2.0", "generator": "gan2shape_hub"},
        "scene": 0,
        "scenes": [{"nodes": [0]}],
        "nodes": [{"mesh": 0, "name": "model"}],
        "meshes": [{"name": "model", "primitives": primitives}],
        "materials": materials,
        "images": [{"bufferView": out.view(image), "mimeType": "image/png"} for image in images],
        "samplers": [{"magFilter": 9729, "minFilter": 9987, "wrapS": 33071, "wrapT": 33071}],
        "textures": [{"sampler": 0, "source": i} for i in range(len(images))],
        "bufferViews": out.views,
        "accessors": out.accessors,
        "buffers": [{"byteLength": len(out.data)}],
    }
    if unlit:
        tree["extensionsUsed"] = ["KHR_materials_unlit"]
    text = json.dumps(tree, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 4)
    total = 12 + 8 + len(text) + 8 + len(out.data)
    return b"".join(
        (
            struct.pack("<4sII", b"glTF", 2, total),
            struct.pack("<I4s", len(text), b"JSON"),
            text,
            struct.pack("<I4s", len(out.data), b"BIN\0"),
            bytes(out.data),
        )
    )
