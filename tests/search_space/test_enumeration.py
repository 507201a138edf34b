"""Counting and enumerating: against every combination of values, checked one by one by ConfigSpace."""

from __future__ import annotations

import functools
import itertools
import warnings

import numpy as np
import pytest
from ConfigSpace import (
    AndConjunction,
    Categorical,
    Configuration,
    ConfigurationSpace,
    Constant,
    EqualsCondition,
    Float,
    ForbiddenAndConjunction,
    ForbiddenEqualsClause,
    ForbiddenInClause,
    ForbiddenLessThanRelation,
    GreaterThanCondition,
    InCondition,
    Integer,
    NotEqualsCondition,
    OrConjunction,
    OrdinalHyperparameter,
)

from naxcli.search_space.enumeration import (
    count_configurations,
    enumerate_configurations,
    enumerate_vectors,
    is_finite,
    sample_configs,
    sample_vectors,
)


def flat() -> ConfigurationSpace:
    space = ConfigurationSpace(seed=0)
    space.add(
        Categorical("a", ["x", "y", "z"]), Integer("n", (2, 5)), Constant("c", 7), Categorical("flag", [True, False])
    )
    return space


def conditional() -> ConfigurationSpace:
    """Chains, and a child of two parents each way."""
    space = ConfigurationSpace(seed=0)
    kind, depth = Categorical("kind", ["conv", "attention", "pool"]), OrdinalHyperparameter("depth", [1, 2, 3])
    heads, kernel = Categorical("heads", [2, 4, 8]), Categorical("kernel", [3, 5])
    size, extra, either = Integer("size", (1, 3)), Categorical("extra", ["p", "q"]), Categorical("either", ["r", "s"])
    space.add(kind, depth, heads, kernel, size, extra, either)
    space.add(
        EqualsCondition(heads, kind, "attention"),
        InCondition(kernel, kind, ["conv", "pool"]),
        GreaterThanCondition(size, depth, 1),
        AndConjunction(NotEqualsCondition(extra, kind, "pool"), EqualsCondition(extra, kernel, 5)),
        OrConjunction(EqualsCondition(either, heads, 8), EqualsCondition(either, depth, 3)),
    )
    return space


def forbidden() -> ConfigurationSpace:
    space = ConfigurationSpace(seed=0)
    a, b, c = Categorical("a", [0, 1, 2]), Categorical("b", [0, 1, 2]), Categorical("c", [0, 1])
    low, high = Integer("low", (1, 4)), Integer("high", (1, 4))
    space.add(a, b, c, low, high)
    space.add(EqualsCondition(c, a, 2))
    space.add(
        ForbiddenAndConjunction(ForbiddenEqualsClause(a, 1), ForbiddenInClause(b, [0, 2])),
        ForbiddenAndConjunction(ForbiddenEqualsClause(c, 1), ForbiddenEqualsClause(b, 1)),
        ForbiddenLessThanRelation(high, low),
    )
    return space


def all_forbidden_but_one() -> ConfigurationSpace:
    space = ConfigurationSpace(seed=0)
    a = Categorical("a", [0, 1], default=1)
    space.add(a, ForbiddenEqualsClause(a, 0))
    return space


def grown_at_random(seed: int) -> ConfigurationSpace:
    """A space of six hyperparameters with conditions and clauses drawn at random."""
    rng = np.random.default_rng(seed)
    space = ConfigurationSpace(seed=0)
    names = list("abcdef")
    hyperparameters = {}
    for name in names:
        values = list(range(int(rng.integers(2, 4))))
        hyperparameters[name] = Categorical(name, values) if rng.random() < 0.6 else OrdinalHyperparameter(name, values)
        space.add(hyperparameters[name])
    for child, name in enumerate(names[1:], start=1):
        if rng.random() < 0.5:
            parent = hyperparameters[names[int(rng.integers(child))]]
            condition = [EqualsCondition, NotEqualsCondition][int(rng.integers(2))]
            space.add(condition(hyperparameters[name], parent, int(rng.integers(2))))
    for _ in range(2):
        left, right = rng.choice(names, size=2, replace=False)
        clause = ForbiddenAndConjunction(
            ForbiddenEqualsClause(hyperparameters[str(left)], 1), ForbiddenEqualsClause(hyperparameters[str(right)], 1)
        )
        space.add(clause)
    return space


SPACES = {"flat": flat(), "conditional": conditional(), "forbidden": forbidden(), "one": all_forbidden_but_one()} | {
    f"random {seed}": grown_at_random(seed) for seed in range(8)
}


@functools.cache
def checked_one_by_one(name: str) -> set[tuple[tuple[str, object], ...]]:
    """Every combination of values and absences that ConfigSpace calls valid."""
    space = SPACES[name]
    values = {}
    for key, hyperparameter in space.items():
        if hasattr(hyperparameter, "lower"):
            values[key] = list(range(hyperparameter.lower, hyperparameter.upper + 1))
        else:
            values[key] = list(getattr(hyperparameter, "choices", getattr(hyperparameter, "sequence", None)) or [7])
    legal = set()
    for combination in itertools.product(*([*options, None] for options in values.values())):
        config = {name: value for name, value in zip(values, combination, strict=True) if value is not None}
        try:
            Configuration(space, values=config)
        except Exception:  # noqa: BLE001 (ConfigSpace raises half a dozen unrelated types for an illegal configuration)
            continue
        legal.add(tuple(sorted(config.items())))
    return legal


