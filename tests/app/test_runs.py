"""What is reconstructed, the line in front of it, how long it takes."""

import dataclasses
import time
from types import SimpleNamespace

import gradio as gr
import numpy as np
import pytest
import torch
from conftest import tiny_config
from demo_parts import run
from PIL import Image

from gan2shape_hub.cancel import stoppable
from gan2shape_hub.config import RoundConfig, ScheduleConfig
from gan2shape_hub.demo.estimate import Countdown, Speeds, calibrate, in_words
from gan2shape_hub.demo.line import Line
from gan2shape_hub.demo.shelf import DemoError
from gan2shape_hub.demo.subject import draw_sample, prepare_photograph
from gan2shape_hub.demo.work import Finished, reconstruct, steps_of_run
from gan2shape_hub.errors import Cancelled
from gan2shape_hub.plan import Abilities, Images, plan, step
from gan2shape_hub.records import Progress

pytest_plugins = ["demo_parts"]


def test_a_photograph_shows_its_crop_and_what_counts(desk, photograph):
    subject = prepare_photograph(photograph, desk.shelf.default, desk.shelf)
    assert subject.crop.size == (72, 72)
    assert subject.is_photograph
    assert np.asarray(subject.mask).min() == 255, "the central square lies inside"
    assert subject.masked.size == subject.mask.size


def test_what_lies_beyond_the_photograph_is_shown_dark(desk):
    from gan2shape_hub.demo.subject import _mask
    from gan2shape_hub.records import Alignment

    photo = Image.new("RGB", (100, 80), (200, 150, 100))
    cut = Alignment(photo, photo.resize((64, 64)), np.array([[80.0, 0, 40], [0, 80.0, 0]]))
    mask = np.asarray(_mask(cut, tiny_config()))
    # The square reaches from x = 40 to 120 of a photograph that ends at 100: its last quarter is not there.
    assert mask[:, : int(256 * 0.74)].min() == 255
    assert mask[:, int(256 * 0.76) :].max() == 0


def test_bad_photographs_are_one_sentence_without_our_paths(desk, tmp_path):
    broken = tmp_path / "secret-name.jpg"
    broken.write_bytes(b"\xff\xd8\xff\xe0 this is no picture")
    with pytest.raises(DemoError) as caught:
        prepare_photograph(broken, desk.shelf.default, desk.shelf)
    assert str(tmp_path) not in str(caught.value)
    assert str(caught.value).startswith("The photograph")


def test_seeds_and_varieties_are_checked(desk):
    for seed, variety in ((-1, None), (2**63, None), (1, 1.5), (1, float("nan"))):
        with pytest.raises(DemoError, match="must be"):
            draw_sample(desk.shelf.default, desk.shelf, seed, variety)
    a, b = (draw_sample(desk.shelf.default, desk.shelf, 3) for _ in range(2))
    assert np.array_equal(a.crop, b.crop)


def test_the_line_is_first_come_first_served_and_bounded():
    line = Line(max_waiting=2)
    tickets = [line.enter() for _ in range(3)]
    assert [line.ahead(t) for t in tickets] == [0, 1, 2]
    with pytest.raises(DemoError, match="waiting already"):
        line.enter()
    line.leave(tickets[0])
    assert [line.ahead(t) for t in tickets[1:]] == [0, 1]
    line.leave(tickets[0])  # twice does no harm
    assert len(line) == 2


def test_runs_wait_for_each_other_and_can_stop_waiting(desk):
    subject = draw_sample(desk.shelf.default, desk.shelf, 1)
    ticket = desk.line.enter()
    session = desk.session("waiting")
    options = {"preset": "fast", "seed": 0, "tuned": False}
    stream = reconstruct(session, subject, options, desk.shelf, desk.line, desk.speeds)
    first = next(stream)
    assert first.state == "waiting"
    assert "1 before you" in first.text
    session.ask_to_stop()
    assert [item.state for item in stream][-1] == "stopped"
    assert len(desk.line) == 1, "it left the line"
    desk.line.leave(ticket)
    finished, _ = run(desk, subject)
    assert finished is not None
    assert len(desk.line) == 0


def test_a_stop_is_answered_at_once_and_keeps_the_last_preview(desk, monkeypatch):
    monkeypatch.setattr("gan2shape_hub.demo.work.PREVIEW_S", 0.0)
    subject = draw_sample(desk.shelf.default, desk.shelf, 1)
    with desk.shelf.use(desk.shelf.default) as pipeline:
        pipeline.config = dataclasses.replace(
            pipeline.config, schedules={"fast": ScheduleConfig(rounds=(RoundConfig(10**6, 0, 0),))}
        )
    session = desk.session(None)
    stream = reconstruct(
        session, subject, {"preset": "fast", "seed": 0, "tuned": False}, desk.shelf, desk.line, desk.speeds
    )
    seen = next(item for item in stream if item.previews)
    assert [label for label, _ in seen.previews] == ["reconstruction", "shape"]
    assert 0 < seen.fraction < 1
    assert seen.left_s > 0
    session.ask_to_stop()
    begun = time.perf_counter()
    rest = list(stream)
    assert time.perf_counter() - begun < 1.5  # a second, and something for a busy machine
    assert rest[-1].state == "stopped"
    assert rest[-1].previews, "the last preview stays"
    assert not any(isinstance(item, Finished) for item in rest)


