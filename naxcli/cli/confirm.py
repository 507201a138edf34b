"""`naxcli confirm`."""

from __future__ import annotations

from typing import Annotated

import typer

from naxcli.cli import options
from naxcli.errors import NaxcliError


def register(app: typer.Typer) -> None:
    app.command("confirm")(confirm)


def confirm(
    run: options.RunArgument = None,
    top: Annotated[
        int, typer.Option("--top", min=1, help="Best configurations to retrain, beside the references.")
    ] = 3,
    seeds: Annotated[int, typer.Option("--seeds", min=2, help="Fresh trainings of each configuration.")] = 5,
    epochs: Annotated[float | None, typer.Option("--epochs", help="Default: the run's highest fidelity.")] = None,
    space: options.CodeOption = None,
    data_root: Annotated[str | None, typer.Option("--data-root", help="Default: the run's.")] = None,
    skip_corrupt: Annotated[
        bool, typer.Option("--skip-corrupt", help="Leave out image files that cannot be read, as the run may do.")
    ] = False,
    keep_checkpoints: Annotated[
        bool,
        typer.Option("--keep-checkpoints", help="Keep the trained networks, for naxcli study path."),
    ] = False,
    workers: Annotated[str, typer.Option("--workers", help="Trainings at once, or auto.")] = "auto",
    seed: Annotated[int, typer.Option("--seed", min=0, help="From which the fresh seeds are derived.")] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="Print the confirmation as JSON on stdout.")] = False,
) -> None:
    """Retrain the best configurations and the references with fresh paired seeds and measure them on the test set.

    A space that evaluates by itself is evaluated with the fresh seeds. States the gain with an interval that is corrected for
    having picked the best. Interrupted, the same command goes on.
    """
    from naxcli.cli.output import note, print_json, reserved_stdout, stdout_console
    from naxcli.commands.confirm import ConfirmRequest
    from naxcli.commands.confirm import confirm as confirm_run
    from naxcli.records.directory import open_run
    from naxcli.report.confirmation import print_confirmation
    from naxcli.workers.streams import outlive_reader

    if workers != "auto" and not (workers.isdecimal() and int(workers)):
        raise NaxcliError(f"--workers is {workers!r}", hint="write a whole number of at least 1, or auto")
    request = ConfirmRequest(
        num_top=top,
        num_seeds=seeds,
        epochs=epochs,
        space=space,
        data_root=data_root,
        seed=seed,
        skip_corrupt=skip_corrupt,
        keeps_checkpoints=keep_checkpoints,
        workers=workers if workers == "auto" else int(workers),
    )

    def announce(row: dict[str, object], done: int, total: int) -> None:
        outcome = f"cost {row['cost']:.4f}" if row["cost"] is not None else str(row["status"]).replace("_", " ")
        note(f"{done:>3}/{total}  {row['name']:<12} seed {row['seed']}  {outcome}")

    outlive_reader("stdout")
    with reserved_stdout(as_json):
        directory = open_run(run)
        confirmation = confirm_run(directory, request, announce)
    if as_json:
        print_json(confirmation)
    else:
        print_confirmation(stdout_console(), confirmation, is_trained=directory.experiment().data is not None)
