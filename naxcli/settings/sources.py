"""Sources of settings: `--set` over flags over environment over experiment file over defaults, resolved into one Experiment."""

# pydantic-settings would take over conversion and the environment. What makes up most of this file would stay: a recorded run takes
# the place of file and defaults, `epochs` and `fidelity` replace each other across sources, a cluster may come from flags and
# environment only, and errors name the setting, where it was given, and the one that was meant.

from __future__ import annotations

import dataclasses
import os
import shlex
import tomllib
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from naxcli.errors import NaxcliError, did_you_mean
from naxcli.settings.experiment import CONNECTION_SETTINGS, Experiment, from_settings
from naxcli.settings.former_names import present_name, with_present_names
from naxcli.settings.toml import flat_settings, read_toml

ENVIRONMENT_PREFIX = "NAXCLI_"
# Read elsewhere, not settings of a run.
OTHER_ENVIRONMENT = frozenset({"NAXCLI_DEBUG", "NAXCLI_COMMIT"})


def resolve(
    *,
    flags: Mapping[str, Any],
    assignments: Sequence[str] = (),
    experiment_file: str | None = None,
    stored: Mapping[str, Any] | None = None,
    environment: Mapping[str, str] | None = None,
    has_networks: bool | None = None,
    chosen: Collection[str] = (),
) -> Experiment:
    """Return the settings from all sources, the strongest first: `--set`, flags, environment, experiment file, defaults.

    Args:
        flags: Settings given on the command line; None means not given.
        assignments: `a.b=c` texts of `--set`.
        experiment_file: Path or shipped name; None takes the shipped file named like the data source, where there is one.
        stored: Settings of an existing run, which take the place of file and defaults so that a shorter command resumes it.
        environment: variables; `NAXCLI_RECIPE__LEARNING_RATE` sets `recipe.learning_rate`.
        has_networks: Whether the space builds networks and so needs data.
        chosen: Settings of the recipe that configurations choose themselves.

    Raises:
        NaxcliError: For a setting that configurations choose, an unknown one or a value of the wrong kind, naming it and its source, or a
            cluster that is not safe.
    """
    command_line = _nest({name: value for name, value in flags.items() if value is not None})
    for assignment in assignments:
        _merge(command_line, _parse_assignment(assignment))
    from_environment = _read_environment(os.environ if environment is None else environment)
    upper: dict[str, Any] = {}
    _merge(upper, from_environment)
    _merge(upper, command_line)
    if refused := [name for name in flat_settings(upper) if name in chosen]:
        raise NaxcliError(
            f"setting {refused[0]} never counts here",
            why="it is a hyperparameter: the configuration says what it is",
            hint="leave the setting out; of one network, --config FILE takes a configuration with another value",
        )
    lower: dict[str, Any] = {}
    if stored is not None:
        _merge(lower, stored)
    if experiment_file is not None:
        _merge(lower, read_toml(find_experiment_file(experiment_file)))
    elif stored is None and has_networks is not False:
        data = str(upper.get("data", Experiment.__dataclass_fields__["data"].default))
        shipped = experiments_folder() / f"{data.partition(':')[0]}.toml"
        if shipped.is_file():
            _merge(lower, read_toml(shipped))
    _require_named_cluster({name: lower.pop(name, None) for name in CONNECTION_SETTINGS}, upper)
    _merge(lower, upper)
    if has_networks is False:
        lower.pop("data", None)
    experiment = from_settings(lower, has_networks=has_networks)
    if experiment.connection is not None:
        experiment.connection.require_safe()
    return experiment


def _require_named_cluster(recorded: Mapping[str, Any], upper: Mapping[str, Any]) -> None:
    """Refuse a cluster that only a file names."""
    if recorded["cluster"] is None or "cluster" in upper:
        return
    words = ["--cluster", str(recorded["cluster"])]
    for name in ("tls_ca_file", "tls_cert", "tls_key"):
        if recorded[name] is not None:
            words += ["--" + name.replace("_", "-"), str(recorded[name])]
    raise NaxcliError(
        f"the settings name the cluster {recorded['cluster']}",
        why="workers elsewhere, and job scripts, run code, and are only used when you name them",
        hint=f"add {shlex.join(words)}, or --cluster local for workers on this machine",
    )


def experiments_folder() -> Path:
    """Return the folder of the experiment files that ship: inside the wheel, or at the top of a checkout."""
    package = Path(__file__).parent.parent
    packaged = package / "experiments"
    return packaged if packaged.is_dir() else package.parent / "experiments"


def find_experiment_file(reference: str) -> Path:
    """Return the file of an experiment named by path or by a shipped name."""
    candidates = [
        Path(reference),
        experiments_folder() / f"{reference}.toml",
        experiments_folder() / reference / "experiment.toml",
    ]
    for path in candidates:
        if path.is_file():
            return path
    shipped = sorted(path.stem for path in experiments_folder().glob("*.toml"))
    raise NaxcliError(
        f"there is no experiment file {reference!r}",
        hint=did_you_mean(reference, shipped, otherwise=f"name a file, or one of {', '.join(shipped)}"),
    )


def _parse_assignment(assignment: str) -> dict[str, Any]:
    name, separator, text = assignment.partition("=")
    if not separator or not name.strip():
        raise NaxcliError(f"--set {assignment!r} is not NAME=VALUE", hint="--set recipe.learning_rate=1e-3")
    return _nest({name.strip(): _parse_value(text.strip())})


def _parse_value(text: str) -> Any:
    """Read a value as TOML would; what is not TOML (a bare word) is text."""
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text


def _read_environment(environment: Mapping[str, str]) -> dict[str, Any]:
    known = {item.name for item in dataclasses.fields(Experiment)} | {"epochs"}
    settings: dict[str, Any] = {}
    for variable, text in environment.items():
        if not variable.startswith(ENVIRONMENT_PREFIX) or variable in OTHER_ENVIRONMENT:
            continue
        name = variable.removeprefix(ENVIRONMENT_PREFIX).lower().replace("__", ".")
        if present_name(name.split(".")[0]) not in known:
            names = [ENVIRONMENT_PREFIX + name.upper() for name in known]
            raise NaxcliError(
                f"the environment variable {variable} is no setting of naxcli",
                hint=did_you_mean(variable, names, otherwise=f"unset {shlex.quote(variable)}"),
            )
        _merge(settings, _nest({name: _parse_value(text)}))
    return settings


def _nest(flat: Mapping[str, Any]) -> dict[str, Any]:
    nested: dict[str, Any] = {}
    for name, value in flat.items():
        *tables, last = name.split(".")
        inner = nested
        for table in tables:
            inner = inner.setdefault(table, {})
        inner[last] = value
    return nested


def _merge(lower: dict[str, Any], upper: Mapping[str, Any]) -> None:
    """Write the settings of `upper` over those of `lower`; epochs and fidelity replace each other, and a prior is one as a whole."""
    for pair in (("epochs", "fidelity"), ("fidelity", "epochs")):
        if pair[0] in upper:
            lower.pop(pair[1], None)
    for name, value in with_present_names(upper).items():
        if isinstance(value, Mapping) and isinstance(lower.get(name), dict) and name != "prior":
            _merge(lower[name], value)
        else:
            lower[name] = dict(value) if isinstance(value, Mapping) else value
