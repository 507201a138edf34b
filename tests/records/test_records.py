from __future__ import annotations

import contextlib
import json
import sqlite3
import statistics
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow.parquet as pq
import pytest
from ConfigSpace import Categorical, ConfigurationSpace, EqualsCondition, Float, Integer
from hypothesis import given, settings
from hypothesis import strategies as st

from naxcli.errors import ExitCode, NaxcliError
from naxcli.records.database import Records
from naxcli.records.directory import RunDirectory
from naxcli.records.environment import describe_environment, with_changes
from naxcli.records.files import write_atomically
from naxcli.records.history import FinishedTrial
from naxcli.records.incumbent import Incumbent, Leaderboard
from naxcli.records.parquet import read_trials_parquet
from naxcli.records.trial import TRIAL_COLUMNS, EpochRecord, Result, Status, Suggestion, Trial, config_id
from naxcli.search.pace import MAX_WARM_UP_SECONDS, Pace
from naxcli.settings.sources import resolve


@pytest.fixture
def run(tmp_path: Path) -> RunDirectory:
    return RunDirectory(path=tmp_path)


@pytest.fixture
def space() -> ConfigurationSpace:
    configuration_space = ConfigurationSpace()
    kind = Categorical("kind", ["x", "y"])
    child = Float("rate", (1e-4, 1.0), log=True)
    configuration_space.add(kind, Integer("depth", (1, 9)), Categorical("flag", [True, False]), child)
    configuration_space.add(EqualsCondition(child, kind, "x"))
    return configuration_space


CONFIG = {"kind": "x", "depth": 3, "flag": True, "rate": 0.01}


def add(records: Records, config: dict[str, Any] = CONFIG, cost: float | None = 0.5, seed: int = 0) -> int:
    trial = records.add_trial(Suggestion(config=config, fidelity=3.0, seed=seed), searcher="random", state="{}")
    status = Status.SUCCESS if cost is not None else Status.CRASHED
    epoch = EpochRecord(epoch=1, train_loss=1.0, val_accuracy=0.5, val_loss=1.0, learning_rate=0.1, seconds=1.0)
    records.add_result(trial.trial_id, Result(status=status, cost=cost, seconds=1.5, ended_at=10.0, curve=(epoch,)))
    return trial.trial_id


def test_parquet_has_the_contract_columns_and_the_types_of_the_space(
    run: RunDirectory, space: ConfigurationSpace
) -> None:
    with Records.create(run) as records:
        add(records)
        add(records, {"kind": "y", "depth": 3, "flag": False}, cost=None)
        records.write_parquet(run, space)
    schema = pq.read_schema(run.trials_file)
    assert schema.names == [*TRIAL_COLUMNS, *(f"config.{name}" for name in space)]
    kinds = {name: str(schema.field(f"config.{name}").type) for name in space}
    assert kinds == {"kind": "string", "depth": "int64", "flag": "bool", "rate": "double"}
    frame = pd.read_parquet(run.trials_file)
    assert frame["config.rate"].isna().tolist() == [False, True]
    assert frame["status"].tolist() == ["success", "crashed"]


def test_a_run_from_before_a_column_came_is_read_and_goes_on(run: RunDirectory, space: ConfigurationSpace) -> None:
    with Records.create(run) as records:
        add(records)
    with contextlib.closing(sqlite3.connect(run.database)) as connection:
        connection.execute("ALTER TABLE trials DROP COLUMN grad_accum_steps")
    with Records.open(run) as records:
        assert records.trials_frame()["grad_accum_steps"].isna().all()
        assert not records.finished()[0].is_cut
    with Records.open(run, to_write=True) as records:
        trial = records.add_trial(Suggestion(config=CONFIG, fidelity=1, seed=1), searcher="s", state="a")
        records.add_result(trial.trial_id, Result(status=Status.SUCCESS, cost=0.2, grad_accum_steps=2))
        records.write_parquet(run, space)
        assert [item.is_cut for item in records.finished()] == [False, True]
    assert pd.read_parquet(run.trials_file)["grad_accum_steps"].tolist()[1] == 2


