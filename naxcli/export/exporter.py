"""export_network: build, write beside the destination, load back, compare, then move into place."""

from __future__ import annotations

import dataclasses
import importlib
from dataclasses import dataclass
from pathlib import Path

from naxcli.errors import NaxcliError
from naxcli.export.destination import Destination, staged
from naxcli.export.request import Exported, ExportRequest, Written


@dataclass(frozen=True, slots=True, kw_only=True)
class Format:
    """An export format.

    Args:
        module: Module whose `write(request, bundle, folder)` writes, loads back, and returns a `Written`; and whose `check(request)`,
            where it has one, refuses what it cannot write before anything is done.
        files: Names of its files, the main one first; `{name}` is the network's.
    """

    module: str
    files: tuple[str, ...]

    @property
    def suffix(self) -> str:
        """Suffix of `--out` that names a file instead of a folder; empty where the files' names are fixed."""
        return Path(self.files[0]).suffix if "{name}" in self.files[0] else ""


CONFIG = "config"
"""The format that holds no network: none is made, run, or measured for it."""
FORMATS = {
    CONFIG: Format(module="naxcli.export.config", files=("{name}.json",)),
    "python": Format(module="naxcli.export.python", files=("{name}.py", "{name}.safetensors")),
    "weights": Format(module="naxcli.export.hub", files=("config.json", "model.safetensors", "README.md")),
    "onnx": Format(module="naxcli.export.onnx", files=("{name}.onnx",)),
    "torch": Format(module="naxcli.export.torch_program", files=("{name}.pt2",)),
}


def check_export(request: ExportRequest) -> None:
    """Raise NaxcliError for what `export_network` would refuse without making the network."""
    _prepare(request)


def export_network(request: ExportRequest) -> Exported:
    """Export a network; when this returns, the files are in place and were loaded back with the same output.

    Raises:
        NaxcliError: If the format is unknown, something is in the way, weights do not fit, the disk is full, or the
            loaded export differs. Nothing is left behind then.
    """
    request, destination = _prepare(request)
    with staged(destination) as staging:
        module = importlib.import_module(FORMATS[request.format].module)
        if request.format == CONFIG:
            written: Written = module.write(request, staging)
        else:
            from naxcli.export.bundle import make_bundle

            written = module.write(request, make_bundle(request), staging)
    return Exported(
        files=tuple(destination.folder / file for file in destination.files),
        name=request.network_name,
        num_params=written.num_params,
        macs=written.macs,
        max_difference=written.max_difference,
        is_trained=request.weights is not None,
        speed=written.speed,
        why_no_speed=written.why_no_speed,
    )


def _prepare(request: ExportRequest) -> tuple[ExportRequest, Destination]:
    """Return the request under its final name, and where it goes.

    Raises:
        NaxcliError: For all that can be refused without making the network.
    """
    if request.format not in FORMATS:
        raise NaxcliError(f"there is no format {request.format!r}", hint=f"one of {', '.join(FORMATS)}")
    if request.space.build is None and request.format != CONFIG:
        raise NaxcliError(
            f"space {request.space.name!r} makes no networks", hint="export its configuration with --format config"
        )
    exporter = FORMATS[request.format]
    request, folder, is_shared = _resolve_out(request, exporter)
    files = tuple(file.format(name=request.network_name) for file in exporter.files)
    destination = Destination(
        folder=folder,
        files=files,
        is_shared=is_shared,
        overwrite=request.overwrite,
        has_common_names=not exporter.suffix,
    )
    destination.check()
    if request.weights is not None and not request.weights.is_file():
        raise NaxcliError(f"there are no weights at {request.weights}", hint="name a safetensors file or a checkpoint")
    if check := getattr(importlib.import_module(exporter.module), "check", None):
        check(request)
    return request, destination


def _resolve_out(request: ExportRequest, exporter: Format) -> tuple[ExportRequest, Path, bool]:
    """Return the request named after `--out` where that is a file, the folder, and whether it may hold other files."""
    if not exporter.suffix or request.out.suffix != exporter.suffix:
        return request, request.out, False
    if request.name and request.name != request.out.stem:
        raise NaxcliError(f"the name is given twice: {request.name} and {request.out}")
    return dataclasses.replace(request, name=request.out.stem), request.out.parent, True
