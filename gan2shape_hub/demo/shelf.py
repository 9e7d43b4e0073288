"""The checkpoints that can be chosen, of which one at a time is in memory."""

from __future__ import annotations

import gc
import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from gan2shape_hub import hub
from gan2shape_hub.config import CategoryConfig
from gan2shape_hub.pipeline import GAN2ShapePipeline

VARIABLE = "GAN2SHAPE_CHECKPOINTS"
"""Environment variable: folders and Hub ids to offer, separated by commas, the default first."""
ROOT = Path(__file__).resolve().parents[2]


class DemoError(Exception):
    """Something the visitor should know: one sentence with the remedy."""


def listed_checkpoints() -> list[str]:
    """What ``GAN2SHAPE_CHECKPOINTS`` lists, else ``hub.default_checkpoint``."""
    names = [name.strip() for name in os.environ.get(VARIABLE, "").split(",")]
    return [name for name in names if name] or [hub.default_checkpoint()]


class Shelf:
    """Checkpoints by folder or Hub id, loaded when they are first needed; the one before gives way."""

    def __init__(
        self,
        names: Sequence[str] | None = None,
        load: Callable[[str], GAN2ShapePipeline] = GAN2ShapePipeline.from_pretrained,
        folders_may_be_typed: bool | None = None,
    ) -> None:
        """``folders_may_be_typed``: whether a visitor may name a folder that was not listed; None: not on a Space,
        whose visitors have no business in its file system."""
        self.listed = list(names or listed_checkpoints())
        self._load = load
        self._folders = "SPACE_ID" not in os.environ if folders_may_be_typed is None else folders_may_be_typed
        self._configs: dict[str, CategoryConfig] = {}
        self._loaded: tuple[str, GAN2ShapePipeline] | None = None
        self._users = 0
        self._free = threading.Condition()

    @property
    def default(self) -> str:
        return self.listed[0]

    def label(self, name: str) -> str:
        """How a checkpoint is called on the page."""
        if name in self._configs:
            return f"{self._configs[name].category} ({self._short(name)})"
        return self._short(name)

    @staticmethod
    def _short(name: str) -> str:
        path = Path(name)
        return path.name if path.is_absolute() else name

    def config(self, name: str) -> CategoryConfig:
        """The configuration of a checkpoint, without its weights where it is a folder; DemoError says what is
        wrong."""
        name = self._checked(name)
        if name not in self._configs:
            try:
                self._configs[name] = hub.read_config(hub.resolve(name))
            except (OSError, ValueError) as error:
                raise DemoError(str(error)) from None
        return self._configs[name]

    def _checked(self, name: str) -> str:
        name = (name or "").strip() or self.default
        if name not in self.listed and not self._folders and (Path(name).expanduser().exists() or name[:1] in "./~"):
            raise DemoError(f"'{name}' is not offered here: type the id of a Hub repository, such as org/name.")
        return name

    @contextmanager
    def use(self, name: str, patience_s: float | None = None) -> Iterator[GAN2ShapePipeline]:
        """The pipeline of a checkpoint, kept in memory while the block runs.

        Another checkpoint is only dropped when nobody uses it any more; after ``patience_s`` seconds of waiting for
        that, or where loading fails, DemoError says so. None waits as long as it takes.
        """
        name = self._checked(name)
        deadline = None if patience_s is None else time.monotonic() + patience_s
        with self._free:
            while self._loaded and self._loaded[0] != name and self._users:
                left = None if deadline is None else deadline - time.monotonic()
                if left is not None and left <= 0:
                    raise DemoError(
                        f"another visitor's run uses the category '{self.label(self._loaded[0])}', and one fits into "
                        "memory at a time: try again in a minute."
                    )
                self._free.wait(left)
            if self._loaded is None or self._loaded[0] != name:
                self._loaded = None
                gc.collect()  # networks reference themselves: let go of the old one before the new one comes
                self._loaded = (name, self._loading(name))
                self._configs[name] = self._loaded[1].config
            self._users += 1
            pipeline = self._loaded[1]
        try:
            yield pipeline
        finally:
            with self._free:
                self._users -= 1
                self._free.notify_all()

    @property
    def loaded(self) -> str | None:
        """Name of the checkpoint in memory."""
        return self._loaded[0] if self._loaded else None

    def _loading(self, name: str) -> GAN2ShapePipeline:
        try:
            return self._load(name)
        except (OSError, ValueError) as error:
            raise DemoError(f"the checkpoint cannot be loaded: {error}") from None
        except MemoryError:
            raise DemoError(f"'{name}' does not fit into this machine's memory: use a smaller checkpoint.") from None