def test_an_empty_run_has_a_readable_table(run: RunDirectory, space: ConfigurationSpace) -> None:
    with Records.create(run) as records:
        records.write_parquet(run, space)
        assert list(records.trials_frame().columns) == list(TRIAL_COLUMNS)
    assert len(pd.read_parquet(run.trials_file)) == 0
    assert len(pd.read_parquet(run.curves_file)) == 0


def test_a_result_is_recorded_once(run: RunDirectory) -> None:
    with Records.create(run) as records:
        trial_id = add(records)
        with pytest.raises(ValueError, match="not running"):
            records.add_result(trial_id, Result(status=Status.SUCCESS, cost=0.1))
        assert [item.cost for item in records.finished()] == [0.5]


def test_history_keeps_the_order_of_asks_and_results(run: RunDirectory) -> None:
    with Records.create(run) as records:
        first = records.add_trial(Suggestion(config=CONFIG, fidelity=1, seed=0), searcher="s", state="a")
        second = records.add_trial(Suggestion(config=CONFIG, fidelity=1, seed=1), searcher="s", state="b")
        records.add_result(second.trial_id, Result(status=Status.SUCCESS, cost=0.2))
    with Records.open(run) as records:
        events = [(event.trial.trial_id, event.is_result) for event in records.history()]
        assert events == [(1, False), (2, False), (2, True)]
        assert [item.trial.trial_id for item in records.running()] == [first.trial_id]
        assert records.searcher_states() == {"s": "b"}
        third = records.add_trial(Suggestion(config=CONFIG, fidelity=1, seed=2), searcher="s", state="c")
        assert third.trial_id == 3


def test_a_damaged_database_offers_its_backup(run: RunDirectory) -> None:
    with Records.create(run) as records:
        for seed in range(200):
            add(records, seed=seed)
    Records.open(run, to_write=True).__exit__()
    content = run.database.read_bytes()
    run.database.write_bytes(content[:2000] + b"\xff" * 3000 + content[5000:])
    with pytest.raises(NaxcliError) as refused:
        Records.open(run, to_write=True)
    assert "backup" in refused.value.hint
    assert refused.value.exit_code == ExitCode.FAILED
    run.database.write_bytes(run.path.joinpath("search.db.backup").read_bytes())
    with Records.open(run, to_write=True) as records:
        assert len(records.finished()) == 200


def test_a_file_that_is_no_database_is_named(run: RunDirectory) -> None:
    run.database.write_text("hello")
    with pytest.raises(NaxcliError, match="damaged"):
        Records.open(run)


def test_a_truncated_parquet_file_is_named_with_its_remedy(run: RunDirectory, space: ConfigurationSpace) -> None:
    with Records.create(run) as records:
        add(records)
        records.write_parquet(run, space)
    run.trials_file.write_bytes(run.trials_file.read_bytes()[:100])
    with pytest.raises(NaxcliError) as refused:
        read_trials_parquet(run.trials_file)
    assert "rebuilt" in refused.value.hint


