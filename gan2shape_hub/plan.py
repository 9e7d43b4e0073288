"""What a run does, step by step: the one place that knows the steps, their names for people and their prices.

A stage is added here by one `Kind`; what it does is a function from state to state (``stages/``), which
``GAN2ShapePipeline.__call__`` names, and how often it does it is a field of the schedule.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from gan2shape_hub.config import CategoryConfig, ConfigError, RoundConfig, ScheduleConfig


@dataclass(frozen=True)
class Step:
    """A stage of a run. ``round`` counts from 1; 0 for what comes before the rounds."""

    name: str
    label: str
    """For people."""
    iterations: int
    cost: float
    """Rough price of an iteration, relative to one of step 3."""
    round: int = 0


@dataclass(frozen=True)
class Abilities:
    """What a checkpoint can do. pretrained: it brings shape networks; turns: it knows directions of W along which the
    object turns; relights: it knows directions along which its light moves, in ``lit_images`` pictures, out of which
    ``stereo_rounds`` turns of lights, normals and surface find the shape."""

    pretrained: bool = True
    turns: bool = False
    relights: bool = False
    lit_images: int = 15
    stereo_rounds: int = 2

    @classmethod
    def of(cls, config: CategoryConfig, pretrained: bool) -> Abilities:
        projection = config.projection
        turns, relights = bool(projection.view_directions), bool(projection.light_directions)
        return cls(pretrained, turns, relights, 1 + len(config.light_walk.steps), config.photometric.rounds)


@dataclass(frozen=True)
class Images:
    """What is reconstructed: ``count`` images together, ``photographs`` of which have no latent yet."""

    count: int = 1
    photographs: int = 0


@dataclass(frozen=True)
class Kind:
    """A kind of step: name, label, cost of an iteration, and how many iterations a schedule asks for (None: the step is
    left out)."""

    name: str
    label: str
    cost: float
    iterations: Callable[[ScheduleConfig, Abilities, Images], int | None]


@dataclass(frozen=True)
class RoundKind:
    """A kind of step that every round may have; as `Kind`."""

    name: str
    label: str
    cost: float
    iterations: Callable[[ScheduleConfig, RoundConfig, Images], int | None]


def _relights(schedule: ScheduleConfig, can: Abilities) -> bool:
    return can.relights and can.pretrained and schedule.from_pretrained and schedule.light_walk_size > 0


def _adjusts(schedule: ScheduleConfig, can: Abilities) -> bool:
    """Where the light cannot be walked, turned views say what they know of the relief."""
    wanted = schedule.turned_views > 0 and schedule.adjust_iterations > 0
    return can.turns and wanted and not _relights(schedule, can)


def _batches(schedule: ScheduleConfig, images: Images) -> int:
    return images.count * -(-schedule.views_of_each(images.count) // schedule.batch_size)


KINDS = (
    Kind(
        "invert",
        "Finding the photograph in the generator",
        0.5,
        # Also where the schedule has no iterations: the average image is an answer too.
        lambda schedule, can, images: images.photographs * schedule.invert_iterations if images.photographs else None,
    ),
    Kind(
        "tune",
        "Adapting a copy of the generator",
        2.0,
        lambda schedule, can, images: schedule.tune_iterations if images.photographs else None,
    ),
    Kind(
        "prior",
        "Starting from an ellipsoid",
        0.4,
        lambda schedule, can, images: (
            None if can.pretrained and schedule.from_pretrained else schedule.prior_iterations
        ),
    ),
    Kind(
        "turn",
        "Shape: turning the object in the generator",
        0.1,
        lambda schedule, can, images: images.count * schedule.turned_views if _adjusts(schedule, can) else None,
    ),
    Kind(
        "adjust",
        "Shape: relief and poses from turned views",
        0.3,
        lambda schedule, can, images: images.count * schedule.adjust_iterations if _adjusts(schedule, can) else None,
    ),
    Kind(
        "light",
        "Shape: carrying a lamp around the object in the generator",
        0.15,
        lambda schedule, can, images: images.count * can.lit_images if _relights(schedule, can) else None,
    ),
    Kind(
        "stereo",
        "Shape: normals from the lamp's pictures",
        0.3,
        lambda schedule, can, images: images.count * can.stereo_rounds if _relights(schedule, can) else None,
    ),
)
"""What comes before the rounds, in its order."""

ROUND_KINDS = (
    RoundKind("decompose", "Step 1: albedo", 0.5, lambda schedule, this, images: this.decompose),
    RoundKind("explore", "Step 2: learning to project views", 1.2, lambda schedule, this, images: this.explore),
    RoundKind(
        "collect",
        "Step 2: collecting projected views",
        0.5,
        lambda schedule, this, images: _batches(schedule, images) if this.refine else None,
    ),
    RoundKind("refine", "Step 3: shape from all views", 1.0, lambda schedule, this, images: this.refine),
)
"""What a round has, in its order."""

LABELS = {kind.name: kind.label for kind in (*KINDS, *ROUND_KINDS)}
"""Name of a step -> its label, in the order of a run."""


def plan(schedule: ScheduleConfig, can: Abilities, images: Images) -> tuple[Step, ...]:
    """The steps of a run over ``images``, in their order.

    Raises:
        ConfigError: the schedule asks for steps that cannot be together.
    """
    if schedule.turned_views and schedule.adjust_iterations and any(this.refine for this in schedule.rounds):
        raise ConfigError(
            "schedule.adjust_iterations adjusts the shape, and round.refine would train it anew without: set one of "
            "them to 0.",
            code="steps-exclude-each-other",
        )
    steps = [(kind, kind.iterations(schedule, can, images), 0) for kind in KINDS]
    for number, this in enumerate(schedule.rounds, 1):
        steps += [(kind, kind.iterations(schedule, this, images), number) for kind in ROUND_KINDS]
    return tuple(
        Step(kind.name, kind.label, iterations, kind.cost, number)
        for kind, iterations, number in steps
        if iterations or (iterations == 0 and kind.name == "invert")
    )


def step(name: str, iterations: int, round_number: int = 0) -> Step:
    """A step outside of any plan, as trainings take them; KeyError where there is no such kind."""
    kind = {kind.name: kind for kind in (*KINDS, *ROUND_KINDS)}[name]
    return Step(name, kind.label, iterations, kind.cost, round_number)


def in_words(seconds: float) -> str:
    """A duration as people say it: "2 s", "45 s", "3 min", "1.5 h"."""
    if seconds < 10:
        return f"{max(seconds, 1):.0f} s"
    if seconds < 90:
        return f"{5 * round(seconds / 5)} s"
    if seconds < 90 * 60:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h"
