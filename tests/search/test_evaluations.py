"""What trials cost in full evaluations, a search that ends by it, and one that evaluates with several seeds."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from naxcli import open_run
from naxcli.records.history import FinishedTrial
from naxcli.records.trial import Status, Suggestion, Trial
from naxcli.search.evaluations import EvaluationCount
from naxcli.search.loop import EndReason
from naxcli.settings.experiment import from_settings
from tests.inline import InlinePool, search_inline

NOISY = """
import random

from ConfigSpace import ConfigurationSpace
from naxcli import Space


def configspace(seed=None):
    return ConfigurationSpace({"a": [0, 1, 2, 3], "b": ["x", "y", "z"], "c": (0, 9)}, seed=seed)


def evaluate(config, *, fidelity, seed):
    if config["b"] == "z" and config["c"] > 5:
        raise RuntimeError("does not work")
    return config["a"] + config["c"] + random.Random(seed).random() + 1 / fidelity


SPACE = Space(name="noisy", configspace=configspace, evaluate=evaluate)
"""
WHAT_HAPPENED = ["trial_id", "config_id", "searcher", "seed", "fidelity", "status", "cost"]


@pytest.fixture
def noisy(tmp_path: Path) -> Path:
    path = tmp_path / "noisy.py"
    path.write_text(NOISY)
    return path


class ThreeAtOnce(InlinePool):
    """A pool with three trials in flight, whose process dies with the start of a trial of this number."""

    capacity = 3
    last: int | None = None

    def free_worker(self) -> str | None:
        return "here" if len(self._finished) < 3 else None

    def submit(self, task_id: int, payload: Mapping[str, Any], *, worker: str) -> None:
        if task_id == self.last:
            raise KeyboardInterrupt
        super().submit(task_id, payload, worker=worker)


def happened(space: Path, run: Path, monkeypatch: pytest.MonkeyPatch, *dying: int, **flags: Any) -> pd.DataFrame:
    """Return the trials of a search that dies with the start of some of them, and is resumed each time."""
    for last in dying:
        pool = type("Dying", (ThreeAtOnce,), {"last": last})
        with pytest.raises(KeyboardInterrupt):
            search_inline(space, run, monkeypatch, pool=pool, **flags)
    end = search_inline(space, run, monkeypatch, pool=ThreeAtOnce, **flags)
    assert end.reason is (EndReason.TRIALS if "trials" in flags else EndReason.EVALUATIONS)
    frame = open_run(run).trials
    return frame[WHAT_HAPPENED].sort_values("trial_id", ignore_index=True)


def test_repeats_are_kept_each_and_a_search_killed_between_them_goes_on_with_the_next(
    noisy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    flags: dict[str, Any] = {"repeats": 3, "random_share": 0.4, "searcher": "evolution", "trials": 40}
    whole = happened(noisy, tmp_path / "whole", monkeypatch, **flags)
    parts = happened(noisy, tmp_path / "parts", monkeypatch, 5, 6, 17, 40, **flags)
    pd.testing.assert_frame_equal(whole, parts)
    counts = whole[whole["status"] == "success"].groupby(["searcher", "config_id"])["seed"].nunique()
    assert set(counts.value_counts().index) <= {1, 2, 3} and (counts == 3).sum() >= 6
    assert (whole["status"] == "crashed").any()  # and its configuration has no third trial
    crashed = whole[whole["config_id"].isin(whole[whole["status"] == "crashed"]["config_id"])]
    assert len(crashed) < 3 * crashed["config_id"].nunique()
    incumbent = open_run(tmp_path / "parts").incumbent
    assert incumbent is not None and incumbent.num_seeds == 3


def test_a_search_ends_with_its_evaluations_as_stated_and_whatever_it_was_killed_by(
    noisy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    flags: dict[str, Any] = {
        "fidelity": "1:9:3",
        "cost": "1=2,3=5,9=10",
        "budget_evaluations": 5.0,
        "searcher": "smac",
        "searcher_model": "forest",
    }
    whole = happened(noisy, tmp_path / "whole", monkeypatch, **flags)
    costs = whole["fidelity"].map({1.0: 0.2, 3.0: 0.5, 9.0: 1.0})
    assert costs.sum() >= 5.0 - 1e-9 and costs[:-1].sum() < 5.0 - 1e-9
    assert open_run(tmp_path / "whole").status()["evaluations"] == pytest.approx(costs.sum())
    last = len(whole)
    parts = happened(noisy, tmp_path / "parts", monkeypatch, 4, last - 1, last, **flags)
    pd.testing.assert_frame_equal(whole, parts)
    longer = happened(noisy, tmp_path / "parts", monkeypatch, **{**flags, "budget_evaluations": 6.0})
    assert len(longer) > last


def trial(number: int, fidelity: float, *, parent: int | None = None) -> Trial:
    suggestion = Suggestion(config={"a": 0}, fidelity=fidelity, seed=0)
    return Trial(trial_id=number, suggestion=suggestion, searcher="smac", parent_trial_id=parent)


def ended(item: Trial, seconds: float, status: Status = Status.SUCCESS) -> FinishedTrial:
    return FinishedTrial(trial=item, status=status, cost=0.5 if status is Status.SUCCESS else None, seconds=seconds)


@pytest.mark.parametrize(
    ("settings", "total"),
    [
        ({"data": "digits", "rung_schedule": "whole"}, 1 / 9 + (3 - 1) / 9 + (9 - 3) / 9),
        # The decay of a lower rung is not continued, and trained again.
        ({"data": "digits"}, 1 / 9 + (3 - 0.8) / 9 + (9 - 2.4) / 9),
        ({}, 1 / 9 + 3 / 9 + 9 / 9),  # an objective of a space's own continues nothing
        ({"data": "digits", "cost": "1=0.05,3=0.3,9=1"}, 1.35),
        ({"cost": "1=12,3=1,9=2"}, 12 / 2 + 1 / 2 + 2 / 2),
    ],
)
def test_a_continued_training_costs_what_it_adds_unless_costs_are_stated(
    settings: dict[str, Any], total: float
) -> None:
    experiment = from_settings({"space": "x", "fidelity": "1:9:3", **settings})
    trials = [trial(1, 1.0), trial(2, 3.0, parent=1), trial(3, 9.0, parent=2)]
    count = EvaluationCount(experiment)
    for item in trials:
        count.started(item)
        count.ended(ended(item, 1.0))
    assert count.finished == count.asked == pytest.approx(total)


def test_a_measured_cost_is_the_time_of_a_trial_over_that_of_a_full_evaluation() -> None:
    settings = {"space": "x", "data": "digits", "rung_schedule": "whole", "fidelity": "1:9:3", "cost": "measured"}
    experiment = from_settings(settings)
    assert from_settings(experiment.to_settings()).cost == experiment.cost
    first = [ended(trial(1, 1.0), 10.0), ended(trial(2, 1.0), 12.0), ended(trial(3, 1.0), 14.0)]
    count = EvaluationCount(experiment, first, [trial(4, 9.0)])
    assert count.finished == pytest.approx(36 / (9 * 12)) and count.asked == pytest.approx(1 / 3 + 1)
    for item in (ended(trial(4, 9.0, parent=1), 40.0), ended(trial(5, 1.0), 1.0, status=Status.CRASHED)):
        count.ended(item)
    assert count.asked == count.finished == pytest.approx((36 + 41) / (40 * 9 / 8))


def test_a_stopped_trial_costs_the_share_of_its_epochs() -> None:
    experiment = from_settings({"space": "nexception", "epochs": 10})
    suggestion = Suggestion(config={"a": 1}, fidelity=10.0, seed=0)
    trial = Trial(trial_id=1, suggestion=suggestion, searcher="smac")
    stopped = FinishedTrial(
        trial=trial, status=Status.STOPPED, cost=None, seconds=3.0, predicted_cost=0.5, stopped_after=3.0
    )
    assert EvaluationCount(experiment, [stopped]).finished == pytest.approx(0.3)
