"""What earlier results are worth to a search: how well a model of them ranks the new results.

Papers: Feurer, Letham, Bakshy, "Scalable Meta-Learning for Bayesian Optimization using Ranking-Weighted Gaussian Process
Ensembles" (AutoML workshop at ICML 2018); Feurer et al., "Practical Transfer Learning for Bayesian Optimization" (arXiv
1802.02219, version 4), for the bootstrap; Wistuba, Schilling, Schmidt-Thieme, "Scalable Gaussian Process-Based Transfer
Surrogates for Hyperparameter Optimization", Machine Learning 107 (2018), for the new model's own standard deviation.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from naxcli.records.trial import Config, config_id
from naxcli.search_space.earlier import EarlierResults

Values = npt.NDArray[np.float64]  # (num_trials,)

NUM_RESAMPLES = 256
CHANCE = 0.5  # of ranking a pair wrongly


def ranking_weights(earlier: Sequence[Values], own: Values, *, targets: Values, fidelities: Values) -> Values:
    """Return the weights of earlier models, (num_models,), which add up to 1 at most; the rest is that of the new model.

    A model's weight is the share of bootstrap samples of the new results in which it ranks fewest pairs wrongly. The new model
    is judged by what it predicts of each result from the others, takes what is tied, and is never worse than a coin, so that
    earlier results that say nothing of the new ones, or the contrary, have no weight. Pairs are those of one fidelity.

    Args:
        earlier: predictions of each earlier model, (num_trials,).
        own: what the new model predicts of each trial from the others, (num_trials,).
        targets: what was found, (num_trials,).
        fidelities: of the trials, (num_trials,).
    """
    num_trials = len(targets)
    is_pair = (fidelities[:, None] == fidelities) & (targets[:, None] != targets)
    is_better = targets[:, None] < targets
    # A result counts as often as it was drawn. The same draws for the same number of results make a resumed search exact.
    draws = np.random.default_rng(num_trials).multinomial(
        num_trials, np.full(num_trials, 1 / num_trials), size=NUM_RESAMPLES
    )

    def share_wrong(is_predicted_better: npt.NDArray[np.bool_]) -> Values:
        """Return the share of pairs that are ranked wrongly in each sample."""
        is_wrong = is_pair & (is_predicted_better != is_better)
        num_pairs = ((draws @ is_pair) * draws).sum(axis=1)
        shares: Values = ((draws @ is_wrong) * draws).sum(axis=1) / np.maximum(num_pairs, 1)
        return np.where(num_pairs > 0, shares, CHANCE)

    losses = [np.minimum(share_wrong(own[:, None] < targets), CHANCE)]
    losses += [share_wrong(scores[:, None] < scores) for scores in earlier]
    winners = np.argmin(losses, axis=0)  # the first of equal ones
    weights: Values = np.bincount(winners, minlength=len(losses))[1:] / NUM_RESAMPLES
    return weights


def best_configs(tables: Sequence[EarlierResults], number: int, *, known: Sequence[Config] = ()) -> list[Config]:
    """Return the best different configurations at each table's highest fidelity, the best of every table first.

    Args:
        tables: earlier results.
        number: how many there are at most.
        known: configurations that are left out.
    """
    ranked = []
    for table in tables:
        highest = max(result.fidelity for result in table.results)
        full = [result for result in table.results if result.fidelity == highest]
        ranked.append([result.config for result in sorted(full, key=lambda result: result.cost)])
    in_turn = (config for place in itertools.zip_longest(*ranked) for config in place if config is not None)
    seen = set(map(config_id, known))
    different = {identity: config for config in in_turn if (identity := config_id(config)) not in seen}
    return list(itertools.islice(different.values(), number))
