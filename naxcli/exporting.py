"""From what a user names to an exported network: selects the configuration, fills in the sizes, calls the format."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from naxcli.errors import NaxcliError
from naxcli.export import ExportRequest, export_network
from naxcli.export.provenance import describe_speed
from naxcli.networks import REDUCED, usual_image_size
from naxcli.quantities import counted, format_count, parse_count
from naxcli.selection import Selection, select

IMAGENET_CLASSES = 1000
# Of a reduced network that no data has given a size: CIFAR's.
REDUCED_IMAGE_SIZE = 32
REDUCED_CLASSES = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportCommand:
    """What the user asked for; None is left to the selection."""

    run: str | None = None
    trial: str = "best"
    config: str | None = None
    space: str | None = None
    out: str | None = None
    format: str = "python"
    variant: str | None = None
    width: float | None = None
    target_flops: str | None = None
    target_params: str | None = None
    num_classes: int | None = None
    opset: int | None = None
    fold: bool = False
    bench: bool = True
    name: str = ""
    overwrite: bool = False


def export(command: ExportCommand) -> Iterator[str]:
    """Export, and yield what was done as lines for the user.

    Raises:
        NaxcliError: if the selection or the export is not possible; nothing is left behind then.
    """
    if command.format == "deepcave":
        _refuse_network_flags(command)
        yield from _export_deepcave(command)
        return
    selection = select(run=command.run, trial=command.trial, config=command.config, space=command.space)
    if selection.code is not None and command.format == "python":
        raise NaxcliError(
            f"{selection.code} is a Python export already",
            why="its code is copied by copying the file",
            hint=f"other weights are read by {selection.network_name}.load_weights(FILE); other formats work",
        )
    request = _request(command, selection)
    if command.target_flops is not None or command.target_params is not None:
        request = _with_target(request, command)
        yield f"width {request.width:.4g} meets the target"
    exported = export_network(request)
    size = (
        f"{format_count(exported.num_params)} parameters, {format_count(exported.flops)} multiply-adds"
        if exported.num_params
        else ""
    )
    state = "trained weights" if exported.is_trained else "untrained weights (seed 0)"
    if command.format != "config":
        yield f"{exported.name}: {size}, {state}" + (", normalizations folded" if command.fold else "")
        if not exported.is_trained and request.variant == REDUCED and selection.run is not None:
            yield f"the run did not keep the weights of trial {selection.trial_id}: naxcli train makes them"
    if exported.speed is not None:
        yield f"speed: {describe_speed(exported.speed)}"
    if exported.max_difference is not None:
        yield f"loaded back: outputs agree within {exported.max_difference:.1e}"
    for path in exported.files:
        yield f"wrote {path}"


def _request(command: ExportCommand, selection: Selection) -> ExportRequest:
    variant = command.variant or selection.variant or REDUCED
    is_reduced = variant == REDUCED
    same_network = variant == (selection.variant or REDUCED)
    fallback_size = selection.image_size or REDUCED_IMAGE_SIZE
    size = usual_image_size(selection.space, variant) if variant in selection.space.variants else None
    num_classes = command.num_classes or (selection.num_classes if same_network else None)
    in_channels = (selection.in_channels if same_network else None) or 3
    is_changed = (
        num_classes != selection.num_classes
        or command.width is not None
        or command.target_flops
        or command.target_params
    )
    out = Path(command.out) if command.out else Path("export") / selection.space.name
    # A file that --out names gives the network its name.
    default_name = selection.network_name if same_network and not out.suffix else ""
    return ExportRequest(
        space=selection.space, config=selection.config, format=command.format, out=out,
        variant=variant, width=command.width or (selection.width if same_network else 1.0),
        num_classes=num_classes or (REDUCED_CLASSES if is_reduced else IMAGENET_CLASSES), in_channels=in_channels,
        image_size=size or fallback_size, weights=selection.weights if same_network and not is_changed else None,
        mean=selection.mean if same_network else None, std=selection.std if same_network else None,
        provenance=selection.provenance, opset=command.opset, fold=command.fold, bench=command.bench,
        overwrite=command.overwrite, name=command.name or default_name,
    )  # fmt: skip


def _with_target(request: ExportRequest, command: ExportCommand) -> ExportRequest:
    from naxcli.measure import width_for_target

    if command.target_flops is not None and command.target_params is not None:
        raise NaxcliError("--target-flops and --target-params both fix the width", hint="give one of them")
    if command.width is not None:
        raise NaxcliError("--width and a target both fix the width", hint="give one of them")
    width = width_for_target(
        request.space, request.config, variant=request.variant, num_classes=request.num_classes,
        in_channels=request.in_channels, image_size=request.image_size,
        target_flops=None if command.target_flops is None else parse_count(command.target_flops, what="--target-flops"),
        target_params=None if command.target_params is None else parse_count(command.target_params, what="--target-params"),
    )  # fmt: skip
    return dataclasses.replace(request, width=width)


def _refuse_network_flags(command: ExportCommand) -> None:
    """Raise NaxcliError for what says something of one network, where a whole run is exported."""
    for name in ("config", "variant", "width", "target_flops", "target_params", "num_classes", "opset", "fold", "name"):
        if getattr(command, name):
            raise NaxcliError(
                f"--{name.replace('_', '-')} does not go with --format deepcave", why="that format is a whole run's"
            )


def _export_deepcave(command: ExportCommand) -> Iterator[str]:
    from naxcli.export.deepcave import write_deepcave
    from naxcli.run_directory import open_run

    run = open_run(command.run)
    folder = Path(command.out) if command.out else Path("export") / f"{run.name}-deepcave"
    num_trials = write_deepcave(run, folder, overwrite=command.overwrite)
    yield f"wrote {counted(num_trials, 'trial')} in SMAC's format to {folder}"