def test_a_stop_does_not_wait_for_an_iteration(desk):
    subject = draw_sample(desk.shelf.default, desk.shelf, 1)
    layer, ended, other = torch.nn.Linear(4, 4), [], []

    def pipeline(item, callback, cancel):
        try:
            with stoppable(cancel):
                while True:  # seconds of work in which nobody is asked
                    layer(torch.zeros(1, 4))
        except Cancelled:
            ended.append(time.perf_counter())
            raise

    countdown = Countdown([], Speeds({"fixed": 1.0}))
    begun = time.perf_counter()
    reports = []
    for report in steps_of_run(pipeline, subject, {}, countdown, lambda: time.perf_counter() - begun > 0.5):
        reports.append(report)
        other.append(layer(torch.zeros(1, 4)))  # what others compute meanwhile goes on
    assert reports[-1].state == "stopped"
    assert 0.5 < ended[0] - begun < 2
    assert other


def test_plans_hold_every_iteration_that_a_run_makes(desk, photograph):
    subject = prepare_photograph(photograph, desk.shelf.default, desk.shelf)
    finished, _ = run(desk, subject)
    schedule = desk.shelf.config(desk.shelf.default).schedules["fast"]
    planned = plan(dataclasses.replace(schedule, tune_iterations=0), Abilities(), Images(photographs=1))
    made = {(s.step, s.iterations) for s in finished.result.report.steps}
    assert {(p.name, p.iterations) for p in planned} == made


def test_estimates_are_what_the_steps_were_measured_at(desk):
    speeds = Speeds()
    with desk.shelf.use(desk.shelf.default) as pipeline:
        calibrate(pipeline, speeds)
    assert {"fixed", "invert", "tune", "decompose", "explore", "collect", "refine"} <= set(speeds.seconds)
    assert speeds.seconds.pop("adjust") == speeds.seconds.pop("turn") == 0, (
        "this checkpoint knows no directions to turn in"
    )
    assert all(seconds > 0 for seconds in speeds.seconds.values())
    steps = [step("decompose", 10, 1), step("refine", 4, 1)]
    s = speeds.seconds
    assert speeds.of(steps) == pytest.approx(s["fixed"] + 10 * s["decompose"] + 4 * s["refine"])
    assert speeds.of([step("prior", 1)]) is None, "what was never timed is not guessed"
    speeds.learn([{"step": "refine", "iterations": 10, "seconds": 20.0}], 25.0)
    assert speeds.seconds["refine"] == 2.0
    assert speeds.seconds["fixed"] == 5.0


def test_a_run_interrupts_the_measuring_which_is_done_later(desk):
    name = desk.shelf.default
    request = SimpleNamespace(session_hash="a")
    ticket = desk.line.enter()
    assert not isinstance(desk.estimates(name, False, request), gr.Radio)
    assert desk.speeds(name).seconds == {}, "nothing is half measured"
    desk.line.leave(ticket)
    shown = [label for label, _ in desk.estimates(name, False, request).choices]
    assert shown[0].startswith("fast · about")
    assert "tune" not in desk.speeds(name).seconds, "what is not asked for is not measured"
    desk.estimates(name, True, request)
    assert desk.speeds(name).seconds["tune"] > 0


def test_the_countdown_learns_from_the_run(monkeypatch):
    now = [0.0]
    monkeypatch.setattr(time, "perf_counter", lambda: now[0])
    steps = [step("decompose", 10, 1), step("refine", 10, 1), step("refine", 10, 2)]
    countdown = Countdown(steps, Speeds({"fixed": 1.0, "decompose": 1.0, "refine": 2.0}))
    assert countdown.planned_s == 51

    def progress(name, round_index, iteration):
        return Progress(name, name, round_index, 2, iteration, 10, 0.0, 0.0, lambda: None)

    now[0] = 11.0
    fraction, left = countdown.left(progress("decompose", 0, 10))
    assert fraction == pytest.approx(11 / 51)
    assert left == pytest.approx(40.0)
    now[0] = 82.0  # twice as slow as planned
    _, slower = countdown.left(progress("refine", 1, 5))
    assert 14 < slower < 20
    assert countdown.left(progress("refine", 1, 10)) == (1.0, 0.0)


def test_durations_are_told_as_people_do():
    assert [in_words(s) for s in (0.2, 7.4, 43, 89, 125, 7000)] == ["1 s", "7 s", "45 s", "90 s", "2 min", "1.9 h"]
