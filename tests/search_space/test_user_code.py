"""What users write can be wrong in many ways: each is said in plain words, and none is mixed into a run."""

from __future__ import annotations

import io
import json
import pickle
import sqlite3
import subprocess
from pathlib import Path

import pandas as pd
import pytest
from rich.console import Console

from naxcli.cli.progress import LiveProgress, SearchProgress
from naxcli.errors import ExitCode, NaxcliError
from naxcli.records.database import Records
from naxcli.records.trial import Result, Status
from naxcli.search.feasibility import Feasibility, NetworkShape
from naxcli.search_space.contract import load_space, space_digest
from naxcli.settings.limits import Limits
from naxcli.settings.recipe import Recipe
from naxcli.workers.evaluate import MAX_ERROR_BYTES, evaluate
from naxcli.workers.task import DataRequest, TrialTask, result_to_dict
from tests.command_line import naxcli, naxcli_process, start
from tests.inline import InlinePool, search_inline

FILE = """
import functools, json, os, sys, time
from pathlib import Path
from ConfigSpace import Categorical, ConfigurationSpace
from naxcli import Limits, Space
from naxcli.errors import NaxcliError

def configspace(seed=None):
    space = ConfigurationSpace(seed=seed)
    space.add(Categorical("a", {choices}))
    return space

def evaluate(config, *, fidelity, seed, factor={factor}):
    {body}
    return {{"cost": factor * config["a"] / 10, "latency_ms": 10.0 * config["a"]}}

SPACE = Space(name="own", configspace=configspace, evaluate={evaluate}, {more})
"""


def write(
    folder: Path,
    *,
    choices: str = "list(range(9))",
    body: str = "",
    more: str = "",
    evaluate: str = "evaluate",
    factor: int = 1,
) -> Path:
    file = folder / "own.py"
    file.write_text(FILE.format(choices=choices, body=body or "pass", more=more, evaluate=evaluate, factor=factor))
    return file


def search(file: Path, *flags: str | Path, trials: int = 3, alone: bool = False) -> subprocess.CompletedProcess[str]:
    """Search a file's space, alone in a process where it does something to that."""
    run = file.parent / "run"
    return (naxcli_process if alone else naxcli)(
        "search", "--space", file, "--run", run, "--trials", str(trials), "--workers", "1", *flags
    )


def trials_of(file: Path) -> pd.DataFrame:
    return pd.read_parquet(file.parent / "run" / "trials.parquet")


@pytest.mark.usefixtures("inline")
def test_an_edit_is_refused_where_the_objective_is_not_a_function_of_the_file(tmp_path: Path) -> None:
    file = write(tmp_path, evaluate="functools.partial(evaluate, factor=1)")
    assert search(file).returncode == ExitCode.DONE
    write(tmp_path, evaluate="functools.partial(evaluate, factor=7)")
    refused = search(file, trials=5)
    assert refused.returncode == ExitCode.USAGE
    assert "was edited since the run started" in refused.stderr and "factor=7" in refused.stderr
    assert "--from" in refused.stderr
    # What was found by the first version still says where to look with the second.
    begun = naxcli(
        *("search", "--space", file, "--run", tmp_path / "second", "--from", tmp_path / "run"),
        *("--trials", "3", "--workers", "1"),
    )
    assert begun.returncode == ExitCode.DONE, begun.stderr


@pytest.mark.usefixtures("inline")
def test_other_choices_from_another_file_are_refused_with_the_difference(tmp_path: Path) -> None:
    (tmp_path / "choices.json").write_text("[1, 2, 3, 4]")
    file = write(tmp_path, choices='json.loads(Path(__file__).with_name("choices.json").read_text())')
    assert search(file).returncode == ExitCode.DONE
    (tmp_path / "choices.json").write_text("[1, 2, 3, 5]")
    refused = search(file, trials=4)
    assert refused.returncode == ExitCode.USAGE
    assert "other configurations" in refused.stderr and "+   5" in refused.stderr


