"""The course of a search: falling cost over time, the Pareto front, and what one more day is expected to bring."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from naxcli.analysis.audit import end_order
from naxcli.analysis.encoding import Flags, Floats, distinct_rows
from naxcli.analysis.incumbent import config_of_row
from naxcli.trial import config_id

SECONDS_PER_DAY = 86_400
# Fewer trials at the highest fidelity say nothing about the next ones.
MIN_TRIALS = 20
NUM_SIMULATIONS = 2_000
SIZES = ("num_params", "flops", "latency_ms")


def trajectory(table: pd.DataFrame) -> list[dict[str, Any]]:
    """Return the trials at the highest fidelity that lowered the cost, in the order in which they ended.

    `elapsed_seconds` counts from the first start, `trial_seconds_sum` adds up the seconds of all trials that had ended by then. A table
    without ids and times has no order, hence no trajectory.
    """
    if "ended_at" not in table and "trial_id" not in table:
        return []
    is_full = is_full_fidelity(table)
    cost = table["cost"].to_numpy(dtype=float)
    ended = _column(table, "ended_at")
    start = np.nanmin(_column(table, "started_at")) if np.isfinite(_column(table, "started_at")).any() else np.nan
    order = end_order(table)
    seconds = _column(table, "seconds")
    spent = np.cumsum(np.nan_to_num(seconds[order])) if np.isfinite(seconds).any() else np.full(len(order), np.nan)
    points, best = [], np.inf
    for position, row in enumerate(order):
        if is_full[row] and cost[row] < best:
            best = cost[row]
            points.append(
                {
                    "trial_id": _integer(table, "trial_id", row),
                    "ended_at": _number(ended[row]),
                    "elapsed_seconds": _number(ended[row] - start),
                    "trial_seconds_sum": _number(spent[position]),
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
    costs = table["cost"].to_numpy(dtype=float)
    best_rows = [min(rows[config == number], key=lambda row: (costs[row], row)) for number in range(config.max() + 1)]
    mean_costs = np.array([costs[rows[config == number]].mean() for number in range(config.max() + 1)])
    on_front = np.zeros(len(best_rows), dtype=bool)
    for name in sizes:
        size = table[name].to_numpy(dtype=float)[best_rows]
        best = np.inf
        for candidate in np.lexsort([size, mean_costs]):
            if np.isfinite(size[candidate]) and size[candidate] < best:
                best = size[candidate]
                on_front[candidate] = True
    return [
        {
            "trial_id": _integer(table, "trial_id", best_rows[number]),
            "config_id": config_id(config_of_row(table, best_rows[number])),
            "cost": float(mean_costs[number]),
            "num_params": _integer(table, "num_params", best_rows[number]),
            "flops": _integer(table, "flops", best_rows[number]),
            "latency_ms": _number(_column(table, "latency_ms")[best_rows[number]]),
        }
        for number in sorted(np.flatnonzero(on_front), key=lambda number: mean_costs[number])
    ]


def marginal_value(table: pd.DataFrame, *, seed: int = 0) -> dict[str, Any] | None:
    """Return how much one more day at the present rate is expected to lower the best cost, or None with fewer than 20 trials.

    See `expected_improvement`; the rate is that of trials at the highest fidelity per day in which at least one trial was running.
    """
    rows = end_order(table)[is_full_fidelity(table)[end_order(table)]]
    seconds = active_seconds(table)
    if len(rows) < MIN_TRIALS or not seconds > 0:
        return None
    per_day = len(rows) / seconds * SECONDS_PER_DAY
    expected, low, high = expected_improvement(table["cost"].to_numpy(dtype=float)[rows], per_day, seed=seed)
    method = (
        f"generalised Pareto tail of the best quarter of the last {_num_recent(len(rows))} trials at the highest fidelity, "
        f"{per_day:.0f} such trials a day, 95 % prediction interval"
    )
    return {"per_day_improvement": expected, "low": low, "high": high, "method": method}


def expected_improvement(costs: Floats, num_more: float, *, seed: int = 0) -> tuple[float, float, float]:
    """Return by how much more trials are expected to lower the best cost, and a 95 % prediction interval.

    The latter half of the trials so far (at least 20) stands for what the searcher proposes now. Below their lower quartile, costs follow
    a generalised Pareto distribution, fitted by probability-weighted moments (Hosking and Wallis, Technometrics 1987) to trials drawn
    with replacement, so that the interval holds the uncertainty of the fit and the luck of the draw.

    Args:
        costs: (num_trials,) in the order in which trials ended.
        num_more: number of trials to come.
        seed: of the simulation.
    """
    recent = costs[-_num_recent(len(costs)) :]
    best = costs.min()
    num_tail = max(5, len(recent) // 4)
    rng = np.random.default_rng(seed)
    gains = np.zeros(NUM_SIMULATIONS)
    for number in range(NUM_SIMULATIONS):
        drawn = np.sort(rng.choice(recent, len(recent)))
        threshold = drawn[num_tail]
        depth = _deepest(
            threshold - drawn[:num_tail], rng.binomial(round(num_more), num_tail / len(recent)), rng.uniform()
        )
        gains[number] = max(0.0, best - (threshold - depth))
    low, high = np.percentile(gains, [2.5, 97.5])
    return float(gains.mean()), float(low), float(high)


def active_elapsed(table: pd.DataFrame) -> Floats:
    """Return for each trial for how many seconds at least one trial had been running when it ended, NaN where unknown.

    Time between the end of a run and its resumption does not count.
    """
    started, ended = _column(table, "started_at"), _column(table, "ended_at")
    known = np.isfinite(started) & np.isfinite(ended)
    elapsed = np.full(len(table), np.nan)
    if known.any():
        order = np.argsort(started[known])
        starts, ends = started[known][order], np.maximum.accumulate(ended[known][order])
        idle_until = starts[1:]
        idle = np.cumsum(np.maximum(0, idle_until - ends[:-1]))
        idle_before = np.concatenate([[0], idle])[np.searchsorted(idle_until, ended[known], side="right")]
        elapsed[known] = ended[known] - starts[0] - idle_before
    return elapsed


def active_seconds(table: pd.DataFrame) -> float:
    """Return for how long at least one trial was running, NaN where the table does not say."""
    elapsed = active_elapsed(table)
    return float(np.nanmax(elapsed)) if np.isfinite(elapsed).any() else np.nan


def _num_recent(num_trials: int) -> int:
    return min(num_trials, max(MIN_TRIALS, num_trials // 2))


def _deepest(excesses: Floats, num_draws: int, uniform: float) -> float:
    """Return the largest of some draws from the generalised Pareto distribution of excesses, at a given quantile."""
    excesses = np.sort(excesses)
    mean = float(excesses.mean())
    if num_draws == 0 or mean == 0:
        return 0.0
    ranks = np.arange(len(excesses))
    # First probability-weighted moment, E[x (1 - F(x))].
    weighted = float((excesses * (1 - (ranks + 0.65) / len(excesses))).mean())
    shape = 2 - mean / max(mean - 2 * weighted, 1e-12 * mean)
    # Costs have a finite best: tails between uniform (shape -1) and exponential (0).
    shape = float(np.clip(shape, -1.0, -1e-6))
    scale = mean * (1 - shape)
    log_survival = np.log(-np.expm1(np.log(uniform) / num_draws))
    return float(scale / shape * np.expm1(-shape * log_survival))


def is_full_fidelity(table: pd.DataFrame) -> Flags:
    """Return which trials succeeded at the highest fidelity that any did."""
    succeeded: Flags = (table["status"] == "success").to_numpy(dtype=bool)
    if not succeeded.any():
        return succeeded
    is_full: Flags = succeeded & (table["fidelity"] == table["fidelity"][succeeded].max()).to_numpy(dtype=bool)
    return is_full


def _column(table: pd.DataFrame, name: str) -> Floats:
    return table[name].to_numpy(dtype=float) if name in table else np.full(len(table), np.nan)


def _number(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None


def _integer(table: pd.DataFrame, name: str, row: int) -> int | None:
    value = _column(table, name)[row]
    return int(value) if np.isfinite(value) else None
