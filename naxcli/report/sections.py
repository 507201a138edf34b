"""Every section of the report, described once. To add one, list it here."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import partial

from naxcli.analysis.methods import METHODS
from naxcli.report import (
    checklist,
    environment,
    importance,
    importance_sheets,
    questions,
    results,
    studies,
    tenths,
    trials,
)
from naxcli.report.data import ReportData
from naxcli.report.figures import importance_numbers as importance_charts
from naxcli.report.figures import numbers as charts
from naxcli.report.figures import profile_numbers
from naxcli.report.figures.parallel_numbers import parallel_coordinates
from naxcli.report.importance import Entry
from naxcli.report.section import (
    MARKDOWN,
    NOWHERE,
    PAGE,
    TERMINAL,
    Facts,
    Figures,
    Section,
    Sheet,
    Text,
)


def sections(
    data: ReportData, *, entries: Sequence[Entry] | None = None, methods: Iterable[str] = METHODS
) -> list[Section]:
    """Return the sections of a report in the order in which they are read.

    Args:
        data: The run.
        entries: Importance at the fidelities to show, in this order; all, the highest first, if None.
        methods: Which methods of importance to show.
    """
    return [
        _summary(data),
        _incumbent(data),
        _progress(data),
        _importance(data, data.importance[::-1] if entries is None else entries, tuple(methods)),
        _parallel(data),
        _size(data, tuple(methods)),
        _tenths(data),
        _curves(data),
        _fidelities(data, tuple(methods)),
        studies.section(data.studies),
        _trials(data),
        _environment(data),
        _checklist(data),
        _conclusions(data),
    ]


def _sheet(data: ReportData, name: str, *columns: str) -> Sheet:
    """Return the sheet of a list of the summary."""
    return Sheet(name=name, columns=columns, rows=data.listed(name))


def _summary(data: ReportData) -> Section:
    headline = results.headline(data)
    return Section(
        name="summary",
        title="Summary",
        elements=[
            Text(text=headline, is_headline=True, on=PAGE),
            Facts(pairs=results.facts(data)),
            Text(text=headline, on=TERMINAL | MARKDOWN),
            *(Text(text=text, on=PAGE) for text in results.verdicts(data)),
            results.warnings(data, on=PAGE),
        ],
        title_on=PAGE,
    )


def _incumbent(data: ReportData) -> Section:
    return Section(
        name="incumbent",
        title="Incumbent",
        elements=[
            results.comparison(data),
            *([results.confirmed_costs(data)] if data.confirmed is not None else []),
            results.settings_side_by_side(data),
            *(Text(text=text, on=MARKDOWN) for text in results.verdicts(data)),
            results.configurations(data),
        ],
        title_on=PAGE,
    )


def _progress(data: ReportData) -> Section:
    return Section(
        name="progress",
        title="Cost over time",
        elements=[
            Figures(makers=[partial(charts.cost_over, data, clock) for clock in ("elapsed", "spent")]),
            _sheet(data, "trajectory", "trial_id", "ended_at", "elapsed_seconds", "trial_seconds_sum", "cost"),
        ],
    )


def _importance(data: ReportData, entries: Sequence[Entry], methods: Sequence[str]) -> Section:
    """Return figures over all fidelities, then a section of each fidelity, the first one open."""
    has_groups = any(entry.get("groups") for entry in data.importance)
    bars = [
        partial(importance_charts.effect_bars, data, method, by_group=by_group)
        for by_group in ((True, False) if has_groups else (False,))
        for method in importance.EFFECTS
    ]
    nothing = Text(text="Importance: n/a, no trial has succeeded.", on=TERMINAL | PAGE)
    return Section(
        name="importance",
        title="Which choices mattered",
        elements=[
            *([] if entries else [nothing]),
            Figures(makers=bars, are_beside=True),
            *(_fidelity(data, entry, methods, is_first=entry is entries[0]) for entry in entries),
            *importance_sheets.sheets(data),
        ],
        title_on=PAGE,
    )


def _fidelity(data: ReportData, entry: Entry, methods: Sequence[str], *, is_first: bool) -> Section:
    name = importance.name_of(entry)
    return Section(
        name=name,
        title=importance.title_of(data, entry),
        elements=[
            Text(text=importance.basis(entry)),
            *importance.tables(entry, methods),
            *questions.tables(entry, methods),
            Figures(makers=[partial(importance_charts.pair_heat_map, entry, name)]),
            Figures(makers=[partial(importance_charts.partial_dependence, data, entry, name)]),
            Figures(
                makers=[
                    partial(importance_charts.ablation_path, entry, name),
                    partial(importance_charts.shapley_bars, data, entry, name),
                ],
                are_beside=True,
            ),
        ],
        title_on=TERMINAL | MARKDOWN | PAGE,
        is_open=is_first,
    )


def _parallel(data: ReportData) -> Section:
    figures = Figures(makers=[partial(parallel_coordinates, data)])
    return Section(name="parallel", title="Parallel coordinates", elements=[figures])


def _size(data: ReportData, methods: Sequence[str]) -> Section:
    return Section(
        name="size",
        title="Cost against size",
        elements=[
            Figures(makers=[partial(charts.pareto_front, data)]),
            results.pareto(data),
            *questions.trade_offs(data, methods),
            _sheet(data, "pareto", "trial_id", "config_id", "cost", "num_params", "flops", "latency_ms"),
            Sheet(name="trade_offs", columns=questions.TRADE_OFF_COLUMNS, rows=questions.trade_off_rows(data)),
        ],
    )


def _tenths(data: ReportData) -> Section:
    return Section(
        name="tenths",
        title="Best, middle and worst",
        elements=[
            tenths.table(data),
            *tenths.profile_tables(data),
            profile_numbers.figures(data),
            *tenths.sheets(data),
        ],
    )


def _curves(data: ReportData) -> Section:
    figures = Figures(makers=[partial(charts.curves_of_trials, data)])
    return Section(name="curves", title="Learning curves", elements=[figures])


def _fidelities(data: ReportData, methods: Sequence[str]) -> Section:
    columns = ("fidelity", "to", "num_configs", "spearman", "kendall", "low", "high", "verdict")
    return Section(
        name="fidelities",
        title="Do cheap trials rank as full ones do?",
        elements=[
            results.proxy_audit(data),
            *questions.changes(data, methods),
            Figures(makers=[partial(charts.fidelity_correlation, data)]),
            _sheet(data, "proxy_audit", *columns),
            Sheet(name="importance_changes", columns=questions.CHANGE_COLUMNS, rows=questions.change_rows(data)),
        ],
    )


def _trials(data: ReportData) -> Section:
    return Section(
        name="trials",
        title="Trials",
        elements=[
            trials.best(data),
            trials.failures(data),
            *trials.failure_rates(data),
            _sheet(data, "failures", "status", "count", "example"),
            _sheet(data, "failure_rates", *trials.RATE_COLUMNS),
        ],
    )


def _environment(data: ReportData) -> Section:
    return Section(
        name="environment",
        title="Environment and settings",
        elements=[
            environment.table("environment-table", "Environment", data.environment),
            environment.table("experiment", "Settings", data.experiment),
        ],
    )


def _checklist(data: ReportData) -> Section:
    return Section(name="checklist", title="Best-practice checklist", elements=[checklist.table(data)])


def _conclusions(data: ReportData) -> Section:
    """Return what a page says first, in its summary: on a terminal, what comes last is what one sees."""
    return Section(
        name="conclusions",
        title="Conclusions",
        elements=[
            *(Text(text=text, on=TERMINAL) for text in results.verdicts(data)),
            results.warnings(data, on=TERMINAL | MARKDOWN),
        ],
        title_on=NOWHERE,
    )
