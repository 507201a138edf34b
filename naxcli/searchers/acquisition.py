"""The open configuration that an acquisition function values most: exactly where a space can be enumerated, else by climbing."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
from scipy.special import ndtr

from naxcli.records.trial import ConfigValue
from naxcli.search_space.enumeration import Enumeration, sample_vectors
from naxcli.searchers.candidates import Candidates
from naxcli.searchers.neighbours import one_exchange

Vectors = npt.NDArray[np.float64]  # ConfigSpace's (num_configurations, num_hyperparameters), NaN where inactive
Values = npt.NDArray[np.float64]  # (num_configurations,)
Acquisition = Callable[[Vectors], Values]

ROWS_AT_ONCE = 1 << 16
NUM_SAMPLES = 5_000
NUM_CLIMBS = 10  # half of them from the best trials, half from the best samples
MAX_STEPS = 10


class Surrogate:
    """The acquisition function after a number of results, for all the suggestions that are made before the next result.

    Workers that end together ask together; over a table the model is then evaluated once and not once per suggestion. (`ProcessModel`,
    whose acquisition depends on the running trials, makes one for each suggestion.)

    Args:
        acquisition: value of each vector.
        best_first: (num_trials, num_hyperparameters) of the trials so far, from which climbing starts.
        num_told: results that it knows.
    """

    def __init__(self, acquisition: Acquisition, *, best_first: Vectors, num_told: int) -> None:
        self.num_told = num_told
        self._acquisition = acquisition
        self._best_first = best_first
        self._scores: Values | None = None  # of the table's rows

    def highest(
        self, candidates: Candidates, rng: np.random.Generator, factor: Acquisition | None = None
    ) -> dict[str, ConfigValue] | None:
        """Return the open configuration of highest value, None if none was found.

        Args:
            candidates: of the search.
            rng: generator of ties and samples.
            factor: what the value of each vector is multiplied by.
        """
        if candidates.table is None:
            acquisition = self._acquisition if factor is None else _product(self._acquisition, factor)
            return _highest_sampled(acquisition, candidates, self._best_first[: NUM_CLIMBS // 2], rng)
        if self._scores is None:
            self._scores = over_table(self._acquisition, candidates.table)
        scores = self._scores if factor is None else self._scores * over_table(factor, candidates.table)
        return candidates.best(scores, rng)


def over_table(function: Acquisition, table: Enumeration) -> Values:
    """Return a function's value of each row of a table, (num_configurations,)."""
    starts = range(0, len(table), ROWS_AT_ONCE)
    return np.concatenate([function(table.vectors(slice(start, start + ROWS_AT_ONCE))) for start in starts])


def _product(first: Acquisition, second: Acquisition) -> Acquisition:
    return lambda vectors: first(vectors) * second(vectors)


def expected_improvement(mean: Values, std: Values, best: float) -> Values:
    """Return the expected improvement on the best cost of costs with a normal distribution each.

    SMAC's own raises an exception where rounding makes that of a hopeless configuration a little less than 0.
    """
    z = (best - mean) / std
    improvement: Values = std * (z * ndtr(z) + np.exp(-(z**2) / 2) / np.sqrt(2 * np.pi))
    return improvement


def _highest_sampled(
    acquisition: Acquisition, candidates: Candidates, best_trials: Vectors, rng: np.random.Generator
) -> dict[str, ConfigValue] | None:
    """Return the best open one of random configurations and of what hill climbing by one exchange passes."""
    space = candidates.configuration_space
    found = [sample_vectors(space, NUM_SAMPLES, int(rng.integers(2**31)))]
    scores = [acquisition(found[0])]
    best_samples = found[0][np.argsort(-scores[0], kind="stable")[: NUM_CLIMBS - len(best_trials)]]
    climbers = np.concatenate([best_trials, best_samples])
    heights = acquisition(climbers)
    for _ in range(MAX_STEPS):
        around = [[climber, *one_exchange(space, climber, rng)] for climber in climbers]
        found.append(np.concatenate(around))
        scores.append(acquisition(found[-1]))  # of all climbers at once: a call costs more than its rows
        ends = np.cumsum([len(vectors) for vectors in around])
        parts = np.split(scores[-1], ends[:-1])
        tops = [end - len(part) + int(np.argmax(part)) for end, part in zip(ends, parts, strict=True)]
        climbed = scores[-1][tops] > heights
        if not climbed.any():
            break
        climbers, heights = found[-1][tops][climbed], scores[-1][tops][climbed]
    vectors = np.concatenate(found)
    in_order = np.argsort(-np.concatenate(scores), kind="stable")
    accepted = (candidates.accept(candidates.config(vectors[index])) for index in in_order)
    return next((config for config in accepted if config is not None), None)
