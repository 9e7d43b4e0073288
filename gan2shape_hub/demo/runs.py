"""A reconstruction as a stream of reports: where it is, how long it takes, what it looks like, and at last the result.

The run itself has a thread of its own; the stream wakes up a few times a second, so that a stop is answered at once
and a web page never waits for an iteration. Gradio's queue lets one stream begin after the other.
"""

from __future__ import annotations

import contextlib
import dataclasses
import secrets
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from PIL import Image

from gan2shape_hub.cancel import CancelToken, StopsBetweenOperations
from gan2shape_hub.config import ScheduleConfig
from gan2shape_hub.demo.memory import give_back
from gan2shape_hub.demo.results import Finished
from gan2shape_hub.demo.shelf import Shelf, Subject
from gan2shape_hub.demo.visitors import DemoError, Session
from gan2shape_hub.errors import Cancelled
from gan2shape_hub.pipeline import GAN2ShapePipeline
from gan2shape_hub.plan import Images, Step
from gan2shape_hub.reconstruction import Reconstruction
from gan2shape_hub.records import Progress
from gan2shape_hub.report import RunReport
from gan2shape_hub.results.image_files import to_pil

try:  # on a Space with ZeroGPU; imported before anything touches CUDA
    import spaces
except ImportError:
    spaces = None

TICK_S, REPORT_S, PREVIEW_S = 0.1, 0.5, 1.0
"""How often the stream looks, reports at least, and asks for a preview at most."""
FIXED = Step("fixed", "What a run costs beside its steps", 1, 1.0)
"""The full image, the networks' last look."""


@dataclass(frozen=True)
class Report:
    """Where a run is. ``previews``: (label, picture) pairs of the latest look at it."""

    state: str
    """waiting, loading, running, stopped or done."""
    text: str
    fraction: float = 0.0
    left_s: float | None = None
    previews: tuple[tuple[str, Image.Image], ...] = ()


def stopped_report(previews: tuple[tuple[str, Image.Image], ...]) -> Report:
    return Report("stopped", "Stopped. The last preview stays." if previews else "Stopped.", previews=previews)


@dataclass(eq=False)
class Order:
    """What a visitor has asked for, from the press of the button on."""

    subject: Subject
    options: dict[str, Any]
    """preset, seed and tuned, as the pipeline takes them."""
    flag: Path
    """Exists when the order is to stop. A file and not an event: on ZeroGPU a run is a process of its own."""
    begun: bool = False

    @classmethod
    def of(cls, session: Session, subject: Subject, preset: str, seed: float | None, tuned: bool) -> Order:
        options = {"preset": preset, "seed": int(seed or 0), "tuned": bool(tuned and subject.is_photograph)}
        return cls(subject, options, session.folder / f"stop-{secrets.token_hex(8)}")

    def stop(self) -> None:
        with contextlib.suppress(OSError):
            self.flag.touch()

    def stopped(self) -> bool:
        """Somebody has stopped it, or its visitor is gone and the folder too."""
        return self.flag.exists() or not self.flag.parent.is_dir()


# -- how long it takes -------------------------------------------------------------------------------------------------


@dataclass
class Speeds:
    """Seconds an iteration of each step of one preset takes on this machine, for one kind of picture: a few iterations
    are timed, and each run corrects them. Thread-safe enough: values are only replaced."""

    seconds: dict[str, float] = field(default_factory=dict)

    def learn(self, report: RunReport, seconds: float) -> None:
        """Take over what a finished run measured, which took ``seconds`` in all."""
        spent: dict[str, tuple[float, int]] = {}
        for record in report.steps:
            before, count = spent.get(record.step, (0.0, 0))
            spent[record.step] = (before + record.seconds, count + record.iterations)
        counted = {step: (spent_s, count) for step, (spent_s, count) in spent.items() if count}
        for step, (spent_s, count) in counted.items():
            if count > 2 or step not in self.seconds:  # the first iterations warm up
                self.seconds[step] = spent_s / count
        self.seconds[FIXED.name] = max(seconds - sum(spent_s for spent_s, _ in counted.values()), 0.05)

    def of(self, steps: Sequence[Step]) -> float | None:
        """Seconds that ``steps`` take; None where one of them was never timed."""
        steps = [step for step in (FIXED, *steps) if step.iterations]
        if any(step.name not in self.seconds for step in steps):
            return None
        return sum(self.seconds[step.name] * step.iterations for step in steps)


