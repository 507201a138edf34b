"""Audits of a search: proxies, the random baseline, and what one more day is worth."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from ConfigSpace import Categorical, ConfigurationSpace, Float

from naxcli.analysis.anytime import expected_improvement, marginal_value, pareto_front, trajectory
from naxcli.analysis.audit import proxy_audit, random_arm, shift_interval, spearman_interval
from naxcli.analysis.clock import steady_times
from naxcli.analysis.summary import summarise
from naxcli.analysis.table import check_table, normalise_table

DAY = 86_400
MACRO = Path(__file__).parents[3] / "shared/data/nas-bench-macro/nas-bench-macro_cifar10.json"


def space() -> ConfigurationSpace:
    configuration_space = ConfigurationSpace()
    configuration_space.add(Float("x", (0.0, 1.0)), Categorical("block", ["xception", "bottleneck"]))
    return configuration_space


def trials(costs: Any, **columns: Any) -> pd.DataFrame:
    """Return trials of different configurations, ten seconds each, one after the other."""
    num = len(costs)
    x = (np.arange(num) * 0.6180339) % 1
    started = 1_000.0 + 10 * np.arange(num)
    frame = pd.DataFrame(
        {"config.x": x, "config.block": "xception", "fidelity": 9.0, "seed": 0, "status": "success", "cost": costs}
    )
    frame = frame.assign(trial_id=np.arange(num), seconds=10.0, started_at=started, ended_at=started + 10)
    return frame.assign(**columns)


def rungs(num: int, correlation: float, *, seed: int = 0) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    low = rng.normal(size=num)
    high = correlation * low + np.sqrt(1 - correlation**2) * rng.normal(size=num)
    return pd.concat([trials(low, fidelity=3.0), trials(high, fidelity=9.0)])


def audit(frame: pd.DataFrame) -> list[dict[str, Any]]:
    return proxy_audit(*check_table(frame, space()))


def test_a_rung_that_keeps_the_order_is_trusted() -> None:
    (found,) = audit(rungs(60, 0.95))
    assert (found["fidelity"], found["to"], found["num_configs"]) == (3, 9, 60)
    assert found["low"] < found["spearman"] < found["high"]
    assert found["verdict"] == "keeps the order"
    assert 0 < found["kendall"] < found["spearman"]


def test_a_rung_that_misleads_is_warned_of() -> None:
    frame = rungs(80, -0.2)
    assert audit(frame)[0]["verdict"].startswith("misleads")
    assert any(
        text.startswith("fidelity 3 misleads")
        for text in summarise(frame, space(), bootstrap=0, methods=())["warnings"]
    )


def test_few_or_equal_configurations_give_no_correlation() -> None:
    (few,) = audit(rungs(4, 0.9))
    (equal,) = audit(pd.concat([trials(np.ones(10), fidelity=3.0), trials(np.arange(10.0))]))
    assert few["spearman"] is equal["spearman"] is None
    assert few["verdict"] == "4 configurations in common: too few to tell"


def test_the_interval_of_a_rank_correlation_covers_it() -> None:
    rng = np.random.default_rng(0)
    covered = []
    for _ in range(200):
        pair = rng.multivariate_normal([0, 0], [[1, 0.6], [0.6, 1]], size=30)
        rho = float(pd.DataFrame(pair).corr(method="spearman").iloc[0, 1])
        low, high = spearman_interval(rho, 30)
        # Spearman's correlation of a normal pair is 6 / pi * asin(r / 2).
        covered.append(low <= 6 / np.pi * np.arcsin(0.3) <= high)
    assert 0.9 <= np.mean(covered) <= 0.99


def arms(searcher: Any, random: Any) -> pd.DataFrame:
    return trials(np.concatenate([searcher, random]), searcher=["smac"] * len(searcher) + ["random"] * len(random))


def arm_of(frame: pd.DataFrame) -> dict[str, Any] | None:
    return random_arm(check_table(frame, space())[0])


def test_a_searcher_far_better_than_random_is_said_to_beat_it() -> None:
    rng = np.random.default_rng(0)
    found = arm_of(arms(rng.normal(0.2, 0.01, 20), rng.normal(0.4, 0.01, 20)))
    assert found is not None
    assert found["verdict"] == "the searcher beat random at equal cost"
    assert found["low"] <= found["difference"] <= found["high"] < 0


def test_two_arms_are_compared_at_what_the_shorter_one_spent() -> None:
    searcher = np.concatenate([np.full(10, 0.5) + np.arange(10) / 100, np.full(30, 0.1)])
    found = arm_of(arms(searcher, np.linspace(0.4, 0.6, 10)))
    assert found is not None
    assert (found["num_searcher"], found["num_random"], found["searcher_best"]) == (10, 10, 0.5)


def test_a_searcher_that_is_random_is_rarely_told_apart_from_random() -> None:
    rng = np.random.default_rng(1)
    verdicts = [shift_interval(rng.normal(size=20), rng.normal(size=20)) for _ in range(200)]
    assert np.mean([low <= 0 <= high for low, high in verdicts]) >= 0.93


def test_a_shift_is_covered_by_its_interval() -> None:
    rng = np.random.default_rng(2)
    intervals = [shift_interval(rng.exponential(size=25) - 0.3, rng.exponential(size=25)) for _ in range(100)]
    assert np.mean([low <= -0.3 <= high for low, high in intervals]) >= 0.9


def test_a_run_without_both_arms_has_no_comparison() -> None:
    assert arm_of(trials(np.arange(10.0))) is None
    assert arm_of(trials(np.arange(10.0), searcher="random")) is None
    few = arm_of(arms(np.arange(10.0), [1.0, 2.0]))
    assert few is not None and few["low"] is None and few["verdict"].startswith("too few")


def test_the_trajectory_only_falls_and_counts_all_trial_seconds() -> None:
    frame = trials([0.5, 0.6, 0.4, 0.45, 0.3]).assign(
        fidelity=[9, 9, 9, 9, 9.0], status=["success"] * 3 + ["crashed", "success"]
    )
    points = trajectory(normalise_table(frame.sample(frac=1, random_state=0), space()))
    assert [point["trial_id"] for point in points] == [0, 2, 4]
    assert [point["cost"] for point in points] == [0.5, 0.4, 0.3]
    assert [point["elapsed_seconds"] for point in points] == [10, 30, 50]
    assert [point["trial_seconds_sum"] for point in points] == [10, 30, 50]


def set_back(frame: pd.DataFrame, first: int, seconds: float) -> pd.DataFrame:
    """Return a run whose clock was set back before a trial began: its rows keep the order in which the trials ended."""
    frame = frame.copy()
    frame.loc[first:, ["started_at", "ended_at"]] -= seconds
    return frame


def test_a_clock_that_was_set_back_changes_neither_the_order_of_trials_nor_the_time_that_they_took() -> None:
    arm = np.where(np.arange(40) % 2, "random", "smac")
    costs = 1 / (1.0 + np.arange(40))
    true = trials(costs, searcher=arm)
    jumped = set_back(true, 15, 3_600.0)
    points = trajectory(check_table(jumped, space())[0])
    assert [point["trial_id"] for point in points] == list(range(40))
    elapsed = [point["elapsed_seconds"] for point in points]
    # The first trial of the new clock counts as ended with the last one of the old.
    assert elapsed == [10.0 * number for number in (*range(1, 16), *range(15, 40))]
    assert arm_of(jumped) == arm_of(true)
    first, second = (marginal_value(*check_table(each, space())) for each in (true, jumped))
    assert first is not None and second is not None
    assert second["per_day_improvement"] == pytest.approx(first["per_day_improvement"], rel=0.1)


def test_a_trial_that_began_before_the_clock_was_set_back_keeps_its_times() -> None:
    times = {"started_at": [1_000.0, 1_000.0, -2_590.0, -2_580.0], "ended_at": [1_010.0, 1_025.0, -2_580.0, -2_560.0]}
    table = trials([0.1] * 4).assign(**times).iloc[[0, 2, 1, 3]].reset_index(drop=True)
    started, ended = steady_times(table)
    assert list(ended) == [1_010.0, 1_010.0, 1_025.0, 1_030.0]
    assert list(ended - started) == [10.0, 10.0, 25.0, 20.0]


def test_times_of_a_clock_that_was_not_set_back_are_as_recorded() -> None:
    rng = np.random.default_rng(0)
    frame = trials([0.1] * 40)
    # Four workers, whose results arrive a little out of order.
    frame["ended_at"] = frame["started_at"] + rng.uniform(20, 40, 40)
    frame = frame.iloc[np.argsort(frame["ended_at"] + rng.uniform(0, 3, 40))].reset_index(drop=True)
    started, ended = steady_times(frame)
    assert list(started) == list(frame["started_at"])
    assert list(ended) == list(frame["ended_at"])


def test_the_pareto_front_has_no_configuration_that_another_beats() -> None:
    frame = trials([0.1, 0.2, 0.3, 0.4], num_params=[50, 20, 30, 10], latency_ms=[4.0, 3.0, None, 3.5])
    front = pareto_front(*check_table(frame, space()))
    assert [row["trial_id"] for row in front] == [0, 1, 3]
    assert front[0] == {
        "trial_id": 0,
        "config_id": front[0]["config_id"],
        "cost": 0.1,
        "num_params": 50,
        "flops": None,
        "latency_ms": 4.0,
    }
    assert pareto_front(*check_table(trials([0.1, 0.2]), space())) == []


def test_one_more_day_is_worth_less_the_longer_a_search_has_run() -> None:
    costs = np.random.default_rng(0).beta(5, 3, 2000)
    early, _, _ = expected_improvement(costs[:50], 100)
    late, _, _ = expected_improvement(costs, 100)
    assert early > 5 * late > 0


@pytest.mark.parametrize("kind", ["normal", "uniform", "beta"])
def test_the_improvement_of_as_many_trials_again_falls_into_its_interval(kind: str) -> None:
    rng = np.random.default_rng(0)
    draw = {"normal": rng.normal, "uniform": rng.uniform, "beta": lambda size: rng.beta(2, 5, size)}[kind]
    hits, expected, actual = [], [], []
    for _ in range(100):
        costs = draw(size=120)
        mean, low, high = expected_improvement(costs[:60], 60)
        gain = costs[:60].min() - costs.min()
        hits.append(low <= gain <= high)
        expected.append(mean)
        actual.append(gain)
    assert np.mean(hits) >= 0.87
    assert 1 / 3 < np.mean(expected) / np.mean(actual) < 3


def evolution(table: dict[str, float], num: int, rng: np.random.Generator) -> list[float]:
    """Return the costs of regularized evolution (population 20, tournaments of 5) over strings of eight choices."""
    names, history = sorted(table), []
    for step in range(num):
        name = names[rng.integers(len(names))]
        if step >= 20:
            parent = min((history[-20:][i] for i in rng.integers(20, size=5)), key=table.__getitem__)
            place = int(rng.integers(8))
            name = parent[:place] + str((int(parent[place]) + rng.integers(1, 3)) % 3) + parent[place + 1 :]
        history.append(name)
    return [table[name] for name in history]


@pytest.mark.skipif(not MACRO.is_file(), reason="NAS-Bench-Macro is not at hand")
@pytest.mark.parametrize("searcher", ["random", "evolution"])
def test_the_expected_improvement_holds_on_replayed_searches(searcher: str) -> None:
    table = {name: 1 - entry["mean_acc"] / 100 for name, entry in json.loads(MACRO.read_text()).items()}
    rng = np.random.default_rng(0)
    hits = []
    for _ in range(40):
        costs = np.array(
            evolution(table, 400, rng) if searcher == "evolution" else rng.choice(list(table.values()), 400)
        )
        _, low, high = expected_improvement(costs[:200], 200)
        hits.append(low <= costs[:200].min() - costs.min() <= high)
    assert np.mean(hits) >= 0.9


def test_the_marginal_value_counts_trials_per_day_of_active_time() -> None:
    frame = trials(np.random.default_rng(0).beta(5, 3, 40))
    paused = frame.copy()
    paused.loc[20:, ["started_at", "ended_at"]] += DAY
    first, second = (marginal_value(*check_table(each, space())) for each in (frame, paused))
    assert first == second
    assert first is not None and 0 <= first["low"] <= first["per_day_improvement"] <= first["high"]
    assert "the 8,640 such trials that a day has time for" in first["method"]
    apart = frame.copy()  # by as much again as a trial takes
    apart[["started_at", "ended_at"]] += 10.0 * np.arange(len(apart))[:, None]
    third = marginal_value(*check_table(apart, space()))
    assert third is not None and "the 4,375 such trials that a day has time for" in third["method"]
    assert marginal_value(*check_table(trials(np.arange(10.0)), space())) is None
    json.dumps(first, allow_nan=False)


def test_the_marginal_value_ends_with_the_space() -> None:
    table, vectors = check_table(trials(np.random.default_rng(0).beta(5, 3, 40)), space())
    num_tried = len(table.filter(like="config.").drop_duplicates())
    unlimited, little = (marginal_value(table, vectors, num_configs=num) for num in (None, num_tried + 2))
    assert unlimited is not None and little is not None
    assert "the 2 configurations that are left" in little["method"]
    assert little["per_day_improvement"] < unlimited["per_day_improvement"]
    nothing = marginal_value(table, vectors, num_configs=num_tried)
    assert nothing is not None and nothing["high"] == 0


def test_a_configuration_that_failed_is_not_left_and_one_seen_at_a_lower_fidelity_is() -> None:
    frame = trials(np.random.default_rng(0).beta(5, 3, 40))
    frame.loc[:4, ["status", "cost"]] = ["crashed", np.nan]
    frame.loc[5:8, "fidelity"] = 3.0
    found = marginal_value(*check_table(frame, space()), num_configs=50)
    assert found is not None and "the 14 configurations that are left" in found["method"]


def test_one_more_day_promises_no_error_rate_below_zero() -> None:
    costs = 0.01 + np.random.default_rng(0).exponential(0.1, 40)
    rates = trials(costs, val_accuracy=1 - costs)
    bounded, unbounded = (marginal_value(*check_table(each, space())) for each in (rates, trials(costs)))
    assert bounded is not None and unbounded is not None
    assert unbounded["high"] > costs.min() >= bounded["high"] >= bounded["per_day_improvement"] > 0
    assert "no cost is below 0" in bounded["method"] and "no cost below 0" not in unbounded["method"]
