"""Model cards: README.md of a checkpoint, out of its configuration, what is known of it, and what was measured.

Nothing is invented: what the facts or the results do not hold is left out of the card, or said to be unmeasured.
"""

from .facts import CardFacts, Source, figure_sources, load_facts, result_files
from .results import CardError, Figure, Metric, Results, load_results, outdated
from .rules import LICENSES, lint_card
from .text import MINIMAL, generate_card, minimal_card, snippets

__all__ = [
    "LICENSES",
    "MINIMAL",
    "CardError",
    "CardFacts",
    "Figure",
    "Metric",
    "Results",
    "Source",
    "figure_sources",
    "generate_card",
    "lint_card",
    "load_facts",
    "load_results",
    "minimal_card",
    "outdated",
    "result_files",
    "snippets",
]
