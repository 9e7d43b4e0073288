"""A reconstruction as a stream of reports: where it is, how long it takes, what it looks like, and at last the result.

The run itself has a thread of its own; the stream wakes up a few times a second, so that a stop is answered at once
and a web page never waits for an iteration.
"""

from __future__ import annotations

import dataclasses
import secrets
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from PIL import Image

from gan2shape_hub.cancel import CancelToken
from gan2shape_hub.demo.estimate import Countdown, Speeds
from gan2shape_hub.demo.line import Line
from gan2shape_hub.demo.shelf import DemoError, Shelf
from gan2shape_hub.demo.subject import Subject
from gan2shape_hub.demo.workspace import Session
from gan2shape_hub.errors import Cancelled, ConfigError, InputError
from gan2shape_hub.models.latent_projection import LatentProjection
from gan2shape_hub.pipeline import GAN2ShapePipeline
from gan2shape_hub.plan import Images
from gan2shape_hub.reconstruction import Reconstruction
from gan2shape_hub.records import Progress
from gan2shape_hub.results.image_files import to_pil
from gan2shape_hub.stages.gan_edit import GanEditor

try:  # on a Space with ZeroGPU; imported before anything touches CUDA
    import spaces
except ImportError:
    spaces = None

TICK_S, REPORT_S, PREVIEW_S = 0.1, 0.5, 1.0
"""How often the stream looks, reports at least, and asks for a preview at most."""


@dataclass(frozen=True)
class Report:
    """Where a run is. ``previews``: (label, picture) pairs of the latest look at it."""

    state: str
    """waiting, loading, running, stopped or done."""
    text: str
    fraction: float = 0.0
    left_s: float | None = None
    previews: tuple[tuple[str, Image.Image], ...] = ()


@dataclass(frozen=True, eq=False)
class Finished:
    """A result without the generator, which belongs to the shelf: what visitors hold must not keep checkpoints in
    memory."""

    id: str
    checkpoint: str
    subject: Subject
    result: Reconstruction
    """Its ``editor`` is None: `with_editor` gives it back."""
    encoder: Any
    own_generator: Any
    """The copy that was adapted to the photograph, or None."""
    options: dict[str, Any]
    """What the run was asked for: preset, seed, tuned."""
    cache: dict[str, Any] = field(default_factory=dict)
    """Files and things that are made once."""

    def with_editor(self, pipeline: GAN2ShapePipeline) -> Reconstruction:
        """The result with what edits through the GAN need."""
        generator = self.own_generator or pipeline.generator
        projection = LatentProjection(generator, pipeline.config.projection)
        editor = GanEditor(encoder=self.encoder, generator=generator, projection=projection)
        return dataclasses.replace(self.result, editor=editor)


def _gpu(function: Callable) -> Callable:
    return function if spaces is None else spaces.GPU(duration=120)(function)


@_gpu
def steps_of_run(
    pipeline: GAN2ShapePipeline,
    subject: Subject,
    options: dict[str, Any],
    countdown: Countdown,
    stop_wanted: Callable[[], bool],
) -> Iterator[Report | Reconstruction]:
    """Run the pipeline; yields reports, and the Reconstruction last. After a stop the last report says so."""
    seen: dict[str, Any] = {"progress": None, "previews": (), "looked": 0.0}
    outcome: dict[str, Any] = {}
    token = CancelToken()

    def watch(progress: Progress) -> None:
        now = time.perf_counter()
        if now - seen["looked"] >= PREVIEW_S:
            pictures = progress.preview()
            if pictures is not None:
                labels = ("input", "reconstruction", "shape")
                seen["previews"] = tuple((label, to_pil(p)) for label, p in zip(labels, pictures, strict=False))[1:]
            seen["looked"] = now
        seen["progress"] = progress

    def run() -> None:
        try:
            outcome["result"] = pipeline(subject.item, callback=watch, cancel=token, **options, **subject.arguments)
        except BaseException as error:  # handed to the stream, which raises it where it is heard
            outcome["error"] = error

    thread = threading.Thread(target=run, name="reconstruction", daemon=True)
    thread.start()
    try:
        reported, stopping = 0.0, False
        while thread.is_alive():
            thread.join(TICK_S)
            now = time.perf_counter()
            if stop_wanted():
                stopping = True
                token.cancel()
                break
            if now - reported >= REPORT_S:
                reported = now
                yield _report(seen, countdown)
        if stopping:
            yield Report("stopped", "Stopped. The last preview stays.", previews=seen["previews"])
    finally:
        token.cancel()  # whoever listened has gone, or the run is over
        thread.join()  # one heavy job at a time: the next one waits for the layer that is still under way
    if "result" in outcome and not stopping:
        yield outcome["result"].cpu()
    elif "error" in outcome and not isinstance(outcome["error"], Cancelled):
        raise outcome["error"]
    elif not stopping:
        yield Report("stopped", "Stopped. The last preview stays.", previews=seen["previews"])


