"""What stands behind the page, without a browser and without a server."""

import dataclasses
import io
import json
import shlex
import threading
import time
from pathlib import Path

import gradio as gr
import numpy as np
import pytest
import torch
from conftest import tiny_config, tiny_pipeline
from PIL import Image

from gan2shape_hub.config import RoundConfig, ScheduleConfig
from gan2shape_hub.demo import edits, files
from gan2shape_hub.demo.desk import Desk
from gan2shape_hub.demo.edits import BallLight
from gan2shape_hub.demo.estimate import Countdown, Planned, Speeds, calibrate, in_words, plan
from gan2shape_hub.demo.line import Line
from gan2shape_hub.demo.messages import told
from gan2shape_hub.demo.quick import QuickLook, ball_of_preset, light_from_ball
from gan2shape_hub.demo.shelf import DemoError, Shelf, listed_checkpoints
from gan2shape_hub.demo.subject import draw_sample, prepare_photograph
from gan2shape_hub.demo.work import Finished, Report, reconstruct
from gan2shape_hub.demo.workspace import Workspace
from gan2shape_hub.records import Progress
from gan2shape_hub.results.edit import LIGHT_PRESETS, preset_light

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    return str(tiny_pipeline().save_pretrained(tmp_path_factory.mktemp("checkpoints") / "tiny"))


@pytest.fixture
def desk(tmp_path, checkpoint):
    return Desk(Workspace(tmp_path), Shelf([checkpoint]))


def run(desk, subject, **options):
    """(Finished or None, reports) of a run."""
    session = desk.session(None)
    options = {"preset": "fast", "seed": 0, "tuned": False, **options}
    items = list(reconstruct(session, subject, options, desk.shelf, desk.line, desk.speeds))
    finished = items[-1] if isinstance(items[-1], Finished) else None
    return finished, [item for item in items if isinstance(item, Report)]


@pytest.fixture
def photograph(tmp_path):
    path = tmp_path / "portrait.png"
    noise = np.random.default_rng(0).integers(0, 255, (6, 8, 3), dtype=np.uint8)
    Image.fromarray(noise).resize((96, 72), Image.Resampling.BICUBIC).save(path)
    return path


# -- visitors ----------------------------------------------------------------------------------------------------------


def test_a_closed_session_leaves_nothing(tmp_path):
    space = Workspace(tmp_path)
    session, other = space.session("a"), space.session("b")
    shared, own = tmp_path / "upload1" / "x.jpg", tmp_path / "upload2" / "y.jpg"
    for path in (shared, own):
        path.parent.mkdir()
        path.write_bytes(b"photograph")
    space.own(session, shared)
    space.own(session, own)
    space.own(other, shared)
    (session.folder / "relit-1.jpg").write_bytes(b"picture")
    space.close("a")
    assert not session.folder.exists()
    assert not own.exists()
    assert not own.parent.exists()
    assert shared.exists(), "another visitor uploaded the same picture and still sees it"
    assert session.stop_wanted(), "its run ends"
    space.close("b")
    assert not shared.exists()
    assert list(tmp_path.iterdir()) == []


def test_sessions_without_a_sign_of_life_are_swept(tmp_path):
    space = Workspace(tmp_path, lifetime_s=0.2)
    silent = space.session("silent")
    time.sleep(0.25)
    lively = space.session("lively")
    space.sweep()
    assert not silent.folder.exists()
    assert lively.folder.exists()
    deadline = time.monotonic() + 10
    while lively.folder.exists() and time.monotonic() < deadline:  # and nobody has to call sweep
        time.sleep(0.05)
    assert not lively.folder.exists()


def test_folders_cannot_be_guessed_and_are_private(tmp_path):
    space = Workspace(tmp_path)
    folder = space.session("a").folder
    assert folder.name.removeprefix("session-") != "a"
    assert len(folder.name) > 32
    assert folder.stat().st_mode & 0o077 == 0


def test_versions_of_a_file_have_names_of_their_own_and_old_ones_go(tmp_path):
    session = Workspace(tmp_path).session("a")
    seen = []
    for k in range(12):
        path = session.new_file("relit.jpg")
        path.write_text(str(k))
        seen.append(path)
    assert len(set(seen)) == 12
    assert len(list(session.folder.iterdir())) <= 4
    assert seen[-1].exists()


# -- checkpoints -------------------------------------------------------------------------------------------------------


