"""The best, the middle and the worst tenth of the configurations: tables of what they reach and of their profiles."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from naxcli.report.data import ReportData
from naxcli.report.section import MARKDOWN, TERMINAL, Column, Row, Sheet, Table
from naxcli.report.text import NOT_AVAILABLE, decimal, is_missing, percent, plus_minus, whole
from naxcli.settings.units import format_count

NAMES = ("top", "middle", "bottom")
TITLES = {name: f"{name.capitalize()} 10 %" for name in NAMES}
COLUMNS = ("tenth", "num_configs", "quantity", "mean", "std")
PROFILE_COLUMNS = ("profile", "tenth", "block", "num_configs", "mean", "std")
_QUANTITIES: Mapping[str, tuple[str, Callable[[Any], str]]] = {
    "val_accuracy": ("Accuracy", percent),
    "cost": ("Cost", lambda value: decimal(value, 4)),
    "num_params": ("Parameters", format_count),
    "flops": ("Multiply-adds", format_count),
}


def table(data: ReportData) -> Table:
    """Return mean and standard deviation of accuracy, cost and sizes of each tenth."""
    rows = data.listed("tenths")
    shown = [name for name in _QUANTITIES if any(not is_missing(_spread(row, name).get("mean")) for row in rows)]
    return Table(
        name="tenths-table",
        caption="The best, the middle and the worst 10 % of the configurations",
        columns=[
            Column(title="Tenth", text=lambda row: row["tenth"].capitalize()),
            Column(title="n", text=lambda row: whole(row["num_configs"]), is_numeric=True),
            *(Column(title=_QUANTITIES[name][0], text=_cell(name), is_numeric=True) for name in shown),
        ],
        rows=rows,
        note="Mean ± standard deviation over n configurations, by cost at the highest fidelity; repeats of one are averaged first.",
        empty="n/a: fewer than ten configurations have succeeded at the highest fidelity",
        empty_on=MARKDOWN,
    )


def _spread(row: Row, quantity: str) -> Mapping[str, Any]:
    found: Mapping[str, Any] = row.get(quantity) or {}
    return found


def _cell(quantity: str) -> Callable[[Row], str]:
    write = _QUANTITIES[quantity][1]

    def text(row: Row) -> str:
        mean, std = (_spread(row, quantity).get(name) for name in ("mean", "std"))
        if is_missing(mean):
            return NOT_AVAILABLE
        return write(mean) if is_missing(std) else f"{write(mean)} ± {write(std)}"

    return text


def profile_names(data: ReportData) -> list[str]:
    """Return the names of the profiles that the space declared."""
    return list(dict.fromkeys(name for entry in data.listed("tenths") for name in entry["profiles"]))


def profile_rows(data: ReportData) -> list[Row]:
    """Return a row per profile, tenth and block."""
    return [
        {"profile": name, "tenth": entry["tenth"], **point}
        for name in profile_names(data)
        for entry in data.listed("tenths")
        for point in entry["profiles"][name]
    ]


def profile_tables(data: ReportData) -> list[Table]:
    """Return a table of each profile, where there are no figures: a row per block, a column per tenth."""
    found = profile_rows(data)
    return [_profile_table(name, [row for row in found if row["profile"] == name]) for name in profile_names(data)]


def _profile_table(name: str, found: list[Row]) -> Table:
    rows = [
        {"block": block, **{row["tenth"]: row for row in found if row["block"] == block}}
        for block in sorted({row["block"] for row in found})
    ]

    def column(tenth: str) -> Column:
        def text(row: Row) -> str:
            point = row.get(tenth) or {}
            return plus_minus(point.get("mean"), point.get("std"), 1)

        return Column(title=TITLES[tenth], text=text, is_numeric=True)

    return Table(
        name=f"profile-{name}",
        caption=f"{name.capitalize()} by block",
        columns=[Column(title="Block", text=lambda row: whole(row["block"]), is_numeric=True), *map(column, NAMES)],
        rows=rows,
        note="Mean ± standard deviation over the configurations of each tenth.",
        on=TERMINAL | MARKDOWN,
    )


def sheets(data: ReportData) -> list[Sheet]:
    """Return the numbers of each tenth, and of its profiles."""
    rows = [
        {"tenth": entry["tenth"], "num_configs": entry["num_configs"], "quantity": quantity, **entry[quantity]}
        for entry in data.listed("tenths")
        for quantity in _QUANTITIES
        if quantity in entry
    ]
    return [
        Sheet(name="tenths", columns=COLUMNS, rows=rows),
        Sheet(name="profiles", columns=PROFILE_COLUMNS, rows=profile_rows(data)),
    ]
