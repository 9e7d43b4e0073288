"""GLB, OBJ, PLY, STL and 3MF files of a mesh, in the export frame of `mesh` (y up, front facing +z)."""

from __future__ import annotations

import struct
import zipfile
from pathlib import Path

import numpy as np
import trimesh
from PIL import Image

from gan2shape_hub.atomic import atomic_file
from gan2shape_hub.config import CameraConfig
from gan2shape_hub.results.glb import glb
from gan2shape_hub.results.image_files import TEXTURE_LEVEL, png_bytes
from gan2shape_hub.results.mesh import SheetMesh, export_normals, export_uv, to_export_frame
from gan2shape_hub.results.solid import weld

OPAQUE = 0.98
"""A face whose texture is less opaque at one of its corners blends."""
HEIGHT_MM = 100.0
"""Height of a printed model."""


def to_trimesh(mesh: SheetMesh, texture: Image.Image, camera: CameraConfig) -> trimesh.Trimesh:
    """A textured mesh in the export frame.

    Args:
        mesh: V vertices.
        texture: RGB or RGBA image; embedded on export.
        camera: sets the scale of the export frame.

    Returns:
        V vertices in the same order, smooth normals, double-sided PBR material with metallic 0 and roughness 1 (a
        depth sheet would be invisible from behind and dark otherwise).
    """
    material = trimesh.visual.material.PBRMaterial(
        name="surface",
        baseColorTexture=texture,
        doubleSided=True,
        metallicFactor=0.0,
        roughnessFactor=1.0,
        alphaMode="MASK" if texture.mode == "RGBA" else None,
    )
    return trimesh.Trimesh(
        vertices=to_export_frame(mesh.vertices, camera).numpy(),
        faces=mesh.faces.numpy(),
        vertex_normals=export_normals(mesh).numpy(),
        visual=trimesh.visual.TextureVisuals(uv=export_uv(mesh.uv, texture.size).numpy(), material=material),
        process=False,  # merging vertices would reorder them
    )


def write_glb(
    path: str | Path,
    mesh: SheetMesh,
    texture: Image.Image,
    camera: CameraConfig,
    *,
    png: bytes | None = None,
    normal_map: Image.Image | None = None,
    unlit: bool = False,
) -> Path:
    """Binary glTF 2.0: positions, normals, texture coordinates, embedded PNG texture, double-sided matt material.

    ``png`` is the texture's file where there is one already; ``normal_map`` is in the tangent space of the mesh;
    ``unlit`` shows the texture without light."""
    uv = export_uv(mesh.uv, texture.size).numpy()
    uv[:, 1] = 1 - uv[:, 1]
    faces = mesh.faces.numpy()
    blended = np.zeros(len(faces), bool)
    if texture.mode == "RGBA":
        opaque = _texels(mesh, texture.getchannel("A")) >= OPAQUE * 255
        blended = ~opaque[faces].all(1)
    data = glb(
        to_export_frame(mesh.vertices, camera).numpy(),
        export_normals(mesh).numpy(),
        uv,
        faces,
        blended,
        texture_png(texture) if png is None else png,
        normal_map=None if normal_map is None else png_bytes(normal_map),
        unlit=unlit,
    )
    return _written(path, data)


def texture_png(texture: Image.Image) -> bytes:
    """A texture as PNG, which GLB and OBJ may share."""
    return png_bytes(texture, compress_level=TEXTURE_LEVEL)


def write_obj(
    path: str | Path, mesh: SheetMesh, texture: Image.Image, camera: CameraConfig, *, png: bytes | None = None
) -> tuple[Path, Path, Path]:
    """Wavefront OBJ with its material and texture (``png``: its file, where there is one) beside it, named after it.

    Readers disagree on blanks in material names, so blanks of the stem become underscores in the two other names.
    Returns the paths of the .obj, .mtl and .png. The .obj comes last, so that it never names a file that is not there.
    """
    path = Path(path)
    stem = "_".join(path.stem.split())
    mtl, picture = path.with_name(f"{stem}.mtl"), path.with_name(f"{stem}.png")
    _written(picture, texture_png(texture) if png is None else png)
    opacity = f"map_d -imfchan m {picture.name}\n" if texture.mode == "RGBA" else ""
    with atomic_file(mtl) as part:
        part.write_text(
            "newmtl surface\nKa 1 1 1\nKd 1 1 1\nKs 0 0 0\nd 1\nillum 1\n"
            f"map_Ka {picture.name}\nmap_Kd {picture.name}\n{opacity}",
            encoding="utf-8",
        )
    corners = (mesh.faces.numpy() + 1).repeat(3, 1)
    lines = [
        f"# y up, front facing +z\nmtllib {mtl.name}\no surface\n",
        _lines("v %.6f %.6f %.6f\n", to_export_frame(mesh.vertices, camera).numpy()),
        _lines("vt %.6f %.6f\n", export_uv(mesh.uv, texture.size).numpy()),
        _lines("vn %.4f %.4f %.4f\n", export_normals(mesh).numpy()),
        "usemtl surface\ns 1\n",
        _lines("f %d/%d/%d %d/%d/%d %d/%d/%d\n", corners),
    ]
    _written(path, "".join(lines).encode())
    return path, mtl, picture


