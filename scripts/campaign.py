"""Hostile and damaged input by the thousand: each is read, or refused by one of our sentences, in limits of time and
memory, and nothing is called, opened or lost. Prints a table for docs/results.md and every finding with the numbers
that repeat it; ends with 1 where there is one.

Examples:
    python scripts/campaign.py                                   a few minutes
    python scripts/campaign.py --images 10000 --checkpoints 2000 --pickles 1000 --kills 200 --seconds 600
    python scripts/campaign.py --only images --seed 3 --first 412 --images 1       one case again
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

sys.path[:0] = [str(Path(__file__).resolve().parent), str(Path(__file__).resolve().parent.parent)]

PARTS = {"images": 1000, "checkpoints": 300, "pickles": 300, "kills": 40, "clients": 6}
"""Part -> how many, by default."""


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for part, count in PARTS.items():
        parser.add_argument(f"--{part}", type=int, default=count, help=f"how many (default {count}; 0: none)")
    parser.add_argument("--seconds", type=float, default=60, help="how long the clients call (default 60)")
    parser.add_argument("--seed", type=int, default=0, help="of everything (default 0)")
    parser.add_argument("--first", type=int, default=0, help="number of the first case of each part (default 0)")
    parser.add_argument("--only", choices=PARTS, help="this part alone")
    options = parser.parse_args(arguments)
    rows, findings = [], []
    for part in PARTS:
        if count := getattr(options, part) if options.only in (None, part) else 0:
            begun = time.perf_counter()
            outcomes, found = run_part(part, count, options)
            rows.append((part, str(count), outcomes, str(len(found)), f"{time.perf_counter() - begun:.0f} s"))
            findings += found
    print("| what | how many | outcomes | findings | time |\n| --- | --- | --- | --- | --- |")
    for row in rows:
        print("| " + " | ".join(row) + " |")
    for finding in findings:
        print(finding, file=sys.stderr)
    return int(bool(findings))


def run_part(part: str, count: int, options: argparse.Namespace) -> tuple[str, list[str]]:
    """(outcomes in words, findings) of one part."""
    import torch
    from campaign_parts import checkpoints, children, images, kills, pickles

    torch.set_num_threads(1)  # forked processes would wait for ever for the others
    if part == "clients":
        from campaign_parts import clients

        counts, findings, memory = clients.run(options.seconds, options.seed, count)
        third = max(len(memory) // 3, 1)
        thirds = [max(memory[k * third : (k + 1) * third], default=0.0) for k in range(3)]
        told = {**counts, **{f"GB in third {k + 1}": round(value, 2) for k, value in enumerate(thirds)}}
    elif part == "kills":
        told, findings = kills.run(count, options.seed, options.first)
    else:
        case = {"images": images, "checkpoints": checkpoints, "pickles": pickles}[part].case
        told, findings = children.run(part, case, count, options.seed, options.first)
    return ", ".join(f"{key}: {value:,}" for key, value in told.items()), findings


if __name__ == "__main__":
    sys.exit(main())
