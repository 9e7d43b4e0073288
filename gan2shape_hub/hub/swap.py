"""A folder takes another one's place in one step, where the system can."""

from __future__ import annotations

import ctypes
import os
import sys
from pathlib import Path

_AT_FDCWD, _EXCHANGE = -100, 2


def exchange(one: Path, other: Path) -> bool:
    """Swap two paths of one file system atomically; False, and nothing done, where that is not to be had.

    Linux and macOS have a call for it, which Python does not offer.
    """
    names = [os.fsencode(path) for path in (one, other)]
    try:
        library = ctypes.CDLL(None, use_errno=True)
        if sys.platform == "linux":
            return library.renameat2(_AT_FDCWD, names[0], _AT_FDCWD, names[1], _EXCHANGE) == 0
        if sys.platform == "darwin":
            return library.renamex_np(*names, _EXCHANGE) == 0
    except (AttributeError, OSError, TypeError):  # an older C library, or none that can be loaded
        pass
    return False


def put_in_place(new: Path, target: Path, old: Path) -> None:
    """``new`` becomes ``target``, and what was there becomes ``old``; OSError leaves ``target`` as it was.

    There is no moment without ``target`` where :func:`exchange` works. Elsewhere (network disks, Windows) there is one
    between two renames.
    """
    if not target.exists():
        os.rename(new, target)
    elif exchange(new, target):
        os.rename(new, old)
    else:
        os.rename(target, old)
        try:
            os.rename(new, target)
        except BaseException:
            os.rename(old, target)
            raise
