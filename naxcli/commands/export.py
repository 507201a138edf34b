"""From what a user names to an exported network: selects the configuration, fills in the sizes, calls the format."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from naxcli.commands.network_sizes import NetworkSizes, network_sizes
from naxcli.commands.select import BEST, Selection, select
from naxcli.errors import NaxcliError
from naxcli.export import FORMATS, Exported, ExportRequest, check_export, export_network
from naxcli.export.provenance import describe_speed
from naxcli.records.database import Records
from naxcli.records.directory import RunDirectory
from naxcli.records.incumbent import find_incumbent
from naxcli.records.trial import ConfigValue
from naxcli.search_space.networks import REDUCED
from naxcli.settings.units import counted, format_count, parse_count

DEEPCAVE_FORMAT = "deepcave"  # of a whole run


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportCommand:
    """What the user asked for; None is left to the selection. The fields are the flags of `naxcli export`."""

    run: str | None = None
    trial: str = BEST
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


def export(command: ExportCommand, notice: Callable[[str], None]) -> Path:
    """Export a network, or a whole run, and return what was written: the main file, or the folder where its names are fixed.

    Args:
        command: What is exported, and how.
        notice: Called with each line that says what was done.

    Raises:
        NaxcliError: If the selection or the export is not possible; nothing is left behind then.
    """
    if command.format == DEEPCAVE_FORMAT:
        _refuse_network_flags(command)
        return _export_deepcave(command, notice)
    _check_flags(command)
    selection = select(run=command.run, trial=command.trial, config=command.config, space=command.space)
    if selection.code is not None and command.format == "python":
        raise NaxcliError(
            f"{selection.code} is a Python export already",
            why="its code is copied by copying the file",
            hint=f"other weights are read by {selection.network_name}.load_weights(FILE); other formats work",
        )
    request, changes = _request(command, selection, notice)
    exported = export_network(dataclasses.replace(request, weights=None if changes else selection.weights))
    for line in _lines(command, selection, exported, changes):
        notice(line)
    return exported.files[0] if FORMATS[command.format].suffix else exported.files[0].parent


def _lines(command: ExportCommand, selection: Selection, exported: Exported, changes: list[str]) -> Iterator[str]:
    """Yield what a finished export is, and what its user should know of it."""
    if command.format != "config":
        size = f"{format_count(exported.num_params)} parameters, {format_count(exported.macs)} multiply-adds"
        state = "trained weights" if exported.is_trained else "untrained weights (seed 0)"
        yield f"{exported.name}: {size}, {state}" + (", normalizations folded" if command.fold else "")
        if changes and (selection.weights is not None or selection.run is not None):
            yield f"the trained weights are those of another network: {', '.join(changes)}; naxcli train makes new ones"
        elif not exported.is_trained and selection.run is not None:
            yield f"the run did not keep the weights of trial {selection.trial_id}: naxcli train makes them"
    if exported.speed is not None:
        yield f"speed: {describe_speed(exported.speed)}"
    if exported.why_no_speed:
        yield (
            f"warning: no speed is recorded, as it could not be measured: {exported.why_no_speed}; "
            "naxcli bench measures it when the machine is idle"
        )
    if exported.max_difference is not None:
        yield f"loaded back: outputs agree within {exported.max_difference:.1e}"
    if selection.run is not None and command.trial == BEST:
        yield from _better_confirmed(selection.run, selection.config)
    for path in exported.files:
        yield f"wrote {path}"


def _better_confirmed(run: RunDirectory, config: Mapping[str, ConfigValue]) -> Iterator[str]:
    """Yield which other trial is the best one that `naxcli confirm` retrained, if that is so."""
    verdict = run.read_json(run.confirmation_file).get("verdict") or {}
    better = verdict.get("config")
    if better is None or better == dict(config):
        return
    with Records.open(run) as records:
        incumbent = find_incumbent(item for item in records.finished() if dict(item.trial.config) == better)
    if incumbent is not None:
        yield f"note: retrained by naxcli confirm, trial {incumbent.trial.trial_id} came out better: --trial {incumbent.trial.trial_id}"


def _check_flags(command: ExportCommand) -> None:
    """Raise NaxcliError for what is wrong whichever network is selected."""
    if command.format not in FORMATS:
        raise NaxcliError(
            f"there is no format {command.format!r}", hint=f"one of {', '.join([*FORMATS, DEEPCAVE_FORMAT])}"
        )
    if command.target_flops is not None and command.target_params is not None:
        raise NaxcliError("--target-flops and --target-params both fix the width", hint="give one of them")
    if command.width is not None and not 0 < command.width < math.inf:
        raise NaxcliError(f"--width is {command.width:g}", why="it is the factor on the channels, above 0")
    if command.width is not None and (command.target_flops is not None or command.target_params is not None):
        raise NaxcliError("--width and a target both fix the width", hint="give one of them")
    _targets(command)


def _targets(command: ExportCommand) -> dict[str, float | None]:
    return {
        name: None if text is None else parse_count(text, what=f"--{name.replace('_', '-')}")
        for name, text in (("target_flops", command.target_flops), ("target_params", command.target_params))
    }


def _request(
    command: ExportCommand, selection: Selection, notice: Callable[[str], None]
) -> tuple[ExportRequest, list[str]]:
    """Return the request, as yet without weights, and what makes its network another one than that of the weights."""
    sizes = network_sizes(selection, variant=command.variant, width=command.width, num_classes=command.num_classes)
    same_network = sizes.variant == (selection.variant or REDUCED)
    out = Path(command.out) if command.out else Path("export") / selection.space.name
    # A file that --out names gives the network its name.
    default_name = selection.network_name if same_network and not out.suffix else ""
    request = ExportRequest(
        space=selection.space,
        config=selection.config,
        format=command.format,
        out=out,
        **dataclasses.asdict(sizes),
        mean=selection.mean if same_network else None,
        std=selection.std if same_network else None,
        provenance=selection.provenance,
        opset=command.opset,
        fold=command.fold,
        bench=command.bench,
        overwrite=command.overwrite,
        name=command.name or default_name,
    )
    check_export(request)
    if command.target_flops is not None or command.target_params is not None:
        width = _width_for_target(request, command)
        change = f"stays {width:.4g}" if width == request.width else f"changes from {request.width:.4g} to {width:.4g}"
        notice(f"the width {change}, which meets the target")
        sizes = dataclasses.replace(sizes, width=width)
        request = dataclasses.replace(request, width=width)
    return request, changed_sizes(selection, sizes)


def changed_sizes(selection: Selection, sizes: NetworkSizes) -> list[str]:
    """Return in words what makes a network another one than that of the selection's weights."""
    variant = selection.variant or REDUCED
    if sizes.variant != variant:
        return [f"variant {variant}, not {sizes.variant}"]
    changes = []
    if sizes.width != selection.width:
        changes.append(f"width {selection.width:.4g}, not {sizes.width:.4g}")
    if selection.num_classes not in (None, sizes.num_classes):
        changes.append(f"{selection.num_classes} classes, not {sizes.num_classes}")
    return changes


def _width_for_target(request: ExportRequest, command: ExportCommand) -> float:
    from naxcli.search_space.sizes import width_for_target

    return width_for_target(
        request.space,
        request.config,
        variant=request.variant,
        num_classes=request.num_classes,
        in_channels=request.in_channels,
        image_size=request.image_size,
        **_targets(command),
    )


def _refuse_network_flags(command: ExportCommand) -> None:
    """Raise NaxcliError for what says something of one network, where a whole run is exported."""
    for name in ("config", "variant", "width", "target_flops", "target_params", "num_classes", "opset", "fold", "name"):
        if getattr(command, name):
            raise NaxcliError(
                f"--{name.replace('_', '-')} does not go with --format deepcave", why="that format is a whole run's"
            )


def _export_deepcave(command: ExportCommand, notice: Callable[[str], None]) -> Path:
    from naxcli.export.deepcave import write_deepcave
    from naxcli.records.directory import open_run

    run = open_run(command.run)
    folder = Path(command.out) if command.out else Path("export") / f"{run.name}-deepcave"
    num_trials = write_deepcave(run, folder, overwrite=command.overwrite)
    notice(f"wrote {counted(num_trials, 'trial')} in SMAC's format to {folder}")
    return folder
