"""Two runs side by side on a terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from rich.table import Table
from rich.text import Text

from naxcli.errors import printable
from naxcli.report.text import NOT_AVAILABLE
from naxcli.settings.units import format_duration

if TYPE_CHECKING:
    from rich.console import Console

# Of the anytime curves; all points are in --json.
NUM_ROWS = 8
CLOCKS = {"trials": "numbers of trials", "epochs": "epochs", "seconds": "time in which trials ran"}


def print_comparison(console: Console, found: Mapping[str, Any]) -> None:
    """Print what differs, how the best cost fell by each clock, importance side by side, and the verdict."""
    first, second = "A", "B"
    table = _table("Runs", "", "run", "trials", "fidelity", "best cost", "epochs", "trials ran for")
    for letter, run in zip((first, second), found["runs"], strict=True):
        _add_row(
            table,
            letter,
            run["name"],
            str(run["num_trials"]),
            _number(run["fidelity"], "g"),
            _number(run["best"]),
            _number(run["epochs"], ",.0f"),
            NOT_AVAILABLE if run["seconds"] is None else format_duration(run["seconds"]),
        )
    console.print(table)
    if found["settings"] or found["space"]:
        table = _table("Settings that differ", "setting", first, second)
        for row in found["settings"]:
            _add_row(table, row["name"], _text(row["first"]), _text(row["second"]))
        for row in found["space"]:
            _add_row(table, f"space: {row['name']}", _text(row["first"]), _text(row["second"]))
        console.print(table)
    for clock, points in found["anytime"].items():
        table = _table(
            f"Best cost after equal {CLOCKS[clock]}, with 95 % intervals", "after", first, second, "difference"
        )
        step = max(1, len(points) // NUM_ROWS)
        for row in points[::-1][::step][::-1]:
            _add_row(
                table,
                format_duration(row["at"]) if clock == "seconds" else f"{row['at']:,.0f}",
                _interval(row["first"], row["first_low"], row["first_high"]),
                _interval(row["second"], row["second_low"], row["second_high"]),
                _interval(row["difference"], row["low"], row["high"]),
            )
        console.print(table)
    if found["importance"]:
        table = _table("Importance", "hyperparameter", "method", first, second, "")
        for row in found["importance"]:
            means = [_mean(row[run]) for run in ("first", "second")]
            _add_row(
                table, row["name"], row["method"], *(_number(mean, ".3f") for mean in means), _resolved(row, means)
            )
        console.print(table)
    console.print(Text.assemble(("Verdict", "bold"), ": ", printable(found["verdict"])))


def _resolved(row: Mapping[str, Any], means: Sequence[float | None]) -> str:
    if None in means:
        return NOT_AVAILABLE
    if row["is_resolved"] is None:
        return "no intervals"
    return "differ" if row["is_resolved"] else "intervals overlap"


def _mean(value: Mapping[str, Any] | None) -> float | None:
    return None if value is None else value["mean"]


def _table(title: str, *columns: str) -> Table:
    table = Table(title=title, title_justify="left", box=None, header_style="bold", padding=(0, 2, 0, 0))
    for index, name in enumerate(columns):
        table.add_column(name, justify="left" if index == 0 else "right")
    return table


def _add_row(table: Table, *cells: str) -> None:
    table.add_row(*(Text(printable(cell)) for cell in cells))


def _text(value: Any) -> str:
    return "not set" if value is None else str(value)


def _number(value: float | None, form: str = ".4f") -> str:
    return NOT_AVAILABLE if value is None else format(value, form)


def _interval(value: float | None, low: float | None, high: float | None) -> str:
    return _number(value) + ("" if low is None or high is None else f" [{low:.4f}, {high:.4f}]")
