"""`naxcli bench`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

import typer

from naxcli.cli import options
from naxcli.errors import NaxcliError

PHASES = {"both": ("inference", "training"), "inference": ("inference",), "training": ("training",)}

ConfigOption = Annotated[
    list[str] | None,
    typer.Option(
        "--config",
        help="SPACE:REFERENCE, a configuration file, any export (a .py file is code, and runs), or timm:NAME. Repeatable.",
    ),
]
RunOption = Annotated[str | None, typer.Option("--run", help="Run whose trial is measured.")]
VariantOption = Annotated[str | None, typer.Option("--variant", help="reduced, or full-size variants: T,S,TP.")]
ImageSizeOption = Annotated[
    int | None, typer.Option("--image-size", min=1, help="In pixels. Default: the network's own.")
]
NumClassesOption = Annotated[int | None, typer.Option("--num-classes", min=1, help="Default: the network's own.")]
BatchOption = Annotated[int | None, typer.Option("--batch", min=1, help="Images at once. Default: 256, on a CPU 8.")]
RepetitionsOption = Annotated[int | None, typer.Option("--repetitions", min=1, help="Default: 30, on a CPU 5.")]
DeviceOption = Annotated[str, typer.Option("--device", help="auto, cpu or cuda.")]
PrecisionOption = Annotated[
    str, typer.Option("--precision", help="auto (bfloat16 on CUDA), float32, tf32 or bfloat16.")
]
PhaseOption = Annotated[str, typer.Option("--phase", help="inference, training or both.")]
TrustedOption = Annotated[
    bool, typer.Option("--trusted", help="Open .pt2 files, which can run code: only of those you trust.")
]


def register(app: typer.Typer) -> None:
    app.command("bench")(bench)


def bench(
    config: ConfigOption = None,
    run: RunOption = None,
    trial: options.TrialOption = "best",
    space: options.CodeOption = None,
    variant: VariantOption = None,
    width: options.WidthOption = None,
    image_size: ImageSizeOption = None,
    num_classes: NumClassesOption = None,
    batch: BatchOption = None,
    repetitions: RepetitionsOption = None,
    device: DeviceOption = "auto",
    precision: PrecisionOption = "auto",
    phase: PhaseOption = "both",
    trusted: TrustedOption = False,
    as_json: options.JsonOption = False,
) -> None:
    """Measure images per second, memory and share of the roofline, for inference and for a training step.

    Without --config or --run, the paper's T, S and TP, and Xception at 299 pixels.
    """
    from naxcli.cli.output import note, print_json, stdout_console
    from naxcli.commands.bench import BenchCommand
    from naxcli.commands.bench import bench as measure

    if phase not in PHASES:
        raise NaxcliError(f"there is no phase {phase!r}", hint=f"one of {', '.join(PHASES)}")
    command = BenchCommand(
        run=run,
        trial=trial,
        configs=config or (),
        space=space,
        width=width,
        image_size=image_size,
        variants=tuple(name.strip() for name in variant.split(",")) if variant else (),
        num_classes=num_classes,
        batch_size=batch,
        repetitions=repetitions,
        device=device,
        precision=precision,
        phases=PHASES[phase],
        trusted=trusted,
    )
    result = measure(command, on_network=lambda entry: note(f"measured {entry['name']}"), notice=note)
    if as_json:
        print_json(result)
    else:
        stdout_console().print(_table(result, PHASES[phase]), soft_wrap=False)


def _table(result: Mapping[str, Any], phases: tuple[str, ...]) -> Any:
    from rich.table import Table
    from rich.text import Text

    from naxcli.settings.units import format_count

    ceilings = result["ceilings"]
    table = Table(
        title=f"{result['device']} · torch {result['torch']}",
        title_justify="left",
        caption_justify="left",
        caption=(
            f"{result['precision']}, channels last, batch {result['batch_size']}, mean ± std of {result['repetitions']}. "
            f"Measured peak bandwidth {format_count(ceilings['bytes_per_second'])}B/s, "
            f"{format_count(ceilings['flops_per_second'])}FLOP/s in matrix products; the roofline is their bound without fusion."
        ),
    )
    for title in ("network", "", "images/s", "memory", "of roofline"):
        table.add_column(title, justify="left" if title in ("network", "") else "right")
    for entry in result["networks"]:
        counts = [("parameters", entry["num_params"]), ("multiply-adds", entry["flops"])]
        sizes = [f"{format_count(count)} {what}" for what, count in counts if count is not None]
        runtime = [f"{entry['runtime']}, {entry['precision']}"] if "runtime" in entry else []
        described = ", ".join([*sizes, f"{entry['image_size']} pixels", *runtime])
        name = Text(entry["name"]).append(f"\n{described}", style="dim")
        measured = [phase for phase in phases if phase in entry]  # a finished program is not trained
        cells = [_cells(entry[phase]) for phase in measured]
        table.add_row(
            name, "\n".join(measured), *("\n".join(column) for column in zip(*cells, strict=True)), end_section=True
        )
    return table


def _cells(speed: Mapping[str, Any] | None) -> tuple[str, str, str]:
    from naxcli.settings.units import format_count

    if speed is None:
        return "out of memory", "–", "–"
    digits = 0 if speed["images_per_second"] >= 100 else 1
    parts = f" in {speed['num_parts']} parts" if speed["num_parts"] > 1 else ""
    memory, share = speed["peak_memory_bytes"], speed["roofline_share"]
    return (
        f"{speed['images_per_second']:.{digits}f} ± {speed['images_per_second_std']:.{digits}f}{parts}",
        "–" if memory is None else f"{format_count(memory)}B",
        "–" if share is None else f"{100 * share:.0f} %",
    )
