"""Write the model cards anew, after a checkpoint, its measurements or its pictures have changed.

Every model_cards/<category>.yaml gives model_cards/<category>.md; where the checkpoint that it speaks of is in this
repository, its README.md too, and the figures are copied beside both. Numbers come from the files that the facts name
under `results`, and only from measurements of the checkpoint as it is now into the front matter's model-index.

Examples:
    python scripts/make_cards.py
    python scripts/make_cards.py model_cards/face.yaml
    python scripts/make_cards.py --check          write nothing; fails where a card is not what it would write
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("facts", nargs="*", type=Path, help="default: all of model_cards")
    parser.add_argument("--check", action="store_true", help="write nothing, say what would change")
    options = parser.parse_args(arguments)
    from gan2shape_hub.config import ConfigError

    changed = []
    try:
        for facts in options.facts or sorted((ROOT / "model_cards").glob("*.yaml")):
            for file, content in files_of(facts).items():
                if file.is_file() and file.read_bytes() == content:
                    continue
                changed.append(file)
                if not options.check:
                    file.parent.mkdir(exist_ok=True)
                    write(file, content)
    except (OSError, ValueError, ConfigError) as error:
        print(f"make_cards: {error}", file=sys.stderr)
        return 1
    for file in changed:
        print(f"{'would change' if options.check else 'wrote'} {file}")
    return 1 if options.check and changed else 0


def files_of(facts_file: Path) -> dict[Path, bytes]:
    """File -> content of everything that the facts give; outdated measurements are named on standard error."""
    from gan2shape_hub import cards, hub

    facts = cards.load_facts(facts_file)
    folder = ROOT / facts.name
    places = [facts_file.parent]
    if (folder / "model_index.json").is_file():
        places.append(folder)
        for file in hub.outdated_results(facts_file, folder):
            print(
                f"make_cards: {file.name} was measured on another state of {facts.name}: measure again.",
                file=sys.stderr,
            )
    card = hub.card_of_folder(facts_file, folder if len(places) == 2 else None).encode()
    files = {facts_file.with_suffix(".md"): card, **({folder / "README.md": card} if len(places) == 2 else {})}
    for path, source in cards.figure_sources(facts_file).items():
        picture = source.read_bytes()
        files |= {place / path: picture for place in places}
    return files


def write(file: Path, content: bytes) -> None:
    from gan2shape_hub.atomic import atomic_file

    with atomic_file(file) as part:
        part.write_bytes(content)


if __name__ == "__main__":
    sys.exit(main())
