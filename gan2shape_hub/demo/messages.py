"""Errors of handlers as messages on the page: what visitors should know they are told, nothing of theirs is logged."""

from __future__ import annotations

import functools
import inspect
import sys
import traceback
from collections.abc import Callable
from typing import Any

import gradio as gr

from gan2shape_hub.demo.shelf import DemoError


def told(handler: Callable) -> Callable:
    """Turn DemoError into a message of one sentence. Any other error is a mistake of ours: its kind and place go to
    the log, its text, which may hold names of files, does not."""
    if inspect.isgeneratorfunction(handler):

        @functools.wraps(handler)
        def streaming(*args: Any, **kwargs: Any) -> Any:
            try:
                yield from handler(*args, **kwargs)
            except Exception as error:
                raise _message(error) from None

        return streaming

    @functools.wraps(handler)
    def plain(*args: Any, **kwargs: Any) -> Any:
        try:
            return handler(*args, **kwargs)
        except Exception as error:
            raise _message(error) from None

    return plain


def _message(error: Exception) -> gr.Error:
    if isinstance(error, gr.Error):
        return error
    if isinstance(error, DemoError):
        text = str(error)
        return gr.Error(text[:1].upper() + text[1:], title="That did not work", print_exception=False)
    frames = traceback.extract_tb(error.__traceback__)
    place = " < ".join(f"{frame.name}:{frame.lineno}" for frame in reversed(frames[-4:]))
    print(f"demo: {type(error).__name__} in {place}", file=sys.stderr)
    return gr.Error(
        "Something went wrong that should not have: try again, or reload the page.",
        title="A mistake of ours",
        print_exception=False,
    )