def shortened(schedule: ScheduleConfig) -> ScheduleConfig:
    """A schedule that has a few iterations of everything that ``schedule`` has."""
    kinds = ("decompose", "explore", "refine")
    some = {kind: 3 for kind in kinds if any(getattr(this, kind) for this in schedule.rounds)}
    return dataclasses.replace(
        schedule,
        rounds=tuple(dataclasses.replace(r, **{**dict.fromkeys(kinds, 0), **some}) for r in schedule.rounds[:1]),
        prior_iterations=min(schedule.prior_iterations, 2),
        collected_batches=1,
        invert_iterations=min(schedule.invert_iterations, 4),
        tune_iterations=min(schedule.tune_iterations, 3),
        turned_views=min(schedule.turned_views, 2),
        adjust_iterations=min(schedule.adjust_iterations, 3),
    )


def timed(pipeline: GAN2ShapePipeline, item: Any, **options: Any) -> tuple[RunReport, float]:
    """The report of a run of few iterations, and the seconds that it takes with what a page needs besides. Its steps'
    seconds are those that their iterations take one after the other: what a step does once would count too much."""
    marks: dict[str, list[float]] = {}
    begun = time.perf_counter()
    watch = lambda progress: marks.setdefault(progress.step, []).append(time.perf_counter())  # noqa: E731
    result = pipeline(item, callback=watch, **options).with_sides()
    seconds = time.perf_counter() - begun
    steps = tuple(
        dataclasses.replace(step, seconds=step.iterations * (at[-1] - at[0]) / (len(at) - 1))
        if len(at := marks.get(step.step, ())) > 1
        else step
        for step in result.report.steps
    )
    return dataclasses.replace(result.report, steps=steps), seconds


class Countdown:
    """Seconds left of a run: what was planned, scaled by how fast it has gone so far."""

    def __init__(self, steps: Sequence[Step], speeds: Speeds) -> None:
        self._steps = (FIXED, *steps)
        # A step that was never timed counts as the mean of the others: better than nothing, and soon corrected.
        known = [speeds.seconds[s.name] for s in self._steps if s.name in speeds.seconds]
        mean = sum(known) / len(known) if known else 0.3
        self._each = [speeds.seconds.get(s.name, mean) for s in self._steps]
        self.planned_s = sum(each * step.iterations for each, step in zip(self._each, self._steps, strict=True))
        self.begun = time.perf_counter()

    def left(self, progress: Progress) -> tuple[float, float]:
        """(fraction done in 0..1, seconds left) at ``progress``."""
        done = self._each[0]  # the fixed part; most of it comes first
        for each, step in zip(self._each[1:], self._steps[1:], strict=True):
            if step.name == progress.step and step.round in (0, progress.round + 1):
                done += each * min(progress.iteration, step.iterations)
                break
            done += each * step.iterations
        whole = max(self.planned_s, 1e-6)
        elapsed = time.perf_counter() - self.begun
        # Trust the plan at first and the run later.
        pace = (whole * 0.2 + elapsed) / (whole * 0.2 + done)
        return min(done / whole, 1.0), max(whole - done, 0.0) * pace


# -- the work ----------------------------------------------------------------------------------------------------------


