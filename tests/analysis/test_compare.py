"""Two runs side by side."""

from __future__ import annotations

import dataclasses
import io
import json
from typing import Any

import numpy as np
import pandas as pd
import pytest
from ConfigSpace import Categorical, ConfigurationSpace
from rich.console import Console

from naxcli.analysis.anytime import active_elapsed
from naxcli.analysis.compare import Run, compare_runs, differing_settings
from naxcli.analysis.summary import summarise
from naxcli.report.comparison import print_comparison


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
    for final in found["final"].values():
        assert final["low"] <= final["difference"] <= final["high"] < 0
    json.dumps(found, allow_nan=False)


def test_the_numbers_stand_in_the_order_of_the_names_whichever_run_is_better() -> None:
    good, bad = trials(-0.1), trials(0.0, seed=1)
    expected = f"{good['cost'].min():.4g} against {bad['cost'].min():.4g}, lower by"
    for runs in ((run("good", good), run("bad", bad)), (run("bad", bad), run("good", good))):
        verdict = compare_runs(*runs)["verdict"]
        assert verdict.startswith(f"good found a lower cost than bad after 40 trials each: {expected}")
        assert f"After 6m 40s of running trials each: good is better, {expected}" in verdict


def test_the_verdict_says_that_two_runs_are_one_sample_each() -> None:
    assert "Each run is one sample" in compare_runs(run("A", trials(0.0)), run("B", trials(0.0, seed=1)))["verdict"]


def rungs(costs: list[float], fidelities: list[int], **columns: Any) -> pd.DataFrame:
    return trials(0.0, num=len(costs)).assign(cost=costs, fidelity=np.array(fidelities, dtype=float), **columns)


def test_runs_are_compared_after_equal_trials_and_after_equal_epochs() -> None:
    narrow = rungs([0.5, 0.4, 0.3, 0.2], [9, 9, 9, 9])
    wide = rungs([0.9, 0.9, 0.9, 0.35, 0.1], [1, 1, 1, 9, 9], parent_trial_id=[None, None, None, 0, 1])
    found = compare_runs(run("A", narrow), run("B", wide))
    assert [entry["trials"] for entry in found["runs"]] == [4, 5]
    assert [entry["epochs"] for entry in found["runs"]] == [36, 3 + 8 + 8]
    after = {clock: (point["at"], point["first"], point["second"]) for clock, point in found["final"].items()}
    assert after == {"trials": (4, 0.2, 0.35), "epochs": (19, 0.4, 0.1), "seconds": (40, 0.2, 0.35)}
    assert "after 4 trials each" in found["verdict"] and "After 19 epochs each" in found["verdict"]
    evaluated = dataclasses.replace(run("B", wide), continues=False)
    assert compare_runs(run("A", narrow), evaluated)["runs"][1]["epochs"] == 3 + 9 + 9


def test_what_a_failed_trial_cost_counts_and_an_infeasible_one_costs_no_epoch() -> None:
    frame = rungs([0.5, np.nan, np.nan, 0.2], [3, 9, 9, 9], status=["success", "crashed", "infeasible", "success"])
    (entry, _) = compare_runs(run("A", frame), run("B", trials(0.0)))["runs"]
    assert (entry["trials"], entry["epochs"]) == (4, 3 + 9 + 9)


def test_a_table_that_was_looked_up_has_no_time_and_one_fidelity_no_epochs() -> None:
    looked_up = trials(0.0, seed=1)
    looked_up["ended_at"] = looked_up["started_at"] = 1_000.0 + np.arange(40) / 1e4
    found = compare_runs(run("A", looked_up), run("B", trials(0.0)))
    assert list(found["anytime"]) == ["trials"]
    assert " 0s" not in found["verdict"] and "0.0s" not in found["verdict"]


def test_runs_of_the_same_search_are_not_told_apart() -> None:
    found = compare_runs(run("A", trials(0.0)), run("B", trials(0.0, seed=1)))
    assert found["verdict"].startswith("No difference between A and B is shown")


def test_curves_only_fall_and_end_where_the_shorter_run_ends() -> None:
    found = compare_runs(run("A", trials(0.0)), run("B", trials(0.0, num=20, seed=1)))
    for points in found["anytime"].values():
        for name in ("first", "second"):
            curve = [point[name] for point in points]
            assert curve == sorted(curve, reverse=True)
    for clock, at in (("trials", 20), ("seconds", 200)):
        assert found["final"][clock]["at"] == at
        assert found["final"][clock]["first"] == pytest.approx(trials(0.0)["cost"][:20].min())


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
    (stem,) = found["space"]
    assert (stem["name"], stem["first"]) == ("stem", None) and "conv, patchify" in stem["second"]
    assert "the highest fidelities differ (9 and 27)" in found["verdict"]
    assert "the spaces differ in stem" in found["verdict"]
    text = printed(found)
    assert "space: stem" in text and "not set" in text


def printed(found: dict[str, Any]) -> str:
    console = Console(file=io.StringIO(), width=160)
    print_comparison(console, found)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_spaces_that_share_nothing_are_compared_by_cost_and_named() -> None:
    other_space = ConfigurationSpace()
    other_space.add(Categorical("lr [x]", [0.1, 0.2]))
    other = (
        trials(-0.1, seed=1)
        .drop(columns=["config.block", "config.kernel"])
        .assign(**{"config.lr [x]": [0.1, 0.2] * 20})
    )
    runs = [
        Run(
            name=name,
            frame=frame,
            configuration_space=each,
            settings={},
            summary=summarise(frame, each, bootstrap=0, methods=("fanova",)),
        )
        for name, frame, each in (("A [red]", trials(0.0), space()), ("B", other, other_space))
    ]
    found = compare_runs(*runs)
    assert found["verdict"].startswith("B found a lower cost than A [red]")
    assert "Beware: the spaces differ in block, kernel, lr [x]" in found["verdict"]
    text = printed(found)
    rows = {
        line.split("fanova")[0].strip(): line.split("fanova")[1].split()
        for line in text.splitlines()
        if "fanova" in line
    }
    assert rows["block"][1:] == ["n/a", "n/a"] and rows["lr [x]"][::2] == ["n/a", "n/a"]
    assert "Verdict: B found a lower cost than A [red]" in text


def test_importance_without_intervals_is_not_said_to_overlap() -> None:
    runs = [
        Run(
            name=name,
            frame=trials(0.0, seed=seed),
            configuration_space=space(),
            settings={},
            summary=summarise(trials(0.0, seed=seed), space(), bootstrap=0, methods=("lpi",)),
        )
        for seed, name in enumerate("AB")
    ]
    found = compare_runs(*runs)
    assert [row["is_resolved"] for row in found["importance"]] == [None, None]
    assert "no intervals" in printed(found) and "overlap" not in printed(found)


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
