"""The Gaussian process: its distances, its posterior against the textbook's, and what makes its fit repeatable."""

from __future__ import annotations

import numpy as np
import pytest
from ConfigSpace import Categorical, ConfigurationSpace, EqualsCondition, Float, OrdinalHyperparameter

from naxcli.search_space.contract import to_configuration
from naxcli.search_space.enumeration import sample_vectors
from naxcli.searchers.gaussian_process import Embedding, GaussianProcess, Kernel, fitted_kernel


def space() -> ConfigurationSpace:
    configuration_space = ConfigurationSpace(seed=0)
    kind, bit = Categorical("kind", ["a", "b", "c"]), Categorical("bit", [False, True])
    size, rate = OrdinalHyperparameter("size", [3, 5, 7, 9]), Float("rate", (1e-4, 1.0), log=True)
    sub, inner = Categorical("sub", ["x", "y"]), Float("inner", (0.0, 1.0))
    configuration_space.add(kind, bit, size, rate, sub, inner)
    configuration_space.add(EqualsCondition(sub, kind, "a"), EqualsCondition(inner, kind, "b"))
    return configuration_space


def distance(
    first: dict[str, object], second: dict[str, object], weights: dict[str, float], heights: tuple[float, float]
) -> float:
    """Return the weighted squared distance that the kernel sees."""
    configuration_space = space()
    embedding = Embedding(configuration_space)
    vectors = [to_configuration(configuration_space, config).get_array() for config in (first, second)]  # type: ignore[arg-type]
    points = embedding(np.stack(vectors), np.array(heights))
    by_owner = np.array([*(weights.get(name, 0.0) for name in configuration_space), weights.get("fidelity", 0.0)])
    return float((by_owner[embedding.owners] * embedding.factors * (points[0] - points[1]) ** 2).sum())


A = {"kind": "a", "bit": False, "size": 3, "rate": 1e-4, "sub": "x"}
B = {"kind": "b", "bit": True, "size": 9, "rate": 1e-2, "inner": 0.5}
C = {"kind": "c", "bit": True, "size": 5, "rate": 1.0}


@pytest.mark.parametrize(
    ("name", "first", "second", "expected"),
    [
        ("kind", A, B, 1.0),
        ("kind", A, A, 0.0),
        ("bit", A, B, 1.0),
        ("bit", B, C, 0.0),
        ("size", A, B, 1.0),
        ("size", A, C, (1 / 3) ** 2),
        ("rate", A, B, 0.25),
        ("rate", A, C, 1.0),
        ("sub", A, B, 1.0),
        ("sub", B, C, 0.0),
        ("inner", B, C, 1.0),
        ("inner", A, C, 0.0),
        ("fidelity", A, A, 0.16),
    ],
)
def test_distances_are_those_of_choices_of_numbers_and_of_being_active(
    name: str, first: dict[str, object], second: dict[str, object], expected: float
) -> None:
    assert distance(first, second, {name: 1.0}, (0.2, 0.6)) == pytest.approx(expected)


def process_of(
    num_trials: int, *, noise: float = 0.01
) -> tuple[GaussianProcess, Embedding, Kernel, np.ndarray, np.ndarray]:
    configuration_space = space()
    embedding = Embedding(configuration_space)
    points = embedding(sample_vectors(configuration_space, num_trials, 3), np.linspace(0, 1, num_trials))
    targets = np.random.default_rng(0).normal(size=num_trials)
    kernel = Kernel(weights=np.linspace(0.2, 1.5, len(embedding.is_number)), noise=noise)
    return GaussianProcess(embedding, kernel, points=points, targets=targets), embedding, kernel, points, targets


