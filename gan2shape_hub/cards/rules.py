"""The Hub's rules for a model card, checked before anything is sent."""

from __future__ import annotations

import math
import re
from collections.abc import Collection
from pathlib import Path
from typing import Any

import yaml

LIBRARY_NAME = "gan2shape-hub"
PIPELINE_TAG = "image-to-3d"

_LICENSES = """
    apache-2.0 mit openrail bigscience-openrail-m creativeml-openrail-m bigscience-bloom-rail-1.0 bigcode-openrail-m
    afl-3.0 artistic-2.0 bsl-1.0 bsd bsd-2-clause bsd-3-clause bsd-3-clause-clear c-uda cc cc0-1.0 cc-by-2.0 cc-by-2.5
    cc-by-3.0 cc-by-4.0 cc-by-sa-3.0 cc-by-sa-4.0 cc-by-nc-2.0 cc-by-nc-3.0 cc-by-nc-4.0 cc-by-nd-4.0 cc-by-nc-nd-3.0
    cc-by-nc-nd-4.0 cc-by-nc-sa-2.0 cc-by-nc-sa-3.0 cc-by-nc-sa-4.0 cdla-sharing-1.0 cdla-permissive-1.0
    cdla-permissive-2.0 wtfpl ecl-2.0 epl-1.0 epl-2.0 etalab-2.0 eupl-1.1 agpl-3.0 gfdl gpl gpl-2.0 gpl-3.0 lgpl
    lgpl-2.1 lgpl-3.0 isc lppl-1.3c ms-pl mpl-2.0 odc-by odbl openrail++ osl-3.0 postgresql ofl-1.1 ncsa unlicense
    zlib pddl lgpl-lr deepfloyd-if-license llama2 gemma unknown other
"""
LICENSES = frozenset(_LICENSES.split())
"""Identifiers from the Hub's documentation (hub-docs, repositories-licenses)."""

RELATIONS = ("adapter", "merge", "quantized", "finetune")
_REPO_ID = re.compile(r"[A-Za-z0-9][\w.-]{0,95}(/[A-Za-z0-9_][\w.-]{0,95})?")
_FRONT_MATTER = re.compile(r"\A---\r?\n(.*?)\r?\n---[ \t]*(\r?\n|\Z)", re.DOTALL)
_IMAGE = re.compile(r"!\[([^\]]*)\]\(([^)\s]+)\)")
SECTIONS = ("How to load", "Intended use", "Limits", "Bias", "Training data", "Evaluation", "Licence")


def lint_card(card: str, folder: Path | None = None, figures: Collection[str] = ()) -> list[str]:
    """What is wrong with a card, one sentence each; an empty list where nothing is.

    ``folder``: where given, the figures that the card shows must exist in it, or be among ``figures``.
    """
    match = _FRONT_MATTER.match(card)
    if match is None:
        return ["the card has no YAML front matter between two lines of three dashes at its very top."]
    try:
        data = yaml.safe_load(match.group(1))
    except yaml.YAMLError as error:
        return [f"the front matter is not valid YAML ({' '.join(str(error).split())})."]
    if not isinstance(data, dict):
        return ["the front matter is not a mapping of keys to values."]
    problems = [*_library(data), *_license(data), *_lists(data), *_model_index(data)]
    return problems + _body(card[match.end() :], folder, figures)


def _library(data: dict[str, Any]) -> list[str]:
    problems = []
    if data.get("library_name") != LIBRARY_NAME:
        problems.append(f"library_name is {data.get('library_name')!r}, must be '{LIBRARY_NAME}'.")
    if data.get("pipeline_tag") != PIPELINE_TAG:
        problems.append(f"pipeline_tag is {data.get('pipeline_tag')!r}, must be '{PIPELINE_TAG}'.")
    return problems


