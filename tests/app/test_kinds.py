"""Public weights that the page fetches, against a server on localhost."""

from __future__ import annotations

import threading

import gradio as gr
import pytest
from file_server import FileServer
from huggingface_hub import constants
from huggingface_hub.utils import _cache_assets
from pickled import SIZE, graph_pickle

from gan2shape_hub.conversion.public import PUBLIC, STYLEGAN2, PublicWeights
from gan2shape_hub.demo.kinds import Kinds
from gan2shape_hub.demo.shelf import Shelf

pytest_plugins = ["demo_parts"]


@pytest.fixture
def weights(tmp_path, monkeypatch):
    """A network behind an address, which the table knows as "tiny-things"; the server stands beside it."""
    graph_pickle(tmp_path / "net.pkl")
    monkeypatch.setenv("GAN2SHAPE_CHECKPOINT", "nobody/nothing")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(_cache_assets, "HF_ASSETS_CACHE", str(tmp_path / "cache"))
    with FileServer({"/net.pkl": (tmp_path / "net.pkl").read_bytes()}) as server:
        one = PublicWeights("tiny-things", "Tiny <things>", "car", f"{server.url}/net.pkl", SIZE, 1, STYLEGAN2, "CC0.")
        monkeypatch.setitem(PUBLIC, one.name, one)
        yield one, server


def test_what_was_fetched_can_be_chosen_and_is_there_after_a_restart(weights, checkpoint, tmp_path):
    one, server = weights
    shelf = Shelf([checkpoint])
    kinds = Kinds(shelf, [one], tmp_path / "kinds")
    text, accepted = kinds.terms(one.name)
    assert STYLEGAN2.link in text
    assert not accepted
    *_, (note, dropdown) = kinds.fetch(one.name, True)
    assert "Tiny &lt;things&gt;" in note
    assert dropdown.value == one.name
    assert shelf.listed == ["tiny", one.name]
    assert shelf.config(one.name).category == "car"
    assert shelf.presets(one.name)[0]
    with shelf.use(one.name) as pipeline:
        assert pipeline.generator.image_size == SIZE
    asked = len(server.log)
    again = Shelf([checkpoint], only_listed=True)
    Kinds(again, [one], tmp_path / "kinds")
    assert again.listed == ["tiny", one.name]
    assert again.default == "tiny"
    assert len(server.log) == asked


def test_nothing_is_fetched_before_the_terms_are_accepted(weights, checkpoint, tmp_path):
    one, server = weights
    kinds = Kinds(Shelf([checkpoint]), [one], tmp_path / "kinds")
    for name, accepted, words in ((None, True, "Choose"), (one.name, False, "tick the box")):
        with pytest.raises(gr.Error, match=words):
            list(kinds.fetch(name, accepted))
    assert server.log == []


def test_trouble_is_told_and_the_next_attempt_works(weights, checkpoint, tmp_path):
    one, server = weights
    shelf = Shelf([checkpoint])
    kinds = Kinds(shelf, [one], tmp_path / "kinds")
    server.statuses.append(404)
    with pytest.raises(gr.Error, match="404"):
        list(kinds.fetch(one.name, True))
    assert shelf.listed == ["tiny"]
    assert not (tmp_path / "kinds" / one.name).exists()
    list(kinds.fetch(one.name, True))
    assert shelf.listed == ["tiny", one.name]


def test_one_at_a_time(weights, checkpoint, tmp_path):
    one, server = weights
    asked, answer = threading.Event(), threading.Event()

    class Slow(dict):
        def __getitem__(self, path):
            asked.set()
            answer.wait(20)
            return super().__getitem__(path)

    server.files = Slow(server.files)
    kinds = Kinds(Shelf([checkpoint]), [one], tmp_path / "kinds")
    first = kinds.fetch(one.name, True)
    assert "Fetching" in next(first)[0]
    assert asked.wait(20)
    with pytest.raises(gr.Error, match="already"):
        list(kinds.fetch(one.name, True))
    answer.set()
    *_, (note, _) = first
    assert "can be chosen" in note


def test_pages_without_offers_have_no_such_part(desk):
    from gan2shape_hub.demo.page import build

    assert not desk.kinds.weights
    names = {getattr(block, "elem_id", None) for block in build(desk).blocks.values()}
    assert "kinds" not in names
    assert "checkpoint" in names


def test_visitors_from_elsewhere_learn_nothing_of_this_machine(weights, checkpoint, tmp_path):
    one, _ = weights
    (tmp_path / "kinds").write_text("a file where the folder should be")
    kinds = Kinds(Shelf([checkpoint], only_listed=True), [one], tmp_path / "kinds")
    with pytest.raises(gr.Error) as said:
        list(kinds.fetch(one.name, True))
    assert str(tmp_path) not in str(said.value)
    assert "cannot be had at present" in str(said.value)
    with pytest.raises(gr.Error, match="Choose"):
        list(kinds.fetch("/etc/passwd", True))
    assert kinds.shelf.listed == ["tiny"]
