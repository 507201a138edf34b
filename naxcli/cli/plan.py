"""`naxcli plan`."""

from __future__ import annotations

from typing import Any

import typer

from naxcli.cli import search as options


def register(app: typer.Typer) -> None:
    app.command("plan")(plan)


def plan(
    space: options.SpaceOption = None,
    budget: options.BudgetOption = None,
    experiment: options.ExperimentOption = None,
    run: options.RunOption = None,
    searcher: options.SearcherOption = None,
    seed: options.SeedOption = None,
    data: options.DataOption = None,
    data_root: options.DataRootOption = None,
    epochs: options.EpochsOption = None,
    fidelity: options.FidelityOption = None,
    assignments: options.SetOption = None,
    workers: options.WorkersOption = None,
    cluster: options.ClusterOption = None,
    tls_ca_file: options.TlsCaFileOption = None,
    tls_cert: options.TlsCertOption = None,
    tls_key: options.TlsKeyOption = None,
    insecure: options.InsecureOption = None,
    as_json: options.PlainJsonOption = False,
) -> None:
    """Say what a budget buys before it is spent: trials per fidelity, with an interval. Exit code 3 if it is too few.

    Trains a few random configurations for one epoch, in at most 5 % of the budget.
    """
    from naxcli.cli.output import note, print_json, reserved_stdout, stdout_console
    from naxcli.errors import ExitCode
    from naxcli.plan import MAX_CALIBRATION_SHARE, make_plan
    from naxcli.session import SearchRequest, open_session

    if epochs is not None and fidelity is not None:
        raise typer.BadParameter("--epochs and --fidelity exclude each other")
    flags = {
        "budget": budget, "searcher": searcher, "seed": seed, "data": data, "data_root": data_root, "epochs": epochs,
        "fidelity": fidelity, "workers": workers, "cluster": cluster, "tls_ca_file": tls_ca_file, "tls_cert": tls_cert,
        "tls_key": tls_key, "insecure": insecure,
    }  # fmt: skip
    request = SearchRequest(
        space=space, flags=flags, assignments=assignments or (), experiment_file=experiment, run=run
    )
    with reserved_stdout(as_json):
        session = open_session(request)
        note("calibrating: a few random configurations for one epoch")
        made = make_plan(session, lambda result: note(f"  {result.status}, {result.seconds:.1f} s"), note)
    if as_json:
        print_json(made)
    else:
        stdout_console().print(_table(made))
    share = made["calibration_seconds"] / made["budget_seconds"]
    if share > MAX_CALIBRATION_SHARE:
        note(f"the calibration took {share:.1%} of this budget: starting the workers and one trial take that long")
    if not made["is_enough"]:
        note(
            f"this is too little: with {made['num_hyperparameters']} hyperparameters, fewer trials than that say nothing; "
            "give a larger --budget, fewer epochs, or a smaller network (--set width=0.5)"
        )
        raise typer.Exit(ExitCode.PLAN_INFEASIBLE)


def _table(made: dict[str, Any]) -> Any:
    from rich.table import Table

    from naxcli.quantities import format_duration

    table = Table(
        title=f"{format_duration(made['budget_seconds'])} on {made['workers']} workers", title_justify="left", box=None,
        caption=f"calibration: {made['calibration_trials']} trials in {format_duration(made['calibration_seconds'])}, "
        f"median {format_duration(made['epoch_seconds'])} an epoch and {format_duration(made['fixed_seconds'])} a trial",
        caption_justify="left",
    )  # fmt: skip
    for column in ("epochs", "expected trials", "95 % interval"):
        table.add_column(column, justify="right")
    for rung in made["rungs"]:
        table.add_row(f"{rung['fidelity']:g}", f"{rung['expected']:,.0f}", f"{rung['low']:,.0f} to {rung['high']:,.0f}")
    return table
