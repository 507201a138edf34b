"""95 % intervals of importance from functions drawn given the trials, and what is not shown to matter.

Where two priors explain the trials about as well, an interval holds what each of them gives (robust Bayesian analysis; Berger, Test 1994):
an average of both would say less than either where the trials say little.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from itertools import combinations

import numpy as np
from scipy.linalg import cho_solve, cholesky

from naxcli.analysis.encoding import Flags, Floats
from naxcli.analysis.importance import Estimate, Key, Question
from naxcli.analysis.shares import Decomposer, Decomposition, SampledDecomposer
from naxcli.analysis.surrogate import Functions, Scales, Surrogate, fit_surrogates

CONFIDENCE = 0.95
# Of a hundred draws that are asked for, ten share their scales; each stands for four functions, which cost next to nothing.
DRAWS_PER_SCALES = 10
FUNCTIONS_PER_DRAW = 4
# Permuted copies of each hyperparameter and pair that it is compared with.
NUM_DECOYS = 200
# Rows of the space over which the variance of triples is taken.
NUM_SPACE_ROWS = 200
# Share of the variance above which an interval has to begin for an effect to be shown: tables print less as 0.00.
SMALLEST_SHOWN = 0.005
# Fewer trials leave nothing to fit.
MIN_TRIALS = 3
NUM_THREADS = 2
# Name of the rows all over the space.
SPACE = "space"


@dataclass(frozen=True, slots=True, kw_only=True)
class Interval:
    """A 95 % interval; `matters` says whether an effect was shown, None where that is not asked; `draws` are the values it is made of."""

    low: float
    high: float
    draws: Floats
    matters: bool | None = None


def posterior_intervals(
    vectors: Floats,
    costs: Floats,
    question: Question,
    *,
    num_draws: int,
    seed: int,
    progress: Callable[[int, int], None] | None = None,
) -> dict[Key, Interval]:
    """Return the 95 % interval of each estimate over functions drawn from the posterior of a Gaussian process.

    An effect counts as shown where it exceeds that of permuted copies of the hyperparameter (decoys) and zero lies outside the posterior's
    95 % region; the interval of one that is not shown begins at 0.

    Args:
        vectors: (num_trials, num_hyperparameters) rows of ConfigSpace vectors.
        costs: (num_trials,), finite, not all equal.
        question: what the intervals are of.
        num_draws: draws from the posterior; four functions each.
        seed: of the draws.
        progress: called with draws done and in all.
    """
    if len(costs) < MIN_TRIALS:
        return {}
    surrogates = fit_surrogates(question.encoding, vectors, costs, seed=seed)
    rng = np.random.default_rng(seed)
    rows = _rows(question)
    decompose = _decomposition(question, surrogates, rows, seed=seed)
    space = question.encoding.uniform_rows(NUM_SPACE_ROWS, rng)
    num_functions = FUNCTIONS_PER_DRAW * DRAWS_PER_SCALES
    draws = _draws(surrogates, -(-num_draws // DRAWS_PER_SCALES), rng)

    def draw(given: tuple[Surrogate, Scales, np.random.Generator]) -> _Drawn:
        surrogate, scales, rng = given
        functions = surrogate.draw(surrogate.draw_pairs(scales, rng), rows, space, num_draws=num_functions, rng=rng)
        costs = {name: surrogate.cost_scale.costs(values) for name, values in functions.predictions.items()}
        shares = decompose(functions, costs)
        if surrogate is not surrogates[0]:
            return _Drawn(costs=costs, shares=shares, values=None, effects=None)
        own = functions.predictions
        return _Drawn(costs=costs, shares=shares, values=own, effects=decompose(functions, own))

    drawn: list[_Drawn] = []
    # Array arithmetic lets go of the interpreter, so threads are enough, and the order of results is that of the draws.
    with ThreadPoolExecutor(max_workers=NUM_THREADS) as pool:
        try:
            for number, found in enumerate(pool.map(draw, draws), start=1):
                drawn.append(found)
                if progress is not None:
                    progress(min(number * DRAWS_PER_SCALES, num_draws), num_draws)
        finally:
            pool.shutdown(cancel_futures=True)
    predictions = {name: np.concatenate([each.costs[name] for each in drawn]) for name in rows if name != SPACE}
    values = {
        name: np.concatenate([each.values[name] for each in drawn if each.values is not None]) for name in predictions
    }
    decoys = Decoys(surrogates[0], rng)
    structures = np.repeat([scales.has_interactions for _, scales, _ in draws], num_functions)
    interval = partial(interval_of, structures=structures)
    intervals = _local(question, predictions, values, decoys, interval) | _along_paths(question, predictions, interval)
    intervals |= _of_tuning(question, predictions, values, decoys, interval)
    return intervals | _global(drawn, question, decoys, interval)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Drawn:
    """Functions that were drawn together.

    Args:
        costs: name of rows -> (num_draws, num_rows).
        shares: effects on the cost, if shares of its variance are asked for.
        values: as `costs`, on the most probable scale of the costs; None where the functions are of another.
        effects: on that scale, on which they are told from none: of costs with a long tail a few draws outweigh all others.
    """

    costs: Mapping[str, Floats]
    shares: Decomposition | None
    values: Mapping[str, Floats] | None
    effects: Decomposition | None


def _draws(
    surrogates: Sequence[Surrogate], number: int, rng: np.random.Generator
) -> list[tuple[Surrogate, Scales, np.random.Generator]]:
    """Return surrogates with scales drawn for them, each with random numbers of its own.

    Every second one is of the most probable scale of the costs, and the others share the rest: which scale fits is known from the many
    costs, but shares of the variance are those of the few that lie far above them.
    """
    others = surrogates[1:] or surrogates
    turns = [surrogates[0] if turn % 2 == 0 else others[turn // 2 % len(others)] for turn in range(number)]
    scales = {id(each): iter(each.draw_scales(turns.count(each), rng)) for each in surrogates}
    return [(each, next(scales[id(each)]), stream) for each, stream in zip(turns, rng.spawn(number), strict=True)]


def _decomposition(
    question: Question, surrogates: Sequence[Surrogate], rows: dict[str, Floats], *, seed: int
) -> Callable[[Functions, Mapping[str, Floats]], Decomposition | None]:
    """Return what finds the effects of drawn functions; where it needs their costs all over the space, these join the rows."""
    if question.measure is None:
        return lambda functions, costs: None
    bases = surrogates[0].bases
    if all(each.cost_scale.below is None for each in surrogates):
        exact = Decomposer(question.encoding, bases, seed=seed)
        return lambda functions, costs: exact(functions)
    sampled = SampledDecomposer(question.encoding, bases, seed=seed)
    rows[SPACE] = sampled.rows

    def decompose(functions: Functions, costs: Mapping[str, Floats]) -> Decomposition:
        return sampled(costs[SPACE], functions.triples / functions.predictions[SPACE].var(axis=1))

    return decompose


def _rows(question: Question) -> dict[str, Floats]:
    rows = {}
    if question.neighbours is not None and len(question.neighbours.rows):
        rows["lpi"] = question.neighbours.rows
    if question.steps is not None:
        rows["ablation"] = np.array([question.default, *(step.after for step in question.steps)])
    if question.game is not None:
        rows["shapley"] = question.game.rows
    if question.tuning is not None:
        rows["tunability"] = question.tuning.rows
    return rows


def _local(
    question: Question,
    predictions: Mapping[str, Floats],
    values: Mapping[str, Floats],
    decoys: Decoys,
    interval: Callable[..., Interval],
) -> dict[Key, Interval]:
    """Return the intervals of local importance, from costs and from values on the scale on which effects are told from none."""
    if question.neighbours is None or "lpi" not in predictions:
        return {}
    drawn = predictions["lpi"]
    numbers = {domain.name: number for number, domain in enumerate(question.encoding.domains)}
    found: dict[Key, Interval] = {}
    for name, shares in question.neighbours.shares_of(drawn).items():
        if len(shares) == 0:
            continue
        if name not in numbers:
            found["group lpi", name.removeprefix("group:")] = interval(shares)
            continue
        is_shown = _is_shown(values["lpi"][:, question.neighbours.parts[name]], numbers[name], decoys)
        found["lpi", name] = interval(shares, matters=is_shown)
    return found


def _along_paths(
    question: Question, predictions: Mapping[str, Floats], interval: Callable[..., Interval]
) -> dict[Key, Interval]:
    """Return the intervals of predicted costs along the ablation path and of Shapley values."""
    found: dict[Key, Interval] = {}
    for number, costs in enumerate(predictions["ablation"].T if "ablation" in predictions else []):
        found["ablation", str(number)] = interval(costs)
    if question.game is not None:
        values = question.game.values_of(-predictions["shapley"])
        found |= {("shapley", name): interval(values[:, n]) for n, name in enumerate(question.game.players)}
    return found


def _of_tuning(
    question: Question,
    predictions: Mapping[str, Floats],
    values: Mapping[str, Floats],
    decoys: Decoys,
    interval: Callable[..., Interval],
) -> dict[Key, Interval]:
    """Return the intervals of what tuning single hyperparameters gains over the default, from the same as `_local`."""
    if question.tuning is None:
        return {}
    drawn = predictions["tunability"]
    numbers = {domain.name: number for number, domain in enumerate(question.encoding.domains)}
    found: dict[Key, Interval] = {}
    for name, gains in question.tuning.gains(drawn).items():
        found_gain = interval(gains)
        # A hyperparameter may have an effect, and the default its best value.
        own = values["tunability"][:, question.tuning.parts[name]]
        is_shown = found_gain.low > 0 and _is_shown(own, numbers[name], decoys)
        found["tunability", name] = replace(found_gain, low=found_gain.low if is_shown else 0.0, matters=is_shown)
    return found


def _is_shown(drawn: Floats, number: int, decoys: Decoys) -> bool:
    """Return whether functions at a hyperparameter's values, (num_draws, num_values), differ by more than its decoys and the draws do."""
    return decoys.anywhere(number) and is_away((drawn - drawn.mean(axis=1, keepdims=True)).T)


