"""What belongs to one visitor, its end, and what visitors are told.

Photographs of people pass through here, so nothing outlives its visitor: a session's folder, its uploads and its
results go when the tab closes, after an hour without a sign of life, and when the program ends. Whatever else is found
in the workspace's folder (an upload that broke off, a file that was still being written when its visitor left) belongs
to nobody and goes within a minute. Gradio's own means are kinder to files: ``unload`` is lost where a connection
breaks, ``gr.State`` waits for an hour after it, ``delete_cache`` knows no visitors.
"""

from __future__ import annotations

import atexit
import contextlib
import functools
import inspect
import itertools
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

if TYPE_CHECKING:
    from gan2shape_hub.demo.results import Finished
    from gan2shape_hub.demo.runs import Order
    from gan2shape_hub.demo.shelf import Subject

LIFETIME_S = 3600.0
"""A session without a sign of life is removed after this long."""
ORPHAN_S = 30.0
"""An upload belongs to its visitor a moment after it has come. One that nobody owns after this long is removed."""
SWEEP_S = 10.0
PREFIX = "session-"
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
    uploads: set[Path] = field(default_factory=set)
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

    def __init__(self, parent: Path | None = None, lifetime_s: float = LIFETIME_S, orphan_s: float = ORPHAN_S) -> None:
        """``parent``: where the workspace's own folder is made, readable by the owner alone; None: where temporary
        files belong. It goes with the program."""
        self.root = Path(tempfile.mkdtemp(prefix="gan2shape-demo-", dir=parent))
        atexit.register(shutil.rmtree, self.root, ignore_errors=True)
        self.lifetime_s, self.orphan_s = lifetime_s, orphan_s
        self._sessions: dict[str, Session] = {}
        self._here: Counter[str] = Counter()
        self._left: dict[str, None] = {}
        self._lock = threading.RLock()
        self._sweeper: threading.Thread | None = None
        self._somebody_left = threading.Event()

    def session(self, key: str | None) -> Session:
        """The session called ``key``, made where there is none; None always makes one. DemoError where its visitor has
        left: what was still on its way then must not begin a session that nobody will end."""
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
            session.touched = time.monotonic()
            return session

    def own(self, session: Session, upload: str | Path) -> None:
        """Remove the uploaded file too when the last session that uses it ends. A file from elsewhere, such as an
        example, is nobody's."""
        upload = Path(upload)
        if self.root not in upload.parents:
            return
        with self._lock:
            if not session.closed:
                session.uploads.add(upload)
                return
        self._remove_uploads({upload})

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

    def leave(self, key: str) -> None:
        """The visitor is gone: end the session, and let nothing that is late begin it anew."""
        with self._lock:
            self._here[key] -= 1
            if self._here[key] > 0:
                return  # a second connection came before the first one's end was noticed
            del self._here[key]
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
            others = set().union(*(s.uploads for s in self._sessions.values()))
            shutil.rmtree(session.folder, ignore_errors=True)
            self._remove_uploads(session.uploads - others)
        self._somebody_left.set()

    @staticmethod
    def _remove_uploads(uploads: set[Path]) -> None:
        for upload in uploads:
            upload.unlink(missing_ok=True)
            with contextlib.suppress(OSError):  # another file of the same content under another name
                upload.parent.rmdir()

    def sweep(self) -> None:
        """Close what has been silent for too long, and remove what belongs to nobody."""
        limit = time.monotonic() - self.lifetime_s
        with self._lock:
            for key in [key for key, session in self._sessions.items() if session.touched < limit]:
                self.close(key)
            folders = {session.folder for session in self._sessions.values()}
            owned = set().union(*(s.uploads for s in self._sessions.values()))
            for entry in set(self.root.glob("*")) - folders:
                if entry.name.startswith(PREFIX):
                    shutil.rmtree(entry, ignore_errors=True)  # something was written while its session ended
                else:
                    self._remove_orphans(entry, owned)

    def _remove_orphans(self, entry: Path, owned: set[Path]) -> None:
        """What Gradio put here: an upload in a folder of its own, or a file that has not come in whole."""
        limit = time.time() - self.orphan_s
        with contextlib.suppress(OSError):  # it is being moved this moment
            files = [path for path in entry.iterdir() if path not in owned] if entry.is_dir() else [entry]
            self._remove_uploads({p for p in files if max(p.stat().st_mtime, p.stat().st_ctime) < limit})

    def __len__(self) -> int:
        return len(self._sessions)

    def _sweep_forever(self) -> None:
        while True:
            if self._somebody_left.wait(min(SWEEP_S, self.lifetime_s / 4, self.orphan_s / 2)):
                self._somebody_left.clear()
                time.sleep(1)  # for what was being written when the session ended
            self.sweep()


class Comings:
    """ASGI middleware: a page holds one request open as long as it is there, and when that request ends, in whatever
    way, its visitor has left. Gradio's own ``unload`` event is raised inside that request's answer, and is lost when
    the connection breaks while a part of the answer is being sent or before its first part."""

    def __init__(self, app: Any, workspace: Workspace) -> None:
        self.app, self.workspace = app, workspace

    async def __call__(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
        _, found, key = scope.get("path", "").partition("/heartbeat/")
        if scope["type"] != "http" or not found:
            await self.app(scope, receive, send)
            return
        self.workspace.arrive(key)
        try:
            await self.app(scope, receive, send)
        finally:
            self.workspace.leave(key)
