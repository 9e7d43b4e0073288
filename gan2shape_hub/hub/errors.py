"""The one error of this package."""

from __future__ import annotations

from gan2shape_hub.errors import CodedError


class CheckpointError(CodedError, OSError):
    """A checkpoint cannot be found, fetched, read or written.

    The message is one sentence: the file (or Hub id) and what is wrong with it, then, after a colon, the remedy. It is
    an OSError because that is what callers of ``from_pretrained`` catch everywhere on the Hub.
    """

    code = "checkpoint"