def test_one_checkpoint_in_memory_at_a_time(tmp_path):
    for name in ("one", "two"):
        tiny_pipeline().save_pretrained(tmp_path / name)
    loaded = []

    def load(name):
        loaded.append(name)
        from gan2shape_hub import GAN2ShapePipeline

        return GAN2ShapePipeline.from_pretrained(name, device="cpu")

    one, two = str(tmp_path / "one"), str(tmp_path / "two")
    shelf = Shelf([one, two], load)
    assert loaded == [], "nothing is loaded before it is needed"
    with shelf.use(one), shelf.use(one):
        assert loaded == [one]
        with pytest.raises(DemoError, match="another visitor"), shelf.use(two, patience_s=0.05):
            pass
        waited = []
        thread = threading.Thread(target=lambda: waited.append(shelf.use(two).__enter__()))
        thread.start()
        time.sleep(0.1)
        assert not waited, "the one in use is not dropped"
    thread.join(20)
    assert shelf.loaded == two
    assert loaded == [one, two]


def test_a_checkpoint_that_fails_explains_itself(tmp_path, checkpoint):
    shelf = Shelf([checkpoint])
    with pytest.raises(DemoError, match=r"is not a folder|network|Hub"):
        shelf.config("nobody/nothing-of-that-name")
    broken = tmp_path / "broken"
    broken.mkdir()
    (broken / "config.json").write_text("{")
    with pytest.raises(DemoError, match=r"config\.json"):
        shelf.config(str(broken))
    with shelf.use(checkpoint) as pipeline:  # and the shelf still works
        assert pipeline.config.category == "face"


def test_visitors_of_a_space_cannot_name_folders(tmp_path, checkpoint, monkeypatch):
    monkeypatch.setenv("SPACE_ID", "someone/space")
    shelf = Shelf([checkpoint])
    for name in ("/etc", "~", "./checkpoints", str(tmp_path)):
        with pytest.raises(DemoError, match="not offered"):
            shelf.config(name)
    assert shelf.config(checkpoint).category == "face"


def test_the_variable_lists_checkpoints(monkeypatch):
    monkeypatch.setenv("GAN2SHAPE_CHECKPOINTS", "org/cats, /data/cars ,")
    assert listed_checkpoints() == ["org/cats", "/data/cars"]
    monkeypatch.delenv("GAN2SHAPE_CHECKPOINTS")
    assert listed_checkpoints() == [str(ROOT / "checkpoints" / "face")]


def test_presets_are_the_configurations_and_never_the_papers(tmp_path):
    schedule = ScheduleConfig()
    for names, offered in ((("paper", "balanced", "fast"), ["fast", "balanced"]), (("own",), ["own"])):
        folder = tmp_path / names[0]
        config = tiny_config(schedules={name: schedule for name in names}, default_preset=names[0])
        pipeline = tiny_pipeline()
        pipeline.config = config
        pipeline.save_pretrained(folder)
        assert Desk(Workspace(tmp_path), Shelf([str(folder)])).presets(str(folder)) == offered


# -- what is reconstructed ---------------------------------------------------------------------------------------------


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


# -- the line ----------------------------------------------------------------------------------------------------------


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
    assert time.perf_counter() - begun < 5  # a second on an idle machine: tests/app/test_page.py
    assert rest[-1].state == "stopped"
    assert rest[-1].previews, "the last preview stays"
    assert not any(isinstance(item, Finished) for item in rest)


# -- estimates ---------------------------------------------------------------------------------------------------------


def test_plans_hold_every_iteration_that_a_run_makes(desk, photograph):
    subject = prepare_photograph(photograph, desk.shelf.default, desk.shelf)
    finished, _ = run(desk, subject)
    schedule = desk.shelf.config(desk.shelf.default).schedules["fast"]
    planned = plan(schedule, photograph=True, tuned=False, pretrained=True)
    made = {(s["step"], s["iterations"]) for s in finished.result.settings["steps"]}
    assert {(p.step, p.iterations) for p in planned} - {("fixed", 1)} == made


def test_estimates_are_what_the_steps_were_measured_at(desk):
    speeds = Speeds()
    with desk.shelf.use(desk.shelf.default) as pipeline:
        calibrate(pipeline, speeds)
    assert {"fixed", "invert", "tune", "decompose", "explore", "collect", "refine"} <= set(speeds.seconds)
    assert all(seconds > 0 for seconds in speeds.seconds.values())
    steps = [Planned("fixed", 0, 1), Planned("decompose", 1, 10), Planned("refine", 1, 4)]
    s = speeds.seconds
    assert speeds.of(steps) == pytest.approx(s["fixed"] + 10 * s["decompose"] + 4 * s["refine"])
    assert speeds.of([Planned("prior", 0, 1)]) is None, "what was never timed is not guessed"
    speeds.learn([{"step": "refine", "iterations": 10, "seconds": 20.0}], 25.0)
    assert speeds.seconds["refine"] == 2.0
    assert speeds.seconds["fixed"] == 5.0


