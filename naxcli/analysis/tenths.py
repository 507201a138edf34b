"""The best, the middle and the worst tenth of the configurations: what they reach, how large they are, and how their profiles look.

As Han et al., CVPR 2021 (Table 3), compare channel configurations. Trials of one configuration, such as its repeats, count as their mean.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from naxcli.analysis.anytime import is_full_fidelity
from naxcli.analysis.encoding import Floats, Parts, distinct_rows
from naxcli.analysis.incumbent import config_of_row, group_means
from naxcli.records.trial import Config

Profile = Callable[[Config], Sequence[float]]

# With fewer configurations a tenth of them is none.
MIN_CONFIGS = 10
QUANTITIES = ("cost", "val_accuracy", "num_params", "flops")


def tenths(table: pd.DataFrame, vectors: Floats, profiles: Mapping[str, Profile]) -> list[dict[str, Any]]:
    """Return an entry for the top, the middle and the bottom tenth of the configurations at the highest fidelity, by their mean costs.

    Each has the mean and the sample standard deviation over its configurations of cost, accuracy and sizes, null where not recorded,
    and of every profile at each block. There are none of fewer than ten configurations.

    Args:
        table: Normalised trials.
        vectors: (num_trials, num_hyperparameters) rows of ConfigSpace vectors.
        profiles: Functions of a configuration that return one number for each block, by name.
    """
    rows = np.flatnonzero(is_full_fidelity(table))
    if len(rows) == 0:
        return []
    first, numbers = distinct_rows(vectors[rows])
    num_configs = len(first)
    if num_configs < MIN_CONFIGS:
        return []
    means = {
        name: group_means(table[name].to_numpy(dtype=float)[rows], numbers) for name in QUANTITIES if name in table
    }
    order = np.argsort(means["cost"], kind="stable")
    size = (num_configs + MIN_CONFIGS // 2) // MIN_CONFIGS
    starts = {"top": 0, "middle": (num_configs - size) // 2, "bottom": num_configs - size}
    entries = []
    for name, start in starts.items():
        chosen = order[start : start + size]
        configs = [config_of_row(table, int(row)) for row in rows[first][chosen]] if profiles else []
        entries.append(_entry(name, chosen, means, configs, profiles))
    return entries


def _entry(
    name: str,
    chosen: Parts,
    means: Mapping[str, Floats],
    configs: Sequence[Config],
    profiles: Mapping[str, Profile],
) -> dict[str, Any]:
    return {
        "tenth": name,
        "num_configs": len(chosen),
        **{quantity: _spread(values[chosen]) for quantity, values in means.items()},
        "profiles": {
            profile: _by_block([function(config) for config in configs]) for profile, function in profiles.items()
        },
    }


def _by_block(rows: Sequence[Sequence[float]]) -> list[dict[str, Any]]:
    """Return the spread at each block, over the configurations that have so many."""
    longest = max(map(len, rows))
    columns = [[row[block] for row in rows if block < len(row)] for block in range(longest)]
    return [
        {"block": block, "num_configs": len(column), **_spread(np.array(column, dtype=float))}
        for block, column in enumerate(columns, start=1)
    ]


def _spread(values: Floats) -> dict[str, float | None]:
    """Return mean and sample standard deviation, null where they do not exist."""
    mean = float(values.mean())
    std = float(values.std(ddof=1)) if len(values) > 1 else np.nan
    return {"mean": mean if np.isfinite(mean) else None, "std": std if np.isfinite(std) else None}
