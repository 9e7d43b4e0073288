"""Text of a card out of configuration, facts and measurements."""

from __future__ import annotations

import re

from huggingface_hub import EvalResult, ModelCard, ModelCardData

from gan2shape_hub.config import CategoryConfig, ScheduleConfig

from .facts import CardFacts
from .results import CardError, Figure, Metric, Results
from .rules import LIBRARY_NAME, LICENSES, PIPELINE_TAG, lint_card

MINIMAL = "<!-- written without facts: any other card is better -->"
"""Ends ``minimal_card``, so that publishing does not replace a real card by it."""


def generate_card(
    facts: CardFacts,
    config: CategoryConfig,
    results: Results | None = None,
    *,
    name: str | None = None,
    components: dict[str, str] | None = None,
) -> str:
    """Text of a README.md that obeys the Hub's rules; CardError lists what does not.

    Args:
        name: folder or Hub id that the snippet loads; None: the facts'.
        components: component -> class, as ``model_index.json`` lists them, or other words on the network.
    """
    results = results or Results()
    indexed = [metric for metric in results.metrics if metric.indexed]
    data = ModelCardData(
        library_name=LIBRARY_NAME,
        pipeline_tag=PIPELINE_TAG,
        license=facts.license,
        license_name=facts.license_name or None,
        license_link=facts.license_link or None,
        base_model=list(facts.base_model) or None,
        base_model_relation=facts.base_model_relation or None,
        datasets=list(facts.datasets) or None,
        tags=["gan2shape", "single-image-3d", "gan", "depth-estimation", "relighting", *facts.tags],
        model_name=facts.title if indexed else None,
        eval_results=[_eval_result(metric) for metric in indexed] or None,
    )
    parts = [
        f"# {facts.title}",
        facts.summary,
        *_figures((*facts.figures, *results.figures)),
        "## How to load",
        _SNIPPET.format(name=name or facts.name),
        *([facts.preparation] if facts.preparation else []),
        "## Intended use",
        facts.intended_use,
        "**Out of scope.** " + facts.out_of_scope,
        "## Limits",
        "\n".join(f"- {_line(limit)}" for limit in facts.limits),
        "## Bias and risks",
        facts.bias,
        "## Training data",
        facts.training_data,
        *_sources(facts),
        "## Settings",
        _settings(config),
        *_components(components),
        "## Evaluation",
        *_evaluation(results),
        "## Licence",
        facts.license_text,
        "## Citation",
        _CITATION,
    ]
    body = "\n\n".join(part.strip() for part in parts)
    card = str(ModelCard(f"---\n{data.to_yaml()}\n---\n\n{body}\n"))
    problems = lint_card(card)
    if problems:
        raise CardError("the card breaks the Hub's rules: " + " ".join(problems))
    return card


def snippets(card: str) -> list[str]:
    """The Python snippets of a card."""
    return re.findall(r"^```python\n(.*?)^```", card, re.DOTALL | re.MULTILINE)


def minimal_card(config: CategoryConfig) -> str:
    """Card of a checkpoint of which nothing but its configuration is known; made to be replaced.

    The licence is the configuration's, where the Hub has a name for it that stands alone.
    """
    unknown = "Not recorded: the checkpoint was saved without a card."
    known_license = config.license in LICENSES and config.license != "other"  # which needs a name and a link beside it
    facts = CardFacts(
        title=f"GAN2Shape: {config.category}",
        category=config.category,
        name=f"path/to/{config.category}",
        license=config.license if known_license else "unknown",
        summary=f"{config.description or config.category}, for single-image 3D with GAN2Shape.",
        intended_use=unknown,
        out_of_scope=unknown,
        limits=(unknown,),
        bias=unknown,
        training_data=unknown,
        license_text=f"Of the weights, as the configuration says: {config.license}.",
    )
    return generate_card(facts, config) + f"\n{MINIMAL}\n"


def _line(text: str) -> str:
    return " ".join(text.split())


def _eval_result(metric: Metric) -> EvalResult:
    return EvalResult(
        task_type=PIPELINE_TAG,
        task_name="Image to 3D",
        dataset_type=metric.dataset_type,
        dataset_name=metric.dataset,
        dataset_split=metric.split or None,
        metric_type=metric.type,
        metric_name=metric.name.replace("`", ""),  # plain text, not Markdown
        metric_value=metric.value,
    )


def _figures(figures: tuple[Figure, ...]) -> list[str]:
    return [f"![{_line(figure.caption)}]({figure.path})" for figure in figures]


def _table(head: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    cells = [head, ("---",) * len(head), *rows]
    return "\n".join("| " + " | ".join(_line(cell).replace("|", "\\|") for cell in row) + " |" for row in cells)


def _sources(facts: CardFacts) -> list[str]:
    rows = [(source.part, source.origin, source.license) for source in facts.sources]
    return [_table(("part", "origin", "licence"), rows)] if rows else []


def _components(components: dict[str, str] | None) -> list[str]:
    return [_table(("component", "class"), sorted(components.items()))] if components else []


def _settings(config: CategoryConfig) -> str:
    yaw, pitch = config.rotation_limit_deg
    rows = [
        ("category", config.category),
        ("size of the depth and albedo sheets", f"{config.image_size} x {config.image_size} pixels"),
        ("camera", f"pinhole, field of view {config.camera.fov_deg:g} degrees"),
        ("views", f"yaw up to {yaw:g} degrees, pitch up to {pitch:g} degrees either way"),
        ("object mask", "used" if config.use_mask else "not used"),
        ("truncation of samples", f"{config.truncation:g}"),
    ]
    presets = [
        (f"{name} (default)" if name == config.default_preset else name, *_schedule(schedule))
        for name, schedule in sorted(config.schedules.items())
    ]
    return "\n\n".join(
        [
            _table(("setting", "value"), rows),
            _table(("preset", "rounds", "iterations of steps 1 / 2 / 3, all rounds", "batch size"), presets),
        ]
    )


def _schedule(schedule: ScheduleConfig) -> tuple[str, str, str]:
    totals = [sum(getattr(r, step) for r in schedule.rounds) for step in ("decompose", "explore", "refine")]
    return str(len(schedule.rounds)), " / ".join(map(str, totals)), str(schedule.batch_size)


def _evaluation(results: Results) -> list[str]:
    if not results.metrics:
        return ["No measurement of this checkpoint has been recorded."]
    rows = [(m.name, f"{m.value:.4g}{' ' + m.unit if m.unit else ''}", m.dataset) for m in results.metrics]
    return [*([results.protocol] if results.protocol else []), _table(("metric", "value", "measured on"), rows)]


_SNIPPET = """\
In a clone of the gan2shape_hub repository:

```bash
pip install -e .
```

```python
from gan2shape_hub import GAN2ShapePipeline

pipeline = GAN2ShapePipeline.from_pretrained("{name}")
sample = pipeline.sample(seed=7)  # an image that the GAN makes up, and its latent
result = pipeline(sample)  # or an image of this category: pipeline("photo.png")
result.save("output")  # meshes, depth, normals, albedo and a turntable
```"""

_CITATION = """\
```bibtex
@inproceedings{pan2021gan2shape,
  title = {Do 2D GANs Know 3D Shape? Unsupervised 3D Shape Reconstruction from 2D Image GANs},
  author = {Pan, Xingang and Dai, Bo and Liu, Ziwei and Loy, Chen Change and Luo, Ping},
  booktitle = {International Conference on Learning Representations},
  year = {2021}
}
```"""
