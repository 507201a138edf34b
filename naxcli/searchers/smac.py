"""SMAC: the only module that imports smac. A random forest of the costs, and the configuration of highest expected improvement.

Papers: Hutter, Hoos, Leyton-Brown, "Sequential Model-Based Optimization for General Algorithm Configuration", LION 5
(2011); Lindauer et al., "SMAC3: A Versatile Bayesian Optimization Package for Hyperparameter Optimization", JMLR 23 (2022).

The parts are those of SMAC's `HyperparameterOptimizationFacade`: its random forest, log-scaled costs, log expected
improvement against the best predicted cost, scrambled Sobol initial design, and a share of random configurations. What
differs, and why:

* The forest does not preallocate 2^20 leaves per tree, and predicts in one thread: both only cost time at these sizes.
  Its `log_y`, which averages a leaf's costs before the logarithm, is off: leaves hold a single trial each, so that it
  changes nothing but the time of a fit.
* It is fitted again whenever there is a new result; SMAC's default is every eighth configuration.
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
from functools import cached_property
from pathlib import Path
from tempfile import gettempdir
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
from smac import Scenario
from smac.acquisition.function import EI
from smac.initial_design import SobolInitialDesign
from smac.model.random_forest import RandomForest

from naxcli.enumeration import Enumeration, sample_vectors
from naxcli.searchers.candidates import Candidates
from naxcli.searchers.history import History, Told, objectives
from naxcli.searchers.neighbours import one_exchange
from naxcli.space import plain_config
from naxcli.trial import ConfigValue

if TYPE_CHECKING:
    from ConfigSpace import ConfigurationSpace

Vectors = npt.NDArray[np.float64]  # ConfigSpace's (num_configurations, num_hyperparameters), NaN where inactive
Values = npt.NDArray[np.float64]  # (num_configurations,)

NUM_TREES = 20
RANDOM_SHARE = 0.1  # of configurations drawn at random after the initial design, which keeps the model honest
MIN_INITIAL = 10
MAX_INITIAL = 30
ROWS_AT_ONCE = 1 << 16
NUM_SAMPLES = 5_000
NUM_CLIMBS = 10  # half of them from the best trials, half from the best samples
MAX_STEPS = 10
PAREGO_RHO = 0.05
BEST_PERCENTILE = 5
TINY = 1e-10

logging.getLogger("smac").setLevel(logging.ERROR)  # its warnings are about its own defaults


class SmacProposer:
    """Proposes the default configuration, then an initial design, then by expected improvement.

    Args:
        configuration_space: of the search.
        seed: of the initial design.
        min_initial: at least this many configurations before the model is asked. The default one is the first; there
            are as many as hyperparameters, but 10 to 30.

    The model learns from the highest fidelity with more successes than hyperparameters (as BOHB, Falkner et al., ICML
    2018), and where there is none, from the one with most.
    """

    def __init__(
        self,
        configuration_space: ConfigurationSpace,
        *,
        seed: int,
        min_initial: int = 0,
    ) -> None:
        num_variable = sum(hyperparameter.size > 1 for hyperparameter in configuration_space.values())
        self._configuration_space = configuration_space
        self._seed = seed
        self._num_initial = max(MIN_INITIAL, min(num_variable, MAX_INITIAL), min_initial)
        self._min_trials = num_variable + 1
        self._vectors: list[Values] = []  # of the trials told, in their order

    def propose(
        self, history: History, candidates: Candidates, rng: np.random.Generator
    ) -> dict[str, ConfigValue] | None:
        position = len(history.asked)
        if position < self._num_initial:
            return self._initial(position, candidates) or candidates.draw(rng)
        if rng.random() < RANDOM_SHARE:
            return candidates.draw(rng)
        chosen = self._training_trials(history.told)
        if not chosen:
            return candidates.draw(rng)
        self._vectors += [candidates.vector(told.suggestion.config) for told in history.told[len(self._vectors) :]]
        vectors = np.stack([self._vectors[index] for index in chosen])
        costs = scalarised([history.told[index] for index in chosen], rng)
        improvement = ExpectedImprovement(
            self._configuration_space,
            vectors=vectors,
            costs=costs,
            num_trees=NUM_TREES,
            seed=int(rng.integers(2**31)),
        )
        if candidates.table is not None:
            return candidates.best(improvement.of_table(candidates.table), rng)
        best_trials = vectors[np.argsort(costs, kind="stable")[: NUM_CLIMBS // 2]]
        return self._best_sampled(improvement, best_trials, candidates, rng) or candidates.draw(rng)

    def _initial(self, position: int, candidates: Candidates) -> dict[str, ConfigValue] | None:
        if position == 0:
            return candidates.default()
        return candidates.accept(self._design[position - 1]) if position <= len(self._design) else None

    @cached_property
    def _design(self) -> list[dict[str, ConfigValue]]:
        return sobol_design(self._configuration_space, num_configs=self._num_initial - 1, seed=self._seed)

    def _training_trials(self, told: Sequence[Told]) -> list[int]:
        """Return which trials the model learns from, failures included; none where there are no successes."""
        successes = Counter(trial.suggestion.fidelity for trial in told if trial.cost is not None)
        if not successes:
            return []
        enough = min(self._min_trials, max(successes.values()))
        chosen = max(fidelity for fidelity, number in successes.items() if number >= enough)
        return [index for index, trial in enumerate(told) if trial.suggestion.fidelity == chosen]

    def _best_sampled(
        self, improvement: ExpectedImprovement, best_trials: Vectors, candidates: Candidates, rng: np.random.Generator
    ) -> dict[str, ConfigValue] | None:
        """Return the best open one of random configurations and of what hill climbing by one exchange passes."""
        found = [sample_vectors(self._configuration_space, NUM_SAMPLES, int(rng.integers(2**31)))]
        scores = [improvement(found[0])]
        best_samples = found[0][np.argsort(-scores[0], kind="stable")[: NUM_CLIMBS - len(best_trials)]]
        climbers = np.concatenate([best_trials, best_samples])
        heights = improvement(climbers)
        for _ in range(MAX_STEPS):
            around = [[climber, *one_exchange(self._configuration_space, climber, rng)] for climber in climbers]
            found.append(np.concatenate(around))
            scores.append(improvement(found[-1]))  # of all climbers at once: a call costs more than its rows
            ends = np.cumsum([len(vectors) for vectors in around])
            parts = np.split(scores[-1], ends[:-1])
            highest = [end - len(part) + int(np.argmax(part)) for end, part in zip(ends, parts, strict=True)]
            climbed = scores[-1][highest] > heights
            if not climbed.any():
                break
            climbers, heights = found[-1][highest][climbed], scores[-1][highest][climbed]
        vectors = np.concatenate(found)
        in_order = np.argsort(-np.concatenate(scores), kind="stable")
        accepted = (candidates.accept(candidates.config(vectors[index])) for index in in_order)
        return next((config for config in accepted if config is not None), None)


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

    def of_table(self, table: Enumeration) -> Values:
        """Return the expected improvement of every row of a table."""
        starts = range(0, len(table), ROWS_AT_ONCE)
        return np.concatenate([self(table.vectors(slice(start, start + ROWS_AT_ONCE))) for start in starts])


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
        weighted: Vectors = weights / weights.sum() * (costs - low) / np.where(high > low, high - low, 1.0)
        costs = (weighted.max(axis=1) + PAREGO_RHO * weighted.sum(axis=1))[:, None]
    values = np.full(len(trials), costs.max())
    values[~has_failed] = costs[:, 0]
    return values


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
