"""`naxcli space list|show|count|sample|prepare|from-trials|validate`."""

from __future__ import annotations

from typing import Annotated

import typer

from naxcli.cli import options
from naxcli.errors import NaxcliError

app = typer.Typer(no_args_is_help=True, help="Look at search spaces.", rich_markup_mode="rich")

SpaceArgument = Annotated[
    str, typer.Argument(metavar="SPACE", help="A shipped name, a Python file, or package.module:SPACE.")
]


@app.command("list")
def list_spaces(as_json: options.JsonOption = False) -> None:
    """List the spaces that ship with naxcli."""
    from naxcli.cli.output import print_json, stdout_console
    from naxcli.search_space.contract import load_space, shipped_spaces

    spaces = [load_space(name) for name in shipped_spaces()]
    if as_json:
        print_json([{"name": space.name, "version": space.version, "paper": space.paper} for space in spaces])
        return
    from rich.table import Table

    table = Table(box=None, header_style="bold")
    for column in ("name", "hyperparameters", "paper"):
        table.add_column(column)
    for space in spaces:
        table.add_row(space.name, str(len(space.configuration_space())), space.paper)
    stdout_console().print(table)


@app.command()
def show(space: SpaceArgument, as_json: options.JsonOption = False) -> None:
    """Show a space: its hyperparameters, groups, reference configurations and variants."""
    from naxcli.cli.output import print_json, stdout_console
    from naxcli.commands.space import describe_space
    from naxcli.search_space.contract import load_space

    described = describe_space(load_space(space))
    if as_json:
        print_json(described)
        return
    from rich.table import Table
    from rich.text import Text

    from naxcli.settings.units import format_config, format_value

    console = stdout_console()
    console.print(Text.assemble((described["name"], "bold"), f" version {described['version']}  {described['paper']}"))
    table = Table(box=None, header_style="bold")
    for column in ("hyperparameter", "kind", "values", "default", "condition"):
        table.add_column(column)
    for item in described["hyperparameters"]:
        default = "inactive" if item["default"] is None else format_value(item["default"])
        condition = (item["condition"] or "").replace(f"{item['name']} | ", "")
        table.add_row(item["name"], item["kind"], item["domain"], default, condition)
    console.print(table)
    count = described["num_configurations"]
    console.print("configurations: " + ("infinitely many" if count is None else f"{count:,}"))
    for name, members in described["groups"].items():
        console.print(Text.assemble("group ", (name, "bold"), f": {', '.join(members)}"))
    for name, config in described["reference"].items():
        console.print(Text.assemble("reference ", (name, "bold"), f": {format_config(config)}"))
    if described["variants"]:
        console.print(f"variants: {', '.join(described['variants'])}")


@app.command()
def count(space: SpaceArgument) -> None:
    """Print the number of configurations, conditions and forbidden clauses taken into account, but no constraints of the space's own."""
    from naxcli.search_space.contract import load_space
    from naxcli.search_space.enumeration import count_configurations

    number = count_configurations(load_space(space).configuration_space())
    typer.echo("infinite" if number is None else number)


@app.command()
def sample(
    space: SpaceArgument,
    number: Annotated[int, typer.Option("-n", "--number", min=1, help="How many.")] = 1,
    seed: options.SampleSeedOption = 0,
) -> None:
    """Print random configurations that a search may suggest as JSON, one a line."""
    import json

    from naxcli.commands.space import sample_suggested
    from naxcli.search_space.contract import load_space

    for config in sample_suggested(load_space(space), number, seed):
        typer.echo(json.dumps(dict(config)))


