"""The report as one HTML file that needs no network: tables, figures, their data, and the library that draws them."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

from naxcli.errors import NaxcliError
from naxcli.records.files import write_file
from naxcli.report import checklist, importance, results
from naxcli.records.trial import CONFIG_PREFIX
from naxcli.report.data import ReportData
from naxcli.report.table import Column, Table
from naxcli.report.text import decimal, is_missing, plain, shorten

if TYPE_CHECKING:
    from naxcli.report.figures.plotly_style import Figure

NUM_BEST_TRIALS = 50
MAX_SETTING_LENGTH = 400

# A section of the page: identifier, title, HTML.
Part = tuple[str, str, str]


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
    parts = _parts(data)
    contents = "".join(f"<li><a href='#{name}'>{escape(title)}</a></li>" for name, title, _ in parts)
    sections = "".join(
        f"<section id='{name}' aria-labelledby='{name}-title'><h2 id='{name}-title'>{escape(title)}</h2>{body}</section>"
        for name, title, body in parts
    )
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
<main id="main">{sections}</main>
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


def _parts(data: ReportData) -> list[Part]:
    """Return the page's sections; those about what the run does not have are left out, except where that is itself news."""
    from naxcli.report.elements import table
    from naxcli.report.figures import plotly_run as figures

    parts = [
        ("summary", "Summary", _summary(data)),
        ("incumbent", "Incumbent", _incumbent(data)),
        (
            "progress",
            "Cost over time",
            _figures([figures.cost_over(data, "elapsed"), figures.cost_over(data, "spent")]),
        ),
        ("importance", "Which choices mattered", _importance(data)),
        ("parallel", "Parallel coordinates", _figures([figures.parallel_coordinates(data)])),
        ("size", "Cost against size", _figures([figures.pareto_front(data)]) + _unless_empty(results.pareto(data))),
        ("curves", "Learning curves", _figures([figures.learning_curves(data)])),
        ("fidelities", "Do cheap trials rank as full ones do?", _fidelities(data)),
        ("trials", "Trials", table(best_trials(data)) + table(results.failures(data))),
        (
            "environment",
            "Environment and settings",
            table(flat("environment-table", "Environment", data.environment))
            + table(flat("experiment", "Settings", data.experiment)),
        ),
        ("checklist", "Best-practice checklist", table(checklist.table(data), prefix="nas")),
    ]
    return [part for part in parts if part[2]]


def _incumbent(data: ReportData) -> str:
    from naxcli.report.elements import table

    measured = table(results.comparison(data)) + _unless_empty(results.confirmed_costs(data))
    return measured + table(results.settings_side_by_side(data))


def _summary(data: ReportData) -> str:
    from naxcli.report.elements import definitions, paragraph

    warnings = "".join(paragraph(text) for text in results.warnings(data).sentences)
    callout = f"<div class='callout' role='note'><strong>Warnings</strong>{warnings}</div>" if warnings else ""
    verdicts = "".join(paragraph(text) for text in results.verdicts(data))
    return paragraph(results.headline(data), style="headline") + definitions(results.facts(data)) + verdicts + callout


def _figures(found: Iterable[Figure | None]) -> str:
    from naxcli.report.elements import figure

    return "".join(figure(content) for content in found if content is not None)


def _unless_empty(content: Table) -> str:
    from naxcli.report.elements import table

    return table(content) if content.rows else ""