def _global(
    drawn: Sequence[_Drawn], question: Question, decoys: Decoys, interval: Callable[..., Interval]
) -> dict[Key, Interval]:
    """Return the intervals of shares of the variance over the whole space."""
    parts = [each.shares for each in drawn if each.shares is not None]
    if not parts:
        return {}
    own = [each.effects for each in drawn if each.effects is not None]
    names = [domain.name for domain in question.encoding.domains]
    total = np.concatenate([each.total for each in parts])
    found: dict[Key, Interval] = {}
    shares: dict[tuple[int, ...], Floats] = {}
    for number, name in enumerate(names):
        shares[(number,)] = (np.hstack([each.mains[number] for each in parts]) ** 2).sum(axis=0) / total
        is_shown = decoys.alone((number,)) and is_away(np.hstack([each.mains[number] for each in own]))
        found["fanova", name] = interval(shares[(number,)], matters=is_shown)
    for i, j in combinations(range(len(names)), 2):
        shares[i, j] = (np.hstack([each.pairs[i, j] for each in parts]) ** 2).sum(axis=0) / total
        is_shown = decoys.alone((i, j)) and is_away(np.hstack([each.pairs[i, j] for each in own]))
        found["fanova", names[i], names[j]] = interval(shares[i, j], matters=is_shown)
    assert question.measure is not None
    for group in question.measure.groups:
        members = {names.index(name) for factor in question.measure.groups[group].factors for name in factor[1]}
        joint = sum(share for numbers, share in shares.items() if members.issuperset(numbers))
        found["group fanova", group] = interval(np.asarray(joint))
    return found


