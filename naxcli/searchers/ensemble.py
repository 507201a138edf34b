"""Deep ensemble: several small networks that learn sizes and costs together, and the configuration of highest expected improvement.

Paper: Ouertatani et al., "Neural Architecture Tuning" (NAT), OLA 2024. Every member has one trunk and one head per target. It is
pretrained on the zero-cost metrics of a sample of the space, all at once, and then learns the results of all fidelities together, so
that cheap ones help before there are expensive ones.

Deviations: all members are fitted at once as one batched computation. Latency is not among the metrics that it is pretrained on, though
`naxcli space prepare` measures it: that of one machine would make other suggestions than that of another. A tenth of the suggestions is
drawn at random, as with the other model-based searcher.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from naxcli.measure.threads import one_thread
from naxcli.records.trial import Config, ConfigValue
from naxcli.search_space.contract import Space
from naxcli.search_space.prepared import PreparedSpace
from naxcli.searchers.acquisition import Surrogate, Values, Vectors, expected_improvement
from naxcli.searchers.candidates import Candidates
from naxcli.searchers.costs import has_random_weights, log_scaled, scalarised
from naxcli.searchers.deep_ensemble import Encoder, Ensemble
from naxcli.searchers.history import History, Told

RANDOM_SHARE = 0.1
NUM_INITIAL = 10


class EnsembleProposer:
    """Proposes the default and the references, random configurations up to ten, then by expected improvement at the highest fidelity tried.

    Args:
        space: of the search.
        seed: of the first weights.
        references: legal configurations that are to be compared with.
        prepared: holds the trunk that was pretrained on zero-cost metrics; without it the members start from random weights.
    """

    def __init__(
        self, space: Space, *, seed: int, references: Sequence[Config] = (), prepared: PreparedSpace | None = None
    ) -> None:
        self._first = [space.default_config(), *references]
        self._seed = seed
        self._trunk = None if prepared is None else prepared.trunk
        self._vectors: list[Values] = []  # of the trials told, in their order
        self._surrogate: Surrogate | None = None

    def propose(
        self, history: History, candidates: Candidates, rng: np.random.Generator
    ) -> dict[str, ConfigValue] | None:
        first = candidates.first_open(self._first)
        if first is not None:
            return first
        if len(history.asked) < NUM_INITIAL or rng.random() < RANDOM_SHARE or not history.successes:
            return candidates.draw(rng)
        with one_thread():
            surrogate = self._surrogate
            if surrogate is None or surrogate.num_told != len(history.told) or has_random_weights(history.told):
                surrogate = self._surrogate = self._fitted(history, candidates, rng)
            return surrogate.highest(candidates, rng) or candidates.draw(rng)

    def notice(self, history: History) -> str:
        return ""

    def _fitted(self, history: History, candidates: Candidates, rng: np.random.Generator) -> Surrogate:
        self._vectors += [candidates.vector(told.suggestion.config) for told in history.told[len(self._vectors) :]]
        succeeded = {told.suggestion.fidelity for told in history.successes}
        chosen = [index for index, told in enumerate(history.told) if told.suggestion.fidelity in succeeded]
        told = [history.told[index] for index in chosen]
        vectors = np.stack([self._vectors[index] for index in chosen])
        fidelities = np.array([item.suggestion.fidelity for item in told])
        costs = _log_scaled_by_rung(told, fidelities, rng)
        encoder = Encoder(candidates.configuration_space)
        ensemble = self._start(encoder.num_columns).fitted(encoder(vectors), fidelities, costs)
        is_full = fidelities == fidelities.max()
        best = ensemble.predict(encoder(vectors[is_full]))[0].min()

        def acquisition(rows: Vectors) -> Values:
            return expected_improvement(*ensemble.predict(encoder(rows)), best)

        order = np.lexsort((costs, ~is_full))
        return Surrogate(acquisition, best_first=vectors[order], num_told=len(history.told))

    def _start(self, num_columns: int) -> Ensemble:
        """Return the members before they learn costs."""
        if self._trunk is None:
            return Ensemble.untrained(num_columns, seed=self._seed)
        return Ensemble(self._trunk, seed=self._seed)


def _log_scaled_by_rung(told: Sequence[Told], fidelities: Values, rng: np.random.Generator) -> Values:
    costs = np.empty(len(told))
    for fidelity in np.unique(fidelities):
        members = np.flatnonzero(fidelities == fidelity)
        costs[members] = log_scaled(scalarised([told[int(index)] for index in members], rng))
    return costs
