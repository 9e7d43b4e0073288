"""Publish a checkpoint folder as a model repository of the Hub.

Only what belongs to a checkpoint is sent: configuration, safetensors weights, the card, a licence and figures. Log in
once with `hf auth login`, or set HF_TOKEN.

Examples:
    gan2shape push checkpoints/cat me/gan2shape-cat --dry-run
    gan2shape push checkpoints/cat me/gan2shape-cat --private
    gan2shape push checkpoints/cat me/gan2shape-cat --card model_cards/cat.yaml \\
        --results docs/results/cat.json
    gan2shape push checkpoints/cat somebody/gan2shape-cat --create-pr --message "Longer training"
"""

from __future__ import annotations

import argparse
import shutil
import sys
from pathlib import Path

from gan2shape_hub.arguments import user_path


def parse_arguments(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="gan2shape push",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("folder", type=user_path, help="checkpoint folder")
    parser.add_argument("repository", metavar="OWNER/NAME", help="Hub id; made where it does not exist")
    parser.add_argument("--dry-run", action="store_true", help="list what would be sent, with sizes; no network")
    parser.add_argument("--private", action="store_true", default=None, help="make a new repository private")
    parser.add_argument("--revision", metavar="BRANCH", help="branch to commit to; made where it does not exist")
    parser.add_argument("--create-pr", action="store_true", help="open a pull request instead of committing")
    parser.add_argument("--message", default="Upload GAN2Shape checkpoint", help="of the commit")
    parser.add_argument("--card", type=user_path, metavar="FACTS.yaml", help="write README.md anew from these first")
    parser.add_argument(
        "--results",
        type=user_path,
        action="append",
        metavar="FILE.json",
        help="measurements for that card (default: those that the facts name)",
    )
    options = parser.parse_args(arguments)
    if options.results is not None and options.card is None:
        parser.error("--results needs --card: measurements are part of the card")
    return options


def main(arguments: list[str] | None = None) -> int:
    options = parse_arguments(arguments)
    # Imported here, so that --help and mistakes in the arguments are answered at once.
    from gan2shape_hub import hub

    try:
        card, figures = make_card(options) if options.card is not None else (None, {})
        files = dict(hub.files_to_push(options.folder))
        files |= {path: source.stat().st_size for path, source in figures.items()}
        if card is not None:
            files["README.md"] = len(card.encode())
        if options.dry_run:
            print(listing(files, options.repository))
            for problem in hub.card_problems(options.folder, card, figures):
                print(f"README.md: {problem}", file=sys.stderr)
            return 0
        for path, source in figures.items():
            target = options.folder / path
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, target)
        if card is not None:
            hub.write_card(options.folder, card)
        print(
            hub.push(
                options.folder,
                options.repository,
                private=options.private,
                revision=options.revision,
                create_pr=options.create_pr,
                commit_message=options.message,
            )
        )
    except (OSError, ValueError) as error:
        print(f"push: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("push: stopped; nothing was committed, files that were sent are not sent again.", file=sys.stderr)
        return 130
    return 0


def make_card(options: argparse.Namespace) -> tuple[str, dict[str, Path]]:
    """README.md out of the facts, with the repository in its snippet, and the figures that it brings along."""
    from gan2shape_hub import cards, hub

    card = hub.card_of_folder(options.card, options.folder, results=options.results, name=options.repository)
    return card, cards.figure_sources(options.card)


def listing(files: dict[str, int], repository: str) -> str:
    """One line a file, with its size, and the sum."""
    lines = [f"{size:>13,}  {name}" for name, size in sorted(files.items())]
    total = sum(files.values())
    return "\n".join([f"To {repository} (nothing is sent):", *lines, f"{total:>13,}  bytes in {len(files)} files"])
