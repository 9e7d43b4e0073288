"""The pictures and tables of the pages, at tiny size."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
from conftest import tiny_pipeline
from PIL import Image

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module", autouse=True)
def scripts():
    sys.path.insert(0, str(ROOT / "scripts"))
    yield
    sys.path.remove(str(ROOT / "scripts"))


@pytest.fixture(scope="module")
def result():
    pipeline = tiny_pipeline()
    return pipeline(pipeline.sample(seed=7))


def test_a_row_shows_the_input_then_shape_mesh_and_light(result):
    from figure_parts.faces import overview_row

    row = overview_row(result, 48)
    assert [tile.label.split(",")[0] for tile in row] == ["input", *["shape"] * 4, *["mesh"] * 2, "relit from the left"]
    assert {tile.image.size for tile in row} == {(48, 48)}
    pictures = [np.asarray(tile.image, dtype=float) for tile in row]
    assert all(abs(a - b).mean() > 0.1 for i, a in enumerate(pictures) for b in pictures[:i]), "every tile is another"
    for shape in pictures[1:5]:
        assert len(np.unique(shape.reshape(-1, 3), axis=0)) <= 64
        assert np.ptp(shape, axis=-1).max() < 12, "bare shapes are grey"


def test_people_are_shown_on_white_from_all_sides(result):
    from figure_parts.people import people_rows

    first, second = people_rows([result, result], 48)
    assert [tile.label for tile in second] == ["photograph", "-50°", "-25°", "+25°", "+50°", "shape", "in other light"]
    assert {tile.label for tile in first} == {""}
    assert {tile.image.size for tile in (*first, *second)} == {(48, 48)}
    pictures = [np.asarray(tile.image, dtype=float) for tile in second]
    assert all(abs(a - b).mean() > 0.1 for i, a in enumerate(pictures) for b in pictures[:i]), "every tile is another"
    assert all((picture[0, 0] == 255).all() for picture in pictures[1:])
    assert np.ptp(pictures[5], axis=-1).max() < 12, "bare shapes are grey"
    assert not np.array_equal(pictures[6], np.asarray(first[6].image)), "each row has its own light"


def test_the_key_tells_whose_shape_is_whose():
    from figure_parts.matching import matching_rows

    people = [Image.new("RGB", (8, 8), (20 * i, 20 * i, 20 * i)) for i in range(10)]
    (shapes, inputs), key = matching_rows(people, people)
    assert [tile.label for tile in shapes] == list("ABCDEFGHIJ")
    assert [tile.label for tile in inputs] == [str(i) for i in range(1, 11)]
    assert all(inputs[key[tile.label] - 1].image.tobytes() == tile.image.tobytes() for tile in shapes)
    assert sorted(key.values()) == list(range(1, 11))
    assert list(key.values()) != sorted(key.values()), "in the order of the pictures there is nothing to match"
    assert matching_rows(people, people)[1] == key
    assert matching_rows(people, people, shuffle_seed=1)[1] != key


def test_a_shape_from_its_own_front_does_not_tell_the_pose(result):
    import dataclasses

    from figure_parts.matching import front

    view = result.scene.view.clone()
    view[:, 1] += 0.3
    turned = dataclasses.replace(result, scene=dataclasses.replace(result.scene, view=view))
    assert np.array_equal(np.asarray(front(result, 32)), np.asarray(front(turned, 32)))
    assert not np.array_equal(np.asarray(result.render(size=32)), np.asarray(turned.render(size=32)))


def face_mesh(name, preset, faces, inner=None):
    depth = {"mean": 0.9, "faces": faces} | ({} if inner is None else {"inner": inner, "inner_identity": 0.1})
    settings = {"protocol": {"preset": preset}}
    return {"name": name, "faces": faces, "settings": settings, "depth": {name: depth, "ellipsoid prior": depth}}


def test_quality_joins_what_was_measured_of_a_preset():
    from figure_parts.tables import SCAN_GROUP, quality_table

    means = {"mad_fitted_deg": 9.44, "rmse_percent": 1.4, "correlation": 0.98, "scale": 0.9}
    scans = [{"name": "fast", "means": {SCAN_GROUP: means}}, {"name": "paper", "means": {}}]
    meshes = [face_mesh("fast, 100 faces", "fast", 100, inner=0.88), face_mesh("fast", "fast", 20)]
    lines = quality_table([*meshes, face_mesh("instant", "instant", 5)], scans).splitlines()
    assert [line.split(" | ")[0].strip("| ") for line in lines[2:]] == [
        "`instant`",
        "`fast`",
        "`paper`",
        "ellipsoid prior",
    ]
    assert lines[3] == "| `fast` | 9.4° | 1.40 % | 0.980 | 0.90 | 0.900 | 0.880 | 0.10 | 100 |"
    assert lines[2] == "| `instant` |  |  |  |  | 0.900 |  |  | 5 |"
    assert len({line.count("|") for line in lines}) == 1
    assert quality_table([], []) == ""
    assert "`fast`" in quality_table([], scans)


def test_tables_are_written_between_their_markers(tmp_path):
    from figure_parts.tables import fill_tables

    page = tmp_path / "page.md"
    page.write_text("Text.\n<!-- measured: presets -->\nold\n<!-- end: presets -->\nMore.\n", encoding="utf-8")
    assert fill_tables(tmp_path, [page]) == [page]
    assert page.read_text(encoding="utf-8") == "Text.\n<!-- measured: presets -->\n<!-- end: presets -->\nMore.\n"
    machine = {
        "accelerator": None,
        "cores": 2,
        "processor": "x",
        "system": "y",
        "threads": 2,
        "python": "3",
        "torch": "2",
    }
    measures = {f"fast_{key}": 1.0 for key in ("import_s", "load_s", "reconstruct_s", "export_s", "total_s", "peak_gb")}
    pipeline = measures | {"fast_photograph_s": 30.0, "machine": machine | {"load": 0.1}}
    (tmp_path / "benchmark.json").write_text(json.dumps({"parts": {"pipeline": pipeline}}), encoding="utf-8")
    fill_tables(tmp_path, [page])
    assert "| `fast` | 1.0 s | 30.0 s | 2.0 s | 1.0 s | 1.00 GB |" in page.read_text(encoding="utf-8")
    assert fill_tables(tmp_path, [page]) == [], "nothing new, nothing written"


def test_the_command_says_what_there_is(capsys):
    import make_figures

    with pytest.raises(SystemExit):
        make_figures.main(["portraits"])
    assert "there is no 'portraits', must be of people, overview, through_gan" in capsys.readouterr().err


def test_measures_are_told_in_a_readers_words():
    from benchmark import in_words

    assert in_words("tap128_forward_backward_s_an_image_of_4", 0.10432) == (
        *("tap of 128 pixels, forward and backward, an image of a batch of 4", "0.104 s"),
    )
    assert in_words("ratio_full_to_openvino", 1.2079) == ("full image, divided by OpenVINO", "1.21")
    assert in_words("render_forward_backward_ms", 35.6) == ("render, forward and backward", "35.6 ms")
    assert in_words("matmul_gflops", 183.9) == ("matrix product", "184 GFLOP/s")
    assert in_words("batch", 8) == ("batch", "8")
