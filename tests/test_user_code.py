"""What users write can be wrong in many ways: each is said in plain words, and none is mixed into a run."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

from naxcli.errors import ExitCode, NaxcliError
from naxcli.evaluate import TrialTask, evaluate
from naxcli.feasibility import Feasibility
from naxcli.liveness import SILENCE_MIN_SECONDS, START_MIN_SECONDS, Liveness
from naxcli.space import WHOLE_VARIABLE, Limits, load_space, space_digest
from naxcli.trial import Status, Trial
from tests.commands import naxcli, start

FILE = """
import functools, json, os, sys, time
from pathlib import Path
from ConfigSpace import Categorical, ConfigurationSpace
from naxcli import Limits, Space

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
    folder: Path, *, choices: str = "list(range(9))", body: str = "", more: str = "", evaluate: str = "evaluate", factor: int = 1
) -> Path:  # fmt: skip
    file = folder / "own.py"
    file.write_text(FILE.format(choices=choices, body=body or "pass", more=more, evaluate=evaluate, factor=factor))
    return file


def search(file: Path, *flags: str | Path, trials: int = 3) -> subprocess.CompletedProcess[str]:
    run = file.parent / "run"
    return naxcli("search", "--space", file, "--run", run, "--trials", str(trials), "--workers", "1", *flags)


def trials_of(file: Path) -> pd.DataFrame:
    return pd.read_parquet(file.parent / "run" / "trials.parquet")


def test_an_edit_is_refused_where_the_objective_is_not_a_function_of_the_file(tmp_path: Path) -> None:
    file = write(tmp_path, evaluate="functools.partial(evaluate, factor=1)")
    assert search(file).returncode == ExitCode.DONE
    write(tmp_path, evaluate="functools.partial(evaluate, factor=7)")
    refused = search(file, trials=5)
    assert refused.returncode == ExitCode.USAGE
    assert "was edited since the run started" in refused.stderr and "factor=7" in refused.stderr


def test_other_choices_from_another_file_are_refused_with_the_difference(tmp_path: Path) -> None:
    (tmp_path / "choices.json").write_text("[1, 2, 3, 4]")
    file = write(tmp_path, choices='json.loads(Path(__file__).with_name("choices.json").read_text())')
    assert search(file).returncode == ExitCode.DONE
    (tmp_path / "choices.json").write_text("[1, 2, 3, 5]")
    refused = search(file, trials=4)
    assert refused.returncode == ExitCode.USAGE
    assert "other configurations" in refused.stderr and "+   5" in refused.stderr


def test_a_run_without_a_result_binds_nobody(tmp_path: Path) -> None:
    """Not to a typo in the space, and not to a cluster that is not there."""
    file = write(tmp_path)
    unreachable = search(file, "--cluster", "tcp://127.0.0.1:1")
    assert unreachable.returncode != ExitCode.DONE and "Traceback" not in unreachable.stderr
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
    assert "line 9" in caught.value.hint


def test_a_trial_that_exits_is_a_crash_with_its_traceback(tmp_path: Path) -> None:
    file = write(tmp_path, body='sys.exit("enough") if config["a"] == 4 else None')
    result = evaluate(TrialTask(trial_id=1, space=str(file), config={"a": 4}, fidelity=1.0, seed=0))
    assert result.status == Status.CRASHED
    assert result.error is not None and "SystemExit: enough" in result.error


def test_what_a_space_prints_stays_out_of_the_json(tmp_path: Path) -> None:
    file = write(tmp_path, body='print("from a trial", flush=True)')
    file.write_text('print("from the file")\n' + file.read_text())
    ended = search(file, "--json")
    assert ended.returncode == ExitCode.DONE
    assert json.loads(ended.stdout)["config"].keys() == {"a"}
    assert "from the file" in ended.stderr and "from a trial" in ended.stderr


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
    assert "the same file says something else" in caught.value.why and WHOLE_VARIABLE in caught.value.hint


