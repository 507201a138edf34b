"""Importance for cost and size together: fANOVA main effects of weighted sums of both, from the cost alone to the size alone.

Every weight stands for a part of the Pareto front: the sum is least where the front has the slope of the weights. Both objectives are first
put on the scale between their lowest and highest trial, and a forest is fitted to each sum (Theodorakopoulos, Stahl, Lindauer, ECAI 2024,
who take the weights from the points on the front; here they are the same for every run). The intervals need one Gaussian process for each
objective: functions drawn from both are added with any weights.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from naxcli.analysis.encoding import Encoding, Floats
from naxcli.analysis.fanova import Measure, effects, make_measure
from naxcli.analysis.forest import fit_forest
from naxcli.analysis.importance import Estimate, ranked_numbers
from naxcli.analysis.intervals import (
    DRAWS_PER_SCALES,
    FUNCTIONS_PER_DRAW,
    MIN_TRIALS,
    NUM_SPACE_ROWS,
    SPACE,
    Decoys,
    Interval,
    interval_of,
    is_away,
    with_interval,
)
from naxcli.analysis.request import Request
from naxcli.analysis.shares import SampledDecomposer
from naxcli.analysis.surrogate import Surrogate, fit_surrogates

# Of the cost; the rest is that of the size.
WEIGHTS = (1.0, 0.75, 0.5, 0.25, 0.0)
# Sums of objectives that cancel out still differ by rounding errors.
LITTLE = 1e-9


def trade_offs(
    fidelity: float, vectors: Floats, costs: Floats, sizes: Mapping[str, Floats], request: Request
) -> list[dict[str, Any]]:
    """Return the importance of the hyperparameters for cost and each size at every weight; sizes that never vary are left out.

    Args:
        fidelity: of the trials.
        vectors: (num_trials, num_hyperparameters) rows of ConfigSpace vectors.
        costs: (num_trials,), finite.
        sizes: name -> (num_trials,), NaN where it was not measured.
        request: what is wanted.
    """
    found = []
    for name, size in sizes.items():
        rows = np.isfinite(size)
        # In an order of their own, so that those of the table do not matter.
        order = np.lexsort([size[rows], costs[rows], *np.nan_to_num(vectors[rows], nan=-1.0).T])
        taken = np.flatnonzero(rows)[order]
        if len(taken) >= MIN_TRIALS and np.ptp(costs[taken]) > 0 and np.ptp(size[taken]) > 0:
            weights = _by_weight(vectors[taken], [_scaled(costs[taken]), _scaled(size[taken])], request)
            found.append({"objective": name, "fidelity": fidelity, "num_trials": len(taken), "weights": weights})
    return found


def _scaled(values: Floats) -> Floats:
    scaled: Floats = (values - values.min()) / np.ptp(values)
    return scaled


def _by_weight(vectors: Floats, objectives: list[Floats], request: Request) -> list[dict[str, Any]]:
    encoding = request.encoding.varied(vectors, incumbent=request.incumbent, merged=request.merged)
    measure = make_measure(encoding, {}, seed=request.seed)
    posterior = None
    if request.num_draws > 0 and not request.is_exact:
        posterior = _Posterior.of(encoding, vectors, objectives, num_draws=request.num_draws, seed=request.seed)
    rows = []
    for weight in WEIGHTS:
        target = weight * objectives[0] + (1 - weight) * objectives[1]
        found = _estimates(measure, vectors, target, request)
        if posterior is not None:
            intervals = posterior.intervals((weight, 1 - weight))
            found = [
                with_interval(each, interval, is_share=True) for each, interval in zip(found, intervals, strict=True)
            ]
        rows.append({"cost_weight": weight, "fanova": _rows(encoding, found)})
    return rows


def _estimates(measure: Measure, vectors: Floats, target: Floats, request: Request) -> list[Estimate]:
    if np.ptp(target) < LITTLE:
        return [Estimate(mean=None) for _ in measure.encoding.domains]
    forest = fit_forest(measure.encoding, vectors, target, seed=request.seed, is_exact=request.is_exact)
    mains = effects(forest, measure).mains
    return [Estimate(mean=float(column.mean()), std=float(column.std())) for column in mains.T]


def _rows(encoding: Encoding, found: list[Estimate]) -> list[dict[str, Any]]:
    return [
        {"name": domain.name, **numbers}
        for domain, numbers in zip(encoding.domains, ranked_numbers(found), strict=True)
    ]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Posterior:
    """Functions drawn from the posterior of each objective, at rows all over the space.

    Args:
        decomposer: gives their effects.
        values: (num_draws, num_rows) of each objective.
        unseen: (num_draws,) variance of each that its values leave out.
        is_shown: whether each hyperparameter exceeds its decoys, for each objective.
    """

    decomposer: SampledDecomposer
    values: tuple[Floats, ...]
    unseen: tuple[Floats, ...]
    is_shown: tuple[tuple[bool, ...], ...]

    @classmethod
    def of(
        cls, encoding: Encoding, vectors: Floats, objectives: list[Floats], *, num_draws: int, seed: int
    ) -> _Posterior:
        surrogates = [fit_surrogates(encoding, vectors, each, seed=seed)[0] for each in objectives]
        decomposer = SampledDecomposer(encoding, surrogates[0].bases, seed=seed)
        # A stream of random numbers for each objective: of the same one, their functions would err together.
        streams = np.random.default_rng(seed).spawn(len(surrogates))
        drawn = [
            _drawn(surrogate, decomposer.rows, encoding.uniform_rows(NUM_SPACE_ROWS, rng), num_draws=num_draws, rng=rng)
            for surrogate, rng in zip(surrogates, streams, strict=True)
        ]
        decoys = [Decoys(surrogate, rng) for surrogate, rng in zip(surrogates, streams, strict=True)]
        return cls(
            decomposer=decomposer,
            values=tuple(values for values, _ in drawn),
            unseen=tuple(unseen for _, unseen in drawn),
            is_shown=tuple(tuple(each.alone((i,)) for i in range(len(encoding.domains))) for each in decoys),
        )

    def intervals(self, weights: tuple[float, ...]) -> list[Interval]:
        """Return the interval of each hyperparameter's share of the variance of a weighted sum.

        It is shown to matter where it is for an objective that has any weight, and an effect of zero on the sum lies outside the
        posterior's region.
        """
        values = np.sum([weight * each for weight, each in zip(weights, self.values, strict=True)], axis=0)
        unseen = np.sum([weight**2 * each for weight, each in zip(weights, self.unseen, strict=True)], axis=0)
        total = values.var(axis=1) + unseen
        found = []
        for number, effect in self.decomposer.mains(values).items():
            is_any = any(shown[number] for weight, shown in zip(weights, self.is_shown, strict=True) if weight > 0)
            found.append(interval_of((effect**2).sum(axis=0) / total, matters=is_any and is_away(effect)))
        return found


def _drawn(
    surrogate: Surrogate, rows: Floats, space: Floats, *, num_draws: int, rng: np.random.Generator
) -> tuple[Floats, Floats]:
    """Return the costs of drawn functions at the rows, and the variance that these leave out."""
    values, unseen = [], []
    for scales in surrogate.draw_scales(-(-num_draws // DRAWS_PER_SCALES), rng):
        functions = surrogate.draw(
            surrogate.draw_pairs(scales, rng),
            {SPACE: rows},
            space,
            num_draws=FUNCTIONS_PER_DRAW * DRAWS_PER_SCALES,
            rng=rng,
        )
        standardised = functions.predictions[SPACE]
        values.append(surrogate.cost_scale.costs(standardised))
        unseen.append(functions.triples / standardised.var(axis=1) * values[-1].var(axis=1))
    return np.concatenate(values), np.concatenate(unseen)