def test_a_run_without_a_result_takes_other_settings_and_an_edited_space(tmp_path: Path) -> None:
    """A typo in the space, or a cluster that is not there, may have kept it from one."""
    file = write(tmp_path)
    unreachable = search(file, "--cluster", "tcp://127.0.0.1:1")
    assert unreachable.returncode != ExitCode.DONE and "Traceback" not in unreachable.stderr
    assert not (tmp_path / "run").exists()
    with file.open("a") as handle:
        handle.write("\nimport multiprocessing\nassert multiprocessing.parent_process() is None, 'not in a worker'\n")
    broken = search(file)
    assert broken.returncode != ExitCode.DONE and "not in a worker" in broken.stderr
    assert (tmp_path / "run" / "search.db").exists()
    write(tmp_path, factor=2)
    assert search(file).returncode == ExitCode.DONE
    assert len(trials_of(file)) == 3


@pytest.mark.parametrize(
    ("more", "what"),
    [
        ("canonical=lambda config: config['b']", "canonical of space 'own' raised KeyError"),
        ("constraints=[lambda config: config['b'] > 1]", "constraint <lambda> of space 'own' raised KeyError"),
        (
            "zero_cost=lambda config: {'flops': 1 / 0}, constraints=[Limits(max_flops=3)]",
            "zero_cost of space 'own' raised ZeroDivisionError",
        ),
        (
            "zero_cost=lambda config: {'num_params': 1}, constraints=[Limits(max_flops=3)]",
            "cannot tell its flops before a trial",
        ),
    ],
)
def test_what_a_space_raises_is_said_in_plain_words(more: str, what: str, tmp_path: Path) -> None:
    refused = search(write(tmp_path, more=more))
    assert refused.returncode == ExitCode.USAGE
    assert what in refused.stderr and "Traceback" not in refused.stderr


@pytest.mark.parametrize("choices", ["[]", "1 / 0"])
def test_a_configspace_that_raises_is_said_in_plain_words(choices: str, tmp_path: Path) -> None:
    with pytest.raises(NaxcliError, match="configspace of space 'own' raised") as caught:
        load_space(str(write(tmp_path, choices=choices))).configuration_space()
    assert "line 10" in caught.value.hint


def test_a_trial_that_exits_is_a_crash_with_its_traceback(tmp_path: Path) -> None:
    file = write(tmp_path, body='sys.exit("enough") if config["a"] == 4 else None')
    result = evaluate(TrialTask(trial_id=1, space=str(file), config={"a": 4}, fidelity=1.0, seed=0))
    assert result.status == Status.CRASHED
    assert result.error is not None and "SystemExit: enough" in result.error


# What an objective may do, and a part of what is recorded of it.
MISBEHAVIOURS = {
    'raise NaxcliError("no such depth", hint="another")': "no such depth",
    "raise GeneratorExit('over')": "GeneratorExit: over",
    "import asyncio; raise asyncio.CancelledError('off')": "CancelledError: off",
    "raise KeyboardInterrupt": "KeyboardInterrupt",
    "raise SystemExit(0)": "SystemExit: 0",
    "raise type('Own', (BaseException,), {})('mine')": "Own: mine",
    "raise type('Mute', (Exception,), {'__str__': lambda self: 1 / 0})": "Mute",
    "raise type('Mute', (RuntimeError,), {'__str__': lambda self: 1 / 0})": "Mute",
    "raise ValueError(lambda: 'not to be pickled')": "ValueError: <function",
    r"raise ValueError('half \udc80, none \0')": r"half \udc80, none \x00",
    "raise ValueError('x' * 1_000_000)": "ValueError: xxx",
    "raise ExceptionGroup('several', [ValueError('one'), KeyError('two')])": "KeyError: 'two'",
    "return None": "returned no 'cost'",
    "return '0.5'": "no number",
    "return 1j": "complex",
    "return [0.5]": "list",
    "return 10 ** 400": "OverflowError",
    "return {'cost': 1.0, 'num_params': 2 ** 63}": "num_params has more than 64 bits",
    "return {'cost': 1.0, 'flops': -2 ** 70}": "flops has more than 64 bits",
    "return {'cost': 1.0, 'num_params': float('inf')}": "OverflowError",
    "return {'cost': 1.0, 'latency_ms': {}}": "TypeError",
}


@pytest.mark.parametrize(("body", "text"), MISBEHAVIOURS.items(), ids=lambda value: value[:40])
def test_whatever_an_objective_raises_or_returns_is_a_crash_that_every_file_can_hold(
    body: str, text: str, tmp_path: Path
) -> None:
    file = write(tmp_path, body=body)
    result = evaluate(TrialTask(trial_id=1, space=str(file), config={"a": 4}, fidelity=1.0, seed=0))
    assert result.status == Status.CRASHED and result.error is not None
    assert text in result.error and "\0" not in result.error
    assert len(result.error.encode()) <= MAX_ERROR_BYTES
    assert pickle.loads(pickle.dumps(result_to_dict(result))) == result_to_dict(result)


