"""What belongs to one visitor, and its end: sessions, their folders, and a sweep for those that are forgotten.

Photographs of people pass through here, so nothing outlives its visitor: a session's folder, its uploads and its
results go when the tab closes, after an hour without a sign of life, and when the program ends.
"""

from __future__ import annotations

import atexit
import itertools
import secrets
import shutil
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gan2shape_hub.demo.subject import Subject
    from gan2shape_hub.demo.work import Finished

LIFETIME_S = 3600.0
"""A session without a sign of life is removed after this long."""
MAX_FINISHED = 12
"""Results held in memory at once, about 60 MB each; the least recently used one gives way."""


@dataclass(eq=False)
class Session:
    """One visitor (one tab of a browser, or one client program)."""

    key: str
    folder: Path
    touched: float
    subject: Subject | None = None
    finished: Finished | None = None
    uploads: set[Path] = field(default_factory=set)
    closed: bool = False
    _numbers: Iterator[int] = field(default_factory=lambda: itertools.count(1))

    @property
    def stop_flag(self) -> Path:
        """A file that exists while a stop is asked for. A file and not an event: on ZeroGPU a run is a process of
        its own."""
        return self.folder / "stop"

    def ask_to_stop(self) -> None:
        if self.folder.is_dir():
            self.stop_flag.touch()

    def stop_wanted(self) -> bool:
        return self.closed or self.stop_flag.exists() or not self.folder.is_dir()

    def new_file(self, name: str, keep: int = 3) -> Path:
        """A path for the next version of the file ``name``, one that no earlier version had (browsers cache); of the
        earlier ones the last ``keep`` stay for whoever is still fetching them."""
        stem, suffix = Path(name).stem, Path(name).suffix
        old = sorted(self.folder.glob(f"{stem}-*{suffix}"), key=lambda p: int(p.stem.rsplit("-", 1)[1]))
        for path in old[: max(len(old) - keep, 0)]:
            path.unlink(missing_ok=True)
        return self.folder / f"{stem}-{next(self._numbers)}{suffix}"


class Workspace:
    """All sessions. Thread-safe."""

    def __init__(self, root: Path | None = None, lifetime_s: float = LIFETIME_S) -> None:
        """``root``: an existing folder for the sessions' folders; None makes a temporary one, readable by the owner
        alone, which goes with the program."""
        self.root = root or Path(tempfile.mkdtemp(prefix="gan2shape-demo-"))
        if root is None:
            atexit.register(shutil.rmtree, self.root, ignore_errors=True)
        self.lifetime_s = lifetime_s
        self._sessions: dict[str, Session] = {}
        self._lock = threading.RLock()
        self._sweeper: threading.Thread | None = None

    def session(self, key: str | None) -> Session:
        """The session called ``key``, made where there is none; None always makes one."""
        with self._lock:
            key = key or secrets.token_hex(16)
            session = self._sessions.get(key)
            if session is None:
                folder = self.root / f"session-{secrets.token_hex(16)}"  # part of addresses: not to be guessed
                folder.mkdir(mode=0o700, parents=True)
                session = self._sessions[key] = Session(key, folder, time.monotonic())
                self._start_sweeper()
            session.touched = time.monotonic()
            return session

    def own(self, session: Session, upload: str | Path) -> None:
        """Remove the uploaded file too when the last session that uses it ends."""
        with self._lock:
            session.uploads.add(Path(upload))

    def finish(self, session: Session, finished: Finished) -> None:
        """Hand a result to its session; where there are too many, the least recently used one is forgotten."""
        with self._lock:
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

    def close(self, key: str | None) -> None:
        """End a session: stop its run, remove its folder and the uploads that nobody else uses."""
        with self._lock:
            session = self._sessions.pop(key or "", None)
            if session is None:
                return
            session.closed = True
            session.subject = session.finished = None
            others = set().union(*(s.uploads for s in self._sessions.values())) if self._sessions else set()
            gone = session.uploads - others
        shutil.rmtree(session.folder, ignore_errors=True)
        for upload in gone:
            upload.unlink(missing_ok=True)
            if upload.parent != self.root and self.root in upload.parents and not any(upload.parent.iterdir()):
                upload.parent.rmdir()

    def sweep(self) -> None:
        """Close what has been silent for too long."""
        limit = time.monotonic() - self.lifetime_s
        with self._lock:
            silent = [key for key, session in self._sessions.items() if session.touched < limit]
        for key in silent:
            self.close(key)

    def __len__(self) -> int:
        return len(self._sessions)

    def _start_sweeper(self) -> None:
        if self._sweeper is None:
            self._sweeper = threading.Thread(target=self._sweep_forever, name="sweeper", daemon=True)
            self._sweeper.start()

    def _sweep_forever(self) -> None:
        while True:
            time.sleep(min(60.0, self.lifetime_s / 4))
            self.sweep()
