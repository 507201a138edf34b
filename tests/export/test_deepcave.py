"""A run in SMAC's own format, opened by SMAC."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from ConfigSpace import Categorical, ConfigurationSpace, EqualsCondition, Float

from naxcli.errors import NaxcliError
from naxcli.export import write_deepcave
from naxcli.records.database import Records
from naxcli.records.directory import RunDirectory
from naxcli.records.trial import Config, Result, Status, Suggestion

TRIALS: list[tuple[Config, float, int, Status, float | None]] = [
    ({"op": "conv", "kernel": 3, "rate": 0.1}, 3.0, 1, Status.SUCCESS, 0.9),
    ({"op": "pool", "rate": 0.25}, 3.0, 1, Status.SUCCESS, 0.5),
    ({"op": "conv", "kernel": 5, "rate": 0.1}, 3.0, 1, Status.OUT_OF_MEMORY, None),
    ({"op": "conv", "kernel": 3, "rate": 0.1}, 9.0, 1, Status.SUCCESS, 0.4),
    ({"op": "pool", "rate": 0.25}, 9.0, 1, Status.DIVERGED, None),
    ({"op": "conv", "kernel": 5, "rate": 0.3}, 9.0, 2, Status.SUCCESS, 0.2),
]


def make_space() -> ConfigurationSpace:
    space = ConfigurationSpace(seed=0)
    op, kernel = Categorical("op", ["conv", "pool"]), Categorical("kernel", [3, 5], ordered=True)
    space.add(op, kernel, Float("rate", (0.0, 1.0)))
    space.add(EqualsCondition(kernel, op, "conv"))
    return space


@pytest.fixture
def run(tmp_path: Path) -> RunDirectory:
    run = RunDirectory(path=tmp_path / "study")
    run.path.mkdir()
    make_space().to_json(run.space_file)
    with Records.create(run) as records:
        for number, (config, fidelity, seed, status, cost) in enumerate(TRIALS, start=1):
            suggestion = Suggestion(config=config, fidelity=fidelity, seed=seed)
            records.add_trial(suggestion, searcher="random", state="")
            times = {"started_at": 1000.0 + 10 * number, "ended_at": 1005.0 + 10 * number}
            records.add_result(number, Result(status=status, cost=cost, seconds=5.0, error=None, **times))
    return run


def test_smac_opens_the_exported_run(run: RunDirectory, tmp_path: Path) -> None:
    from smac import Scenario
    from smac.runhistory import RunHistory

    write_deepcave(run, tmp_path / "out")
    scenario = Scenario.load(tmp_path / "out")
    assert (scenario.min_budget, scenario.max_budget, scenario.objectives) == (3.0, 9.0, "cost")
    history = RunHistory()
    history.load(tmp_path / "out" / "runhistory.json", configspace=scenario.configspace)
    assert len(history) == len(TRIALS)
    read = [
        (dict(history.get_config(key.config_id)), key.budget, key.seed, value.status.name, value.cost)
        for key, value in history.items()
    ]
    names = {Status.OUT_OF_MEMORY: "MEMORYOUT", Status.DIVERGED: "CRASHED", Status.SUCCESS: "SUCCESS"}
    # Failures count as the worst success, which SMAC's model can be fitted to.
    assert read == [(dict(c), f, s, names[status], 0.9 if cost is None else cost) for c, f, s, status, cost in TRIALS]
    assert history.finished == len(TRIALS)


def test_deepcave_finds_what_it_reads(run: RunDirectory, tmp_path: Path) -> None:
    """DeepCAVE 1.4.1 (its `runs/converters/smac3v2.py`) unpacks each entry's values by their order, not by their names."""
    write_deepcave(run, tmp_path / "out")
    history = json.loads((tmp_path / "out" / "runhistory.json").read_text())
    order = [
        "config_id",
        "instance",
        "seed",
        "budget",
        "cost",
        "time",
        "cpu_time",
        "status",
        "starttime",
        "endtime",
        "additional_info",
    ]
    assert all(list(entry) == order for entry in history["data"])
    assert {entry["instance"] for entry in history["data"]} == {None}  # it refuses several
    assert all(str(entry["config_id"]) in history["configs"] for entry in history["data"])
    # 1 is a success, 3 a timeout, 4 out of memory, all else a crash.
    assert [entry["status"] for entry in history["data"]] == [1, 1, 4, 1, 2, 1]
    scenario = json.loads((tmp_path / "out" / "scenario.json").read_text())
    assert scenario["objectives"] == "cost" and "seed" in scenario
    assert ConfigurationSpace.from_json(tmp_path / "out" / "configspace.json") == make_space()


def test_the_incumbents_are_those_of_the_highest_fidelity(run: RunDirectory, tmp_path: Path) -> None:
    write_deepcave(run, tmp_path / "out")
    intensifier = json.loads((tmp_path / "out" / "intensifier.json").read_text())
    assert [item["costs"] for item in intensifier["trajectory"]] == [[0.4], [0.2]]
    history = json.loads((tmp_path / "out" / "runhistory.json").read_text())
    assert history["configs"][str(intensifier["incumbent_ids"][0])] == {"op": "conv", "kernel": 5, "rate": 0.3}
    assert [entry["additional_info"]["status"] for entry in history["data"]] == [str(trial[3]) for trial in TRIALS]
    assert all(entry["endtime"] - entry["starttime"] == 5.0 for entry in history["data"])


def test_the_files_hold_no_numbers_that_json_lacks(run: RunDirectory, tmp_path: Path) -> None:
    def refuse(text: str) -> None:
        raise AssertionError(text)

    assert write_deepcave(run, tmp_path / "out") == len(TRIALS)
    for path in (tmp_path / "out").iterdir():
        json.loads(path.read_text(), parse_constant=refuse)


def test_a_run_without_finished_trials_is_a_clear_error(tmp_path: Path) -> None:
    run = RunDirectory(path=tmp_path / "empty")
    run.path.mkdir()
    make_space().to_json(run.space_file)
    Records.create(run).__exit__()
    with pytest.raises(NaxcliError, match="no finished trial"):
        write_deepcave(run, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_an_existing_folder_is_kept(run: RunDirectory, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine").write_text("mine")
    with pytest.raises(NaxcliError, match="not empty"):
        write_deepcave(run, tmp_path / "out")
    write_deepcave(run, tmp_path / "out", overwrite=True)
    assert (tmp_path / "out" / "mine").read_text() == "mine"
