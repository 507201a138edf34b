"""Each method against exact enumeration, on complete factorials without noise and one tree of full depth."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from itertools import combinations, permutations, product
from typing import Any

import numpy as np
import pandas as pd
import pytest
from ConfigSpace import (
    AndConjunction,
    Categorical,
    ConfigurationSpace,
    Constant,
    EqualsCondition,
    ForbiddenAndConjunction,
    ForbiddenEqualsClause,
    GreaterThanCondition,
    InCondition,
    Integer,
    NotEqualsCondition,
    OrConjunction,
    OrdinalHyperparameter,
)
from ConfigSpace.exceptions import ForbiddenValueError

from naxcli.analysis.summary import summarise

Raw = dict[str, Any]
Cost = Callable[[Raw], float]
ATOL = 1e-9


def plain_space() -> ConfigurationSpace:
    space = ConfigurationSpace()
    space.add(
        Categorical("block", ["xception", "bottleneck"]),
        Categorical("activation", ["relu", "gelu", "elu"]),
        OrdinalHyperparameter("width", ["small", "medium", "large"], default_value="medium"),
        Integer("depth", (1, 4), default=2),
        Constant("classes", 10),
    )
    return space


def plain_cost(config: Raw) -> float:
    width = ["small", "medium", "large"].index(config["width"])
    cost = 1.0 - 0.3 * (config["block"] == "bottleneck") + 0.05 * (config["depth"] - 3) ** 2
    return cost - 0.07 * width * (config["activation"] == "gelu") + 0.02 * (config["activation"] == "elu")


def conditional_space() -> ConfigurationSpace:
    space = ConfigurationSpace()
    space.add(
        Categorical("block", ["plain", "se", "attention"], default="plain"),
        Categorical("ratio", [4, 8, 16]),
        Integer("heads", (1, 3), default=1),
        Categorical("bias", [True, False]),
        Categorical("scale", ["none", "learned"]),
        Categorical("kernel", [3, 5]),
    )
    space.add(
        InCondition(space["ratio"], space["block"], ["se", "attention"]),
        EqualsCondition(space["heads"], space["block"], "attention"),
        GreaterThanCondition(space["bias"], space["heads"], 1),
        OrConjunction(
            EqualsCondition(space["scale"], space["kernel"], 5), EqualsCondition(space["scale"], space["ratio"], 8)
        ),
    )
    return space


def conditional_cost(config: Raw) -> float:
    cost = {"plain": 0.9, "se": 0.7, "attention": 0.65}[config["block"]]
    cost += 0.01 * config.get("ratio", 0) - 0.06 * config.get("heads", 0) + 0.04 * (config.get("bias") is True)
    cost -= 0.05 * (config.get("scale") == "learned") * (1 + (config["kernel"] == 5))
    return cost - 0.03 * (config["kernel"] == 5)


def forbidden_space() -> ConfigurationSpace:
    space = ConfigurationSpace()
    space.add(
        Categorical("a", [0, 1, 2]),
        Categorical("b", [0, 1]),
        Categorical("c", [0, 1, 2]),
        Categorical("d", [0, 1]),
    )
    space.add(
        AndConjunction(EqualsCondition(space["d"], space["b"], 1), NotEqualsCondition(space["d"], space["c"], 2)),
        ForbiddenAndConjunction(ForbiddenEqualsClause(space["a"], 1), ForbiddenEqualsClause(space["b"], 0)),
        ForbiddenAndConjunction(ForbiddenEqualsClause(space["a"], 2), ForbiddenEqualsClause(space["c"], 0)),
    )
    return space


def forbidden_cost(config: Raw) -> float:
    return (
        1.0
        - 0.2 * config["a"]
        - 0.13 * config["b"]
        + 0.05 * (config["c"] - 1) ** 2
        - 0.11 * config["a"] * config.get("d", 0)
    )


CASES = {
    "plain": (plain_space, plain_cost),
    "conditional": (conditional_space, conditional_cost),
    "forbidden": (forbidden_space, forbidden_cost),
}


class Oracle:
    """Enumeration in plain Python, from values alone."""

    def __init__(self, space: ConfigurationSpace, cost: Cost, *, fixed: Raw | None = None) -> None:
        self.space, self.cost, self.fixed = space, cost, fixed or {}
        self.default = self.repaired({**space.get_default_configuration(), **self.fixed})
        self.all = list(
            {tuple(sorted(c.items(), key=str)): c for c in map(self.repaired, self.raw()) if self.is_legal(c)}.values()
        )
        self.names = sorted(name for name in space if len({c[name] for c in self.all if name in c}) > 1)
        self.incumbent = min(self.all, key=cost)

    def values(self, name: str) -> list[Any]:
        if name in self.fixed:
            return [self.fixed[name]]
        hyperparameter = self.space[name]
        for attribute in ("choices", "sequence"):
            if hasattr(hyperparameter, attribute):
                return [v.item() if hasattr(v, "item") else v for v in getattr(hyperparameter, attribute)]
        if hasattr(hyperparameter, "lower"):
            return list(range(hyperparameter.lower, hyperparameter.upper + 1))
        return [hyperparameter.value]

    def raw(self) -> Iterator[Raw]:
        for values in product(*(self.values(name) for name in self.space)):
            yield dict(zip(self.space, values, strict=True))

    def repaired(self, config: Raw) -> Raw:
        kept: Raw = {}
        for name in self.space:
            conditions = self.space.parent_conditions_of[name]
            if all(self.holds(condition, kept) for condition in conditions):
                default = self.fixed.get(name, self.space[name].default_value)
                kept[name] = config.get(name, default.item() if hasattr(default, "item") else default)
        return kept

    def holds(self, condition: Any, config: Raw) -> bool:
        if hasattr(condition, "components"):
            return (all if isinstance(condition, AndConjunction) else any)(
                self.holds(c, config) for c in condition.components
            )
        if condition.parent.name not in config:
            return False
        return bool(condition.satisfied_by_value(config))

    def is_legal(self, config: Raw) -> bool:
        try:
            from ConfigSpace import Configuration

            Configuration(self.space, values=config).check_valid_configuration()
        except ForbiddenValueError:
            return False
        return True

    def changed(self, config: Raw, changes: Raw) -> Raw | None:
        changed = self.repaired({**config, **changes})
        return changed if self.is_legal(changed) else None

    def lpi_variance(self, names: tuple[str, ...]) -> float:
        neighbours = [
            self.changed(self.incumbent, dict(zip(names, values, strict=True)))
            for values in product(*(self.values(name) for name in names))
        ]
        return float(np.var([self.cost(neighbour) for neighbour in neighbours if neighbour is not None]))

    def lpi(self) -> dict[str, float | None]:
        variances = {name: self.lpi_variance((name,)) for name in self.names if name in self.incumbent}
        total = sum(variances.values())
        return {name: variances[name] / total if name in variances else None for name in self.names}

    def fanova(self) -> dict[tuple[str, ...], float]:
        rows = list(self.raw())
        costs = np.array([self.cost(self.repaired(row)) for row in rows])
        total = costs.var()
        frame = pd.DataFrame(rows).astype(str)

        def closed(names: tuple[str, ...]) -> float:
            return (
                float(pd.Series(costs).groupby([frame[name] for name in names]).transform("mean").var(ddof=0)) / total
            )

        mains = {(name,): closed((name,)) for name in self.names}
        pairs = {(i, j): closed((i, j)) - mains[i,] - mains[j,] for i, j in combinations(self.names, 2)}
        return mains | pairs | {("all",): closed(tuple(self.names))}

    def closed_fanova(self, names: tuple[str, ...]) -> float:
        rows = list(self.raw())
        costs = pd.Series([self.cost(self.repaired(row)) for row in rows])
        frame = pd.DataFrame(rows).astype(str)
        return float(costs.groupby([frame[name] for name in names]).transform("mean").var(ddof=0) / costs.var(ddof=0))

    def ablation(self) -> list[tuple[str, float]]:
        path, current = [("default", self.cost(self.default))], self.default
        while current != self.incumbent:
            steps = []
            for name in self.names:
                if name in current and name in self.incumbent and current[name] != self.incumbent[name]:
                    after = self.changed(current, {name: self.incumbent[name]})
                    if after is not None:
                        steps.append((self.cost(after), name, after))
            cost, name, current = min(steps, key=lambda step: step[0])
            path.append((name, cost))
        return path

    def shapley(self) -> dict[str, float]:
        players = [n for n in self.names if self.default.get(n) != self.incumbent.get(n)]
        gains: dict[str, list[float]] = {player: [] for player in players}
        for order in permutations(players):
            worths = []
            for size in range(len(players) + 1):
                sources = {p: self.incumbent if p in order[:size] else self.default for p in players}
                chosen = {p: source[p] for p, source in sources.items() if p in source}
                shared = {n: v for n, v in self.default.items() if n not in players}
                blend = self.repaired({**shared, **chosen})
                worths.append(-self.cost(blend) if self.is_legal(blend) else np.nan)
            if not np.isnan(worths).any():
                for position, player in enumerate(order):
                    gains[player].append(worths[position + 1] - worths[position])
        return {player: float(np.mean(found)) for player, found in gains.items()}

    def table(self) -> pd.DataFrame:
        rows = [{name: config.get(name) for name in self.space} | {"cost": self.cost(config)} for config in self.all]
        return pd.DataFrame(rows).assign(fidelity=1, seed=0, status="success")


# What all trials had in common: it must count as a constant, whatever the default and the rest of the space say.
FIXED: dict[str, tuple[str, Raw]] = {
    "plain without an activation": ("plain", {"activation": "gelu"}),
    "plain of one depth and width": ("plain", {"depth": 4, "width": "large"}),
    "conditional without a parent": ("conditional", {"block": "attention"}),
    "conditional without children": ("conditional", {"block": "plain"}),
    "conditional with one child's value": ("conditional", {"ratio": 16}),
    "conditional with one value of a parent in the middle": ("conditional", {"heads": 3, "kernel": 3}),
    "forbidden without a choice": ("forbidden", {"c": 2}),
    "forbidden with one child's value": ("forbidden", {"d": 1}),
}


@pytest.fixture(scope="module", params=[*CASES, *FIXED])
def case(request: pytest.FixtureRequest) -> tuple[str, Oracle, dict[str, Any]]:
    name, fixed = FIXED.get(request.param, (request.param, {}))
    make_space, cost = CASES[name]
    oracle = Oracle(make_space(), cost, fixed=fixed)
    groups = {"first two": oracle.names[:2], "last three": oracle.names[-3:]}
    summary = summarise(oracle.table(), oracle.space, groups=groups, exact_model=True)
    return request.param, oracle, summary


# A space with forbidden clauses has no complete factorial, which the product measure asks for.
COMPLETE = pytest.mark.parametrize(
    "case", [*(n for n in CASES if n != "forbidden"), *(n for n in FIXED if FIXED[n][0] != "forbidden")], indirect=True
)


def importance(summary: Mapping[str, Any]) -> dict[str, Any]:
    (entry,) = summary["importance"]
    return entry


def test_the_incumbent_is_the_lowest_cost(case: tuple[str, Oracle, dict[str, Any]]) -> None:
    _, oracle, summary = case
    assert summary["incumbent"]["config"] == oracle.incumbent
    assert summary["incumbent"]["cost"] == pytest.approx(oracle.cost(oracle.incumbent))


def test_lpi_equals_enumeration(case: tuple[str, Oracle, dict[str, Any]]) -> None:
    _, oracle, summary = case
    entry = importance(summary)
    found = {row["name"]: row["mean"] for row in entry["lpi"]}
    assert found == {
        name: value if value is None else pytest.approx(value, abs=ATOL) for name, value in oracle.lpi().items()
    }
    assert all(row["inactive"] == (row["name"] not in oracle.incumbent) for row in entry["lpi"])


def test_lpi_of_groups_equals_enumeration(case: tuple[str, Oracle, dict[str, Any]]) -> None:
    _, oracle, summary = case
    for group in importance(summary)["groups"]:
        terms = [tuple(name for name in group["members"] if name in oracle.incumbent)]
        for other in importance(summary)["groups"]:
            if not set(other["members"]) & set(group["members"]):
                terms.append(tuple(name for name in other["members"] if name in oracle.incumbent))
        terms += [(n,) for n in oracle.names if n in oracle.incumbent and not any(n in term for term in terms)]
        variances = [oracle.lpi_variance(term) for term in terms]
        assert group["lpi"]["mean"] == pytest.approx(variances[0] / sum(variances), abs=ATOL)


@COMPLETE
def test_fanova_mains_and_pairs_equal_enumeration(case: tuple[str, Oracle, dict[str, Any]]) -> None:
    _, oracle, summary = case
    found = {tuple(row["names"]): row["mean"] for row in importance(summary)["fanova"]}
    exact = oracle.fanova()
    assert exact.pop(("all",)) == pytest.approx(1.0)
    assert found == {names: pytest.approx(value, abs=ATOL) for names, value in exact.items()}


@COMPLETE
def test_fanova_of_groups_equals_enumeration(case: tuple[str, Oracle, dict[str, Any]]) -> None:
    _, oracle, summary = case
    for group in importance(summary)["groups"]:
        assert group["fanova"]["mean"] == pytest.approx(oracle.closed_fanova(tuple(group["members"])), abs=ATOL)


def test_ablation_equals_the_greedy_path(case: tuple[str, Oracle, dict[str, Any]]) -> None:
    _, oracle, summary = case
    path = importance(summary)["ablation"]
    assert [(step["name"], pytest.approx(step["cost"], abs=ATOL)) for step in path] == oracle.ablation()
    assert path[0]["from"] is path[0]["to"] is None
    assert all(oracle.incumbent[step["name"]] == step["to"] != step["from"] for step in path[1:])
    assert path[-1]["cost"] == pytest.approx(oracle.cost(oracle.incumbent))


def test_shapley_values_equal_all_orders(case: tuple[str, Oracle, dict[str, Any]]) -> None:
    _, oracle, summary = case
    found = {row["name"]: row["value"] for row in importance(summary)["shapley"]}
    assert found == {name: pytest.approx(value, abs=ATOL) for name, value in oracle.shapley().items()}
    assert sum(found.values()) == pytest.approx(oracle.cost(oracle.default) - oracle.cost(oracle.incumbent))


def test_one_tree_has_no_spread_and_no_interval(case: tuple[str, Oracle, dict[str, Any]]) -> None:
    _, _, summary = case
    entry = importance(summary)
    assert all(
        row["std"] in (0, None) and row["low"] is None and row["rank_group"] is None
        for row in entry["lpi"] + entry["fanova"]
    )
    assert entry["r2"] is None


def test_deepcave_leaves_the_incumbent_out_and_scores_a_binary_zero() -> None:
    oracle = Oracle(plain_space(), plain_cost)
    entry = importance(summarise(oracle.table(), oracle.space, exact_model=True, lpi="deepcave"))
    found = {row["name"]: row["mean"] for row in entry["lpi"]}

    def variance(name: str, values: list[Any]) -> float:
        return float(np.var([oracle.cost({**oracle.incumbent, name: value}) for value in values]))

    # The incumbent is (gelu, bottleneck, depth 3, large): a step from the end of an ordinal is one neighbour, without variance.
    variances = {
        "activation": variance("activation", ["relu", "elu"]),
        "block": 0.0,
        "depth": variance("depth", [1, 2, 4]),
        "width": 0.0,
    }
    total = sum(variances.values())
    assert found == {name: pytest.approx(value / total) for name, value in variances.items()}
    assert found["block"] == 0.0
    assert entry["lpi_method"] == "deepcave"
