"""Two runs side by side on a terminal."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from rich.table import Table
from rich.text import Text

from naxcli.errors import printable
from naxcli.quantities import format_duration

if TYPE_CHECKING:
    from rich.console import Console

# Of the anytime curves; all points are in --json.
NUM_ROWS = 8


def print_comparison(console: Console, found: Mapping[str, Any]) -> None:
    """Print what differs, how the best cost fell over active time, importance side by side, and the verdict."""
    first, second = "A", "B"
    table = _table("Runs", "", "run", "trials", "fidelity", "best cost", "active time")
    for letter, run in zip((first, second), found["runs"], strict=True):
        table.add_row(
            letter,
            run["name"],
            str(run["num_trials"]),
            _number(run["fidelity"], "g"),
            _number(run["best"]),
            format_duration(run["seconds"]),
        )
    console.print(table)
    if found["settings"] or found["space"]:
        table = _table("Settings that differ", "setting", first, second)
        for row in found["settings"]:
            table.add_row(row["name"], _text(row["first"]), _text(row["second"]))
        for row in found["space"]:
            table.add_row(f"space: {row['name']}", _text(row["first"]), _text(row["second"]))
        console.print(table)
    if found["anytime"]:
        table = _table("Best cost over active time, with 95 % intervals", "after", first, second, "difference")
        step = max(1, len(found["anytime"]) // NUM_ROWS)
        for row in found["anytime"][step - 1 :: step]:
            table.add_row(
                format_duration(row["seconds"]),
                _interval(row["first"], row["first_low"], row["first_high"]),
                _interval(row["second"], row["second_low"], row["second_high"]),
                _interval(row["difference"], row["low"], row["high"]),
            )
        console.print(table)
    if found["importance"]:
        table = _table("Importance", "hyperparameter", "method", first, second, "")
        for row in found["importance"]:
            note = "" if row["is_resolved"] is None else "differ" if row["is_resolved"] else "intervals overlap"
            table.add_row(
                row["name"],
                row["method"],
                _number(_mean(row["first"]), ".3f"),
                _number(_mean(row["second"]), ".3f"),
                note,
            )
        console.print(table)
    console.print(Text.assemble(("Verdict", "bold"), f": {printable(found['verdict'])}"))


def _mean(value: Any) -> float | None:
    mean: float | None = value["mean"] if isinstance(value, Mapping) else value
    return mean


def _table(title: str, *columns: str) -> Table:
    table = Table(title=title, title_justify="left", box=None, header_style="bold", padding=(0, 2, 0, 0))
    for index, name in enumerate(columns):
        table.add_column(name, justify="left" if index == 0 else "right")
    return table


def _text(value: Any) -> str:
    return "not set" if value is None else str(value)


def _number(value: float | None, form: str = ".4f") -> str:
    return "n/a" if value is None else format(value, form)


def _interval(value: float | None, low: float | None, high: float | None) -> str:
    return _number(value) + ("" if low is None or high is None else f" [{low:.4f}, {high:.4f}]")
