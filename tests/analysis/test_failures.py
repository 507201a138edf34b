"""Failure rates per choice."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
from ConfigSpace import Categorical, ConfigurationSpace, EqualsCondition, Float, Integer

from naxcli.analysis.encoding import Encoding
from naxcli.analysis.failures import failure_rates
from naxcli.analysis.summary import summarise
from naxcli.analysis.table import check_table


def space() -> ConfigurationSpace:
    found = ConfigurationSpace()
    found.add(Categorical("width", [1, 2, 4]), Categorical("se", ["no", "yes"]), Categorical("none", [0, 1, 2]))
    found.add(Float("lr", (1e-4, 1.0), log=True), Integer("many", (0, 40)), Categorical("gate", [0, 1]))
    found.add(EqualsCondition(found["gate"], found["se"], "yes"))
    return found


def trials(num: int, *, seed: int, chance: Any) -> pd.DataFrame:
    """Return random trials; `chance(config)` is that of running out of memory."""
    configuration_space = space()
    configuration_space.seed(seed)
    rng = np.random.default_rng(seed)
    configs = [dict(configuration) for configuration in configuration_space.sample_configuration(num)]
    failed = [rng.random() < chance(config) for config in configs]
    frame = pd.DataFrame([{name: config.get(name) for name in configuration_space} for config in configs])
    return frame.assign(
        cost=np.where(failed, np.nan, rng.normal(size=num)),
        status=np.where(failed, "out_of_memory", "success"),
        fidelity=1.0,
        trial_id=range(num),
    )


def rates(frame: pd.DataFrame) -> list[dict[str, Any]]:
    table, vectors = check_table(frame, space())
    return failure_rates(table, vectors, Encoding(space()), seed=0)


def test_a_choice_that_fails_more_often_is_shown_with_its_rate_and_how_it_failed() -> None:
    frame = trials(200, seed=0, chance=lambda config: 0.4 if config["width"] == 4 else 0.03)
    found = rates(frame)
    shown = [row for row in found if row["matters"]]
    assert [(row["name"], row["value"]) for row in shown] == [("width", 4)]
    wide = frame["width"] == 4
    assert shown[0]["num_trials"] == wide.sum()
    assert shown[0]["rate"] == pytest.approx((frame["status"][wide] != "success").mean())
    assert shown[0]["other_rate"] == pytest.approx((frame["status"][~wide] != "success").mean())
    assert shown[0]["low"] < 0.4 < shown[0]["high"]
    assert shown[0]["statuses"] == {"out_of_memory": shown[0]["num_failed"]}
    assert found == sorted(found, key=lambda row: (not row["matters"], -row["rate"], row["name"]))


def test_a_range_of_a_number_that_fails_more_often_is_shown_by_its_ends() -> None:
    found = rates(trials(300, seed=1, chance=lambda config: 0.5 if config["lr"] > 0.1 else 0.02))
    shown = [row for row in found if row["matters"]]
    assert [(row["name"], row["from"], row["to"]) for row in shown] == [("lr", 0.1, 1.0)]
    many = [row for row in found if row["name"] == "many"]
    assert {(row["from"], row["to"]) for row in many} == {(0, 10), (10, 20), (20, 30), (30, 40)}
    assert sum(row["num_trials"] for row in many) == 300


def test_failures_at_random_are_rarely_laid_to_a_choice() -> None:
    shown = [row for seed in range(20) for row in rates(trials(80, seed=seed, chance=lambda _: 0.15)) if row["matters"]]
    # In one of twenty samples or fewer; more than four come by chance less often than once in a hundred times.
    assert len(shown) <= 4


def test_trials_of_a_configuration_count_once_and_an_inactive_hyperparameter_not_at_all() -> None:
    frame = trials(60, seed=2, chance=lambda config: 0.3)
    again = rates(pd.concat([frame, frame], ignore_index=True).assign(trial_id=range(120)))
    once = rates(frame)
    assert [row["num_trials"] for row in once] == [row["num_trials"] for row in again]
    gates = [row for row in once if row["name"] == "gate"]
    assert sum(row["num_trials"] for row in gates) == (frame["se"] == "yes").sum()


def test_promoted_configurations_do_not_stand_out_for_having_had_more_chances_to_fail() -> None:
    frame = trials(400, seed=3, chance=lambda config: 0.0)
    promoted = frame[frame["width"] == 4]
    rungs = pd.concat([frame, *(promoted.assign(fidelity=fidelity) for fidelity in (3.0, 9.0))], ignore_index=True)
    failed = np.random.default_rng(0).random(len(rungs)) < 0.05 * rungs["fidelity"] ** 0.5
    rungs = rungs.assign(status=np.where(failed, "crashed", "success"), trial_id=range(len(rungs)))
    wide = next(row for row in rates(rungs) if row["name"] == "width" and row["value"] == 4)
    assert wide["rate"] > wide["other_rate"] and not wide["matters"]


def test_where_nothing_failed_or_everything_did_there_are_no_rates() -> None:
    frame = trials(20, seed=0, chance=lambda config: 0.0)
    assert rates(frame) == []
    assert rates(frame.assign(status="crashed", cost=np.nan)) == []
    assert summarise(frame, space(), methods=(), bootstrap=0)["failure_rates"] == []


def test_a_stopped_trial_is_no_failure() -> None:
    frame = trials(40, seed=0, chance=lambda config: config["width"] == 4)
    frame.loc[frame["status"] != "success", "status"] = "stopped"
    summary = summarise(frame, space())
    assert not summary["failures"]
    assert not summary["failure_rates"]
    assert any("stopped early" in warning for warning in summary["warnings"])