def _license(data: dict[str, Any]) -> list[str]:
    license_id = data.get("license")
    problems = []
    if license_id not in LICENSES:
        problems.append(f"license is {license_id!r}, which is no identifier of the Hub (or 'other').")
    if license_id == "other" and not (data.get("license_name") and data.get("license_link")):
        problems.append("license is 'other', which needs license_name and license_link.")
    if license_id != "other" and (data.get("license_name") or data.get("license_link")):
        problems.append("license_name and license_link belong to license 'other' only.")
    name = data.get("license_name")
    if name is not None and not re.fullmatch(r"[a-z0-9][a-z0-9.-]*", str(name)):
        problems.append(f"license_name is {name!r}, must be lower case letters, digits, dots and hyphens.")
    link = data.get("license_link")
    if link is not None and link not in ("LICENSE", "LICENSE.md") and not str(link).startswith("https://"):
        problems.append(f"license_link is {link!r}, must be LICENSE, LICENSE.md or an https address.")
    return problems


def _lists(data: dict[str, Any]) -> list[str]:
    problems = []
    for key in ("tags", "datasets", "base_model", "metrics"):
        value = data.get(key, [])
        items = [value] if isinstance(value, str) else value
        if not isinstance(items, list) or not all(isinstance(item, str) and item for item in items):
            problems.append(f"{key} must be a list of texts.")
            continue
        if len(set(items)) < len(items):
            problems.append(f"{key} names something twice.")
        for item in items:
            if key in ("datasets", "base_model") and not _REPO_ID.fullmatch(item):
                problems.append(f"{key} holds {item!r}, which is no Hub id.")
            if key == "base_model" and "/" not in item:
                problems.append(f"base_model holds {item!r}, must be the id of a model, 'owner/name'.")
            if key == "tags" and (len(item) > 64 or item != item.strip()):
                problems.append(f"tag {item!r} is too long or has blanks around it.")
    relation = data.get("base_model_relation")
    if relation is not None and (relation not in RELATIONS or "base_model" not in data):
        problems.append(
            f"base_model_relation is {relation!r}, must be one of {', '.join(RELATIONS)}, beside a base_model."
        )
    return problems


def _model_index(data: dict[str, Any]) -> list[str]:
    index = data.get("model-index")
    if index is None:
        return []
    if not isinstance(index, list) or not index:
        return ["model-index must be a list of models."]
    problems = []
    for model in index:
        if not isinstance(model, dict) or not model.get("name") or not isinstance(model.get("results"), list):
            problems.append("a model of model-index needs a name and a list of results.")
            continue
        for result in model["results"]:
            problems += _result(result)
    return problems


def _result(result: Any) -> list[str]:
    try:
        task, dataset, metrics = result["task"], result["dataset"], result["metrics"]
        required = [task["type"], dataset["type"], dataset["name"], *(metric["type"] for metric in metrics)]
        values = [metric["value"] for metric in metrics]
    except (KeyError, TypeError):
        return ["a result of model-index needs task.type, dataset.type, dataset.name, and a type and value per metric."]
    problems = []
    if not metrics or not all(isinstance(text, str) and text for text in required):
        problems.append("a result of model-index has an empty task, dataset or metric type.")
    for value in values:
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
            problems.append(f"a metric of model-index has the value {value!r}, must be a finite number.")
    return problems


def _body(body: str, folder: Path | None, figures: Collection[str]) -> list[str]:
    problems = []
    headings = re.findall(r"^## +(.+?)\s*$", body, re.MULTILINE)
    for section in SECTIONS:
        if not any(heading.lower().startswith(section.lower()) for heading in headings):
            problems.append(f"the card has no section '{section}'.")
    if "```python" not in body:
        problems.append("the card has no Python snippet that shows how to load the checkpoint.")
    if re.search(r"\b(TODO|TBD|FIXME|XXX)\b|\[More Information Needed\]", body):
        problems.append("the card still holds a placeholder.")
    for caption, target in _IMAGE.findall(body):
        if not caption:
            problems.append(f"the figure {target} has no description.")
        if target.startswith(("http://", "/", "..")):
            problems.append(f"the figure {target} must be a file of the repository or an https address.")
        elif folder is None or "://" in target or target in figures:
            continue
        elif not (folder / target).is_file():
            problems.append(f"the figure {target} is not in {folder}.")
    return problems
