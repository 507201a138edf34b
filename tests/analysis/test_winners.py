"""Confirmed winners: intervals that hold although the best was picked, and sentences a manager can read."""

from __future__ import annotations

import json

import numpy as np
import pytest

from naxcli.analysis.winners import confirmed_gain, mean_interval


def draw(
    rng: np.random.Generator, means: dict[str, float], num_seeds: int, noise: float = 0.01
) -> dict[str, dict[int, float]]:
    per_seed = rng.normal(0, 2 * noise, num_seeds)
    return {
        name: {s: mean + per_seed[s] + rng.normal(0, noise) for s in range(num_seeds)} for name, mean in means.items()
    }


@pytest.mark.parametrize("num_seeds", [2, 5])
def test_the_interval_holds_although_the_best_of_equals_was_picked(num_seeds: int) -> None:
    rng = np.random.default_rng(0)
    candidates = [f"top {rank}" for rank in range(1, 6)]
    means = dict.fromkeys((*candidates, "xception", "default"), 0.3)
    covered = [
        all(
            gain["low"] <= 0 <= gain["high"]
            for gain in confirmed_gain(
                draw(rng, means, num_seeds), candidates=candidates, references=["xception", "default"]
            )["gains"]
        )
        for _ in range(15)
    ]
    assert np.mean(covered) >= 0.9


def test_a_real_gain_is_found_and_told_in_points() -> None:
    costs = draw(np.random.default_rng(1), {"top 1": 0.30, "top 2": 0.31, "xception": 0.36}, 5, noise=0.004)
    found = confirmed_gain(costs, candidates=["top 1", "top 2"], references=["xception"], is_error_rate=True)
    (gain,) = found["gains"]
    assert found["winner"] == "top 1"
    assert 0 < gain["low"] < 0.06 < gain["high"]
    assert found["sentence"].startswith("With 95 % confidence, top 1 is ")
    assert (
        "points more accurate than xception (5 paired seeds, corrected for having picked the best of 2)"
        in found["sentence"]
    )


def test_picking_among_more_candidates_widens_the_interval() -> None:
    rng = np.random.default_rng(2)
    candidates = [f"top {rank}" for rank in range(1, 7)]
    ratios = []
    for _ in range(10):
        costs = draw(rng, dict.fromkeys(candidates, 0.3) | {"xception": 0.35}, 8)
        one = confirmed_gain(costs, candidates=candidates[:1], references=["xception"])["gains"][0]
        six = confirmed_gain(costs, candidates=candidates, references=["xception"])["gains"][0]
        ratios.append((six["high"] - six["low"]) / (one["high"] - one["low"]))
    assert np.mean(ratios) > 1.1


def test_a_loss_and_a_draw_are_called_so() -> None:
    rng = np.random.default_rng(3)
    worse = confirmed_gain(
        draw(rng, {"top 1": 0.4, "xception": 0.3}, 5, noise=0.003), candidates=["top 1"], references=["xception"]
    )
    equal = confirmed_gain(draw(rng, {"top 1": 0.3, "xception": 0.3}, 5), candidates=["top 1"], references=["xception"])
    assert "higher in cost than xception" in worse["sentence"]
    assert equal["sentence"].startswith("No difference between top 1 and xception is shown")


def test_optimism_is_confirmed_minus_the_searchs_own_number() -> None:
    costs = draw(np.random.default_rng(4), {"top 1": 0.35, "top 2": 0.30, "xception": 0.4}, 6, noise=0.002)
    found = confirmed_gain(
        costs, candidates=["top 1", "top 2"], references=["xception"], search_costs={"top 1": 0.28, "top 2": 0.29}
    )
    optimism = found["optimism"]
    assert optimism["name"] == "top 1"
    assert optimism["optimism"] == pytest.approx(np.mean(list(costs["top 1"].values())) - 0.28)
    assert 0 < optimism["low"] < optimism["optimism"] < optimism["high"]
    assert "than confirmed" in found["sentence"]


def test_seeds_that_failed_somewhere_are_left_out_and_a_failing_configuration_too() -> None:
    costs: dict[str, dict[int, float | None]] = {
        "top 1": {1: 0.3, 2: 0.31, 3: None, 4: 0.3},
        "top 2": {1: None, 2: None, 3: None, 4: 0.1},
        "xception": {1: 0.4, 2: 0.41, 3: 0.4, 4: 0.42},
    }
    found = confirmed_gain(costs, candidates=["top 1", "top 2"], references=["xception"])
    assert (found["winner"], found["num_seeds"], found["left_out"]) == ("top 1", 3, ["top 2"])


def test_one_seed_gives_a_gain_without_an_interval_and_none_gives_nothing() -> None:
    single = confirmed_gain({"top 1": {1: 0.3}, "xception": {1: 0.4}}, candidates=["top 1"], references=["xception"])
    assert single["gains"][0]["low"] is None
    assert "how surely is unknown" in single["sentence"]
    nothing = confirmed_gain({"top 1": {1: None}, "xception": {1: 0.4}}, candidates=["top 1"], references=["xception"])
    assert nothing["winner"] is None
    assert confirmed_gain({}, candidates=["top 1"], references=[])["winner"] is None
    for found in (single, nothing):
        json.dumps(found, allow_nan=False)


def test_the_same_seed_gives_the_same_interval() -> None:
    costs = draw(np.random.default_rng(5), {"top 1": 0.3, "xception": 0.35}, 3)
    first, again = (confirmed_gain(costs, candidates=["top 1"], references=["xception"], seed=7) for _ in range(2))
    assert first == again


@pytest.mark.parametrize(("mean", "std"), [(0.3, 0.01), (0.02, 0.01), (0.98, 0.01)])
@pytest.mark.parametrize("num_seeds", [2, 5])
def test_the_interval_of_an_error_rate_stays_between_zero_and_one_and_holds_its_mean(
    mean: float, std: float, num_seeds: int
) -> None:
    total = mean * (1 - mean) / std**2 - 1
    draws = np.random.default_rng(0).beta(mean * total, (1 - mean) * total, (1_000, num_seeds))
    intervals = np.array([mean_interval(costs, is_error_rate=True) for costs in draws])
    assert (intervals > 0).all() and (intervals < 1).all()
    assert np.mean((intervals[:, 0] <= mean) & (mean <= intervals[:, 1])) > 0.92
    students = np.array([mean_interval(costs, is_error_rate=False) for costs in draws])
    assert num_seeds > 2 or mean == 0.3 or (students < 0).any() or (students > 1).any()


def test_rates_without_spread_have_no_width() -> None:
    for rate in (0.0, 0.25, 1.0):
        assert mean_interval(np.full(3, rate), is_error_rate=True) == (rate, rate)


def test_an_interval_from_two_seeds_says_that_it_hardly_is_one_and_stays_possible() -> None:
    costs = {"top 1": {1: 0.02, 2: 0.3}, "xception": {1: 0.9, 2: 0.5}}
    found = confirmed_gain(costs, candidates=["top 1"], references=["xception"], is_error_rate=True)
    assert "An interval from two seeds hardly is one" in found["sentence"]
    assert all(0 < entry["low"] <= entry["mean"] <= entry["high"] < 1 for entry in found["costs"])
    (gain,) = found["gains"]
    assert -1 <= gain["low"] <= gain["gain"] <= gain["high"] <= 1
    three = confirmed_gain(
        {name: row | {3: 0.4} for name, row in costs.items()}, candidates=["top 1"], references=["xception"]
    )
    assert three["caveat"] is None and "hardly" not in three["sentence"]
