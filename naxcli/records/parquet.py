"""Parquet: the tables of trials and of learning curves that a run keeps for readers, and reading one from anywhere."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from naxcli.errors import NaxcliError
from naxcli.records.files import replaced
from naxcli.records.trial import CONFIG_PREFIX, TRIAL_COLUMNS, EpochRecord, is_int64

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa
    from ConfigSpace import ConfigurationSpace

SCHEMA_VERSION = 1
CURVE_COLUMNS = [item.name for item in fields(EpochRecord)]

Row = Any  # of SQLite: values by the names of columns


def read_trials_parquet(path: Path) -> pd.DataFrame:
    """Return the table of a Parquet file from anywhere.

    Raises:
        NaxcliError: if it is missing or not readable as Parquet.
    """
    import pandas as pd
    import pyarrow as pa

    if not path.is_file():
        raise NaxcliError(f"there is no file {path}")
    try:
        return pd.read_parquet(path)
    except (pa.ArrowException, OSError, ValueError) as error:
        raise NaxcliError(
            f"{path} is not readable as Parquet",
            why=str(error).splitlines()[0],
            hint="a run's own trials.parquet is rebuilt from search.db by the next search, and by naxcli status",
        ) from error


def trials_table(rows: Sequence[Row], configuration_space: ConfigurationSpace, *, kinds: Mapping[str, str]) -> pa.Table:
    """Return what trials.parquet holds.

    Args:
        rows: of the finished trials.
        configuration_space: of the search, which has a column for each hyperparameter.
        kinds: of the columns, as SQL names them.
    """
    import pyarrow as pa

    schema = _trials_schema(configuration_space, kinds)
    configs = [json.loads(row["config"]) for row in rows]
    columns = []
    for item in schema:
        if item.name.startswith(CONFIG_PREFIX):
            name = item.name.removeprefix(CONFIG_PREFIX)
            values = [config.get(name) for config in configs]
            if item.type == pa.string():
                values = [value if value is None else _storable(str(value)) for value in values]
        else:
            values = [row[item.name] for row in rows]
        columns.append(pa.array(values, type=item.type))
    return pa.Table.from_arrays(columns, schema=schema)


def curves_table(rows: Sequence[Row]) -> pa.Table:
    """Return what curves.parquet holds, a row per epoch."""
    import pyarrow as pa

    integers = {"trial_id", "epoch"}
    schema = pa.schema(
        [pa.field(name, pa.int64() if name in integers else pa.float64()) for name in ("trial_id", *CURVE_COLUMNS)]
    )
    columns = [
        pa.array([int(row[item.name]) if item.name in integers else row[item.name] for row in rows], type=item.type)
        for item in schema
    ]
    return pa.Table.from_arrays(columns, schema=schema)


def replace_parquet(path: Path, table: pa.Table) -> None:
    """Write a table to a file, whole or not at all."""
    import pyarrow.parquet as pq

    with replaced(path) as handle:
        pq.write_table(table, handle)


def _trials_schema(configuration_space: ConfigurationSpace, kinds: Mapping[str, str]) -> pa.Schema:
    import pyarrow as pa

    columns = [pa.field(name, _arrow_kind(kinds[name])) for name in TRIAL_COLUMNS]
    for name, hyperparameter in configuration_space.items():
        columns.append(pa.field(f"config.{name}", _hyperparameter_kind(hyperparameter)))
    return pa.schema(columns, metadata={"naxcli.schema_version": str(SCHEMA_VERSION)})


def _arrow_kind(kind: str) -> pa.DataType:
    import pyarrow as pa

    return {"INTEGER": pa.int64(), "REAL": pa.float64(), "TEXT": pa.string()}[kind.split(maxsplit=1)[0]]


def _hyperparameter_kind(hyperparameter: Any) -> pa.DataType:
    import pyarrow as pa

    values = getattr(hyperparameter, "choices", None) or getattr(hyperparameter, "sequence", None)
    if values is None:
        bounds = ("lower", "upper") if hasattr(hyperparameter, "lower") else ("value",)
        values = [getattr(hyperparameter, name) for name in bounds]
    values = [value.item() if hasattr(value, "item") else value for value in values]
    kinds = {type(value) for value in values}
    if kinds <= {int, float} and not all(is_int64(value) for value in values if isinstance(value, int)):
        return pa.string()
    for kind, arrow in ((str, pa.string()), (bool, pa.bool_()), (int, pa.int64()), (float, pa.float64())):
        if kinds == {kind}:
            return arrow
    # Choices of mixed types have no common column type; their text is kept.
    return pa.float64() if kinds == {int, float} else pa.string()


def _storable(text: str) -> str:
    """Return text that Parquet can hold: without half a surrogate pair, which Python's own strings may have."""
    return text.encode(errors="backslashreplace").decode()
