"""A Gaussian process of the cost as a sum of effects, and functions drawn from its posterior: what the trials leave open.

The prior is that of an orthogonal additive kernel (Durrande et al., J. Multivariate Analysis 2013; Lu, Boukouvalas, Hensman, ICML 2022):
every hyperparameter has functions that average 0 over its domain, and the cost is a constant and the effects of single hyperparameters, of
pairs and of triples, each with a variance that is the product of those of its members. Mains and pairs are held by their coefficients, so
that a drawn function's shares of variance are sums of squares. Functions are drawn by Matheron's rule (Wilson et al., ICML 2020); the
scales of the kernel are drawn too, from a normal approximation around their most probable values, and a factor for each pair from its
posterior. Few or noisy trials cannot tell a large single effect from many small interactions, and what is drawn then depends on the prior:
there are two, a structure with interactions and one that hardly has any, and scales are drawn from each, unless the trials refute the
latter (Occam's window; Madigan and Raftery, JASA 1994). A posterior does not ask how the configurations were chosen, but the scales of a
kernel are those of the trials it is fitted to (`crowding`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations

import numpy as np
from scipy.linalg import cho_solve, cholesky, solve_triangular
from scipy.optimize import minimize

from naxcli.analysis.basis import Basis, basis
from naxcli.analysis.cost_scale import CostScale, scales_of
from naxcli.analysis.crowding import drawn, spread_out
from naxcli.analysis.encoding import Encoding, Floats, Parts
from naxcli.analysis.forest import COST_DIGITS

# The scales are fitted to at most this many trials, drawn at random; functions are conditioned on at most the second number.
MAX_FITTED_TRIALS = 300
MAX_TRIALS = 1_000
# Rows at which triples are drawn jointly with the trials; of more rows, predictions go without them.
MAX_JOINT_ROWS = 600
NUM_STEPS = 40
ROWS_AT_ONCE = 64
# Mean and standard deviation of the logarithms of the scales a priori: of a hyperparameter, and of the noise. Costs have variance 1.
HYPERPARAMETER_PRIOR = (-3.5, 2.0)
NOISE_PRIOR = (-2.5, 2.5)
# Those of pairs and of triples, in a structure with interactions and in one that hardly has any.
WITH_INTERACTIONS = {"pairs": (0.0, 1.0), "triples": (-1.0, 1.5)}
WITHOUT_INTERACTIONS = {"pairs": (-4.0, 1.5), "triples": (-5.0, 1.5)}
# The latter is left out where the logarithm of its evidence is less by this than that of the former.
OCCAMS_WINDOW = np.log(20.0)
# Factors of single pairs that are tried, and mean and standard deviation of their logarithm a priori.
PAIR_FACTORS = np.exp(np.linspace(-6.0, 8.0, 57))
PAIR_PRIOR = (2.5, 2.0)
BOUND = 10.0
CONSTANT = 1.0
JITTER = 1e-6


@dataclass(frozen=True, slots=True, kw_only=True)
class Scales:
    """Prior variances: (num_hyperparameters,) of the hyperparameters, factors of pairs and triples, and that of the noise.

    `each_pair` are factors of single pairs, in the order of `combinations`; all 1 if None. `has_interactions` says of which structure
    they are.
    """

    hyperparameters: Floats
    pairs: float
    triples: float
    noise: float
    each_pair: Floats | None = None
    has_interactions: bool = True

    def pair(self, number: int, i: int, j: int) -> float:
        """Return the prior variance of a pair, the `number`-th."""
        factor = 1.0 if self.each_pair is None else self.each_pair[number]
        return float(self.pairs * factor * self.hyperparameters[i] * self.hyperparameters[j])


@dataclass(frozen=True, slots=True, kw_only=True)
class Functions:
    """Functions drawn from the posterior, in units of the standardised cost.

    Args:
        mains: (num_functions_of_basis, num_draws) coefficients of each hyperparameter.
        pairs: numbers of two hyperparameters -> (num_first, num_second, num_draws) coefficients.
        triples: (num_draws,) variance of the triples over the space.
        predictions: name of rows -> (num_draws, num_rows).
    """

    mains: tuple[Floats, ...]
    pairs: Mapping[tuple[int, int], Floats]
    triples: Floats
    predictions: Mapping[str, Floats]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Prior:
    """Mean and standard deviation of the logarithms of all scales, (num_hyperparameters + 3,)."""

    mean: Floats
    std: Floats

    @classmethod
    def of(cls, num_hyperparameters: int, *, pairs: tuple[float, float], triples: tuple[float, float]) -> _Prior:
        mean, std = np.array([*[HYPERPARAMETER_PRIOR] * num_hyperparameters, pairs, triples, NOISE_PRIOR]).T
        return cls(mean=mean, std=std)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Fit:
    """The logarithms of the most probable scales under a prior, and minus the logarithm of their density."""

    prior: _Prior
    loss: float
    best: Floats

    def evidence(self, root: Floats) -> float:
        """Return the logarithm of the probability of the costs, by Laplace's approximation, up to what all priors share.

        Args:
            root: of the precision of the logarithms.
        """
        return -self.loss - float(np.log(self.prior.std).sum() + np.log(np.diag(root)).sum())


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """Some trials under the most probable scales.

    Args:
        features: (num_trials, num_functions) of each hyperparameter's basis.
        costs: (num_trials,), standardised.
        covariance: of the trials, noise included.
        parts: kernel of each hyperparameter, and what it is multiplied with in the covariance.
    """

    features: Sequence[Floats]
    costs: Floats
    covariance: Floats
    parts: Sequence[tuple[Floats, Floats]]


def fit_surrogates(encoding: Encoding, vectors: Floats, costs: Floats, *, seed: int) -> list[Surrogate]:
    """Return the process fitted to trials on each scale that their costs may have, the most probable first.

    Args:
        encoding: of the space.
        vectors: (num_trials, num_hyperparameters) rows of ConfigSpace vectors.
        costs: (num_trials,), finite, not all equal.
        seed: of which trials are taken where they are many.
    """
    trials = _Trials.of(encoding, vectors, seed=seed)
    found = [Surrogate(trials, costs[trials.taken], scale) for scale in scales_of(costs)]
    return sorted(found, key=lambda each: each.loss)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Trials:
    """The configurations of trials, whatever the scale of their costs.

    Args:
        bases: of the hyperparameters.
        taken: numbers of the trials that functions are conditioned on.
        features: (num_taken, num_functions) of each basis.
        fitted: numbers, of those taken, that the scales are fitted to.
        kernels: (num_hyperparameters, num_fitted, num_fitted) of these.
        sample: numbers, of those taken, of the trials in which effects are looked for.
    """

    bases: tuple[Basis, ...]
    taken: Parts
    features: list[Floats]
    fitted: Parts
    kernels: Floats
    sample: Parts

    @classmethod
    def of(cls, encoding: Encoding, vectors: Floats, *, seed: int) -> _Trials:
        rng = np.random.default_rng(seed)
        bases = tuple(basis(domain) for domain in encoding.domains)
        taken = drawn(len(vectors), MAX_TRIALS, rng)
        features = _features(bases, vectors[taken])
        fitted = spread_out(encoding, vectors[taken], at_most=MAX_FITTED_TRIALS, rng=rng)
        is_thinned = len(fitted) < min(len(taken), MAX_FITTED_TRIALS)
        return cls(
            bases=bases,
            taken=taken,
            features=features,
            fitted=fitted,
            kernels=_kernels(bases, [columns[fitted] for columns in features]),
            sample=drawn(len(taken), MAX_FITTED_TRIALS, rng) if is_thinned else fitted,
        )


class Surrogate:
    """The process fitted to trials.

    Args:
        trials: their configurations.
        costs: (num_trials,) of those that are taken.
        cost_scale: on which effects add up.
    """

    def __init__(self, trials: _Trials, costs: Floats, cost_scale: CostScale) -> None:
        self.bases, self.features = trials.bases, trials.features
        self.cost_scale = cost_scale
        self.costs: Floats = cost_scale.standardise(costs).round(COST_DIGITS)
        self.fitted_features = [columns[trials.fitted] for columns in trials.features]
        self.fitted_costs: Floats = self.costs[trials.fitted]
        self._kernels, self._sample = trials.kernels, trials.sample
        self._with_interactions = self._fit(WITH_INTERACTIONS)
        self.best = self._scales(self._with_interactions.best)
        # Minus the logarithm of the density of the costs themselves, to compare scales.
        self.loss = self._with_interactions.loss + float(cost_scale.slopes(costs[trials.fitted]).sum())

    def _fit(self, structure: Mapping[str, tuple[float, float]]) -> _Fit:
        """Return the most probable scales of a structure."""
        prior = _Prior.of(len(self.bases), **structure)
        found = minimize(
            self._loss,
            prior.mean,
            args=(prior,),
            jac=True,
            method="L-BFGS-B",
            bounds=[(-BOUND, BOUND / 3)] * len(prior.mean),
            options={"maxiter": NUM_STEPS},
        )
        return _Fit(prior=prior, loss=float(found.fun), best=found.x)

    def _scales(self, logarithms: Floats, *, has_interactions: bool = True) -> Scales:
        *_, pairs, triples, noise = np.exp(logarithms)
        return Scales(
            hyperparameters=np.exp(logarithms[:-3]),
            pairs=float(pairs),
            triples=float(triples),
            noise=float(noise),
            has_interactions=has_interactions,
        )

    def covariance(self, scales: Scales) -> Floats:
        """Return the covariance of the trials that the scales were fitted to, noise included."""
        sums = _Sums.of(scales.hyperparameters[:, None, None] * self._kernels)
        return _with_noise(sums.covariance(scales), scales.noise)

    def sample(self) -> Sample:
        """Return trials that are drawn of all, crowded ones too, with what the most probable scales make of them."""
        features = [columns[self._sample] for columns in self.features]
        scaled = self.best.hyperparameters[:, None, None] * _kernels(self.bases, features)
        sums = _Sums.of(scaled)
        return Sample(
            features=features,
            costs=self.costs[self._sample],
            covariance=_with_noise(sums.covariance(self.best), self.best.noise),
            parts=[(kernel, sums.beside(kernel, self.best)) for kernel in scaled],
        )

    def _derivatives(self, scales: Scales, scaled: Floats, sums: _Sums) -> Iterator[Floats]:
        """Yield the derivative of the covariance by the logarithm of each scale."""
        for kernel in scaled:
            yield kernel * sums.beside(kernel, scales)
        yield scales.pairs * sums.second
        yield scales.triples * sums.third
        yield scales.noise * np.eye(len(self.fitted_costs))

    def _loss(self, logarithms: Floats, prior: _Prior) -> tuple[float, Floats]:
        """Return minus the logarithm of the posterior density of the scales, and its gradient."""
        scales = self._scales(logarithms)
        scaled = scales.hyperparameters[:, None, None] * self._kernels
        sums = _Sums.of(scaled)
        num = len(self.fitted_costs)
        factor = cholesky(_with_noise(sums.covariance(scales), scales.noise), lower=True)
        inverse = cho_solve((factor, True), np.eye(num))
        weights = inverse @ self.fitted_costs
        away = (logarithms - prior.mean) / prior.std
        loss = 0.5 * self.fitted_costs @ weights + np.log(np.diag(factor)).sum() + 0.5 * away @ away
        slope = inverse - np.outer(weights, weights)
        gradient = [0.5 * np.vdot(slope, change) for change in self._derivatives(scales, scaled, sums)]
        return float(loss), np.array(gradient) + away / prior.std

    def draw_scales(self, num_draws: int, rng: np.random.Generator) -> list[Scales]:
        """Return scales drawn from normal approximations of their posterior, of the structures in turn that the trials do not refute."""
        fits = self._with_interactions, self._fit(WITHOUT_INTERACTIONS)
        roots = [self._root_of_precision(fit) for fit in fits]
        with_interactions, without = (fit.evidence(root) for fit, root in zip(fits, roots, strict=True))
        num_structures = 2 if without > with_interactions - OCCAMS_WINDOW else 1
        found = []
        for turn in range(num_draws):
            index = turn % num_structures
            step = solve_triangular(roots[index], rng.standard_normal(len(roots[index])), lower=True, trans=1)
            logarithms = np.clip(fits[index].best + step, -BOUND, BOUND / 3)
            found.append(self._scales(logarithms, has_interactions=index == 0))
        return found

    def _root_of_precision(self, fit: _Fit) -> Floats:
        """Return the root of the precision of the logarithms of scales around the most probable ones, by Fisher's information."""
        scales = self._scales(fit.best)
        scaled = scales.hyperparameters[:, None, None] * self._kernels
        sums = _Sums.of(scaled)
        factor = cholesky(_with_noise(sums.covariance(scales), scales.noise), lower=True)
        whitened = []
        for change in self._derivatives(scales, scaled, sums):
            half = solve_triangular(factor, change, lower=True)
            whitened.append(solve_triangular(factor, half.T, lower=True).reshape(-1))
        stacked = np.stack(whitened)
        root: Floats = np.linalg.cholesky(0.5 * stacked @ stacked.T + np.diag(fit.prior.std**-2.0))
        return root

    def draw_pairs(self, scales: Scales, rng: np.random.Generator) -> Scales:
        """Return scales with a factor drawn for each pair, from its posterior given the other scales; without interactions, the same.

        Two that hardly matter alone may matter together: without factors of their own, such pairs would be drawn too small.
        """
        if not scales.has_interactions:
            return scales
        factor = cholesky(self.covariance(scales), lower=True)
        factors = []
        for number, (i, j) in enumerate(combinations(range(len(self.bases)), 2)):
            variances = scales.pair(number, i, j) * self.pair_variances(i, j)
            columns = _products(self.fitted_features[i], self.fitted_features[j]) * np.sqrt(variances)
            half = solve_triangular(factor, np.column_stack([columns, self.fitted_costs]), lower=True)
            sizes, directions = np.linalg.eigh(half[:, :-1].T @ half[:, :-1])
            # From the covariance with the pair to the one without it, in the directions of its functions.
            sizes = np.clip(sizes, 0.0, 1 - JITTER)
            scores = (directions.T @ (half[:, :-1].T @ half[:, -1]) / (1 - sizes)) ** 2
            sizes = sizes / (1 - sizes)
            grown = 1 + np.multiply.outer(PAIR_FACTORS, sizes)
            density = 0.5 * (PAIR_FACTORS[:, None] * scores / grown - np.log(grown)).sum(axis=1)
            density -= 0.5 * ((np.log(PAIR_FACTORS) - PAIR_PRIOR[0]) / PAIR_PRIOR[1]) ** 2
            weights = np.exp(density - density.max())
            factors.append(rng.choice(PAIR_FACTORS, p=weights / weights.sum()))
        return replace(scales, each_pair=np.array(factors))

    def pair_variances(self, i: int, j: int) -> Floats:
        """Return the prior variances of a pair's functions, relative to that of the pair."""
        return np.multiply.outer(self.bases[i].variances, self.bases[j].variances).reshape(-1)

    def draw(
        self, scales: Scales, rows: Mapping[str, Floats], space: Floats, *, num_draws: int, rng: np.random.Generator
    ) -> Functions:
        """Return functions drawn from the posterior given the scales.

        Args:
            scales: of the kernel.
            rows: name -> (num_rows, num_hyperparameters) vector rows at which predictions are wanted.
            space: vector rows drawn from the space, over which the variance of the triples is taken.
            num_draws: how many functions.
            rng: draws them.
        """
        num = len(self.costs)
        features = {name: _features(self.bases, vectors) for name, vectors in rows.items()}
        joint = [name for name, vectors in rows.items() if len(vectors) <= MAX_JOINT_ROWS]
        blocks = [self.features, _features(self.bases, space), *(features[name] for name in joint)]
        everything = [np.concatenate(columns) for columns in zip(*blocks, strict=True)]
        first, third = _single_and_triple(self.bases, scales, everything)
        third *= scales.triples
        covariance = CONSTANT + first[:num, :num] + self._pair_covariance(scales) + third[:num, :num]
        factor = cholesky(_with_noise(covariance, scales.noise), lower=True)
        triples = _prior_draws(third, num_draws, rng)
        constant = np.sqrt(CONSTANT) * rng.standard_normal(num_draws)
        mains, pairs = self._prior_coefficients(scales, num_draws, rng)
        prior = constant + _values(self.features, mains, pairs) + triples[:num]
        noise = np.sqrt(scales.noise) * rng.standard_normal((num, num_draws))
        weights = cho_solve((factor, True), self.costs[:, None] - prior - noise)

        constant = constant + CONSTANT * weights.sum(axis=0)
        triples = triples + third[:, :num] @ weights
        variances = [s * b.variances for s, b in zip(scales.hyperparameters, self.bases, strict=True)]
        mains = [w + v[:, None] * (x.T @ weights) for w, v, x in zip(mains, variances, self.features, strict=True)]
        for number, (i, j) in enumerate(pairs):
            change = _products(self.features[i], self.features[j]).T @ weights
            change *= scales.pair(number, i, j) * self.pair_variances(i, j)[:, None]
            pairs[i, j] += change.reshape(pairs[i, j].shape)
        predictions = {name: constant + _values(columns, mains, pairs) for name, columns in features.items()}
        start = num + len(space)
        for name in joint:
            predictions[name] += triples[start : start + len(rows[name])]
            start += len(rows[name])
        return Functions(
            mains=tuple(mains),
            pairs=pairs,
            triples=triples[num : num + len(space)].var(axis=0),
            predictions={name: values.T for name, values in predictions.items()},
        )

    def _pair_covariance(self, scales: Scales) -> Floats:
        """Return the covariance of the trials by pairs, those of one hyperparameter at a time."""
        total = np.zeros((len(self.costs), len(self.costs)))
        blocks: list[list[Floats]] = [[] for _ in self.bases]
        for number, (i, j) in enumerate(combinations(range(len(self.bases)), 2)):
            deviations = np.sqrt(scales.pair(number, i, j) * self.pair_variances(i, j))
            blocks[i].append(_products(self.features[i], self.features[j]) * deviations)
        for columns in filter(None, blocks):
            stacked = np.hstack(columns)
            total += stacked @ stacked.T
        return total

    def _prior_coefficients(
        self, scales: Scales, num_draws: int, rng: np.random.Generator
    ) -> tuple[list[Floats], dict[tuple[int, int], Floats]]:
        variances = [s * b.variances for s, b in zip(scales.hyperparameters, self.bases, strict=True)]
        mains = [np.sqrt(each)[:, None] * rng.standard_normal((len(each), num_draws)) for each in variances]
        pairs = {}
        for number, (i, j) in enumerate(combinations(range(len(mains)), 2)):
            shape = len(mains[i]), len(mains[j])
            both = np.sqrt(scales.pair(number, i, j) * self.pair_variances(i, j)).reshape(shape)
            pairs[i, j] = both[:, :, None] * rng.standard_normal((*shape, num_draws))
        return mains, pairs


