"""Table: rows of records with the columns that show them, independent of where they are shown."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

Row = Mapping[str, Any]


def _never(row: Row) -> bool:
    return False


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """How one column of a table is read from a row.

    Args:
        title: heading, plain text.
        text: what the cell shows.
        sort: number to sort by, None for cells without one; None sorts by the text.
        is_numeric: align to the right.
        is_marked: whether the cell stands out; renderers mark it by more than colour.
        is_minor: left out where the page is narrow.
    """

    title: str
    text: Callable[[Row], str]
    sort: Callable[[Row], float | None] | None = None
    is_numeric: bool = False
    is_marked: Callable[[Row], bool] = _never
    is_minor: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """A captioned table. `note` explains how to read it; `empty` says why there are no rows."""

    name: str
    caption: str
    columns: Sequence[Column]
    rows: Sequence[Row]
    note: str = ""
    empty: str = "n/a: nothing was recorded"


@dataclass(frozen=True, slots=True, kw_only=True)
class Section:
    """A heading with sentences and tables under it."""

    name: str
    title: str
    sentences: Sequence[str] = ()
    tables: Sequence[Table] = ()
