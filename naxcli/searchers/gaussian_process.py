"""A Gaussian process of the costs of a mixed space, with a weight per hyperparameter and the fidelity as one more dimension.

Papers: Rasmussen and Williams, "Gaussian Processes for Machine Learning" (2006), sections 2.2 and 5.4; Hutter, "Automated
Configuration of Algorithms for Solving Hard Computational Problems" (2009), for the Hamming distance of categories.

The kernel is exp(-sum of w_j d_j). The distance d_j of two choices is 0 or 1, that of two numbers the square of their difference
on the unit scale; an inactive hyperparameter is one more choice. Weights and noise maximise the posterior density; mean and
variance of the process are those of maximum likelihood, given the others.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
from scipy.linalg import cho_solve, cholesky, solve_triangular
from scipy.optimize import minimize

if TYPE_CHECKING:
    from ConfigSpace import ConfigurationSpace

Rows = npt.NDArray[np.float64]  # (num_rows, num_columns)
Values = npt.NDArray[np.float64]  # (num_rows,)

# Mean and width of the logarithms' normal priors: of the weights of choices and of numbers, and of the noise, as a share of the variance.
CHOICE_WEIGHT = (np.log(0.5), 1.0)
NUMBER_WEIGHT = (np.log(2.0), 1.0)
NOISE = (np.log(0.01), 1.5)
LOG_BOUNDS = (-14.0, 4.0)
MIN_EXPONENT = -50.0  # products of smaller correlations are denormal numbers, which processors are slow with
MAX_ITERATIONS = 40
MIN_VARIANCE = 1e-10
INACTIVE_PLACE = 0.5  # of a number; that it is inactive is in another column
ROWS_AT_ONCE = 2048  # their correlations stay in the processor's cache


class Embedding:
    """Places configurations so that squared distances, weighted by column, are the kernel's exponent.

    A choice is one column per value, and one for inactive where it can be; a number, or a choice of two, is its place on the unit scale,
    and whether it is active. The fidelity is the last column.
    """

    def __init__(self, configuration_space: ConfigurationSpace) -> None:
        from ConfigSpace import CategoricalHyperparameter, OrdinalHyperparameter

        self._num_choices: list[int] = []  # of each hyperparameter, 0 where it is one place
        self._spans: list[float] = []  # of a place in ConfigSpace's vectors
        self._is_conditional: list[bool] = []
        owners: list[int] = []
        factors: list[float] = []
        is_number: list[bool] = []
        for owner, (name, hyperparameter) in enumerate(configuration_space.items()):
            is_conditional = bool(configuration_space.parents_of[name])
            is_choice = isinstance(hyperparameter, CategoricalHyperparameter)
            num_choices = int(hyperparameter.size) if is_choice and (is_conditional or hyperparameter.size > 2) else 0
            is_counted = is_choice or isinstance(hyperparameter, OrdinalHyperparameter)
            self._num_choices.append(num_choices)
            self._spans.append(max(1.0, hyperparameter.size - 1.0) if is_counted else 1.0)
            self._is_conditional.append(is_conditional)
            is_number.append(not is_choice)
            # Two values of a choice differ in two columns.
            added = [0.5 if num_choices else 1.0] * ((num_choices or 1) + is_conditional)
            owners += [owner] * len(added)
            factors += added
        self.owners = np.array([*owners, len(is_number)])  # the weight that each column shares in
        self.factors = np.array([*factors, 1.0])
        self.is_number = np.array([*is_number, True])  # of each weight

    def __call__(self, vectors: Rows, heights: Values | float) -> Rows:
        """Return (num_vectors, num_columns) of ConfigSpace's vectors at fidelities, which are given on the unit scale."""
        points = np.empty((len(vectors), len(self.owners)), order="F")  # filled by column
        column = 0
        parts = zip(self._num_choices, self._spans, self._is_conditional, vectors.T, strict=True)
        for num_choices, span, is_conditional, values in parts:
            is_active = np.isfinite(values)
            columns = [values == choice for choice in range(num_choices)]
            if not columns:
                columns = [np.where(is_active, values / span, INACTIVE_PLACE)]
            if is_conditional:
                columns.append(~is_active)
            for filled in columns:
                points[:, column] = filled
                column += 1
        points[:, column] = heights
        return points


@dataclass(frozen=True, slots=True, kw_only=True)
class Kernel:
    """Weights per hyperparameter and of the fidelity, (num_weights,), and the noise as a share of the process's variance."""

    weights: Values
    noise: float


