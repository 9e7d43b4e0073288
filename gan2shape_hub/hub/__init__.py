"""Checkpoints: a folder or a Hub repository <-> a category's configuration and networks."""

from .card_rules import lint_card
from .checkpoint import load_components, read_components, read_config, save_components, write_card
from .errors import CheckpointError
from .remote import card_problems, files_to_push, push, resolve

__all__ = [
    "CheckpointError",
    "card_problems",
    "files_to_push",
    "lint_card",
    "load_components",
    "push",
    "read_components",
    "read_config",
    "resolve",
    "save_components",
    "write_card",
]
