"""Model cards: README.md of a checkpoint, out of its configuration, what is known of it, and what was measured.

Nothing is invented: what the facts or the results do not hold is left out of the card, or said to be unmeasured.
"""

from .facts import CardFacts, Source, load_facts, result_files
from .folder import card_of_folder, figure_sources, outdated_results
from .results import CardError, Figure, Metric, Results, load_results
from .text import MINIMAL, generate_card, minimal_card, snippets

__all__ = [
    "MINIMAL",
    "CardError",
    "CardFacts",
    "Figure",
    "Metric",
    "Results",
    "Source",
    "card_of_folder",
    "figure_sources",
    "generate_card",
    "load_facts",
    "load_results",
    "minimal_card",
    "outdated_results",
    "result_files",
    "snippets",
]