@pytest.mark.parametrize("cost", ["1e300", "-1e101", "float('inf')", "float('nan')"])
def test_a_cost_that_no_model_can_square_is_diverged(cost: str, tmp_path: Path) -> None:
    file = write(tmp_path, body=f"return {cost}")
    result = evaluate(TrialTask(trial_id=1, space=str(file), config={"a": 4}, fidelity=1.0, seed=0))
    assert result.status == Status.DIVERGED and result.cost is None


NETWORKS = """
from ConfigSpace import Categorical, ConfigurationSpace
from torch import nn
from naxcli import Space

def configspace(seed=None):
    space = ConfigurationSpace(seed=seed)
    space.add(Categorical("a", [1, 2]))
    return space

def build(config, *, num_classes, in_channels, image_size, width=1.0):
    {body}

SPACE = Space(name="networks", configspace=configspace, build=build)
"""


@pytest.mark.parametrize(
    ("body", "text"),
    [
        ("raise ValueError('depth 9 is too deep')", "ValueError: depth 9 is too deep"),
        ("return None", "space 'networks' built a NoneType"),
        ("raise GeneratorExit", "GeneratorExit"),
        ("raise KeyError('depth')", "KeyError: 'depth'"),
    ],
)
def test_a_network_that_cannot_be_built_is_a_crash(body: str, text: str, tmp_path: Path) -> None:
    file = tmp_path / "networks.py"
    file.write_text(NETWORKS.format(body=body))
    result = evaluate(
        TrialTask(
            trial_id=1,
            space=str(file),
            config={"a": 1},
            fidelity=1.0,
            seed=0,
            recipe=Recipe(),
            schedule_epochs=1.0,
            data=DataRequest(name="digits", root="", split_seed=0, validation_fraction=0.2),
        )
    )
    assert result.status == Status.CRASHED
    assert result.reason == text


def test_a_network_that_cannot_be_built_is_tried_though_its_size_is_limited(tmp_path: Path) -> None:
    file = tmp_path / "networks.py"
    file.write_text(
        NETWORKS.format(body="raise KeyError('depth') if config['a'] == 2 else None; return nn.Linear(1, 1)")
    )
    space = load_space(str(file))
    file.write_text(NETWORKS.format(body="return {}[config['a']]"))
    feasibility = Feasibility(
        space, Limits(max_params=3), width=1.0, shape=NetworkShape(num_classes=2, in_channels=1, image_size=8)
    )
    assert feasibility({"a": 2})


def test_a_space_that_cannot_be_loaded_ends_the_search(tmp_path: Path) -> None:
    file = tmp_path / "own.py"
    file.write_text("1 / 0")
    with pytest.raises(NaxcliError, match="does not import"):
        evaluate(TrialTask(trial_id=1, space=str(file), config={"a": 1}, fidelity=1.0, seed=0))


def test_bad_configurations_end_no_search(tmp_path: Path) -> None:
    """Through worker processes, records and Parquet, with hyperparameters that neither SQLite nor Parquet has a type for."""
    body = (
        "a = config['a']; errors = {1: GeneratorExit, 2: NaxcliError, 3: OSError}; "
        "(_ for _ in ()).throw(errors[a](chr(0xDC80))) if a in errors else None; "
        "return {'cost': 0.5, 'num_params': 2 ** 70 if a == 4 else 3}"
    )
    file = write(tmp_path, choices="[1, 2, 3, 4, 5, 2 ** 70, -2 ** 65]", body=body)
    ended = search(file, trials=7)
    assert ended.returncode == ExitCode.DONE, ended.stderr
    trials = trials_of(file).set_index("config.a")
    assert trials["status"].to_dict() == {
        **dict.fromkeys(("1", "2", "3", "4"), "crashed"),
        **dict.fromkeys(("5", str(2**70), str(-(2**65))), "success"),
    }
    assert "OSError: \\udc80" in ended.stderr and "OverflowError: num_params has more than 64 bits" in ended.stderr
    assert search(file, trials=7).returncode == ExitCode.DONE


