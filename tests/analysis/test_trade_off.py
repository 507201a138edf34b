"""Importance for cost and size together."""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np
import pandas as pd
import pytest
from ConfigSpace import Categorical, ConfigurationSpace

from naxcli.analysis.summary import summarise
from naxcli.analysis.trade_off import WEIGHTS

NAMES = ("block", "width", "none")


def space() -> ConfigurationSpace:
    found = ConfigurationSpace()
    found.add(*(Categorical(name, [0, 1, 2]) for name in NAMES))
    return found


def frame(rows: list[tuple[int, ...]], *, noise: float = 0.0) -> pd.DataFrame:
    """Return trials whose cost falls with block and width, and whose size grows with width alone."""
    configs, rng = np.array(rows), np.random.default_rng(0)
    block, width = configs[:, 0] == 2, configs[:, 1]
    costs = 1 - 0.4 * block - 0.1 * width + noise * rng.normal(size=len(rows))
    return pd.DataFrame(configs, columns=NAMES).assign(
        cost=costs, num_params=1_000 * (1.0 + width), fidelity=1.0, status="success", trial_id=range(len(rows))
    )


def trade_offs(table: pd.DataFrame, **choices: Any) -> list[dict[str, Any]]:
    wanted = {"methods": ("fanova",), "objectives": ["num_params"], **choices}
    found: list[dict[str, Any]] = summarise(table, space(), **wanted)["trade_offs"]
    return found


def truth(weight: float, table: pd.DataFrame) -> dict[str, float]:
    """Return the shares over the whole space, with both objectives between the lowest and highest ones of a table."""
    everything = frame(list(product(range(3), repeat=3)))
    cost, size = (everything[name] / np.ptp(table[name]) for name in ("cost", "num_params"))
    total = weight * cost + (1 - weight) * size
    return {name: total.groupby(everything[name]).mean().var(ddof=0) / total.var(ddof=0) for name in NAMES}


def test_shares_at_every_weight_equal_enumeration() -> None:
    table = frame(list(product(range(3), repeat=3)))
    (found,) = trade_offs(table, exact_model=True, bootstrap=0)
    assert (found["objective"], found["fidelity"], found["num_trials"]) == ("num_params", 1.0, 27)
    assert tuple(each["cost_weight"] for each in found["weights"]) == WEIGHTS
    for each in found["weights"]:
        expected = truth(each["cost_weight"], table)
        assert {row["name"]: row["mean"] for row in each["fanova"]} == pytest.approx(expected, abs=1e-9)


def test_intervals_hold_the_shares_and_what_does_nothing_at_a_weight_is_not_shown() -> None:
    rows = [tuple(row) for row in np.random.default_rng(1).integers(3, size=(90, 3))]
    table = frame(rows, noise=0.05)
    (found,) = trade_offs(table)
    for each in found["weights"]:
        expected, weight = truth(each["cost_weight"], table), each["cost_weight"]
        shares = {row["name"]: row for row in each["fanova"]}
        # A forest of few trials hardly reaches 1 where a choice explains everything.
        assert all(row["low"] - 0.01 <= expected[name] <= row["high"] + 0.01 for name, row in shares.items())
        assert not shares["none"]["matters"] and shares["none"]["low"] == 0
        assert shares["block"]["matters"] == (weight > 0)
        assert shares["width"]["matters"]


def test_objectives_that_cancel_out_leave_nothing_to_explain() -> None:
    table = frame(list(product(range(3), repeat=3)))
    table["cost"] = 1 - 0.1 * table["width"]
    (found,) = trade_offs(table, bootstrap=10)
    for each in found["weights"]:
        means = {row["name"]: row["mean"] for row in each["fanova"]}
        assert means["width"] == (None if each["cost_weight"] == 0.5 else pytest.approx(1, abs=0.05))


def test_without_further_objectives_or_with_a_constant_one_there_is_no_table() -> None:
    table = frame(list(product(range(3), repeat=3)))
    assert trade_offs(table, objectives=(), bootstrap=0) == []
    assert trade_offs(table.assign(num_params=7.0), bootstrap=0) == []
    assert trade_offs(table.assign(num_params=np.nan), bootstrap=0) == []
    assert trade_offs(table, methods=("lpi",), bootstrap=0) == []
    assert trade_offs(table.assign(status="crashed", cost=np.nan), bootstrap=0) == []
