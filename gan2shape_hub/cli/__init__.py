"""The command ``gan2shape``: each subcommand is a module with ``main(arguments)``, and answers --help at once.

The same commands are ``scripts/*.py`` in a clone of the repository.
"""

from __future__ import annotations

import argparse
import importlib
import os
import sys
from collections.abc import Sequence

from gan2shape_hub.version import __version__

# Threads that wait for work sleep. By default they spin, which on a busy machine takes from those that have some; torch
# reads it when it is imported, and a program that has done so keeps its own ways. A value that the user has set stays.
if "torch" not in sys.modules:
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")

COMMANDS = {
    "reconstruct": "an image or a seed of the generator to a textured 3D model",
    "folder": "a folder of photographs to a folder of reconstructions",
    "demo": "the page in a browser, on this machine",
    "train": "a generator to a finished checkpoint: turns, light, shape networks",
    "get": "public StyleGAN2 weights, or your own, to a checkpoint folder",
    "convert": "StyleGAN2 checkpoints of other projects to a checkpoint folder",
    "card": "the model card of a checkpoint",
    "push": "a checkpoint folder to a repository of the Hugging Face Hub",
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one subcommand; its exit status."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    if arguments and arguments[0] in COMMANDS:
        return importlib.import_module(f"{__name__}.{arguments[0]}").main(arguments[1:])
    width = max(map(len, COMMANDS))
    parser = argparse.ArgumentParser(
        prog="gan2shape",
        description="Single-image 3D shape out of a 2D GAN. `gan2shape COMMAND --help` has the options and examples.",
        epilog="\n".join(["commands:", *(f"  {name:{width}}  {text}" for name, text in COMMANDS.items())]),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"gan2shape-hub {__version__}")
    parser.add_argument("command", metavar="COMMAND", choices=COMMANDS, help="one of those below, with its options")
    parser.parse_args(arguments)  # help, version, or what is wrong: any of them ends here
    return 2
