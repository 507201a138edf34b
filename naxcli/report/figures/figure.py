"""Figure: what a figure shows and says, whichever library draws it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """The numbers of a figure with the words that stand in for it.

    Args:
        name: Identifier on the page.
        file: Name of its file without the ending.
        title: What it shows.
        caption: How to read it.
        content: Its numbers and axes; how they are drawn depends on their type (`DRAWERS` for the page, `PAINTERS` for files).
    """

    name: str
    file: str
    title: str
    caption: str
    content: Any