def interval_of(values: Floats, *, structures: Flags | None = None, matters: bool | None = None) -> Interval:
    """Return the interval that holds 95 % of draws, of each structure if they are of two; that of what is not shown begins at 0.

    Args:
        values: (num_draws,).
        structures: (num_draws,) of which of two structures each is; None for one.
        matters: whether an effect was shown, None where that is not asked.
    """
    parts = [values] if structures is None else [values[structures == each] for each in np.unique(structures)]
    lows, highs = zip(
        *(np.percentile(part, [50 * (1 - CONFIDENCE), 50 * (1 + CONFIDENCE)]) for part in parts), strict=True
    )
    return Interval(
        low=0.0 if matters is False else float(min(lows)), high=float(max(highs)), draws=values, matters=matters
    )


def with_interval(found: Estimate, interval: Interval | None, *, is_share: bool = False) -> Estimate:
    """Return an estimate with an interval that holds it; of a share of the variance, one that begins next to 0 begins at 0."""
    if found.mean is None or interval is None:
        return found
    # Forest and process are two models of the same trials: where they disagree, the interval holds the forest's estimate too.
    low, high = min(interval.low, found.mean), max(interval.high, found.mean)
    if is_share and interval.matters and low < SMALLEST_SHOWN:
        return replace(found, low=0.0, high=high, matters=False)
    return replace(found, low=low, high=high, matters=interval.matters)


