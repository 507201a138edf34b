"""Tables of trials, recorded by naxcli or from elsewhere, in one checked form."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from ConfigSpace import ConfigurationSpace
from numpy.typing import NDArray

from naxcli.analysis.encoding import Encoding, Flags, Floats, legal_codes
from naxcli.errors import NaxcliError
from naxcli.records.trial import CONFIG_PREFIX, TRIAL_COLUMNS
from naxcli.search_space.domains import describe_domain

TEXT_COLUMNS = {"config_id", "searcher", "status", "worker", "device", "error"}


def normalise_table(frame: pd.DataFrame, configuration_space: ConfigurationSpace) -> pd.DataFrame:
    """Return the trials with the columns of trials.parquet, each value checked against the space, in the order in which they ended.

    Accepts `config.<hyperparameter>` columns, or columns named by the hyperparameters; `budget` stands for `fidelity`; status counts in
    any case; `seed` may be missing. A value of an inactive hyperparameter has no effect and becomes null. Numbers are float64 with NaN
    for null, `status` is lower-case text. The rows of a table from elsewhere may have any order: theirs is that of `ended_at`, or of
    `trial_id` without it.

    Raises:
        NaxcliError: naming the missing column, the unknown hyperparameter or value, or the row without a finite cost.
    """
    table, _ = check_table(frame, configuration_space)
    keys = [name for name in ("ended_at", "trial_id") if name in table]
    return table.sort_values(keys, kind="stable", ignore_index=True) if keys else table


def is_error_rate(table: pd.DataFrame) -> bool:
    """Return whether the cost of the successful trials is 1 - validation accuracy, so that it lies between 0 and 1."""
    if not {"status", "cost", "val_accuracy"} <= set(table):
        return False
    succeeded = table[table["status"] == "success"]
    accuracy = pd.to_numeric(succeeded["val_accuracy"], errors="coerce").to_numpy(dtype=float)
    cost = pd.to_numeric(succeeded["cost"], errors="coerce").to_numpy(dtype=float)
    return len(succeeded) > 0 and bool(np.allclose(1 - accuracy, cost, atol=1e-6))


def unused_columns(frame: pd.DataFrame, configuration_space: ConfigurationSpace) -> list[str]:
    """Return the columns that are neither hyperparameters nor part of a trial's record."""
    known = {*TRIAL_COLUMNS, "budget", *configuration_space, *(CONFIG_PREFIX + name for name in configuration_space)}
    return sorted(str(column) for column in frame.columns if column not in known)


def check_table(frame: pd.DataFrame, configuration_space: ConfigurationSpace) -> tuple[pd.DataFrame, Floats]:
    """Return the trials as `normalise_table` does, in the order given, and their vectors, (num_trials, num_hyperparameters)."""
    frame = frame.reset_index(drop=True)
    if "fidelity" not in frame.columns and "budget" in frame.columns:
        frame = frame.rename(columns={"budget": "fidelity"})
    sources = _hyperparameter_columns(list(frame.columns), configuration_space)
    missing = [name for name in ("fidelity", "cost", "status") if name not in frame.columns]
    if missing:
        raise NaxcliError(
            f"the table of trials has no column {', '.join(map(repr, missing))}",
            why=f"its columns are {', '.join(map(str, frame.columns))}",
            hint="name them fidelity (or budget), seed, cost and status",
        )
    table = pd.DataFrame(
        {
            column: frame[column]
            for column in TRIAL_COLUMNS
            if column in frame.columns and column not in sources.values()
        }
    )
    if "seed" not in table:
        table["seed"] = 0
    for name in [name for name in table if name not in TEXT_COLUMNS]:
        table[name] = _numbers(table[name])
    table["status"] = table["status"].astype(object).map(lambda status: str(status).strip().lower())
    _check_records(table)
    vectors = _read_configs(frame, sources, configuration_space)
    for index, name in enumerate(configuration_space):
        given = frame[sources[name]] if name in sources else None
        values = _plain_values(vectors[:, index], given, configuration_space[name])
        table[CONFIG_PREFIX + name] = pd.Series(values, index=table.index, dtype=object)
    return table, vectors


