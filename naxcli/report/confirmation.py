"""What `naxcli confirm` found, as a table and a verdict in words."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from rich.table import Table

if TYPE_CHECKING:
    from rich.console import Console


def print_confirmation(console: Console, confirmation: Mapping[str, Any]) -> None:
    """Print the costs of all confirmed configurations on the test set, and the verdict."""
    verdict = confirmation["verdict"]
    settings = confirmation["settings"]
    table = Table(
        title=f"Test set, {settings['num_seeds']} fresh seeds each, {settings['epochs']:g} epochs", title_justify="left", box=None,
        header_style="bold",
    )  # fmt: skip
    for column in ("configuration", "search's cost", "confirmed cost", "95 % interval"):
        table.add_column(column, justify="left" if column == "configuration" else "right")
    for row in verdict["costs"]:
        name = f"{row['name']} (best)" if row["name"] == verdict["winner"] else row["name"]
        table.add_row(name, _number(row["search_cost"]), _number(row["mean"]), _interval(row))
    console.print(table)
    failures = [row for row in confirmation["results"] if row["cost"] is None]
    if failures:
        console.print(f"{len(failures)} of {len(confirmation['results'])} trainings failed: {failures[0]['status']}")
    console.print(f"[bold]Verdict[/]: {verdict['sentence']}", highlight=False)


def _number(value: float | None) -> str:
    return "n/a" if value is None else f"{value:.4f}"


def _interval(row: Mapping[str, Any]) -> str:
    return "n/a" if row["low"] is None else f"{row['low']:.4f} to {row['high']:.4f}"
