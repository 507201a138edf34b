"""Names that settings choose from."""

from __future__ import annotations

import re
from pathlib import Path

SEARCHERS = ("smac", "random", "evolution", "local", "ensemble")
SEARCHER_MODELS = ("gp", "forest")
PROMOTIONS = ("tapered", "halving", "hyperband")
_SEARCHER_FILE = re.compile(r"(.+\.py):([A-Za-z_]\w*)")


def searcher_file(searcher: str) -> tuple[Path, str] | None:
    """Return the file and the name in it of a user's own searcher `path/to/file.py:NAME`; None for any other text."""
    match = _SEARCHER_FILE.fullmatch(searcher)
    return None if match is None else (Path(match[1]), match[2])


def searcher_name(searcher: str) -> str:
    """Return how trials name their searcher: one of a file as `file.py:NAME`, wherever the file is."""
    found = searcher_file(searcher)
    return searcher if found is None else f"{found[0].name}:{found[1]}"
