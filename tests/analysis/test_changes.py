"""How importance changes between fidelities."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
from ConfigSpace import Categorical, ConfigurationSpace

from naxcli.analysis.changes import Measured, importance_changes
from naxcli.analysis.importance import Estimate
from naxcli.analysis.summary import summarise

NAMES = ("a", "b", "c", "none")


def space() -> ConfigurationSpace:
    found = ConfigurationSpace()
    found.add(*(Categorical(name, [0, 1, 2]) for name in NAMES))
    return found


def trials(weights: dict[float, tuple[float, float, float]], *, num: int = 100, seed: int = 0) -> pd.DataFrame:
    """Return trials of the same configurations at each fidelity, whose cost is a weighted sum of a, b and c."""
    rng = np.random.default_rng(seed)
    configs = rng.integers(3, size=(num, 4))
    frames = []
    for fidelity, each in weights.items():
        costs = (configs[:, :3] == 2) @ np.array(each) + 0.15 * rng.normal(size=num)
        frames.append(pd.DataFrame(configs, columns=NAMES).assign(cost=costs, fidelity=fidelity, status="success"))
    return pd.concat(frames, ignore_index=True).assign(trial_id=range(num * len(weights)))


def change(frame: pd.DataFrame, **choices: Any) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = summarise(frame, space(), methods=("fanova",), **choices)["importance_changes"]
    return found


def test_what_gains_or_loses_importance_with_the_fidelity_is_shown_with_the_true_difference_in_its_interval() -> None:
    (found,) = change(trials({1.0: (1, 0.6, 0.3), 9.0: (0.3, 0.6, 1)}))
    assert (found["fidelity"], found["to"]) == (1.0, 9.0)
    rows = {row["name"]: row for row in found["changes"]}
    truth = (1 - 0.3**2) / (1 + 0.36 + 0.09)
    for name, difference in (("a", -truth), ("b", 0.0), ("c", truth), ("none", 0.0)):
        row = rows[name]
        assert row["low"] <= difference <= row["high"]
        assert row["difference"] == pytest.approx(row["after"] - row["before"])
        assert row["matters"] == (difference != 0)
    assert [row["name"] for row in found["changes"]][:2] in (["a", "c"], ["c", "a"])
    (order,) = found["orders"]
    assert order["num_hyperparameters"] == 3
    assert order["low"] <= order["kendall"] < 0


def test_the_same_importance_at_three_fidelities_is_no_change() -> None:
    found = change(trials({1.0: (1, 0.6, 0.3), 3.0: (1, 0.6, 0.3), 9.0: (1, 0.6, 0.3)}), bootstrap=60)
    assert [(each["fidelity"], each["to"]) for each in found] == [(1.0, 9.0), (3.0, 9.0)]
    rows = [row for each in found for row in each["changes"]]
    assert sum(row["matters"] for row in rows) <= 1
    assert found[0]["orders"][0]["high"] == 1.0


def test_draws_of_two_fidelities_are_not_taken_to_err_together() -> None:
    draws = np.random.default_rng(0).normal(0.5, 0.1, 400)
    same = {("lpi", "a"): Estimate(mean=0.5, matters=True)}
    measured = [Measured(fidelity=f, estimates=same, draws={("lpi", "a"): draws}) for f in (1.0, 2.0)]
    (row,) = importance_changes(measured, seed=0)[0]["changes"]
    # 1.96 standard deviations of a difference of two independent numbers.
    assert row["high"] == pytest.approx(1.96 * np.sqrt(2) * 0.1, rel=0.15)


def test_a_single_fidelity_or_one_without_numbers_has_no_changes_and_no_draws_no_intervals() -> None:
    frame = trials({1.0: (1, 0.6, 0.3), 9.0: (1, 0.6, 0.3)}, num=30)
    assert change(frame, at=9.0, bootstrap=0) == []
    assert change(frame[(frame["fidelity"] == 1) | (frame.index == 30)], bootstrap=0) == []
    (found,) = change(frame, bootstrap=0)
    assert {(row["low"], row["high"], row["matters"]) for row in found["changes"]} == {(None, None, None)}
    assert found["orders"] == []