@app.command()
def prepare(
    space: SpaceArgument,
    out: Annotated[str, typer.Option("--out", help="File to write: NAME.safetensors.")],
    num_classes: Annotated[int, typer.Option("--num-classes", min=1, help="Of the networks to measure.")] = 100,
    in_channels: Annotated[int, typer.Option("--in-channels", min=1, help="Of the images.")] = 3,
    image_size: Annotated[int, typer.Option("--image-size", min=1, help="Of the images, in pixels.")] = 32,
    width: Annotated[float, typer.Option("--width", min=0.001, help="Factor on the channels.")] = 1.0,
    workers: Annotated[str, typer.Option("--workers", help="Processes that measure, or auto.")] = "auto",
) -> None:
    """Measure a space once, for searches with --space FILE --searcher ensemble over whatever data or objective.

    Of 256 configurations: parameters, multiply-adds, memory and latency, in the form of training and that of inference. The file holds
    them and the ensemble that learned them, but for latency, which is that of this machine.
    """
    from pathlib import Path

    from naxcli.cli.output import note
    from naxcli.commands.prepare import prepare_space_file
    from naxcli.search_space.contract import load_space

    if workers != "auto" and not (workers.isdecimal() and int(workers)):
        raise NaxcliError(f"--workers is {workers!r}", hint="write a whole number of at least 1, or auto")
    prepared = prepare_space_file(
        load_space(space),
        Path(out),
        shape={"num_classes": num_classes, "in_channels": in_channels, "image_size": image_size, "width": width},
        workers=workers if workers == "auto" else int(workers),
        on_progress=lambda done, total: note(f"{done:>3}/{total} configurations measured"),
    )
    note(f"{out}: {', '.join(prepared.metric_names)} of {len(prepared.metrics)} configurations")


@app.command("from-trials")
def from_trials(
    trials: Annotated[
        str, typer.Argument(metavar="TRIALS", help="A run's trials.parquet, or a file with its columns.")
    ],
    out: Annotated[str, typer.Option("--out", help="File to write: NAME.py. It reads TRIALS from where that is.")],
    space: Annotated[
        str | None,
        typer.Option("--space", help="The space that the trials are of. Default: the space.json beside them."),
    ] = None,
    name: Annotated[str, typer.Option("--name", help="Name of the new space. Default: that of the file.")] = "",
) -> None:
    """Make a benchmark of recorded trials: a space whose costs are what a random forest makes of them, in milliseconds.

    Any searcher can be tried on it, and over the same fidelities. A cost has a deviation of its own for each configuration, fidelity
    and seed, as large as what the forest does not explain.
    """
    import shlex
    from pathlib import Path

    from naxcli.cli.output import note, stdout_console
    from naxcli.commands.from_trials import write_space_from_trials
    from naxcli.search_space.contract import load_space

    file = Path(out)
    benchmark = write_space_from_trials(
        Path(trials), file, name=name or file.stem, space=None if space is None else load_space(space)
    )
    from rich.table import Table

    table = Table(box=None, header_style="bold")
    for column in ("fidelity", "trials", "R² held out", "deviation"):
        table.add_column(column, justify="right")
    for rung in benchmark.rungs:
        table.add_row(f"{rung.fidelity:g}", f"{rung.num_trials:,}", f"{rung.r2:.2f}", f"{rung.deviation:.3g}")
    stdout_console().print(table)
    if benchmark.rungs[-1].r2 <= 0:
        note("at the highest fidelity the forest explains nothing: costs there are noise around its mean")
    note(f"{out}: {benchmark.num_configs:,} configurations, content hash {benchmark.content_hash}")
    note(f"naxcli search --space {shlex.quote(out)} --fidelity {benchmark.ladder} --trials 300")


@app.command()
def validate(
    space: SpaceArgument,
    number: Annotated[int, typer.Option("-n", "--number", min=1, help="Configurations to sample.")] = 20,
    seed: options.SampleSeedOption = 0,
) -> None:
    """Sample, build, run forward and backward, and say in plain words what is wrong. Exit code 1 if anything is."""
    from rich.padding import Padding
    from rich.text import Text

    from naxcli.cli.output import stdout_console
    from naxcli.commands.space import validate_space
    from naxcli.errors import ExitCode
    from naxcli.search_space.contract import load_space

    console = stdout_console()
    problems = 0
    for check in validate_space(load_space(space), number=number, seed=seed):
        problems += not check.is_good
        mark = ("ok     ", "green") if check.is_good else ("problem", "red")
        console.print(Text.assemble(mark, f" {check.name}"))
        if check.detail:
            console.print(Padding(check.detail, (0, 0, 0, len("problem ")), expand=False))
    if problems:
        raise typer.Exit(ExitCode.FAILED)
