"""Where a learning curve ends: a power law through its epochs so far, with what earlier curves and the ensemble know of the end.

Protocol: Adriaensen, Rakotoarison, Müller, Hutter, "Efficient Bayesian Learning Curve Extrapolation using Prior-Data Fitted Networks"
(LC-PFN), NeurIPS 2023: after each epoch a training ends where its chance to beat the best cost so far is below 5 %.

The model: log cost(t) = end + b · (t^-α - T^-α) + noise, a Gaussian posterior of `end` and b in closed form for each exponent of a
grid, mixed by how well each explains the curve. The prior of `end` is the ensemble's prediction for the configuration, as wide as its
errors on configurations that it had not learned; those of b and the noise come from the complete curves so far. Learning rates that decay
make curves that are no power laws: what the model says after an epoch is therefore moved and widened by how it was wrong after that epoch
on the complete curves, those most that stood there where this one stands. The chance is Student's, for few curves tell little of its tails.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from naxcli.measure.threads import one_thread
from naxcli.searchers.deep_ensemble import Ensemble

Values = npt.NDArray[np.float64]

EXPONENTS = (0.1, 0.25, 0.5, 1.0, 2.0)
MIN_CURVES = 10  # complete ones, before any forecast
MIN_CHANCE = 0.05
MIN_COST = 1e-5
TINY = 1e-12


@dataclass(frozen=True, slots=True, kw_only=True)
class PowerLaws:
    """What complete curves tell of the power laws of each exponent: mean and variance of b, and the variance of the noise."""

    slope: tuple[float, ...]
    slope_variance: tuple[float, ...]
    noise_variance: tuple[float, ...]

    @classmethod
    def of(cls, curves: Values) -> PowerLaws:
        """Return those of complete curves, (num_curves, num_epochs)."""
        ends = curves[:, -1:]
        slopes, variances, noises = [], [], []
        for basis in _bases(curves.shape[1]):
            b = (curves - ends) @ basis / max(float(basis @ basis), TINY)
            slopes.append(float(b.mean()))
            variances.append(float(b.var()) + TINY)
            noises.append(float(((curves - ends - b[:, None] * basis) ** 2).mean()) + TINY)
        return cls(slope=tuple(slopes), slope_variance=tuple(variances), noise_variance=tuple(noises))

    def ends(self, curves: Values, means: Values, variance: float, num_epochs: int) -> tuple[Values, Values]:
        """Return mean and standard deviation of the end after each epoch, (num_curves, num_known_epochs) each.

        Args:
            curves: logarithms of the costs of the epochs so far, (num_curves, num_known_epochs).
            means: prior means of the ends, (num_curves,).
            variance: prior variance of the ends.
            num_epochs: length of a complete curve.
        """
        num_known = curves.shape[1]
        number = np.arange(1, num_known + 1)

        def so_far(values: Values) -> Values:
            """Sum over the epochs until each, the later ones with more weight: errors of neighbouring epochs are alike."""
            summed: Values = np.cumsum(number * values, axis=-1) / number
            return summed

        prior = means[:, None]
        found, spreads, evidences = [], [], []
        for place, whole in enumerate(_bases(num_epochs)):
            basis, noise = whole[:num_known], self.noise_variance[place]
            slope, slope_variance = self.slope[place], self.slope_variance[place]
            a = 1 / variance + so_far(np.ones(num_known)) / noise
            c = so_far(basis) / noise
            d = 1 / slope_variance + so_far(basis**2) / noise
            first = prior / variance + so_far(curves) / noise
            second = slope / slope_variance + so_far(basis * curves) / noise
            determinant = a * d - c**2
            end, b = (d * first - c * second) / determinant, (a * second - c * first) / determinant
            residual = so_far(curves**2) / noise + prior**2 / variance + slope**2 / slope_variance
            residual = residual - end * first - b * second
            weight = so_far(np.ones(num_known))
            found.append(end)
            spreads.append(np.broadcast_to(d / determinant, end.shape))
            evidences.append(-0.5 * (residual + np.log(determinant) + np.log(slope_variance) + weight * np.log(noise)))
        evidence = np.stack(evidences)
        shares = np.exp(evidence - evidence.max(axis=0))
        shares /= shares.sum(axis=0)
        mean: Values = (shares * np.stack(found)).sum(axis=0)
        second_moment = (shares * (np.stack(spreads) + np.stack(found) ** 2)).sum(axis=0)
        return mean, np.sqrt(np.maximum(second_moment - mean**2, TINY))


@dataclass(frozen=True, slots=True, kw_only=True)
class Forecast:
    """What is known of a trial's curve before it begins; plain numbers, for it is sent to where the trial runs.

    Args:
        incumbent: Cost to beat at the end.
        num_epochs: Length of a complete curve.
        mean: Of the logarithm of the end, before the first epoch.
        variance: Of the same.
        laws: Of the complete curves.
        curves: The complete curves, logarithms of costs, (num_curves, num_epochs).
        errors: By how much each ended above what the model said after each epoch, like `curves`.
        spread: The standard deviations that the model stated then, like `curves`.
    """

    incumbent: float
    num_epochs: int
    mean: float
    variance: float
    laws: PowerLaws
    curves: tuple[tuple[float, ...], ...]
    errors: tuple[tuple[float, ...], ...]
    spread: tuple[tuple[float, ...], ...]

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Forecast:
        """Return the forecast of `dataclasses.asdict`."""
        tables = {name: _rows(values[name]) for name in ("curves", "errors", "spread")}
        laws = PowerLaws(**{name: tuple(numbers) for name, numbers in values["laws"].items()})
        return cls(**{**values, **tables, "laws": laws})

    def end(self, curve: Sequence[float]) -> float:
        """Return the cost that is expected at the end, given those of the first epochs."""
        return float(np.exp(self._end(curve)[0]))

    def chance(self, curve: Sequence[float]) -> float:
        """Return the chance that a trial beats the incumbent at its end, given the costs of its first epochs."""
        from scipy.special import stdtr  # not above: what only passes a forecast on starts quickly

        mean, std, freedom = self._end(curve)
        return float(stdtr(freedom, (_logarithm(self.incumbent) - mean) / std))

    def _end(self, curve: Sequence[float]) -> tuple[float, float, float]:
        """Return mean, standard deviation and degrees of freedom of the logarithm of the cost at the end."""
        logs, place = _logarithm([curve]), len(curve) - 1
        mean, std = self.laws.ends(logs, np.array([self.mean]), self.variance, self.num_epochs)
        stood, errors, spread = (np.array(values)[:, place] for values in (self.curves, self.errors, self.spread))
        width = max(float(stood.std()), TINY) * len(stood) ** -0.2
        shares = np.exp(-(((stood - logs[0, place]) / width) ** 2) / 2) + TINY
        shares /= shares.sum()
        shift = float(shares @ errors)
        widening = float(shares @ ((errors - shift) / spread) ** 2) ** 0.5
        num = 1 / float(shares @ shares)  # curves of equal shares that would tell as much
        widening = max(widening, 1.0) * (1 + 1 / num) ** 0.5
        return float(mean[0, -1]) + shift, float(std[0, -1]) * widening, max(1.0, num - 1)


def make_forecast(
    start: Ensemble,
    *,
    inputs: npt.NDArray[np.float32],
    costs: Values,
    curves: Sequence[Sequence[float] | None],
    candidate: npt.NDArray[np.float32],
    incumbent: float,
) -> Forecast | None:
    """Return the forecast of a trial from the trials before it; None while those with a complete curve are few.

    Args:
        start: Members that have learned no costs.
        inputs: Of all trials that ended with a cost, or whose cost was predicted, (num_trials, num_columns).
        costs: Theirs, (num_trials,).
        curves: Their complete curves of costs, all of the same length; None of one that has none.
        candidate: Input of the new trial, (1, num_columns).
        incumbent: Cost to beat.
    """
    rows = [index for index, curve in enumerate(curves) if curve is not None]
    if len(rows) < MIN_CURVES:
        return None
    complete = _logarithm([curves[index] for index in rows])
    costs = _logarithm(costs)
    num_epochs, fidelities = complete.shape[1], np.ones(len(costs))
    with one_thread():
        mean = start.fitted(inputs, fidelities, costs).predict(candidate)[0]
        held_out = np.empty(len(costs))
        for half in (slice(0, None, 2), slice(1, None, 2)):
            others = np.ones(len(costs), dtype=np.bool_)
            others[half] = False
            learned = start.fitted(inputs[others], fidelities[others], costs[others])
            held_out[half] = learned.predict(inputs[half])[0]
    means, ends = held_out[rows], complete[:, -1]
    variance = float(((ends - means) ** 2).mean()) + TINY
    laws = PowerLaws.of(complete)
    found, spread = laws.ends(complete, means, variance, num_epochs)
    return Forecast(
        incumbent=incumbent,
        num_epochs=num_epochs,
        mean=float(mean[0]),
        variance=variance,
        laws=laws,
        curves=_rows(complete),
        errors=_rows(ends[:, None] - found),
        spread=_rows(spread),
    )


def _logarithm(costs: Any) -> Values:
    """Return the logarithms of costs, where errors are of one size; of a cost below any that can be measured, that of such a cost."""
    logarithms: Values = np.log(np.maximum(np.asarray(costs, dtype=np.float64), MIN_COST))
    return logarithms


def _rows(table: Any) -> tuple[tuple[float, ...], ...]:
    """Return a table as plain numbers."""
    return tuple(tuple(float(value) for value in row) for row in table)


def _bases(num_epochs: int) -> list[Values]:
    """Return t^-α - T^-α of each exponent at the epochs 1 to T, (num_epochs,) each."""
    epochs = np.arange(1, num_epochs + 1, dtype=np.float64)
    return [epochs**-exponent - float(num_epochs) ** -exponent for exponent in EXPONENTS]
