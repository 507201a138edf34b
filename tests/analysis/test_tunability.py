"""Tunability against enumeration, and what its intervals and decoys say."""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np
import pandas as pd
import pytest
from ConfigSpace import Categorical, ConfigurationSpace, EqualsCondition, Float

from naxcli.analysis.summary import summarise


def space() -> ConfigurationSpace:
    found = ConfigurationSpace()
    found.add(Categorical("block", [0, 1, 2]), Categorical("se", ["no", "yes"]), Categorical("ratio", [2, 4]))
    found.add(Categorical("kernel", [3, 5], default=5), Categorical("none", [0, 1]))
    found.add(EqualsCondition(found["ratio"], found["se"], "yes"))
    return found


def cost(config: dict[str, Any]) -> float:
    """Return a cost whose default is best in `kernel` alone, and in which `se` gains through its ratio's default."""
    gain = 0.3 * (config["block"] == 1) + 0.5 * (config["block"] == 2) + 0.2 * (config["kernel"] == 5)
    return 1 - gain - (0.1 + 0.1 * (config.get("ratio") == 4)) * (config["se"] == "yes")


def configs() -> list[dict[str, Any]]:
    names = ["block", "se", "ratio", "kernel", "none"]
    everything = [dict(zip(names, v, strict=True)) for v in product([0, 1, 2], ["no", "yes"], [2, 4], [3, 5], [0, 1])]
    for config in everything:
        if config["se"] == "no":
            config["ratio"] = None
    return [config for number, config in enumerate(everything) if config not in everything[:number]]


def frame(rows: list[dict[str, Any]], costs: list[float]) -> pd.DataFrame:
    return pd.DataFrame(rows).assign(cost=costs, fidelity=1.0, status="success", trial_id=range(len(rows)))


def test_the_gain_of_each_hyperparameter_equals_enumeration() -> None:
    rows = configs()
    table = frame(rows, [cost(row) for row in rows])
    entry = summarise(table, space(), methods=("tunability",), exact_model=True, bootstrap=0)["importance"][-1]
    found = {
        row["name"]: (pytest.approx(row["mean"], abs=1e-12), row["from"], row["to"]) for row in entry["tunability"]
    }
    # What is inactive in the default cannot be tuned alone; what is best there gains nothing and keeps its value.
    assert found == {
        "block": (0.5, 0, 2),
        "se": (0.1, "no", "yes"),
        "kernel": (0.0, 5, 5),
        "none": (0.0, 0, 0),
    }
    assert [row["name"] for row in entry["tunability"]][:2] == ["block", "se"]


def test_a_gain_is_shown_and_an_effect_without_gain_or_no_effect_is_not() -> None:
    rng = np.random.default_rng(0)
    rows = [configs()[number] for number in rng.integers(len(configs()), size=150)]
    table = frame(rows, [cost(row) + 0.05 * rng.normal() for row in rows])
    entry = summarise(table, space(), methods=("tunability",))["importance"][-1]
    found = {row["name"]: row for row in entry["tunability"]}
    for name, truth in (("block", 0.5), ("se", 0.1)):
        assert found[name]["matters"] and 0 < found[name]["low"] <= truth <= found[name]["high"]
    assert not found["kernel"]["matters"] and found["kernel"]["low"] == 0
    assert not found["none"]["matters"] and found["none"]["low"] == 0
    assert found["block"]["rank_group"] == 1 < found["kernel"]["rank_group"] == found["none"]["rank_group"]


def test_a_number_is_tuned_over_its_range() -> None:
    numeric = ConfigurationSpace()
    numeric.add(Float("lr", (1e-4, 1.0), log=True, default=1e-3), Categorical("a", [0, 1]))
    rng = np.random.default_rng(0)
    lr = 10 ** rng.uniform(-4, 0, 120)
    table = frame([{"lr": float(value), "a": int(rng.integers(2))} for value in lr], list((np.log10(lr) + 2) ** 2))
    row = summarise(table, numeric, methods=("tunability",), bootstrap=20)["importance"][-1]["tunability"][0]
    assert row["name"] == "lr" and row["from"] == 1e-3
    assert row["to"] == pytest.approx(1e-2, rel=1.0)
    assert row["low"] <= 1 <= row["high"]
