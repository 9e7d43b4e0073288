"""Files and folders that appear whole or not at all.

Everything is written under a hidden temporary name beside its destination and renamed at the end, so that Ctrl-C, an
error or a full disk leaves nothing half-written, and an older file stays until the newer one is complete.
"""

from __future__ import annotations

import errno
import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_REMEDIES = {
    errno.ENOSPC: "free some space or choose another disk",
    errno.EDQUOT: "free some of your quota or choose another disk",
    errno.EACCES: "choose a folder you may write to",
    errno.EPERM: "choose a folder you may write to",
    errno.EROFS: "choose a folder on a disk that is not read-only",
    errno.ENOTDIR: "a part of the path is a file: choose another folder",
    errno.EEXIST: "a file of that name is in the way: choose another folder",
    errno.EISDIR: "a folder of that name is in the way: choose another name",
    errno.ENAMETOOLONG: "choose a shorter name",
}


class ExportError(OSError):
    """A result cannot be written; the message is one sentence naming the path and the remedy."""


@contextmanager
def atomic_file(path: str | Path) -> Iterator[Path]:
    """Give a temporary path to write, with the same suffix; rename it to ``path`` when the block ends well.

    Missing parent folders are made. ExportError names ``path``, the reason and the remedy.
    """
    path = Path(path)
    part = path.with_name(f".{path.stem[:100]}-{secrets.token_hex(4)}.part{path.suffix}")
    with _one_sentence(path):
        try:
            if path.is_dir():
                raise OSError(errno.EISDIR, os.strerror(errno.EISDIR))
            path.parent.mkdir(parents=True, exist_ok=True)
            yield part
            os.replace(part, path)
        finally:
            part.unlink(missing_ok=True)


@contextmanager
def atomic_folder(path: str | Path) -> Iterator[Path]:
    """Give a temporary folder to fill; it becomes ``path`` when the block ends well.

    Where ``path`` is there already, the new files take their places in it one rename each, and whatever else it holds
    is left alone. ExportError names ``path``, the reason and the remedy.
    """
    path = Path(path)
    part = path.absolute().with_name(f".{path.absolute().name[:100]}-{secrets.token_hex(4)}.part")
    with _one_sentence(path, part):
        try:
            if path.exists() and not path.is_dir():
                raise OSError(errno.EEXIST, os.strerror(errno.EEXIST))
            if path.is_dir() and not os.access(path, os.W_OK):
                raise OSError(errno.EACCES, os.strerror(errno.EACCES))
            part.mkdir(parents=True)
            yield part
            if not path.exists():
                os.rename(part, path)
            else:
                _merge(part, path)
        finally:
            shutil.rmtree(part, ignore_errors=True)


def _merge(source: Path, target: Path) -> None:
    for item in sorted(source.rglob("*")):
        place = target / item.relative_to(source)
        if item.is_dir():
            place.mkdir(exist_ok=True)
        else:
            os.replace(item, place)


@contextmanager
def _one_sentence(path: Path, part: Path | None = None) -> Iterator[None]:
    try:
        yield
    except ExportError as error:
        if part is None or str(part) not in str(error):
            raise
        # A file inside a folder that is still under its temporary name: tell the name that the user gave.
        raise ExportError(str(error).replace(str(part), str(path))) from None
    except OSError as error:
        if error.errno is None:  # not from the system: a format's own complaint
            raise
        reason = (error.strerror or str(error)).lower()
        remedy = _REMEDIES.get(error.errno, "choose another folder")
        raise ExportError(f"cannot write '{path}' ({reason}): {remedy}.") from None
