"""What a model learns from: one finite number per trial, on a scale that spreads the best ones."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import numpy.typing as npt

from naxcli.searchers.history import Told, objectives

Values = npt.NDArray[np.float64]  # (num_trials,)

PAREGO_RHO = 0.05
BEST_PERCENTILE = 5
TINY = 1e-10


def scalarised(trials: Sequence[Told], rng: np.random.Generator) -> Values:
    """Return one finite cost per trial: failures as bad as the worst success, several objectives by random weights.

    The weights are ParEGO's (Knowles, IEEE Transactions on Evolutionary Computation 10, 2006), drawn for every call:
    max of the weighted costs, each scaled to [0, 1], plus 0.05 times their sum.
    """
    costs = np.array([list(objectives(trial.cost)) for trial in trials if trial.cost is not None])
    has_failed = np.array([trial.cost is None for trial in trials])
    if costs.shape[1] > 1:
        low, high = costs.min(axis=0), costs.max(axis=0)
        weights: Values = rng.random(size=costs.shape[1:])
        weighted: npt.NDArray[np.float64] = (
            weights / weights.sum() * (costs - low) / np.where(high > low, high - low, 1.0)
        )
        costs = (weighted.max(axis=1) + PAREGO_RHO * weighted.sum(axis=1))[:, None]
    values = np.full(len(trials), costs.max())
    values[~has_failed] = costs[:, 0]
    return values


def has_random_weights(trials: Iterable[Told]) -> bool:
    """Return whether `scalarised` draws weights: there are several objectives, and every suggestion is for a mix of its own."""
    first = next((trial.cost for trial in trials if trial.cost is not None), None)
    return isinstance(first, tuple) and len(first) > 1


def log_scaled(costs: Values) -> Values:
    """Return SMAC's log-scaled costs: log of the distance to a little below the best, in units of the range.

    As `smac.runhistory.encoder.RunHistoryLogScaledEncoder`, which can only read SMAC's run history.
    """
    lowest, highest = costs.min(), costs.max()
    origin = lowest - (np.percentile(costs, BEST_PERCENTILE) - lowest) - TINY
    if origin == highest:  # all equal, and too large for TINY to show
        return np.zeros_like(costs)
    scaled: Values = np.log((costs - origin) / (highest - origin))
    return scaled
