"""The trials of a run: the best ones with their settings, and those that failed."""

from __future__ import annotations

from collections.abc import Callable

from naxcli.records.trial import CONFIG_PREFIX
from naxcli.report.data import ReportData
from naxcli.report.results import ABSENT, number_in
from naxcli.report.section import MARKDOWN, PAGE, Column, Row, Table
from naxcli.report.text import NOT_AVAILABLE, decimal, is_missing, percent, plain, shorten, whole

NUM_BEST_TRIALS = 50
RATE_COLUMNS = (
    "name",
    "value",
    "from",
    "to",
    "num_trials",
    "num_failed",
    "rate",
    "low",
    "high",
    "other_rate",
    "matters",
)


def best(data: ReportData) -> Table:
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
        on=PAGE,
    )


def _setting(name: str) -> Callable[[Row], str]:
    def text(row: Row) -> str:
        value = row[CONFIG_PREFIX + name]
        return ABSENT if is_missing(value) else plain(value)

    return text


def failures(data: ReportData) -> Table:
    """Return the trials that failed by status, with one example of each."""
    return Table(
        name="failures",
        caption="Trials without a cost",
        columns=[
            Column(title="Status", text=lambda row: str(row["status"]).replace("_", " ")),
            Column(title="Trials", text=lambda row: whole(row["count"]), sort=number_in("count"), is_numeric=True),
            Column(title="Example", text=lambda row: shorten(row.get("example") or NOT_AVAILABLE, 240)),
        ],
        rows=data.listed("failures"),
        note="Left out of every importance number.",
        empty="None: every finished trial succeeded." if len(data.trials) else "n/a: no trial has finished",
        empty_on=MARKDOWN | PAGE,
    )


def failure_rates(data: ReportData) -> list[Table]:
    """Return the choices that fail more often than others, or no table where nothing failed."""
    rates = data.listed("failure_rates")
    if not rates:
        return []
    table = Table(
        name="failure-rates",
        caption="Which choices fail more often than others?",
        columns=[
            Column(title="Choice", text=_choice),
            Column(
                title="Failed",
                text=lambda row: f"{whole(row['num_failed'])} of {whole(row['num_trials'])}",
                sort=number_in("num_failed"),
                is_numeric=True,
            ),
            Column(title="Rate", text=lambda row: percent(row["rate"], 0), sort=number_in("rate"), is_numeric=True),
            Column(title="95 % interval", text=_rate_interval, is_numeric=True),
            Column(
                title="Others",
                text=lambda row: percent(row.get("other_rate"), 0),
                sort=number_in("other_rate"),
                is_numeric=True,
            ),
            Column(title="How", text=_how, is_minor=True),
        ],
        rows=[row for row in rates if row.get("matters")],
        note="Of the trials with this choice, those that failed; others: of all that have another one. Only choices that fail more often "
        "than permuted copies of the hyperparameter do.",
        empty="No choice is shown to fail more often than others.",
        empty_on=MARKDOWN | PAGE,
    )
    return [table]


def _choice(row: Row) -> str:
    if is_missing(row.get("from")):
        return f"{row['name']} = {plain(row.get('value'))}"
    return f"{row['name']} from {plain(row['from'])} to {plain(row['to'])}"


def _rate_interval(row: Row) -> str:
    return f"[{decimal(100 * float(row['low']), 0)}, {decimal(100 * float(row['high']), 0)}] %"


def _how(row: Row) -> str:
    return ", ".join(
        f"{whole(count)} {status.replace('_', ' ')}" for status, count in (row.get("statuses") or {}).items()
    )