def _report(seen: dict[str, Any], countdown: Countdown) -> Report:
    progress: Progress | None = seen["progress"]
    if progress is None:
        return Report("running", "Looking at the picture", 0.0, countdown.planned_s)
    fraction, left_s = countdown.left(progress)
    rounds = f", round {progress.round + 1} of {progress.rounds}" if progress.rounds > 1 else ""
    text = f"{progress.label}{rounds}: {progress.iteration} of {progress.iterations}"
    return Report("running", text, fraction, left_s, seen["previews"])


def reconstruct(
    session: Session,
    subject: Subject,
    options: dict[str, Any],
    shelf: Shelf,
    line: Line,
    speeds: Callable[[str], Speeds],
) -> Iterator[Report | Finished]:
    """Wait in line, load, run. Yields reports, and Finished last unless it was stopped.

    ``options``: preset, seed and tuned, as the pipeline takes them. DemoError is one sentence for the visitor.
    """
    session.stop_flag.unlink(missing_ok=True)
    ticket = line.enter()
    try:
        while ahead := line.ahead(ticket):
            yield Report("waiting", f"Waiting in line, {ahead} before you")
            time.sleep(REPORT_S)
            if session.stop_wanted():
                yield Report("stopped", "Stopped waiting.")
                return
        if shelf.loaded != subject.checkpoint:
            yield Report("loading", "Loading the checkpoint")
        with shelf.use(subject.checkpoint) as pipeline:
            yield from _guarded(session, subject, options, pipeline, speeds(subject.checkpoint))
    finally:
        line.leave(ticket)
        session.stop_flag.unlink(missing_ok=True)


def _guarded(
    session: Session, subject: Subject, options: dict[str, Any], pipeline: GAN2ShapePipeline, speeds: Speeds
) -> Iterator[Report | Finished]:
    try:
        images = Images(photographs=int(subject.is_photograph))
        steps = pipeline.plan(images, preset=options["preset"], tuned=options["tuned"])
        countdown = Countdown(steps, speeds)
        for item in steps_of_run(pipeline, subject, options, countdown, session.stop_wanted):
            if isinstance(item, Report):
                yield item
                continue
            speeds.learn(item.report)
            yield _finished(item, subject, options, pipeline)
    except (InputError, ConfigError, FloatingPointError, ValueError) as error:
        raise DemoError(str(error)) from None
    except MemoryError:
        raise DemoError("this machine ran out of memory: try the preset 'instant', or a smaller photograph.") from None


def _finished(
    result: Reconstruction, subject: Subject, options: dict[str, Any], pipeline: GAN2ShapePipeline
) -> Finished:
    editor = result.editor
    tuned = editor.generator if editor.generator is not pipeline.generator else None
    return Finished(
        id=secrets.token_urlsafe(16),
        checkpoint=subject.checkpoint,
        subject=subject,
        result=dataclasses.replace(result, editor=None),
        encoder=editor.encoder,
        own_generator=tuned,
        options=dict(options),
    )
