"""Checkpoints: a folder or a Hub repository <-> a category's configuration and networks."""

from .card import card_of_folder, outdated_results
from .checkpoint import (
    fingerprint,
    load_components,
    read_components,
    read_config,
    save_components,
    stored_dtypes,
    write_card,
)
from .default import default_checkpoint
from .errors import CheckpointError
from .foreign import check_foreign
from .layout import SLOTS
from .publish import card_problems, files_to_push, push
from .remote import resolve
from .weights import check_dtype

COMPONENTS = tuple(SLOTS)
"""Names that a component of a checkpoint may have."""

__all__ = [
    "COMPONENTS",
    "CheckpointError",
    "card_of_folder",
    "card_problems",
    "check_dtype",
    "check_foreign",
    "default_checkpoint",
    "files_to_push",
    "fingerprint",
    "load_components",
    "outdated_results",
    "push",
    "read_components",
    "read_config",
    "resolve",
    "save_components",
    "stored_dtypes",
    "write_card",
]
