"""Card of a checkpoint's folder: everything that can be read is read from there."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from pathlib import Path

from gan2shape_hub.cards import CardFacts, Figure, generate_card, load_facts, load_results, outdated, result_files
from gan2shape_hub.presets import category_preset

from .checkpoint import fingerprint, read_components, read_config

SAMPLES = "samples.png"
"""Pictures that a conversion leaves in the folder."""


def card_of_folder(
    file: str | Path,
    folder: str | Path | None = None,
    *,
    results: Iterable[str | Path] | None = None,
    name: str | None = None,
) -> str:
    """README.md for the checkpoint in ``folder`` out of the facts in ``file``; CardError, OSError say what is wrong.

    Args:
        folder: configuration, components and pictures come from there; None: the category's preset.
        results: files of measurements; None: those that the facts name.
        name: folder or Hub id that the snippet loads; None: the facts'.
    """
    facts = load_facts(file)
    files = result_files(facts, file) if results is None else results
    if folder is None:
        return generate_card(facts, category_preset(facts.category), load_results(files), name=name)
    if (Path(folder) / SAMPLES).is_file():
        facts = _with_samples(facts)
    return generate_card(
        facts,
        read_config(folder),
        load_results(files, fingerprint(folder)),
        name=name,
        components=read_components(folder),
    )


def outdated_results(file: str | Path, folder: str | Path) -> list[Path]:
    """Files of measurements, of those that the facts in ``file`` name, that another state of ``folder`` gave."""
    return outdated(result_files(load_facts(file), file), fingerprint(folder))


def _with_samples(facts: CardFacts) -> CardFacts:
    if any(figure.path == SAMPLES for figure in facts.figures):
        return facts
    figure = Figure(SAMPLES, "Images that the generator makes, as they come")
    return dataclasses.replace(facts, figures=(*facts.figures, figure))
