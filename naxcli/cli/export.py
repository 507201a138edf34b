"""`naxcli export`."""

from __future__ import annotations

from typing import Annotated

import typer

from naxcli.cli import options

ConfigOption = Annotated[
    str | None,
    typer.Option(
        "--config",
        help="A configuration file, an export (a .py file is code, and runs), or SPACE:REFERENCE, instead of a run.",
    ),
]
FormatOption = Annotated[str, typer.Option("--format", help="config, python, weights, onnx, torch or deepcave.")]
OutOption = Annotated[
    str | None, typer.Option("--out", help="Folder, or a file such as best.onnx. Default: export/<space>.")
]
VariantOption = Annotated[
    str | None, typer.Option("--variant", help="reduced, or a full-size variant of the space such as T, S, TP.")
]
TargetFlopsOption = Annotated[
    str | None, typer.Option("--target-flops", help="Choose the width for these multiply-adds: 4.5G.")
]
TargetParamsOption = Annotated[
    str | None, typer.Option("--target-params", help="Choose the width for this many parameters: 25M.")
]
NumClassesOption = Annotated[
    int | None, typer.Option("--num-classes", min=1, help="Default: the run's, or 1000 for a full-size variant.")
]
NameOption = Annotated[str, typer.Option("--name", help="Name of the network. Default: space, variant, id.")]
OpsetOption = Annotated[int | None, typer.Option("--opset", help="Of ONNX.")]
FoldOption = Annotated[
    bool,
    typer.Option(
        "--fold",
        help="Make batch normalizations part of convolutions, and branches one (onnx, torch): faster, no longer trainable.",
    ),
]
BenchOption = Annotated[
    bool,
    typer.Option("--bench/--no-bench", help="Measure latency and throughput on this CPU, and record them."),
]
OverwriteOption = Annotated[bool, typer.Option("--overwrite", help="Replace an existing export.")]


def register(app: typer.Typer) -> None:
    app.command("export")(export)


def export(
    run: options.RunArgument = None,
    trial: options.TrialOption = "best",
    config: ConfigOption = None,
    space: options.CodeOption = None,
    format: FormatOption = "python",
    out: OutOption = None,
    variant: VariantOption = None,
    width: options.WidthOption = None,
    target_flops: TargetFlopsOption = None,
    target_params: TargetParamsOption = None,
    num_classes: NumClassesOption = None,
    name: NameOption = "",
    opset: OpsetOption = None,
    fold: FoldOption = False,
    bench: BenchOption = True,
    overwrite: OverwriteOption = False,
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
