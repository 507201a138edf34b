"""What `naxcli confirm` found, as a table and a verdict in words."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from rich.table import Table
from rich.text import Text

from naxcli.errors import printable
from naxcli.report.text import with_unit
from naxcli.settings.units import counted

if TYPE_CHECKING:
    from rich.console import Console


def print_confirmation(console: Console, confirmation: Mapping[str, Any], *, is_trained: bool) -> None:
    """Print the costs of all confirmed configurations, on the test set where networks were trained, and the verdict."""
    verdict = confirmation["verdict"]
    settings = confirmation["settings"]
    seeds = f"{counted(settings['num_seeds'], 'fresh seed')} each"
    length = with_unit(settings["epochs"], "epochs" if is_trained else "fidelity")
    title = f"{'Test set, ' if is_trained else ''}{seeds}, {length}"
    table = Table(title=title, title_justify="left", box=None, header_style="bold")
    for column in ("configuration", "search's cost", "confirmed cost", "95 % interval"):
        table.add_column(column, justify="left" if column == "configuration" else "right")
    for row in verdict["costs"]:
        name = f"{row['name']} (best)" if row["name"] == verdict["winner"] else row["name"]
        table.add_row(name, _number(row["search_cost"]), _number(row["mean"]), _interval(row))
    console.print(table)
    failures = [row for row in confirmation["results"] if row["cost"] is None]
    if failures:
        kind = "training" if is_trained else "evaluation"
        status = str(failures[0]["status"]).replace("_", " ")
        console.print(f"{len(failures):,} of {counted(len(confirmation['results']), kind)} failed: {status}")
    console.print(Text.assemble(("Verdict", "bold"), f": {printable(verdict['sentence'])}"))


def _number(value: float | None) -> str:
    return "n/a" if value is None else f"{value:.4f}"


def _interval(row: Mapping[str, Any]) -> str:
    return "n/a" if row["low"] is None else f"{row['low']:.4f} to {row['high']:.4f}"
