"""Honest winners: the gain of the best of several confirmed configurations, with an interval corrected for having picked it.

Every configuration was trained with the same fresh seeds. Costs follow configuration + seed + noise (two-way analysis of variance without
interaction); the intervals of all gains hold at once, as those of Dunnett (JASA 1955), so that they also hold for the one that
happened to come out best. Their critical value is simulated for exactly the statistic in use.

The interval of a mean error rate is the logit interval: Student's on the scale of log(rate / (1 - rate)), with the standard error that the
delta method gives there, transformed back (Korn and Graubard, Survey Methodology 1998), so that it stays between 0 and 1. That of any other
cost is Student's. A difference of two rates lies between -1 and 1; its interval is cut off there, which costs no coverage.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.special import expit, logit
from scipy.stats import t as student_t

from naxcli.analysis.encoding import Floats

CONFIDENCE = 0.95
# So few seeds hardly give an interval: Student's quantile is 12.7 for two, 4.3 for three, 2.8 for five.
FEW_SEEDS = 2
NUM_SIMULATIONS = 20_000

# Configuration -> seed -> cost, None where the training failed.
Costs = Mapping[str, Mapping[int, float | None]]


def confirmed_gain(
    costs: Costs,
    *,
    candidates: Sequence[str],
    references: Sequence[str],
    search_costs: Mapping[str, float | None] | None = None,
    is_error_rate: bool = False,
    seed: int = 0,
) -> dict[str, Any]:
    """Return the gain of the best candidate over each reference, and how optimistic the search's own number was.

    Only seeds with which every configuration succeeded are compared; a configuration that failed with more than half of the seeds is
    left out.

    Args:
        costs: Costs of fresh trainings on the test set.
        candidates: Names of the configurations of which the best is picked.
        references: Names of the configurations to compare it with.
        search_costs: What the search had measured for candidates.
        is_error_rate: Whether a cost is 1 - accuracy, to be told in points.
        seed: Random seed of the simulation of the critical value.

    Returns:
        JSON values: `winner` (None if nothing can be compared), `num_seeds`, `num_candidates`, `left_out`, `costs` (name, mean, low,
        high, search_cost each), `caveat` (on the intervals, or None), `gains` (reference, gain, low, high, sentence each; positive is
        better than the reference), `optimism` (of the search's best: search_cost, confirmed_cost, optimism, low, high, sentence) or
        None, and `sentence`, all in words.
    """
    table = _complete(costs, [*candidates, *references])
    names = list(table.names)
    picked = [name for name in candidates if name in names]
    against = [name for name in references if name in names]
    found: dict[str, Any] = {
        "winner": None,
        "num_seeds": table.costs.shape[1],
        "num_candidates": len(picked),
        "left_out": [name for name in [*candidates, *references] if name not in names],
        "costs": _mean_costs(table, search_costs or {}, is_error_rate=is_error_rate),
        "caveat": None,
        "gains": [],
        "optimism": None,
    }
    if not picked or table.costs.shape[1] == 0:
        return found | {"sentence": "Nothing is confirmed: no seed has a result of every configuration."}
    means = dict(zip(names, table.costs.mean(axis=1), strict=True))
    winner = min(picked, key=lambda name: (means[name], picked.index(name)))
    for entry in _gains(table, picked, against, winner, is_error_rate=is_error_rate, seed=seed):
        found["gains"].append(entry | {"sentence": _gain_sentence(winner, entry, found, is_error_rate)})
    found["optimism"] = _optimism(found["costs"], picked, is_error_rate)
    if table.costs.shape[1] == FEW_SEEDS:
        found["caveat"] = (
            "An interval from two seeds hardly is one: it rests on a single difference. Five seeds give a useful one."
        )
    sentences = [entry["sentence"] for entry in found["gains"]] or [
        f"{winner} is best; there is no reference to compare it with."
    ]
    sentences += [found["optimism"]["sentence"]] if found["optimism"] is not None else []
    sentences += [found["caveat"]] if found["caveat"] is not None else []
    return found | {"winner": winner, "sentence": " ".join(sentences)}


def _gains(
    table: _Table, picked: Sequence[str], against: Sequence[str], winner: str, *, is_error_rate: bool, seed: int
) -> list[dict[str, Any]]:
    """Return the winner's gain over each reference with its interval, None without one."""
    names = list(table.names)
    gains, errors = _paired(table.costs, [names.index(n) for n in picked], [names.index(n) for n in against])
    critical = _critical_value(len(names), table.costs.shape[1], len(picked), len(against), seed=seed)
    entries = []
    for column, reference in enumerate(against):
        gain = float(gains[picked.index(winner), column])
        margin = None if critical is None else critical * float(errors[picked.index(winner), column])
        low, high = (None, None) if margin is None else (gain - margin, gain + margin)
        if is_error_rate and low is not None and high is not None:
            low, high = max(low, -1.0), min(high, 1.0)
        entries.append({"reference": reference, "gain": gain, "low": low, "high": high})
    return entries


@dataclass(frozen=True, slots=True, kw_only=True)
class _Table:
    """Costs of trainings, (num_names, num_seeds), without gaps."""

    names: tuple[str, ...]
    costs: Floats


def _complete(costs: Costs, names: Sequence[str]) -> _Table:
    seeds = sorted({seed for name in names for seed in costs.get(name, {})})
    rows = {name: [costs.get(name, {}).get(seed) for seed in seeds] for name in dict.fromkeys(names)}
    table = {name: np.array([np.nan if cost is None else cost for cost in row]) for name, row in rows.items()}
    kept = {name: row for name, row in table.items() if len(row) and np.isfinite(row).mean() >= 0.5}
    values = np.array(list(kept.values())).reshape(len(kept), len(seeds))
    return _Table(names=tuple(kept), costs=values[:, np.isfinite(values).all(axis=0)])


def _mean_costs(
    table: _Table, search_costs: Mapping[str, float | None], *, is_error_rate: bool
) -> list[dict[str, Any]]:
    entries = []
    for name, row in zip(table.names, table.costs, strict=True):
        mean = float(row.mean()) if len(row) else None
        low, high = mean_interval(row, is_error_rate=is_error_rate) if len(row) > 1 else (None, None)
        entries.append({"name": name, "mean": mean, "low": low, "high": high, "search_cost": search_costs.get(name)})
    return entries


def mean_interval(costs: Floats, *, is_error_rate: bool) -> tuple[float, float]:
    """Return the 95 % interval of the mean of at least two costs: Student's, of an error rate on the logit scale.

    Without any spread, and of rates that are all 0 or all 1, it is the mean itself.
    """
    mean = float(costs.mean())
    error = float(costs.std(ddof=1)) / float(np.sqrt(len(costs)))
    margin = float(student_t.ppf(0.5 + CONFIDENCE / 2, len(costs) - 1)) * error
    if not is_error_rate or not 0 < mean < 1:
        return mean - margin, mean + margin
    centre, width = logit(mean), margin / (mean * (1 - mean))
    return float(expit(centre - width)), float(expit(centre + width))


def _paired(costs: Floats, picked: Sequence[int], against: Sequence[int]) -> tuple[Floats, Floats]:
    """Return gains of each candidate over each reference and their standard errors, (..., num_candidates, num_references).

    A standard error rests on the noise of all configurations together, which few seeds determine well, or on that of the two compared
    where it is larger, since a configuration may be noisier than the others.

    Args:
        costs: (..., num_names, num_seeds).
        picked: rows of the candidates.
        against: rows of the references.
    """
    num_names, num_seeds = costs.shape[-2:]
    differences = costs[..., None, against, :] - costs[..., picked, :][..., :, None, :]
    gains = differences.mean(axis=-1)
    if num_seeds < 2:
        return gains, np.full(gains.shape, np.nan)
    residuals = costs - costs.mean(axis=-1, keepdims=True)
    residuals = residuals - residuals.mean(axis=-2, keepdims=True)
    pooled = 2 * (residuals**2).sum(axis=(-2, -1)) / max((num_names - 1) * (num_seeds - 1), 1)
    own = differences.var(axis=-1, ddof=1)
    return gains, np.sqrt(np.maximum(own, pooled[..., None, None]) / num_seeds)


def _critical_value(num_names: int, num_seeds: int, num_picked: int, num_against: int, *, seed: int) -> float | None:
    """Return the 95 % quantile of the largest |gain| / standard error among equal configurations, None with a single seed."""
    if num_seeds < 2 or num_against == 0:
        return None
    noise = np.random.default_rng(seed).standard_normal((NUM_SIMULATIONS, num_names, num_seeds))
    gains, errors = _paired(noise, list(range(num_picked)), list(range(num_picked, num_names)))
    return float(np.quantile(np.abs(gains / errors).max(axis=(1, 2)), CONFIDENCE))


def _gain_sentence(winner: str, entry: Mapping[str, Any], found: Mapping[str, Any], is_error_rate: bool) -> str:
    reference, seeds = entry["reference"], found["num_seeds"]
    chosen = (
        f", corrected for having picked the best of {found['num_candidates']}" if found["num_candidates"] > 1 else ""
    )
    basis = f"({seeds} paired {'seed' if seeds == 1 else 'seeds'}{chosen})"
    better, worse = ("more accurate", "less accurate") if is_error_rate else ("lower in cost", "higher in cost")
    if entry["low"] is None:
        side = better if entry["gain"] >= 0 else worse
        return f"{winner} is {_amount(abs(entry['gain']), is_error_rate)} {side} than {reference}, how surely is unknown {basis}."
    if entry["low"] > 0 or entry["high"] < 0:
        side = better if entry["low"] > 0 else worse
        low, high = sorted([abs(entry["low"]), abs(entry["high"])])
        return (
            f"With 95 % confidence, {winner} is {_between(low, high, is_error_rate)} {side} than {reference} {basis}."
        )
    return (
        f"No difference between {winner} and {reference} is shown: the gain is {_amount(entry['gain'], is_error_rate)}, "
        f"95 % interval {_between(entry['low'], entry['high'], is_error_rate)} {basis}."
    )


def _optimism(costs: Sequence[Mapping[str, Any]], picked: Sequence[str], is_error_rate: bool) -> dict[str, Any] | None:
    """Return confirmed - search cost of the configuration that the search thought best; positive is too good a promise."""
    known = [entry for entry in costs if entry["name"] in picked and entry["search_cost"] is not None]
    if not known:
        return None
    best = min(known, key=lambda entry: float(entry["search_cost"]))
    promised, confirmed = best["search_cost"], best["mean"]
    low, high = (None, None) if best["low"] is None else (best["low"] - promised, best["high"] - promised)
    optimism = confirmed - promised
    side = "lower" if optimism > 0 else "higher"
    surely = "" if low is None or high is None or low > 0 or high < 0 else ", within the noise of the confirmation"
    quantity = "error rate" if is_error_rate else "cost"
    amount = _amount(abs(optimism), is_error_rate)
    sentence = f"The search's own {quantity} of {best['name']} was {amount} {side} than confirmed{surely}."
    numbers = {"name": best["name"], "search_cost": promised, "confirmed_cost": confirmed, "optimism": optimism}
    return numbers | {"low": low, "high": high, "sentence": sentence}


def _amount(value: float, is_error_rate: bool) -> str:
    return f"{100 * value:.2f} points" if is_error_rate else f"{value:.4g}"


def _between(low: float, high: float, is_error_rate: bool) -> str:
    return f"{100 * low:.2f} to {100 * high:.2f} points" if is_error_rate else f"{low:.4g} to {high:.4g}"
