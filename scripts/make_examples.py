"""Make the finished examples of the demo's page anew, after the checkpoint or the presets have changed.

The faces are those of gan2shape_hub/demo/examples/faces.json, photographs beside it or seeds of the generator. Each
gets the square that was reconstructed (JPEG), and its model, textured and bare, as small GLB files: fewer triangles,
rounded coordinates (KHR_mesh_quantization), WebP textures (EXT_texture_webp), which browsers read and other programs
may not. Needs the extra `model`.

Examples:
    python scripts/make_examples.py
    python scripts/make_examples.py boy
"""

from __future__ import annotations

import argparse
import dataclasses
import io
import json
import struct
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))
if TYPE_CHECKING:
    from gan2shape_hub.reconstruction import Reconstruction

PICTURE_PX, TEXTURE_PX, SHAPE_PX = 512, 768, 384
TRIANGLES = 9000


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", help="of the faces (default: all)")
    options = parser.parse_args(arguments)
    from gan2shape_hub import GAN2ShapePipeline
    from gan2shape_hub.demo.faces import FOLDER, load

    offered = load()
    unknown = set(options.names) - {face.name for face in offered.faces}
    if unknown:
        parser.error(f"there is no face {', '.join(sorted(unknown))}: faces.json names them")
    pipeline = GAN2ShapePipeline.from_pretrained(ROOT / offered.checkpoint)
    for face in offered.faces:
        if options.names and face.name not in options.names:
            continue
        item = FOLDER / face.photograph if face.photograph else pipeline.sample(seed=face.seed)
        result = pipeline(item, preset=offered.preset, tuned=face.tuned)
        for kind, data in files_of(result).items():
            path = FOLDER / face.file(kind)
            path.write_bytes(data)
            print(f"{path.relative_to(ROOT)}  {len(data) / 1000:.0f} kB", flush=True)
    return 0


def files_of(result: Reconstruction) -> dict[str, bytes]:
    """Kind of file (`Face.file`) -> content."""
    from gan2shape_hub.demo.results import lit_clay
    from gan2shape_hub.results.image_files import to_pil
    from gan2shape_hub.results.mesh_files import write_glb
    from gan2shape_hub.results.model import ModelOptions

    viewer = dataclasses.replace(result.viewer, mesh_side=0)
    model, camera = viewer.model(ModelOptions(faces=TRIANGLES)), result.config.camera
    textured = model.picture.resize((TEXTURE_PX, TEXTURE_PX), Image.Resampling.LANCZOS)
    clay = to_pil(lit_clay(viewer.wide, SHAPE_PX))
    if textured.mode == "RGBA":
        clay.putalpha(textured.getchannel("A").resize(clay.size))
    made = {"jpg": _picture(to_pil(result.source))}
    with tempfile.TemporaryDirectory() as folder:
        for kind, texture in (("glb", textured), ("shape.glb", clay)):
            path = write_glb(Path(folder) / "model.glb", model.mesh, texture, camera, unlit=True)
            made[kind] = small(path.read_bytes())
    return made


def _picture(picture: Image.Image) -> bytes:
    data = io.BytesIO()
    picture.convert("RGB").resize((PICTURE_PX, PICTURE_PX), Image.Resampling.LANCZOS).save(data, "JPEG", quality=86)
    return data.getvalue()


def small(glb: bytes) -> bytes:
    """A GLB of `write_glb` for browsers: 16 bits a coordinate, WebP in the place of PNG, no normals, which nothing
    that is unlit needs."""
    length = struct.unpack_from("<I", glb, 12)[0]
    tree: dict[str, Any] = json.loads(glb[20 : 20 + length])
    binary = glb[28 + length :]
    views, accessors, out = tree["bufferViews"], tree["accessors"], bytearray()
    new_views: list[dict[str, Any]] = []

    def bytes_of(view: int) -> bytes:
        first = views[view].get("byteOffset", 0)
        return binary[first : first + views[view]["byteLength"]]

    def add(data: bytes, **more: Any) -> int:
        new_views.append({"buffer": 0, "byteOffset": len(out), "byteLength": len(data), **more})
        out.extend(data + bytes(-len(data) % 4))
        return len(new_views) - 1

    (mesh,) = tree["meshes"]
    attributes = mesh["primitives"][0]["attributes"]
    for primitive in mesh["primitives"]:
        primitive["attributes"] = {k: attributes[k] for k in ("POSITION", "TEXCOORD_0")}
    kept = [attributes["POSITION"], attributes["TEXCOORD_0"], *(p["indices"] for p in mesh["primitives"])]
    low, high = (np.asarray(accessors[kept[0]][k], np.float32) for k in ("min", "max"))
    place = {"translation": low.tolist(), "scale": (high - low).tolist()}
    tree["nodes"][0].update(place)
    for number in kept[:2]:
        accessor = accessors[number]
        width = {"VEC3": 3, "VEC2": 2}[accessor["type"]]
        values = np.frombuffer(bytes_of(accessor["bufferView"]), "<f4").reshape(-1, width)
        if width == 3:
            values = (values - low) / (high - low)
            accessor.update(min=[0, 0, 0], max=[65535, 65535, 65535])
        stride = np.zeros((len(values), 4 if width == 3 else 2), "<u2")  # rows begin at multiples of four bytes
        stride[:, :width] = np.round(values.clip(0, 1) * 65535)
        view = add(stride.tobytes(), target=34962, byteStride=stride.shape[1] * 2)
        accessor.update(bufferView=view, componentType=5123, normalized=True)
    for number in kept[2:]:
        accessors[number]["bufferView"] = add(bytes_of(accessors[number]["bufferView"]), target=34963)
    for image in tree["images"]:
        data = io.BytesIO()
        Image.open(io.BytesIO(bytes_of(image["bufferView"]))).save(data, "WEBP", quality=82, method=6)
        image.update(bufferView=add(data.getvalue()), mimeType="image/webp")
    for texture in tree["textures"]:
        texture["extensions"] = {"EXT_texture_webp": {"source": texture.pop("source")}}
    number_of = {old: new for new, old in enumerate(kept)}
    tree["accessors"] = [accessors[old] for old in kept]
    for primitive in mesh["primitives"]:
        primitive["attributes"] = {k: number_of[v] for k, v in primitive["attributes"].items()}
        primitive["indices"] = number_of[primitive["indices"]]
    used = ["KHR_mesh_quantization", "EXT_texture_webp"]
    tree.update(bufferViews=new_views, buffers=[{"byteLength": len(out)}], extensionsRequired=used)
    tree["extensionsUsed"] = [*tree.get("extensionsUsed", []), *used]
    text = json.dumps(tree, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 4)
    head = struct.pack("<4sII", b"glTF", 2, 28 + len(text) + len(out))
    return head + struct.pack("<I4s", len(text), b"JSON") + text + struct.pack("<I4s", len(out), b"BIN\0") + bytes(out)


if __name__ == "__main__":
    sys.exit(main())
