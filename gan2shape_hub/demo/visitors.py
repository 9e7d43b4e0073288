"""What belongs to one visitor, its end, and what visitors are told.

Photographs of people pass through here, so nothing outlives its visitor: a session's folder, its uploads and its
results go when the tab closes, a minute after a program was last heard of, after an hour without a sign of life, and
when this program ends, in whatever way: what a killed one left goes at the next start. Whatever else is found in the
workspace's folder (an upload that broke off, a file that was still being written when its visitor left) belongs to
nobody and goes within a minute. Gradio's own means are kinder to files: ``unload`` is lost where a connection breaks,
``gr.State`` waits for an hour after it, ``delete_cache`` knows no visitors.
"""

from __future__ import annotations

import atexit
import contextlib
import functools
import inspect
import itertools
import os
import secrets
import shutil
import sys
import tempfile
import threading
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gradio as gr
from PIL import Image

from gan2shape_hub.atomic import lock_folder

if TYPE_CHECKING:
    from gan2shape_hub.demo.results import Finished
    from gan2shape_hub.demo.runs import Order
    from gan2shape_hub.demo.shelf import Subject

LIFETIME_S = 3600.0
"""A session without a sign of life is removed after this long."""
ORPHAN_S = 30.0
"""An upload belongs to its visitor a moment after it has come. One that nobody owns after this long is removed."""
GRACE_S = 60.0
"""A program that is not connected, and has no result to come back to, is expected to call again within this time."""
SWEEP_S = 10.0
ROOT_PREFIX, PREFIX = "gan2shape-demo-", "session-"
MAX_UPLOADS = 4
"""Photographs of one visitor that are kept; the page shows one."""
MAX_UPLOADED_BYTES = 1_000_000_000
"""Of all visitors' photographs together, beyond which none is taken."""
MAX_REMEMBERED = 10_000
"""Visitors that left; what was still on its way for them comes within seconds."""
MAX_FINISHED = 12
"""Results held in memory at once, about 60 MB each; the least recently used one gives way."""
GONE = "the connection was lost and your pictures were removed: reload the page."


class DemoError(Exception):
    """Something the visitor should know: one sentence with the remedy."""


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


def sentence(error: Exception) -> str:
    """What an error says, as the page shows it."""
    text = str(error)
    return text[:1].upper() + text[1:]


def _message(error: Exception) -> gr.Error:
    title, text = "That did not work", sentence(error)
    if not isinstance(error, DemoError):
        frames = traceback.extract_tb(error.__traceback__)
        place = " < ".join(f"{frame.name}:{frame.lineno}" for frame in reversed(frames[-4:]))
        print(f"demo: {type(error).__name__} in {place}", file=sys.stderr)
        title, text = "A mistake of ours", "Something went wrong that should not have: try again, or reload the page."
    return gr.Error(text, title=title, print_exception=False)


@dataclass(eq=False)
class Session:
    """One visitor (one tab of a browser, or one client program)."""

    folder: Path
    touched: float
    subject: Subject | None = None
    order: Order | None = None
    """What waits for its turn or runs."""
    finished: Finished | None = None
    example: str | None = ""
    """Which finished example the page shows, empty: the first; None once something else was chosen."""
    uploads: dict[Path, None] = field(default_factory=dict)
    """The latest one last."""
    connected: bool = False
    """Whether it had a connection, whose end says that its visitor has left."""
    closed: bool = False
    _numbers: Iterator[int] = field(default_factory=lambda: itertools.count(1))

    def picture(self, name: str, picture: Image.Image, *, quality: int = 93, keep: int = 3) -> str:
        """Write a picture for the page, of pixels alone (no EXIF), under a name that no earlier version of the file
        ``name`` had (browsers cache); of these the last ``keep`` stay for whoever is still fetching them. DemoError
        where the session ended."""
        if self.closed:
            raise DemoError(GONE)
        stem, suffix = Path(name).stem, Path(name).suffix
        old = sorted(self.folder.glob(f"{stem}-*{suffix}"), key=lambda p: int(p.stem.rsplit("-", 1)[1]))
        for path in old[: max(len(old) - keep, 0)]:
            path.unlink(missing_ok=True)
        path = self.folder / f"{stem}-{next(self._numbers)}{suffix}"
        picture.save(path, quality=quality)
        return str(path)


