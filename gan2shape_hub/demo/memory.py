"""Give memory back to the system. The C library keeps what threads have freed, in a heap for each of them: a server
whose runs and edits each come in another thread grows by heaps that are mostly empty."""

from __future__ import annotations

import ctypes
import gc

_ARENA_MAX = -8  # M_ARENA_MAX of glibc's malloc.h
_ARENAS = 2


def use_few_heaps() -> None:
    """At most two for all threads, from now on; call it before they are started. Nothing happens but on glibc."""
    if library := _glibc():
        library.mallopt(_ARENA_MAX, _ARENAS)


def give_back() -> None:
    """Let go of what is unreachable, and of the heaps' free pages."""
    gc.collect()  # networks and results refer to themselves
    if library := _glibc():
        library.malloc_trim(0)


def _glibc() -> ctypes.CDLL | None:
    try:
        library = ctypes.CDLL(None)
        return library if hasattr(library, "malloc_trim") and hasattr(library, "mallopt") else None
    except (OSError, TypeError):  # Windows
        return None