def zip_files(path: str | Path, files: tuple[Path, ...]) -> Path:
    """A zip of ``files``, flat: what a web page offers for an OBJ, which is three files."""
    with atomic_file(path) as part, zipfile.ZipFile(part, "w", zipfile.ZIP_DEFLATED) as archive:
        for file in files:
            archive.write(file, file.name)
    return Path(path)


def write_ply(path: str | Path, mesh: SheetMesh, texture: Image.Image, camera: CameraConfig) -> Path:
    """Binary PLY with normals and vertex colours, the texture's at each vertex."""
    coloured = trimesh.Trimesh(
        vertices=to_export_frame(mesh.vertices, camera).numpy(),
        faces=mesh.faces.numpy(),
        vertex_normals=export_normals(mesh).numpy(),
        vertex_colors=_texels(mesh, texture.convert("RGB").convert("RGBA")),
        process=False,
    )
    return _written(path, trimesh.exchange.ply.export_ply(coloured, vertex_normal=True))


def write_stl(path: str | Path, mesh: SheetMesh, camera: CameraConfig, height_mm: float = HEIGHT_MM) -> Path:
    """Binary STL of a closed ``mesh``, ``height_mm`` millimetres high, z up, standing at z = 0."""
    points, faces = _printed(mesh, camera, height_mm)
    corner = points[faces].astype("<f4")
    normals = np.cross(corner[:, 1] - corner[:, 0], corner[:, 2] - corner[:, 0])
    normals /= np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-30)
    records = np.zeros(len(faces), np.dtype([("normal", "<f4", 3), ("corner", "<f4", (3, 3)), ("more", "<u2")]))
    records["normal"], records["corner"] = normals, corner
    return _written(path, b"gan2shape_hub, millimetres".ljust(80) + struct.pack("<I", len(faces)) + records.tobytes())


def write_3mf(path: str | Path, mesh: SheetMesh, camera: CameraConfig, height_mm: float = HEIGHT_MM) -> Path:
    """3MF (core specification 1.3) of a closed ``mesh``, as `write_stl`; it says that it is in millimetres."""
    points, faces = _printed(mesh, camera, height_mm)
    model = (
        '<?xml version="1.0" encoding="UTF-8"?>\n<model unit="millimeter" xml:lang="en-US" '
        'xmlns="http://schemas.microsoft.com/3dmanufacturing/core/2015/02"><resources><object id="1" type="model">'
        "<mesh><vertices>"
        + _lines('<vertex x="%.4f" y="%.4f" z="%.4f"/>', points)
        + "</vertices><triangles>"
        + _lines('<triangle v1="%d" v2="%d" v3="%d"/>', faces)
        + '</triangles></mesh></object></resources><build><item objectid="1"/></build></model>'
    )
    relations = "http://schemas.openxmlformats.org/package/2006/relationships"
    kinds = "http://schemas.openxmlformats.org/package/2006/content-types"
    with atomic_file(path) as part, zipfile.ZipFile(part, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        archive.writestr(
            "[Content_Types].xml",
            f'<?xml version="1.0" encoding="UTF-8"?><Types xmlns="{kinds}">'
            '<Default Extension="rels" ContentType="application/vnd.openxmlformats-package.relationships+xml"/>'
            '<Default Extension="model" ContentType="application/vnd.ms-package.3dmanufacturing-3dmodel+xml"/></Types>',
        )
        archive.writestr(
            "_rels/.rels",
            f'<?xml version="1.0" encoding="UTF-8"?><Relationships xmlns="{relations}"><Relationship Id="rel0" '
            'Target="/3D/3dmodel.model" Type="http://schemas.microsoft.com/3dmanufacturing/2013/01/3dmodel"/>'
            "</Relationships>",
        )
        archive.writestr("3D/3dmodel.model", model)
    return Path(path)


def _printed(mesh: SheetMesh, camera: CameraConfig, height_mm: float) -> tuple[np.ndarray, np.ndarray]:
    """Points (W, 3) in millimetres, z up and facing -y, and faces (F, 3) without seams."""
    if not height_mm > 0:
        raise ValueError(f"height_mm is {height_mm}, must be above 0.")
    number = weld(mesh.vertices) if mesh.weld is None else mesh.weld
    points = np.empty((int(number.max()) + 1, 3))
    x, y, z = to_export_frame(mesh.vertices, camera).double().numpy().T
    points[number.numpy()] = np.stack((x, -z, y), 1)
    points -= points.min(0)
    return points * (height_mm / points[:, 2].max()), number[mesh.faces].numpy()


def _texels(mesh: SheetMesh, texture: Image.Image) -> np.ndarray:
    """(V,) or (V, C): the texture's value next to each vertex."""
    texels = np.asarray(texture)
    size = np.array([texels.shape[1] - 1, texels.shape[0] - 1])
    column, row = np.round(mesh.uv.numpy() * size).astype(int).T
    return texels[row, column]


def _lines(line: str, rows: np.ndarray) -> str:
    """``line`` filled in with each of ``rows`` (N, C); one formatting of all, which is several times as fast."""
    return (line * len(rows)) % tuple(rows.ravel().tolist())


def _written(path: str | Path, data: bytes) -> Path:
    with atomic_file(path) as part:
        part.write_bytes(data)
    return Path(path)
