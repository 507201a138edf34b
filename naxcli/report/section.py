"""The plain elements of a report, independent of where they are shown: sections of sentences, facts, tables, figures and sheets.

`sections.py` lists them once; terminal, Markdown, HTML, CSV and plots walk that list, each showing the elements that are `on` it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import Flag, auto
from typing import Any

from naxcli.report.figures.figure import Figure

Row = Mapping[str, Any]


class Medium(Flag):
    """Where an element is shown. Sheets are for CSV alone, figures for the page and for plots."""

    TERMINAL = auto()
    MARKDOWN = auto()
    PAGE = auto()


TERMINAL, MARKDOWN, PAGE = Medium.TERMINAL, Medium.MARKDOWN, Medium.PAGE
NOWHERE, EVERYWHERE = Medium(0), TERMINAL | MARKDOWN | PAGE


def _never(row: Row) -> bool:
    return False


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """How one column of a table is read from a row.

    Args:
        title: Heading in plain text.
        text: What the cell shows.
        sort: Number to sort by, None for cells without one; None sorts by the text.
        is_numeric: Align to the right.
        is_marked: Whether the cell stands out; renderers mark it by more than colour.
        is_minor: Left out where the page is narrow.
        has_bar: Followed by a bar of its number, a share between 0 and 1, where there is room.
    """

    title: str
    text: Callable[[Row], str]
    sort: Callable[[Row], float | None] | None = None
    is_numeric: bool = False
    is_marked: Callable[[Row], bool] = _never
    is_minor: bool = False
    has_bar: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """A captioned table. `note` explains how to read it; `empty` says why there are no rows, on the media of `empty_on`."""

    name: str
    caption: str
    columns: Sequence[Column]
    rows: Sequence[Row]
    note: str = ""
    empty: str = "n/a: nothing was recorded"
    on: Medium = EVERYWHERE
    empty_on: Medium = EVERYWHERE


@dataclass(frozen=True, slots=True, kw_only=True)
class Text:
    """A paragraph; text between backticks is code. A headline is set larger on the page."""

    text: str
    is_headline: bool = False
    on: Medium = EVERYWHERE


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """Labels and their values."""

    pairs: Sequence[tuple[str, str]]
    on: Medium = EVERYWHERE


@dataclass(frozen=True, slots=True, kw_only=True)
class Warnings:
    """Sentences that stand out under a title; shown only where there are any."""

    title: str
    sentences: Sequence[str]
    on: Medium = EVERYWHERE


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """Figures, each made when it is drawn and None where the run has no data for it.

    Args:
        makers: What makes the figures.
        are_beside: Whether the page sets them side by side where it is wide.
    """

    makers: Sequence[Callable[[], Figure | None]]
    are_beside: bool = False

    def made(self) -> list[Figure]:
        """Return the figures that there is data for."""
        return [figure for make in self.makers if (figure := make()) is not None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Sheet:
    """The exact numbers of a section, one file of `report --csv`; columns that a row lacks are empty."""

    name: str
    columns: Sequence[str]
    rows: Sequence[Row]


@dataclass(frozen=True, slots=True, kw_only=True)
class Section:
    """A heading with elements under it, other sections among them.

    Args:
        name: Identifier on the page; tables and figures of an inner section are named after it.
        title: Heading.
        elements: What stands under it, in this order.
        title_on: Media that show the heading.
        is_open: Whether the page shows an inner section unfolded.
    """

    name: str
    title: str
    elements: Sequence[Element]
    title_on: Medium = MARKDOWN | PAGE
    is_open: bool = True

    def shown_on(self, medium: Medium) -> list[Shown]:
        """Return the elements for a medium, without tables that have no rows where that is no news."""
        return [element for element in self.elements if not isinstance(element, Sheet) and _is_on(element, medium)]


Shown = Text | Facts | Warnings | Table | Figures | Section
Element = Shown | Sheet


def _is_on(element: Shown, medium: Medium) -> bool:
    match element:
        case Table():
            return medium in element.on and (bool(element.rows) or medium in element.empty_on)
        case Warnings():
            return medium in element.on and bool(element.sentences)
        case Figures():
            return medium is PAGE
        case Section():
            return bool(element.shown_on(medium))
        case _:
            return medium in element.on


def figures_of(sections: Sequence[Section]) -> Iterator[Figure]:
    """Yield every figure of sections that there is data for."""
    for element in walk(sections):
        if isinstance(element, Figures):
            yield from element.made()


def walk(sections: Sequence[Section]) -> Iterator[Element]:
    """Yield every element of sections, those of inner sections in their place."""
    for section in sections:
        for element in section.elements:
            if isinstance(element, Section):
                yield from walk([element])
            else:
                yield element
