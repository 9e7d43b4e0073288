"""How long a run will take on this machine: a few iterations of every step are timed, and each run corrects them."""

from __future__ import annotations

import threading
import time
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import Any

from gan2shape_hub.config import RoundConfig, ScheduleConfig
from gan2shape_hub.pipeline import GAN2ShapePipeline
from gan2shape_hub.plan import LABELS, Step
from gan2shape_hub.records import Progress

FIXED = Step("fixed", "What a run costs beside its steps", 1, 1.0)
"""The full image, the networks' last look."""


@dataclass
class Speeds:
    """Seconds an iteration of each step of one checkpoint. Thread-safe enough: values are only replaced."""

    seconds: dict[str, float] = field(default_factory=dict)
    pretrained: bool | None = None
    """Whether the checkpoint brings shape networks (without them a run starts from the ellipsoid); None: not known."""

    def learn(self, records: Sequence[dict[str, Any]], whole_s: float) -> None:
        """Take over what a finished run measured: ``settings["steps"]`` and ``settings["seconds"]``."""
        spent: dict[str, tuple[float, int]] = {}
        for record in records:
            seconds, count = spent.get(record["step"], (0.0, 0))
            spent[record["step"]] = (seconds + record["seconds"], count + record["iterations"])
        for step, (seconds, count) in spent.items():
            if count > 2 or step not in self.seconds:  # the first iterations warm up
                self.seconds[step] = seconds / count
        rest = whole_s - sum(seconds for seconds, _ in spent.values())
        self.seconds[FIXED.name] = max(rest, 0.05)

    def of(self, steps: Sequence[Step]) -> float | None:
        """Seconds that ``steps`` take; None where one of them was never timed."""
        steps = (FIXED, *steps)
        if any(step.name not in self.seconds for step in steps):
            return None
        return sum(self.seconds[step.name] * step.iterations for step in steps)


_calibrating = threading.Lock()


def calibrate(pipeline: GAN2ShapePipeline, speeds: Speeds, wanted: Collection[str] = LABELS) -> None:
    """Time two or three iterations of every step of ``wanted``, on a generated image, in a few seconds."""
    with _calibrating:
        wanted = set(wanted) - set(speeds.seconds)
        if not wanted:
            return
        measured = Speeds()
        sample = pipeline.sample(seed=0)
        schedules = pipeline.config.schedules.values()
        batch = max((s.batch_size for s in schedules if s.from_pretrained), default=8)

        def twice(*steps: str) -> int:
            return 2 if wanted & set(steps) else 0

        # The second step is what the third one's views come from, and each may stand alone.
        this_round = RoundConfig(twice("decompose"), twice("explore"), twice("collect", "refine"), mirror=True)
        tiny = ScheduleConfig(
            rounds=(this_round,) if twice("decompose", "explore", "collect", "refine") else (),
            prior_iterations=2,
            batch_size=batch,
            collected_batches=1,
            invert_iterations=3,
            tune_iterations=2,
        )
        result = pipeline(sample, preset=tiny)
        measured.learn(result.settings["steps"], result.settings["seconds"])
        fixed = measured.seconds[FIXED.name]
        if twice("invert", "tune", "turn", "adjust"):
            # The steps of photographs, on the same picture as if it were one.
            views = {"turned_views": twice("turn", "adjust"), "adjust_iterations": 3}
            inversion = ScheduleConfig(**{**vars(tiny), "rounds": (), **views})
            result = pipeline(sample.image, preset=inversion, align=False, tuned="tune" in wanted)
            measured.learn(result.settings["steps"], result.settings["seconds"])
        # All at once: what a run interrupts is measured again, and what a run has measured meanwhile is better.
        # Turned views take no time where the checkpoint knows no directions to turn in.
        speeds.seconds = {
            **dict.fromkeys(wanted & {"turn", "adjust"}, 0.0),
            **measured.seconds,
            FIXED.name: fixed,
            **speeds.seconds,
        }


class Countdown:
    """Seconds left of a run: what was planned, scaled by how fast it has gone so far."""

    def __init__(self, steps: Sequence[Step], speeds: Speeds) -> None:
        self._steps = [FIXED, *steps]
        # A step that was never timed counts as the mean of the others: better than nothing, and soon corrected.
        known = [speeds.seconds[s.name] for s in self._steps if s.name in speeds.seconds]
        mean = sum(known) / len(known) if known else 0.3
        self._each = [speeds.seconds.get(s.name, mean) for s in self._steps]
        self.begun = time.perf_counter()

    @property
    def planned_s(self) -> float:
        return sum(each * step.iterations for each, step in zip(self._each, self._steps, strict=True))

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


def in_words(seconds: float) -> str:
    """A duration as people say it: "2 s", "45 s", "3 min", "1.5 h"."""
    if seconds < 10:
        return f"{max(seconds, 1):.0f} s"
    if seconds < 90:
        return f"{5 * round(seconds / 5)} s"
    if seconds < 90 * 60:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h"
