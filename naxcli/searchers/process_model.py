"""The model of the default searcher: a Gaussian process of the trials of all rungs, with earlier results beside it.

Papers: Ginsbourger et al., "Kriging Is Well-Suited to Parallelize Optimization" (2010), for running trials; Feurer, Letham,
Bakshy, "Scalable Meta-Learning for Bayesian Optimization" (2018), for earlier results, see `naxcli.searchers.transfer`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from naxcli.records.trial import Config
from naxcli.search_space.earlier import EarlierResults
from naxcli.searchers.acquisition import Surrogate, expected_improvement
from naxcli.searchers.candidates import Candidates
from naxcli.searchers.costs import has_random_weights, log_scaled, scalarised
from naxcli.searchers.gaussian_process import Embedding, GaussianProcess, fitted_kernel
from naxcli.searchers.history import History
from naxcli.searchers.transfer import ranking_weights

if TYPE_CHECKING:
    from ConfigSpace import ConfigurationSpace

Vectors = npt.NDArray[np.float64]  # ConfigSpace's (num_configurations, num_hyperparameters), NaN where inactive
Values = npt.NDArray[np.float64]  # (num_configurations,)

# A process learns from as many trials as keep a suggestion short, whose time is that of the correlations with a table.
MIN_TRIALS, MAX_TRIALS = 100, 200
MIN_JUDGED = 20  # results, after which earlier ones without weight are named
MAX_CORRELATIONS = 12_000_000


class ProcessModel:
    """A Gaussian process of the trials of all rungs, which predicts costs at the highest rung that has a success.

    Log-scaled costs count from the mean of their rung, so that epochs are not mistaken for merit. A trial that is still
    running counts as if it had ended as the process expects (the believer of Ginsbourger et al.), so that workers that ask
    together do not look in the same place. Of more than `MAX_TRIALS` results, or fewer in a large table, it learns from the
    `most_telling`, which bounds the time of a suggestion.

    Each table of earlier results has a process of its own, whose mean takes part as far as it ranks the new results better
    than this one ranks each of them from the others (`ranking_weights`). The standard deviation is this process's alone: that
    of an earlier one does not shrink where new results are.

    Args:
        configuration_space: of the search.
        earlier: tables of earlier results.
    """

    def __init__(self, configuration_space: ConfigurationSpace, earlier: Sequence[EarlierResults] = ()) -> None:
        self._embedding = Embedding(configuration_space)
        self._earlier = earlier
        self._earlier_processes: list[Learned] | None = None
        self._learned: Learned | None = None
        self._weights: Values = np.zeros(len(earlier))
        self._num_told = -1

    def surrogate(self, history: History, candidates: Candidates, rng: np.random.Generator) -> Surrogate | None:
        if not history.successes:
            return None
        num_told = len(history.told)
        if self._learned is None or self._num_told != num_told or has_random_weights(history.told):
            self._learned = self._learn(history, candidates, rng)
            self._weights = self._weigh(self._learned, candidates)
            self._num_told = num_told
        learned, process = self._learned, self._learned.process
        known = learned.best_first
        running = history.running[-MAX_TRIALS:]
        if running:
            vectors = np.stack([candidates.vector(suggestion.config) for suggestion in running])
            heights = _heights(np.array([suggestion.fidelity for suggestion in running]), learned.rungs)
            process = process.believing(self._embedding(vectors, heights))
            known = np.concatenate([known, vectors])
        best = self._predict(process, learned.spread, known)[0].min()

        def acquisition(vectors: Vectors) -> Values:
            return expected_improvement(*self._predict(process, learned.spread, vectors), best)

        return Surrogate(acquisition, best_first=learned.best_first, num_told=num_told)

    def notice(self) -> str:
        faded = [table.source for table, weight in zip(self._earlier, self._weights, strict=True) if weight == 0]
        if self._num_told < MIN_JUDGED or not faded:
            return ""
        return f"earlier results without a say by now, as they rank the new ones no better: {', '.join(faded)}"

    def _predict(self, process: GaussianProcess, spread: float, vectors: Vectors) -> tuple[Values, Values]:
        """Return mean and standard deviation, (num_vectors,) each, at the highest rung, with what earlier results say."""
        points = self._embedding(vectors, 1.0)
        mean, std = process.predict(points)
        mean *= 1 - self._weights.sum()
        for weight, earlier in zip(self._weights, self._earlier_processes or (), strict=True):
            if weight > 0:
                mean += weight * spread * earlier.scores(points)
        return mean, std

    def _learn(self, history: History, candidates: Candidates, rng: np.random.Generator) -> Learned:
        rungs = np.unique([told.suggestion.fidelity for told in history.successes])
        known = [told for told in history.told if told.suggestion.fidelity in rungs]
        return learned_process(
            self._embedding,
            candidates,
            configs=[told.suggestion.config for told in known],
            fidelities=np.array([told.suggestion.fidelity for told in known]),
            costs=scalarised(known, rng),
        )

    def _weigh(self, learned: Learned, candidates: Candidates) -> Values:
        """Return the weight of each table of earlier results."""
        if self._earlier_processes is None:
            self._earlier_processes = [
                learned_process(
                    self._embedding,
                    candidates,
                    configs=[result.config for result in table.results],
                    fidelities=np.array([result.fidelity for result in table.results]),
                    costs=np.array([result.cost for result in table.results]),
                )
                for table in self._earlier
            ]
        if not self._earlier_processes:
            return np.zeros(0)
        points = self._embedding(learned.vectors, 1.0)
        return ranking_weights(
            [process.scores(points) for process in self._earlier_processes],
            learned.process.left_out(),
            targets=learned.targets,
            fidelities=learned.fidelities,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Learned:
    """A process and the trials that it knows: their vectors, fidelities and targets, and all rungs, ascending."""

    process: GaussianProcess
    vectors: Vectors
    fidelities: Values
    targets: Values
    rungs: Values

    @property
    def best_first(self) -> Vectors:
        """The trials from the best of the highest rung on."""
        return self.vectors[np.lexsort((self.targets, -self.fidelities))]

    @property
    def spread(self) -> float:
        """The standard deviation of the targets."""
        return float(self.targets.std())

    def scores(self, points: Vectors) -> Values:
        """Return the mean at points in standard deviations of the targets, (num_points,), which any other process can be told."""
        scores: Values = self.process.mean(points) / (self.spread or 1.0)
        return scores


def learned_process(
    embedding: Embedding, candidates: Candidates, *, configs: Sequence[Config], fidelities: Values, costs: Values
) -> Learned:
    """Return the process of the most telling of some trials.

    Args:
        embedding: of the space.
        candidates: of the search, for vectors and the size of the table.
        configs: of the trials.
        fidelities: (num_trials,).
        costs: (num_trials,), finite.
    """
    rungs = np.unique(fidelities)
    targets = log_scaled(costs)
    for rung in rungs:
        targets[fidelities == rung] -= targets[fidelities == rung].mean()
    num_rows = 0 if candidates.table is None else len(candidates.table)
    limit = min(MAX_TRIALS, max(MIN_TRIALS, MAX_CORRELATIONS // max(1, num_rows)))
    chosen = most_telling(fidelities, targets, limit)
    vectors = np.stack([candidates.vector(configs[index]) for index in chosen])
    points = embedding(vectors, _heights(fidelities[chosen], rungs))
    kernel = fitted_kernel(embedding, points, targets[chosen])
    return Learned(
        process=GaussianProcess(embedding, kernel, points=points, targets=targets[chosen]),
        vectors=vectors,
        fidelities=fidelities[chosen],
        targets=targets[chosen],
        rungs=rungs,
    )


def _heights(fidelities: Values, rungs: Values) -> Values:
    """Return the logarithms of fidelities on the unit scale: 0 is the lowest rung, 1 the highest."""
    if len(rungs) == 1:
        return np.ones(len(fidelities))
    heights: Values = np.clip(np.log(fidelities / rungs[0]) / np.log(rungs[-1] / rungs[0]), 0.0, 1.0)
    return heights


def most_telling(fidelities: Values, targets: Values, limit: int) -> npt.NDArray[np.intp]:
    """Return which trials to learn from, at most `limit`.

    From the highest rung on, a rung takes up to half of the places that are left, the lowest all of them: half of them for its
    best trials, the others evenly from the best to the worst of the rest.
    """
    if len(targets) <= limit:
        return np.arange(len(targets))
    chosen: list[int] = []
    rungs = np.unique(fidelities)[::-1]
    for rung in rungs:
        members = np.flatnonzero(fidelities == rung)
        ranked = members[np.argsort(targets[members], kind="stable")]
        places = limit - len(chosen)
        if rung != rungs[-1]:
            places -= places // 2
        if len(ranked) > places:
            num_best = places // 2
            spread = np.linspace(num_best, len(ranked) - 1, places - num_best).round().astype(np.intp)
            ranked = ranked[[*range(num_best), *spread]]
        chosen += ranked.tolist()
    return np.array(chosen)
