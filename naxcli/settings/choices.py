"""Names that settings choose from."""

from __future__ import annotations

SEARCHERS = ("smac", "random", "evolution", "ensemble")
SEARCHER_MODELS = ("gp", "forest")
PROMOTIONS = ("halving", "hyperband")
