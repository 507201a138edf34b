"""`naxcli plan`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import typer

from naxcli.cli import options
from naxcli.errors import ExitCode

if TYPE_CHECKING:
    from naxcli.commands.session import SearchRequest, Session


def register(app: typer.Typer) -> None:
    app.command("plan")(plan)


def plan(
    space: options.SpaceOption = None,
    budget: options.BudgetOption = None,
    repeats: options.RepeatsOption = None,
    experiment: options.ExperimentOption = None,
    trust: options.TrustOption = False,
    run: options.RunOption = None,
    searcher: options.SearcherOption = None,
    objective: options.ObjectiveOption = None,
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
    as_json: options.PanelJsonOption = False,
) -> None:
    """Say what a budget buys before it is spent: trials per fidelity, with an interval. Exit code 3 if it is too few.

    Trains a few random configurations for one epoch, in at most 5 % of the budget once the workers have started.
    """
    from naxcli.commands.session import SearchRequest

    options.refuse_two_fidelities(epochs, fidelity)
    flags = {
        "budget": budget,
        "repeats": repeats,
        "searcher": searcher,
        "objective": objective,
        "seed": seed,
        "data": data,
        "data_root": data_root,
        "epochs": epochs,
        "fidelity": fidelity,
        "workers": workers,
        "cluster": cluster,
        "tls_ca_file": tls_ca_file,
        "tls_cert": tls_cert,
        "tls_key": tls_key,
        "insecure": insecure,
    }
    request = SearchRequest(
        space=space, flags=flags, assignments=assignments or (), experiment_file=experiment, run=run, trust=trust
    )
    _plan(request, as_json=as_json)


def _plan(request: SearchRequest, *, as_json: bool) -> None:
    from naxcli.cli.output import note, print_json, reserved_stdout, stdout_console
    from naxcli.commands.plan import plan_search
    from naxcli.commands.session import open_session

    with reserved_stdout(as_json):
        session = open_session(request)
        for line in _preface(session):
            note(line)
        made = plan_search(
            session, lambda result: note(f"  {result.status.replace('_', ' ')}, {result.seconds:.1f} s"), note
        )
    if as_json:
        print_json(made)
    else:
        stdout_console().print(_table(made, is_trained=session.space.is_trained))
    if not made["is_enough"]:
        note(_why_too_little(made))
        raise typer.Exit(ExitCode.PLAN_INFEASIBLE)


def _why_too_little(made: dict[str, Any]) -> str:
    from naxcli.settings.units import counted

    if made["rungs"][-1]["expected"] >= 1:
        why = f"so few trials say nothing about {counted(made['num_hyperparameters'], 'hyperparameter')}"
    else:
        why = "no trial would end" if len(made["rungs"]) == 1 else "no trial would reach the highest fidelity"
    return f"this is too little: {why}; give {', or '.join(made['advice'])}"


def _preface(session: Session) -> list[str]:
    """Return what is planned and from where its settings come, as lines."""
    from naxcli.commands.plan import calibration_fidelity

    experiment = session.experiment
    lines = []
    if not session.is_new:
        lines.append(f"{session.run.path} is an existing run: what you do not set is as it is there")
    if experiment.objective:
        lines.append(f"objectives: {experiment.objectives_text}")
    at = calibration_fidelity(session)
    length = f"fidelity {at:g}" if not session.space.is_trained else "one epoch" if at == 1 else f"{at:g} epochs"
    lines.append(f"calibrating: a few random configurations, {length} each")
    return lines


def _table(made: dict[str, Any], *, is_trained: bool) -> Any:
    from rich.table import Table

    from naxcli.settings.units import counted, format_duration

    times = (
        f"{format_duration(made['epoch_seconds'])} an epoch and {format_duration(made['fixed_seconds'])} more a trial"
    )
    if not is_trained:
        times = f"{format_duration(made['epoch_seconds'])} for each 1 of fidelity"
    table = Table(
        title=f"{format_duration(made['budget_seconds'])} on {counted(made['workers'], 'worker')}",
        title_justify="left",
        box=None,
        caption_justify="left",
        caption=f"calibration: {counted(made['calibration_trials'], 'trial')} in {format_duration(made['calibration_seconds'])} "
        f"after {format_duration(made['start_seconds'])} of starting workers, median {times}",
    )
    for column in ("epochs" if is_trained else "fidelity", "expected trials", "95 % interval"):
        table.add_column(column, justify="right")
    for rung in made["rungs"]:
        table.add_row(f"{rung['fidelity']:g}", f"{rung['expected']:,.0f}", f"{rung['low']:,.0f} to {rung['high']:,.0f}")
    return table
