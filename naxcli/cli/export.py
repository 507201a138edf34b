"""`naxcli export`."""

from __future__ import annotations

from typing import Annotated

import typer

from naxcli.cli import options


def register(app: typer.Typer) -> None:
    app.command("export")(export)


def export(
    run: options.RunArgument = None,
    trial: options.TrialOption = "best",
    config: Annotated[
        str | None,
        typer.Option(
            "--config",
            help="A configuration file, an export (a .py file is code, and runs), or SPACE:REFERENCE, instead of a run.",
        ),
    ] = None,
    space: options.CodeOption = None,
    format: Annotated[
        str, typer.Option("--format", help="config, python, weights, onnx, torch or deepcave.")
    ] = "python",
    out: Annotated[
        str | None, typer.Option("--out", help="Folder, or a file such as best.onnx. Default: export/<space>.")
    ] = None,
    variant: Annotated[
        str | None, typer.Option("--variant", help="reduced, or a full-size variant of the space such as T, S, TP.")
    ] = None,
    width: options.WidthOption = None,
    target_flops: Annotated[
        str | None, typer.Option("--target-flops", help="Choose the width for these multiply-adds: 4.5G.")
    ] = None,
    target_params: Annotated[
        str | None, typer.Option("--target-params", help="Choose the width for this many parameters: 25M.")
    ] = None,
    num_classes: Annotated[
        int | None, typer.Option("--num-classes", min=1, help="Default: the run's, or 1000 for a full-size variant.")
    ] = None,
    name: Annotated[str, typer.Option("--name", help="Name of the network. Default: space, variant, id.")] = "",
    opset: Annotated[int | None, typer.Option("--opset", help="Of ONNX.")] = None,
    fold: Annotated[
        bool,
        typer.Option(
            "--fold",
            help="Make batch normalizations part of convolutions, and branches one (onnx, torch): faster, no longer trainable.",
        ),
    ] = False,
    bench: Annotated[
        bool,
        typer.Option("--bench/--no-bench", help="Measure latency and throughput on this CPU, and record them."),
    ] = True,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an existing export.")] = False,
) -> None:
    """Hand over the best configuration of a run as a network that needs no naxcli."""
    from naxcli.cli.output import note
    from naxcli.commands.export import ExportCommand
    from naxcli.commands.export import export as export_selection

    command = ExportCommand(
        run=run,
        trial=trial,
        config=config,
        space=space,
        out=out,
        format=format,
        variant=variant,
        width=width,
        target_flops=target_flops,
        target_params=target_params,
        num_classes=num_classes,
        opset=opset,
        fold=fold,
        bench=bench,
        name=name,
        overwrite=overwrite,
    )
    export_selection(command, note)
