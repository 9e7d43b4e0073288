"""One card from a command line; ``scripts/make_cards.py`` writes all of them.

gan2shape card model_cards/cat.yaml --checkpoint checkpoints/cat --output model_cards/cat.md
"""

from __future__ import annotations

import argparse
import sys

from gan2shape_hub.arguments import user_path
from gan2shape_hub.atomic import atomic_file


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="gan2shape card", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("facts", type=user_path, help="model_cards/<category>.yaml")
    parser.add_argument("--checkpoint", type=user_path, metavar="DIR", help="folder; without it, the category's preset")
    parser.add_argument(
        "--results", type=user_path, action="append", metavar="FILE.json", help="measurements (default: the facts' own)"
    )
    parser.add_argument("--name", help="folder or Hub id that the snippet loads")
    parser.add_argument("--output", type=user_path, help="file to write; without it, the card is printed")
    args = parser.parse_args(argv)
    from gan2shape_hub import hub

    try:
        card = hub.card_of_folder(args.facts, args.checkpoint, results=args.results, name=args.name)
        if args.output is not None:
            with atomic_file(args.output) as part:
                part.write_text(card, encoding="utf-8")
    except (OSError, ValueError) as error:
        print(f"{parser.prog}: {error}", file=sys.stderr)
        return 1
    if args.output is None:
        print(card, end="")
    return 0
