"""Errors that callers may tell apart: one sentence for people, and a short ``code`` for programs, which never changes
with the sentence's words."""

from __future__ import annotations

LONGEST = 1500
"""Characters of a sentence; paths may have a thousand."""


class CodedError(Exception):
    """An error with a ``code`` beside its sentence, and the numbers that it speaks of."""

    code = "error"

    def __init__(self, *arguments: object, code: str | None = None, **numbers: float) -> None:
        super().__init__(*map(_shortened, arguments))
        self.numbers = numbers
        if code is not None:
            self.code = code


def _shortened(argument: object) -> object:
    """A sentence without the middle of what it quotes, where that is a page long; the remedy is at its end."""
    if not isinstance(argument, str) or len(argument) <= LONGEST:
        return argument
    return f"{argument[: LONGEST // 2]} ... {argument[-LONGEST // 3 :]}"


class InputError(CodedError, ValueError):
    """An input cannot be used; the message is one sentence naming the input and the remedy.

    Codes: ``not-found``, ``unreadable``, ``not-an-image``, ``heic``, ``corrupt``, ``too-small``, ``too-large``,
    ``too-many-scans``, ``no-face``, ``no-such-face``, ``face-too-small``, ``bad-array``, ``bad-latent``, ``bad-mask``,
    ``empty-mask``, ``empty-list``, and ``input`` for the rest.
    """

    code = "input"


class InputWarning(UserWarning):
    """An input can be used, but not all of it or not as it should be. Codes: ``several-frames``, ``face-cut``."""

    def __init__(self, message: str, code: str) -> None:
        super().__init__(message)
        self.code = code


class ConfigError(CodedError, ValueError):
    """A configuration is malformed; the message names the key and what is allowed."""

    code = "config"


class MissingPackage(CodedError, ImportError):
    """Something optional is asked for whose package is not installed; the sentence says how to install it."""

    code = "missing-package"


class Cancelled(CodedError):
    """The callback or the token asked to stop; what was written is complete, nothing is half done."""

    code = "cancelled"