class Workspace:
    """All sessions. Thread-safe."""

    def __init__(
        self,
        parent: Path | None = None,
        lifetime_s: float = LIFETIME_S,
        orphan_s: float = ORPHAN_S,
        grace_s: float = GRACE_S,
    ) -> None:
        """``parent``: where the workspace's own folder is made, readable by the owner alone; None: where temporary
        files belong. It goes with the program; those of programs that were killed go now."""
        parent = Path(parent or tempfile.gettempdir())
        _remove_leftovers(parent)
        # A start beside this one may take the folder for a leftover until it is locked. Where there are no locks
        # nobody removes anything.
        for _ in range(3):
            self.root = Path(tempfile.mkdtemp(prefix=ROOT_PREFIX, dir=parent))
            self._lock_number = lock_folder(self.root)
            if self._lock_number is not None and self.root.is_dir():
                break
        self.root.mkdir(mode=0o700, exist_ok=True)
        atexit.register(shutil.rmtree, self.root, ignore_errors=True)
        self.lifetime_s, self.orphan_s, self.grace_s = lifetime_s, orphan_s, grace_s
        self._sessions: dict[str, Session] = {}
        self._here: Counter[str] = Counter()
        self._left: dict[str, None] = {}
        self._lock = threading.RLock()
        self._sweeper: threading.Thread | None = None
        self._somebody_left = threading.Event()

    def session(self, key: str | None) -> Session:
        """The session called ``key``, made where there is none; None always makes one. DemoError where its visitor has
        left for good: what was still on its way then must not begin a session that nobody will end."""
        with self._lock:
            if key in self._left:
                raise DemoError(GONE)
            key = key or secrets.token_hex(16)
            session = self._sessions.get(key)
            if session is None:
                folder = self.root / f"{PREFIX}{secrets.token_hex(16)}"  # part of addresses: not to be guessed
                folder.mkdir(mode=0o700, parents=True)
                session = self._sessions[key] = Session(folder, time.monotonic())
                if self._sweeper is None:
                    self._sweeper = threading.Thread(target=self._sweep_forever, name="sweeper", daemon=True)
                    self._sweeper.start()
            session.connected |= self._here[key] > 0
            session.touched = time.monotonic()
            return session

    def own(self, session: Session, upload: str | Path | None) -> Path:
        """The path of an uploaded file, which is removed too when the last session that uses it ends, or has uploaded
        `MAX_UPLOADS` further ones. A file from elsewhere, such as an example, is nobody's. DemoError: what a program
        named is no file that was uploaded."""
        upload = Path(upload or "")
        inside = upload.is_relative_to(self.root)
        if not upload.is_file() or (inside and (upload.is_symlink() or len(upload.relative_to(self.root).parts) != 2)):
            raise DemoError("the photograph is no uploaded file (any more): upload it again.")
        if not inside or upload.parent.name.startswith(PREFIX):  # what is in a session's folder goes with that one
            return upload
        with self._lock:
            if session.closed:
                self._remove_uploads({upload})
                return upload
            session.uploads.pop(upload, None)
            session.uploads[upload] = None
            older = list(session.uploads)[:-MAX_UPLOADS]
            for path in older:
                del session.uploads[path]
            self._remove_uploads(set(older) - self._owned())
        return upload

    def is_full(self) -> bool:
        """Whether photographs take so much of the disk that no further one should come."""
        taken = 0
        for entry in self.root.glob("*"):
            if not entry.name.startswith(PREFIX):
                with contextlib.suppress(OSError):
                    taken += sum(file.stat().st_size for file in (entry.iterdir() if entry.is_dir() else (entry,)))
        return taken > MAX_UPLOADED_BYTES

    def finish(self, session: Session, finished: Finished) -> None:
        """Hand a result to its session; where there are too many, the least recently used one is forgotten."""
        with self._lock:
            if session.closed:
                return
            session.finished = finished
            holding = sorted((s for s in self._sessions.values() if s.finished), key=lambda s: s.touched)
            for other in holding[: max(len(holding) - MAX_FINISHED, 0)]:
                other.finished = None

    def result(self, result_id: str) -> tuple[Session, Finished] | None:
        """The session and result that a client names; only who was given the id knows it."""
        with self._lock:
            for session in self._sessions.values():
                if session.finished and secrets.compare_digest(session.finished.id, result_id):
                    session.touched = time.monotonic()
                    return session, session.finished
        return None

    def waiting(self) -> int:
        """How many visitors' orders wait or run."""
        with self._lock:
            return sum(session.order is not None for session in self._sessions.values())

    def arrive(self, key: str) -> None:
        """The visitor is there, perhaps again, after the connection was lost."""
        with self._lock:
            self._here[key] += 1
            self._left.pop(key, None)
            if key in self._sessions:
                self._sessions[key].connected = True

    def leave(self, key: str, *, for_good: bool = True) -> None:
        """A connection of the visitor has ended. After the last one the session ends, and nothing that is late begins
        it anew; unless ``for_good`` the visitor may call again, within the grace to find what was there."""
        with self._lock:
            self._here[key] -= 1
            if self._here[key] > 0:
                return  # a second connection came before the first one's end was noticed
            del self._here[key]
            if not for_good:
                if key in self._sessions:
                    self._sessions[key].touched = time.monotonic()
                return
            self._left[key] = None
            if len(self._left) > MAX_REMEMBERED:
                del self._left[next(iter(self._left))]
            self.close(key)

    def close(self, key: str | None) -> None:
        """End a session: stop its run, remove its folder and the uploads that nobody else uses."""
        with self._lock:
            session = self._sessions.pop(key or "", None)
            if session is None:
                return
            session.closed = True
            session.subject = session.order = session.finished = None
            shutil.rmtree(session.folder, ignore_errors=True)
            self._remove_uploads(set(session.uploads) - self._owned())
        self._somebody_left.set()

    def _owned(self) -> set[Path]:
        return set().union(*(session.uploads for session in self._sessions.values()))

    @staticmethod
    def _remove_uploads(uploads: set[Path]) -> None:
        """Whatever of them can be removed."""
        for upload in uploads:
            with contextlib.suppress(OSError):
                upload.unlink(missing_ok=True)
            with contextlib.suppress(OSError):  # another file of the same content under another name
                upload.parent.rmdir()

    def sweep(self) -> None:
        """Close what has been silent for too long, and remove what belongs to nobody."""
        now = time.monotonic()
        with self._lock:
            for key in [key for key, s in self._sessions.items() if s.touched < now - self._patience_s(key, s)]:
                self.close(key)
            folders, owned = {session.folder for session in self._sessions.values()}, self._owned()
            for entry in set(self.root.glob("*")) - folders:
                if entry.name.startswith(PREFIX):
                    shutil.rmtree(entry, ignore_errors=True)  # something was written while its session ended
                else:
                    self._remove_orphans(entry, owned)

    def _patience_s(self, key: str, session: Session) -> float:
        """How long a session may be silent. A single call leaves nobody connected, and its result's id holds."""
        waits = self._here[key] > 0 or session.order is not None or (session.finished and not session.connected)
        return self.lifetime_s if waits else min(self.grace_s, self.lifetime_s)

    def _remove_orphans(self, entry: Path, owned: set[Path]) -> None:
        """What Gradio put here: an upload in a folder of its own, or a file that has not come in whole."""
        with contextlib.suppress(OSError):  # it is being moved this moment
            files = [path for path in entry.iterdir() if path not in owned] if entry.is_dir() else [entry]
            files = [file for file in files if self._is_old(file)]
            for file in files:
                if file.is_dir() and not file.is_symlink():
                    shutil.rmtree(file, ignore_errors=True)
                else:
                    self._remove_uploads({file})
            if entry.is_dir() and self._is_old(entry):
                entry.rmdir()

    def _is_old(self, path: Path) -> bool:
        """Whether nothing has touched it for a while; a date in the future says nothing."""
        status, now = path.lstat(), time.time()
        return not any(now - self.orphan_s <= date <= now + 1 for date in (status.st_mtime, status.st_ctime))

    def __len__(self) -> int:
        return len(self._sessions)

    def _sweep_forever(self) -> None:
        while True:
            if self._somebody_left.wait(min(SWEEP_S, self.lifetime_s / 4, self.grace_s / 4, self.orphan_s / 2)):
                self._somebody_left.clear()
                time.sleep(1)  # for what was being written when the session ended
            try:
                self.sweep()
            except Exception as error:  # the next sweep may well succeed; photographs stay where none comes
                print(f"demo: {type(error).__name__} in a sweep", file=sys.stderr)


def _remove_leftovers(parent: Path) -> None:
    """Remove the folders of workspaces whose programs were killed: those that live hold a lock."""
    for root in parent.glob(f"{ROOT_PREFIX}*"):
        if not root.is_symlink() and (number := lock_folder(root)) is not None:
            shutil.rmtree(root, ignore_errors=True)
            os.close(number)
