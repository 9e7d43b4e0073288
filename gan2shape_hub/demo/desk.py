"""The desk where the page's events are answered: one method an event, no layout."""

from __future__ import annotations

import contextlib
import random
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

import gradio as gr
from PIL import Image

from gan2shape_hub.demo import faces, results
from gan2shape_hub.demo.kinds import Kinds
from gan2shape_hub.demo.markup import STATIC, command_box, example_note, file_address, progress_card
from gan2shape_hub.demo.results import DOWNLOADS, Finished
from gan2shape_hub.demo.runs import Order, Report, Workshop
from gan2shape_hub.demo.shelf import Shelf, Subject
from gan2shape_hub.demo.visitors import DemoError, Session, Workspace, sentence, told
from gan2shape_hub.errors import Cancelled
from gan2shape_hub.plan import in_words
from gan2shape_hub.results.image_files import mask_to_pil, to_pil
from gan2shape_hub.results.viewer import Viewer

SURFACES = [("Textured", "Textured"), ("Shape", "Shape"), ("With background", "Behind")]
"""What the viewer shows; examples have the first two."""
QUALITY = "Times are measured when the machine is free"
MAX_WAITING = 8
"""Visitors before whom another one is not let into the line."""


class Desk:
    """Everything the demo holds: visitors, the checkpoint in memory, the work under way."""

    def __init__(
        self, workspace: Workspace | None = None, shelf: Shelf | None = None, kinds: Kinds | None = None
    ) -> None:
        self.workspace = workspace or Workspace()
        self.shelf = shelf or Shelf()
        self.kinds = kinds or Kinds(self.shelf, ())
        self.workshop = Workshop(self.shelf)
        self.offered = faces.load()
        self._drawing: WeakKeyDictionary[Session, threading.Lock] = WeakKeyDictionary()

    def session(self, request: gr.Request | None) -> Session:
        return self.workspace.session(getattr(request, "session_hash", None))

    # -- choosing ------------------------------------------------------------------------------------------------

    @told
    def checkpoint_chosen(self, checkpoint: str, request: gr.Request) -> tuple[Any, ...]:
        """Presets of the checkpoint that was chosen or typed; whatever was prepared for another one is dropped."""
        presets, default = self.shelf.presets(checkpoint)
        self.session(request).subject = None
        config = self.shelf.config(checkpoint)
        note = f"{config.description or config.category}. Licence: {config.license}."
        return gr.Radio(choices=[(p, p) for p in presets], value=default), note, None, None, ""

    @told
    def estimates(self, checkpoint: str, tuned: bool, request: gr.Request) -> Iterator[Any]:
        """The presets with the time each takes on this machine, as soon as that is known; unchanged where it cannot be
        measured now."""
        session = self.session(request)
        photograph = self._is_photograph(session)
        kind = "a photograph" if photograph else "a generated face"
        try:
            for times in self.workshop.estimates(checkpoint, photograph, tuned):
                told = [(name if s is None else f"{name} · about {in_words(s)}", name) for name, s in times.items()]
                info = "Measuring how long it takes here …" if None in times.values() else f"Times here, of {kind}"
                yield gr.Radio(choices=told, info=info)
        except (DemoError, Cancelled):  # what is wrong with a checkpoint is told where it is chosen and used
            yield gr.Radio(info=QUALITY)

    @told
    def photograph_chosen(
        self, photograph: dict[str, Any] | None, checkpoint: str, face: int | None, cut_out: bool, request: gr.Request
    ) -> tuple[Any, ...]:
        """Prepare an uploaded photograph: (photograph, crop, mask, note, faces to choose from)."""
        session = self.session(request)
        session.subject = None
        if photograph is None:
            return gr.skip(), None, None, "", gr.Dropdown(visible=False)
        session.example = None
        try:
            path = self.workspace.own(session, photograph.get("path"))
            subject = self.shelf.photograph(path, checkpoint, face_index=face or None, align=not cut_out)
        except DemoError as error:
            gr.Warning(sentence(error), title="This photograph cannot be used", duration=12)
            return None, None, None, "", gr.Dropdown(visible=False)
        session.subject = subject
        names = ["the largest", *(f"number {k + 1} by size" for k in range(1, subject.faces))]
        choices = [(name, k) for k, name in enumerate(names)]
        choice = gr.Dropdown(choices=choices, value=face or 0, visible=len(names) > 1)
        return gr.skip(), *_prepared(session, subject), choice

    @told
    def face_wanted(self, seed: float | None, variety: float, checkpoint: str, request: gr.Request) -> tuple[Any, ...]:
        """Let the generator draw a face: (crop, mask, note)."""
        session = self.session(request)
        with self._drawing.setdefault(session, threading.Lock()):
            session.subject = self.shelf.drawn(checkpoint, int(seed or 0), variety)
        return _prepared(session, session.subject)

    @told
    def example_prepared(self, name: str, checkpoint: str, request: gr.Request) -> tuple[Any, ...]:
        """Make one of the page's faces what is reconstructed: (crop, mask, note)."""
        session = self.session(request)
        with self._drawing.setdefault(session, threading.Lock()):
            session.subject = self.shelf.offered(self.offered.named(name), checkpoint)
        return _prepared(session, session.subject)

    @staticmethod
    def random_seed() -> int:
        return random.SystemRandom().randrange(1_000_000)

    # -- making --------------------------------------------------------------------------------------------------

    @told
    def begin(
        self, preset: str, seed: float | None, tuned: bool, checkpoint: str, request: gr.Request
    ) -> tuple[Any, ...]:
        """Take an order, which `run` carries out when Gradio's queue comes to it: (progress card, Start, Stop)."""
        return self._begin(preset, seed, tuned, checkpoint, self.session(request))

    @told
    def adapt(self, preset: str, seed: float | None, checkpoint: str, request: gr.Request) -> tuple[Any, ...]:
        """The same, with the generator adapted to the photograph, and with a preset that searches for the person."""
        config, (presets, default) = self.shelf.config(checkpoint), self.shelf.presets(checkpoint)
        searching = [name for name in (preset, default, *presets) if config.schedule(name).invert_iterations]
        return self._begin((searching or [preset])[0], seed, True, checkpoint, self.session(request))

    def _begin(
        self, preset: str, seed: float | None, tuned: bool, checkpoint: str, session: Session
    ) -> tuple[Any, ...]:
        with self._drawing.setdefault(session, threading.Lock()):
            subject = session.subject  # of the face that is being drawn, where the button was pressed meanwhile
            if subject is None and session.example is not None and self.offers_examples:
                subject = self.shelf.offered(self.offered.named(session.example), checkpoint)
        if subject is None:
            raise DemoError("choose a photograph, or let the generator draw a face, first.")
        before = self.workspace.waiting()
        if before > MAX_WAITING:
            raise DemoError(
                f"{MAX_WAITING} visitors are waiting already: try again in a few minutes, or run the demo on your own "
                "machine with `gan2shape demo`."
            )
        session.order = Order.of(session, subject, preset, seed, tuned)
        text = f"Waiting in line, {before} before you" if before else "Starting"
        return progress_card(Report("waiting", text)), *_buttons(True)

    @told
    def run(self, request: gr.Request) -> Iterator[tuple[Any, ...]]:
        """The whole work, as (progress card, Start, Stop). Nothing where the order was withdrawn while it waited."""
        session = self.session(request)
        order, last = session.order, Report("loading", "Starting")
        if order is None or order.begun:
            return
        order.begun = True
        try:
            for item in self.workshop.run(order):
                session.touched = time.monotonic()
                if isinstance(item, Finished):
                    self.workspace.finish(session, item)
                    with contextlib.suppress(OSError):  # the visitor left and took the folder along
                        results.file_of(item, session.folder, "textured")  # who reads "Done" is to see it
                    report = item.result.report
                    text = f"Done in {in_words(report.seconds)}"
                    if report.psnr_db is not None:
                        text += f"; the generator matches the photograph at {report.psnr_db:.1f} dB"
                    item = Report("done", text, 1.0)
                last = item
                yield progress_card(last), *_buttons(last.state not in ("stopped", "done"))
        except DemoError as error:
            yield progress_card(Report("stopped", "Did not finish", previews=last.previews)), *_buttons(False)
            raise error
        finally:
            if session.order is order:
                session.order = None

    @told
    def stop(self, request: gr.Request) -> tuple[Any, ...]:
        """(progress card, Start, Stop) where the order still waited; one that runs tells its end itself."""
        session = self.session(request)
        order = session.order
        if order is None or order.begun:
            if order is not None:
                order.stop()
            return (gr.skip(),) * 3
        session.order = None
        return progress_card(Report("stopped", "Stopped waiting.")), *_buttons(False)

    # -- looking -------------------------------------------------------------------------------------------------

    @told
    def make_room(self, request: gr.Request) -> tuple[Any, ...]:
        """The results' place instead of the empty one or of an example, before `show` fills it: (empty place, results,
        what is told of an example, maps, and the three tabs beside the model)."""
        if self.session(request).finished is None:
            return (gr.skip(),) * 7
        return gr.Column(visible=False), gr.Column(elem_classes="ready"), "", gr.Column(visible=True), *_open(True)

    def _is_photograph(self, session: Session) -> bool:
        """What is going to be reconstructed, or would be."""
        if session.subject is None and session.example is not None and self.offers_examples:
            return bool(self.offered.named(session.example).photograph)
        return session.subject is not None and session.subject.is_photograph

    @property
    def offers_examples(self) -> bool:
        """Whether the page has faces: they say nothing of a checkpoint of other things."""
        return self.shelf.config(self.shelf.default).category == "face"

    @told
    def example_shown(self, name: str, request: gr.Request) -> tuple[Any, ...]:
        """A finished example: (viewer, surface, what is told of another person, what is told of the example, maps, the
        three tabs beside the model)."""
        session, face = self.session(request), self.offered.named(name)
        session.example, session.finished = face.name, None
        surface = gr.Radio(choices=SURFACES[:2], value=SURFACES[0][1])
        place = self.example_note(face), gr.Column(visible=False), *_open(False)
        return example_view(face), surface, gr.Row(visible=False), *place

    def example_note(self, face: faces.Face) -> str:
        return example_note(face.words, self.offered.told(face))

    @told
    def show(self, shown: str | None, request: gr.Request) -> tuple[Any, ...]:
        """A new result on the page: (id of what is shown, viewer, surface, compared, depth, normals, command, settings,
        paste button, what is told of another person). Nothing changes after a run that was stopped. No generator: its
        last value would be sent a second time at its end."""
        session = self.session(request)
        finished = session.finished
        if finished is None or finished.id == shown:
            return (gr.skip(),) * 10
        viewer = finished.result.viewer
        results.forget_older(finished, session.folder)
        compared = (
            session.picture("input.jpg", to_pil(viewer.source)),
            session.picture("shape.jpg", _enlarged(results.shape_picture(viewer))),
        )
        return (
            finished.id,
            {**_model(finished, session, "textured"), "poster": file_address(compared[0])},
            gr.Radio(choices=SURFACES, value=SURFACES[0][1]),
            compared,
            session.picture("depth.png", _alone(results.depth_picture(viewer), viewer)),
            session.picture("normals.png", _alone(results.normals_picture(viewer), viewer)),
            command_box(results.command(finished)),
            results.settings(finished),
            gr.Button(visible=finished.subject.is_photograph),
            gr.Row(visible=finished.result.shows_another),
        )

    @told
    def surface(self, kind: str, request: gr.Request) -> dict[str, Any]:
        """What the viewer shows: the model with its texture, with its background behind it, or its bare shape."""
        session = self.session(request)
        if session.finished is None and session.example is not None:
            return example_view(self.offered.named(session.example), kind.lower())
        return _model(own_result(session), session, kind.lower())

    @told
    def make_files(self, request: gr.Request) -> Iterator[list[Any]]:
        """The downloads as they are ready, one button each, and the turntable for the page."""
        session = self.session(request)
        finished = session.finished
        if finished is None:
            return
        yield [*(_button(kind, None) for kind in DOWNLOADS), None]
        wanted = lambda: session.finished is finished and not session.closed  # noqa: E731
        for made, path in results.make_all(finished, session.folder, wanted):
            buttons = [_button(kind, path) if kind == made else gr.skip() for kind in DOWNLOADS]
            yield [*buttons, str(path) if made == "turntable" else gr.skip()]

    # -- editing (the other edits are the endpoints') --------------------------------------------------------------

    @told
    def paste(self, right: float, up: float, ambient: float, diffuse: float, request: gr.Request) -> Any:
        """The light of the sliders inside the photograph: or the last edit, where the generator made it or
        an environment lit it."""
        session = self.session(request)
        finished = own_result(session)
        ball = (right, up, ambient, diffuse)
        whole = results.relit_in_photograph(finished, ball, finished.cache.get("edited"))
        return gr.Image(value=session.picture("pasted.jpg", whole.convert("RGB")), visible=True)

    @told
    def strip(
        self, pitch: float, photographic: bool = False, request: gr.Request | None = None
    ) -> list[tuple[str, str]]:
        session = self.session(request)
        name, shelf = ("view_gan.jpg", self.shelf) if photographic else ("view.webp", None)
        views = results.strip(own_result(session), pitch, shelf)
        return [(session.picture(name, picture, keep=12), caption) for picture, caption in views]


