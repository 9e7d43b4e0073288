"""The import rule of docs/architecture.md and a few habits, checked on the source of every module."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = "gan2shape_hub"

LAYERS = (
    ("errors", "version", "generator", "surroundings", "accelerator"),
    ("arguments", "records", "cancel", "typed_json"),
    ("atomic", "stage_config", "reading"),
    ("config",),
    ("rendering", "presets", "plan"),
    ("models",),
    ("state", "run"),
    ("report", "stages", "results"),
    ("evaluation", "given_mask", "editing"),
    ("targets", "reconstruction", "cards"),
    ("hub",),
    ("training", "conversion", "pretrained"),
    ("pipeline",),
    ("__init__",),
    ("demo",),
    ("cli",),
    ("app", "scripts"),
)
"""A module imports from its own room and from the rows above it: never from below, never from its row's other rooms."""

STAGES_THAT_MAY_BE_SHARED = {"preview"}
"""Stages hand each other values and know nothing of each other; a look at the current state is not a stage."""

FILES = sorted(
    p for folder in (PACKAGE, "scripts") for p in (ROOT / folder).rglob("*.py") if "__pycache__" not in p.parts
) + [p for p in [ROOT / "app.py"] if p.exists()]
NAMES = [p.relative_to(ROOT).as_posix() for p in FILES]


def tree_of(path):
    return ast.parse(path.read_text(encoding="utf-8"))


def area_of(path):
    """First part of a file's name inside the package ("stages", "config"), "scripts" or "app"."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return parts[1] if parts[0] == PACKAGE else parts[0]


def imports_of(path):
    """Dotted names inside the package that a file imports, lazily or not: "stages.refine", "config", "" (the API)."""
    package = [PACKAGE, *path.relative_to(ROOT / PACKAGE).parts[:-1]] if PACKAGE in path.parts else []
    found = set()
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            module = ".".join([*base, *((node.module or "").split(".") if node.module else [])])
            for alias in node.names:
                file = ROOT / Path(*module.split("."), alias.name)
                is_module = file.with_suffix(".py").exists() or (file / "__init__.py").exists()
                found.add(f"{module}.{alias.name}" if is_module else module)
    inside = {name for name in found if name.split(".")[0] == PACKAGE}
    return {name[len(PACKAGE) + 1 :] for name in inside}


def layer(area):
    for number, names in enumerate(LAYERS):
        if area in names:
            return number
    raise AssertionError(f"'{area}' stands in no layer: add it to LAYERS and to docs/architecture.md")


@pytest.mark.parametrize("path", FILES, ids=NAMES)
def test_imports_flow_one_way(path):
    own = area_of(path)
    for name in imports_of(path):
        area = name.split(".")[0] or "__init__"
        assert area == own or layer(area) < layer(own), f"{path.name} imports {name}: {area} is not above {own}"
        if own == "stages" and area == "stages" and path.name != "__init__.py":
            stage = name.partition(".")[2].split(".")[0]
            assert stage in STAGES_THAT_MAY_BE_SHARED, f"stage {path.stem} imports stage {stage}"


def test_the_rule_sees_imports_of_every_form(tmp_path, monkeypatch):
    # The test above passes on an empty set too: make sure that it would notice.
    seen = {p.relative_to(ROOT).as_posix(): imports_of(p) for p in FILES}
    assert {"records", "run", "state", "rendering.scene"} <= seen["gan2shape_hub/stages/refine.py"]
    assert "cards" in seen["gan2shape_hub/hub/card.py"]  # from gan2shape_hub.cards import
    assert "hub" in seen["gan2shape_hub/pretrained.py"]  # from gan2shape_hub import hub
    assert "config" in seen["gan2shape_hub/presets.py"]  # from .config import
    assert "" in seen["gan2shape_hub/cli/reconstruct.py"]  # lazily: from gan2shape_hub import ...
    assert layer("stages") < layer("pipeline")
    assert len({area for row in LAYERS for area in row}) == sum(map(len, LAYERS)), "a room stands in one row only"


def calls(path, *names):
    """Calls of functions or methods called one of ``names``: (line, call)."""
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.Call):
            name = getattr(node.func, "attr", getattr(node.func, "id", None))
            if name in names:
                yield node


def keywords(call):
    return {k.arg: k.value for k in call.keywords}


@pytest.mark.parametrize("path", FILES, ids=NAMES)
def test_habits(path):
    assert not list(calls(path, "cuda")), "the device follows the inputs: no .cuda()"
    for call in calls(path, "load_state_dict"):
        strict = keywords(call).get("strict")
        assert strict is None or strict.value is True, f"line {call.lineno}: weights are loaded strictly"
    for call in calls(path, "load"):
        if getattr(getattr(call.func, "value", None), "id", None) == "torch":
            safe = keywords(call).get("weights_only")
            assert getattr(safe, "value", False) is True, f"line {call.lineno}: torch.load needs weights_only=True"
    modules = {name.split(".")[0] for n in ast.walk(tree_of(path)) for name in imported(n)}
    assert "torchvision" not in modules, "torchvision does not import beside every build of torch"


def imported(node):
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    return [node.module] if isinstance(node, ast.ImportFrom) and node.module else []


DRAWS = ("rand", "randn", "randint", "randperm", "normal", "bernoulli", "multinomial", "uniform_", "normal_", "random_")


@pytest.mark.parametrize(
    "path",
    [
        p
        for p in FILES
        if area_of(p) in ("generator", "run", "stages", "results", "pipeline", "targets", "editing", "reconstruction")
    ],
    ids=lambda p: p.stem,
)
def test_random_numbers_come_from_an_explicit_generator(path):
    for call in calls(path, *DRAWS):
        own_method = getattr(getattr(call.func, "value", None), "id", None) == "run"  # Run.normal and the like
        assert own_method or "generator" in keywords(call), f"line {call.lineno}: pass generator="