def test_the_countdown_learns_from_the_run(monkeypatch):
    now = [0.0]
    monkeypatch.setattr(time, "perf_counter", lambda: now[0])
    steps = [Planned("fixed", 0, 1), Planned("decompose", 1, 10), Planned("refine", 1, 10), Planned("refine", 2, 10)]
    countdown = Countdown(steps, Speeds({"fixed": 1.0, "decompose": 1.0, "refine": 2.0}))
    assert countdown.planned_s == 51

    def progress(step, round_index, iteration):
        return Progress(step, round_index, 2, iteration, 10, 0.0, 0.0, lambda: None)

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


# -- edits -------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def finished(tmp_path_factory, checkpoint):
    desk = Desk(Workspace(tmp_path_factory.mktemp("space")), Shelf([checkpoint]))
    result, _ = run(desk, draw_sample(checkpoint, desk.shelf, 5))
    return result, desk


def test_results_do_not_hold_the_checkpoint(finished):
    result, desk = finished
    assert result.result.editor is None
    with desk.shelf.use(result.checkpoint) as pipeline:
        assert result.with_editor(pipeline).editor.generator is pipeline.generator


@pytest.mark.parametrize("name", LIGHT_PRESETS)
def test_quick_relighting_agrees_with_the_library(finished, name):
    whole = finished[0].result
    quick = QuickLook(whole, 64).relight(light_from_ball(*ball_of_preset(name), like=whole.depth))
    library = whole.relight(preset_light(name), size=64)
    difference = np.abs(np.asarray(quick, float) - np.asarray(library, float))
    assert difference.mean() < 1.0, "grey levels of 255"
    assert difference.max() < 24


def test_the_light_comes_from_where_the_ball_says():
    light = light_from_ball(-0.6, 0.3, 0.4, 0.8)
    x, y, z = light.direction[0].tolist()
    assert x > 0, "from the left, rays travel to the right"
    assert y > 0, "from above, rays travel down"
    assert z > 0
    assert float(light.direction.norm()) == pytest.approx(1.0, abs=1e-6)
    beyond = light_from_ball(-3.0, 0.0, 0.4, 0.8).direction[0]
    assert float(beyond[2]) > 0.2, "never from behind"
    for name in LIGHT_PRESETS:
        ours = light_from_ball(*ball_of_preset(name)).direction
        assert torch.allclose(ours, preset_light(name).direction, atol=2e-2)


def test_edits_are_checked(finished):
    result, _ = finished
    with pytest.raises(DemoError, match="within"):
        edits.turned(result, 500, 0)
    with pytest.raises(DemoError, match="finite"):
        edits.turned(result, float("nan"), 0)
    with pytest.raises(DemoError, match="0 or more"):
        edits.relit(result, BallLight(0, 0, -1, 1))
    with pytest.raises(DemoError, match="no photograph"):
        edits.relit_in_photograph(result, BallLight(0, 0, 0.4, 0.8))
    pictures = edits.strip(result)
    assert [caption for _, caption in pictures][2] == "front"
    assert len({np.asarray(picture).tobytes() for picture, _ in pictures}) == edits.STRIP


def test_threads_are_given_back():
    before = torch.get_num_threads()
    with edits.one_thread():
        assert torch.get_num_threads() == 1
    assert torch.get_num_threads() == before


def test_pasting_changes_the_square_alone(desk, photograph):
    subject = prepare_photograph(photograph, desk.shelf.default, desk.shelf)
    result, _ = run(desk, subject)
    whole = np.asarray(edits.relit_in_photograph(result, BallLight(0.9, 0, 0.2, 1.0)).convert("RGB"), int)
    before = np.asarray(Image.open(photograph).convert("RGB"), int)
    assert whole.shape == before.shape
    assert np.abs(whole - before)[:, 12:84].max() > 10
    assert np.array_equal(whole[:, :12], before[:, :12])


# -- files -------------------------------------------------------------------------------------------------------------


