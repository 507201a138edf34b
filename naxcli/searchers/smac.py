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

import itertools
import logging
import math
from collections import Counter
from collections.abc import Sequence
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
from naxcli.search_space.earlier import EarlierResults
from naxcli.search_space.prior import Prior
from naxcli.searchers.acquisition import Surrogate
from naxcli.searchers.belief import DESIGN_SHARE, MIN_DESIGNED, Belief
from naxcli.searchers.candidates import Candidates
from naxcli.searchers.costs import has_random_weights, log_scaled, scalarised
from naxcli.searchers.history import History, Told
from naxcli.searchers.process_model import ProcessModel
from naxcli.searchers.transfer import best_configs

if TYPE_CHECKING:
    from ConfigSpace import ConfigurationSpace

Vectors = npt.NDArray[np.float64]  # ConfigSpace's (num_configurations, num_hyperparameters), NaN where inactive
Values = npt.NDArray[np.float64]  # (num_configurations,)

NUM_TREES = 20
RANDOM_SHARE = 0.1  # of configurations drawn at random after the initial design, which keeps the model honest
FOREST_STREAM = 1  # a suggestion's generator has two numbers for a seed, a forest's a third
MIN_INITIAL = 10
MAX_INITIAL = 30
# One in so many of the initial design is what was best before. A misleading table costs a search over several fidelities more
# (docs/guide.md).
BEST_EARLIER_PART = 2
BEST_EARLIER_PART_OF_RUNG = 4
# Space-filling configurations beside the best of before, which say whether earlier results hold elsewhere as well.
NUM_BESIDE_EARLIER = 2

logging.getLogger("smac").setLevel(logging.ERROR)  # its warnings are about its own defaults


class Model(Protocol):
    """What the results so far say of all configurations."""

    def surrogate(self, history: History, candidates: Candidates, rng: np.random.Generator) -> Surrogate | None:
        """Return the acquisition function, None where there are no successes to learn from."""

    def notice(self) -> str:
        """Return what a user would not expect of what it has learned, empty if there is nothing."""


class SmacProposer:
    """Proposes the default, the references and the best of earlier results, then an initial design, then by expected improvement.

    Half as many as the initial design would have are what was best before; few space-filling ones then follow, for the earlier
    results' model can be asked at once. Over several fidelities, where a configuration costs little at first and the first bracket
    is all that a short search has, they are a quarter, and space-filling ones fill the lowest rung. Of an initial design with a
    prior, half is drawn from that.

    Args:
        configuration_space: of the search.
        seed: of the initial design.
        model: `gp` is a Gaussian process of the trials of all rungs, `forest` a random forest of those of one rung.
        min_initial: at least this many suggestions before the model is asked, default, references and promotions included: as many
            as the lowest rung has configurations, 0 with one fidelity. There are as many as hyperparameters, but 10 to 30.
        references: legal configurations that are to be compared with.
        earlier: results of other searches, of which `gp` has a model each.
        prior: belief in good configurations.
    """

    def __init__(
        self,
        configuration_space: ConfigurationSpace,
        *,
        seed: int,
        model: str = "gp",
        min_initial: int = 0,
        references: Sequence[Config] = (),
        earlier: Sequence[EarlierResults] = (),
        prior: Prior | None = None,
    ) -> None:
        num_variable = sum(hyperparameter.size > 1 for hyperparameter in configuration_space.values())
        self._configuration_space = configuration_space
        self._seed = seed
        self._first = [plain_config(configuration_space.get_default_configuration()), *references]
        num_initial = max(MIN_INITIAL, min(num_variable, MAX_INITIAL), min_initial)
        num_designed = max(0, num_initial - len(self._first))
        if earlier:
            num_best = num_designed // (BEST_EARLIER_PART if min_initial == 0 else BEST_EARLIER_PART_OF_RUNG)
            self._first += best_configs(earlier, max(1, num_best), known=self._first)
            num_designed = max(NUM_BESIDE_EARLIER, min_initial - len(self._first))
        if prior is not None:
            num_designed = max(num_designed, MIN_DESIGNED)
        self._num_initial = len(self._first) + num_designed
        self._belief = None if prior is None else Belief(prior, seed=seed)
        self._design: list[dict[str, ConfigValue]] | None = None
        self._model: Model = (
            ForestModel(configuration_space, seed=seed, min_trials=num_variable + 1)
            if model == "forest"
            else ProcessModel(configuration_space, earlier)
        )

    def propose(
        self, history: History, candidates: Candidates, rng: np.random.Generator
    ) -> dict[str, ConfigValue] | None:
        first = candidates.first_open(self._first)
        if first is not None:
            return first
        if self._design is None:  # also by a search that is resumed after it, whose belief is judged by it
            self._design = self._make_design(candidates)
        position = len(history.asked)
        if position < self._num_initial:
            return self._designed(position - len(self._first), candidates) or candidates.draw(rng)
        if rng.random() < RANDOM_SHARE:
            return candidates.draw(rng)
        surrogate = self._model.surrogate(history, candidates, rng)
        factor = None if self._belief is None else self._belief.factor(history)
        highest = None if surrogate is None else surrogate.highest(candidates, rng, factor)
        return highest or candidates.draw(rng)

    def notice(self, history: History) -> str:
        is_refuted = self._belief is not None and self._belief.is_refuted(history)
        prior = "the prior is dropped: what was drawn from it is worse than the rest of the initial design"
        return "; ".join(filter(None, [prior if is_refuted else "", self._model.notice()]))

    def _designed(self, position: int, candidates: Candidates) -> dict[str, ConfigValue] | None:
        assert self._design is not None
        return candidates.accept(self._design[position]) if 0 <= position < len(self._design) else None

    def _make_design(self, candidates: Candidates) -> list[dict[str, ConfigValue]]:
        """Return the initial design after what comes first: draws from a prior and space-filling configurations in turn."""
        num_configs = self._num_initial - len(self._first)
        num_drawn = 0 if self._belief is None else math.ceil(DESIGN_SHARE * num_configs)
        filling = sobol_design(self._configuration_space, num_configs=num_configs - num_drawn, seed=self._seed)
        if self._belief is None:
            return filling
        drawn = self._belief.draws(candidates, num_drawn)
        self._belief.judge_by(drawn, filling, candidates, num_initial=self._num_initial)
        in_turn = itertools.chain.from_iterable(itertools.zip_longest(drawn, filling))
        return [config for config in in_turn if config is not None]


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

    def notice(self) -> str:
        return ""

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
