"""PED-ANOVA (Watanabe, Bansal, Hutter, IJCAI 2023): which choices tell the best trials from the good ones.

No model stands between: of each hyperparameter the density of its values among the best trials (the target) is compared with that among
the good ones (the region), on a grid, by Pearson's divergence. That of a hyperparameter which is not always active is taken over the
trials in which it is, and weighed by how often that is (Baba, Ozaki, Watanabe, KDD 2026). Divided by
the variance of being in the target, it is a share of variance, as in fANOVA. Optuna 5 computes the same densities but for choices, which it
spreads over each other: of a binary one, 36 % of the share is left. Its own number is kept beside ours.

The null are permuted copies of the hyperparameter (decoys): as many trials drawn at random from those of the region in which it is active.
Their scores are a scaled chi-square in good approximation; where there is an effect it is a noncentral one, and its noncentrality gives the
interval (Steiger, Psychological Methods 2004).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from ConfigSpace.hyperparameters import NumericalHyperparameter
from numpy.typing import NDArray
from scipy.optimize import brentq
from scipy.special import ndtr
from scipy.stats import chi2, ncx2

from naxcli.analysis.encoding import Domain, Encoding, Flags, Floats
from naxcli.analysis.importance import Estimate

# Points of the grid of a number with more values.
NUM_STEPS = 50
# Weight of a uniform density among those of the trials.
PRIOR_WEIGHT = 1.0
# Least bandwidth in steps of the grid: 90 % of a trial's density then lie at its own step.
MIN_BANDWIDTH = 0.5 / 1.64
LITTLE = 1e-12
# With fewer trials in the target, the densities say nothing (Optuna's advice).
MIN_TARGET_TRIALS = 5
MIN_ACTIVE_TRIALS = 2
NUM_DECOYS = 200
CONFIDENCE = 0.95

Counts = NDArray[np.intp]


@dataclass(frozen=True, slots=True, kw_only=True)
class Quantiles:
    """Which shares of the trials are the best ones and the good ones that they are told from."""

    target: float = 0.1
    region: float = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """How well one hyperparameter separates, Optuna's number for it, and which value is typical of the target (see `_typical`)."""

    estimate: Estimate
    optuna: float
    typical: Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Separation:
    """What separates the target from the region.

    Args:
        num_target: trials in the target.
        num_region: trials in the region, those of the target among them.
        rows: hyperparameter -> what was found; empty where the target has too few trials.
    """

    num_target: int
    num_region: int
    rows: Mapping[str, Row] = field(default_factory=dict)

    def counts(self, quantiles: Quantiles) -> dict[str, float]:
        """Return the shares that were asked for, and the trials that they are."""
        return {
            "target": quantiles.target,
            "region": quantiles.region,
            "num_target": self.num_target,
            "num_region": self.num_region,
        }


def ped_anova(
    encoding: Encoding, vectors: Floats, costs: Floats, quantiles: Quantiles, *, seed: int, has_intervals: bool
) -> Separation:
    """Return how well each hyperparameter alone tells the best trials from the good ones.

    Args:
        encoding: of the hyperparameters.
        vectors: (num_trials, num_hyperparameters) rows of ConfigSpace vectors.
        costs: (num_trials,), finite.
        quantiles: which trials are the best and the good ones.
        seed: of the decoys.
        has_intervals: whether intervals and decoys are wanted.
    """
    is_region = _is_best(costs, quantiles.region)
    is_target = _is_best(costs, quantiles.target)
    found = Separation(num_target=int(is_target.sum()), num_region=int(is_region.sum()))
    if found.num_target < MIN_TARGET_TRIALS or found.num_target == found.num_region:
        return found
    rng = np.random.default_rng(seed)
    rows = {}
    for domain in encoding.domains:
        codes = vectors[is_region, domain.index]
        comparison = _Comparison.of(encoding, domain, codes, is_target[is_region])
        share = found.num_target / found.num_region
        rows[domain.name] = Row(
            optuna=share * (1 - share) * float(comparison.scores(comparison.target[None], is_spread=True)[0]),
            estimate=comparison.estimate(rng if has_intervals else None),
            typical=_typical(encoding, domain, codes, is_target[is_region]),
        )
    return replace(found, rows=rows)


