"""The report as one HTML file that needs no network: tables, figures, their data, and the library that draws them."""

from __future__ import annotations

import base64
import hashlib
from html import escape
from importlib.resources import files
from pathlib import Path

from naxcli.errors import NaxcliError
from naxcli.records.files import write_file
from naxcli.report.data import ReportData
from naxcli.report.html_elements import definitions, figure, paragraph, table
from naxcli.report.section import PAGE, Facts, Figures, Section, Shown, Table, Text, Warnings
from naxcli.report.sections import sections


def write_html(path: Path, data: ReportData) -> None:
    """Write the report as one offline HTML file, whole or not at all.

    Raises:
        NaxcliError: if Plotly is not installed, or the file cannot be written.
    """
    write_file(path, render_html(data))


def render_html(data: ReportData) -> str:
    """Return the page.

    Raises:
        NaxcliError: if Plotly is not installed.
    """
    try:
        from plotly.offline import get_plotlyjs
    except ImportError as error:
        raise NaxcliError(
            "the HTML report needs Plotly, which is not installed", why=str(error), hint="pip install 'naxcli[html]'"
        ) from error
    library, script, style = get_plotlyjs(), _asset("report.js"), _asset("report.css")
    parts = [(section, html) for section in sections(data) if (html := _section(section))]
    contents = "".join(f"<li><a href='#{section.name}'>{escape(section.title)}</a></li>" for section, _ in parts)
    title = escape(f"{data.space} · {data.run}")
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<meta name="generator" content="naxcli">
<meta http-equiv="Content-Security-Policy" content="{_content_security_policy(library, script)}">
<title>{title}</title>
<style>{style}</style>
</head>
<body>
<a class="skip" href="#main">Skip to the report</a>
<header><h1>Architecture search: {escape(data.space)}</h1><button type="button" id="theme" aria-pressed="false">Dark</button></header>
<div class="page">
<nav aria-label="Contents"><details open><summary>Contents</summary><ol>{contents}</ol></details></nav>
<main id="main">{"".join(html for _, html in parts)}</main>
</div>
<p id="announcement" role="status" class="unseen"></p>
<noscript><p class="callout">The figures need JavaScript; every table works without it.</p></noscript>
<script type="text/plain" id="library">{library}</script>
<script>{script}</script>
</body>
</html>
"""


def _asset(name: str) -> str:
    return files("naxcli.report").joinpath("assets", name).read_text(encoding="utf-8")


def _content_security_policy(*scripts: str) -> str:
    """Return a policy under which the page loads nothing, sends nothing, and runs these scripts only.

    'unsafe-eval' is for the library, whose WebGL layer compiles its draw calls; text of a run still cannot become a script.
    """
    hashes = " ".join(
        f"'sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}'" for script in scripts
    )
    return (
        f"default-src 'none'; script-src {hashes} 'unsafe-eval'; style-src 'unsafe-inline'; img-src data: blob:; "
        "font-src data:; form-action 'none'; base-uri 'none'"
    )


def _section(section: Section) -> str:
    """Return a section of the page; empty where the run has nothing to show in it."""
    body = _body(section)
    name, title = section.name, escape(section.title)
    return (
        f"<section id='{name}' aria-labelledby='{name}-title'><h2 id='{name}-title'>{title}</h2>{body}</section>"
        if body
        else ""
    )


def _body(section: Section, *, prefix: str = "") -> str:
    return "".join(_element(element, prefix) for element in section.shown_on(PAGE))


def _element(element: Shown, prefix: str) -> str:
    match element:
        case Section():
            is_open = " open" if element.is_open else ""
            summary = f"<summary><h3>{escape(element.title)}</h3></summary>"
            body = _body(element, prefix=element.name)
            return f"<details class='fidelity' id='{element.name}'{is_open}>{summary}{body}</details>"
        case Facts():
            return definitions(element.pairs)
        case Text():
            return paragraph(element.text, style="headline" if element.is_headline else None)
        case Table():
            return table(element, prefix=prefix)
        case Warnings():
            sentences = "".join(map(paragraph, element.sentences))
            return f"<div class='callout' role='note'><strong>{escape(element.title)}</strong>{sentences}</div>"
        case Figures():
            drawn = "".join(figure(one) for one in element.made())
            return f"<div class='pair'>{drawn}</div>" if drawn and element.are_beside else drawn