def _hyperparameter_columns(columns: Sequence[str], configuration_space: ConfigurationSpace) -> dict[str, str]:
    """Return hyperparameter -> column of the table."""
    is_prefixed = any(str(column).startswith(CONFIG_PREFIX) for column in columns)
    prefix = CONFIG_PREFIX if is_prefixed else ""
    if is_prefixed:
        unknown = sorted(
            c
            for c in columns
            if str(c).startswith(CONFIG_PREFIX) and c[len(CONFIG_PREFIX) :] not in configuration_space
        )
        if unknown:
            raise NaxcliError(
                f"the table of trials has unknown hyperparameters: {', '.join(c[len(CONFIG_PREFIX) :] for c in unknown)}",
                why=f"the space has {', '.join(configuration_space)}",
            )
    sources = {name: prefix + name for name in configuration_space if prefix + name in columns}
    missing = [n for n in configuration_space if n not in sources and configuration_space[n].size > 1]
    if missing:
        others = [str(column) for column in columns if column not in sources.values() and column not in TRIAL_COLUMNS]
        raise NaxcliError(
            f"the table of trials has no column for {', '.join(missing)}",
            why=f"columns that are no hyperparameter of the space: {', '.join(others)}" if others else "",
            hint=f"one column for each hyperparameter ({', '.join(prefix + name for name in missing)}), null where it is inactive",
        )
    clashes = [name for name in sources if not is_prefixed and name in TRIAL_COLUMNS]
    if clashes:
        raise NaxcliError(
            f"the hyperparameter {clashes[0]!r} has the name of a column of every trial",
            hint=f"name the hyperparameters' columns with the prefix: {CONFIG_PREFIX}{clashes[0]}",
        )
    return sources


def _numbers(column: pd.Series) -> pd.Series:
    numbers = pd.to_numeric(column, errors="coerce")
    unreadable = numbers.isna() & column.notna()
    if unreadable.any():
        row = int(np.flatnonzero(unreadable)[0])
        raise NaxcliError(f"{_plain(column.iloc[row])!r} in row {row} of column {column.name!r} is not a number")
    return pd.Series(numbers.to_numpy(dtype=float, na_value=np.nan), index=column.index)


def _check_records(table: pd.DataFrame) -> None:
    succeeded = (table["status"] == "success").to_numpy(dtype=bool)
    for column, why in (("cost", "cost is what is minimised"), ("fidelity", "importance is computed per fidelity")):
        bad = succeeded & ~np.isfinite(table[column].to_numpy(dtype=float))
        if bad.any():
            row = int(np.flatnonzero(bad)[0])
            raise NaxcliError(
                f"{int(bad.sum())} successful trials have no finite {column}, the first in row {row}",
                why=f"{why}, and status success promises it",
                hint="give failed trials another status, such as crashed or diverged",
            )


def _read_configs(frame: pd.DataFrame, sources: dict[str, str], configuration_space: ConfigurationSpace) -> Floats:
    vectors = np.full((len(frame), len(configuration_space)), np.nan)
    given = np.zeros(vectors.shape, dtype=bool)
    for index, name in enumerate(configuration_space):
        hyperparameter = configuration_space[name]
        if name in sources:
            vectors[:, index] = _codes(frame[sources[name]], name, hyperparameter)
            given[:, index] = ~np.isnan(vectors[:, index])
        if hyperparameter.size == 1:
            given[:, index] = True
    repaired = Encoding(configuration_space).repair(vectors)
    lacking = ~np.isnan(repaired) & ~given
    if lacking.any():
        row, index = (int(position[0]) for position in np.nonzero(lacking))
        name = list(configuration_space)[index]
        raise NaxcliError(
            f"row {row} of the table has no value for {name}",
            why="null means inactive, and in this configuration the hyperparameter is active",
        )
    return repaired