def test_a_training_may_be_silent_for_longer_before_its_first_step_than_after(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0
    monkeypatch.setattr("time.monotonic", lambda: now)
    trial = Trial(trial_id=1, config={}, fidelity=9.0, seed=0, searcher="smac")
    training = Liveness(gives_signs=True)
    training.started(trial)
    now = START_MIN_SECONDS - 1
    assert training.silence_of_hanging(trial) is None
    now = START_MIN_SECONDS + 1
    assert training.silence_of_hanging(trial) == START_MIN_SECONDS
    training.heard(1)
    now += SILENCE_MIN_SECONDS + 1
    assert training.silence_of_hanging(trial) == SILENCE_MIN_SECONDS
    training.heard(1, epoch_seconds=SILENCE_MIN_SECONDS)
    now += 9 * SILENCE_MIN_SECONDS
    assert training.silence_of_hanging(trial) is None


def test_a_time_out_counts_from_where_the_trial_begins(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not from where its worker begins to load libraries and images."""
    now = 0.0
    monkeypatch.setattr("time.monotonic", lambda: now)
    trial = Trial(trial_id=1, config={}, fidelity=9.0, seed=0, searcher="smac")
    training = Liveness(gives_signs=True)
    training.started(trial)
    now = 100.0
    assert not training.is_over(trial, 60.0)
    training.begun(1)
    now = 159.0
    assert not training.is_over(trial, 60.0)
    now = 161.0
    assert training.is_over(trial, 60.0)
    training.started(trial)
    now += SILENCE_MIN_SECONDS + 61.0
    assert training.is_over(trial, 60.0)


def test_an_objective_is_compared_with_those_that_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0
    monkeypatch.setattr("time.monotonic", lambda: now)
    short, long = (
        Trial(trial_id=number, config={}, fidelity=fidelity, seed=0, searcher="smac")
        for number, fidelity in ((1, 1.0), (2, 9.0))
    )
    objective = Liveness(gives_signs=False)
    objective.started(long)
    now = 1e6  # nothing to compare with
    assert objective.silence_of_hanging(long) is None
    objective.ended(short, 1000.0)
    objective.started(long)
    now += 89_999.0
    assert objective.silence_of_hanging(long) is None
    now += 2.0
    assert objective.silence_of_hanging(long) == 90_000.0


def run_patched(file: Path, patch: str, *flags: str) -> subprocess.CompletedProcess[str]:
    """Run a search in a process in which a line of code has changed something of naxcli."""
    arguments = ["naxcli", "search", "--space", str(file), "--run", str(file.parent / "run"), "--workers", "1", *flags]
    script = file.parent / "patched.py"
    script.write_text(
        f"import sys\nsys.argv = {arguments!r}\nfrom naxcli.cli import main\nif __name__ == '__main__':\n    {patch}\n    main()\n"
    )
    return subprocess.run([sys.executable, script], capture_output=True, text=True, timeout=120, check=False)


def test_a_trial_that_hangs_without_a_sign_of_life_costs_that_trial_only(tmp_path: Path) -> None:
    file = write(tmp_path, body='time.sleep(1000 if config["a"] == 4 else 0)')
    ended = run_patched(file, "import naxcli.liveness; naxcli.liveness.START_MIN_SECONDS = 2.0", "--trials", "9")
    assert ended.returncode == ExitCode.DONE, ended.stderr
    trials = trials_of(file).set_index("config.a")
    assert trials.loc[4, "status"] == "crashed" and "no sign of life" in trials.loc[4, "error"]
    assert (trials.drop(index=4)["status"] == "success").all()


def test_a_stop_during_the_start_is_obeyed(tmp_path: Path) -> None:
    file = write(tmp_path)
    patch = "import naxcli.workers as w; enter = w.WorkerPool.__enter__; "
    patch += (
        f"w.WorkerPool.__enter__ = lambda pool: (open({str(tmp_path / 'run' / 'stop')!r}, 'w').close(), enter(pool))[1]"
    )
    ended = run_patched(file, patch, "--trials", "5")
    assert ended.returncode == ExitCode.STOPPED, ended.stderr
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