@dataclass(frozen=True, slots=True, kw_only=True)
class _Sums:
    """Sums over single kernels, over products of two, and of three."""

    first: Floats
    second: Floats
    third: Floats

    @classmethod
    def of(cls, scaled: Floats) -> _Sums:
        """Return the sums of (num_hyperparameters, num_rows, num_columns) kernels."""
        first = np.zeros(scaled.shape[1:])
        second, third = np.zeros_like(first), np.zeros_like(first)
        for kernel in scaled:
            third += kernel * second
            second += kernel * first
            first += kernel
        return cls(first=first, second=second, third=third)

    def covariance(self, scales: Scales) -> Floats:
        return CONSTANT + self.first + scales.pairs * self.second + scales.triples * self.third

    def beside(self, kernel: Floats, scales: Scales) -> Floats:
        """Return what one hyperparameter's kernel is multiplied with: one, the others, and the pairs of others."""
        others = self.first - kernel
        return 1 + scales.pairs * others + scales.triples * (self.second - kernel * others)


def _features(bases: Sequence[Basis], vectors: Floats) -> list[Floats]:
    """Return the functions of each hyperparameter's basis at rows of ConfigSpace vectors."""
    return [each.at(vectors[:, each.domain.index]) for each in bases]


def _kernels(bases: Sequence[Basis], features: Sequence[Floats]) -> Floats:
    """Return the kernel of each hyperparameter between rows, (num_hyperparameters, num_rows, num_rows)."""
    return np.stack([_kernel(each, columns, columns) for each, columns in zip(bases, features, strict=True)])


