"""Checkpoints: a folder or a Hub repository <-> a category's configuration and networks."""

from .checkpoint import load_components, read_config, save_components
from .errors import CheckpointError
from .remote import files_to_push, push, resolve

__all__ = [
    "CheckpointError",
    "files_to_push",
    "load_components",
    "push",
    "read_config",
    "resolve",
    "save_components",
]
