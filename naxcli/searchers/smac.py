"""SMAC: the only module that imports smac. A model of the costs, and the configuration of highest expected improvement.

Papers: Hutter, Hoos, Leyton-Brown, "Sequential Model-Based Optimization for General Algorithm Configuration", LION 5
(2011); Lindauer et al., "SMAC3: A Versatile Bayesian Optimization Package for Hyperparameter Optimization", JMLR 23 (2022).

The parts are those of SMAC's facades: a Gaussian process or a random forest of log-scaled costs, expected improvement against
the best predicted cost, scrambled Sobol initial design, and a share of random configurations. What differs, and why:

* The Gaussian process is `naxcli.searchers.gaussian_process`: SMAC's own has one length scale for all choices, does not know
  fidelities, and ranks tables worse than the forest.
* The forest does not preallocate 2^20 leaves per tree, and predicts in one thread: both only cost time at these sizes.
  Its `log_y`, which averages a leaf's costs before the logarithm, is off: leaves hold a single trial each, so that it
  changes nothing but the time of a fit.
* It is fitted again whenever there is a new result; SMAC's default is every eighth configuration. Suggestions that no
  result came between share one forest, whose seed is the number of results, so that a restart grows the same one.
* The best predicted cost is one call for all configurations instead of one each.
* Expected improvement is maximised exactly, over all open configurations, where the space can be enumerated. SMAC's local
  search skips every neighbour of a configuration with an inactive hyperparameter, because NaN differs from NaN. Spaces too
  large to enumerate are searched by sampling and by one-exchange neighbours with the conditions respected.
* SMAC's facade, intensifier and run history are not used. Every configuration is evaluated once per fidelity, so that the
  intensifier has nothing to decide, and they hold state that a restart could only restore through private attributes, cost
  seconds per thousand trials, write files and ask questions on the terminal.
* Failed trials enter the model with the worst cost seen, as finite and as bad as is plausible. None or infinity would
  stop the fit, and an arbitrary huge number would squash the log scale.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from tempfile import gettempdir
from typing import TYPE_CHECKING, Protocol

import numpy as np
import numpy.typing as npt
from smac import Scenario
from smac.acquisition.function import EI
from smac.initial_design import SobolInitialDesign
from smac.model.random_forest import RandomForest

from naxcli.records.trial import Config, ConfigValue
from naxcli.search_space.contract import plain_config
from naxcli.searchers.acquisition import Surrogate, expected_improvement
from naxcli.searchers.candidates import Candidates
from naxcli.searchers.costs import has_random_weights, log_scaled, scalarised
from naxcli.searchers.gaussian_process import Embedding, GaussianProcess, fitted_kernel
from naxcli.searchers.history import History, Told

if TYPE_CHECKING:
    from ConfigSpace import ConfigurationSpace

Vectors = npt.NDArray[np.float64]  # ConfigSpace's (num_configurations, num_hyperparameters), NaN where inactive
Values = npt.NDArray[np.float64]  # (num_configurations,)

NUM_TREES = 20
# The Gaussian process learns from as many trials as keep a suggestion short, whose time is that of the correlations with a table.
MIN_TRIALS, MAX_TRIALS = 100, 200
MAX_CORRELATIONS = 12_000_000
RANDOM_SHARE = 0.1  # of configurations drawn at random after the initial design, which keeps the model honest
FOREST_STREAM = 1  # a suggestion's generator has two numbers for a seed, a forest's a third
MIN_INITIAL = 10
MAX_INITIAL = 30

logging.getLogger("smac").setLevel(logging.ERROR)  # its warnings are about its own defaults


class Model(Protocol):
    """What the results so far say of all configurations."""

    def surrogate(self, history: History, candidates: Candidates, rng: np.random.Generator) -> Surrogate | None:
        """Return the acquisition function, None where there are no successes to learn from."""


class SmacProposer:
    """Proposes the default configuration and the references, then an initial design, then by expected improvement.

    Args:
        configuration_space: of the search.
        seed: of the initial design.
        model: `gp` is a Gaussian process of the trials of all rungs, `forest` a random forest of those of one rung.
        min_initial: at least this many configurations before the model is asked, default and references included. There
            are as many as hyperparameters, but 10 to 30.
        references: legal configurations that are to be compared with.
    """

    def __init__(
        self,
        configuration_space: ConfigurationSpace,
        *,
        seed: int,
        model: str = "gp",
        min_initial: int = 0,
        references: Sequence[Config] = (),
    ) -> None:
        num_variable = sum(hyperparameter.size > 1 for hyperparameter in configuration_space.values())
        self._configuration_space = configuration_space
        self._seed = seed
        self._first = [plain_config(configuration_space.get_default_configuration()), *references]
        self._num_initial = max(MIN_INITIAL, min(num_variable, MAX_INITIAL), min_initial, len(self._first))
        self._model: Model = (
            ForestModel(configuration_space, seed=seed, min_trials=num_variable + 1)
            if model == "forest"
            else ProcessModel(configuration_space)
        )

    def propose(
        self, history: History, candidates: Candidates, rng: np.random.Generator
    ) -> dict[str, ConfigValue] | None:
        first = candidates.first_open(self._first)
        if first is not None:
            return first
        position = len(history.asked)
        if position < self._num_initial:
            return self._designed(position - len(self._first), candidates) or candidates.draw(rng)
        if rng.random() < RANDOM_SHARE:
            return candidates.draw(rng)
        surrogate = self._model.surrogate(history, candidates, rng)
        highest = None if surrogate is None else surrogate.highest(candidates, rng)
        return highest or candidates.draw(rng)

    def _designed(self, position: int, candidates: Candidates) -> dict[str, ConfigValue] | None:
        return candidates.accept(self._design[position]) if 0 <= position < len(self._design) else None

    @cached_property
    def _design(self) -> list[dict[str, ConfigValue]]:
        num_configs = self._num_initial - len(self._first)
        return sobol_design(self._configuration_space, num_configs=num_configs, seed=self._seed)


class ProcessModel:
    """A Gaussian process of the trials of all rungs, which predicts costs at the highest rung that has a success.

    Log-scaled costs count from the mean of their rung, so that epochs are not mistaken for merit. A trial that is still
    running counts as if it had ended as the process expects (the believer of Ginsbourger et al., "Kriging Is Well-Suited to
    Parallelize Optimization", 2010), so that workers that ask together do not look in the same place. Of more than
    `MAX_TRIALS` results, or fewer in a large table, it learns from the `most_telling`, which bounds the time of a suggestion.
    """

    def __init__(self, configuration_space: ConfigurationSpace) -> None:
        self._embedding = Embedding(configuration_space)
        self._learned: _Learned | None = None

    def surrogate(self, history: History, candidates: Candidates, rng: np.random.Generator) -> Surrogate | None:
        if not history.successes:
            return None
        num_told = len(history.told)
        if self._learned is None or self._learned.num_told != num_told or has_random_weights(history.told):
            self._learned = self._learn(history, candidates, rng)
        process, known, rungs = self._learned.process, self._learned.best_first, self._learned.rungs
        running = history.running[-MAX_TRIALS:]
        if running:
            vectors = np.stack([candidates.vector(suggestion.config) for suggestion in running])
            heights = _heights(np.array([suggestion.fidelity for suggestion in running]), rungs)
            process = process.believing(self._embedding(vectors, heights))
            known = np.concatenate([known, vectors])
        best = process.predict(self._embedding(known, 1.0))[0].min()

        def acquisition(vectors: Vectors) -> Values:
            return expected_improvement(*process.predict(self._embedding(vectors, 1.0)), best)

        return Surrogate(acquisition, best_first=self._learned.best_first, num_told=num_told)

    def _learn(self, history: History, candidates: Candidates, rng: np.random.Generator) -> _Learned:
        rungs = np.unique([told.suggestion.fidelity for told in history.successes])
        fidelities = np.array([told.suggestion.fidelity for told in history.told])
        targets = np.full(len(fidelities), np.nan)
        known = np.flatnonzero(np.isin(fidelities, rungs))
        targets[known] = log_scaled(scalarised([history.told[index] for index in known], rng))
        for rung in rungs:
            targets[fidelities == rung] -= targets[fidelities == rung].mean()
        num_rows = 0 if candidates.table is None else len(candidates.table)
        limit = min(MAX_TRIALS, max(MIN_TRIALS, MAX_CORRELATIONS // max(1, num_rows)))
        chosen = most_telling(fidelities, targets, limit)
        vectors = np.stack([candidates.vector(history.told[index].suggestion.config) for index in chosen])
        points = self._embedding(vectors, _heights(fidelities[chosen], rungs))
        kernel = fitted_kernel(self._embedding, points, targets[chosen])
        return _Learned(
            process=GaussianProcess(self._embedding, kernel, points=points, targets=targets[chosen]),
            best_first=vectors[np.lexsort((targets[chosen], -fidelities[chosen]))],
            rungs=rungs,
            num_told=len(history.told),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Learned:
    """A process after `num_told` results, the trials it knows from the best of the highest rung on, and all rungs, ascending."""

    process: GaussianProcess
    best_first: Vectors
    rungs: Values
    num_told: int


def _heights(fidelities: Values, rungs: Values) -> Values:
    """Return the logarithms of fidelities on the unit scale: 0 is the lowest rung, 1 the highest."""
    if len(rungs) == 1:
        return np.ones(len(fidelities))
    heights: Values = np.clip(np.log(fidelities / rungs[0]) / np.log(rungs[-1] / rungs[0]), 0.0, 1.0)
    return heights


def most_telling(fidelities: Values, targets: Values, limit: int) -> npt.NDArray[np.intp]:
    """Return which trials to learn from, at most `limit` of those with a target.

    From the highest rung on, a rung takes up to half of the places that are left, the lowest all of them: half of them for its
    best trials, the others evenly from the best to the worst of the rest.
    """
    known = np.flatnonzero(np.isfinite(targets))
    if len(known) <= limit:
        return known
    chosen: list[int] = []
    rungs = np.unique(fidelities[known])[::-1]
    for rung in rungs:
        members = known[fidelities[known] == rung]
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


class ForestModel:
    """SMAC's forest of the trials of one rung.

    That is the highest fidelity with more successes than hyperparameters (as BOHB, Falkner et al., ICML 2018), and where there
    is none, the one with most.
    """

    def __init__(self, configuration_space: ConfigurationSpace, *, seed: int, min_trials: int) -> None:
        self._configuration_space = configuration_space
        self._seed = seed
        self._min_trials = min_trials
        self._vectors: list[Values] = []  # of the trials told, in their order
        self._surrogate: Surrogate | None = None

    def surrogate(self, history: History, candidates: Candidates, rng: np.random.Generator) -> Surrogate | None:
        chosen = self._training_trials(history.told)
        if not chosen:
            return None
        surrogate = self._surrogate
        if surrogate is None or surrogate.num_told != len(history.told) or has_random_weights(history.told):
            surrogate = self._surrogate = self._fitted(history, chosen, candidates, rng)
        return surrogate

    def _fitted(
        self, history: History, chosen: list[int], candidates: Candidates, rng: np.random.Generator
    ) -> Surrogate:
        self._vectors += [candidates.vector(told.suggestion.config) for told in history.told[len(self._vectors) :]]
        vectors = np.stack([self._vectors[index] for index in chosen])
        costs = scalarised([history.told[index] for index in chosen], rng)
        improvement = ExpectedImprovement(
            self._configuration_space,
            vectors=vectors,
            costs=costs,
            num_trees=NUM_TREES,
            seed=forest_seed(self._seed, num_told=len(history.told)),
        )
        best_first = vectors[np.argsort(costs, kind="stable")]
        return Surrogate(improvement, best_first=best_first, num_told=len(history.told))

    def _training_trials(self, told: Sequence[Told]) -> list[int]:
        """Return which trials the model learns from, failures included; none where there are no successes."""
        successes = Counter(trial.suggestion.fidelity for trial in told if trial.cost is not None)
        if not successes:
            return []
        enough = min(self._min_trials, max(successes.values()))
        chosen = max(fidelity for fidelity, number in successes.items() if number >= enough)
        return [index for index, trial in enumerate(told) if trial.suggestion.fidelity == chosen]


def forest_seed(seed: int, *, num_told: int) -> int:
    """Return the seed of the forest after a number of results; its stream is none of a suggestion's."""
    return int(np.random.default_rng([seed, num_told, FOREST_STREAM]).integers(2**31))


class ExpectedImprovement:
    """SMAC's forest fitted to trials, and its expected improvement in the logarithm of the cost.

    Args:
        configuration_space: of the search; the forest takes kinds and numbers of choices from it.
        vectors: (num_trials, num_hyperparameters) of the trials.
        costs: (num_trials,), finite.
        num_trees: of the forest.
        seed: of the forest.
    """

    def __init__(
        self, configuration_space: ConfigurationSpace, *, vectors: Vectors, costs: Values, num_trees: int, seed: int
    ) -> None:
        model = RandomForest(
            configuration_space,
            n_trees=num_trees,
            ratio_features=5 / 6,
            min_samples_split=2,
            min_samples_leaf=1,
            max_leaf_nodes=None,
            n_jobs=1,
            seed=seed,
        )
        model.train(vectors, log_scaled(costs)[:, None])
        best_predicted = model.predict_marginalized(vectors)[0].min()
        self._function = EI(log=True)
        self._function.update(model, eta=best_predicted)

    def __call__(self, vectors: Vectors) -> Values:
        """Return the expected improvement of each vector, (num_vectors,)."""
        # The public call takes a list of Configuration objects, a thousand times slower to make than vectors.
        improvement: Values = self._function._compute(vectors)[:, 0]
        return improvement


def sobol_design(
    configuration_space: ConfigurationSpace, *, num_configs: int, seed: int
) -> list[dict[str, ConfigValue]]:
    """Return SMAC's scrambled Sobol design without repeats; forbidden points are left out."""
    if num_configs < 1 or all(hyperparameter.size == 1 for hyperparameter in configuration_space.values()):
        return []
    scenario = Scenario(
        configuration_space, output_directory=Path(gettempdir()) / "never_written", n_trials=num_configs, seed=seed
    )
    design = SobolInitialDesign(scenario, n_configs=num_configs, max_ratio=1.0, seed=seed)
    return [plain_config(configuration) for configuration in design.select_configurations()]