class Workshop:
    """Runs one order at a time, and knows how long each takes."""

    def __init__(self, shelf: Shelf) -> None:
        self.shelf = shelf
        self.at_work = threading.Lock()
        """Gradio's queue lets one order begin after the other; a visitor's who left may take a moment to end."""
        self._speeds: dict[tuple[str, str, bool], Speeds] = {}
        self._measuring = threading.Lock()
        self._warm: set[str] = set()

    def speeds(self, checkpoint: str, preset: str, photograph: bool) -> Speeds:
        return self._speeds.setdefault((checkpoint, preset, photograph), Speeds())

    def estimates(self, checkpoint: str, photograph: bool, tuned: bool) -> Iterator[dict[str, float | None]]:
        """Preset -> seconds it takes on this machine, None as long as that is not known: what is known at once, and
        again after each preset that is measured. A run, which wants the machine for itself, puts that off (Cancelled).
        """
        with self.shelf.use(checkpoint, patience_s=5) as pipeline:
            presets, _ = self.shelf.presets(checkpoint)
            plans = {
                name: pipeline.plan(Images(photographs=int(photograph)), preset=name, tuned=tuned) for name in presets
            }

            def known() -> dict[str, float | None]:
                return {name: self.speeds(checkpoint, name, photograph).of(plans[name]) for name in presets}

            yield known()
            for name in presets:  # the shortest first: it is soonest known
                with self._measuring, StopsBetweenOperations(self.at_work.locked):
                    if known()[name] is not None:  # by now
                        continue
                    self._measure(pipeline, checkpoint, name, tuned)
                yield known()

    def _measure(self, pipeline: GAN2ShapePipeline, checkpoint: str, preset: str, tuned: bool) -> None:
        """Time the first iterations of every step of a preset, on a generated image as if it were a photograph, which
        has all steps that a generated one has."""
        short, sample = shortened(pipeline.config.schedule(preset)), pipeline.sample(seed=0)
        options = {"preset": short, "align": False, "tuned": tuned}
        if checkpoint not in self._warm:
            timed(pipeline, sample.image, **options)  # whose networks are touched for the first time
            self._warm.add(checkpoint)
        report, seconds = timed(pipeline, sample.image, **options)
        for photograph in (True, False):
            speeds = self.speeds(checkpoint, preset, photograph)
            before = dict(speeds.seconds)
            speeds.learn(report, seconds)
            speeds.seconds.update(before)  # of whole runs

    def run(self, order: Order) -> Iterator[Report | Finished]:
        """Load, run. Yields reports, and Finished last unless it was stopped. DemoError is one sentence."""
        subject = order.subject
        speeds = self.speeds(subject.checkpoint, order.options["preset"], subject.is_photograph)
        with self.at_work:
            if self.shelf.loaded != subject.checkpoint:
                yield Report("loading", "Loading the checkpoint")
            try:
                with self.shelf.use(subject.checkpoint) as pipeline:
                    images = Images(photographs=int(subject.is_photograph))
                    steps = pipeline.plan(images, preset=order.options["preset"], tuned=order.options["tuned"])
                    begun = time.perf_counter()
                    for item in stream(pipeline, order, Countdown(steps, speeds)):
                        if isinstance(item, Reconstruction):
                            speeds.learn(item.report, time.perf_counter() - begun)
                            shared = item.editor.generator is pipeline.generator
                            item = Finished(
                                id=secrets.token_urlsafe(16),
                                checkpoint=subject.checkpoint,
                                subject=subject,
                                result=item.with_generator(None) if shared else item,
                                options=order.options,
                            )
                        yield item
            except (FloatingPointError, ValueError) as error:
                raise DemoError(str(error)) from None
            except MemoryError:
                raise DemoError(
                    "this machine ran out of memory: try the preset 'instant', or a smaller photograph."
                ) from None
            finally:
                give_back()


def _gpu(function: Callable) -> Callable:
    return function if spaces is None else spaces.GPU(duration=120)(function)


@_gpu
def stream(pipeline: GAN2ShapePipeline, order: Order, countdown: Countdown) -> Iterator[Report | Reconstruction]:
    """Run the pipeline; yields reports, and the Reconstruction last. After a stop the last report says so."""
    outcome: dict[str, Any] = {"report": Report("running", "Looking at the picture", 0.0, countdown.planned_s)}
    token, looked = CancelToken(), 0.0

    def watch(progress: Progress) -> None:
        nonlocal looked
        previews, now = outcome["report"].previews, time.perf_counter()
        if now - looked >= PREVIEW_S:
            if pictures := progress.preview():
                labels = ("reconstruction", "shape")
                previews = tuple((label, to_pil(p)) for label, p in zip(labels, pictures[1:], strict=True))
            looked = time.perf_counter()
        rounds = f", round {progress.round + 1} of {progress.rounds}" if progress.rounds > 1 else ""
        text = f"{progress.label}{rounds}: {progress.iteration} of {progress.iterations}"
        outcome["report"] = Report("running", text, *countdown.left(progress), previews)

    def run() -> None:
        try:
            result = pipeline(order.subject.item, callback=watch, cancel=token, **order.options)
            outcome["result"] = result.with_sides()  # here, where the generator is
        except BaseException as error:  # handed to the stream, which raises it where it is heard
            outcome["error"] = error

    thread = threading.Thread(target=run, name="reconstruction", daemon=True)
    thread.start()
    try:
        reported = 0.0
        while thread.is_alive() and not order.stopped():
            thread.join(TICK_S)
            if time.perf_counter() - reported >= REPORT_S:
                reported = time.perf_counter()
                yield outcome["report"]
        stopped = stopped_report(outcome["report"].previews)
        if order.stopped():
            token.cancel()
            thread.join()  # a tenth of a second: who reads that it stopped may start the next run
            yield stopped
            return
    finally:
        token.cancel()  # whoever listened has gone, or the run is over
        thread.join()  # one heavy job at a time: the next one waits for the layer that is still under way
    if "result" in outcome:
        yield outcome["result"].cpu()
    elif isinstance(outcome["error"], Cancelled):
        yield stopped
    else:
        raise outcome["error"]
