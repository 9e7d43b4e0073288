"""The one list of steps: what a schedule asks for, and that everybody reads it."""

import dataclasses

import pytest
from conftest import tiny_pipeline

from gan2shape_hub import Cancelled, CancelToken, ConfigError, ScheduleConfig
from gan2shape_hub.config import RoundConfig
from gan2shape_hub.plan import KINDS, LABELS, ROUND_KINDS, Abilities, Images, Step, plan, step

EVERYTHING = ScheduleConfig(
    rounds=(RoundConfig(5, 0, 0), RoundConfig(0, 3, 0)),
    prior_iterations=7,
    batch_size=2,
    collected_batches=3,
    turned_views=6,
    adjust_iterations=4,
    invert_iterations=9,
    tune_iterations=8,
)


def names(*arguments):
    return [(s.name, s.round, s.iterations) for s in plan(*arguments)]


def test_a_plan_by_hand():
    two = Images(count=3, photographs=2)
    assert names(EVERYTHING, Abilities(pretrained=False, turns=True), two) == [
        ("invert", 0, 18), ("tune", 0, 8), ("prior", 0, 7), ("turn", 0, 18), ("adjust", 0, 12),
        ("decompose", 1, 5), ("explore", 2, 3),
    ]  # fmt: skip
    assert names(EVERYTHING, Abilities(pretrained=True, turns=False), Images()) == [
        ("decompose", 1, 5), ("explore", 2, 3),
    ]  # fmt: skip


def test_views_are_collected_in_batches_of_each_image_where_step_3_needs_them():
    schedule = ScheduleConfig(rounds=(RoundConfig(0, 1, 4), RoundConfig(0, 2, 0)), batch_size=4, collected_batches=5)
    assert names(schedule, Abilities(), Images(3)) == [
        ("explore", 1, 1), ("collect", 1, 6), ("refine", 1, 4), ("explore", 2, 2),
    ]  # fmt: skip


def test_starting_from_the_ellipsoid_is_the_schedules_choice_too():
    schedule = dataclasses.replace(EVERYTHING, from_pretrained=False)
    assert "prior" in [s.name for s in plan(schedule, Abilities(pretrained=True), Images())]


def test_a_photograph_is_always_inverted():
    """Without iterations the average image is the answer, and how far it is from the photograph is still said."""
    schedule = ScheduleConfig(rounds=(), invert_iterations=0, tune_iterations=0)
    assert names(schedule, Abilities(), Images(1, 1)) == [("invert", 0, 0)]


def test_what_cannot_be_together_is_refused_by_name():
    schedule = dataclasses.replace(EVERYTHING, rounds=(RoundConfig(0, 0, 1),))
    for can in (Abilities(turns=True), Abilities(turns=False)):
        with pytest.raises(ConfigError, match=r"schedule\.adjust_iterations .* round\.refine") as caught:
            plan(schedule, can, Images())
        assert caught.value.code == "steps-exclude-each-other"


def test_every_kind_has_a_label_and_a_price():
    kinds = (*KINDS, *ROUND_KINDS)
    assert list(LABELS) == [kind.name for kind in kinds]
    assert all(kind.cost > 0 and kind.label for kind in kinds)
    assert step("refine", 4, 2) == Step("refine", LABELS["refine"], 4, 1.0, 2)
    with pytest.raises(KeyError):
        step("polish", 1)


@pytest.fixture(scope="module")
def shared():
    return tiny_pipeline()


def test_a_pipeline_tells_its_plan_and_keeps_to_it(shared):
    seen, photograph = [], shared.sample(seed=1).image
    wanted = shared.plan([photograph, shared.sample(seed=2)], tuned=True)
    assert [s.name for s in wanted] == ["invert", "tune", "decompose", "explore", "collect", "refine"]
    assert wanted == shared.plan(Images(2, 1), tuned=True)
    assert "tune" not in [s.name for s in shared.plan(photograph)]
    schedule = dataclasses.replace(shared.config.schedule(), tune_iterations=2)
    wanted = shared.plan([photograph, shared.sample(seed=2)], preset=schedule, tuned=True)
    shared([photograph, shared.sample(seed=2)], preset=schedule, tuned=True, align=False, callback=seen.append)
    told = [(p.step, p.label, p.iterations) for p in seen if p.iteration == 1]
    assert told == [(s.name, s.label, s.iterations) for s in wanted]
    work = sum(s.cost * s.iterations for s in wanted)
    assert seen[0].fraction == pytest.approx(wanted[0].cost / work)
    assert seen[-1].fraction == pytest.approx(1)
    with pytest.raises(ConfigError, match="preset is 'slow', must be one of fast") as caught:
        shared.plan(preset="slow")
    assert caught.value.code == "no-such-preset"


def test_every_step_of_the_plan_has_a_stage(shared):
    """A kind that no stage stands for would be a KeyError in the middle of a run."""
    schedule = dataclasses.replace(shared.config.schedule(), from_pretrained=False, tune_iterations=1)
    seen = set()
    image = shared.sample(seed=1).image
    shared(image, preset=schedule, tuned=True, align=False, callback=lambda progress: seen.add(progress.step))
    # Those run in stages/test_turn.py and stages/test_light.py.
    assert set(LABELS) - seen == {"turn", "adjust", "light", "stereo"}


# -- cancelling -----------------------------------------------------------------------------------------------------


def test_a_token_stops_the_run_at_the_next_iteration(shared):
    token, seen = CancelToken(), []

    def watch(progress):
        seen.append(progress)
        if len(seen) == 3:
            token.cancel()

    with pytest.raises(Cancelled) as caught:
        shared(shared.sample(seed=1), callback=watch, cancel=token)
    assert len(seen) == 3
    assert caught.value.code == "cancelled"
    with pytest.raises(Cancelled):  # it stays used
        shared(shared.sample(seed=1), cancel=token)
    shared(shared.sample(seed=1), cancel=CancelToken())  # and the pipeline is none the worse
