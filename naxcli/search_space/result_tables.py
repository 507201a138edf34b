"""Tables of results from anywhere: Parquet, CSV or an Optuna study's, and the configuration of a space that a row means."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from naxcli.errors import NaxcliError
from naxcli.records.parquet import read_trials_parquet
from naxcli.records.trial import CONFIG_PREFIX, TRIAL_COLUMNS, ConfigValue
from naxcli.search_space.contract import plain_config
from naxcli.search_space.domains import choices_of

if TYPE_CHECKING:
    from ConfigSpace import ConfigurationSpace
    from pandas import DataFrame

OPTUNA_PREFIX = "params_"
# Of tables in which hyperparameters have no prefix.
RECORD_COLUMNS = frozenset({*TRIAL_COLUMNS, "budget", "number", "value", "state", "duration"})


@dataclass(frozen=True, slots=True, kw_only=True)
class ResultTable:
    """What was read, before it is held against a space: successes as (values by hyperparameter, fidelity, cost)."""

    trials: Sequence[tuple[Mapping[str, Any], float, float]]
    names: Sequence[str]
    num_failed: int
    differences: Sequence[str] = ()


def read_table(path: Path, configuration_space: ConfigurationSpace) -> ResultTable:
    """Return the results of a file.

    Args:
        path: Parquet file with the columns of trials.parquet or of hyperparameters' names, or CSV file, also of Optuna's
            `study.trials_dataframe()`.
        configuration_space: Whose hyperparameters are looked for.

    Raises:
        NaxcliError: If it cannot be read, or has no column of costs.
    """
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
    return ResultTable(
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


def legal_config(
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
