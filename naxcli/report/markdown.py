"""The report as Markdown, for a repository or an issue."""

from __future__ import annotations

from pathlib import Path

from naxcli.errors import printable
from naxcli.records.files import write_file
from naxcli.report.data import ReportData
from naxcli.report.section import MARKDOWN, Facts, Figures, Section, Table, Text, Warnings
from naxcli.report.sections import sections

# Everything that could start a link, an image, HTML, emphasis or a table cell in some Markdown dialect.
_SPECIAL = str.maketrans({character: f"\\{character}" for character in "\\`*_{}[]<>#|!~$&"})


def render_markdown(data: ReportData) -> str:
    """Return the whole report, every fidelity included."""
    lines = [f"# {_escape(data.run)}", ""]
    for section in sections(data):
        lines += _section(section)
    return "\n".join(lines)


def write_markdown(path: Path, data: ReportData) -> None:
    """Write the report as Markdown, whole or not at all."""
    write_file(path, render_markdown(data))


def _section(section: Section) -> list[str]:
    shown = section.shown_on(MARKDOWN)
    lines = [f"## {_escape(section.title)}", ""] if shown and MARKDOWN in section.title_on else []
    for element in shown:
        match element:
            case Section():
                lines += _section(element)
            case Facts():
                lines += [f"- **{_escape(label)}**: {_escape(value)}" for label, value in element.pairs] + [""]
            case Text():
                lines += [_escape(element.text), ""]
            case Table():
                lines += _table(element)
            case Warnings():
                lines += [f"## {_escape(element.title)}", "", *(f"- {_escape(text)}" for text in element.sentences), ""]
            case Figures():  # drawn on the page and in files only
                pass
    return lines


def _table(table: Table) -> list[str]:
    lines = [f"### {_escape(table.caption)}", ""]
    if not table.rows:
        return [*lines, _escape(table.empty), ""]
    lines.append("| " + " | ".join(_escape(column.title) for column in table.columns) + " |")
    lines.append("|" + "|".join("---:" if column.is_numeric else "---" for column in table.columns) + "|")
    for row in table.rows:
        cells = (
            f"**{_escape(column.text(row))}**" if column.is_marked(row) else _escape(column.text(row))
            for column in table.columns
        )
        lines.append("| " + " | ".join(cells) + " |")
    return [*lines, "", _escape(table.note), ""]


def _escape(text: str) -> str:
    return printable(" ".join(text.split())).translate(_SPECIAL)
