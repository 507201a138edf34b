"""Earlier results: of a run, a Parquet file or an Optuna study's CSV, as far as they are results of this space's configurations."""

from __future__ import annotations

import hashlib
import json
import math
import statistics
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from naxcli.errors import NaxcliError
from naxcli.records.database import Records
from naxcli.records.directory import RunDirectory
from naxcli.records.parquet import read_trials_parquet
from naxcli.records.trial import CONFIG_PREFIX, TRIAL_COLUMNS, Config, ConfigValue, Status, config_id
from naxcli.search_space.contract import Space, plain_config
from naxcli.search_space.domains import choices_of
from naxcli.search_space.recorded import read_space
from naxcli.settings.experiment import Experiment, differences
from naxcli.settings.units import counted

if TYPE_CHECKING:
    from ConfigSpace import ConfigurationSpace
    from pandas import DataFrame

# Settings that costs depend on; fidelities are a model's to compare.
COST_SETTINGS = frozenset(
    {"data", "image_size", "width", "validation_fraction", "images_per_class", "recipe", "rung_schedule"}
)
OPTUNA_PREFIX = "params_"
# Of tables in which hyperparameters have no prefix.
RECORD_COLUMNS = frozenset({*TRIAL_COLUMNS, "budget", "number", "value", "state", "duration"})
MAX_SHOWN = 8  # differences that a notice names


@dataclass(frozen=True, slots=True, kw_only=True)
class EarlierResult:
    """The mean cost of a configuration at a fidelity."""

    config: Config
    fidelity: float
    cost: float


@dataclass(frozen=True, slots=True, kw_only=True)
class EarlierResults:
    """The results that one source has of a space's configurations, one at least."""

    source: str
    results: tuple[EarlierResult, ...]

    @property
    def content_hash(self) -> str:
        """The first 16 digits of the SHA-256 of the results."""
        return hashlib.sha256(json.dumps(self._rows(), sort_keys=True).encode()).hexdigest()[:16]

    def to_json(self) -> dict[str, Any]:
        return {"source": self.source, "content_hash": self.content_hash, "results": self._rows()}

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> EarlierResults:
        return cls(source=content["source"], results=tuple(EarlierResult(**row) for row in content["results"]))

    def _rows(self) -> list[dict[str, Any]]:
        return [asdict(result) for result in self.results]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Source:
    """What was read, before it is held against the space: successes as (values by hyperparameter, fidelity, cost)."""

    trials: Sequence[tuple[Mapping[str, Any], float, float]]
    names: Sequence[str]
    num_failed: int
    differences: Sequence[str] = ()


def read_earlier(
    source: str, *, space: Space, configuration_space: ConfigurationSpace, experiment: Experiment
) -> tuple[EarlierResults, list[str]]:
    """Return the results of a source, and what a user should know of them.

    A hyperparameter that the source has not is taken to have had its default; one that only the source has is left out. Results with a
    value that is not one of the space are left out, and those of one configuration at one fidelity averaged.

    Args:
        source: Run directory, Parquet file with the columns of trials.parquet or of hyperparameters' names, or CSV file, also of
            Optuna's `study.trials_dataframe()`.
        space: Space of the search.
        configuration_space: Of the search.
        experiment: Settings of the search.

    Raises:
        NaxcliError: If it cannot be read, or has no result of a configuration of the space.
    """
    path = Path(source)
    found = _read_run(path, experiment) if path.is_dir() else _read_table(path, configuration_space)
    shared = [name for name in configuration_space if name in found.names]
    if not shared:
        raise NaxcliError(
            f"{source} has no hyperparameter of space {space.name!r}",
            why=f"it has {', '.join(found.names) or 'none'}; the space has {', '.join(configuration_space)}",
            hint="name a run, or a table, over a space with the same hyperparameters",
        )
    if not found.trials:
        raise NaxcliError(f"{source} has no successful trial with a finite cost to start from")
    costs: dict[tuple[str, float], list[float]] = defaultdict(list)
    configs: dict[str, Config] = {}
    illegal: Counter[str] = Counter()
    for values, fidelity, cost in found.trials:
        config, reason = _legal_config({name: values.get(name) for name in shared}, configuration_space)
        if config is None:
            illegal[reason] += 1
            continue
        config = space.canonicalise(config)
        identity = config_id(config)
        configs[identity] = config
        costs[identity, fidelity].append(cost)
    if not costs:
        raise NaxcliError(
            f"{source} has no configuration of space {space.name!r}",
            why=f"of its {counted(len(found.trials), 'result')}, " + _counts(illegal),
        )
    results = tuple(
        EarlierResult(config=configs[identity], fidelity=fidelity, cost=statistics.fmean(values))
        for (identity, fidelity), values in costs.items()
    )
    earlier = EarlierResults(source=source, results=results)
    return earlier, list(_notices(earlier, found, illegal, configuration_space))


def _notices(
    earlier: EarlierResults, found: _Source, illegal: Counter[str], configuration_space: ConfigurationSpace
) -> Iterator[str]:
    source = earlier.source
    fidelities = ", ".join(f"{fidelity:g}" for fidelity in sorted({result.fidelity for result in earlier.results}))
    yield (
        f"starting from {source}: {counted(len(earlier.results), 'result')} at fidelity {fidelities} "
        f"(content hash {earlier.content_hash})"
    )
    if found.differences:
        yield f"{source} differs: {'; '.join(found.differences[:MAX_SHOWN])}"
    missing = [name for name in configuration_space if name not in found.names and configuration_space[name].size > 1]
    if missing:
        defaults = ", ".join(f"{name}={configuration_space[name].default_value}" for name in missing)
        yield f"{source} has not all hyperparameters: its results count as those of {defaults}"
    others = [name for name in found.names if name not in configuration_space]
    if others:
        yield f"{source} has hyperparameters that this space has not, and that are left out: {', '.join(others)}"
    if found.num_failed:
        illegal = illegal + Counter({"failed, or have no finite cost": found.num_failed})
    if illegal:
        yield f"left out of {source}: {_counts(illegal)}"


