"""The course of a search: falling cost over time, the Pareto front, and what one more day is expected to bring."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from scipy.stats import mannwhitneyu

from naxcli.analysis.clock import column_of, elapsed_seconds, steady_times
from naxcli.analysis.encoding import Flags, Floats, distinct_rows
from naxcli.analysis.incumbent import config_of_row, group_means
from naxcli.analysis.table import is_error_rate
from naxcli.records.trial import config_id

SECONDS_PER_DAY = 86_400
# Fewer trials at the highest fidelity say nothing about the next ones.
MIN_TRIALS = 20
MAX_PAUSE_SECONDS = 60.0  # that a search takes between two trials; a longer pause is one between sessions
NUM_SIMULATIONS = 2_000
# So many of the best costs say how far apart records are.
NUM_BEST = 8
# Least and largest gain of a doubling over that of the one before, and standard deviation of the logarithm of what is estimated of it.
SHRINKAGES = (0.5, 1.0)
SHRINKAGE_SPREAD = 0.35
SIZES = ("num_params", "flops", "latency_ms")


def trajectory(table: pd.DataFrame) -> list[dict[str, Any]]:
    """Return the trials at the highest fidelity that lowered the cost, in the order of the table, which is that of their ends.

    `elapsed_seconds` counts from the first start, `trial_seconds_sum` adds up the seconds of all trials that had ended by then. A table
    without ids and times has no order, hence no trajectory.
    """
    if "ended_at" not in table and "trial_id" not in table:
        return []
    is_full = is_full_fidelity(table)
    cost = table["cost"].to_numpy(dtype=float)
    elapsed = elapsed_seconds(table)
    seconds = column_of(table, "seconds")
    spent = np.cumsum(np.nan_to_num(seconds)) if np.isfinite(seconds).any() else np.full(len(table), np.nan)
    points, best = [], np.inf
    for row in map(int, np.flatnonzero(is_full)):
        if cost[row] < best:
            best = cost[row]
            points.append(
                {
                    "trial_id": _integer(table, "trial_id", row),
                    "ended_at": _number(column_of(table, "ended_at")[row]),
                    "elapsed_seconds": _number(elapsed[row]),
                    "trial_seconds_sum": _number(spent[row]),
                    "cost": float(best),
                }
            )
    return points


def pareto_front(table: pd.DataFrame, vectors: Floats) -> list[dict[str, Any]]:
    """Return the configurations at the highest fidelity to which no other is at once cheaper in cost and in some recorded size.

    The sizes are parameters, multiply-adds and latency; the front is the union of the fronts of cost against each. Costs are means over
    seeds; the trial named is the best of them.
    """
    rows = np.flatnonzero(is_full_fidelity(table))
    sizes = [name for name in SIZES if name in table and np.isfinite(table[name].to_numpy(dtype=float)[rows]).any()]
    if len(rows) == 0 or not sizes:
        return []
    _, config = distinct_rows(vectors[rows])
    costs = table["cost"].to_numpy(dtype=float)[rows]
    # The first row of each configuration when rows are in the order of configuration, cost and place.
    order = np.lexsort([costs, config])
    best_rows = rows[order[np.unique(config[order], return_index=True)[1]]]
    mean_costs = group_means(costs, config)
    on_front = np.zeros(len(best_rows), dtype=bool)
    for name in sizes:
        size = table[name].to_numpy(dtype=float)[best_rows]
        candidates = np.lexsort([size, mean_costs])
        candidates = candidates[np.isfinite(size[candidates])]
        smallest_before = np.concatenate([[np.inf], np.minimum.accumulate(size[candidates])[:-1]])
        on_front[candidates[size[candidates] < smallest_before]] = True
    return [
        {
            "trial_id": _integer(table, "trial_id", best_rows[number]),
            "config_id": config_id(config_of_row(table, best_rows[number])),
            "cost": float(mean_costs[number]),
            "num_params": _integer(table, "num_params", best_rows[number]),
            "flops": _integer(table, "flops", best_rows[number]),
            "latency_ms": _number(column_of(table, "latency_ms")[best_rows[number]]),
        }
        for number in sorted(np.flatnonzero(on_front), key=lambda number: mean_costs[number])
    ]


def marginal_value(
    table: pd.DataFrame, vectors: Floats, *, num_configs: int | None = None, seed: int = 0
) -> dict[str, Any] | None:
    """Return how much one more day at the present rate is expected to lower the best cost, or None with fewer than 20 trials.

    See `expected_improvement`; the rate is that of trials at the highest fidelity per day in which the search was running, what it
    took between trials included, and ends with the configurations that have neither a cost there nor failed. An error rate does not
    fall below 0.

    Args:
        table: Table of the trials.
        vectors: (num_trials, num_hyperparameters) of the trials.
        num_configs: configurations of the space, None where they are infinitely many or were not counted.
        seed: Random seed of the simulation.
    """
    is_full = is_full_fidelity(table)
    rows = np.flatnonzero(is_full)
    seconds = searching_seconds(table)
    if len(rows) < MIN_TRIALS or not seconds > 0:
        return None
    per_day = len(rows) / seconds * SECONDS_PER_DAY
    is_settled = is_full | (table["status"] != "success").to_numpy(dtype=bool)
    num_settled = len(distinct_rows(vectors[is_settled])[0])
    num_left = np.inf if num_configs is None else max(0, num_configs - num_settled)
    if num_left == 0:
        return {"per_day_improvement": 0.0, "low": 0.0, "high": 0.0, "method": "no configuration is left"}
    costs = table["cost"].to_numpy(dtype=float)[rows]
    lowest = 0.0 if is_error_rate(table) else -np.inf
    expected, low, high = expected_improvement(costs, min(per_day, num_left), lowest=lowest, seed=seed)
    to_come = f"for the {per_day:,.0f} such trials that a day has time for"
    if num_left < per_day:
        to_come = f"for the {num_left:,.0f} configurations that are left, fewer than a day has time for"
    elif num_configs is not None:
        to_come += f", of {num_left:,.0f} configurations that are left"
    method = (
        f"95 % prediction interval from the distances between the best costs of the last {len(_representative(costs)):,} trials at the "
        f"highest fidelity, {to_come}{'' if lowest < 0 else '; no cost is below 0'}; a searcher that is still learning does better"
    )
    return {"per_day_improvement": expected, "low": low, "high": high, "method": method}


def expected_improvement(
    costs: Floats, num_more: float, *, lowest: float = -np.inf, seed: int = 0
) -> tuple[float, float, float]:
    """Return by how much more trials are expected to lower the best cost, and a 95 % prediction interval.

    The trials so far stand for what the searcher proposes now, in any order; only their latter half (at least 20) where it differs from
    the first (rank sum test at 5 %). Of as many trials again, the number of new records has Poisson's distribution, whatever the costs are
    distributed like. Each gains as much as the distances between the best costs so far say: times their ranks, these are exponential with a
    common mean (Renyi 1953) that shrinks with each doubling of the number of trials, at the rate at which gains shrank over the doublings
    before (between 1, an exponential tail, and 1/2, a uniform one). The interval holds the uncertainty of mean and rate too. What these
    trials lag behind an older best is subtracted.

    Args:
        costs: (num_trials,) in the order in which trials ended.
        num_more: number of trials to come.
        lowest: a bound that no cost is below.
        seed: Random seed of the simulation.
    """
    rng = np.random.default_rng(seed)
    recent = np.sort(_representative(costs))
    ratio = (len(recent) + num_more) / len(recent)
    rate = np.exp(SHRINKAGE_SPREAD * rng.standard_normal(NUM_SIMULATIONS))[:, None]
    rate = np.clip(_shrinkage(recent) * rate, *SHRINKAGES)
    ranks = np.arange(1, min(NUM_BEST, len(recent)))
    # At rank r, the best costs are those of a search with so many doublings less.
    spacings = ranks * np.diff(recent[: len(ranks) + 1]) * rate ** np.log2(ranks + 0.5)
    mean = spacings.sum(axis=1) / rng.gamma(len(ranks), size=NUM_SIMULATIONS)
    num_records = rng.poisson(np.log(ratio), size=NUM_SIMULATIONS)
    shape = NUM_SIMULATIONS, max(1, int(num_records.max()))
    records = rng.exponential(size=shape) * rate ** rng.uniform(0, np.log2(ratio), size=shape)
    gains = mean * (records * (np.arange(shape[1]) < num_records[:, None])).sum(axis=1)
    gains = np.clip(gains - (recent[0] - costs.min()), 0.0, costs.min() - lowest)
    low, high = np.percentile(gains, [2.5, 97.5])
    return float(gains.mean()), float(low), float(high)


def _shrinkage(costs: Floats) -> float:
    """Return the gain of a doubling over that of the doubling before, from the expected best of an eighth, a quarter and a half."""
    num = len(costs)
    bests = []
    for part in (max(1, num // 8), max(1, num // 4), num // 2):
        chance = -np.diff(_rank_of_best(num, part), append=0.0)
        bests.append(float(chance @ costs[: len(chance)]))
    earlier, later = bests[0] - bests[1], bests[1] - bests[2]
    return float(np.clip(later / earlier, *SHRINKAGES)) if earlier > 0 else SHRINKAGES[1]


def _rank_of_best(num: int, part: int) -> Floats:
    """Return the chance that the best of a random part of sorted costs has at least rank 0, 1, ..., num - part."""
    ranks = np.arange(num - part)
    chance: Floats = np.cumprod(np.concatenate([[1.0], (num - part - ranks) / (num - ranks)]))
    return chance


def active_elapsed(table: pd.DataFrame) -> Floats:
    """Return for each trial for how many seconds at least one trial had been running when it ended, NaN where unknown.

    Time between the end of a run and its resumption does not count.
    """
    started, ended = steady_times(table)
    known = np.isfinite(started) & np.isfinite(ended)
    elapsed = np.full(len(table), np.nan)
    if known.any():
        idle_until, pauses = _pauses(started[known], ended[known])
        idle_before = np.concatenate([[0], np.cumsum(pauses)])
        elapsed[known] = ended[known] - started[known].min()
        elapsed[known] -= idle_before[np.searchsorted(idle_until, ended[known], side="right")]
    return elapsed


def searching_seconds(table: pd.DataFrame) -> float:
    """Return for how long a trial was running or the search was between two, NaN where the table does not say.

    A longer pause than `MAX_PAUSE_SECONDS` is the end of a session and the start of the next one.
    """
    started, ended = steady_times(table)
    known = np.isfinite(started) & np.isfinite(ended)
    if not known.any():
        return np.nan
    pauses = _pauses(started[known], ended[known])[1]
    away = pauses[pauses > MAX_PAUSE_SECONDS].sum()
    return float(ended[known].max() - started[known].min() - away)


def _pauses(started: Floats, ended: Floats) -> tuple[Floats, Floats]:
    """Return when each trial but the first started, ascending, and for how many seconds no trial had been running then."""
    order = np.argsort(started)
    starts, ends = started[order], np.maximum.accumulate(ended[order])
    return starts[1:], np.maximum(0, starts[1:] - ends[:-1])


def _representative(costs: Floats) -> Floats:
    """Return the trials that stand for what the searcher proposes now; see `expected_improvement`."""
    half = len(costs) // 2
    has_moved = mannwhitneyu(costs[:half], costs[half:]).pvalue < 0.05
    return costs[-max(MIN_TRIALS, half) :] if has_moved else costs


def is_full_fidelity(table: pd.DataFrame) -> Flags:
    """Return which trials succeeded at the highest fidelity that any did."""
    succeeded: Flags = (table["status"] == "success").to_numpy(dtype=bool)
    if not succeeded.any():
        return succeeded
    is_full: Flags = succeeded & (table["fidelity"] == table["fidelity"][succeeded].max()).to_numpy(dtype=bool)
    return is_full


def _number(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None


def _integer(table: pd.DataFrame, name: str, row: int) -> int | None:
    value = column_of(table, name)[row]
    return int(value) if np.isfinite(value) else None
