"""What is reconstructed, the line in front of it, how long it takes."""

import dataclasses
import threading
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
from gan2shape_hub.demo.desk import MAX_WAITING, QUALITY
from gan2shape_hub.demo.faces import FOLDER
from gan2shape_hub.demo.results import Finished
from gan2shape_hub.demo.runs import Countdown, Order, Speeds, stream
from gan2shape_hub.demo.visitors import DemoError
from gan2shape_hub.errors import Cancelled
from gan2shape_hub.plan import Images, in_words, step
from gan2shape_hub.records import Progress
from gan2shape_hub.run import StepRecord

pytest_plugins = ["demo_parts"]


def test_a_photograph_shows_its_crop_and_what_counts(desk, photograph):
    subject = desk.shelf.photograph(photograph, desk.shelf.default)
    assert subject.crop.size == (72, 72)
    assert subject.is_photograph
    assert np.asarray(subject.mask).min() == 255, "the central square lies inside"
    assert subject.masked.size == subject.mask.size


def test_what_lies_beyond_the_photograph_is_shown_dark(desk):
    from gan2shape_hub.demo.shelf import _mask
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
        desk.shelf.photograph(broken, desk.shelf.default)
    assert str(tmp_path) not in str(caught.value)
    assert str(caught.value).startswith("the photograph")


def test_seeds_and_varieties_are_checked(desk):
    for seed, variety in ((-1, None), (2**63, None), (1, 1.5), (1, float("nan"))):
        with pytest.raises(DemoError, match="must be"):
            desk.shelf.drawn(desk.shelf.default, seed, variety)
    a, b = (desk.shelf.drawn(desk.shelf.default, 3) for _ in range(2))
    assert np.array_equal(a.crop, b.crop)


def order_of(desk, name, request, **options):
    """What the page's button orders for the visitor ``name``: (card, request)."""
    request = request or SimpleNamespace(session_hash=name)
    desk.session(request).subject = desk.shelf.drawn(desk.shelf.default, 1)
    return desk.begin(options.pop("preset", "fast"), 0, False, desk.shelf.default, request)[0], request


def test_the_line_is_bounded_and_tells_who_is_before(desk):
    cards = [order_of(desk, f"visitor {k}", None)[0] for k in range(MAX_WAITING + 1)]
    assert "Starting" in cards[0]
    assert "2 before you" in cards[2]
    with pytest.raises(gr.Error, match="waiting already"):
        order_of(desk, "one too many", None)
    desk.workspace.close("visitor 3")  # a visitor who leaves makes room
    order_of(desk, "one too many", None)


def test_an_order_can_be_withdrawn_while_it_waits(desk):
    _, request = order_of(desk, "waiting", None)
    assert "Stopped waiting" in desk.stop(request)[0]
    assert desk.workspace.waiting() == 0, "it left the line"
    assert list(desk.run(request)) == [], "Gradio's queue comes to it all the same"
    order_of(desk, "waiting", request)
    states = [state for card, *_ in desk.run(request) for state in ("stopped", "done") if f'"{state}"' in card]
    assert states == ["done"]
    assert desk.workspace.waiting() == 0
    assert list(desk.run(request)) == [], "an order is carried out once"


def test_an_example_is_there_at_once_and_is_reconstructed_when_that_is_asked_for(desk):
    request = SimpleNamespace(session_hash="a")
    view, surface, *_ = desk.example_shown("boy", request)
    assert [value for _, value in surface.choices] == ["Textured", "Shape"], "what was made beforehand"
    bare = desk.surface("Shape", request)
    assert (view["src"], bare["src"]) == ("/gan2shape/examples/boy.glb", "/gan2shape/examples/boy-shape.glb")
    crop, *_ = desk.example_prepared("boy", desk.shelf.default, request)
    subject = desk.session(request).subject
    assert subject.is_photograph, "this checkpoint draws somebody else for the seed"
    assert Image.open(crop).size == subject.crop.size
    desk.begin("fast", 0, False, desk.shelf.default, SimpleNamespace(session_hash="b"))
    first = desk.session(SimpleNamespace(session_hash="b")).order.subject
    assert first.name == desk.offered.faces[0].photograph, "the one that the page opens on"


def test_every_example_has_its_files_and_a_licence(desk):
    files = {path.name for path in FOLDER.iterdir()}
    for face in desk.offered.faces:
        assert {face.file("jpg"), face.file("glb"), face.file("shape.glb")} <= files
        assert not face.photograph or face.photograph in files
        assert face.licence
    assert sum(path.stat().st_size for path in FOLDER.iterdir()) < 3_000_000


def test_adapting_to_the_person_takes_a_preset_that_searches_for_one(desk, photograph):
    request = SimpleNamespace(session_hash="a")
    desk.session(request).subject = desk.shelf.photograph(photograph, desk.shelf.default)
    with desk.shelf.use(desk.shelf.default) as pipeline:
        fast = pipeline.config.schedules["fast"]
        guess = dataclasses.replace(fast, invert_iterations=0)
        pipeline.config = dataclasses.replace(pipeline.config, schedules={"instant": guess, "fast": fast})
        desk.shelf._configs[desk.shelf.default] = pipeline.config
        desk.adapt("instant", 0, desk.shelf.default, request)
    order = desk.session(request).order
    assert (order.options["preset"], order.options["tuned"]) == ("fast", True)


