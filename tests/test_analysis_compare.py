"""Two runs side by side."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pandas as pd
import pytest
from ConfigSpace import Categorical, ConfigurationSpace

from naxcli.analysis.anytime import active_elapsed
from naxcli.analysis.compare import Run, compare_runs, differing_settings
from naxcli.analysis.summary import summarise


def space() -> ConfigurationSpace:
    configuration_space = ConfigurationSpace()
    configuration_space.add(Categorical("block", ["xception", "bottleneck"]), Categorical("kernel", [3, 5, 7]))
    return configuration_space


def trials(shift: float, num: int = 40, *, seed: int = 0, fidelity: float = 9) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    block, kernel = rng.integers(2, size=num), rng.integers(3, size=num)
    started = 1_000.0 + 10 * np.arange(num)
    return pd.DataFrame(
        {
            "trial_id": np.arange(num),
            "config.block": np.array(["xception", "bottleneck"])[block],
            "config.kernel": np.array([3, 5, 7])[kernel],
            "fidelity": fidelity,
            "seed": 0,
            "status": "success",
            "cost": 0.4 - 0.1 * block - 0.01 * kernel + rng.normal(0, 0.01, num) + shift,
            "seconds": 10.0,
            "started_at": started,
            "ended_at": started + 10,
        }
    )


def run(name: str, frame: pd.DataFrame, settings: dict[str, Any] | None = None) -> Run:
    return Run(name=name, frame=frame, configuration_space=space(), settings=settings or {"seed": 0})


def test_a_run_that_found_better_is_named() -> None:
    found = compare_runs(run("A", trials(-0.1)), run("B", trials(0.0, seed=1)))
    assert found["verdict"].startswith("A found a lower cost than B")
    assert found["final"]["high"] < 0
    assert found["final"]["low"] <= found["final"]["difference"] <= found["final"]["high"]
    json.dumps(found, allow_nan=False)


def test_runs_of_the_same_search_are_not_told_apart() -> None:
    found = compare_runs(run("A", trials(0.0)), run("B", trials(0.0, seed=1)))
    assert found["verdict"].startswith("No difference between A and B is shown")


def test_curves_only_fall_and_end_where_the_shorter_run_ends() -> None:
    found = compare_runs(run("A", trials(0.0)), run("B", trials(0.0, num=20, seed=1)))
    for name in ("first", "second"):
        curve = [point[name] for point in found["anytime"]]
        assert curve == sorted(curve, reverse=True)
    assert found["final"]["seconds"] == 200.0
    assert found["final"]["first"] == pytest.approx(trials(0.0)["cost"][:20].min())


def test_settings_that_differ_are_listed_and_those_that_change_the_meaning_are_warned_of() -> None:
    settings = {"searcher": "smac", "recipe": {"lr": 0.1, "epochs": 9}}
    other = {"searcher": "random", "recipe": {"lr": 0.2, "epochs": 9}, "data": "digits"}
    assert differing_settings(settings, other) == [
        {"name": "data", "first": None, "second": "digits"},
        {"name": "recipe.lr", "first": 0.1, "second": 0.2},
        {"name": "searcher", "first": "smac", "second": "random"},
    ]
    verdict = compare_runs(run("A", trials(0.0), settings), run("B", trials(0.0, seed=1), other))["verdict"]
    assert "Beware: the settings differ in data, recipe.lr" in verdict


def test_other_fidelities_and_spaces_are_warned_of() -> None:
    other_space = space()
    other_space.add(Categorical("stem", ["conv", "patchify"]))
    frame = trials(0.0, fidelity=27).assign(**{"config.stem": "conv"})
    other = Run(name="B", frame=frame, configuration_space=other_space, settings={})
    found = compare_runs(run("A", trials(0.0), {}), other)
    assert found["space"] == ["stem"]
    assert "the highest fidelities differ (9 and 27)" in found["verdict"]


def test_importance_stands_side_by_side_and_overlap_is_unresolved() -> None:
    runs = [
        Run(
            name=name,
            frame=trials(0.0, seed=seed),
            configuration_space=space(),
            settings={},
            summary=summarise(trials(0.0, seed=seed), space(), bootstrap=10, methods=("lpi", "fanova")),
        )
        for seed, name in enumerate("AB")
    ]
    rows = {(row["method"], row["name"]): row for row in compare_runs(*runs)["importance"]}
    assert set(rows) == {(method, name) for method in ("lpi", "fanova") for name in ("block", "kernel")}
    assert not rows["fanova", "block"]["is_resolved"]
    assert rows["fanova", "block"]["first"]["mean"] > 0.5


def test_a_run_without_a_success_gives_a_reason() -> None:
    failed = trials(0.0).assign(status="crashed", cost=np.nan)
    found = compare_runs(run("A", failed), run("B", trials(0.0)))
    assert found["verdict"] == "Nothing to compare: no successful trial in A."
    json.dumps(found, allow_nan=False)


def test_too_few_trials_give_no_interval() -> None:
    found = compare_runs(run("A", trials(0.0, num=2)), run("B", trials(0.0, num=2, seed=1)))
    assert found["verdict"].startswith("Too few trials")


def test_time_between_two_sessions_of_a_run_does_not_count() -> None:
    frame = trials(0.0, num=4)
    frame.loc[2:, ["started_at", "ended_at"]] += 5_000
    np.testing.assert_allclose(active_elapsed(frame), [10, 20, 30, 40])


def test_trials_that_overlap_count_once() -> None:
    frame = trials(0.0, num=4)
    frame["ended_at"] = frame["started_at"] + 15
    np.testing.assert_allclose(active_elapsed(frame), [15, 25, 35, 45])
