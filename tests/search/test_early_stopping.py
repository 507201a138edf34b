"""Early stopping in a search: what is stopped, recorded and told, and that a search goes on as if it had not been interrupted."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from naxcli.errors import NaxcliError
from naxcli.records.database import Records
from naxcli.records.directory import RunDirectory
from naxcli.records.trial import EpochRecord, Result, Status
from naxcli.settings.experiment import Experiment
from naxcli.settings.fidelity import FidelityRange
from naxcli.workers.evaluate import CurveWatch, evaluate
from naxcli.workers.task import DataRequest, TrialTask
from tests.inline import search_inline

SPACE = """
from ConfigSpace import ConfigurationSpace
from naxcli import Space


def configspace(seed=None):
    return ConfigurationSpace({"a": [0, 1, 2, 3], "b": [0, 1, 2, 3], "c": (0, 9)}, seed=seed)


def build(config, *, num_classes, in_channels, image_size, width=1.0):
    from torch import nn
    return nn.Sequential(nn.Flatten(), nn.Linear(in_channels * image_size**2, num_classes))


SPACE = Space(name="curved", configspace=configspace, build=build)
"""
NUM_EPOCHS = 12
FLAGS: dict[str, Any] = {"data": "digits", "epochs": NUM_EPOCHS, "early_stop": True, "searcher": "smac"}


def train_as_told(task: TrialTask, _: object) -> Result:
    """Return the result of a training whose curve the configuration tells."""
    config = {name: float(value) for name, value in task.config.items()}
    end = 0.1 + (abs(config["a"] - 2) + abs(config["b"] - 1)) / 20 + config["c"] / 100
    watch, curve = CurveWatch(task.forecast), []
    for number in range(1, NUM_EPOCHS + 1):
        cost = end + 0.4 * (number**-0.7 - NUM_EPOCHS**-0.7) + 0.003 * math.sin(7 * number + config["c"])
        record = EpochRecord(
            epoch=number, train_loss=1.0, val_accuracy=1 - cost, val_loss=1.0, learning_rate=0.1, seconds=0.1
        )
        curve.append(record)
        watch.add(record)
        if watch.is_hopeless and number < NUM_EPOCHS:
            return Result(
                status=Status.STOPPED,
                predicted_cost=watch.predicted_cost,
                stopped_after=number,
                error=watch.reason,
                curve=tuple(curve),
            )
    return Result(status=Status.SUCCESS, cost=cost, val_accuracy=1 - cost, curve=tuple(curve))


@pytest.fixture
def space_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr("tests.inline.evaluate", train_as_told)
    monkeypatch.setattr("naxcli.searchers.deep_ensemble.FITTING_STEPS", 30)
    path = tmp_path / "curved.py"
    path.write_text(SPACE)
    return path


def test_stopped_trials_are_told_as_costs_and_a_search_resumes_exactly(
    space_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    search_inline(space_file, tmp_path / "whole", monkeypatch, **FLAGS, trials=26)
    for trials in (17, 26):
        search_inline(space_file, tmp_path / "parts", monkeypatch, **FLAGS, trials=trials)
    columns = ["trial_id", "config_id", "status", "cost", "predicted_cost", "stopped_after"]
    whole, parts = (pd.read_parquet(tmp_path / name / "trials.parquet") for name in ("whole", "parts"))
    pd.testing.assert_frame_equal(whole[columns], parts[columns])
    stopped = whole[whole["status"] == "stopped"]
    assert len(stopped) >= 3
    assert stopped["cost"].isna().all()
    assert (stopped["stopped_after"] < NUM_EPOCHS).all()
    with Records.open(RunDirectory(path=tmp_path / "whole")) as records:
        told = {event.trial.trial_id: event.cost for event in records.history() if event.is_result}
        lengths = {trial_id: len(curve) for trial_id, curve in records.accuracy_curves().items()}
    incumbents = whole["cost"].cummin().ffill()
    for row, trial in stopped.iterrows():
        assert told[trial["trial_id"]] == trial["predicted_cost"] >= incumbents[row] - 1e-12
        assert lengths[trial["trial_id"]] == trial["stopped_after"]
        assert f"of {NUM_EPOCHS}: a chance of" in trial["error"]


def test_a_training_without_a_chance_ends_after_an_epoch_and_leaves_no_checkpoint(tmp_path: Path) -> None:
    from tests.searchers.test_forecast import forecast_of

    forecast, _ = forecast_of(12, incumbent=-5.0)
    space = tmp_path / "curved.py"
    space.write_text(SPACE)
    task = TrialTask(
        trial_id=1,
        space=str(space),
        config={"a": 0, "b": 0, "c": 0},
        fidelity=3.0,
        seed=0,
        data=DataRequest(name="digits", root=str(tmp_path), split_seed=0, validation_fraction=0.2),
        recipe=Experiment(space="curved", data="digits").recipe,
        checkpoint_to=str(tmp_path / "1.pt"),
        forecast=forecast,
    )
    result = evaluate(TrialTask.from_dict(task.to_dict()))
    assert (result.status, result.stopped_after, result.cost) == (Status.STOPPED, 1, None), result.error
    assert len(result.curve) == 1
    assert result.val_accuracy == result.curve[0].val_accuracy
    assert result.predicted_cost is not None and result.predicted_cost > -5.0
    assert not (tmp_path / "1.pt").exists()


@pytest.mark.parametrize(
    ("settings", "what"),
    [
        ({"data": None}, "evaluates by itself"),
        ({"fidelity": FidelityRange(min=1, max=9)}, "several fidelities"),
        ({"repeats": 2}, "repeats"),
        ({"objective": ("params",)}, "several objectives"),
    ],
)
def test_early_stopping_is_refused_where_it_cannot_tell_the_best(settings: dict[str, Any], what: str) -> None:
    with pytest.raises(NaxcliError, match=what):
        Experiment(space="any", early_stop=True, **settings)