def _counts(reasons: Counter[str]) -> str:
    shown = [f"{number} {reason}" for reason, number in reasons.most_common(MAX_SHOWN)]
    return ", ".join(shown)


def _read_run(path: Path, experiment: Experiment) -> _Source:
    run = RunDirectory(path=path)
    recorded = run.experiment()
    with Records.open(run) as records:
        finished = records.finished()
    trials = [
        (item.trial.config, item.trial.fidelity, item.cost)
        for item in finished
        if item.status == Status.SUCCESS and item.cost is not None
    ]
    differing = [
        f"{name} is {before!r} there, {after!r} here"
        for name, before, after in differences(recorded, experiment)
        if name.split(".")[0] in COST_SETTINGS
    ]
    return _Source(
        trials=trials,
        names=list(read_space(run.space_file)),
        num_failed=len(finished) - len(trials),
        differences=differing,
    )


def _read_table(path: Path, configuration_space: ConfigurationSpace) -> _Source:
    frame = _read_csv(path) if path.suffix == ".csv" else read_trials_parquet(path)
    columns = [str(column) for column in frame.columns]
    prefix = next(
        (prefix for prefix in (CONFIG_PREFIX, OPTUNA_PREFIX) if any(c.startswith(prefix) for c in columns)), ""
    )
    hyperparameters = {
        column.removeprefix(prefix): column
        for column in columns
        if (column.startswith(prefix) if prefix else column in configuration_space or column not in RECORD_COLUMNS)
    }
    cost, status, fidelity = (
        next((name for name in names if name in columns), None)
        for names in (("cost", "value"), ("status", "state"), ("fidelity", "budget"))
    )
    if cost is None:
        raise NaxcliError(
            f"{path} has no column cost",
            why=f"its columns are {', '.join(columns)}",
            hint="name the column that is to be minimised cost, or value as Optuna does",
        )
    trials = []
    for row in frame.to_dict("records"):
        is_success = status is None or str(row[status]).lower() in ("success", "complete")
        number = _number(row[cost])
        at = 1.0 if fidelity is None else _number(row[fidelity])
        if is_success and number is not None and at is not None and at > 0:
            trials.append(({name: row[column] for name, column in hyperparameters.items()}, at, number))
    is_optuna = prefix == OPTUNA_PREFIX
    return _Source(
        trials=trials,
        names=list(hyperparameters),
        num_failed=len(frame) - len(trials),
        differences=["value counts as a cost, to be minimised, as of a study with direction minimize"] * is_optuna,
    )


def _read_csv(path: Path) -> DataFrame:
    import pandas as pd

    try:
        frame: DataFrame = pd.read_csv(path, keep_default_na=False, na_values=[""])  # "None" may be a choice
    except (OSError, ValueError) as error:
        raise NaxcliError(f"{path} cannot be read as CSV", why=str(error).splitlines()[0]) from error
    return frame


def _number(value: Any) -> float | None:
    try:
        number = float(value)
    except (TypeError, ValueError):
        return None
    return number if math.isfinite(number) else None


def _legal_config(
    values: Mapping[str, Any], configuration_space: ConfigurationSpace
) -> tuple[dict[str, ConfigValue] | None, str]:
    """Return the configuration with these values, the default of what is missing and nothing of what is inactive, or why there is none."""
    from ConfigSpace.exceptions import ForbiddenValueError
    from ConfigSpace.util import deactivate_inactive_hyperparameters

    complete = {name: item.default_value for name, item in configuration_space.items()}
    for name, value in values.items():
        if value is None or (isinstance(value, float) and math.isnan(value)):  # as a data frame may hold null
            continue
        legal = _legal_value(configuration_space[name], value)
        if legal is None:
            return None, f"with {name}={value}, which this space has not"
        complete[name] = legal
    try:
        configuration = deactivate_inactive_hyperparameters(complete, configuration_space)
        configuration.check_valid_configuration()
    except ForbiddenValueError:
        return None, "forbidden in this space"
    return plain_config(configuration), ""


def _legal_value(hyperparameter: Any, value: Any) -> ConfigValue | None:
    """Return the space's own value that a value of a table stands for, which may be text, or a whole number with or without a point."""
    value = value.item() if hasattr(value, "item") else value
    choices = choices_of(hyperparameter)
    if choices is None:
        number = _number(value)
        if number is None or not hyperparameter.lower <= number <= hyperparameter.upper:
            return None
        if not isinstance(hyperparameter.lower, int | np.integer):
            return number
        return int(number) if number.is_integer() else None
    texts = {str(value)} | ({str(int(value))} if isinstance(value, float) and value.is_integer() else set())
    number = None if isinstance(value, bool) else _number(value)
    same = [choice for choice in choices if type(choice) is type(value) and choice == value]
    meant = (
        choice for choice in choices if str(choice) in texts or (type(choice) in (int, float) and choice == number)
    )
    return next(iter([*same, *meant]), None)
