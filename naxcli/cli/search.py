"""`naxcli search`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

from naxcli.cli import options
from naxcli.errors import ExitCode, NaxcliError

if TYPE_CHECKING:
    from naxcli.commands.session import SearchRequest, Session


def register(app: typer.Typer) -> None:
    app.command("search")(search)


def search(
    space: options.SpaceOption = None,
    budget: options.BudgetOption = None,
    trials: options.TrialsOption = None,
    budget_evaluations: options.BudgetEvaluationsOption = None,
    cost: options.CostOption = None,
    repeats: options.RepeatsOption = None,
    experiment: options.ExperimentOption = None,
    trust: options.TrustOption = False,
    run: options.RunOption = None,
    searcher: options.SearcherOption = None,
    random_share: options.RandomShareOption = None,
    references: options.ReferencesOption = None,
    warm_start: options.FromOption = None,
    prior: options.PriorOption = None,
    objective: options.ObjectiveOption = None,
    seed: options.SeedOption = None,
    data: options.DataOption = None,
    data_root: options.DataRootOption = None,
    epochs: options.EpochsOption = None,
    fidelity: options.FidelityOption = None,
    assignments: options.SetOption = None,
    max_params: options.MaxParamsOption = None,
    max_flops: options.MaxFlopsOption = None,
    max_latency_ms: options.MaxLatencyOption = None,
    trial_timeout: options.TrialTimeoutOption = None,
    early_stop: options.EarlyStopOption = None,
    workers: options.WorkersOption = None,
    cluster: options.ClusterOption = None,
    tls_ca_file: options.TlsCaFileOption = None,
    tls_cert: options.TlsCertOption = None,
    tls_key: options.TlsKeyOption = None,
    insecure: options.InsecureOption = None,
    overwrite: options.OverwriteOption = False,
    print_config: options.PrintConfigOption = False,
    dry_run: options.DryRunOption = False,
    quiet: options.QuietOption = False,
    as_json: options.IncumbentJsonOption = False,
) -> None:
    """Search a space: start a run, resume it, or extend it with a larger --budget.

    Killed or stopped, the same command goes on where the records end. Ctrl-C finishes writing and exits with 130.
    """
    from naxcli.commands.session import SearchRequest

    flags = {
        "budget": budget,
        "trials": trials,
        "budget_evaluations": budget_evaluations,
        "cost": cost,
        "repeats": repeats,
        "searcher": searcher,
        "random_share": random_share,
        "references": references,
        "warm_start": warm_start or None,
        "prior": prior,
        "objective": objective,
        "seed": seed,
        "data": data,
        "data_root": data_root,
        "epochs": epochs,
        "fidelity": fidelity,
        "limits.max_params": max_params,
        "limits.max_flops": max_flops,
        "limits.max_latency_ms": max_latency_ms,
        "trial_timeout": trial_timeout,
        "early_stop": early_stop,
        "workers": workers,
        "cluster": cluster,
        "tls_ca_file": tls_ca_file,
        "tls_cert": tls_cert,
        "tls_key": tls_key,
        "insecure": insecure,
    }
    options.refuse_two_fidelities(epochs, fidelity)
    request = SearchRequest(
        space=space,
        flags=flags,
        assignments=assignments or (),
        experiment_file=experiment,
        run=run,
        overwrite=overwrite,
        trust=trust,
    )
    _search(
        request, shown="settings" if print_config else "job script" if dry_run else "", quiet=quiet, as_json=as_json
    )


def _search(request: SearchRequest, *, shown: str, quiet: bool, as_json: bool) -> None:
    """Run the search of a request, or only print what `shown` names of it."""
    from naxcli.cli.output import print_text, reserved_stdout
    from naxcli.commands.session import open_session

    with reserved_stdout(as_json):
        session = open_session(request)
    if shown == "settings":
        print_text(session.experiment.to_toml())
    elif shown:
        print_text(_job_script(session.experiment.cluster))
    else:
        raise typer.Exit(_run(session, as_json=as_json, quiet=quiet))


def _job_script(cluster: str | None) -> str:
    from naxcli.settings.connection import SLURM_PREFIX
    from naxcli.workers.slurm import read_settings, render_job_script

    if cluster is None or not cluster.startswith(SLURM_PREFIX):
        raise NaxcliError("--dry-run prints the job script of --cluster slurm:FILE")
    return render_job_script(read_settings(cluster))


def _run(session: Session, *, as_json: bool, quiet: bool) -> ExitCode:
    from naxcli.cli.output import print_json, reserved_stdout
    from naxcli.cli.progress import make_progress
    from naxcli.commands.search import run_session
    from naxcli.workers.streams import outlive_reader

    outlive_reader("stdout")
    with reserved_stdout(as_json), make_progress(session, quiet=quiet) as progress:
        end = run_session(session, progress)
    progress.summarise(end)
    if as_json:
        print_json(end.incumbent.to_json() if end.incumbent else None)
    return end.exit_code
