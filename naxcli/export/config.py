"""The format `config`: a configuration as JSON that says which space, version and network it belongs to.

Imports no torch.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from naxcli.errors import ExitCode, NaxcliError
from naxcli.records.trial import ConfigValue, config_id
from naxcli.search_space.contract import Space, load_space, plain_config, shipped_spaces, to_configuration

if TYPE_CHECKING:
    from naxcli.export.bundle import Bundle
    from naxcli.export.request import ExportRequest, Written

SCHEMA = "naxcli/config/1"
_MAX_SIZE_BYTES = 10_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class SavedConfig:
    """A configuration read from a file, legal in its space. Sizes are None where the file does not name them."""

    space: Space
    config: Mapping[str, ConfigValue]
    variant: str | None = None
    width: float | None = None
    num_classes: int | None = None
    in_channels: int | None = None
    image_size: int | None = None
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    provenance: Mapping[str, Any] = field(default_factory=dict)


def describe(request: ExportRequest, bundle: Bundle | None = None) -> dict[str, Any]:
    """Return the export as plain data: the content of this format's file, and part of the hub's `config.json`.

    Args:
        request: What is exported; its sizes are ignored where the space makes no networks.
        bundle: Its network; None counts the network without making it.
    """
    from naxcli import __version__

    network: dict[str, Any] = {}
    if request.space.build is not None:
        mean, std = request.normalization
        network = {
            "variant": request.variant,
            "width": request.width,
            "num_classes": request.num_classes,
            "in_channels": request.in_channels,
            "image_size": request.image_size,
            "mean": list(mean),
            "std": list(std),
            **(_counts(request) if bundle is None else {"num_params": bundle.num_params, "flops": bundle.macs}),
        }
        if bundle is not None and bundle.inference_counts is not None:
            network["inference_params"], network["inference_flops"] = bundle.inference_counts
        if request.fold:
            network["folded"] = True
        if bundle is not None and bundle.speed is not None:
            network["speed"] = dict(bundle.speed)
    return {
        "schema": SCHEMA,
        "naxcli_version": __version__,
        "space": request.space.name,
        "version": request.space.version,
        "origin": request.space.origin,
        "paper": request.space.paper,
        "config_id": config_id(request.config),
        "config": dict(request.config),
        **network,
        # Provenance comes from many places; what JSON lacks (paths, dates) becomes text.
        "provenance": json.loads(json.dumps(dict(request.provenance), default=str)),
    }


def _counts(request: ExportRequest) -> dict[str, int]:
    from naxcli.search_space.sizes import measure_config

    return measure_config(
        request.space,
        request.config,
        variant=request.variant,
        num_classes=request.num_classes,
        in_channels=request.in_channels,
        image_size=request.image_size,
        width=request.width,
    )


def write(request: ExportRequest, folder: Path) -> Written:
    """Write NAME.json and read it back; the network is counted, but neither made nor run."""
    from naxcli.export.request import Written

    path = folder / f"{request.network_name}.json"
    content = describe(request)
    path.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    if dict(read_config(path, space=request.space).config) != dict(request.config):
        raise NaxcliError(
            "the configuration was not exported: read back, it differs",
            why="a value of it has no exact form in JSON",
            exit_code=ExitCode.FAILED,
        )
    return Written(num_params=content.get("num_params"), macs=content.get("flops"))


def read_config(path: Path, *, space: Space | None = None) -> SavedConfig:
    """Return a configuration from a file of this format, a `weights` folder, or plain {hyperparameter: value} JSON.

    No code is loaded because a file asks for it: the space is the given one, or one that ships with naxcli.

    Args:
        path: Path of the file or folder.
        space: Space that the user named; None takes the shipped space that the file names.

    Raises:
        NaxcliError: If the file is missing or damaged, belongs to another space or version, or is not legal there.
    """
    data = _read_json(path / "config.json" if path.is_dir() else path)
    if isinstance(data.get("naxcli"), dict):  # a folder in the hub's layout
        timm_settings = data.get("pretrained_cfg")
        # Earlier versions wrote the statistics for timm only.
        statistics = timm_settings if isinstance(timm_settings, dict) else {}
        data = {**{name: statistics.get(name) for name in ("mean", "std")}, **data["naxcli"]}
    if "schema" not in data:
        if space is None:
            raise NaxcliError(f"{path} does not name a search space", hint="name it with --space")
        return SavedConfig(space=space, config=_legal(data, space, path))
    if data["schema"] != SCHEMA:
        raise NaxcliError(f"{path} has the schema {data['schema']!r}", why=f"this version reads {SCHEMA}")
    space = space or _shipped_space(data, path)
    if data.get("space") != space.name:
        raise NaxcliError(f"{path} holds a configuration of space {data.get('space')!r}, not of {space.name!r}")
    if data.get("version") != space.version:
        raise NaxcliError(
            f"{path} holds a configuration of version {data.get('version')!r} of space {space.name!r}",
            why=f"here is version {space.version!r}, in which it may mean another network",
        )
    if not isinstance(data.get("config"), dict):
        raise NaxcliError(f"{path} holds no configuration", why="'config' is missing or not an object")
    mean, std = _statistics(data, path)
    return SavedConfig(
        space=space,
        config=_legal(data["config"], space, path),
        variant=_typed(data, "variant", str, path),
        width=_typed(data, "width", (float, int), path),
        num_classes=_typed(data, "num_classes", int, path),
        in_channels=_typed(data, "in_channels", int, path),
        image_size=_typed(data, "image_size", int, path),
        mean=mean,
        std=std,
        provenance=_typed(data, "provenance", dict, path) or {},
    )


def _read_json(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise NaxcliError(f"there is no configuration file {path}")
    if path.stat().st_size > _MAX_SIZE_BYTES:
        raise NaxcliError(f"{path} is too large to be a configuration", why=f"{path.stat().st_size:,} bytes")
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:  # ValueError: malformed JSON or text
        raise NaxcliError(f"{path} is not a configuration file", why=f"not JSON: {error}") from error
    if not isinstance(data, dict):
        raise NaxcliError(f"{path} is not a configuration file", why="expected an object of names and values")
    return data


def _shipped_space(data: Mapping[str, Any], path: Path) -> Space:
    origin = data.get("origin")
    if origin not in shipped_spaces():
        raise NaxcliError(
            f"{path} belongs to space {data.get('space')!r}, which does not ship with naxcli",
            why="a space is code, and is loaded only when you name it",
            hint=f"name it with --space (it was exported from {origin!r})",
        )
    return load_space(str(origin))


def _legal(config: Mapping[str, Any], space: Space, path: Path) -> dict[str, ConfigValue]:
    for name, value in config.items():
        if not isinstance(value, str | int | float | bool):
            raise NaxcliError(f"{path}: {name} is not a plain value", why=f"found {type(value).__name__}")
    configuration = to_configuration(space.configuration_space(), config, what=str(path))
    return plain_config(configuration)


def _typed(data: Mapping[str, Any], name: str, kind: type | tuple[type, ...], path: Path) -> Any:
    value = data.get(name)
    if value is not None and (not isinstance(value, kind) or isinstance(value, bool)):
        raise NaxcliError(f"{path}: {name} is {value!r}, which is not what belongs there")
    return value


def _statistics(data: Mapping[str, Any], path: Path) -> tuple[tuple[float, ...] | None, tuple[float, ...] | None]:
    """Return mean and standard deviation of each channel, or None twice where the file does not name them."""
    mean, std = _typed(data, "mean", list, path), _typed(data, "std", list, path)
    if mean is None and std is None:
        return None, None
    numbers = [*(mean or ()), *(std or ())]
    is_plain = all(isinstance(n, int | float) and not isinstance(n, bool) and math.isfinite(n) for n in numbers)
    if not (mean and std and is_plain and len(mean) == len(std) == data.get("in_channels", len(mean)) and min(std) > 0):
        raise NaxcliError(
            f"{path}: mean {mean!r} and std {std!r} cannot normalize images",
            why="each is one number per channel, those of std above zero",
        )
    return tuple(map(float, mean)), tuple(map(float, std))