def is_away(effect: Floats) -> bool:
    """Return whether zero lies outside the region around the mean effect, (num_dimensions, num_draws), that holds 95 % of draws."""
    mean = effect.mean(axis=1, keepdims=True)
    return bool((mean**2).sum() > np.quantile(((effect - mean) ** 2).sum(axis=0), CONFIDENCE))


class Decoys:
    """Permuted copies of hyperparameters and pairs (Kursa and Rudnicki's Boruta, J. Statistical Software 2010).

    What is compared is the score of an effect given all others in the surrogate: the squared length of its functions' products with what
    the others leave unexplained.
    """

    def __init__(self, surrogate: Surrogate, rng: np.random.Generator) -> None:
        self._surrogate = surrogate
        # Of all trials: those that are spread over the space may be too few to tell an effect from none.
        self._sample = surrogate.sample()
        self._factor = cholesky(self._sample.covariance, lower=True)
        self._weights: Floats = cho_solve((self._factor, True), self._sample.costs)
        num = len(self._sample.costs)
        self._orders = np.stack([rng.permutation(num) for _ in range(NUM_DECOYS)], axis=1)
        self._anywhere: dict[int, bool] = {}

    def alone(self, numbers: tuple[int, ...]) -> bool:
        """Return whether the effect of one hyperparameter alone, or of two beyond what each explains, exceeds its decoys."""
        scales = self._surrogate.best
        columns, variances = self._sample.features[numbers[0]], self._surrogate.bases[numbers[0]].variances
        size = scales.hyperparameters[numbers[0]]
        if len(numbers) == 2:
            other = self._sample.features[numbers[1]]
            columns = (columns[:, :, None] * other[:, None, :]).reshape(len(columns), -1)
            variances = np.multiply.outer(variances, self._surrogate.bases[numbers[1]].variances).reshape(-1)
            size = size * scales.hyperparameters[numbers[1]] * scales.pairs
        # Without the effect: Woodbury's identity for the covariance less its columns.
        solved = cho_solve((self._factor, True), columns)
        inner = np.diag(1 / (size * variances)) - columns.T @ solved
        left = self._weights + solved @ np.linalg.solve(inner, columns.T @ self._weights)
        return self._exceeds((columns.T @ left)[:, None], columns.T @ left[self._orders], variances)

    def anywhere(self, number: int) -> bool:
        """Return whether a hyperparameter, with all its interactions, exceeds its decoys."""
        if number not in self._anywhere:
            self._anywhere[number] = self._is_anywhere(number)
        return self._anywhere[number]

    def _is_anywhere(self, number: int) -> bool:
        kernel, beside = self._sample.parts[number]
        factor = cholesky(self._sample.covariance - kernel * beside, lower=True)
        left = cho_solve((factor, True), self._sample.costs)
        columns, variances = self._sample.features[number], self._surrogate.bases[number].variances
        orders = np.column_stack([np.arange(len(left)), self._orders])
        scores = np.zeros(orders.shape[1])
        for column, variance in zip(columns.T, variances, strict=True):
            weighted = column[orders] * left[:, None]
            scores += variance * (weighted * (beside @ weighted)).sum(axis=0)
        return bool(scores[0] > np.quantile(scores[1:], CONFIDENCE))

    @staticmethod
    def _exceeds(own: Floats, decoys: Floats, variances: Floats) -> bool:
        score, others = variances @ own**2, variances @ decoys**2
        return bool(score[0] > np.quantile(others, CONFIDENCE))
