"""More kinds of pictures: public weights that the page fetches on request, once their terms are accepted."""

from __future__ import annotations

import html
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import gradio as gr
from huggingface_hub import cached_assets_path

from gan2shape_hub.conversion.get import get, perceptual_at_hand
from gan2shape_hub.conversion.public import PublicWeights
from gan2shape_hub.demo.shelf import Shelf
from gan2shape_hub.demo.visitors import DemoError, told
from gan2shape_hub.hub.remote import LIBRARY

TICK_S = 0.5


class Kinds:
    """What may be fetched for a shelf. A checkpoint stays in ``folder`` (default: the Hub's cache), is made once for
    everybody, and is on the shelf from then on, after a restart too."""

    def __init__(self, shelf: Shelf, weights: Sequence[PublicWeights], folder: Path | None = None) -> None:
        self.shelf, self.weights = shelf, {one.name: one for one in weights}
        self.folder = folder or cached_assets_path(LIBRARY, "checkpoints")
        self._busy = threading.Lock()
        for name in self.weights:
            if (self.folder / name / "config.json").is_file():
                self.shelf.add(str(self.folder / name))

    @told
    def terms(self, name: str | None) -> tuple[str, bool]:
        """What is under which licence, and that nobody has accepted it yet."""
        if name is None:
            return "", False
        one = self._named(name)
        link = f'<a href="{html.escape(one.terms.link)}" target="_blank">{html.escape(one.terms.title)}</a>'
        return f"{link}, not for commercial use. {html.escape(one.data)}", False

    @told
    def fetch(self, name: str | None, accepted: bool) -> Iterator[tuple[object, object]]:
        """(what is going on, the dropdown of checkpoints). A visitor who leaves does not end it."""
        one = self._named(name)
        if not accepted:
            raise DemoError(f"read the {one.terms.title} and tick the box first.")
        if not self._busy.acquire(blocking=False):
            raise DemoError("something is being fetched already: try again when it is done.")
        said, failed = [f"{one.title}, about {one.megabytes} MB"], []
        thread = threading.Thread(target=self._work, args=(name, said, failed), name="fetching", daemon=True)
        thread.start()
        begun = time.monotonic()
        while thread.is_alive():
            yield f"Fetching: {html.escape(said[-1])} ({time.monotonic() - begun:.0f} s)", gr.skip()
            thread.join(TICK_S)
        if failed and self.shelf.only_listed:  # the sentence may name folders
            raise DemoError(f"{one.title.lower()} cannot be had at present: tell the people who run this page.")
        if failed:
            raise DemoError(failed[0])
        public = self.shelf.add(str(self.folder / name))
        note = (
            f"{html.escape(one.title)} can be chosen above. Until it is trained (<code>gan2shape train</code>) its "
            "shapes start from an ellipsoid, which takes minutes."
        )
        yield note, gr.Dropdown(choices=self.shelf.choices, value=public)

    def _named(self, name: str | None) -> PublicWeights:
        if name not in self.weights:
            raise DemoError("choose what to fetch first.")
        return self.weights[name]

    def _work(self, name: str, said: list[str], failed: list[str]) -> None:
        try:
            get(
                name,
                self.folder / name,
                accept_licence=True,
                perceptual=perceptual_at_hand(),
                overwrite=True,
                say=lambda text: said.append("making a checkpoint of it"),
            )
        except (ValueError, OSError) as error:
            failed.append(" ".join(str(error).split()))
        except BaseException:
            failed.append("something went wrong here: the log of this page says what.")
            raise  # to the log, by the thread's hook
        finally:
            self._busy.release()


def offer(kinds: Kinds, checkpoint: gr.Dropdown) -> None:
    """The part of the page; nothing where nothing is offered. What was fetched is chosen in ``checkpoint``."""
    if not kinds.weights:
        return
    with gr.Accordion("More kinds of pictures", open=False, elem_id="kinds"):
        choices = [
            (f"{one.title} ({name}): {one.image_size} px, {one.megabytes} MB", name)
            for name, one in kinds.weights.items()
        ]
        name = gr.Dropdown(choices, value=None, label="Public weights", elem_id="kind")
        terms = gr.HTML("", elem_id="kind_terms", elem_classes="note")
        accepted = gr.Checkbox(False, label="I have read the licence and accept it", elem_id="kind_accepted")
        button = gr.Button("Fetch", elem_id="kind_fetch")
        told_so_far = gr.HTML("", elem_id="kind_told", elem_classes="note")
    quiet = {"api_visibility": "private", "show_progress": "hidden"}
    name.change(kinds.terms, name, [terms, accepted], queue=False, **quiet)
    button.click(kinds.fetch, [name, accepted], [told_so_far, checkpoint], concurrency_id="fetch", **quiet)
