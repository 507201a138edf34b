"""The trials of a run: the best ones with their settings, and those that failed."""

from __future__ import annotations

from collections.abc import Callable

from naxcli.records.trial import CONFIG_PREFIX
from naxcli.report.data import ReportData
from naxcli.report.results import ABSENT, number_in
from naxcli.report.section import MARKDOWN, PAGE, Column, Row, Table
from naxcli.report.text import NOT_AVAILABLE, decimal, is_missing, plain, shorten, whole

NUM_BEST_TRIALS = 50


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
