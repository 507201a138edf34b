"""The report on a terminal."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from rich.console import Console
from rich.padding import Padding
from rich.table import Table as RichTable
from rich.text import Text as RichText

from naxcli.analysis.methods import METHODS, check_methods
from naxcli.errors import NaxcliError, printable
from naxcli.report import importance
from naxcli.report.data import ReportData
from naxcli.report.section import TERMINAL, Column, Facts, Figures, Section, Table, Text, Warnings
from naxcli.report.sections import sections
from naxcli.report.text import plain, sentence

WIDE_COLUMNS = 100
BAR_WIDTH = 12
SHORT_TEXT = 12  # characters that a cell never folds
_EIGHTHS = " ▏▎▍▌▋▊▉█"


def print_report(
    console: Console, data: ReportData, *, methods: Iterable[str] = METHODS, at: float | str | None = None
) -> None:
    """Print the report.

    Args:
        console: Where to.
        data: The run.
        methods: Which of `METHODS` to show.
        at: A fidelity, `"all"`, or None for the highest one.

    Raises:
        NaxcliError: if no trial ran at that fidelity, or a method is unknown.
    """
    chosen = tuple(methods)
    check_methods(chosen)
    entries = importance.entries_at(data, at)
    if at not in (None, "all") and not entries:
        known = ", ".join(plain(float(entry["fidelity"])) for entry in data.importance)
        raise NaxcliError(
            f"no trial has fidelity {at}",
            why=f"fidelities of this run: {known or 'none'}",
            hint="--at all shows every one",
        )
    print_sections(console, sections(data, entries=entries, methods=chosen))


def print_sections(console: Console, listed: Iterable[Section]) -> None:
    """Print sections, those without anything to show left out."""
    for section in listed:
        _print_section(console, section)


def _print_section(console: Console, section: Section) -> None:
    shown = section.shown_on(TERMINAL)
    if shown and TERMINAL in section.title_on:
        console.rule(_safe(section.title, style="bold"), align="left", characters="─")
    for element in shown:
        match element:
            case Section():
                _print_section(console, element)
            case Facts():
                _print_facts(console, element.pairs)
            case Text():
                _print_text(console, element.text)
            case Table():
                print_table(console, element)
            case Warnings():
                _print_warnings(console, element)
            case Figures():  # drawn on the page and in files only
                pass


def _print_facts(console: Console, facts: Sequence[tuple[str, str]]) -> None:
    grid = RichTable.grid(padding=(0, 2))
    grid.add_column(style="bold", no_wrap=True)
    grid.add_column()
    for label, value in facts:
        grid.add_row(_safe(label), _safe(value))
    console.print(grid)
    console.print()


def _print_text(console: Console, text: str) -> None:
    console.print(_safe(text))
    console.print()


def _safe(text: str, style: str = "") -> RichText:
    """Return text that shows as it is: no markup, and no escape sequence of a name or an error reaches the terminal."""
    return RichText(printable(text), style=style)


def print_table(console: Console, table: Table) -> None:
    """Print one table: caption above, note below; its numbers are never folded."""
    console.print(_safe(table.caption, style="bold"))
    if not table.rows:
        console.print(Padding(_safe(table.empty), (0, 0, 1, 1)))
        return
    is_wide = console.width >= WIDE_COLUMNS
    columns = [column for column in table.columns if is_wide or not column.is_minor]
    if _width_needed(table, columns) > console.width:
        _print_rows(console, table, columns)
        return
    shown = RichTable(
        box=None,
        pad_edge=False,
        padding=(0, 2, 0, 0) if is_wide else (0, 1, 0, 0),
        header_style="bold underline",
        expand=False,
    )
    for column in columns:
        longest = max(len(column.text(row)) for row in table.rows)
        _add_column(shown, column, is_whole=column.is_numeric or longest <= SHORT_TEXT)
        if is_wide and column.has_bar:
            shown.add_column(RichText(""), no_wrap=True)
    for row in table.rows:
        cells: list[RichText] = []
        for column in columns:
            cells.append(_safe(column.text(row), style="bold" if column.is_marked(row) else ""))
            if is_wide and column.has_bar:
                cells.append(RichText(_bar(column.sort(row) if column.sort else None)))
        shown.add_row(*cells)
    console.print(shown)
    if table.note:
        console.print(Padding(_safe(table.note, style="dim"), (0, 0, 0, 1)))
    console.print()


def _width_needed(table: Table, columns: Sequence[Column]) -> int:
    """Return the width in which no number and no title is cut, and no text is folded into a sliver."""
    return sum(
        1 + max(len(column.title), longest if column.is_numeric else min(longest, SHORT_TEXT))
        for column in columns
        for longest in [max(len(column.text(row)) for row in table.rows)]
    )


def _print_rows(console: Console, table: Table, columns: Sequence[Column]) -> None:
    """Print a table that is too wide for the terminal row by row, its columns one below the other."""
    for row in table.rows:
        grid = RichTable.grid(padding=(0, 1))
        grid.add_column(no_wrap=True, style="dim")
        grid.add_column(overflow="fold")
        for column in columns:
            grid.add_row(_safe(column.title), _safe(column.text(row), style="bold" if column.is_marked(row) else ""))
        console.print(grid)
        console.print()
    if table.note:
        console.print(Padding(_safe(table.note, style="dim"), (0, 0, 0, 1)))
        console.print()


def _add_column(shown: RichTable, column: Column, *, is_whole: bool) -> None:
    shown.add_column(
        _safe(column.title),
        justify="right" if column.is_numeric else "left",
        no_wrap=is_whole,
        overflow="fold",
    )


def _bar(share: float | None) -> str:
    """Return a bar of a share between 0 and 1 in eighths of a character."""
    if share is None:
        return ""
    eighths = round(max(0.0, min(share, 1.0)) * BAR_WIDTH * 8)
    return "█" * (eighths // 8) + _EIGHTHS[eighths % 8].strip()


def _print_warnings(console: Console, warnings: Warnings) -> None:
    console.print(_safe(warnings.title, style="bold yellow"))
    for text in warnings.sentences:
        console.print(Padding(_safe(f"! {sentence(text)}"), (0, 0, 0, 1)))
