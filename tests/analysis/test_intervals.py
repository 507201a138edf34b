"""Drawn functions against enumeration, what counts as shown, and how often intervals hold a truth that is known."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd
import pytest
from ConfigSpace import Categorical, ConfigurationSpace, EqualsCondition, Float, OrdinalHyperparameter

from naxcli.analysis import surrogate as surrogate_module
from naxcli.analysis.components import part_codes
from naxcli.analysis.encoding import Encoding, Floats
from naxcli.analysis.importance import Estimate
from naxcli.analysis.intervals import Interval, interval_of, with_interval
from naxcli.analysis.shares import Decomposer, SampledDecomposer
from naxcli.analysis.summary import summarise
from naxcli.analysis.surrogate import Surrogate, fit_surrogates
from naxcli.analysis.table import check_table


def conditional_space() -> ConfigurationSpace:
    space = ConfigurationSpace()
    space.add(Categorical("se", ["no", "yes"]), OrdinalHyperparameter("ratio", [2, 4, 8]), Categorical("gate", [0, 1]))
    space.add(Categorical("block", [0, 1, 2]), Categorical("kernel", [3, 5]))
    space.add(EqualsCondition(space["ratio"], space["se"], "yes"), EqualsCondition(space["gate"], space["se"], "yes"))
    return space


def free_space() -> ConfigurationSpace:
    space = ConfigurationSpace()
    space.add(Categorical("a", [0, 1, 2]), Categorical("b", [0, 1]), OrdinalHyperparameter("o", [1, 2, 3, 4]))
    space.add(Categorical("none", [0, 1, 2]), Categorical("nothing", [0, 1]))
    return space


def sample(
    space: ConfigurationSpace, num: int, cost: Callable[[dict[str, Any]], float], *, noise: float, seed: int = 0
) -> pd.DataFrame:
    space.seed(seed)
    rng = np.random.default_rng(seed)
    configs = [dict(configuration) for configuration in space.sample_configuration(num)]
    frame = pd.DataFrame([{f"config.{name}": config.get(name) for name in space} for config in configs])
    costs = [cost(config) + noise * rng.normal() for config in configs]
    return frame.assign(trial_id=np.arange(num), fidelity=9.0, seed=0, status="success", cost=costs)


def fitted(space: ConfigurationSpace, frame: pd.DataFrame) -> tuple[Encoding, Surrogate]:
    table, vectors = check_table(frame, space)
    encoding = Encoding(space)
    return encoding, fit_surrogates(encoding, vectors, table["cost"].to_numpy(dtype=float), seed=0)[0]


def product_rows(encoding: Encoding) -> tuple[Floats, list[int]]:
    """Return all joint values, inactive ones not yet dropped, and the number of values of each hyperparameter."""
    grids = [part_codes(domain) for domain in encoding.domains]
    rows = np.repeat(encoding.defaults[None], int(np.prod([len(grid) for grid in grids])), axis=0)
    for domain, codes in zip(encoding.domains, np.meshgrid(*grids, indexing="ij"), strict=True):
        rows[:, domain.index] = codes.reshape(-1)
    return rows, [len(grid) for grid in grids]


def some_cost(config: dict[str, Any]) -> float:
    return (
        (config["block"] == 1) - 0.5 * (config["se"] == "yes") * (config["kernel"] == 5) + 0.1 * config.get("ratio", 0)
    )


def test_shares_of_a_drawn_function_equal_enumeration_with_conditions_too() -> None:
    space = conditional_space()
    encoding, surrogate = fitted(space, sample(space, 60, some_cost, noise=0.1))
    rows, sizes = product_rows(encoding)
    rng = np.random.default_rng(0)
    scales = surrogate.draw_pairs(surrogate.draw_scales(1, rng)[0], rng)
    # More rows than are drawn jointly: their predictions hold mains and pairs only, as the shares do.
    many = np.tile(encoding.repair(rows), (9, 1))
    functions = surrogate.draw(scales, {"all": many}, rows[:1], num_draws=3, rng=rng)
    assert functions.triples.max() == 0  # of a single row of the space
    found = Decomposer(encoding, surrogate.bases, seed=0)(functions)
    for draw in range(3):
        costs = functions.predictions["all"][draw, : len(rows)].reshape(sizes)

        def closed(*kept: int, costs: Floats = costs) -> float:
            others = tuple(axis for axis in range(len(sizes)) if axis not in kept)
            return float(costs.mean(axis=others).var())

        assert found.total[draw] == pytest.approx(costs.var())
        for i in range(len(sizes)):
            assert (found.mains[i][:, draw] ** 2).sum() == pytest.approx(closed(i), abs=1e-12)
        for i, j in combinations(range(len(sizes)), 2):
            expected = closed(i, j) - closed(i) - closed(j)
            assert (found.pairs[i, j][:, draw] ** 2).sum() == pytest.approx(expected, abs=1e-12)


def test_shares_from_values_all_over_the_space_equal_those_from_coefficients() -> None:
    space = conditional_space()
    encoding, surrogate = fitted(space, sample(space, 60, some_cost, noise=0.1))
    sampled = SampledDecomposer(encoding, surrogate.bases, seed=0)
    rows = np.tile(sampled.rows, (9, 1))
    rng = np.random.default_rng(0)
    functions = surrogate.draw(surrogate.best, {"all": rows}, rows[:1], num_draws=2, rng=rng)
    exact = Decomposer(encoding, surrogate.bases, seed=0)(functions)
    found = sampled(functions.predictions["all"][:, : len(sampled.rows)], functions.triples)
    np.testing.assert_allclose(found.total, exact.total)
    for key, effect in (exact.mains | exact.pairs).items():
        same = found.mains[key] if isinstance(key, int) else found.pairs[key]
        np.testing.assert_allclose((same**2).sum(axis=0), (effect**2).sum(axis=0), atol=1e-12)


def test_a_drawn_function_goes_through_costs_without_noise() -> None:
    space = ConfigurationSpace()
    space.add(Float("x", (0, 1)), Categorical("a", [0, 1]))
    frame = sample(space, 40, lambda config: np.sin(3 * config["x"]) + config["a"] * config["x"], noise=0)
    table, vectors = check_table(frame, space)
    _, surrogate = fitted(space, frame)
    rng = np.random.default_rng(0)
    functions = surrogate.draw(surrogate.best, {"trials": vectors}, vectors, num_draws=20, rng=rng)
    predicted = surrogate.cost_scale.costs(functions.predictions["trials"])
    assert np.abs(predicted.mean(axis=0) - table["cost"].to_numpy(dtype=float)).max() < 0.05
    assert predicted.std(axis=0).max() < 0.05


def test_what_does_nothing_is_not_shown_and_its_interval_reaches_zero() -> None:
    space = free_space()
    frame = sample(space, 120, lambda config: (config["a"] == 2) + 0.5 * config["b"], noise=0.2)
    entry = summarise(frame, space, methods=("lpi", "fanova"))["importance"][-1]
    lpi = {row["name"]: row for row in entry["lpi"]}
    mains = {row["names"][0]: row for row in entry["fanova"] if len(row["names"]) == 1}
    for rows in (lpi, mains):
        assert rows["a"]["matters"] and rows["b"]["matters"]
        assert rows["a"]["low"] > 0 and rows["b"]["low"] > 0
        assert not rows["none"]["matters"] and rows["none"]["low"] == 0
        # What reaches 0 overlaps: their order is unresolved.
        assert rows["none"]["rank_group"] == rows["nothing"]["rank_group"] > rows["a"]["rank_group"]


def test_what_decides_alone_is_shown_where_costs_have_a_long_tail() -> None:
    """On the cost itself a few draws outweigh all others, so that nothing could be told from nothing."""
    space = ConfigurationSpace()
    space.add(Float("lr", (1e-5, 1.0), log=True), Categorical("kind", [0, 1]), Categorical("none", [0, 1, 2]))

    def cost(config: dict[str, Any]) -> float:
        return float(np.exp(2 * abs(np.log10(config["lr"]) + 3)) - 0.7 + 0.05 * config["kind"])

    frame = sample(space, 80, cost, noise=0)
    rng = np.random.default_rng(0)
    crowd = frame.index >= 20  # as a searcher's
    frame.loc[crowd, "config.lr"] = 10 ** rng.normal(-3, 0.1, crowd.sum())
    frame["cost"] = [
        cost({"lr": lr, "kind": kind}) for lr, kind in zip(frame["config.lr"], frame["config.kind"], strict=True)
    ]
    (entry,) = summarise(frame, space, methods=("lpi",))["importance"]
    lpi = {row["name"]: row for row in entry["lpi"]}
    assert lpi["lr"]["matters"] and lpi["lr"]["low"] > 0.5
    assert not lpi["none"]["matters"] and lpi["none"]["low"] == 0


def test_without_draws_nothing_is_said_about_what_is_shown() -> None:
    space = free_space()
    entry = summarise(sample(space, 30, lambda config: config["a"], noise=0), space, bootstrap=0)["importance"][-1]
    assert {row["matters"] for row in (*entry["lpi"], *entry["fanova"])} == {None}


@pytest.mark.parametrize("noise", [0.05, 0.5])
def test_intervals_hold_the_known_shares_of_variance(noise: float) -> None:
    space = free_space()
    encoding = Encoding(space)
    rows, sizes = product_rows(encoding)

    def cost(config: dict[str, Any]) -> float:
        return (config["a"] == 2) + 0.6 * config["b"] + 0.2 * config["o"] * config["b"]

    costs = np.array([cost(encoding.config(row)) for row in rows]).reshape(sizes)
    truth = [
        costs.mean(axis=tuple(axis for axis in range(len(sizes)) if axis != kept)).var() / costs.var()
        for kept in range(len(sizes))
    ]
    held, names = [], [domain.name for domain in encoding.domains]
    for seed in range(6):
        frame = sample(space, 80, cost, noise=noise, seed=seed)
        entry = summarise(frame, space, methods=("fanova",), seed=seed)["importance"][-1]
        rows_of = {row["names"][0]: row for row in entry["fanova"] if len(row["names"]) == 1}
        held += [rows_of[n]["low"] - 1e-9 <= t <= rows_of[n]["high"] for n, t in zip(names, truth, strict=True)]
    # Thirty intervals of 95 % hold less often than this once in a thousand times.
    assert np.mean(held) >= 0.8


def test_a_few_costs_far_above_the_others_are_modelled_on_a_logarithmic_scale() -> None:
    space = free_space()
    frame = sample(space, 120, lambda config: 2.0 * (config["a"] == 2) + config["b"] + 0.5 * config["o"], noise=0.1)
    assert fitted(space, frame)[1].cost_scale.below is None
    skewed = frame.assign(cost=np.exp(1.5 * frame["cost"]))
    scale = fitted(space, skewed)[1].cost_scale
    assert scale.below is not None
    costs = skewed["cost"].to_numpy(dtype=float)
    np.testing.assert_allclose(scale.costs(scale.standardise(costs)), costs)


def test_intervals_do_not_depend_on_the_order_of_trials() -> None:
    space = free_space()
    frame = sample(space, 40, lambda config: config["a"] + 0.5 * config["b"], noise=0.2)
    shuffled = frame.sample(frac=1, random_state=3)
    first, other = (summarise(each, space, methods=("fanova",), bootstrap=10) for each in (frame, shuffled))
    assert first["importance"] == other["importance"]


@pytest.mark.parametrize("num", [2, 3, 5])
def test_a_handful_of_trials_gives_wide_intervals_and_shows_nothing(num: int) -> None:
    space = free_space()
    frame = sample(space, 200, lambda config: config["b"], noise=0.3, seed=1).drop_duplicates("config.a").head(num)
    frame = pd.concat([frame, sample(space, num, lambda config: config["b"], noise=0.3)]).head(num)
    entry = summarise(frame.assign(trial_id=range(num)), space)["importance"][-1]
    rows = [row for row in (*entry["lpi"], *entry["fanova"]) if row["low"] is not None]
    assert all(0 <= row["low"] <= row["mean"] <= row["high"] <= 1 + 1e-9 for row in rows)
    assert not any(row["matters"] for row in rows)
    assert bool(rows) == (num > 2)


def test_one_hyperparameter_and_huge_costs_have_intervals_too() -> None:
    space = ConfigurationSpace()
    space.add(Float("x", (0, 1)))
    frame = sample(space, 30, lambda config: 1e12 if config["x"] > 0.9 else config["x"], noise=0)
    (row,) = summarise(frame, space, methods=("fanova",))["importance"][-1]["fanova"]
    assert 0 <= row["low"] <= row["mean"] <= row["high"] == pytest.approx(1)


def test_a_share_whose_interval_begins_next_to_nothing_is_not_shown() -> None:
    estimate = Estimate(mean=0.3, std=0.1)
    tiny = Interval(low=1e-5, high=0.4, draws=np.zeros(3), matters=True)
    assert with_interval(estimate, tiny, is_share=True) == replace(estimate, low=0.0, high=0.4, matters=False)
    assert with_interval(estimate, tiny).matters  # a gain is in the units of the cost
    clear = replace(tiny, low=0.1)
    assert with_interval(estimate, clear, is_share=True) == replace(estimate, low=0.1, high=0.4, matters=True)
    assert with_interval(Estimate(mean=1e-4, std=0.0), clear, is_share=True).matters is False


def test_interactions_are_left_out_only_where_the_trials_do_not_refute_that(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(surrogate_module, "OCCAMS_WINDOW", 1.0)

    def structures(cost: Callable[[dict[str, Any]], float], *, noise: float) -> set[bool]:
        space = free_space()
        _, surrogate = fitted(space, sample(space, 60, cost, noise=noise))
        return {scales.has_interactions for scales in surrogate.draw_scales(4, np.random.default_rng(0))}

    assert structures(lambda config: float(config["a"] == config["b"]), noise=0.05) == {True}
    assert structures(lambda config: config["a"] + config["b"], noise=1.0) == {True, False}


def test_an_interval_holds_that_of_each_structure_and_not_of_their_average() -> None:
    values = np.concatenate([np.linspace(0.0, 1.0, 401), np.linspace(10.0, 11.0, 401)])
    structures = np.repeat([True, False], 401)
    interval = interval_of(values, structures=structures)
    assert (interval.low, interval.high) == pytest.approx((0.025, 10.975))
    assert interval_of(values, structures=structures, matters=False).low == 0
    average = interval_of(values)
    assert (average.low, average.high) == pytest.approx((0.05, 10.95), abs=0.002)