def test_text_of_which_half_a_character_is_missing_may_be_a_choice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = write(tmp_path, choices="['x', chr(0xDC80)]", body="return 0.5")
    search_inline(file, tmp_path / "run", monkeypatch, trials=2)
    assert set(trials_of(file)["config.a"]) == {"x", "\\udc80"}


def test_a_constraint_that_raises_about_one_configuration_leaves_it_out(tmp_path: Path) -> None:
    space = load_space(str(write(tmp_path, more="constraints=[lambda config: 1 / (config['a'] - 4)]")))
    said: list[str] = []
    feasibility = Feasibility(space, Limits(), width=1.0, shape=None, on_notice=said.append)
    assert [feasibility({"a": a}) for a in (3, 4, 4, 5)] == [True, False, False, True]
    assert len(said) == 1 and "left out {'a': 4}" in said[0] and "ZeroDivisionError" in said[0]


def test_a_trial_that_ended_the_search_twice_is_a_crash_when_it_resumes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = write(tmp_path)
    add_result = Records.add_result

    def failing(records: Records, trial_id: int, result: Result) -> None:
        if result.cost == 0.4:
            raise sqlite3.ProgrammingError("cannot hold this")
        add_result(records, trial_id, result)

    monkeypatch.setattr(Records, "add_result", failing)
    for _ in range(2):
        with pytest.raises(sqlite3.ProgrammingError):
            search_inline(file, tmp_path / "run", monkeypatch, trials=9)
    assert search_inline(file, tmp_path / "run", monkeypatch, trials=9).num_finished == 9
    trials = trials_of(file).set_index("config.a")
    assert trials.loc[4, "status"] == "crashed" and "ProgrammingError: cannot hold this" in trials.loc[4, "error"]
    assert (trials.drop(index=4)["status"] == "success").all()


@pytest.mark.slow
def test_a_search_that_is_killed_twice_during_a_trial_does_not_blame_it(tmp_path: Path) -> None:
    (tmp_path / "kills").write_text("2")
    body = (
        "import signal; kills = Path(__file__).with_name('kills'); left = int(kills.read_text()); "
        "(kills.write_text(str(left - 1)), os.kill(os.getppid(), signal.SIGKILL), time.sleep(30)) if config['a'] == 4 and left else None"
    )
    file = write(tmp_path, body=body)
    assert [search(file, trials=9, alone=True).returncode for _ in range(3)] == [-9, -9, ExitCode.DONE]
    trials = trials_of(file).set_index("config.a")
    assert trials.loc[4, "status"] == "success" and len(trials) == 9


def test_an_objective_that_took_longer_than_its_time_out_is_no_success(tmp_path: Path) -> None:
    file = write(tmp_path, body="time.sleep(0.05)")
    task = TrialTask(trial_id=1, space=str(file), config={"a": 4}, fidelity=1.0, seed=0, seconds_limit=0.01)
    result = evaluate(task)
    assert result.status == Status.TIMEOUT and result.cost is None and result.reason == "longer than 0.01 s"


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (None, ""),
        ("longer than 3 s", "longer than 3 s"),
        ('Traceback (most recent call last):\n  File "a.py"\n    x\n    ^\nKeyError: 3\n', "KeyError: 3"),
        (
            "Traceback (most recent call last):\n  File\nRuntimeError: CUDA error\nCompile with\n",
            "RuntimeError: CUDA error",
        ),
        (
            "Traceback (most recent call last):\n  F\nA: 1\n\nDuring\n\nTraceback (most recent call last):\n  F\nB: 2\n",
            "B: 2",
        ),
        ("Traceback (most recent call last):\n  cut", "  cut"),
        ("x" * 1000, "x" * 300 + "…"),
    ],
)
def test_the_reason_of_a_failure_is_its_last_exception_on_one_line(error: str | None, reason: str) -> None:
    assert Result(status=Status.CRASHED, error=error).reason == reason


