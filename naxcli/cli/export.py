"""`naxcli export`."""

from __future__ import annotations

from typing import Annotated

import typer


def register(app: typer.Typer) -> None:
    app.command("export")(export)


def export(
    run: Annotated[str | None, typer.Argument(metavar="[RUN]", help="Run directory. Default: the newest run.")] = None,
    trial: Annotated[str, typer.Option("--trial", help="best, or a trial's number.")] = "best",
    config: Annotated[
        str | None, typer.Option("--config", help="A configuration file, or SPACE:REFERENCE, instead of a run.")
    ] = None,
    out: Annotated[str | None, typer.Option("--out", help="Folder to write. Default: export/<name>.")] = None,
    format: Annotated[
        str, typer.Option("--format", help="config, python, weights, onnx, torch or deepcave.")
    ] = "python",
    variant: Annotated[
        str, typer.Option("--variant", help="reduced, or a full-size variant of the space such as T, S, TP.")
    ] = "reduced",
    target_flops: Annotated[
        str | None, typer.Option("--target-flops", help="Choose the width for these multiply-adds: 4.5G.")
    ] = None,
    target_params: Annotated[
        str | None, typer.Option("--target-params", help="Choose the width for this many parameters: 25M.")
    ] = None,
    num_classes: Annotated[
        int | None, typer.Option("--num-classes", min=1, help="Default: the run's, or 1000 for a variant.")
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an existing export.")] = False,
) -> None:
    """Hand over the best configuration of a run as a network that needs no naxcli."""
    from naxcli.cli.output import note
    from naxcli.export_request import export_from

    for line in export_from(
        run=run, trial=trial, config=config, out=out, export_format=format, variant=variant, target_flops=target_flops,
        target_params=target_params, num_classes=num_classes, overwrite=overwrite,
    ):  # fmt: skip
        note(line)