def _codes(column: pd.Series, name: str, hyperparameter: Any) -> Floats:
    """Return the vector codes of a column's values, NaN for null."""
    present = column.notna().to_numpy(dtype=bool)
    codes = np.full(len(column), np.nan)
    choices = _choices(hyperparameter)
    if choices is not None:
        listed = legal_codes(hyperparameter)
        assert listed is not None
        codes[present] = [np.nan if code is None else listed[code] for code in _choice_codes(column[present], choices)]
    else:
        numbers = pd.to_numeric(column, errors="coerce").to_numpy(dtype=float, na_value=np.nan)
        legal = present & _is_legal_number(numbers, hyperparameter)
        values = np.clip(numbers[legal], hyperparameter.lower, hyperparameter.upper)
        codes[legal] = hyperparameter.to_vector(
            np.rint(values).astype(np.int64) if _is_integer(hyperparameter) else values
        )
        listed = legal_codes(hyperparameter)
        if listed is not None and legal.any():
            codes[legal] = listed[np.abs(codes[legal, None] - listed[None, :]).argmin(axis=1)]
    unknown = present & np.isnan(codes)
    if unknown.any():
        row = int(np.flatnonzero(unknown)[0])
        raise NaxcliError(
            f"{_plain(column.iloc[row])!r} in row {row} of the table is not a value of {name}",
            why=f"legal: {describe_domain(hyperparameter)}",
        )
    return codes


def _choices(hyperparameter: Any) -> Sequence[Any] | None:
    for attribute in ("choices", "sequence"):
        if hasattr(hyperparameter, attribute):
            return getattr(hyperparameter, attribute)  # type: ignore[no-any-return]
    return [hyperparameter.value] if hyperparameter.size == 1 and hasattr(hyperparameter, "value") else None


def _choice_codes(values: pd.Series, choices: Sequence[Any]) -> list[int | None]:
    """Return the position of each value among the choices; a value written as text, or as text of a number, counts too."""
    exact = {_plain(choice): code for code, choice in enumerate(choices)}
    as_text = {str(choice): code for choice, code in exact.items()}

    def position(value: Any) -> int | None:
        value = _plain(value)
        if value in exact:
            return exact[value]
        if isinstance(value, float) and value.is_integer() and str(int(value)) in as_text:
            return as_text[str(int(value))]
        return as_text.get(str(value))

    # A column has few different values, mostly of one type.
    if values.dtype != object or len(set(map(type, values))) == 1:
        places, different = pd.factorize(values)
        positions = [position(value) for value in different]
        return [positions[place] for place in places]
    # Of several types, True, 1 and 1.0 are equal but may stand for different choices.
    found = {(type(value), value): position(value) for value in {(type(v), v): v for v in values}.values()}
    return [found[type(value), value] for value in values]


def _plain_values(codes: Floats, column: pd.Series | None, hyperparameter: Any) -> NDArray[np.object_]:
    """Return plain Python values, None where inactive; numbers as the table gives them, not as the unit scale rounds them."""
    active = ~np.isnan(codes)
    values = np.full(len(codes), None, dtype=object)
    choices = _choices(hyperparameter)
    if choices is not None or column is None:
        plain = [_plain(choice) for choice in choices or []]
        for code in np.unique(codes[active]):
            values[codes == code] = plain[int(code) if len(plain) > 1 else 0]
        return values
    numbers = pd.to_numeric(column[active]).to_numpy(dtype=float)
    values[active] = (np.rint(numbers).astype(np.int64) if _is_integer(hyperparameter) else numbers).tolist()
    return values


def _is_legal_number(numbers: Floats, hyperparameter: Any) -> Flags:
    slack = 1e-9 * max(abs(float(hyperparameter.lower)), abs(float(hyperparameter.upper)))
    with np.errstate(invalid="ignore"):
        legal: Flags = (numbers >= hyperparameter.lower - slack) & (numbers <= hyperparameter.upper + slack)
        if _is_integer(hyperparameter):
            legal &= np.abs(numbers - np.rint(numbers)) < 1e-9
    return legal


def _plain(value: Any) -> Any:
    return value.item() if hasattr(value, "item") else value


def _is_integer(hyperparameter: Any) -> bool:
    return isinstance(hyperparameter.lower, int | np.integer)