def _is_best(costs: Floats, share: float) -> Flags:
    """Return which costs are among the lowest, all that equal the last of them included."""
    last = int(np.ceil(share * len(costs))) - 1
    best: Flags = costs <= np.partition(costs, last)[last]
    return best


@dataclass(frozen=True, slots=True, kw_only=True)
class _Comparison:
    """The trials of one hyperparameter on its grid.

    Args:
        region: (num_steps,) trials of the region in which it is active.
        target: (num_steps,) those of the target.
        weight: what their divergence is multiplied with to become a share of variance.
        is_ordered: whether steps beside each other are alike.
    """

    region: Counts
    target: Counts
    weight: float
    is_ordered: bool

    @classmethod
    def of(cls, encoding: Encoding, domain: Domain, codes: Floats, is_target: Flags) -> _Comparison:
        active = ~np.isnan(codes)
        num_steps, steps = _grid(encoding, domain, codes[active])
        region = np.bincount(steps, minlength=num_steps)
        target = np.bincount(steps[is_target[active]], minlength=num_steps)
        share = float(is_target.mean())
        among_target, among_region = target.sum() / is_target.sum(), region.sum() / len(codes)
        weight = 0.0
        if target.sum() > 0 and region.sum() >= MIN_ACTIVE_TRIALS:
            weight = share / (1 - share) * float(among_target**2 / among_region)
        return cls(region=region, target=target, weight=weight, is_ordered=domain.kind != "categorical")

    def scores(self, targets: Counts, *, is_spread: bool = False) -> Floats:
        """Return the shares of variance if the target were distributed as given, (num_targets, num_steps).

        With `is_spread`, choices are spread over each other as Optuna does.
        """
        if self.weight == 0:
            return np.zeros(len(targets))
        region = self._density(self.region[None], is_spread=is_spread) + LITTLE
        ratio = (self._density(targets, is_spread=is_spread) + LITTLE) / region
        scores: Floats = self.weight * (region * (ratio - 1) ** 2).sum(axis=1)
        return scores

    def _density(self, counts: Counts, *, is_spread: bool) -> Floats:
        """Return the densities that trials have on the grid, (num_rows, num_steps), given their numbers at each step."""
        return _ordered_density(counts) if self.is_ordered else _choice_density(counts, is_spread=is_spread)

    def estimate(self, rng: np.random.Generator | None) -> Estimate:
        """Return the share of variance, with its interval and whether it exceeds its decoys if there is a generator to draw these."""
        if self.weight == 0:
            return Estimate(mean=0.0)
        score = float(self.scores(self.target[None])[0])
        if rng is None:
            return Estimate(mean=score)
        decoys = rng.multivariate_hypergeometric(self.region, int(self.target.sum()), size=NUM_DECOYS)
        null = self.scores(decoys.astype(np.intp))
        low, high = _interval(score, null)
        matters = score > float(np.quantile(null, CONFIDENCE)) + LITTLE
        return Estimate(
            mean=score,
            low=min(low, score) if matters else 0.0,
            high=max(min(high, 1.0), score),
            matters=matters,
        )


def _interval(score: float, null: Floats) -> tuple[float, float]:
    """Return the noncentralities, as shares of variance, that a score is not too high and not too low for."""
    mean, variance = float(null.mean()), float(null.var())
    if variance < LITTLE**2:
        return 0.0, score
    scale, freedom = variance / (2 * mean), 2 * mean**2 / variance
    value, tail = score / scale, (1 - CONFIDENCE) / 2

    def noncentrality(chance: float) -> float:
        """Return the noncentrality with which lower values have a chance; 0 where it is lower with none at all."""
        if chi2.cdf(value, freedom) <= chance:
            return 0.0
        return float(
            brentq(lambda size: ncx2.cdf(value, freedom, size) - chance, LITTLE, 4 * (value + freedom) + 50, xtol=1e-6)
        )

    return scale * noncentrality(1 - tail), scale * noncentrality(tail)


