"""A section that is listed once is shown everywhere."""

from __future__ import annotations

import csv
import io
from functools import partial

import pytest
from rich.console import Console

from naxcli.report import ReportData, html, markdown, terminal
from naxcli.report import csv as csv_files
from naxcli.report.csv import write_csv
from naxcli.report.figures import files, numbers
from naxcli.report.html import render_html
from naxcli.report.markdown import render_markdown
from naxcli.report.section import (
    MARKDOWN,
    PAGE,
    TERMINAL,
    Column,
    Figures,
    Section,
    Sheet,
    Table,
    Text,
    Warnings,
    figures_of,
    walk,
)
from naxcli.report.sections import sections
from naxcli.report.terminal import print_report
from tests.report.examples import empty_run, example_data, one_trial


def table(**given: object) -> Table:
    column = Column(title="Colour", text=lambda row: str(row["colour"]))
    return Table(**{"name": "colours", "caption": "Colours of networks", "columns": [column], **given})  # type: ignore[arg-type]


@pytest.fixture
def data(monkeypatch: pytest.MonkeyPatch) -> ReportData:
    """A run whose report has one more section, with a table, a figure and a sheet."""
    found = example_data(60)

    def pareto() -> object:
        return numbers.pareto_front(found)

    added = Section(
        name="colours",
        title="Which colours?",
        elements=[
            Text(text="One colour was seen."),
            table(rows=[{"colour": "vermilion"}]),
            Figures(makers=[pareto]),  # type: ignore[list-item]
            Sheet(name="colours", columns=("colour",), rows=[{"colour": "vermilion"}]),
        ],
    )
    for renderer in (terminal, markdown, html, csv_files, files):
        monkeypatch.setattr(renderer, "sections", lambda data, **_: [added])
    return found


def test_a_section_listed_once_is_on_the_terminal_in_markdown_on_the_page_in_csv_and_in_the_plots(
    tmp_path, data: ReportData
) -> None:
    stream = io.StringIO()
    print_report(Console(file=stream, width=80), data)
    page = render_html(data)
    for text in (stream.getvalue(), render_markdown(data), page):
        assert "One colour was seen." in text
        assert "Colours of networks" in text
        assert "vermilion" in text
    assert "## Which colours?" in render_markdown(data)
    assert "<h2 id='colours-title'>Which colours?</h2>" in page
    assert "figure-pareto-front" in page
    (path,) = write_csv(tmp_path, data)
    assert list(csv.DictReader(path.open())) == [{"colour": "vermilion"}]
    assert [name for name, _ in files.painted(data)] == ["pareto_front"]


def test_a_table_without_rows_is_shown_only_where_that_is_news() -> None:
    section = Section(name="s", title="S", elements=[table(rows=[], empty_on=MARKDOWN), table(rows=[], on=PAGE)])
    assert [len(section.shown_on(medium)) for medium in (TERMINAL, MARKDOWN, PAGE)] == [0, 1, 1]


def test_warnings_without_a_sentence_and_sections_without_an_element_are_left_out() -> None:
    inner = Section(name="inner", title="Inner", elements=[Warnings(title="Warnings", sentences=[])])
    assert Section(name="outer", title="Outer", elements=[inner]).shown_on(PAGE) == []


def test_figures_are_made_only_by_what_draws_them() -> None:
    def make() -> None:
        raise AssertionError("made")

    section = Section(name="s", title="S", elements=[Figures(makers=[make])])
    for medium in (TERMINAL, MARKDOWN):
        assert section.shown_on(medium) == []
    with pytest.raises(AssertionError, match="made"):
        list(figures_of([section]))


@pytest.mark.parametrize("make", [partial(example_data, 60), empty_run, one_trial])
def test_names_of_sections_sheets_and_figures_are_unique(make) -> None:
    found = sections(make())
    names = [section.name for section in found]
    sheets = [element.name for element in walk(found) if isinstance(element, Sheet)]
    figures = [(figure.name, figure.file) for figure in figures_of(found)]
    for each in (names, sheets, [name for name, _ in figures], [file for _, file in figures]):
        assert len(set(each)) == len(each)
    assert len(sheets) == 18
