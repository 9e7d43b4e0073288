"""The checkpoints that can be chosen."""

import threading
import time
from pathlib import Path

import pytest
from conftest import tiny_config, tiny_pipeline
from PIL import Image

from gan2shape_hub.config import ScheduleConfig
from gan2shape_hub.demo.shelf import TROUBLE, Shelf, listed_checkpoints
from gan2shape_hub.demo.visitors import DemoError

pytest_plugins = ["demo_parts"]

ROOT = Path(__file__).resolve().parents[2]


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
    assert shelf.loaded == "two"
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


def test_visitors_from_elsewhere_name_what_is_listed_and_learn_nothing_of_the_rest(tmp_path, checkpoint, monkeypatch):
    monkeypatch.setattr("gan2shape_hub.hub.resolve", lambda name, **_: Path(name))  # nothing else may be looked for
    shelf = Shelf([checkpoint], only_listed=True)
    (tmp_path / "file").write_text("{}")
    said = set()
    for name in ("/etc", "~", str(tmp_path), str(tmp_path / "file"), str(tmp_path / "none"), checkpoint, "org/name"):
        for asked in (shelf.config, lambda name: shelf.drawn(name, 1), lambda name: shelf.use(name).__enter__()):
            with pytest.raises(DemoError) as told:
                asked(name)
            said.add(str(told.value).replace(name, "NAME"))
    assert said == {"'NAME' is not offered here: take one of tiny."}
    assert shelf.config("tiny").category == "face"
    assert shelf.drawn("", 1).checkpoint == "tiny"


def test_checkpoints_have_public_names_of_their_own(tmp_path):
    for name in ("one", "two"):
        tiny_pipeline().save_pretrained(tmp_path / name / "cats")
    shelf = Shelf([str(tmp_path / "one" / "cats"), str(tmp_path / "two" / "cats"), "org/dogs"], only_listed=True)
    assert shelf.listed == ["cats", "cats-2", "org/dogs"]
    assert shelf.config("cats-2").category == "face"
    (tmp_path / "two" / "cats" / "config.json").write_text("{")
    broken = Shelf([str(tmp_path / "two" / "cats")], only_listed=True)
    with pytest.raises(DemoError, match=r"^the category 'cats' cannot be loaded: tell the people who run this page\.$"):
        broken.config("cats")


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
        assert Shelf([str(folder)]).presets(str(folder)) == (offered, names[0] if names[0] in offered else offered[0])


def test_a_visitor_is_told_how_small_a_face_was_looked_for_and_no_address_is_fetched(tmp_path):
    name = str(tiny_pipeline(align="face").save_pretrained(tmp_path / "face"))
    shelf = Shelf([name], lambda _: pytest.fail("the weights are not needed"))
    Image.new("RGB", (80, 60), "white").save(tmp_path / "white.png")
    with pytest.raises(DemoError, match="no face of 40 pixels or larger was found in the photograph: take one"):
        shelf.photograph(tmp_path / "white.png", name)
    with pytest.raises(DemoError, match="cannot be used: take another one"):
        shelf.photograph("http://127.0.0.1:9/white.png", name)
    for code, told in TROUBLE.items():
        assert told.format(smallest_px=40.0).endswith("."), code
