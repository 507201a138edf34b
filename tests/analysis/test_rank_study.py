"""Verdicts of the rank study, on numbers made so that the answer is known."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from naxcli.analysis.rank_study import (
    AGREES,
    DISAGREES,
    SATURATED,
    UNDECIDED,
    correlate,
    judge_claims,
    rank_ratios_by_part,
)

ACTIVATIONS = ("linear", "relu", "relu6", "elu", "silu")


def measured(rank_ratio) -> pd.DataFrame:
    """Return 40 networks of one layer; `rank_ratio` is a function of the ratio of channels, the activation and noise."""
    rng = np.random.default_rng(0)
    return pd.DataFrame(
        [
            {
                "network": number,
                "layer": "conv1x1",
                "activation": activation,
                "ratio": ratio,
                "rank_ratio": rank_ratio(ratio, activation, float(rng.normal(0, 0.01))),
            }
            for number, ratio in enumerate(np.linspace(0.1, 1, 40))
            for activation in ACTIVATIONS
        ]
    )


def verdicts(rank_ratio) -> dict[str, str]:
    return {row["claim"]: row["verdict"] for row in judge_claims(measured(rank_ratio), linear="linear")}


GAINS = {"linear": 0.0, "relu": 0.1, "relu6": 0.1, "elu": 0.2, "silu": 0.2}


def test_claims_that_hold_agree() -> None:
    found = verdicts(lambda ratio, activation, noise: ratio + GAINS[activation] + noise)
    assert found == {"expands": AGREES, "rises": AGREES, "smooth": AGREES}


def test_claims_that_do_not_hold_disagree_by_the_activation_that_speaks_most_against_them() -> None:
    def rank_ratio(ratio: float, activation: str, noise: float) -> float:
        return (1 - ratio if activation == "elu" else ratio) - GAINS[activation] + noise

    rows = judge_claims(measured(rank_ratio), linear="linear")
    assert {row["claim"]: row["verdict"] for row in rows} == dict.fromkeys(("expands", "rises", "smooth"), DISAGREES)
    assert next(row for row in rows if row["claim"] == "rises")["activation"] == "elu"


def test_claims_are_not_judged_by_noise_nor_where_all_are_equal() -> None:
    found = verdicts(lambda ratio, activation, noise: 0.5 + noise)
    assert found["expands"] != AGREES and set(found.values()) == {UNDECIDED}
    assert set(verdicts(lambda ratio, activation, noise: 1.0).values()) == {SATURATED}


def test_parts_of_the_range_have_their_own_means() -> None:
    rows = rank_ratios_by_part(measured(lambda ratio, activation, noise: ratio + GAINS[activation]))
    assert [(row["activation"], row["from"], row["to"]) for row in rows[:4]] == [
        ("linear", 0.0, 0.4),
        ("linear", 0.4, 0.7),
        ("linear", 0.7, 1.0),
        ("relu", 0.0, 0.4),
    ]
    assert [row["num_networks"] for row in rows[:3]] == [13, 13, 14]
    assert rows[3]["mean"] - rows[0]["mean"] == pytest.approx(0.1)


def test_norms_correlate_with_accuracy_as_their_ranks_do() -> None:
    rows = [{"norm": n**3, "noise": 1.0, "val_accuracy": n / 10} for n in range(8)]
    found = {row["name"]: row for row in correlate(("norm", "noise"), rows, against="val_accuracy")}
    assert found["norm"]["mean"] == pytest.approx(1) and found["norm"]["low"] > 0.9
    assert found["noise"] == {"name": "noise", "num_trials": 8, "mean": None, "low": None, "high": None}
