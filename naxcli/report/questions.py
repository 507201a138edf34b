"""Importance as tables that each answer one question, and show only what the trials show."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from naxcli.report.data import ReportData
from naxcli.report.importance import EFFECTS
from naxcli.report.results import interval_column, number_in
from naxcli.report.section import Column, Row, Table, Text
from naxcli.report.text import (
    NOT_AVAILABLE,
    counted,
    decimal,
    interval,
    is_missing,
    percent,
    plain,
    signed,
    whole,
    with_unit,
)

# Rows of a table without intervals, which cannot tell what is shown.
TOP_ROWS = 10
OBJECTIVES = {"num_params": "parameters", "flops": "multiply-adds", "latency_ms": "latency"}
TRADE_OFF_COLUMNS = (
    "objective",
    "fidelity",
    "cost_weight",
    "name",
    "mean",
    "std",
    "low",
    "high",
    "rank_group",
    "matters",
)
CHANGE_COLUMNS = ("fidelity", "to", "method", "name", "before", "after", "difference", "low", "high", "matters")

Entry = Mapping[str, Any]


def tables(entry: Entry, methods: Iterable[str]) -> list[Table]:
    """Return the tables of one fidelity that answer a question, without those of methods that were not asked for."""
    chosen = set(methods)
    found = []
    if "ped_anova" in chosen and entry.get("ped_anova"):
        found.append(separation(entry))
    if "tunability" in chosen and entry.get("tunability"):
        found.append(tunability(entry))
    return found


def separation(entry: Entry) -> Table:
    """Return which hyperparameters tell the best trials from the good ones."""
    rows, others = _shown(entry["ped_anova"])
    quantiles = entry["quantiles"]
    best, good = (f"the best {plain(100 * float(quantiles[name]))} %" for name in ("target", "region"))
    return Table(
        name="ped-anova",
        caption=f"What separates {best} ({whole(quantiles['num_target'])} trials) from {good} ({whole(quantiles['num_region'])})?",
        columns=[
            Column(title="Hyperparameter", text=lambda row: str(row["name"])),
            Column(
                title="PED-ANOVA",
                text=lambda row: decimal(row.get("mean"), 3),
                sort=number_in("mean"),
                is_numeric=True,
                has_bar=True,
            ),
            interval_column(2),
            Column(title="Typical of the best", text=_typical),
        ],
        rows=rows,
        note=(
            "PED-ANOVA: share of the variance of being among the best, rather than among the other good ones, that a hyperparameter alone "
            "explains. Typical: the value that gains most, with its share among the best and among the good ones in brackets; of numbers, "
            f"the median of both.{_not_shown(others)}"
        ),
        empty=f"No hyperparameter alone is shown to separate them: none exceeds permuted copies of itself ({others} asked).",
    )


def _typical(row: Row) -> str:
    if is_missing(row.get("value")):
        return NOT_AVAILABLE
    if is_missing(row.get("target_share")):
        return f"{plain(row['value'])} ({plain(row.get('region_value'))})"
    return f"{plain(row['value'])}: {percent(row['target_share'], 0)} ({percent(row.get('region_share'), 0)})"


def tunability(entry: Entry) -> Table:
    """Return what tuning each hyperparameter alone gains over the default."""
    rows, others = _shown(entry["tunability"])
    return Table(
        name="tunability",
        caption="What would tuning one hyperparameter gain over the default?",
        columns=[
            Column(title="Hyperparameter", text=lambda row: str(row["name"])),
            Column(title="Default", text=lambda row: plain(row.get("from"))),
            Column(title="Best", text=lambda row: plain(row.get("to"))),
            Column(title="Gain", text=lambda row: decimal(row.get("mean"), 4), sort=number_in("mean"), is_numeric=True),
            interval_column(4),
        ],
        rows=rows,
        note=(
            "Tunability: by how much the predicted cost falls if this hyperparameter alone takes its best value and all others stay at the "
            f"default.{_not_shown(others)}"
        ),
        empty=f"No change of a single hyperparameter is shown to gain over the default ({others} asked).",
    )


def change_rows(data: ReportData) -> list[Row]:
    """Return a row for each hyperparameter, method and lower fidelity: its importance there and at the highest fidelity."""
    return [
        {"fidelity": change["fidelity"], "to": change["to"], **row}
        for change in data.listed("importance_changes")
        for row in change["changes"]
    ]


def changes(data: ReportData, methods: Iterable[str]) -> list[Table | Text]:
    """Return whose importance changes with the fidelity by some methods; nothing for a single fidelity or without intervals."""
    chosen = set(methods)
    rows = [row for row in change_rows(data) if row["method"] in chosen]
    if all(is_missing(row.get("matters")) for row in rows):
        return []
    unit = data.fidelity_unit
    orders = [
        _orders(change, [order for order in change["orders"] if order["method"] in chosen], unit)
        for change in data.listed("importance_changes")
    ]
    table = Table(
        name="importance-changes",
        caption=f"Does what matters change with {'the ' if unit == 'fidelity' else ''}{unit}?",
        columns=[
            Column(title="Hyperparameter", text=lambda row: str(row["name"])),
            Column(title="Measure", text=lambda row: EFFECTS[row["method"]]),
            Column(title="From", text=lambda row: plain(row["fidelity"]), sort=number_in("fidelity"), is_numeric=True),
            Column(title="To", text=lambda row: plain(row["to"]), sort=number_in("to"), is_numeric=True),
            Column(title="Before", text=lambda row: decimal(row["before"], 2), is_numeric=True, is_minor=True),
            Column(title="After", text=lambda row: decimal(row["after"], 2), is_numeric=True, is_minor=True),
            Column(
                title="Change",
                text=lambda row: signed(row["difference"], 2),
                sort=number_in("difference"),
                is_numeric=True,
            ),
            interval_column(2),
        ],
        rows=[row for row in rows if row.get("matters")],
        note="Only changes whose interval leaves out 0. Where a fidelity has survivors only, what tells them apart may be another matter.",
        empty="No hyperparameter's share of the variance is shown to change.",
    )
    return [*(Text(text=text) for text in orders if text), table]


def _orders(change: Mapping[str, Any], orders: Sequence[Mapping[str, Any]], unit: str) -> str:
    """Return how alike the orders of importance at two fidelities are."""
    if not orders:
        return ""
    by_method = [
        f"by {EFFECTS[order['method']]} {decimal(order['kendall'], 2)} {interval(order['low'], order['high'], 2)} "
        f"(of {whole(order['num_hyperparameters'])})"
        for order in orders
    ]
    fidelities = f"{with_unit(change['fidelity'], unit)} and {with_unit(change['to'], unit)}"
    return (
        f"Order at {fidelities} of the hyperparameters that are shown to matter, Kendall's rank correlation: "
        f"{', '.join(by_method)}."
    )


def trade_off_rows(data: ReportData) -> list[Row]:
    """Return a row for each further objective, weight and hyperparameter."""
    return [
        {"objective": each["objective"], "fidelity": each["fidelity"], "cost_weight": weight["cost_weight"], **row}
        for each in data.listed("trade_offs")
        for weight in each["weights"]
        for row in weight["fanova"]
    ]


def trade_offs(data: ReportData, methods: Iterable[str]) -> list[Table]:
    """Return a table for each objective beside the cost: what matters for the cost, for both, and for the other one."""
    return [_trade_off(each) for each in data.listed("trade_offs")] if "fanova" in set(methods) else []


def _trade_off(found: Mapping[str, Any]) -> Table:
    objective = OBJECTIVES.get(found["objective"], str(found["objective"]))
    headings = {1.0: "Cost alone", 0.5: "Both alike", 0.0: f"{objective.capitalize()} alone"}
    by_weight = {
        weight["cost_weight"]: {row["name"]: row for row in weight["fanova"]}
        for weight in found["weights"]
        if weight["cost_weight"] in headings
    }
    names = list(dict.fromkeys(name for rows in by_weight.values() for name in rows))
    rows = [
        {"name": name, **{str(weight): rows.get(name) or {} for weight, rows in by_weight.items()}} for name in names
    ]

    def column(weight: float, heading: str) -> Column:
        def mean(row: Row) -> float | None:
            return number_in("mean")(row[str(weight)])

        return Column(title=heading, text=lambda row: _share(row[str(weight)]), sort=mean, is_numeric=True)

    def largest(row: Row) -> float:
        return max(float(row[str(weight)].get("mean") or 0.0) for weight in by_weight)

    has_shown = any(row[str(weight)].get("matters") is not None for row in rows for weight in by_weight)
    shown = [row for row in rows if not has_shown or any(row[str(weight)].get("matters") for weight in by_weight)]
    return Table(
        name=f"trade-off-{found['objective']}",
        caption=f"Which choices matter for the cost, and which for {objective}?",
        columns=[
            Column(title="Hyperparameter", text=lambda row: str(row["name"])),
            *(column(weight, heading) for weight, heading in headings.items() if weight in by_weight),
        ],
        rows=sorted(shown, key=largest, reverse=True),
        note=(
            "fANOVA of the weighted sum of both, each between its lowest and highest trial, with 95 % intervals: share of the variance "
            f"over the whole space; –: not shown.{_not_shown(len(rows) - len(shown))}"
        ),
        empty="No choice is shown to matter for either.",
    )


def _share(effect: Mapping[str, Any]) -> str:
    """Return a share with its interval, a dash where it is not shown to matter."""
    if is_missing(effect.get("mean")) or effect.get("matters") is False:
        return "–"
    if is_missing(effect.get("low")):
        return decimal(effect["mean"], 2)
    return f"{decimal(effect['mean'], 2)} {interval(effect['low'], effect['high'], 2)}"


def _shown(rows: Sequence[Row]) -> tuple[list[Row], int]:
    """Return the rows that are shown to matter, or the largest where that was not asked, and the number of the others."""
    if all(is_missing(row.get("matters")) for row in rows):
        return list(rows[:TOP_ROWS]), len(rows[TOP_ROWS:])
    shown = [row for row in rows if row.get("matters")]
    return shown, len(rows) - len(shown)


def _not_shown(others: int) -> str:
    return f" Left out, as not shown or small: {counted(others, 'other')}." if others else ""