def own_result(session: Session) -> Finished:
    """The session's result; DemoError where there is none."""
    if session.finished is None:
        raise DemoError("there is no result yet, or it was removed to make room: press Reconstruct first.")
    return session.finished


def _prepared(session: Session, subject: Subject) -> tuple[str, str, str]:
    crop = subject.crop if subject.crop.width <= 512 else subject.crop.resize((512, 512), Image.Resampling.LANCZOS)
    return session.picture("crop.jpg", crop), session.picture("mask.jpg", subject.masked), subject.note


def _model(finished: Finished, session: Session, kind: str) -> dict[str, Any]:
    """The viewer's value (assets/viewer.js)."""
    yaw, pitch = results.VIEWS[kind].reach_deg
    path = results.file_of(finished, session.folder, kind)
    return {"src": file_address(path), "name": results.VIEWS[kind].words, "yaw": yaw, "pitch": pitch}


def example_view(face: faces.Face, kind: str = "textured") -> dict[str, Any]:
    """The same of a finished example."""
    yaw, pitch = results.VIEWS[kind].reach_deg
    model, picture = (
        f"{STATIC}/examples/{face.file(file)}" for file in ("shape.glb" if kind == "shape" else "glb", "jpg")
    )
    return {"src": model, "name": face.words, "yaw": yaw, "pitch": pitch, "poster": picture}


def _open(open_: bool) -> tuple[Any, ...]:
    """Relight, Rotate and Take away."""
    return tuple(gr.Tab(interactive=open_) for _ in range(3))


def _buttons(busy: bool) -> tuple[Any, Any]:
    """Start and Stop."""
    return gr.Button(interactive=not busy), gr.Button(interactive=busy)


def _button(kind: str, path: Path | None) -> Any:
    label = DOWNLOADS[kind][0]
    if path is None:
        return gr.DownloadButton(f"{label} …", value=None, interactive=False)
    size = path.stat().st_size
    told_size = f"{size / 1e6:.1f} MB" if size > 1e5 else f"{max(size // 1000, 1)} kB"
    return gr.DownloadButton(f"{label} · {told_size}", value=str(path), interactive=True)


def _enlarged(picture: Image.Image, side: int = 512) -> Image.Image:
    return picture.resize((side, side), Image.Resampling.BICUBIC)


def _alone(picture: Image.Image, viewer: Viewer) -> Image.Image:
    """The object on nothing: pages are light or dark."""
    picture = _enlarged(picture.convert("RGB"))
    picture.putalpha(_enlarged(mask_to_pil(viewer.object_seen)))
    return picture