@pytest.mark.parametrize("name", SPACES)
def test_the_table_holds_exactly_the_configurations_that_configspace_accepts(name: str) -> None:
    space = SPACES[name]
    table = enumerate_configurations(space)
    assert table is not None
    rows = [tuple(sorted(table.config(row).items())) for row in range(len(table))]
    assert len(set(rows)) == len(rows)
    assert set(rows) == checked_one_by_one(name)


@pytest.mark.parametrize("name", SPACES)
def test_the_count_is_the_number_of_rows(name: str) -> None:
    table = enumerate_configurations(SPACES[name])
    assert table is not None
    assert count_configurations(SPACES[name]) == len(table)


@pytest.mark.parametrize("name", SPACES)
def test_every_row_is_found_again_and_nothing_else_is(name: str) -> None:
    table = enumerate_configurations(SPACES[name])
    assert table is not None
    assert [table.row_of(table.config(row)) for row in range(len(table))] == list(range(len(table)))
    first = dict(table.config(0))
    assert table.row_of({**first, next(iter(first)): "no such value"}) is None


@pytest.mark.parametrize("name", SPACES)
def test_vectors_are_those_of_configspace(name: str) -> None:
    space = SPACES[name]
    table, vectors = enumerate_configurations(space), enumerate_vectors(space)
    assert table is not None and vectors is not None
    assert vectors.shape == (len(table), len(space))
    for row in range(0, len(table), max(1, len(table) // 20)):
        expected = Configuration(space, values=table.config(row)).get_array()
        np.testing.assert_array_equal(vectors[row], expected)


def test_configspaces_own_estimate_ignores_conditions() -> None:
    assert count_configurations(conditional()) == len(checked_one_by_one("conditional"))
    assert conditional().estimate_size() > count_configurations(conditional())


def test_values_are_plain_python_in_the_given_order_of_choices() -> None:
    table = enumerate_configurations(flat())
    assert table is not None
    assert dict(zip(table.names, table.levels, strict=True)) == {
        "a": ("x", "y", "z"),
        "n": (2, 3, 4, 5),
        "c": (7,),
        "flag": (True, False),
    }
    assert {type(value) for value in table.config(0).values()} == {str, int, bool}


def test_continuous_spaces_are_not_finite() -> None:
    space = flat()
    space.add(Float("rate", (0.0, 1.0)))
    assert not is_finite(space)
    assert enumerate_configurations(space) is None
    assert enumerate_vectors(space) is None
    assert count_configurations(space) is None


def test_more_rows_than_the_limit_are_not_enumerated_but_counted() -> None:
    assert enumerate_configurations(flat(), limit=23) is None
    assert enumerate_configurations(flat(), limit=24) is not None
    assert count_configurations(flat(), limit=23) == 24


def test_spaces_far_too_large_to_enumerate_are_counted_with_their_conditions() -> None:
    space = ConfigurationSpace(seed=0)
    for index in range(30):
        kind, size = (
            Categorical(f"kind_{index:02}", ["none", "conv", "pool"]),
            Categorical(f"size_{index:02}", [3, 5, 7, 9]),
        )
        space.add(kind, size)
        space.add(EqualsCondition(size, kind, "conv"))
    assert count_configurations(space) == 6**30


def test_samples_are_legal_reproducible_and_leave_the_space_alone() -> None:
    space = conditional()
    before = space.random.get_state()[1].copy()
    configs = sample_configs(space, 30, seed=3)
    assert configs == sample_configs(conditional(), 30, seed=3)
    assert configs != sample_configs(space, 30, seed=4)
    np.testing.assert_array_equal(before, space.random.get_state()[1])
    legal = checked_one_by_one("conditional")
    assert all(tuple(sorted(config.items())) in legal for config in configs)
    assert {type(value) for config in configs for value in config.values()} == {str, int}
    expected = [Configuration(space, values=config).get_array() for config in configs]
    np.testing.assert_array_equal(sample_vectors(space, 30, seed=3), np.stack(expected))
    assert [len(sample_configs(space, n, seed=0)) for n in (0, 1)] == [0, 1]


def test_configspace_samples_uniformly_per_hyperparameter_and_not_over_architectures() -> None:
    """One of 10 architectures has no child, but half of the samples."""
    space = ConfigurationSpace(seed=0)
    switch, child = Categorical("switch", ["off", "on"]), Categorical("child", list(range(9)))
    space.add(switch, child)
    space.add(EqualsCondition(child, switch, "on"))
    assert count_configurations(space) == 10
    share = np.mean([config["switch"] == "off" for config in sample_configs(space, 400, seed=0)])
    assert 0.4 < share < 0.6


def test_vectorised_checks_of_configspace_take_the_transposed_array() -> None:
    space = conditional()
    vectors = enumerate_vectors(space)
    assert vectors is not None
    (condition,) = space.parent_conditions_of["heads"]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        active = condition.satisfied_by_vector_array(vectors.T)
    np.testing.assert_array_equal(active, np.isfinite(vectors[:, space.index_of["heads"]]))
