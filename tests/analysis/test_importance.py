"""Importance of noisy, conditional, failing and degenerate tables: what the numbers must and must not say."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest
from ConfigSpace import (
    Categorical,
    ConfigurationSpace,
    Constant,
    EqualsCondition,
    Float,
    ForbiddenAndConjunction,
    ForbiddenEqualsClause,
    ForbiddenLessThanEqualsClause,
    Integer,
    NotEqualsCondition,
    OrdinalHyperparameter,
)
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from naxcli.analysis.encoding import Encoding
from naxcli.analysis.importance import NOT_AVAILABLE, Estimate, rank_groups
from naxcli.analysis.summary import summarise
from naxcli.analysis.table import normalise_table
from naxcli.errors import NaxcliError
from naxcli.records.trial import config_id

Cost = Callable[[dict[str, Any]], float]


def mixed_space(*, irrelevant: bool = False) -> ConfigurationSpace:
    space = ConfigurationSpace(seed=0)
    space.add(
        Categorical("block", ["xception", "bottleneck"]),
        Categorical("se", ["no", "yes"]),
        Integer("ratio", (1, 4)),
        Float("lr", (1e-4, 1.0), log=True, default=1e-2),
        OrdinalHyperparameter("width", ["s", "m", "l"]),
    )
    if irrelevant:
        space.add(Categorical("colour", ["red", "green"]))
    space.add(EqualsCondition(space["ratio"], space["se"], "yes"))
    return space


def mixed_cost(config: dict[str, Any]) -> float:
    cost = 0.5 - 0.2 * (config["block"] == "bottleneck") + 0.04 * abs(np.log10(config["lr"]) + 2)
    return float(cost - 0.02 * config.get("ratio", 0))


def sample(
    space: ConfigurationSpace, num: int, cost: Cost, *, noise: float = 0.01, seed: int = 0, fidelity: float = 9
) -> pd.DataFrame:
    space.seed(seed)
    rng = np.random.default_rng(seed)
    configs = [dict(configuration) for configuration in space.sample_configuration(num)]
    frame = pd.DataFrame([{f"config.{name}": config.get(name) for name in space} for config in configs])
    costs = [cost(config) + noise * rng.normal() for config in configs]
    return frame.assign(trial_id=np.arange(num), fidelity=fidelity, seed=0, status="success", cost=costs)


def at_highest(summary: dict[str, Any]) -> dict[str, Any]:
    return max(summary["importance"], key=lambda entry: entry["fidelity"])


def means(entry: dict[str, Any], method: str) -> dict[str, float | None]:
    if method == "lpi":
        return {row["name"]: row["mean"] for row in entry["lpi"]}
    return {row["names"][0]: row["mean"] for row in entry["fanova"] if len(row["names"]) == 1}


@pytest.fixture(scope="module")
def summary() -> dict[str, Any]:
    space = mixed_space()
    return summarise(sample(space, 150, mixed_cost), space, groups={"squeeze": ["se", "ratio"]}, bootstrap=12)


def test_a_binary_hyperparameter_that_matters_is_above_zero_and_first(summary: dict[str, Any]) -> None:
    entry = at_highest(summary)
    for method in ("lpi", "fanova"):
        found = means(entry, method)
        assert found["block"] == max(value for value in found.values() if value is not None)
        assert found["block"] > 0.3


def test_an_irrelevant_hyperparameter_ranks_last(summary: dict[str, Any]) -> None:
    rows = at_highest(summary)["lpi"]
    groups = {row["name"]: row["rank_group"] for row in rows}
    assert rows[-1]["name"] == "width"
    assert groups["width"] > groups["block"] == 1


def test_every_number_lies_in_its_interval_and_has_a_spread_over_trees(summary: dict[str, Any]) -> None:
    entry = at_highest(summary)
    rows = [
        *entry["lpi"],
        *entry["fanova"],
        *(group[method] for group in entry["groups"] for method in ("lpi", "fanova")),
    ]
    assert all(row["low"] <= row["mean"] <= row["high"] and row["std"] > 0 for row in rows if row["mean"] is not None)
    assert all(row["low"] <= row["value"] <= row["high"] for row in entry["shapley"])
    assert all(row["low"] <= row["cost"] <= row["high"] for row in entry["ablation"])
    assert 0.5 < entry["r2"] <= 1


def test_lpi_fractions_add_up_to_one_and_fanova_to_at_most_one(summary: dict[str, Any]) -> None:
    entry = at_highest(summary)
    assert sum(row["mean"] for row in entry["lpi"] if row["mean"] is not None) == pytest.approx(1)
    assert 0.9 < sum(row["mean"] for row in entry["fanova"]) <= 1 + 1e-9


def test_a_group_explains_at_least_what_its_members_explain_alone(summary: dict[str, Any]) -> None:
    entry = at_highest(summary)
    fanova = means(entry, "fanova")
    (group,) = entry["groups"]
    assert group["members"] == ["ratio", "se"]
    assert group["fanova"]["mean"] >= fanova["ratio"] + fanova["se"]  # type: ignore[operator]


def test_hyperparameters_whose_intervals_overlap_share_a_rank_group(summary: dict[str, Any]) -> None:
    rows = [row for row in at_highest(summary)["fanova"] if len(row["names"]) == 1]
    for row in rows:
        for other in rows:
            overlap = row["low"] <= other["high"] and other["low"] <= row["high"]
            if row["matters"] == other["matters"]:
                assert not overlap or row["rank_group"] == other["rank_group"]


def test_what_is_not_shown_joins_no_ranks_and_has_the_last_one() -> None:
    shown = [Estimate(mean=0.7, low=0.3, high=0.9, matters=True), Estimate(mean=0.1, low=0.01, high=0.2, matters=True)]
    wide = Estimate(mean=0.2, low=0.0, high=0.8, matters=False)
    nothing = Estimate(mean=0.0, low=0.0, high=0.05, matters=False)
    assert rank_groups([*shown, wide, nothing, NOT_AVAILABLE]) == [1, 2, 3, 3, None]


def test_the_same_seed_gives_the_same_summary_and_another_seed_another() -> None:
    space = mixed_space()
    frame = sample(space, 40, mixed_cost)
    first, again, other = (summarise(frame, space, bootstrap=3, seed=seed) for seed in (5, 5, 6))
    assert first == again
    assert first["importance"] != other["importance"]


def shuffled(frame: pd.DataFrame, seed: int) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    return frame.iloc[rng.permutation(len(frame)), rng.permutation(len(frame.columns))]


@settings(max_examples=3, deadline=None, suppress_health_check=[HealthCheck.too_slow], derandomize=True)
@given(seed=st.integers(0, 1000))
def test_the_order_of_rows_and_columns_of_a_table_from_elsewhere_changes_nothing(seed: int) -> None:
    space = mixed_space()
    frame = sample(space, 30, mixed_cost)
    first, second = (normalise_table(each, space) for each in (frame, shuffled(frame, seed)))
    assert summarise(first, space, bootstrap=1) == summarise(second, space, bootstrap=1)


def test_the_order_in_which_a_space_adds_hyperparameters_changes_nothing() -> None:
    spaces = []
    for names in ("abc", "cab"):
        space = ConfigurationSpace()
        for name in names:
            space.add(Categorical(name, [0, 1, 2]))
        spaces.append(space)
    frame = sample(spaces[0], 40, lambda config: config["a"] + 0.1 * config["b"])
    first, second = (summarise(frame, space, bootstrap=2)["importance"] for space in spaces)
    assert first == second


@settings(max_examples=3, deadline=None, suppress_health_check=[HealthCheck.too_slow], derandomize=True)
@given(scale=st.floats(0.01, 1000), offset=st.floats(-10, 10))
def test_the_scale_of_the_cost_changes_nothing(scale: float, offset: float) -> None:
    space = mixed_space()
    frame = sample(space, 40, mixed_cost)
    scaled = frame.assign(cost=scale * frame["cost"] + offset)
    first, second = (at_highest(summarise(table, space, bootstrap=1)) for table in (frame, scaled))
    for method in ("lpi", "fanova"):
        assert [row["low"] for row in second[method]] == pytest.approx([row["low"] for row in first[method]], abs=1e-6)
        assert means(second, method) == pytest.approx(means(first, method), abs=1e-6)
    gains = {row["name"]: scale * row["value"] for row in first["shapley"]}
    assert {row["name"]: row["value"] for row in second["shapley"]} == pytest.approx(gains, rel=1e-5, abs=1e-6 * scale)


def test_an_irrelevant_hyperparameter_leaves_the_others_within_noise() -> None:
    lean, full = mixed_space(), mixed_space(irrelevant=True)
    frame = sample(full, 200, mixed_cost)
    first = at_highest(summarise(frame.drop(columns="config.colour"), lean, bootstrap=10))
    second = at_highest(summarise(frame, full, bootstrap=0))
    for method in ("lpi", "fanova"):
        without, found = (
            {row["name"] if method == "lpi" else tuple(row["names"]): row for row in first[method]},
            second[method],
        )
        for row in found:
            key = row["name"] if method == "lpi" else tuple(row["names"])
            if key in without and row["mean"] is not None:
                assert abs(row["mean"] - without[key]["mean"]) < max(0.02, 3 * without[key]["std"])
        assert means(second, method)["colour"] < 0.03  # type: ignore[operator]


def test_a_child_never_outranks_the_parent_that_switches_it_on_without_cause() -> None:
    space = ConfigurationSpace(seed=0)
    space.add(Categorical("se", ["no", "yes"]), Categorical("ratio", [4, 8, 16]), Categorical("kernel", [3, 5]))
    space.add(EqualsCondition(space["ratio"], space["se"], "yes"))
    frame = sample(space, 150, lambda config: 0.5 - 0.2 * (config["se"] == "yes"), noise=0.02)
    entry = at_highest(summarise(frame, space, bootstrap=0))
    for method in ("lpi", "fanova"):
        assert means(entry, method)["ratio"] < 0.1 * means(entry, method)["se"]  # type: ignore[operator]


def test_two_fidelities_can_rank_differently_and_stand_side_by_side() -> None:
    space = ConfigurationSpace()
    space.add(Categorical("a", [0, 1]), Categorical("b", [0, 1]))
    early = sample(space, 60, lambda config: 0.5 - 0.2 * config["a"] - 0.02 * config["b"], fidelity=3)
    late = sample(space, 60, lambda config: 0.5 - 0.02 * config["a"] - 0.2 * config["b"], seed=1, fidelity=9)
    frame = pd.concat([early, late]).assign(trial_id=range(120))
    summary = summarise(frame, space, bootstrap=0)
    assert [entry["fidelity"] for entry in summary["importance"]] == [3, 9]
    assert [entry["lpi"][0]["name"] for entry in summary["importance"]] == ["a", "b"]
    (only,) = summarise(frame, space, bootstrap=0, at=3)["importance"]
    assert only == summary["importance"][0]


def test_importance_on_a_log_scale_does_not_depend_on_the_unit() -> None:
    entries = []
    for factor in (1, 1000):
        space = ConfigurationSpace()
        space.add(Float("lr", (1e-4 * factor, 1.0 * factor), log=True), Float("drop", (0.0, 1.0)))
        cost = lambda config, factor=factor: 0.1 * (np.log10(config["lr"] / factor) + 2) ** 2 + 0.1 * config["drop"]  # noqa: E731
        entries.append(at_highest(summarise(sample(space, 80, cost, noise=0), space, bootstrap=0)))
    assert means(entries[0], "fanova") == pytest.approx(means(entries[1], "fanova"), abs=0.005)
    curve = next(row for row in entries[0]["partial_dependence"] if row["name"] == "lr")
    assert curve["values"][0] < 3e-4 and 1e-2 / 2 < curve["values"][int(np.argmin(curve["mean"]))] < 2e-2


def test_crashed_trials_are_left_out_and_counted() -> None:
    space = mixed_space()
    frame = sample(space, 60, mixed_cost)
    crashed = sample(space, 6, lambda _: 0.0, seed=1).assign(
        status="Crashed", cost=1e9, error="Traceback\nValueError: no"
    )
    summary = summarise(pd.concat([frame, crashed.assign(trial_id=range(60, 66))]), space, bootstrap=0)
    assert at_highest(summary) == at_highest(summarise(frame, space, bootstrap=0))
    assert summary["trials"] == {"success": 60, "crashed": 6}
    assert summary["failures"] == [{"status": "crashed", "count": 6, "example": "ValueError: no"}]
    assert any("6 of 66 trials failed" in warning for warning in summary["warnings"])


def test_a_constant_of_the_space_and_one_of_the_trials_are_dropped() -> None:
    space = ConfigurationSpace()
    space.add(Categorical("a", [0, 1]), Categorical("b", [0, 1]), Constant("classes", 10))
    frame = sample(space, 40, lambda config: config["a"]).assign(**{"config.b": 1})
    summary = summarise(frame, space, bootstrap=0)
    entry = at_highest(summary)
    assert means(entry, "lpi") == {"a": pytest.approx(1)}
    assert [row["names"] for row in entry["fanova"]] == [["a"]]
    assert entry["never_varied"] == [{"name": "b", "value": 1, "reason": None}]
    assert any("nothing is known about b" in warning for warning in summary["warnings"])


def test_a_value_whose_trials_all_failed_is_told_from_one_that_was_never_tried() -> None:
    space = ConfigurationSpace()
    space.add(Categorical("a", [0, 1]), Categorical("b", ["x", "y"]), Categorical("c", ["p", "q", "r", "s"]))
    frame = sample(space, 60, lambda config: config["a"])
    frame = frame[frame["config.c"] != "s"].reset_index(drop=True)
    failed = (frame["config.b"] == "y") | (frame["config.c"] == "r")
    frame.loc[failed, ["status", "cost"]] = ["crashed", np.nan]
    frame.loc[((frame["config.c"] == "r") & (frame["config.b"] == "x")).idxmax(), "status"] = "out_of_memory"
    num_y, num_r = int((frame["config.b"] == "y").sum()), int((frame["config.c"] == "r").sum())
    summary = summarise(frame, space, bootstrap=0)
    (entry,) = summary["importance"]
    assert entry["never_varied"] == [{"name": "b", "value": "x", "reason": f"b=y: all its {num_y} trials crashed"}]
    assert (
        f"at fidelity 9: never varied, so nothing is known about b (b=y: all its {num_y} trials crashed)"
        in summary["warnings"]
    )
    how = f"all its {num_r} trials failed ({num_r - 1} crashed, 1 ran out of memory)"
    assert f"at fidelity 9: without a result: c=r ({how})" in summary["warnings"]
    assert "at fidelity 9: never tried: c=s" in summary["warnings"]


@pytest.mark.parametrize("position", [0, 1, 3])
def test_another_name_of_a_choice_is_no_choice(position: int) -> None:
    """A choice that no trial can have would make every interval of its hyperparameter as wide as if it were unknown."""
    choices = ["relu", "gelu", "elu"]

    def space_with(names: list[str]) -> ConfigurationSpace:
        space = ConfigurationSpace()
        space.add(
            Categorical("activation", names, default="relu"), Categorical("other", [0, 1, 2]), Float("lr", (0, 1))
        )
        return space

    def cost(config: dict[str, Any]) -> float:
        return float(0.5 - 0.1 * (config["activation"] == "elu") + 0.05 * config["other"] * config["lr"])

    frame = sample(space_with(choices), 60, cost)
    kept = {"bootstrap": 20, "at": 9.0}
    without = summarise(frame, space_with(choices), **kept)
    named = [*choices[:position], "celu", *choices[position:]]
    merged = summarise(frame, space_with(named), merged=["activation=celu"], **kept)
    unknown = summarise(frame, space_with(named), **kept)

    def widths(summary: dict[str, Any]) -> float:
        row = next(row for row in at_highest(summary)["lpi"] if row["name"] == "activation")
        return float(row["high"] - row["low"])

    for method in ("lpi", "fanova", "ped_anova", "tunability", "shapley"):
        assert at_highest(merged)[method] == at_highest(without)[method], method
    assert widths(merged) < widths(unknown)


def test_partial_dependence_stops_where_the_trials_do() -> None:
    space = ConfigurationSpace()
    space.add(
        Categorical("c", ["p", "q", "r"]),
        OrdinalHyperparameter("o", [1, 2, 3]),
        Integer("i", (1, 9)),
        Float("f", (0, 1)),
    )
    frame = sample(space, 600, lambda config: config["f"] + config["i"])
    inside = frame["config.i"].between(3, 7) & (frame["config.i"] != 5) & frame["config.f"].between(0.25, 0.5)
    frame = frame[inside & (frame["config.c"] != "q") & (frame["config.o"] != 1)]
    curves = {curve["name"]: curve for curve in at_highest(summarise(frame, space, bootstrap=0))["partial_dependence"]}
    assert curves["c"]["values"] == ["p", "r"] and curves["o"]["values"] == [2, 3]
    assert curves["i"]["values"] == [3, 4, 5, 6, 7]
    assert min(curves["f"]["values"]) > 0.2 and max(curves["f"]["values"]) < 0.55
    for curve in curves.values():
        assert len(curve["values"]) == len(curve["mean"]) == len(curve["std"]) > 1


@pytest.mark.parametrize("bootstrap", [0, 2])
def test_a_fidelity_that_lacks_what_the_incumbent_has_still_explains_the_rest(bootstrap: int) -> None:
    space = mixed_space()
    low = sample(space, 120, mixed_cost, fidelity=3)
    low = low[(low["config.se"] == "no") & (low["config.width"] == "s")].reset_index(drop=True)
    high = sample(space, 60, lambda config: mixed_cost(config) - (config["se"] == "yes"), seed=1)
    frame = pd.concat([low, high]).assign(trial_id=range(len(low) + 60))
    summary = summarise(
        frame, space, bootstrap=bootstrap, groups={"squeeze": ["se", "ratio"], "rest": ["lr", "block", "width"]}
    )
    entry = summary["importance"][0]
    assert summary["incumbent"]["config"]["se"] == "yes"
    assert {row["name"]: row["value"] for row in entry["never_varied"]} == {"ratio": None, "se": "no", "width": "s"}
    assert [(group["name"], group["members"]) for group in entry["groups"]] == [("rest", ["block", "lr"])]
    assert entry["groups"][0]["lpi"]["mean"] == pytest.approx(1)
    assert entry["groups"][0]["fanova"]["mean"] == pytest.approx(1, abs=0.02)
    assert {name for step in entry["ablation"] for name in step["name"].split(", ")} <= {"default", "block", "lr"}
    gain = entry["ablation"][0]["cost"] - entry["ablation"][-1]["cost"]
    assert sum(row["value"] for row in entry["shapley"]) == pytest.approx(gain)


def test_deepcave_looks_around_the_best_of_each_fidelity_and_naxcli_around_the_incumbent() -> None:
    space = ConfigurationSpace()
    space.add(Categorical("parent", ["off", "on"]), Categorical("child", [1, 2, 3]), Categorical("other", [1, 2, 3]))
    space.add(EqualsCondition(space["child"], space["parent"], "on"))
    early = sample(space, 60, lambda config: config["parent"] == "on", fidelity=3)
    late = sample(space, 60, lambda config: config["parent"] == "off", seed=1, fidelity=9)
    frame = pd.concat([early, late]).assign(trial_id=range(120))
    inactive = {
        lpi: [
            {row["name"]: row["inactive"] for row in entry["lpi"]}["child"]
            for entry in summarise(frame, space, bootstrap=0, methods=("lpi",), lpi=lpi)["importance"]
        ]
        for lpi in ("deepcave", "naxcli")
    }
    assert inactive == {"deepcave": [True, False], "naxcli": [False, False]}
    best = early[early["config.parent"] == "off"].groupby("config.other")["cost"].mean().idxmin()
    entries = summarise(frame, space, bootstrap=0, methods=("lpi",), lpi="deepcave")["importance"]
    assert entries[0]["lpi_incumbent"] == config_id({"parent": "off", "other": int(best)})


def test_the_incumbent_is_the_best_mean_among_those_with_the_most_seeds() -> None:
    space = ConfigurationSpace()
    space.add(Categorical("a", [0, 1, 2]))
    rows = [(0, 1, 0.30), (0, 2, 0.32), (1, 1, 0.20), (1, 2, 0.40), (2, 1, 0.10)]
    frame = pd.DataFrame(rows, columns=["a", "seed", "cost"]).assign(budget=9, status="SUCCESS")
    incumbent = summarise(frame, space, bootstrap=0)["incumbent"]
    assert incumbent["config"] == {"a": 1} or incumbent["cost"] == pytest.approx(0.30)
    assert (incumbent["num_seeds"], incumbent["fidelity"], incumbent["trial_id"]) == (2, 9, None)


def test_survivors_of_lower_rungs_are_flagged() -> None:
    space = mixed_space()
    low = sample(space, 60, mixed_cost, fidelity=3)
    high = low.nsmallest(20, "cost").assign(fidelity=9.0, trial_id=range(60, 80))
    summary = summarise(pd.concat([low, high]), space, bootstrap=0, methods=("lpi",))
    assert [entry["survivors_of"] for entry in summary["importance"]] == [None, 60]
    assert any("survivors only, 20 of 60" in warning for warning in summary["warnings"])


def test_forbidden_neighbours_are_not_asked_about() -> None:
    space = ConfigurationSpace()
    space.add(Categorical("a", [0, 1, 2]), Categorical("b", [0, 1]))
    space.add(ForbiddenAndConjunction(ForbiddenEqualsClause(space["a"], 2), ForbiddenEqualsClause(space["b"], 1)))
    frame = sample(space, 80, lambda config: 0.5 - 0.2 * config["b"] - 0.01 * config["a"], noise=0)
    entry = at_highest(summarise(frame, space, bootstrap=0, exact_model=True))
    expected = {"a": np.var([0.3, 0.29]), "b": np.var([0.49, 0.29])}
    assert means(entry, "lpi")["a"] == pytest.approx(expected["a"] / sum(expected.values()))


def test_a_lower_or_equal_clause_forbids_what_configspace_says_for_one_configuration() -> None:
    space = ConfigurationSpace(seed=0)
    space.add(Integer("depth", (1, 6), default=6), Categorical("kernel", [3, 5], default=3))
    clause = ForbiddenAndConjunction(
        ForbiddenLessThanEqualsClause(space["depth"], 2), ForbiddenEqualsClause(space["kernel"], 5)
    )
    space.add(clause)
    encoding = Encoding(space)
    rows = np.array([encoding.vector({"depth": depth, "kernel": kernel}) for depth in range(1, 7) for kernel in (3, 5)])
    assert encoding.is_forbidden(rows).tolist() == [bool(clause.is_forbidden_vector(row)) for row in rows]
    assert encoding.is_forbidden(rows).sum() == 2


def test_repair_keeps_every_configuration_that_configspace_samples() -> None:
    space = ConfigurationSpace(seed=0)
    space.add(Categorical("se", ["yes", "no"]), Categorical("ratio", [4, 8]), Categorical("gate", ["relu", "gelu"]))
    # ConfigSpace counts an inactive parent as different from every value.
    space.add(EqualsCondition(space["ratio"], space["se"], "yes"), NotEqualsCondition(space["gate"], space["ratio"], 4))
    for each in (space, mixed_space()):
        rows = np.array([configuration.get_array() for configuration in each.sample_configuration(100)])
        assert np.isnan(rows).any()
        np.testing.assert_array_equal(Encoding(each).repair(rows), rows)


def test_wide_integers_many_players_and_large_groups_are_sampled_and_stay_finite() -> None:
    space = ConfigurationSpace(seed=0)
    names = [f"bit_{number:02d}" for number in range(17)]
    space.add(*(Categorical(name, [0, 1]) for name in names), Integer("channels", (1, 4096), log=True))
    frame = sample(space, 120, lambda config: -0.1 * sum(config[name] for name in names[:3]), noise=0.005)
    best = frame["cost"].idxmin()
    for name in names:
        frame.loc[best, f"config.{name}"] = 1
    frame.loc[best, "cost"] = -1.0
    entry = at_highest(summarise(frame, space, bootstrap=0, groups={"bits": names}))
    assert len(entry["shapley"]) == 18
    assert all(row["standard_error"] is not None for row in entry["shapley"])
    gain = entry["ablation"][0]["cost"] - entry["ablation"][-1]["cost"]
    assert sum(row["value"] for row in entry["shapley"]) == pytest.approx(gain)
    assert 0.5 < entry["groups"][0]["fanova"]["mean"] <= 1
    json.dumps(entry, allow_nan=False)


def test_a_chosen_method_comes_alone() -> None:
    space = mixed_space()
    entry = at_highest(summarise(sample(space, 30, mixed_cost), space, bootstrap=2, methods=("ablation",)))
    assert entry["ablation"] and not (
        entry["lpi"] or entry["fanova"] or entry["shapley"] or entry["partial_dependence"]
    )


def test_progress_counts_the_draws_of_all_fidelities() -> None:
    space = mixed_space()
    frame = pd.concat([sample(space, 20, mixed_cost, fidelity=3), sample(space, 20, mixed_cost, fidelity=9)])
    seen: list[tuple[int, int]] = []
    summarise(frame, space, bootstrap=12, methods=("lpi",), progress=lambda done, total: seen.append((done, total)))
    assert seen == [(10, 24), (12, 24), (22, 24), (24, 24)]


def test_what_has_no_number_says_why() -> None:
    space = mixed_space()
    frame = sample(space, 12, mixed_cost)
    cases = {
        "one configuration only: nothing to compare": frame.head(1),
        "all costs are equal: no variance to explain": frame.assign(cost=0.5),
        "no trial succeeded at this fidelity": frame.assign(status="diverged", cost=np.nan),
    }
    for reason, table in cases.items():
        summary = summarise(table, space, bootstrap=3, groups={"squeeze": ["se", "ratio"]})
        entry = at_highest(summary)
        assert entry["note"] == reason
        assert entry["r2"] is None
        for name in ("lpi", "fanova", "groups", "ablation", "shapley", "partial_dependence"):
            assert entry[name] == []
        json.dumps(summary, allow_nan=False)


def test_an_empty_run_and_one_of_failures_only_have_no_incumbent() -> None:
    space = mixed_space()
    frame = sample(space, 5, mixed_cost)
    empty = summarise(frame.head(0), space)
    failed = summarise(frame.assign(status="out_of_memory", cost=None), space)
    assert empty["incumbent"] is failed["incumbent"] is None
    assert empty["warnings"] == ["there are no trials yet"]
    assert failed["warnings"] == ["5 trials failed, and none succeeded"]
    assert failed["references"][0]["cost"] is None
    json.dumps([empty, failed], allow_nan=False)


def test_fewer_trials_than_hyperparameters_is_warned_of() -> None:
    space = mixed_space()
    summary = summarise(sample(space, 4, mixed_cost), space, bootstrap=2)
    assert any("fewer trials (4) than hyperparameters (5)" in warning for warning in summary["warnings"])


def test_references_are_measured_where_they_ran_and_predicted_elsewhere() -> None:
    space = ConfigurationSpace()
    space.add(Categorical("a", [0, 1]), Categorical("b", [0, 1]))
    frame = pd.DataFrame({"a": [0, 0, 1], "b": [0, 0, 1], "seed": [1, 2, 1], "cost": [0.4, 0.6, 0.2]}).assign(
        fidelity=9, status="success"
    )
    references = {"xception": {"a": 0, "b": 0}, "other": {"a": 1, "b": 0}}
    summary = summarise(frame.assign(cost=[0.4, 0.6, 0.2]), space, references=references, bootstrap=0)
    default, xception, other = summary["references"]
    assert default["config"] == xception["config"] == {"a": 0, "b": 0}
    assert (xception["cost"], xception["num_seeds"], xception["fidelity"]) == (pytest.approx(0.5), 2, 9)
    assert xception["difference"] == pytest.approx(xception["cost"] - summary["incumbent"]["cost"])
    assert other["cost"] is None and other["predicted_cost"] is not None and other["difference"] is not None


def test_a_reference_of_a_lower_rung_is_compared_with_the_incumbent_there() -> None:
    space = ConfigurationSpace()
    space.add(Categorical("a", [0, 1]), Categorical("b", [0, 1]))
    rows = [(0, 0, 1.0, 0.9), (1, 1, 1.0, 0.7), (1, 0, 1.0, 0.8), (1, 1, 9.0, 0.3), (0, 1, 9.0, 0.4), (0, 1, 1.0, 0.6)]
    frame = pd.DataFrame(rows, columns=["a", "b", "fidelity", "cost"]).assign(status="success", seed=0)
    references = {"low": {"a": 0, "b": 0}, "high": {"a": 0, "b": 1}}
    _, low, high = summarise(frame, space, references=references, bootstrap=0)["references"]
    assert (low["cost"], low["fidelity"], low["num_seeds"]) == (pytest.approx(0.9), 1.0, 1)
    assert low["difference"] == pytest.approx(0.9 - 0.7)  # of one epoch, as the incumbent had there
    assert (high["fidelity"], high["difference"]) == (9.0, pytest.approx(0.1))
    without = frame[~((frame["b"] == 1) & (frame["fidelity"] == 1.0))].reset_index(drop=True)
    _, low, _ = summarise(without, space, references=references, bootstrap=0)["references"]
    assert low["cost"] == pytest.approx(0.9)
    assert low["difference"] != pytest.approx(0.6), "not of different epochs"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"methods": ("sobol",)}, "no method sobol"),
        ({"lpi": "cave"}, "no LPI of kind 'cave'"),
        ({"bootstrap": -1}, "draws is -1"),
        ({"at": 4}, "no trial has fidelity 4"),
        ({"references": {"mine": {"block": "resnet"}}}, "'resnet' is not a value of block"),
    ],
)
def test_impossible_requests_are_refused(arguments: dict[str, Any], message: str) -> None:
    space = mixed_space()
    with pytest.raises(NaxcliError, match=message):
        summarise(sample(space, 5, mixed_cost), space, **arguments)
