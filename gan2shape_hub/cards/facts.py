"""What no file of a checkpoint says: ``model_cards/<category>.yaml``."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import yaml

from gan2shape_hub.config import ConfigError, from_dict

from .results import CardError, Figure


@dataclass(frozen=True)
class Source:
    """Where a part of the checkpoint comes from."""

    part: str
    origin: str
    license: str


@dataclass(frozen=True)
class CardFacts:
    """A category in words. Texts are Markdown."""

    title: str
    category: str
    """A name of ``presets.PRESETS``, for the configuration where there is no checkpoint yet."""
    name: str
    """Folder or Hub id that the snippet loads."""
    license: str
    summary: str
    intended_use: str
    out_of_scope: str
    limits: tuple[str, ...]
    bias: str
    training_data: str
    license_text: str
    license_name: str = ""
    license_link: str = ""
    base_model: tuple[str, ...] = ()
    base_model_relation: str = ""
    datasets: tuple[str, ...] = ()
    """Hub ids of the data sets that the networks were trained on."""
    tags: tuple[str, ...] = ()
    sources: tuple[Source, ...] = ()
    preparation: str = ""
    """How the checkpoint is made, where it is not shipped."""
    results: tuple[str, ...] = ()
    """Files of measurements (see ``load_results``), relative to the facts' own; ``*`` stands for any name."""
    figures: tuple[Figure, ...] = ()


def load_facts(file: str | Path) -> CardFacts:
    """Read ``model_cards/<category>.yaml``; CardError names an unknown or missing key."""
    try:
        data = yaml.safe_load(Path(file).read_text(encoding="utf-8"))
        return from_dict(CardFacts, data)
    except OSError as error:
        raise CardError(f"{file} cannot be read ({error.strerror}).") from None
    except (yaml.YAMLError, ConfigError) as error:
        raise CardError(f"{file}: {' '.join(str(error).split())}") from None


def figure_sources(file: str | Path) -> dict[str, Path]:
    """Path in a checkpoint's folder -> file to copy there, of the figures that the facts in ``file`` bring along.

    CardError where one is not there.
    """
    sources = {f.path: Path(file).parent / f.source for f in load_facts(file).figures if f.source}
    for source in sources.values():
        if not source.is_file():
            raise CardError(f"{file} names the figure {source}, which is not there.")
    return sources


def result_files(facts: CardFacts, file: str | Path) -> list[Path]:
    """Files of measurements that the facts in ``file`` name and that exist, sorted."""
    folder = Path(file).parent
    return sorted(path.resolve() for pattern in facts.results for path in folder.glob(pattern))