def _importance(data: ReportData) -> str:
    """Return figures over all fidelities, then the tables and figures of each fidelity, the highest one opened."""
    from naxcli.report.elements import paragraph, table
    from naxcli.report.figures import plotly_importance as drawn

    if not data.importance:
        return paragraph("n/a: no trial has succeeded.")
    has_groups = any(entry.get("groups") for entry in data.importance)
    overview = [
        drawn.importance_bars(data, method, by_group=by_group)
        for by_group in ((True, False) if has_groups else (False,))
        for method in ("lpi", "fanova")
    ]
    parts = [f"<div class='pair'>{_figures(overview)}</div>"]
    for position, entry in enumerate(reversed(data.importance)):
        section = importance.section(data, entry)
        tables = "".join(table(content, prefix=section.name) for content in section.tables)
        path_figures = [drawn.ablation_path(entry, section.name), drawn.shapley_bars(data, entry, section.name)]
        small = drawn.partial_dependence(data, entry, section.name)
        dependence = ""
        if small:
            dependence = (
                "<h4>Partial dependence</h4>"
                + paragraph(
                    "Predicted cost at each value, averaged over everything else, ± the standard deviation over the trees; all on one "
                    "axis. Filled: the incumbent's value."
                )
                + f"<div class='multiples'>{_figures(small)}</div>"
            )
        parts.append(
            f"<details class='fidelity' id='{section.name}'{' open' if position == 0 else ''}><summary><h3>{escape(section.title)}</h3>"
            f"</summary>{''.join(paragraph(text) for text in section.sentences)}{tables}"
            f"{_figures([drawn.pair_heat_map(entry, section.name)])}{dependence}<div class='pair'>{_figures(path_figures)}</div></details>"
        )
    return "".join(parts)


def _fidelities(data: ReportData) -> str:
    from naxcli.report.elements import table
    from naxcli.report.figures import plotly_run as figures

    correlation = figures.fidelity_correlation(data)
    return table(results.proxy_audit(data)) + _figures([correlation])


def best_trials(data: ReportData) -> Table:
    """Return the best successful trials of the highest fidelities with their settings."""
    successes = data.successes.sort_values("cost", kind="stable")
    if len(successes):
        successes = successes.sort_values("fidelity", ascending=False, kind="stable")
    best = successes.head(NUM_BEST_TRIALS)
    rows = [
        {"trial": trial, **{str(name): value for name, value in row.items()}}
        for trial, row in zip(data.trial_ids(best), best.to_dict("records"), strict=True)
    ]
    settings = [Column(title=name, text=_setting(name)) for name in data.hyperparameters]
    return Table(
        name="best-trials",
        caption=f"The best {len(rows)} of {len(successes):,} successful trials, the highest fidelity first",
        columns=[
            Column(
                title="Trial",
                text=lambda row: plain(row["trial"]),
                sort=lambda row: float(row["trial"]),
                is_numeric=True,
            ),
            Column(
                title="Cost",
                text=lambda row: decimal(row["cost"], 4),
                sort=lambda row: float(row["cost"]),
                is_numeric=True,
            ),
            Column(
                title=data.fidelity_unit.capitalize(),
                text=lambda row: plain(row["fidelity"]),
                is_numeric=True,
                sort=lambda row: float(row["fidelity"]),
            ),
            *settings,
        ],
        rows=rows,
        note="All trials are in trials.parquet of the run.",
        empty="n/a: no trial has succeeded",
    )


def _setting(name: str) -> Any:
    def text(row: Mapping[str, Any]) -> str:
        value = row[CONFIG_PREFIX + name]
        return results.ABSENT if is_missing(value) else plain(value)

    return text


def flat(name: str, caption: str, settings: Mapping[str, Any]) -> Table:
    """Return nested settings as a table of dotted names."""
    return Table(
        name=name,
        caption=caption,
        columns=[
            Column(title="Name", text=lambda row: row["name"]),
            Column(title="Value", text=lambda row: row["value"]),
        ],
        rows=[{"name": key, "value": value} for key, value in _flatten("", settings)],
        empty="n/a: not recorded",
    )


def _flatten(prefix: str, value: Any) -> Iterable[tuple[str, str]]:
    if isinstance(value, Mapping):
        for key, item in value.items():
            yield from _flatten(f"{prefix}.{key}" if prefix else str(key), item)
    elif isinstance(value, Sequence) and not isinstance(value, str):
        yield (
            prefix,
            shorten(
                ", ".join(plain(item) if not isinstance(item, Mapping) else json.dumps(item) for item in value),
                MAX_SETTING_LENGTH,
            ),
        )
    else:
        yield prefix, shorten(plain(value), MAX_SETTING_LENGTH)
