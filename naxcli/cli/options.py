"""Arguments and options of commands, by the name of what they set; those of several commands are the same."""

from __future__ import annotations

from typing import Annotated

import typer

SEARCH_PANEL, DATA_PANEL, LIMIT_PANEL, MACHINE_PANEL = "Search", "Data and training", "Limits", "Machine and output"

# -- of every command that looks at a run or a network

RunArgument = Annotated[str | None, typer.Argument(metavar="[RUN]", help="Run directory. Default: the newest run.")]
TrialOption = Annotated[str, typer.Option("--trial", help="best, or a trial's number.")]
CodeOption = Annotated[
    str | None, typer.Option("--space", help="The space, where it does not ship with naxcli: its file is code.")
]
WidthOption = Annotated[float | None, typer.Option("--width", help="Factor on the channels.")]
ForestSeedOption = Annotated[int, typer.Option("--seed", min=0, help="Random seed of the forests and draws.")]
SampleSeedOption = Annotated[int, typer.Option("--seed", min=0)]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON on stdout.")]

# -- of search and plan

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
BudgetEvaluationsOption = Annotated[
    float | None,
    typer.Option(
        "--budget-evaluations",
        help="What all trials may cost together, in evaluations at the highest fidelity. Those running finish.",
        rich_help_panel=SEARCH_PANEL,
    ),
]
CostOption = Annotated[
    str | None,
    typer.Option(
        "--cost",
        help="What a trial at each fidelity costs, in any unit: 12=0.05,240=1; or measured. Default: the epochs that it trains.",
        metavar="FIDELITY=COST,...",
        rich_help_panel=SEARCH_PANEL,
    ),
]
RepeatsOption = Annotated[
    int | None,
    typer.Option(
        "--repeats",
        help="Trials of each configuration, of different seeds, that count as one result (with --epochs). Default: 1.",
        min=1,
        rich_help_panel=SEARCH_PANEL,
    ),
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
    typer.Option(
        "--searcher",
        help="smac (default), random, evolution, local, ensemble, or your own: path/to/file.py:NAME.",
        rich_help_panel=SEARCH_PANEL,
    ),
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
FromOption = Annotated[
    list[str] | None,
    typer.Option(
        "--from",
        help="Start from the results of a run, a Parquet file, or an Optuna study's CSV (repeatable; smac).",
        metavar="RUN|FILE",
        rich_help_panel=SEARCH_PANEL,
    ),
]
PriorOption = Annotated[
    str | None,
    typer.Option(
        "--prior",
        help="TOML file of where good configurations are believed to be (smac).",
        metavar="FILE",
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
    typer.Option(
        "--fidelity", help="MIN:MAX:ETA in epochs, for successive halving: 3:27:3.", rich_help_panel=DATA_PANEL
    ),
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
PanelJsonOption = Annotated[bool, typer.Option("--json", help="Print JSON on stdout.", rich_help_panel=MACHINE_PANEL)]
IncumbentJsonOption = Annotated[
    bool,
    typer.Option("--json", help="Print the incumbent as JSON on stdout at the end.", rich_help_panel=MACHINE_PANEL),
]
OverwriteOption = Annotated[
    bool, typer.Option("--overwrite", help="Delete the existing run and start anew.", rich_help_panel=MACHINE_PANEL)
]
PrintConfigOption = Annotated[
    bool, typer.Option("--print-config", help="Print the resolved settings and exit.", rich_help_panel=MACHINE_PANEL)
]
DryRunOption = Annotated[
    bool,
    typer.Option("--dry-run", help="With slurm:FILE, print the job script and exit.", rich_help_panel=MACHINE_PANEL),
]
QuietOption = Annotated[bool, typer.Option("-q", "--quiet", help="No progress.", rich_help_panel=MACHINE_PANEL)]


def refuse_two_fidelities(epochs: float | None, fidelity: str | None) -> None:
    """Raise the error of a command line that gives one fidelity and a range of them."""
    if epochs is not None and fidelity is not None:
        raise typer.BadParameter("--epochs and --fidelity exclude each other")
