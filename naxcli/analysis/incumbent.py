"""The incumbent: the configuration with the lowest mean cost at the highest fidelity, among those with the most seeds there."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from naxcli.analysis.encoding import Floats, Parts, distinct_rows
from naxcli.records.trial import CONFIG_PREFIX, ConfigValue, config_id


@dataclass(frozen=True, slots=True, kw_only=True)
class Incumbent:
    """The best configuration of a run.

    `cost` is the mean over its trials at `fidelity`, with `num_seeds` different seeds; `trial_id` is the best of these trials (None in
    tables without one), `row` its place in the table.
    """

    config: dict[str, ConfigValue]
    config_id: str
    cost: float
    fidelity: float
    num_seeds: int
    trial_id: int | None
    row: int


def config_of_row(table: pd.DataFrame, row: int) -> dict[str, ConfigValue]:
    """Return the configuration of one trial of a normalised table; inactive hyperparameters are absent."""
    columns = [column for column in table.columns if column.startswith(CONFIG_PREFIX)]
    values = {column[len(CONFIG_PREFIX) :]: table[column].iloc[row] for column in columns}
    return {name: value for name, value in values.items() if value is not None}


def group_means(values: Floats, numbers: Parts) -> Floats:
    """Return the mean of the values of each group, given the number of each value's group."""
    means: Floats = np.bincount(numbers, weights=values) / np.bincount(numbers)
    return means


def find_incumbent(table: pd.DataFrame, vectors: Floats) -> Incumbent | None:
    """Return the incumbent of a normalised table and its vectors, or None where no trial succeeded.

    Of equal costs, the configuration whose first trial has the lowest id wins, or the lowest configuration id without trial ids.
    """
    succeeded = (table["status"] == "success").to_numpy(dtype=bool)
    if not succeeded.any():
        return None
    fidelity = float(table["fidelity"][succeeded].max())
    rows = np.flatnonzero(succeeded & (table["fidelity"] == fidelity).to_numpy())
    costs = table["cost"].to_numpy(dtype=float)
    has_ids = "trial_id" in table
    trial_ids = table["trial_id"].to_numpy(dtype=float) if has_ids else np.zeros(len(table))
    _, numbers = distinct_rows(vectors[rows])
    first_of_seed, _ = distinct_rows(np.column_stack([numbers, table["seed"].to_numpy(dtype=float)[rows]]))
    num_seeds = np.bincount(numbers[first_of_seed])
    most = int(num_seeds.max())
    means = group_means(costs[rows], numbers)
    lowest = means[num_seeds == most].min()
    tied = [rows[numbers == number] for number in np.flatnonzero((num_seeds == most) & (means == lowest))]

    def preference(group: Parts) -> tuple[float, str]:
        return float(trial_ids[group].min()), "" if has_ids else config_id(config_of_row(table, group[0]))

    chosen = min(tied, key=preference) if len(tied) > 1 else tied[0]
    row = int(min(chosen, key=lambda r: (costs[r], trial_ids[r], r)))
    config = config_of_row(table, row)
    return Incumbent(
        config=config,
        config_id=config_id(config),
        cost=float(costs[chosen].mean()),
        fidelity=fidelity,
        num_seeds=most,
        trial_id=int(trial_ids[row]) if has_ids and np.isfinite(trial_ids[row]) else None,
        row=row,
    )
