"""The desk where the page's events are answered: one method an event, no layout."""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gradio as gr
from PIL import Image

from gan2shape_hub.cancel import StopsBetweenOperations
from gan2shape_hub.demo import edits, files
from gan2shape_hub.demo.edits import BallLight
from gan2shape_hub.demo.estimate import FIXED, Speeds, calibrate, in_words
from gan2shape_hub.demo.line import Line
from gan2shape_hub.demo.markup import command_box, progress_card
from gan2shape_hub.demo.messages import told
from gan2shape_hub.demo.shelf import DemoError, Shelf
from gan2shape_hub.demo.subject import Subject, draw_sample, prepare_photograph
from gan2shape_hub.demo.work import Finished, Report, reconstruct
from gan2shape_hub.demo.workspace import Session, Workspace
from gan2shape_hub.errors import Cancelled
from gan2shape_hub.plan import Abilities, Images, Step, plan
from gan2shape_hub.results.image_files import to_pil

ORDER = ("instant", "fast", "balanced")
"""Presets that are offered, in this order, where the checkpoint has them. The reference's own, ``paper``, takes hours
on a CPU and is not."""


class Desk:
    """Everything the demo holds: visitors, the checkpoint in memory, the line, measured speeds."""

    def __init__(self, workspace: Workspace | None = None, shelf: Shelf | None = None) -> None:
        self.workspace = workspace or Workspace()
        self.shelf = shelf or Shelf()
        self.line = Line()
        self._speeds: dict[str, Speeds] = {}

    # -- visitors ------------------------------------------------------------------------------------------------

    def session(self, request: gr.Request | None) -> Session:
        return self.workspace.session(getattr(request, "session_hash", None))

    def finished(self, request: gr.Request | None) -> tuple[Session, Finished]:
        session = self.session(request)
        if session.finished is None:
            raise DemoError("there is no result yet, or it was removed to make room: press Reconstruct first.")
        return session, session.finished

    # -- checkpoints, presets, estimates -------------------------------------------------------------------------

    def checkpoints(self) -> list[tuple[str, str]]:
        return [(self.shelf.label(name), name) for name in self.shelf.listed]

    def presets(self, checkpoint: str) -> list[str]:
        """Presets of a checkpoint that are offered; its default where it has none of the usual names."""
        config = self.shelf.config(checkpoint)
        return [name for name in ORDER if name in config.schedules] or [config.default_preset]

    def speeds(self, checkpoint: str) -> Speeds:
        return self._speeds.setdefault(checkpoint, Speeds())

    @told
    def checkpoint_chosen(self, checkpoint: str, request: gr.Request) -> tuple[Any, ...]:
        """Presets of the checkpoint that was chosen or typed; whatever was prepared for another one is dropped."""
        presets = self.presets(checkpoint)
        self.session(request).subject = None
        config = self.shelf.config(checkpoint)
        note = f"{config.description or config.category}. Licence: {config.license}."
        default = config.default_preset if config.default_preset in presets else presets[0]
        return gr.Radio(choices=[(p, p) for p in presets], value=default), note, None, None, ""

    @told
    def estimates(self, checkpoint: str, tuned: bool, request: gr.Request) -> Any:
        """The presets with the time each takes on this machine. The first time it is measured, which loads the
        checkpoint and takes some seconds; a run, which wants the machine for itself, puts that off."""
        config, speeds, presets = self.shelf.config(checkpoint), self.speeds(checkpoint), self.presets(checkpoint)

        def steps_of(name: str, photograph: bool) -> tuple[Step, ...]:
            schedule = config.schedules[name]
            schedule = schedule if tuned else dataclasses.replace(schedule, tune_iterations=0)
            can = Abilities.of(config, bool(speeds.pretrained))
            return plan(schedule, can, Images(photographs=int(photograph)))

        def needed() -> set[str]:
            return {FIXED.name} | {step.name for name in presets for step in steps_of(name, True)}

        if speeds.pretrained is None or needed() - set(speeds.seconds):
            try:
                with (
                    self.shelf.use(checkpoint, patience_s=5) as pipeline,
                    StopsBetweenOperations(lambda: len(self.line)),
                ):
                    speeds.pretrained = "depth_net" in pipeline.components
                    calibrate(pipeline, speeds, needed())
            except (DemoError, Cancelled):  # what is wrong with a checkpoint is told where it is chosen and used
                return gr.skip()
        subject = self.session(request).subject
        choices = []
        for name in presets:
            seconds = speeds.of(steps_of(name, subject is not None and subject.is_photograph))
            choices.append((name if seconds is None else f"{name} · about {in_words(seconds)}", name))
        return gr.Radio(choices=choices)

    # -- making --------------------------------------------------------------------------------------------------

    @told
    def photograph_chosen(
        self, path: str | None, checkpoint: str, face: int | None, cut_out: bool, request: gr.Request
    ) -> tuple[Any, ...]:
        """Prepare a photograph: (photograph, crop, mask, note, faces to choose from)."""
        session = self.session(request)
        if path is None:
            session.subject = None
            return gr.skip(), None, None, "", gr.Dropdown(visible=False)
        self.workspace.own(session, path)
        try:
            subject = prepare_photograph(path, checkpoint, self.shelf, face_index=face or None, align=not cut_out)
        except DemoError as error:
            session.subject = None
            gr.Warning(str(error), title="This photograph cannot be used", duration=12)
            return None, None, None, "", gr.Dropdown(visible=False)
        session.subject = subject
        names = ["the largest", *(f"number {k + 1} by size" for k in range(1, subject.faces))]
        choice = gr.Dropdown(
            choices=[(name, k) for k, name in enumerate(names)], value=face or 0, visible=subject.faces > 1
        )
        return gr.skip(), *self._prepared(session, subject), choice

    @told
    def face_wanted(self, seed: float | None, variety: float, checkpoint: str, request: gr.Request) -> tuple[Any, ...]:
        """Let the generator draw a face: (crop, mask, note)."""
        session = self.session(request)
        session.subject = draw_sample(checkpoint, self.shelf, int(seed or 0), variety)
        return self._prepared(session, session.subject)

    @staticmethod
    def random_seed() -> int:
        return random.SystemRandom().randrange(1_000_000)

    def _prepared(self, session: Session, subject: Subject) -> tuple[str, str, str]:
        crop = subject.crop if subject.crop.width <= 512 else subject.crop.resize((512, 512), Image.Resampling.LANCZOS)
        return (
            self._picture(session, "crop.jpg", crop),
            self._picture(session, "mask.jpg", subject.masked),
            subject.note,
        )

    @told
    def run(self, preset: str, seed: float | None, tuned: bool, request: gr.Request) -> Iterator[tuple[Any, ...]]:
        """The whole work, as (progress card, Start, Stop)."""
        session = self.session(request)
        subject = session.subject
        if subject is None:
            raise DemoError("choose a photograph, or let the generator draw a face, first.")
        options = {"preset": preset, "seed": int(seed or 0), "tuned": bool(tuned and subject.is_photograph)}
        busy = (gr.Button(interactive=False), gr.Button(interactive=True))
        idle = (gr.Button(interactive=True), gr.Button(interactive=False))
        last = Report("loading", "Starting")
        try:
            yield progress_card(last), *busy
            for item in reconstruct(session, subject, options, self.shelf, self.line, self.speeds):
                if isinstance(item, Finished):
                    self.workspace.finish(session, item)
                    seconds = item.result.report.seconds
                    text = f"Done in {in_words(seconds)}"
                    quality = item.result.report.psnr_db
                    if quality is not None:
                        text += f"; the generator matches the photograph at {quality:.1f} dB"
                    last = Report("done", text, 1.0, previews=last.previews)
                else:
                    last = item
                yield progress_card(last), *(idle if last.state in ("stopped", "done") else busy)
        except DemoError as error:
            yield progress_card(Report("stopped", "Did not finish", previews=last.previews)), *idle
            raise error

    @told
    def stop(self, request: gr.Request) -> None:
        self.session(request).ask_to_stop()

    # -- looking -------------------------------------------------------------------------------------------------

    @told
    def make_room(self, request: gr.Request) -> tuple[Any, Any]:
        """The results' place instead of the empty one, before `show` fills it."""
        if self.session(request).finished is None:
            return gr.skip(), gr.skip()
        return gr.Column(visible=False), gr.Column(elem_classes="ready")

    @told
    def show(self, shown: str | None, request: gr.Request) -> tuple[Any, ...]:
        """A new result on the page: (id of what is shown, viewer, surface, compared, depth, normals, command, settings,
        paste button). Nothing changes after a run that was stopped. No generator: its last value would be sent a second
        time at its end, and a viewer that is told of a model twice in a row stays empty."""
        session = self.session(request)
        finished = session.finished
        if finished is None or finished.id == shown:
            return (gr.skip(),) * 9
        result = finished.result
        files.forget_older(finished, session.folder)
        model = files.viewer_file(finished, session.folder)
        compared = (
            self._picture(session, "input.jpg", to_pil(result.source)),
            self._picture(session, "reconstruction.jpg", _enlarged(to_pil(result.reconstruction))),
        )
        return (
            finished.id,
            str(model),
            "Textured",
            compared,
            self._picture(session, "depth.png", _enlarged(files.depth_picture(finished))),
            self._picture(session, "normals.png", _enlarged(files.normals_picture(finished))),
            command_box(files.command(finished)),
            files.settings(finished),
            gr.Button(visible=finished.subject.is_photograph),
        )

    @told
    def surface(self, kind: str, request: gr.Request) -> str:
        """The file for the viewer: the model with its texture, or its bare shape."""
        session, finished = self.finished(request)
        return str(files.viewer_file(finished, session.folder, textured=kind != "Shape"))

    @told
    def make_files(self, request: gr.Request) -> Iterator[list[Any]]:
        """The downloads as they are ready, one button each, and the turntable for the page."""
        session = self.session(request)
        finished = session.finished
        ready: dict[str, Path] = {}
        if finished is None:
            yield [gr.skip()] * (len(files.DOWNLOADS) + 1)
            return

        def wanted() -> bool:
            return session.finished is finished and not session.closed

        yield [*(self._button(d, None) for d in files.DOWNLOADS), None]
        for download, path in files.make_all(finished, session.folder, wanted):
            ready[download.key] = path
            now = [self._button(d, ready[d.key]) if d.key == download.key else gr.skip() for d in files.DOWNLOADS]
            yield [*now, str(path) if download.key == "turntable" else gr.skip()]

    @staticmethod
    def _button(download: files.Download, path: Path | None) -> Any:
        if path is None:
            return gr.DownloadButton(f"{download.label} …", value=None, interactive=False)
        size = path.stat().st_size
        told_size = f"{size / 1e6:.1f} MB" if size > 1e5 else f"{max(size // 1000, 1)} kB"
        return gr.DownloadButton(f"{download.label} · {told_size}", value=str(path), interactive=True)

    # -- editing -------------------------------------------------------------------------------------------------

    @told
    def relight(self, right: float, up: float, ambient: float, diffuse: float, request: gr.Request) -> str:
        session, finished = self.finished(request)
        finished.cache.pop("edited", None)
        ball = BallLight(right, up, ambient, diffuse)
        return self._picture(session, "relit.jpg", edits.relit(finished, ball), quality=88)

    @told
    def relight_through_gan(self, right: float, up: float, ambient: float, diffuse: float, request: gr.Request) -> str:
        session, finished = self.finished(request)
        picture = edits.relit_through_gan(finished, BallLight(right, up, ambient, diffuse), self.shelf)
        finished.cache["edited"] = picture
        return self._picture(session, "relit_gan.jpg", picture)

    @told
    def paste(self, right: float, up: float, ambient: float, diffuse: float, request: gr.Request) -> Any:
        session, finished = self.finished(request)
        ball = BallLight(right, up, ambient, diffuse)
        whole = edits.relit_in_photograph(finished, ball, finished.cache.get("edited"))
        return gr.Image(value=self._picture(session, "pasted.jpg", whole.convert("RGB")), visible=True)

    @told
    def turn(self, yaw: float, pitch: float, request: gr.Request) -> str:
        session, finished = self.finished(request)
        return self._picture(session, "turned.jpg", edits.turned(finished, yaw, pitch), quality=88)

    @told
    def turn_through_gan(self, yaw: float, pitch: float, request: gr.Request) -> str:
        session, finished = self.finished(request)
        return self._picture(session, "turned_gan.jpg", edits.turned_through_gan(finished, yaw, pitch, self.shelf))

    @told
    def strip(self, pitch: float, request: gr.Request) -> list[tuple[str, str]]:
        session, finished = self.finished(request)
        return self._gallery(session, "view.jpg", edits.strip(finished, pitch))

    @told
    def strip_through_gan(self, pitch: float, request: gr.Request) -> list[tuple[str, str]]:
        session, finished = self.finished(request)
        return self._gallery(session, "view_gan.jpg", edits.strip_through_gan(finished, pitch, self.shelf))

    def _gallery(self, session: Session, name: str, pictures: list[tuple[Image.Image, str]]) -> list[tuple[str, str]]:
        return [(self._picture(session, name, picture, keep=12), caption) for picture, caption in pictures]

    @staticmethod
    def _picture(session: Session, name: str, picture: Image.Image, *, quality: int = 93, keep: int = 3) -> str:
        path = session.new_file(name, keep)
        picture.save(path, quality=quality)
        return str(path)


def _enlarged(picture: Image.Image, side: int = 512) -> Image.Image:
    return picture.resize((side, side), Image.Resampling.BICUBIC)