def test_a_full_disk_leaves_the_old_file(run: RunDirectory, monkeypatch: pytest.MonkeyPatch) -> None:
    target = run.path / "file"
    write_atomically(target, "old")

    def full(_descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(NaxcliError, match="disk is full") as refused:
        write_atomically(target, "new")
    assert refused.value.exit_code == ExitCode.FAILED
    assert target.read_text() == "old"
    assert [path.name for path in run.path.iterdir()] == ["file"]


def test_a_full_database_is_reported_and_earlier_results_stay(run: RunDirectory) -> None:
    with Records.create(run) as records:
        add(records)
        records._connection.execute("PRAGMA max_page_count = 1")  # SQLite's own way to run out of space
        with pytest.raises(NaxcliError, match="disk is full"):
            for seed in range(1, 500):
                add(records, seed=seed)
    with sqlite3.connect(run.database) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone()[0] == "ok"
        assert connection.execute("SELECT cost FROM trials WHERE trial_id = 1").fetchone()[0] == 0.5


def test_only_one_process_holds_a_run(run: RunDirectory, monkeypatch: pytest.MonkeyPatch) -> None:
    with run.locked():
        assert run.is_locked()
        with pytest.raises(NaxcliError, match="another process"), run.locked():
            pass
    assert not run.is_locked()
    run.lock_file.chmod(0o400)  # of a run that one may only read, which root may not be told
    descriptors = []
    monkeypatch.setattr("fcntl.flock", lambda handle, _: descriptors.append(handle.mode))
    assert not run.is_locked() and descriptors == ["rb"]


VALUES = st.one_of(
    st.text(max_size=8), st.integers(-(2**53), 2**53), st.floats(allow_nan=False, allow_infinity=False), st.booleans()
)


@given(st.dictionaries(st.text(min_size=1, max_size=8), VALUES, min_size=1))
def test_the_id_of_a_configuration_does_not_depend_on_the_order_of_its_keys(config: dict[str, Any]) -> None:
    assert config_id(config) == config_id(dict(reversed(config.items())))


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10_000))
def test_a_configuration_survives_the_database_and_parquet(seed: int, tmp_path_factory: pytest.TempPathFactory) -> None:
    from naxcli.search_space.contract import plain_config, to_configuration

    configuration_space = ConfigurationSpace(seed=seed)
    kind = Categorical("kind", ["x", "y"])
    child = Float("rate", (1e-4, 1.0), log=True)
    configuration_space.add(kind, Integer("depth", (1, 9)), child)
    configuration_space.add(EqualsCondition(child, kind, "x"))
    sampled = configuration_space.sample_configuration()
    run = RunDirectory(path=tmp_path_factory.mktemp("run"))
    with Records.create(run) as records:
        add(records, plain_config(sampled))
        records.write_parquet(run, configuration_space)
        assert to_configuration(configuration_space, records.finished()[0].trial.config) == sampled
    row = pd.read_parquet(run.trials_file).iloc[0]
    back = {name: row[f"config.{name}"] for name in configuration_space if not pd.isna(row[f"config.{name}"])}
    assert plain_config(back) == plain_config(sampled)


def test_rows_are_in_the_order_in_which_results_were_recorded_whatever_the_clock_said(run: RunDirectory) -> None:
    with Records.create(run) as records:
        for number, ended_at in enumerate((1_000.0, 400.0, 700.0)):
            suggestion = Suggestion(config={"x": number}, fidelity=3.0, seed=0)
            trial = records.add_trial(suggestion, searcher="random", state="{}")
            result = Result(status=Status.SUCCESS, cost=0.5, seconds=1.0, ended_at=ended_at)
            records.add_result(trial.trial_id, result)
        assert list(records.trials_frame()["ended_at"]) == [1_000.0, 400.0, 700.0]


COSTS = st.one_of(st.none(), st.sampled_from([0.1, 0.2, 0.3]))


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(0, 3), st.sampled_from([1.0, 3.0]), st.integers(0, 2), COSTS), max_size=14))
def test_the_incumbent_after_each_result_is_that_of_all_results(
    results: list[tuple[int, float, int, float | None]],
) -> None:
    board, finished = Leaderboard(), list[FinishedTrial]()
    for number, (config, fidelity, seed, cost) in enumerate(results):
        suggestion = Suggestion(config={"a": config}, fidelity=fidelity, seed=seed)
        trial = Trial(trial_id=number, suggestion=suggestion, searcher="random")
        status = Status.CRASHED if cost is None else Status.SUCCESS
        finished.append(FinishedTrial(trial=trial, status=status, cost=cost, seconds=1.0))
        board.add(finished[-1])
        assert board.incumbent == by_definition(finished)