def _kernel(each: Basis, left: Floats, right: Floats) -> Floats:
    found: Floats = (left * each.variances) @ right.T
    return found


def _single_and_triple(bases: Sequence[Basis], scales: Scales, features: Sequence[Floats]) -> tuple[Floats, Floats]:
    """Return the sums of the kernels between rows over single hyperparameters and over triples, (num_rows, num_rows) each."""
    num = len(features[0])
    first, third = np.zeros((num, num)), np.zeros((num, num))
    # A few rows at a time, so that the sums stay in the processor's cache.
    for start in range(0, num, ROWS_AT_ONCE):
        part = slice(start, start + ROWS_AT_ONCE)
        one, three = first[part], third[part]
        two = np.zeros_like(one)
        for each, scale, columns in zip(bases, scales.hyperparameters, features, strict=True):
            kernel = scale * _kernel(each, columns[part], columns)
            three += kernel * two
            two += kernel * one
            one += kernel
    return first, third


def _with_noise(covariance: Floats, noise: float) -> Floats:
    """Return a covariance with that of the noise, and with a little more, so that it has a root whatever the scales."""
    little = JITTER * (1 + float(np.trace(covariance)) / len(covariance))
    found: Floats = covariance + (noise + little) * np.eye(len(covariance))
    return found


def _prior_draws(covariance: Floats, num_draws: int, rng: np.random.Generator) -> Floats:
    """Return functions drawn from a prior at some rows, (num_rows, num_draws)."""
    size = float(np.trace(covariance)) / len(covariance)
    if size < JITTER:
        return np.zeros((len(covariance), num_draws))
    root = cholesky(_with_noise(covariance, 0.0), lower=True)
    functions: Floats = root @ rng.standard_normal((len(covariance), num_draws))
    return functions


def _products(left: Floats, right: Floats) -> Floats:
    """Return all products of two sets of columns, (num_rows, num_left * num_right)."""
    return (left[:, :, None] * right[:, None, :]).reshape(len(left), -1)


def _values(features: Sequence[Floats], mains: Sequence[Floats], pairs: Mapping[tuple[int, int], Floats]) -> Floats:
    """Return what mains and pairs add up to, (num_rows, num_draws)."""
    total = np.zeros((len(features[0]), mains[0].shape[1]))
    for columns, coefficients in zip(features, mains, strict=True):
        total += columns @ coefficients
    for (i, j), coefficients in pairs.items():
        total += _products(features[i], features[j]) @ coefficients.reshape(-1, total.shape[1])
    return total
