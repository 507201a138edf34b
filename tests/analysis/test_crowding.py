"""Which trials stand for the space where others crowd."""

from __future__ import annotations

import numpy as np
import pytest
from ConfigSpace import Categorical, ConfigurationSpace, EqualsCondition, Float, OrdinalHyperparameter

from naxcli.analysis.crowding import spread_out
from naxcli.analysis.encoding import Encoding, Floats


def choices() -> ConfigurationSpace:
    space = ConfigurationSpace()
    space.add(*(Categorical(f"layer_{number}", ["a", "b", "c"]) for number in range(8)))
    return space


def mixed() -> ConfigurationSpace:
    space = ConfigurationSpace()
    se, ratio = Categorical("se", [False, True]), OrdinalHyperparameter("ratio", [2, 4, 8])
    space.add(
        Float("rate", (1e-4, 1.0), log=True), Float("drop", (0.0, 0.5)), Categorical("kind", [0, 1, 2]), se, ratio
    )
    space.add(EqualsCondition(ratio, se, True))
    return space


SPACES = {"choices": choices, "mixed": mixed}


@pytest.fixture(params=SPACES)
def encoding(request: pytest.FixtureRequest) -> Encoding:
    return Encoding(SPACES[request.param]())


def around(encoding: Encoding, centre: Floats, number: int, rng: np.random.Generator) -> Floats:
    """Return rows that differ from a centre in one hyperparameter at most."""
    rows = np.repeat(centre[None], number, axis=0)
    for row, other in zip(rows, encoding.uniform_rows(number, rng), strict=True):
        index = rng.integers(len(row))
        row[index] = other[index]
    return encoding.repair(rows)


def taken(encoding: Encoding, vectors: Floats, *, at_most: int = 1_000, seed: int = 0) -> list[int]:
    return spread_out(encoding, vectors, at_most=at_most, rng=np.random.default_rng(seed)).tolist()


@pytest.mark.parametrize("number", [1, 2, 50, 300])
def test_of_random_trials_all_are_taken(encoding: Encoding, number: int) -> None:
    vectors = encoding.uniform_rows(number, np.random.default_rng(1))
    assert taken(encoding, vectors) == list(range(number))
    assert taken(encoding, np.repeat(vectors, 3, axis=0)) == list(range(3 * number))  # as many seeds of each


def test_of_a_crowd_few_are_taken_and_of_what_lies_outside_most(encoding: Encoding) -> None:
    rng = np.random.default_rng(2)
    outside = encoding.uniform_rows(40, rng)
    vectors = np.concatenate([outside, around(encoding, outside[0], 160, rng)])
    found = np.array(taken(encoding, vectors))
    assert len(found) < 100
    assert (found < 40).sum() > 20
    assert (found >= 40).sum() < 80
    assert taken(encoding, vectors) == found.tolist()  # of one seed the same


def test_no_more_are_taken_than_asked_for(encoding: Encoding) -> None:
    vectors = encoding.uniform_rows(50, np.random.default_rng(3))
    found = taken(encoding, vectors, at_most=20)
    assert len(found) == len(set(found)) == 20
    assert found == sorted(found)


def test_trials_of_one_configuration_make_no_error(encoding: Encoding) -> None:
    vectors = np.repeat(encoding.defaults[None], 30, axis=0)
    assert 1 <= len(taken(encoding, encoding.repair(vectors))) <= 30
