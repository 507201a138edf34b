"""`naxcli status`."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Annotated, Any

import typer

from naxcli.cli import options

if TYPE_CHECKING:
    from rich.console import Console

    from naxcli.records.directory import RunDirectory

SECONDS_BETWEEN_TABLES = 30.0
SECONDS_BETWEEN_REFRESHES = 2.0


def register(app: typer.Typer) -> None:
    app.command("status")(status)


def status(
    run: options.RunArgument = None,
    watch: Annotated[bool, typer.Option("--watch", help="Refresh every two seconds until the search ends.")] = False,
    as_json: options.JsonOption = False,
) -> None:
    """Show progress, rate, incumbent and time left of a run, also of one that is running elsewhere."""
    from naxcli.cli.output import print_json, stdout_console
    from naxcli.commands.status import describe_run
    from naxcli.records.directory import open_run

    directory = open_run(run)
    if as_json:
        print_json(describe_run(directory))
    elif watch:
        _watch(stdout_console(), directory)
    else:
        stdout_console().print(_status_table(describe_run(directory)))


def _watch(console: Console, run: RunDirectory) -> None:
    """Show a run until its search ends, in place on a terminal; a file or a pipe gets one table after another."""
    from rich.live import Live

    from naxcli.commands.status import describe_run

    described = describe_run(run)
    if not console.is_terminal:
        console.print(_status_table(described))
        while described["is_running"]:
            time.sleep(SECONDS_BETWEEN_TABLES)
            described = describe_run(run)
            console.print(_status_table(described))
        return
    with Live(_status_table(described), console=console, refresh_per_second=2) as live:
        while described["is_running"]:
            time.sleep(SECONDS_BETWEEN_REFRESHES)
            described = describe_run(run)
            live.update(_status_table(described))


def _status_table(described: dict[str, Any]) -> Any:
    from rich.table import Table
    from rich.text import Text

    from naxcli.settings.units import counted, format_config, format_duration

    table = Table.grid(padding=(0, 2))
    table.add_column(style="bold")
    table.add_column()
    incumbent, experiment = described["incumbent"], described["experiment"]
    table.add_row("run", f"{described['run']} ({'running' if described['is_running'] else 'not running'})")
    table.add_row("space", f"{described['space']}, searcher {experiment['searcher']}, seed {experiment['seed']}")
    counts = ", ".join(f"{number:,} {name.replace('_', ' ')}" for name, number in described["trials"].items())
    goal = f" of {experiment['trials']:,}" if experiment.get("trials") else ""
    trials = f"{described['num_finished']:,}{goal} finished" + (f" ({counts})" if counts else "")
    if described["num_running"]:
        trials += f", {described['num_running']:,} {'running' if described['is_running'] else 'to run again'}"
    table.add_row("trials", trials)
    if described["num_cut"]:
        cut = f"{counted(described['num_cut'], 'trial')} with batches cut for lack of memory"
        table.add_row("", f"{cut}: what batch normalization saw is not the recipe's")
    for rung in described["rungs"]:
        table.add_row(
            "",
            f"fidelity {rung['fidelity']:g}: {rung['finished']:,} succeeded, median {format_duration(rung['median_seconds'])}",
        )
    if experiment.get("budget_evaluations"):
        table.add_row(
            "evaluations", f"{described['evaluations']:.4g} of {experiment['budget_evaluations']:g} full ones"
        )
    for rung in described["proxy_audit"]:
        interval = (
            "" if rung["spearman"] is None else f"{rung['spearman']:.2f} ({rung['low']:.2f} to {rung['high']:.2f}), "
        )
        misleads = rung["verdict"].startswith("misleads")
        table.add_row(
            Text("rung misleads", style="red") if misleads else "rung against full",
            f"fidelity {rung['fidelity']:g}: rank correlation with {rung['to']:g} {interval}{rung['verdict']}",
        )
    for rung in described["plan"] or ():
        table.add_row(
            "plan so far",
            f"fidelity {rung['fidelity']:g}: {counted(round(rung['planned']), 'trial')} planned "
            f"({rung['low']:,.0f} to {rung['high']:,.0f}), {rung['finished']:,} succeeded",
        )
    rate = described["trials_per_hour"]
    table.add_row("rate", "–" if rate is None else f"{rate:,.1f} trials an hour")
    budget = described["budget_seconds"]
    active = format_duration(described["active_seconds"]) + (f" of {format_duration(budget)}" if budget else "")
    left = described["seconds_left"]
    table.add_row("active time", active + (f", {format_duration(left)} left" if left is not None else ""))
    if incumbent is not None:
        accuracy = f" ({100 * (1 - incumbent['cost']):.2f} % accuracy)" if described["is_accuracy"] else ""
        repeats = experiment.get("repeats", 1)
        of_seeds = f", mean of {repeats} seeds" if repeats > 1 else ""
        table.add_row(
            "incumbent",
            f"trial {incumbent['trial_id']}: cost {incumbent['cost']:.6g}{accuracy}{of_seeds}, fidelity {incumbent['fidelity']:g}",
        )
        if "," in experiment["objective"]:
            table.add_row("", f"the lowest cost; of {experiment['objective']}, the report shows the Pareto front")
        table.add_row("", format_config(incumbent["config"]))
    return table
