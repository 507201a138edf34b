"""Importance against fidelity: by how much the importance of each hyperparameter differs between two fidelities, and how sure that is.

The functions drawn given the trials of one fidelity know nothing of those of the other: all differences between draws of both make the
interval of the difference. Where the trials of both err in the same direction, as those of one configuration may, it is wider than need be.
The null is that of the importance itself: what is shown to matter at neither fidelity (decoys) is not shown to change either.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.stats import kendalltau

from naxcli.analysis.encoding import Floats
from naxcli.analysis.importance import Estimate, Key
from naxcli.analysis.intervals import interval_of

# Each draw of one fidelity is compared with so many of the other.
NUM_PARTNERS = 10
# Of fewer hyperparameters an order says little.
MIN_RANKED = 3
METHODS = ("lpi", "fanova")


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """Importance at one fidelity: all estimates, and the draws behind the intervals of single hyperparameters (none without intervals)."""

    fidelity: float
    estimates: Mapping[Key, Estimate]
    draws: Mapping[Key, Floats]


def importance_changes(measured: Sequence[Measured], *, seed: int) -> list[dict[str, Any]]:
    """Return how importance changes from each fidelity to the highest one, fidelities without any number left out."""
    with_numbers = [each for each in measured if each.estimates]
    if len(with_numbers) < 2:
        return []
    *lower, highest = sorted(with_numbers, key=lambda each: each.fidelity)
    rng = np.random.default_rng(seed)
    return [_change(each, highest, rng) for each in lower]


def _change(before: Measured, after: Measured, rng: np.random.Generator) -> dict[str, Any]:
    rows, orders = [], []
    for method in METHODS:
        keys = [key for key in before.estimates if key[0] == method and len(key) == 2 and key in after.estimates]
        keys = [key for key in keys if None not in (before.estimates[key].mean, after.estimates[key].mean)]
        rows += [_difference(before, after, key, rng) for key in keys]
        shown = [key for key in keys if _is_shown(before, after, key)]
        if len(shown) >= MIN_RANKED:
            orders.append(_order(before, after, shown, rng))
    rows.sort(key=lambda row: (not row["matters"], -abs(row["difference"])))
    return {"fidelity": before.fidelity, "to": after.fidelity, "changes": rows, "orders": orders}


def _is_shown(before: Measured, after: Measured, key: Key) -> bool:
    return bool(before.estimates[key].matters or after.estimates[key].matters)


def _difference(before: Measured, after: Measured, key: Key, rng: np.random.Generator) -> dict[str, Any]:
    first, second = before.estimates[key].mean, after.estimates[key].mean
    assert first is not None and second is not None
    difference = second - first
    row = {"method": key[0], "name": key[1], "before": first, "after": second, "difference": difference}
    if key not in before.draws or key not in after.draws:
        return row | {"low": None, "high": None, "matters": None}
    drawn = np.concatenate([b - a for a, b in _partners(before.draws[key], after.draws[key], rng)])
    interval = interval_of(drawn)
    # As in the interval of each importance, the forests' estimate is a second opinion.
    low, high = min(interval.low, difference), max(interval.high, difference)
    if not _is_shown(before, after, key):
        low, high = min(low, 0.0), max(high, 0.0)
    return row | {"low": low, "high": high, "matters": not low <= 0 <= high}


def _order(before: Measured, after: Measured, keys: Sequence[Key], rng: np.random.Generator) -> dict[str, Any]:
    """Return Kendall's rank correlation of the importance of what is shown to matter at either fidelity."""
    means = [[each.estimates[key].mean for key in keys] for each in (before, after)]
    found = float(kendalltau(*means).statistic)
    num = min(len(each.draws[key]) for each in (before, after) for key in keys)
    first, second = (np.stack([each.draws[key][:num] for key in keys]) for each in (before, after))
    drawn = [float(kendalltau(a, b).statistic) for a, b in zip(first.T, second.T[rng.permutation(num)], strict=True)]
    interval = interval_of(np.array(drawn))
    return {
        "method": keys[0][0],
        "num_hyperparameters": len(keys),
        "kendall": found,
        "low": min(interval.low, found),
        "high": max(interval.high, found),
    }


def _partners(first: Floats, second: Floats, rng: np.random.Generator) -> list[tuple[Floats, Floats]]:
    """Return draws of both side by side. They share a seed, so that in their own order they would err together."""
    num = min(len(first), len(second))
    return [(first[:num], second[rng.permutation(num)]) for _ in range(NUM_PARTNERS)]