def test_the_settings_repeat_the_run_from_the_command_line(finished, tmp_path, monkeypatch):
    result, _ = finished
    path = tmp_path / "settings.json"
    files.settings(result, path)
    words = shlex.split(json.loads(path.read_text())["command"])
    assert words[:2] == ["python", "scripts/reconstruct.py"]
    monkeypatch.syspath_prepend(str(ROOT / "scripts"))
    monkeypatch.chdir(tmp_path)
    import reconstruct as script

    assert script.main([*words[2:], "--no-turntable", "--quiet"]) == 0
    again = np.load(tmp_path / "out" / "depth.npy")
    assert np.allclose(again, result.result.view_depth.numpy(), atol=1e-6)


def test_the_command_names_photographs_faces_and_options(desk, photograph):
    subject = prepare_photograph(photograph, desk.shelf.default, desk.shelf, align=False, name="my photo.jpg")
    result, _ = run(desk, subject, tuned=True, seed=4)
    words = shlex.split(files.command(result))
    assert words[2] == "my photo.jpg"
    assert {"--no-align", "--tune"} <= set(words)
    assert words[words.index("--run-seed") + 1] == "4"
    assert result.own_generator is not None, "what was adapted stays with the result"


def test_files_are_made_once_and_go_with_the_next_result(finished, tmp_path):
    result, _ = finished
    first = files.file_of(result, tmp_path, files.DOWNLOADS[0])
    when = first.stat().st_mtime_ns
    assert files.file_of(result, tmp_path, files.DOWNLOADS[0]).stat().st_mtime_ns == when
    files.forget_older(dataclasses.replace(result, id="next"), tmp_path)
    assert not first.exists()
    made = list(files.make_all(result, tmp_path, lambda: False))
    assert made == [], "nothing is made for who has left"


def test_the_viewers_model_is_lighter_in_both_senses(finished, tmp_path):
    import pygltflib

    result = finished[0].result
    # Random networks' relief is so rough that most of its cells are cut out, which says nothing of real ones.
    smooth = 1 - 0.02 * torch.hann_window(result.depth.shape[-1])[None, :, None].expand_as(result.scene.depth)
    result = dataclasses.replace(result, scene=dataclasses.replace(result.scene, depth=smooth))
    smooth_one = dataclasses.replace(finished[0], id="smooth", result=result, cache={})
    view = pygltflib.GLTF2().load(str(files.viewer_file(smooth_one, tmp_path)))
    whole = pygltflib.GLTF2().load(str(files.file_of(smooth_one, tmp_path, files.DOWNLOADS[0])))
    assert "KHR_materials_unlit" in view.extensionsUsed
    assert "KHR_materials_unlit" not in (whole.extensionsUsed or [])
    assert view.accessors[0].count < whole.accessors[0].count


# -- messages ----------------------------------------------------------------------------------------------------------


def test_errors_are_told_without_details_in_the_log(capsys):
    @told
    def known():
        raise DemoError("the seed is -1, must be 0 or more.")

    @told
    def unknown():
        raise RuntimeError("visitor/private.jpg")

    @told
    def streaming():
        yield 1
        raise DemoError("stopped.")

    with pytest.raises(gr.Error, match="The seed is -1"):
        known()
    with pytest.raises(gr.Error, match="Something went wrong") as caught:
        unknown()
    assert "private" not in str(caught.value)
    log = capsys.readouterr()
    assert "RuntimeError" in log.err
    assert "private" not in log.err + log.out
    stream = streaming()
    assert next(stream) == 1
    with pytest.raises(gr.Error, match="Stopped"):
        next(stream)


def test_the_card_escapes_what_it_is_told():
    from gan2shape_hub.demo.markup import progress_card

    card = progress_card(Report("running", "<script>", 0.5, 30.0, (("shape", Image.new("RGB", (8, 8))),)))
    assert "<script>" not in card
    assert 'aria-valuenow="50"' in card
    assert "about 30 s left" in card
    assert 'alt="Preview of the shape"' in card


def test_pictures_for_the_page_carry_no_exif():
    # Photographs carry places and names in their EXIF; what is written for the page is made of pixels alone.
    exif = Image.Exif()
    exif[0x010E] = "a private remark"
    data = io.BytesIO()
    Image.new("RGB", (64, 64)).save(data, "JPEG", exif=exif)
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "photo.jpg"
        path.write_bytes(data.getvalue())
        space = Workspace(Path(folder))
        from gan2shape_hub.stages.prepare import load_image

        written = Desk._picture(space.session("a"), "crop.jpg", load_image(path))
        assert b"private remark" not in Path(written).read_bytes()
        space.close("a")
