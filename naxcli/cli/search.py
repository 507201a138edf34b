"""`naxcli search`."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from naxcli.errors import ExitCode

SEARCH_PANEL, DATA_PANEL, LIMIT_PANEL, MACHINE_PANEL = "Search", "Data and training", "Limits", "Machine and output"

SpaceOption = Annotated[
    str | None,
    typer.Option(
        "--space", help="Space: a shipped name, a Python file, or package.module:SPACE.", rich_help_panel=SEARCH_PANEL
    ),
]
BudgetOption = Annotated[
    str | None,
    typer.Option(
        "--budget",
        help="Active time of the whole search: 90s, 10m, 3d, 2d12h. No trial starts that could not end in it; those running finish.",
        rich_help_panel=SEARCH_PANEL,
    ),
]
TrialsOption = Annotated[
    int | None, typer.Option("--trials", help="Number of finished trials.", min=1, rich_help_panel=SEARCH_PANEL)
]
ExperimentOption = Annotated[
    str | None,
    typer.Option("--experiment", help="Experiment file, or the name of a shipped one.", rich_help_panel=SEARCH_PANEL),
]
TrustOption = Annotated[
    bool,
    typer.Option(
        "--trust",
        help="Load the space that the experiment file names by a path relative to itself: it is code.",
        rich_help_panel=SEARCH_PANEL,
    ),
]
RunOption = Annotated[
    str | None, typer.Option("--run", help="Run directory. Default: runs/<space>-<data>.", rich_help_panel=SEARCH_PANEL)
]
SearcherOption = Annotated[
    str | None,
    typer.Option("--searcher", help="smac (default), random, evolution or ensemble.", rich_help_panel=SEARCH_PANEL),
]
RandomShareOption = Annotated[
    float | None,
    typer.Option(
        "--random-share",
        help="Share of trials for uniform random search, as a comparison.",
        rich_help_panel=SEARCH_PANEL,
    ),
]
ReferencesOption = Annotated[
    bool | None,
    typer.Option(
        "--references/--no-references",
        help="Whether smac and ensemble try the space's reference configurations first (default: yes).",
        rich_help_panel=SEARCH_PANEL,
    ),
]
ObjectiveOption = Annotated[
    str | None,
    typer.Option(
        "--objective",
        help="cost, or cost,params with params, flops or latency_ms for a Pareto front. The cost is always one.",
        rich_help_panel=SEARCH_PANEL,
    ),
]
SeedOption = Annotated[
    int | None,
    typer.Option(
        "--seed", help="The one seed all others are derived from. Default: 0.", min=0, rich_help_panel=SEARCH_PANEL
    ),
]
EpochsOption = Annotated[
    float | None, typer.Option("--epochs", help="Epochs of every trial (one fidelity).", rich_help_panel=DATA_PANEL)
]
FidelityOption = Annotated[
    str | None,
    typer.Option("--fidelity", help="MIN:MAX:ETA in epochs, for Hyperband: 3:27:3.", rich_help_panel=DATA_PANEL),
]
DataOption = Annotated[
    str | None,
    typer.Option(
        "--data", help="cifar100 (default), cifar10, digits, folder:DIR or hf:NAME.", rich_help_panel=DATA_PANEL
    ),
]
DataRootOption = Annotated[
    str | None,
    typer.Option(
        "--data-root", help="Folder that holds or receives data sets. Default: data.", rich_help_panel=DATA_PANEL
    ),
]
MaxParamsOption = Annotated[
    str | None, typer.Option("--max-params", help="Most parameters of a network: 5M.", rich_help_panel=LIMIT_PANEL)
]
MaxFlopsOption = Annotated[
    str | None, typer.Option("--max-flops", help="Most multiply-adds of one image: 600M.", rich_help_panel=LIMIT_PANEL)
]
MaxLatencyOption = Annotated[
    float | None,
    typer.Option("--max-latency-ms", help="Longest forward pass of one image.", rich_help_panel=LIMIT_PANEL),
]
TrialTimeoutOption = Annotated[
    str | None,
    typer.Option(
        "--trial-timeout",
        help="Longest time of one trial: 30m. A longer one ends as timeout.",
        rich_help_panel=LIMIT_PANEL,
    ),
]
WorkersOption = Annotated[
    str | None,
    typer.Option(
        "--workers", help="Trials at once, or auto (one per GPU, or per core).", rich_help_panel=MACHINE_PANEL
    ),
]
ClusterOption = Annotated[
    str | None,
    typer.Option(
        "--cluster",
        help="Running Dask scheduler tls://HOST:PORT or tcp://HOST:PORT, slurm:FILE, or local (default).",
        rich_help_panel=MACHINE_PANEL,
    ),
]
TlsCaFileOption = Annotated[
    str | None,
    typer.Option(
        "--tls-ca-file",
        help="Certificate of the authority that signed those of a tls:// cluster. Default: Dask's configuration.",
        rich_help_panel=MACHINE_PANEL,
    ),
]
TlsCertOption = Annotated[
    str | None,
    typer.Option("--tls-cert", help="Your own certificate for a tls:// cluster.", rich_help_panel=MACHINE_PANEL),
]
TlsKeyOption = Annotated[
    str | None, typer.Option("--tls-key", help="The private key of --tls-cert.", rich_help_panel=MACHINE_PANEL)
]
InsecureOption = Annotated[
    bool | None,
    typer.Option(
        "--insecure",
        help="Use a tcp:// scheduler on another machine, though whoever reaches it runs code as you.",
        rich_help_panel=MACHINE_PANEL,
    ),
]
SetOption = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        help="Any setting: recipe.learning_rate=1e-3, width=0.5.",
        metavar="NAME=VALUE",
        rich_help_panel=DATA_PANEL,
    ),
]
PlainJsonOption = Annotated[bool, typer.Option("--json", help="Print JSON on stdout.", rich_help_panel=MACHINE_PANEL)]
JsonOption = Annotated[
    bool,
    typer.Option("--json", help="Print the incumbent as JSON on stdout at the end.", rich_help_panel=MACHINE_PANEL),
]


def register(app: typer.Typer) -> None:
    app.command("search")(search)


def search(
    space: SpaceOption = None,
    budget: BudgetOption = None,
    trials: TrialsOption = None,
    experiment: ExperimentOption = None,
    trust: TrustOption = False,
    run: RunOption = None,
    searcher: SearcherOption = None,
    random_share: RandomShareOption = None,
    references: ReferencesOption = None,
    objective: ObjectiveOption = None,
    seed: SeedOption = None,
    data: DataOption = None,
    data_root: DataRootOption = None,
    epochs: EpochsOption = None,
    fidelity: FidelityOption = None,
    assignments: SetOption = None,
    max_params: MaxParamsOption = None,
    max_flops: MaxFlopsOption = None,
    max_latency_ms: MaxLatencyOption = None,
    trial_timeout: TrialTimeoutOption = None,
    workers: WorkersOption = None,
    cluster: ClusterOption = None,
    tls_ca_file: TlsCaFileOption = None,
    tls_cert: TlsCertOption = None,
    tls_key: TlsKeyOption = None,
    insecure: InsecureOption = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Delete the existing run and start anew.", rich_help_panel=MACHINE_PANEL)
    ] = False,
    print_config: Annotated[
        bool,
        typer.Option("--print-config", help="Print the resolved settings and exit.", rich_help_panel=MACHINE_PANEL),
    ] = False,
    dry_run: Annotated[
        bool,
        typer.Option(
            "--dry-run", help="With slurm:FILE, print the job script and exit.", rich_help_panel=MACHINE_PANEL
        ),
    ] = False,
    quiet: Annotated[bool, typer.Option("-q", "--quiet", help="No progress.", rich_help_panel=MACHINE_PANEL)] = False,
    as_json: JsonOption = False,
) -> None:
    """Search a space: start a run, resume it, or extend it with a larger --budget.

    Killed or stopped, the same command goes on where the records end. Ctrl-C finishes writing and exits with 130.
    """
    from naxcli.cli.output import print_text, reserved_stdout
    from naxcli.commands.search import SearchRequest, open_session

    flags = {
        "budget": budget,
        "trials": trials,
        "searcher": searcher,
        "random_share": random_share,
        "references": references,
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
        "workers": workers,
        "cluster": cluster,
        "tls_ca_file": tls_ca_file,
        "tls_cert": tls_cert,
        "tls_key": tls_key,
        "insecure": insecure,
    }
    if epochs is not None and fidelity is not None:
        raise typer.BadParameter("--epochs and --fidelity exclude each other")
    request = SearchRequest(
        space=space,
        flags=flags,
        assignments=assignments or (),
        experiment_file=experiment,
        run=run,
        overwrite=overwrite,
        trust=trust,
    )
    with reserved_stdout(as_json):
        session = open_session(request)
    if print_config:
        print_text(session.experiment.to_toml())
        return
    if dry_run:
        print_text(_job_script(session.experiment.cluster))
        return
    raise typer.Exit(_run(session, as_json=as_json, quiet=quiet))


def _job_script(cluster: str | None) -> str:
    from naxcli.errors import NaxcliError
    from naxcli.settings.connection import SLURM_PREFIX
    from naxcli.workers.slurm import read_settings, render_job_script

    if cluster is None or not cluster.startswith(SLURM_PREFIX):
        raise NaxcliError("--dry-run prints the job script of --cluster slurm:FILE")
    return render_job_script(read_settings(cluster))


def _run(session: Any, *, as_json: bool, quiet: bool) -> ExitCode:
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
