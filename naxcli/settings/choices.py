"""Names that settings choose from."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    pass


SEARCHERS = ("smac", "random", "evolution", "ensemble")