@pytest.mark.parametrize("is_live", [False, True])
def test_failures_say_why_as_they_come(is_live: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = write(tmp_path, body="if config['a'] == 4: raise ValueError('no such depth')")
    output = io.StringIO()
    console = Console(file=output, force_terminal=is_live, width=100)
    make = LiveProgress if is_live else SearchProgress
    search_inline(file, tmp_path / "run", monkeypatch, lambda session: make(session, console), trials=9)
    assert "ValueError: no such depth" in output.getvalue()


def test_what_a_space_prints_stays_out_of_the_json(tmp_path: Path) -> None:
    file = write(tmp_path, body='print("from a trial", flush=True)')
    file.write_text('print("from the file")\n' + file.read_text())
    ended = search(file, "--json", alone=True)
    assert ended.returncode == ExitCode.DONE
    assert json.loads(ended.stdout)["config"].keys() == {"a"}
    assert "from the file" in ended.stderr and "from a trial" in ended.stderr


@pytest.mark.usefixtures("inline")
def test_a_limit_on_latency_holds_for_an_objective_of_a_space(tmp_path: Path) -> None:
    file = write(tmp_path)
    assert search(file, "--max-latency-ms", "45", trials=9).returncode == ExitCode.DONE
    trials = trials_of(file)
    assert len(trials) == 9
    assert ((trials["status"] == "infeasible") == (trials["latency_ms"] > 45)).all()


def test_an_objective_that_is_not_returned_is_a_crash_that_names_it(tmp_path: Path) -> None:
    task = TrialTask(
        trial_id=1, space=str(write(tmp_path)), config={"a": 4}, fidelity=1.0, seed=0, needed_measures=("flops",)
    )
    result = evaluate(task)
    assert result.status == Status.CRASHED and "returned no 'flops'" in str(result.error)


def test_an_objective_that_gives_up_need_not_measure_what_else_is_lowered(tmp_path: Path) -> None:
    file = write(tmp_path, body="return float('nan')")
    task = TrialTask(trial_id=1, space=str(file), config={"a": 4}, fidelity=1.0, seed=0, needed_measures=("flops",))
    assert evaluate(task).status == Status.DIVERGED


def test_the_only_configuration_that_a_constraint_allows_is_found(tmp_path: Path) -> None:
    file = write(tmp_path, choices="list(range(20_000))", more="constraints=[lambda config: config['a'] == 12_345]")
    space = load_space(str(file))
    Feasibility(space, Limits(), width=1.0, shape=None).require_one(seed=0)


def test_a_file_that_says_something_else_in_a_worker_is_told_from_one_that_was_edited(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = write(tmp_path, choices='[1, int(os.environ.get("NAXCLI_TEST_CHOICE", 2))]')
    digest = space_digest(load_space(str(file)))
    monkeypatch.setenv("NAXCLI_TEST_CHOICE", "3")
    with pytest.raises(NaxcliError, match="another space") as caught:
        evaluate(TrialTask(trial_id=1, space=str(file), config={"a": 1}, fidelity=1.0, seed=0, space_digest=digest))
    assert "the same file says something else" in caught.value.why


def test_a_trial_that_hangs_without_a_sign_of_life_costs_that_trial_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("naxcli.search.watchdog.START_MIN_SECONDS", 5.0)
    file = write(tmp_path, body='time.sleep(1000 if config["a"] == 4 else 0)')
    ended = search(file, trials=9)
    assert ended.returncode == ExitCode.DONE, ended.stderr
    trials = trials_of(file).set_index("config.a")
    assert trials.loc[4, "status"] == "crashed" and "no heartbeat" in trials.loc[4, "error"]
    assert (trials.drop(index=4)["status"] == "success").all()


def test_a_stop_during_the_start_is_obeyed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class StoppedPool(InlinePool):
        def __enter__(self) -> InlinePool:
            (tmp_path / "run" / "stop").touch()
            return self

    file = write(tmp_path)
    ended = search_inline(file, tmp_path / "run", monkeypatch, pool=StoppedPool, trials=5)
    assert ended.exit_code == ExitCode.STOPPED
    assert not len(trials_of(file))


def test_status_watch_writes_tables_to_a_pipe(tmp_path: Path) -> None:
    file = write(tmp_path, body="time.sleep(0.5)")
    searching = start(
        "search", "--space", file, "--run", tmp_path / "run", "--trials", "8", "--workers", "1", "--quiet"
    )
    assert searching.stderr is not None
    while not (tmp_path / "run" / "search.db.backup").exists():  # it is there from the start
        assert searching.poll() is None
    watching = start("status", tmp_path / "run", "--watch")
    assert watching.stdout is not None
    assert watching.stdout.readline().startswith("run")
    watching.kill()
    assert searching.wait(120) == ExitCode.DONE