def by_definition(finished: list[FinishedTrial]) -> Incumbent | None:
    """The lowest mean cost at the highest fidelity, among the configurations with the most seeds there, the first if equal."""
    successes = [item for item in finished if item.status == Status.SUCCESS]
    highest = max((item.trial.fidelity for item in successes), default=None)
    groups: dict[str, list[FinishedTrial]] = {}
    for item in successes:
        if item.trial.fidelity == highest:
            groups.setdefault(item.trial.config_id, []).append(item)
    if not groups:
        return None
    num_seeds = {name: len({item.trial.seed for item in group}) for name, group in groups.items()}
    means = [
        (statistics.fmean(item.cost or 0.0 for item in group), group)
        for name, group in groups.items()
        if num_seeds[name] == max(num_seeds.values())
    ]
    mean, best = min(means, key=lambda pair: pair[0])
    first = min(best, key=lambda item: item.cost or 0.0)
    return Incumbent(trial=first.trial, cost=mean, num_seeds=len({item.trial.seed for item in best}))


def ended(seconds: float, *, worker: str | None, status: Status = Status.SUCCESS) -> FinishedTrial:
    suggestion = Suggestion(config={}, fidelity=1.0, seed=0)
    trial = Trial(trial_id=1, suggestion=suggestion, searcher="random")
    return FinishedTrial(trial=trial, status=status, cost=0.5, seconds=seconds, worker=worker)


def test_the_first_trial_of_a_worker_does_not_tell_how_long_a_trial_takes() -> None:
    pace = Pace()
    assert pace.shortest_seconds() == 0.0
    pace.add(ended(30.0, worker="a"))
    assert pace.shortest_seconds() == 0.0
    pace.add(ended(5.0, worker="a"))
    pace.add(ended(20.0, worker="b"))
    assert pace.shortest_seconds() == 5.0
    pace.add(ended(2.0, worker="c"))  # and would be shorter still without its warm-up
    assert pace.shortest_seconds() == 2.0


def test_a_failure_warms_its_worker_up_and_has_no_length() -> None:
    pace = Pace([ended(30.0, worker="a", status=Status.CRASHED), ended(7.0, worker="a")])
    assert pace.shortest_seconds() == 7.0


def test_no_warm_up_takes_hours() -> None:
    """A day's trial is not started for the last hour of a budget because it was its worker's first."""
    assert Pace([ended(86_400.0, worker="a")]).shortest_seconds() == 86_400.0 - MAX_WARM_UP_SECONDS


def test_a_copy_without_git_is_named_by_the_commit_that_its_user_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("NAXCLI_COMMIT", raising=False)
    assert describe_environment(None)["git"] == {"commit": None, "patch": None}
    monkeypatch.setenv("NAXCLI_COMMIT", "0123abcd")
    assert describe_environment(None)["git"] == {"commit": "0123abcd", "patch": None}
    assert resolve(flags={"space": "nexception"}, has_networks=True).space == "nexception"  # it is no setting


def test_what_a_run_goes_on_with_is_told_from_what_it_ran_with_last() -> None:
    begun = {
        "python": "3.11.7",
        "packages": {"naxcli": "0.1.0", "torch": "2.9.0", "torchvision": None},
        "git": {"commit": None},
        "hardware": {"host": "node1", "processor": "A", "gpus": []},
    }
    now = {
        "python": "3.11.7",
        "packages": {"naxcli": "0.1.0", "torch": "2.11.0", "torchvision": "0.26", "numpy": "2.4"},
        "git": {"commit": "0123abcd"},
        "hardware": {"host": "node2", "processor": "A", "gpus": ["NVIDIA H100"]},
    }
    # Another host is none, nor is what was not recorded or could not be told.
    went_on, changes = with_changes(begun, now, at=1.0)
    assert changes == {"torch": ("2.9.0", "2.11.0"), "GPUs": ("none", "NVIDIA H100")}
    assert with_changes(begun, begun, at=2.0) == (begun, {})
    recorded = json.loads(json.dumps(went_on))
    assert with_changes(recorded, now, at=2.0) == (recorded, {})
    back, changes = with_changes(recorded, begun, at=3.0)
    assert changes == {"torch": ("2.11.0", "2.9.0"), "GPUs": ("NVIDIA H100", "none")}
    assert [session["at"] for session in back["changes"]] == [1.0, 3.0] and back["packages"] == begun["packages"]
