"""A user's prior in a search: it draws half of the initial design, and multiplies the acquisition until results speak against it.

Papers: Hvarfner et al., "PiBO: Augmenting Acquisition Functions with User Beliefs for Bayesian Optimization", ICLR 2022;
Fehring et al., "Dynamic Priors in Bayesian Optimization for Hyperparameter Optimization" (DynaBO, arXiv 2511.02570), for
rejecting a prior that misleads. DynaBO asks the model; here it is the results of the initial design, which need none.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from naxcli.records.trial import Config, ConfigValue, config_id
from naxcli.search_space.enumeration import sample_vectors
from naxcli.search_space.prior import Prior
from naxcli.searchers.acquisition import Acquisition, Values, Vectors, over_table
from naxcli.searchers.candidates import Candidates
from naxcli.searchers.history import History, objectives

DESIGN_SHARE = 0.5
MIN_DESIGNED = 8  # four of each kind, fewer of which could never refute a prior
NUM_SAMPLES = 20_000  # of a space that cannot be enumerated, among which a draw is
MIN_RESULTS = 10  # that the power of the prior counts with, however few there are
SIGNIFICANCE = (
    0.1  # a helpful prior fails the test far less often, and what is lost with one that does not help is little
)
DRAW_STREAM = 2  # third number of a seed, after a 0; a forest's is 1, and a repeat's is 2 after its own number


class Belief:
    """The prior of one search.

    It is refuted where the results of its own draws are worse than those of the space-filling design beside them: by a
    one-sided Mann-Whitney test at 10 %, once each of the design has a result, at the lowest fidelity; a failure is worse than
    any result. What the acquisition chooses later is no evidence, for that gets better with the model, whatever the prior is.
    A prior that is not refuted fades all the same: with n results its power is beta / n.

    Args:
        prior: as the user stated it.
        seed: of the search.
    """

    def __init__(self, prior: Prior, *, seed: int) -> None:
        self._prior = prior
        self._seed = seed
        self._drawn: frozenset[str] = frozenset()
        self._others: frozenset[str] = frozenset()
        self._num_initial = 0
        self._verdict: bool | None = None  # None while results are missing

    def draws(self, candidates: Candidates, number: int) -> list[dict[str, ConfigValue]]:
        """Return different configurations drawn from the prior; in a space too large to enumerate, from a sample weighted by it."""
        rng = np.random.default_rng([self._seed, 0, DRAW_STREAM])
        table = candidates.table
        if table is None:
            vectors = sample_vectors(candidates.configuration_space, NUM_SAMPLES, int(rng.integers(2**31)))
            density = self._prior.log_density(vectors)
        else:
            density = over_table(self._prior.log_density, table)
        # The largest of densities with Gumbel noise on their logarithms are a draw without replacement.
        rows = np.argsort(-(density + rng.gumbel(size=len(density))), kind="stable")[:number]
        return [candidates.config(vectors[row]) if table is None else table.config(int(row)) for row in rows]

    def judge_by(
        self, drawn: Sequence[Config], others: Sequence[Config], candidates: Candidates, *, num_initial: int
    ) -> None:
        """Note the two halves of the initial design, which is over when so many suggestions were made."""
        self._drawn, self._others = (
            frozenset(config_id(candidates.canonical(config)) for config in half) for half in (drawn, others)
        )
        self._num_initial = num_initial

    def is_refuted(self, history: History) -> bool:
        """Return whether the results of the initial design speak against the prior."""
        if self._verdict is None and self._num_initial and len(history.asked) >= self._num_initial:
            self._verdict = self._judged(history)
        return bool(self._verdict)

    def factor(self, history: History) -> Acquisition | None:
        """Return what the acquisition is multiplied by, None for nothing."""
        if self.is_refuted(history):
            return None
        power = self._prior.beta / max(len(history.told), MIN_RESULTS)

        def weights(vectors: Vectors) -> Values:
            factors: Values = np.exp(power * self._prior.log_density(vectors))
            return factors

        return weights

    def _judged(self, history: History) -> bool | None:
        from scipy.stats import mannwhitneyu  # takes a second to import

        results: dict[str, tuple[float, float]] = {}
        for told in history.told:
            cost = math.inf if told.cost is None else next(iter(objectives(told.cost)))
            results.setdefault(told.suggestion.config_id, (told.suggestion.fidelity, cost))
        first = history.asked[
            : self._num_initial
        ]  # what the model asks for later, of the design or not, changes nothing
        designed = {suggestion.config_id for suggestion in first} & (self._drawn | self._others)
        if not designed <= results.keys():
            return None
        lowest = min((results[identity][0] for identity in designed), default=0.0)
        drawn, others = (
            [results[identity][1] for identity in sorted(half & designed) if results[identity][0] == lowest]
            for half in (self._drawn, self._others)
        )
        if not drawn or not others:
            return False
        return bool(mannwhitneyu(drawn, others, alternative="greater").pvalue < SIGNIFICANCE)