def test_the_prediction_is_that_of_the_textbook() -> None:
    """Rasmussen and Williams, equations 2.25 and 2.26, with the mean and variance of maximum likelihood."""
    process, embedding, kernel, points, targets = process_of(25)
    tests = embedding(sample_vectors(space(), 3000, 9), 1.0)  # more than one block of rows
    weights = kernel.weights[embedding.owners] * embedding.factors

    def correlation(first: np.ndarray, second: np.ndarray) -> np.ndarray:
        return np.array([np.exp(-(weights * (row - second) ** 2).sum(axis=1)) for row in first])

    inverse = np.linalg.inv(correlation(points, points) + kernel.noise * np.eye(25))
    mean = inverse.sum(axis=0) @ targets / inverse.sum()
    variance = (targets - mean) @ inverse @ (targets - mean) / 25
    between = correlation(tests, points)
    expected = mean + between @ inverse @ (targets - mean)
    left = variance * (1 - np.einsum("ij,jk,ik->i", between, inverse, between))
    found_mean, found_std = process.predict(tests)
    np.testing.assert_allclose(found_mean, expected, atol=1e-6)
    np.testing.assert_allclose(found_std, np.sqrt(left), rtol=1e-4)


def test_each_target_is_predicted_from_the_others_as_if_it_were_not_there() -> None:
    process, embedding, kernel, points, targets = process_of(12)
    for index in range(12):
        others = np.delete(np.arange(12), index)
        without = GaussianProcess(embedding, kernel, points=points[others], targets=targets[others])
        assert process.left_out()[index] == pytest.approx(without.predict(points[[index]])[0][0], abs=1e-6)
    np.testing.assert_allclose(process.mean(points), process.predict(points)[0])


def test_a_running_trial_leaves_the_mean_and_takes_the_doubt_away_where_it_is() -> None:
    process, embedding, *_ = process_of(25)
    running = embedding(sample_vectors(space(), 2, 17), 1.0)
    others = embedding(sample_vectors(space(), 50, 21), 1.0)
    believing = process.believing(running)
    before, after = process.predict(others), believing.predict(others)
    np.testing.assert_allclose(before[0], after[0], atol=0.05)
    assert (after[1] <= before[1] + 1e-9).all()
    assert (believing.predict(running)[1] < 0.3 * process.predict(running)[1]).all()


def test_the_gradient_leads_to_weights_that_tell_what_matters_from_what_does_not() -> None:
    configuration_space = space()
    embedding = Embedding(configuration_space)
    vectors = sample_vectors(configuration_space, 60, 1)
    index_of = configuration_space.index_of
    kernel = fitted_kernel(
        embedding, embedding(vectors, 1.0), 2 * vectors[:, index_of["bit"]] + 0.3 * vectors[:, index_of["kind"]]
    )
    assert kernel.weights[index_of["bit"]] > 3 * kernel.weights[index_of["rate"]]
    assert kernel.weights[index_of["kind"]] > kernel.weights[index_of["sub"]]
    assert kernel.noise < 0.01


def test_noise_is_noticed() -> None:
    embedding = Embedding(space())
    points = embedding(sample_vectors(space(), 60, 1), 1.0)
    kernel = fitted_kernel(embedding, points, np.random.default_rng(5).normal(size=60))
    mean, _ = GaussianProcess(
        embedding, kernel, points=points, targets=np.random.default_rng(5).normal(size=60)
    ).predict(points)
    assert mean.std() < 0.6, "a model of noise alone must not repeat it"


@pytest.mark.parametrize("targets", [[0.3], [0.5] * 6, [0.0, 1e-12, 0.0], [1e9, -1e9]])
def test_one_value_ties_and_extremes_have_a_finite_prediction(targets: list[float]) -> None:
    embedding = Embedding(space())
    vectors = sample_vectors(space(), len(targets), 1)
    points = embedding(np.repeat(vectors[:1], len(targets), axis=0) if targets[0] == 0.5 else vectors, 1.0)
    kernel = fitted_kernel(embedding, points, np.array(targets))
    mean, std = GaussianProcess(embedding, kernel, points=points, targets=np.array(targets)).predict(
        embedding(sample_vectors(space(), 40, 2), 1.0)
    )
    assert np.isfinite(mean).all() and np.isfinite(std).all() and (std > 0).all()
