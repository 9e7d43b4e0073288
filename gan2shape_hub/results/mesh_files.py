"""GLB, OBJ and PLY files of a textured sheet, in the export frame of `mesh` (y up, front facing +z)."""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np
import trimesh
from PIL import Image

from gan2shape_hub.atomic import atomic_file
from gan2shape_hub.config import CameraConfig
from gan2shape_hub.results.image_files import write_image
from gan2shape_hub.results.mesh import SheetMesh, export_normals, export_uv, to_export_frame, to_trimesh


def write_glb(path: str | Path, mesh: SheetMesh, texture: Image.Image, camera: CameraConfig) -> Path:
    """Binary glTF 2.0: positions, normals, texture coordinates, embedded PNG texture, double-sided matt material."""
    data = trimesh.exchange.gltf.export_glb(to_trimesh(mesh, texture, camera), include_normals=True)
    with atomic_file(path) as part:
        part.write_bytes(data)
    return Path(path)


def write_obj(path: str | Path, mesh: SheetMesh, texture: Image.Image, camera: CameraConfig) -> tuple[Path, Path, Path]:
    """Wavefront OBJ with its material and texture beside it, named after it.

    Readers disagree on blanks in material names, so blanks of the stem become underscores in the two other names.
    Returns the paths of the .obj, .mtl and .png. The .obj comes last, so that it never names a file that is not there.
    """
    path = Path(path)
    stem = "_".join(path.stem.split())
    mtl, png = path.with_name(f"{stem}.mtl"), path.with_name(f"{stem}.png")
    write_image(png, texture)
    with atomic_file(mtl) as part:
        part.write_text(
            f"newmtl surface\nKa 1 1 1\nKd 1 1 1\nKs 0 0 0\nd 1\nillum 1\nmap_Ka {png.name}\nmap_Kd {png.name}\n",
            encoding="utf-8",
        )
    normals = export_normals(mesh, camera).numpy()
    corner = mesh.faces.numpy() + 1
    with atomic_file(path) as part, part.open("w", encoding="utf-8", newline="\n") as out:
        out.write(f"# y up, front facing +z\nmtllib {mtl.name}\no surface\n")
        np.savetxt(out, to_export_frame(mesh.vertices, camera).numpy(), "v %.6f %.6f %.6f")
        np.savetxt(out, export_uv(mesh.uv, texture.width).numpy(), "vt %.6f %.6f")
        np.savetxt(out, normals, "vn %.4f %.4f %.4f")
        out.write("usemtl surface\ns 1\n")
        np.savetxt(out, np.repeat(corner, 3, axis=1), "f %d/%d/%d %d/%d/%d %d/%d/%d")
    return path, mtl, png


def zip_files(path: str | Path, files: tuple[Path, ...]) -> Path:
    """A zip of ``files``, flat: what a web page offers for an OBJ, which is three files."""
    with atomic_file(path) as part, zipfile.ZipFile(part, "w", zipfile.ZIP_DEFLATED) as archive:
        for file in files:
            archive.write(file, file.name)
    return Path(path)


def write_ply(path: str | Path, mesh: SheetMesh, texture: Image.Image, camera: CameraConfig) -> Path:
    """Binary PLY with normals and vertex colours, the texture's at each vertex."""
    texels = np.asarray(texture.convert("RGB"))
    size = np.array([texels.shape[1] - 1, texels.shape[0] - 1])
    column, row = np.round(mesh.uv.numpy() * size).astype(int).T
    alpha = np.full((len(column), 1), 255, np.uint8)
    coloured = trimesh.Trimesh(
        vertices=to_export_frame(mesh.vertices, camera).numpy(),
        faces=mesh.faces.numpy(),
        vertex_normals=export_normals(mesh, camera).numpy(),
        vertex_colors=np.concatenate((texels[row, column], alpha), 1),
        process=False,
    )
    data = trimesh.exchange.ply.export_ply(coloured, vertex_normal=True)
    with atomic_file(path) as part:
        part.write_bytes(data)
    return Path(path)
