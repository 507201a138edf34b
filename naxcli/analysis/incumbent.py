"""The incumbent of a table of trials, by the rule of `naxcli.records.incumbent`."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from naxcli.analysis.encoding import Floats, Parts, distinct_rows
from naxcli.records.incumbent import Ranking
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

    Of equal costs, the configuration whose first trial stands first in the table wins.
    """
    succeeded = np.flatnonzero((table["status"] == "success").to_numpy(dtype=bool))
    if len(succeeded) == 0:
        return None
    fidelities, costs = (table[name].to_numpy(dtype=float)[succeeded] for name in ("fidelity", "cost"))
    highest = float(fidelities.max())
    rows = succeeded[fidelities == highest]
    _, numbers = distinct_rows(vectors[rows])
    ranking = Ranking[int]()
    seeds = table["seed"].to_numpy(dtype=float)[rows]
    for row, number, seed, cost in zip(rows, numbers, seeds, costs[fidelities == highest], strict=True):
        ranking.add(int(row), config=int(number), fidelity=highest, seed=int(seed), cost=float(cost))
    leader = ranking.leader
    assert leader is not None
    row = leader.best_result
    config = config_of_row(table, row)
    trial_id = float(table["trial_id"].iloc[row]) if "trial_id" in table else np.nan
    return Incumbent(
        config=config,
        config_id=config_id(config),
        cost=leader.mean_cost,
        fidelity=highest,
        num_seeds=len(leader.seeds),
        trial_id=int(trial_id) if np.isfinite(trial_id) else None,
        row=row,
    )
