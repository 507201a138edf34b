"""The top, the middle and the bottom tenth, of runs whose answer is known."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from ConfigSpace import ConfigurationSpace, Integer

from naxcli.analysis.summary import summarise

NUM_CONFIGS, REPEATS = 100, 3
SPACE = ConfigurationSpace(name="numbers", seed=0)
SPACE.add(Integer("n", (0, NUM_CONFIGS - 1)))


def trials() -> pd.DataFrame:
    """Return three repeats of each of 100 configurations, in disorder: n costs n / 100 on average and has 1,000 + n parameters."""
    rows = [
        {
            "config.n": n,
            "status": "success",
            "fidelity": 30.0,
            "seed": repeat,
            # A repeat alone would be ranked elsewhere: the three of a configuration differ by more than its neighbours do.
            "cost": n / 100 + (-0.3, 0.0, 0.3)[(repeat + n) % REPEATS],
            "val_accuracy": 1 - n / 100,
            "num_params": 1_000 + n,
        }
        for n in range(NUM_CONFIGS)
        for repeat in range(REPEATS)
    ]
    lower = [row | {"fidelity": 10.0, "cost": 1 - row["cost"]} for row in rows]
    failed = rows[0] | {"status": "crashed", "cost": None, "seed": 9}
    frame = pd.DataFrame([*rows, *lower, failed])
    return frame.sample(frac=1, random_state=0, ignore_index=True)


def staircase(config: dict) -> list[float]:
    """Return a profile of n, n + 2, ... with one block more for odd numbers."""
    return [config["n"] + 2 * block for block in range(3 + config["n"] % 2)]


def tenths(frame: pd.DataFrame) -> list[dict]:
    found = summarise(frame, SPACE, methods=("lpi",), bootstrap=0, profiles={"width": staircase})
    return found["tenths"]


def test_each_tenth_holds_the_configurations_that_it_must() -> None:
    found = {entry["tenth"]: entry for entry in tenths(trials())}
    members = {"top": range(10), "middle": range(45, 55), "bottom": range(90, 100)}
    assert list(found) == list(members)
    for name, numbers in members.items():
        entry = found[name]
        assert entry["num_configs"] == 10
        for quantity, values in {
            "cost": [n / 100 for n in numbers],
            "val_accuracy": [1 - n / 100 for n in numbers],
            "num_params": [1_000 + n for n in numbers],
        }.items():
            assert entry[quantity]["mean"] == pytest.approx(np.mean(values))
            assert entry[quantity]["std"] == pytest.approx(np.std(values, ddof=1))
        assert "flops" not in entry or entry["flops"] == {"mean": None, "std": None}


def test_a_profile_is_averaged_over_the_configurations_that_have_the_block() -> None:
    top = tenths(trials())[0]["profiles"]["width"]
    assert [point["block"] for point in top] == [1, 2, 3, 4]
    assert [point["num_configs"] for point in top] == [10, 10, 10, 5]
    assert [point["mean"] for point in top] == pytest.approx([4.5, 6.5, 8.5, np.mean([1, 3, 5, 7, 9]) + 6])
    assert top[0]["std"] == pytest.approx(np.std(range(10), ddof=1))


def test_a_tenth_of_a_few_configurations_is_one_of_them_and_fewer_than_ten_have_none() -> None:
    frame = trials()
    few = tenths(frame[frame["config.n"] < 12])
    assert [entry["num_configs"] for entry in few] == [1, 1, 1]
    assert few[0]["cost"] == {"mean": pytest.approx(0.0), "std": None}
    assert tenths(frame[frame["config.n"] < 9]) == []
    assert tenths(frame.assign(status="crashed", cost=None)) == []
