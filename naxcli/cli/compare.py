"""`naxcli compare`."""

from __future__ import annotations

from typing import Annotated

import typer

from naxcli.cli import options


def register(app: typer.Typer) -> None:
    app.command("compare")(compare)


def compare(
    first: Annotated[str, typer.Argument(metavar="A", help="Run directory.")],
    second: Annotated[str, typer.Argument(metavar="B", help="Run directory.")],
    bootstrap: Annotated[
        int, typer.Option("--bootstrap", min=0, help="Number of draws behind the intervals of importance.")
    ] = 0,
    seed: options.ForestSeedOption = 0,
    as_json: options.JsonOption = False,
) -> None:
    """Compare two runs: settings that differ, anytime curves with intervals, importance side by side, a verdict."""
    from naxcli.cli.output import print_json, stdout_console
    from naxcli.commands.compare import compare_runs
    from naxcli.records.directory import open_run
    from naxcli.report.comparison import print_comparison

    found = compare_runs(open_run(first), open_run(second), bootstrap=bootstrap, seed=seed)
    if as_json:
        print_json(found)
    else:
        print_comparison(stdout_console(), found)