def _grid(encoding: Encoding, domain: Domain, codes: Floats) -> tuple[int, Counts]:
    """Return the number of steps of a hyperparameter's grid, and the step of each vector code."""
    if domain.kind != "numeric":
        assert domain.values is not None
        return len(domain.values), np.searchsorted(domain.values, codes)
    hyperparameter = encoding.configuration_space[domain.name]
    assert isinstance(hyperparameter, NumericalHyperparameter)
    num_values = hyperparameter.size
    num_steps = int(min(num_values, NUM_STEPS))
    if np.isfinite(num_values) and getattr(hyperparameter, "log", False):
        num_steps = min(int(np.ceil(np.log2(num_values))) + 1, NUM_STEPS)
    # Half-way between two steps, the lower one.
    steps = np.ceil(codes * (num_steps - 1) - 0.5).astype(np.intp).clip(0, num_steps - 1)
    return num_steps, steps


def _choice_density(counts: Counts, *, is_spread: bool) -> Floats:
    num_choices = counts.shape[1]
    # Optuna's kernel of a choice holds a little of all others, the less the more choices were seen.
    little = PRIOR_WEIGHT / ((counts > 0).sum(axis=1, keepdims=True) + 1) if is_spread else 0.0
    total = counts.sum(axis=1, keepdims=True)
    seen = (total * little + counts) / (num_choices * little + 1)
    density: Floats = (seen + PRIOR_WEIGHT / num_choices) / (total + PRIOR_WEIGHT)
    return density


def _ordered_density(counts: Counts) -> Floats:
    """Return mixtures of normal densities around the steps, cut off at the ends; the bandwidth is by Scott's rule."""
    num_steps = counts.shape[1]
    steps = np.arange(num_steps, dtype=float)
    total = counts.sum(axis=1)
    bandwidth = _bandwidth(counts)
    kernels = _normal_masses(np.unique(bandwidth), steps[:, None], num_steps)
    prior = _normal_masses(np.array([float(num_steps)]), np.array([[(num_steps - 1) / 2]]), num_steps)[0, 0]
    chosen = np.unique(bandwidth, return_inverse=True)[1].reshape(-1)
    density = np.empty(counts.shape)
    for number, kernel in enumerate(kernels):
        rows = chosen == number
        density[rows] = counts[rows] @ kernel
    found: Floats = (density + PRIOR_WEIGHT * prior) / (total[:, None] + PRIOR_WEIGHT)
    return found


def _bandwidth(counts: Counts) -> Floats:
    """Return the bandwidth of each row by Scott's rule, with the smaller of standard deviation and interquartile range."""
    steps = np.arange(counts.shape[1])
    total = counts.sum(axis=1)
    mean = counts @ steps / total
    deviation = np.sqrt((counts * (steps - mean[:, None]) ** 2).sum(axis=1) / np.maximum(1, total - 1))
    below = counts.cumsum(axis=1)
    first = ((below >= (total // 4)[:, None]) & (counts > 0)).argmax(axis=1)
    third = (below > (total * 3 // 4)[:, None]).argmax(axis=1)
    wanted: Floats = 1.059 * np.minimum((third - first) / 1.34, deviation) * total**-0.2
    return np.maximum(wanted, MIN_BANDWIDTH)


def _normal_masses(bandwidths: Floats, centres: Floats, num_steps: int) -> Floats:
    """Return the masses of normal densities at each step, cut off half a step beyond the ends, (num_bandwidths, num_centres, num_steps)."""
    edges = np.arange(num_steps + 1) - 0.5
    below = ndtr((edges - centres) / bandwidths[:, None, None])
    masses: Floats = np.diff(below, axis=2) / (below[:, :, -1:] - below[:, :, :1])
    return masses


def _typical(encoding: Encoding, domain: Domain, codes: Floats, is_target: Flags) -> dict[str, Any]:
    """Return what is typical of the target: the value that gains most, with its shares, or of many values the medians."""
    active = ~np.isnan(codes)
    among_target, among_region = codes[active & is_target], codes[active]
    if len(among_target) == 0:
        return {"value": None, "target_share": None, "region_share": None, "region_value": None}
    if domain.values is None:
        middle, usual = (encoding.value(domain.name, float(np.median(each))) for each in (among_target, among_region))
        return {"value": middle, "target_share": None, "region_share": None, "region_value": usual}
    shares = [(each[:, None] == domain.values).mean(axis=0) for each in (among_target, among_region)]
    place = int(np.argmax(shares[0] - shares[1]))
    return {
        "value": encoding.value(domain.name, float(domain.values[place])),
        "target_share": float(shares[0][place]),
        "region_share": float(shares[1][place]),
        "region_value": None,
    }