def fitted_kernel(embedding: Embedding, points: Rows, targets: Values) -> Kernel:
    """Return the kernel of highest posterior density near the middle of the prior, from where the search for it starts.

    What it starts from does not depend on earlier fits, so that the same trials always give the same kernel.
    """
    num_points, num_weights = len(points), len(embedding.is_number)
    distances = np.zeros((num_weights, num_points, num_points))
    for column, (owner, factor) in enumerate(zip(embedding.owners, embedding.factors, strict=True)):
        distances[owner] += factor * (points[:, column, None] - points[:, column]) ** 2
    varied = np.flatnonzero(distances.any(axis=(1, 2)))
    flat = distances[varied].reshape(len(varied), num_points**2)
    priors = np.array([NUMBER_WEIGHT if is_number else CHOICE_WEIGHT for is_number in embedding.is_number])
    middle, width = np.array([*priors[varied], NOISE]).T
    scale = float(targets.std())
    y = (targets - targets.mean()) / (scale if scale > 0 else 1.0)

    def loss(logarithms: Values) -> tuple[float, Values]:
        """Return the negative logarithm of the posterior density, and its gradient."""
        weights, noise = np.exp(logarithms[:-1]), float(np.exp(logarithms[-1]))
        correlation = np.exp(-(weights @ flat)).reshape(num_points, num_points)
        factor = cholesky(correlation + (noise + MIN_VARIANCE) * np.eye(num_points), lower=True, check_finite=False)
        inverse = cho_solve((factor, True), np.eye(num_points), check_finite=False)
        residual = y - inverse.sum(axis=0) @ y / inverse.sum()
        solved = inverse @ residual
        variance = residual @ solved / num_points + MIN_VARIANCE
        outer = inverse - np.outer(solved, solved) / variance
        deviation = (logarithms - middle) / width
        likelihood = num_points / 2 * np.log(variance) + np.log(np.diag(factor)).sum()
        slopes = -weights * (flat @ (outer * correlation).ravel()) / 2
        gradient = np.array([*slopes, noise * np.trace(outer) / 2]) + deviation / width
        return float(likelihood + (deviation**2).sum() / 2), gradient

    bounds = [LOG_BOUNDS] * len(middle)
    found = minimize(loss, middle, jac=True, method="L-BFGS-B", bounds=bounds, options={"maxiter": MAX_ITERATIONS}).x
    weights = np.exp(priors[:, 0])
    weights[varied] = np.exp(found[:-1])
    return Kernel(weights=weights, noise=float(np.exp(found[-1])))


class GaussianProcess:
    """The process, given the results of trials.

    Args:
        embedding: of the space.
        kernel: of the process.
        points: (num_trials, num_columns) of the embedding.
        targets: (num_trials,), what was found there.
        variance: of the process; None is that of maximum likelihood.
    """

    def __init__(
        self, embedding: Embedding, kernel: Kernel, *, points: Rows, targets: Values, variance: float | None = None
    ) -> None:
        self._embedding, self._kernel, self._points, self._targets = embedding, kernel, points, targets
        self._stretch = np.sqrt(kernel.weights[embedding.owners] * embedding.factors)
        place = points * self._stretch
        # The exponent -|a - b|^2 is one product of matrices: of [2a, -|a|^2, 1] and [b, 1, -|b|^2].
        self._right = np.column_stack([place, np.ones(len(place)), -np.square(place).sum(axis=1)]).T
        covariance = self._correlation(points)
        covariance[np.diag_indices_from(covariance)] += kernel.noise + MIN_VARIANCE
        factor = cholesky(covariance, lower=True, check_finite=False)
        self._whitening = solve_triangular(factor, np.eye(len(points)), lower=True, check_finite=False).T
        self._ones = self._solve(np.ones(len(points)))
        self._mean = float(self._ones @ targets / self._ones.sum())
        self._solved = self._solve(targets - self._mean)
        likeliest = float((targets - self._mean) @ self._solved) / len(targets)
        self._variance = max(likeliest if variance is None else variance, MIN_VARIANCE)

    def predict(self, points: Rows) -> tuple[Values, Values]:
        """Return mean and standard deviation, (num_points,) each, of the cost without noise."""
        means, variances = np.empty(len(points)), np.empty(len(points))
        for start in range(0, len(points), ROWS_AT_ONCE):
            rows = slice(start, start + ROWS_AT_ONCE)
            correlation = self._correlation(points[rows])
            means[rows] = self._mean + correlation @ self._solved
            variances[rows] = 1 - np.square(correlation @ self._whitening).sum(axis=1)
        return means, np.sqrt(self._variance * np.maximum(variances, MIN_VARIANCE))

    def mean(self, points: Rows) -> Values:
        """Return the mean alone, (num_points,), which takes less time."""
        blocks = range(0, len(points), ROWS_AT_ONCE)
        parts = [self._correlation(points[start : start + ROWS_AT_ONCE]) @ self._solved for start in blocks]
        mean: Values = self._mean + np.concatenate(parts)
        return mean

    def left_out(self) -> Values:
        """Return what each trial's target is predicted to be from all the others, (num_trials,), with the same kernel.

        Dubrule, "Cross Validation of Kriging in a Unique Neighborhood", Mathematical Geology 15 (1983).
        """
        diagonal = np.square(self._whitening).sum(axis=1) - np.square(self._ones) / self._ones.sum()
        predicted: Values = self._targets - self._solved / np.maximum(diagonal, MIN_VARIANCE)
        return predicted

    def believing(self, points: Rows) -> GaussianProcess:
        """Return the process that takes its own mean for the results at points where trials are still running."""
        return GaussianProcess(
            self._embedding,
            self._kernel,
            points=np.concatenate([self._points, points]),
            targets=np.concatenate([self._targets, self.predict(points)[0]]),
            variance=self._variance,
        )

    def _correlation(self, points: Rows) -> Rows:
        """Return the correlations of points with those of the trials, (num_points, num_trials)."""
        place = points * self._stretch
        left = np.column_stack([2 * place, -np.square(place).sum(axis=1), np.ones(len(place))])
        exponent = left @ self._right
        np.clip(exponent, MIN_EXPONENT, 0.0, out=exponent)
        correlation: Rows = np.exp(exponent, out=exponent)
        return correlation

    def _solve(self, right: Values) -> Values:
        solved: Values = self._whitening @ (right @ self._whitening)
        return solved
