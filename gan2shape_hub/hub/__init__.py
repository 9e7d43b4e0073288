"""Checkpoints: a folder or a Hub repository <-> a category's configuration and networks."""

from .card_rules import lint_card
from .checkpoint import fingerprint, load_components, read_components, read_config, save_components, write_card
from .errors import CheckpointError
from .layout import SLOTS
from .publish import card_problems, files_to_push, push
from .remote import resolve
from .weights import check_dtype

COMPONENTS = tuple(SLOTS)
"""Names that a component of a checkpoint may have."""

__all__ = [
    "COMPONENTS",
    "CheckpointError",
    "card_problems",
    "check_dtype",
    "files_to_push",
    "fingerprint",
    "lint_card",
    "load_components",
    "push",
    "read_components",
    "read_config",
    "resolve",
    "save_components",
    "write_card",
]
