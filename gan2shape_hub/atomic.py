"""Files and folders that appear whole or not at all.

Everything is written under a hidden temporary name beside its destination and put in place at the end, so that Ctrl-C,
an error or a full disk leaves nothing half-written, and what is older stays until the newer one is complete.
"""

from __future__ import annotations

import ctypes
import errno
import fnmatch
import os
import secrets
import shutil
import sys
import zlib
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from gan2shape_hub.arguments import user_path

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None

_AT_FDCWD, _EXCHANGE = -100, 2
_REMEDIES = {
    errno.ENOSPC: "free some space or choose another disk",
    errno.EDQUOT: "free some of your quota or choose another disk",
    errno.EFBIG: "choose a disk that takes files as large",
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
    path = user_path(path)
    part = path.with_name(f".{path.stem[:100]}-{secrets.token_hex(4)}.part{path.suffix}")
    with _one_sentence(path):
        try:
            if path.is_dir():
                raise OSError(errno.EISDIR, os.strerror(errno.EISDIR))
            if path.parent.exists() and not path.parent.is_dir():
                raise OSError(errno.ENOTDIR, os.strerror(errno.ENOTDIR))
            path.parent.mkdir(parents=True, exist_ok=True)
            yield part
            os.replace(part, path)
        finally:
            with suppress(OSError):  # the first error is the one to tell
                part.unlink()


@contextmanager
def atomic_folder(path: str | Path, *, own: Collection[str] = ()) -> Iterator[Path]:
    """Give a temporary folder to fill; it takes the place of ``path`` in one step when the block ends well.

    Where the system can exchange two folders (Linux, macOS), there is a whole older or a whole newer one at every
    moment, whatever interrupts it. Elsewhere there is none between two renames, and the next call brings back what a
    kill left between them. A mount point and the folder that the program stands in cannot be exchanged: there the files
    take their places one by one.

    Args:
        path: missing parents are made; a symbolic link is followed.
        own: which files go with the older version, written anew or not: names, folders or patterns (``*``) relative
            to ``path``. All else that is there (.git, figures, notes) and is not written anew stays.

    Raises:
        ExportError: names ``path``, the reason and the remedy; ``path`` is as it was before.
    """
    path = user_path(path)
    target = Path(os.path.realpath(path)) if path.is_symlink() else Path(os.path.abspath(path))
    fixed = _cannot_be_exchanged(target)
    part = (target if fixed else target.parent) / f"{_prefix(target)}{secrets.token_hex(4)}.part"
    lock = None
    with _one_sentence(path, part):
        _clear_leftovers(target, part.parent)
        if target.exists() and not target.is_dir():
            raise OSError(errno.EEXIST, os.strerror(errno.EEXIST))
        if target.is_dir() and not os.access(target, os.W_OK):
            raise OSError(errno.EACCES, os.strerror(errno.EACCES))
        try:
            part.mkdir(parents=True)
            lock = lock_folder(part)
            yield part
            if fixed:
                _move_in(part, target, own)
            else:
                if target.exists():
                    _carry_over(target, part, own)
                    shutil.copymode(target, part)
                _put_in_place(part, target)
        finally:
            shutil.rmtree(part, ignore_errors=True)
            if lock is not None:
                os.close(lock)


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


def _put_in_place(new: Path, target: Path) -> None:
    """``new`` becomes ``target``. What was there is worthless by now: all that is kept of it is in ``new`` too."""
    if not target.exists():
        os.rename(new, target)
    elif not exchange(new, target):
        old = new.with_suffix(".old")
        try:
            os.rename(target, old)
            os.rename(new, target)
        except BaseException:
            if old.is_dir() and not target.exists():
                os.rename(old, target)
            raise
        shutil.rmtree(old, ignore_errors=True)


def _is_own(path: Path, own: Collection[str]) -> bool:
    """Whether ``own`` has ``path``, relative to the folder that is written, or a folder that it is in."""
    return any(_begins(path.parts, pattern.split("/")) for pattern in own)


def _held_own(folder: Path, own: Collection[str]) -> bool:
    """Whether ``own`` has ``folder``, or files that would be in it."""
    return _is_own(folder, own) or any(_begins(pattern.split("/"), folder.parts) for pattern in own)


def _begins(parts: Sequence[str], with_: Sequence[str]) -> bool:
    return len(with_) <= len(parts) and all(map(fnmatch.fnmatchcase, parts, with_))


def _carry_over(old: Path, new: Path, own: Collection[str], inside: Path = Path()) -> None:
    """Give ``new`` all that ``old`` holds beyond ``own`` and that it does not have: the same files under a second name,
    so that neither folder lacks them before or after the swap. ``inside``: where in ``new`` it looks."""
    for item in (old / inside).iterdir():
        here = inside / item.name
        place = new / here
        if _is_own(here, own):
            continue
        if item.is_dir() and not item.is_symlink():
            made = not place.is_dir()
            if made:
                place.mkdir()
            _carry_over(old, new, own, here)
            if made and _held_own(here, own) and not any(place.iterdir()):
                place.rmdir()  # of the older version alone
            elif made:
                shutil.copystat(item, place)
        elif not os.path.lexists(place):
            try:
                os.link(item, place, follow_symlinks=False)
            except (OSError, NotImplementedError):  # a file system without second names
                shutil.copy2(item, place, follow_symlinks=False)


def _move_in(new: Path, target: Path, own: Collection[str]) -> None:
    """Move what ``new`` holds into ``target``, one rename each, and remove what else of ``own`` is there."""
    files = {path.relative_to(new) for path in new.rglob("*") if path.is_symlink() or not path.is_dir()}
    for file in sorted(files):
        place = target / file
        place.parent.mkdir(parents=True, exist_ok=True)
        if place.is_dir() and _is_own(file, own):
            shutil.rmtree(place)
        os.replace(new / file, place)
    for item in sorted(target.rglob("*"), reverse=True):  # what is in a folder comes before the folder
        here = item.relative_to(target)
        if new in (item, *item.parents) or here in files:
            continue
        if item.is_dir() and not item.is_symlink():
            if _held_own(here, own) and not any(item.iterdir()):
                item.rmdir()
        elif _is_own(here, own):
            item.unlink()


def _cannot_be_exchanged(target: Path) -> bool:
    """Whether ``target`` is a mount point, or whoever started the program would stand in a folder that is gone."""
    try:
        here = Path.cwd()
    except OSError:  # it is gone already
        return False
    return target.is_dir() and (os.path.ismount(target) or here.is_relative_to(target.resolve()))


def _prefix(target: Path) -> str:
    """How the temporary names of ``target`` begin: short enough for every file system, and of no other folder."""
    return f".{target.name[:40]}-{zlib.crc32(os.fsencode(target.name)):08x}-"


def _clear_leftovers(target: Path, place: Path) -> None:
    """Undo what killed programs left in ``place`` of their attempts at ``target``; attempts under way stay."""
    if not place.is_dir():
        return
    for leftover in sorted(item for item in place.iterdir() if item.name.startswith(_prefix(target))):
        if leftover.suffix == ".old" and not target.exists():
            os.rename(leftover, target)  # killed between two renames
        elif leftover.suffix == ".old":
            shutil.rmtree(leftover, ignore_errors=True)
        elif leftover.suffix == ".part" and (lock := lock_folder(leftover)) is not None:
            shutil.rmtree(leftover, ignore_errors=True)
            os.close(lock)


def lock_folder(folder: Path) -> int | None:
    """Take a folder for this process, until the number that is returned is closed or the process ends; None where
    another one has it, or the system knows no such locks."""
    if fcntl is None or not folder.is_dir():
        return None
    number = None
    try:
        number = os.open(folder, os.O_RDONLY)
        fcntl.flock(number, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        if number is not None:
            os.close(number)
        return None
    return number


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