def test_one_run_at_a_time(desk):
    subject = desk.shelf.drawn(desk.shelf.default, 1)
    with desk.workshop.at_work:
        waiting = threading.Thread(target=lambda: finished.append(run(desk, subject)[0]))
        finished = []
        waiting.start()
        waiting.join(0.3)
        assert waiting.is_alive()
    waiting.join(60)
    assert finished[0] is not None


def test_a_stop_is_answered_at_once_and_keeps_the_last_preview(desk, monkeypatch):
    monkeypatch.setattr("gan2shape_hub.demo.runs.PREVIEW_S", 0.0)
    subject = desk.shelf.drawn(desk.shelf.default, 1)
    with desk.shelf.use(desk.shelf.default) as pipeline:
        pipeline.config = dataclasses.replace(
            pipeline.config, schedules={"fast": ScheduleConfig(rounds=(RoundConfig(10**6, 0, 0),))}
        )
    order = Order.of(desk.session(None), subject, "fast", 0, False)
    reports = desk.workshop.run(order)
    seen = next(item for item in reports if item.previews)
    assert [label for label, _ in seen.previews] == ["reconstruction", "shape"]
    assert 0 < seen.fraction < 1
    assert seen.left_s > 0
    order.stop()
    begun = time.perf_counter()
    rest = list(reports)
    assert time.perf_counter() - begun < 1.5  # a second, and something for a busy machine
    assert rest[-1].state == "stopped"
    assert rest[-1].previews, "the last preview stays"
    assert not any(isinstance(item, Finished) for item in rest)


def test_a_stop_does_not_wait_for_an_iteration(desk, tmp_path):
    subject = desk.shelf.drawn(desk.shelf.default, 1)
    layer, ended, other = torch.nn.Linear(4, 4), [], []

    def pipeline(item, callback, cancel, **options):
        try:
            with stoppable(cancel):
                while True:  # seconds of work in which nobody is asked
                    layer(torch.zeros(1, 4))
        except Cancelled:
            ended.append(time.perf_counter())
            raise

    order, reports = Order(subject, {}, tmp_path / "stop"), []
    begun = time.perf_counter()
    threading.Timer(0.5, order.stop).start()
    for report in stream(pipeline, order, Countdown([], Speeds({"fixed": 1.0}))):
        reports.append(report)
        other.append(layer(torch.zeros(1, 4)))  # what others compute meanwhile goes on
    assert reports[-1].state == "stopped"
    assert 0.5 < ended[0] - begun < 2
    assert other


def test_plans_hold_every_iteration_that_a_run_makes(desk, photograph):
    subject = desk.shelf.photograph(photograph, desk.shelf.default)
    finished, _ = run(desk, subject)
    with desk.shelf.use(desk.shelf.default) as pipeline:
        planned = pipeline.plan(Images(photographs=1), preset="fast")
    made = {(s.step, s.iterations) for s in finished.result.report.steps}
    assert {(p.name, p.iterations) for p in planned} == made


def test_estimates_are_what_the_steps_were_measured_at(desk):
    name = desk.shelf.default
    before, after = desk.workshop.estimates(name, photograph=True, tuned=True)
    assert before == {"fast": None}, "said at once"
    speeds = desk.workshop.speeds(name, "fast", True)
    assert {"fixed", "invert", "tune", "decompose", "explore", "collect", "refine"} == set(speeds.seconds)
    assert all(seconds > 0 for seconds in speeds.seconds.values())
    with desk.shelf.use(name) as pipeline:
        assert after["fast"] == speeds.of(pipeline.plan(Images(photographs=1), preset="fast", tuned=True))
    steps = [step("decompose", 10), step("refine", 4)]
    s = speeds.seconds
    assert speeds.of(steps) == pytest.approx(s["fixed"] + 10 * s["decompose"] + 4 * s["refine"])
    assert speeds.of([step("prior", 1)]) is None, "what was never timed is not guessed"
    generated = dict(desk.workshop.speeds(name, "fast", False).seconds)
    speeds.learn(SimpleNamespace(steps=[StepRecord("refine", 1, 10, 0.0, 0.0, 20.0)]), 25.0)
    assert speeds.seconds["refine"] == 2.0
    assert speeds.seconds["fixed"] == 5.0
    assert desk.workshop.speeds(name, "fast", False).seconds == generated, "another kind of picture"


def test_a_run_interrupts_the_measuring_which_is_done_later(desk):
    name = desk.shelf.default
    request = SimpleNamespace(session_hash="a")
    with desk.workshop.at_work:
        radios = list(desk.estimates(name, False, request))
    assert "Measuring" in radios[0].info
    assert radios[-1].info == QUALITY
    assert desk.workshop.speeds(name, "fast", False).seconds == {}, "nothing is half measured"
    *_, last = desk.estimates(name, False, request)
    assert last.choices[0][0].startswith("fast · about")
    assert "a photograph" in last.info, "as the example that the page opens on"
    assert "tune" not in desk.workshop.speeds(name, "fast", True).seconds, "what is not asked for is not measured"
    list(desk.estimates(name, True, request))
    assert desk.workshop.speeds(name, "fast", True).seconds["tune"] > 0


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
