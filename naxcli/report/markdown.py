"""The report as Markdown, for a repository or an issue."""

from __future__ import annotations

from pathlib import Path

from naxcli.errors import printable
from naxcli.records.files import write_file
from naxcli.report import checklist, importance, results
from naxcli.report.data import ReportData
from naxcli.report.table import Table

# Everything that could start a link, an image, HTML, emphasis or a table cell in some Markdown dialect.
_SPECIAL = str.maketrans({character: f"\\{character}" for character in "\\`*_{}[]<>#|!~$&"})


def render_markdown(data: ReportData) -> str:
    """Return the whole report, every fidelity included."""
    lines = [f"# {_escape(data.run)}", ""]
    lines += [f"- **{_escape(label)}**: {_escape(value)}" for label, value in results.facts(data)]
    lines += ["", _escape(results.headline(data)), ""]
    lines += _table(results.comparison(data))
    if data.confirmed is not None:
        lines += _table(results.confirmed_costs(data))
    lines += _table(results.settings_side_by_side(data))
    for sentence in results.verdicts(data):
        lines += [_escape(sentence), ""]
    for entry in reversed(data.importance):
        section = importance.section(data, entry)
        lines += [f"## {_escape(section.title)}", ""]
        lines += [_escape(" ".join(section.sentences)), ""]
        for table in section.tables:
            lines += _table(table)
    lines += ["## Trials", ""]
    for table in (results.proxy_audit(data), results.pareto(data), results.failures(data)):
        lines += _table(table)
    lines += ["## Best-practice checklist", "", *_table(checklist.table(data))]
    warnings = results.warnings(data).sentences
    if warnings:
        lines += ["## Warnings", "", *(f"- {_escape(warning)}" for warning in warnings), ""]
    return "\n".join(lines)


def write_markdown(path: Path, data: ReportData) -> None:
    """Write the report as Markdown, whole or not at all."""
    write_file(path, render_markdown(data))


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
