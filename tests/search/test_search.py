"""The search through its command line: records, resume, refusals, signals, lost workers."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import random
import signal
import sqlite3
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from naxcli import open_run
from naxcli.cli.output import stderr_console
from naxcli.cli.progress import SearchProgress
from naxcli.commands.report import ReportRequest, report_run
from naxcli.commands.select import select
from naxcli.commands.session import SearchRequest, open_session
from naxcli.commands.status import describe_run
from naxcli.errors import ExitCode
from naxcli.records.directory import open_run as open_directory
from naxcli.records.trial import Result, Status
from naxcli.search.loop import TIMEOUT_GRACE_SECONDS, EndReason
from naxcli.workers.pool import BATCH, Finished
from naxcli.workers.task import result_to_dict
from tests.command_line import naxcli, start
from tests.inline import InlinePool, search_inline

ENDLESS = """
from ConfigSpace import ConfigurationSpace, Float
from naxcli import Space

def configspace(seed=None):
    space = ConfigurationSpace(seed=seed)
    space.add(Float("x", (0.0, 1.0)), Float("y", (0.0, 1.0)))
    return space

SPACE = Space(name="endless", configspace=configspace, evaluate=lambda config, *, fidelity, seed: config["x"] + config["y"])
"""


def search(space: Path, run: Path, *more: str, searcher: str = "random", workers: int = 1) -> Sequence[str | Path]:
    return ["search", "--space", space, "--run", run, "--searcher", searcher, "--workers", str(workers), *more]


def trials_of(run: Path) -> pd.DataFrame:
    return pd.read_parquet(run / "trials.parquet")


def num_finished(run: Path) -> int:
    if not (run / "search.db").exists():
        return 0
    with sqlite3.connect(f"file:{run / 'search.db'}?mode=ro", uri=True, timeout=10) as connection:
        try:
            return int(connection.execute("SELECT COUNT(*) FROM trials WHERE finished_event IS NOT NULL").fetchone()[0])
        except sqlite3.OperationalError:
            return 0


def wait_until(condition: Any, seconds: float = 300.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited too long"
        time.sleep(0.05)


def test_a_search_leaves_its_run_directory_and_prints_the_incumbent(tiny_space: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    done = naxcli(*search(tiny_space, run, "--trials", "25", "--json", searcher="smac"))
    assert done.returncode == 0, done.stderr
    incumbent = json.loads(done.stdout)
    trials = trials_of(run)
    assert len(trials) == 25 and trials["trial_id"].is_unique
    assert incumbent["cost"] == trials["cost"].min()
    assert incumbent["config"]["depth"] == 4
    assert {path.name for path in run.iterdir()} >= {
        "experiment.toml",
        "space.json",
        "environment.json",
        "search.db",
        "trials.parquet",
        "curves.parquet",
        "checkpoints",
        "log.jsonl",
    }
    assert trials["num_params"].eq(trials["config.depth"] * 100).all()
    assert "25" in done.stderr and "best" in done.stderr


@pytest.mark.usefixtures("inline")
def test_the_same_seed_gives_the_same_trials(tiny_space: Path, tmp_path: Path) -> None:
    tables = []
    for name in ("first", "second"):
        naxcli(*search(tiny_space, tmp_path / name, "--trials", "20", "--seed", "5", searcher="smac", workers=1))
        tables.append(trials_of(tmp_path / name)[["trial_id", "config_id", "seed", "cost"]])
    pd.testing.assert_frame_equal(*tables)


@pytest.mark.usefixtures("inline")
def test_a_run_continued_in_three_parts_equals_one_in_one_go(tiny_space: Path, tmp_path: Path) -> None:
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    naxcli(*search(tiny_space, whole, "--trials", "30", searcher="smac", workers=1))
    for count in (8, 19, 30):
        assert naxcli(*search(tiny_space, parts, "--trials", str(count), searcher="smac", workers=1)).returncode == 0
    columns = ["trial_id", "config_id", "seed", "cost", "status"]
    pd.testing.assert_frame_equal(trials_of(whole)[columns], trials_of(parts)[columns])


@pytest.mark.usefixtures("inline")
def test_a_run_that_goes_on_with_another_torch_says_so_once_and_records_it(tiny_space: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    assert naxcli(*search(tiny_space, run, "--trials", "3")).returncode == 0
    file = run / "environment.json"
    begun = json.loads(file.read_text())
    begun["packages"]["torch"] = "2.0.0"
    file.write_text(json.dumps(begun))
    said = [naxcli(*search(tiny_space, run, "--trials", trials)).stderr for trials in ("4", "5")]
    assert "(2.0.0 before)" in said[0] and "before)" not in said[1]
    went_on = json.loads(file.read_text())
    (change,) = went_on.pop("changes")
    assert went_on == begun and change["changed"]["torch"][0] == "2.0.0"


@pytest.mark.usefixtures("inline")
def test_a_shipped_space_of_another_release_names_the_one_to_resume_with(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = tmp_path / "run"
    flags = ("search", "--space", "nexception", "--data", "digits", "--run", run, "--epochs", "1", "--workers", "1")
    small = ("--set", "width=0.03", "--set", "images_per_class=4")
    assert naxcli(*flags, *small, "--trials", "1").returncode == 0
    records = sqlite3.connect(run / "search.db")
    with records:
        records.execute("UPDATE meta SET value = value || char(10) || 'LATER = 1' WHERE key = 'space_source'")
    records.close()
    edited = naxcli(*flags, *small, "--trials", "2")
    assert edited.returncode == ExitCode.USAGE and "undo the edit to resume" in edited.stderr
    monkeypatch.setattr("naxcli.commands.search.__version__", "9.0")
    later = naxcli(*flags, *small, "--trials", "2")
    assert later.returncode == ExitCode.USAGE
    assert "resume with naxcli 0.1.0, as it started (this is 9.0)" in " ".join(later.stderr.split())


@pytest.mark.usefixtures("inline")
def test_a_finite_space_runs_out(tiny_space: Path, tmp_path: Path) -> None:
    done = naxcli(*search(tiny_space, tmp_path / "run", "--trials", "500"))
    assert done.returncode == 0, done.stderr
    assert len(trials_of(tmp_path / "run")) == 60
    assert trials_of(tmp_path / "run")["config_id"].is_unique


@pytest.mark.usefixtures("inline")
def test_a_budget_ends_the_search_and_a_larger_one_extends_it(slow_space: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    assert naxcli(*search(slow_space, run, "--budget", "2s")).returncode == 0
    first = len(trials_of(run))
    assert 0 < first < 60
    again = naxcli(*search(slow_space, run, "--budget", "2s"))
    assert again.returncode == 0 and len(trials_of(run)) == first
    assert naxcli(*search(slow_space, run, "--budget", "4s")).returncode == 0
    assert len(trials_of(run)) > first


@pytest.mark.usefixtures("inline")
def test_an_existing_run_with_other_settings_is_refused_with_the_difference(tiny_space: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    naxcli(*search(tiny_space, run, "--trials", "3", "--seed", "1"))
    refused = naxcli(*search(tiny_space, run, "--trials", "3", "--seed", "2"))
    assert refused.returncode == 2
    assert "seed: 1 in the run, 2 now" in refused.stderr and "--overwrite" in refused.stderr
    assert len(trials_of(run)) == 3
    anew = naxcli(*search(tiny_space, run, "--trials", "2", "--seed", "2", "--overwrite"))
    assert anew.returncode == 0 and len(trials_of(run)) == 2


@pytest.mark.usefixtures("inline")
def test_an_edited_space_file_is_refused_and_comments_and_docstrings_are_not(tiny_space: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    naxcli(*search(tiny_space, run, "--trials", "3"))
    reworded = (
        tiny_space.read_text()
        .replace('"""A space of 60', '"""Sixty')
        .replace("(seed=None):", '(seed=None):\n    """New."""')
    )
    tiny_space.write_text("# a comment\n" + reworded)
    assert naxcli(*search(tiny_space, run, "--trials", "4")).returncode == 0
    tiny_space.write_text(tiny_space.read_text().replace('"z": 0.1', '"z": 0.3'))
    refused = naxcli(*search(tiny_space, run, "--trials", "5"))
    assert refused.returncode == 2 and '"z": 0.3' in refused.stderr
    assert len(trials_of(run)) == 4


@pytest.mark.usefixtures("inline")
def test_a_truncated_parquet_file_is_rebuilt(tiny_space: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    naxcli(*search(tiny_space, run, "--trials", "5"))
    (run / "trials.parquet").write_bytes(b"PAR1")
    assert naxcli(*search(tiny_space, run, "--trials", "5")).returncode == 0
    assert len(trials_of(run)) == 5


def test_a_second_process_on_a_run_is_refused(slow_space: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    first = start(*search(slow_space, run, "--trials", "60"))
    try:
        wait_until(lambda: num_finished(run) > 1)
        second = naxcli(*search(slow_space, run, "--trials", "60"))
        assert second.returncode == 1 and "another process" in second.stderr and str(first.pid) in second.stderr
    finally:
        first.kill()
        first.communicate()


@pytest.mark.usefixtures("inline")
def test_ctrl_c_finishes_writing_exits_130_and_resumes(slow_space: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    process = start(*search(slow_space, run, "--trials", "30"))
    wait_until(lambda: num_finished(run) > 2)
    os.killpg(process.pid, signal.SIGINT)
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 130, errors
    assert "resumes" in errors and "Traceback" not in errors
    assert len(trials_of(run)) == num_finished(run)
    assert naxcli(*search(slow_space, run, "--trials", "30")).returncode == 0
    assert len(trials_of(run)) == 30 and trials_of(run)["trial_id"].is_unique


def test_workers_ended_by_the_same_signal_do_not_count_against_their_trials(slow_space: Path, tmp_path: Path) -> None:
    """As SLURM ends a job: every process of it gets SIGTERM."""
    run = tmp_path / "run"
    slow_space.write_text(slow_space.read_text().replace("SLEEP_SECONDS = 0.2", "SLEEP_SECONDS = 3.0"))
    process = start(*search(slow_space, run, "--trials", "3"))
    wait_until(lambda: num_finished(run) > 0)
    os.killpg(process.pid, signal.SIGTERM)
    process.communicate(timeout=120)
    assert process.returncode == 4
    assert len(trials_of(run)) == num_finished(run)
    with sqlite3.connect(run / "search.db") as connection:
        assert connection.execute("SELECT MAX(attempts) FROM trials").fetchone()[0] == 0


def test_stop_drains_a_running_search(slow_space: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    process = start(*search(slow_space, run, "--trials", "60"))
    wait_until(lambda: num_finished(run) > 2)
    assert naxcli("stop", run, "--wait").returncode == 0
    process.communicate(timeout=120)
    assert process.returncode == 4
    with sqlite3.connect(run / "search.db") as connection:
        assert connection.execute("SELECT COUNT(*) FROM trials WHERE finished_event IS NULL").fetchone()[0] == 0
    assert naxcli("stop", run).returncode == 1


@pytest.mark.slow
def test_twenty_kills_lose_no_finished_trial_and_duplicate_none(slow_space: Path, tmp_path: Path) -> None:
    """SIGKILL of the search at random moments: what was recorded stays, and the table is readable after each."""
    run, chance = tmp_path / "run", random.Random(0)
    slow_space.write_text(slow_space.read_text().replace("SLEEP_SECONDS = 0.2", "SLEEP_SECONDS = 0.4"))
    arguments = search(slow_space, run, "--trials", "60", searcher="smac")
    known: dict[int, tuple[str, float]] = {}
    for _ in range(20):
        before = num_finished(run)
        process = start(*arguments)
        wait_until(lambda before=before: (run / "search.db").exists() and num_finished(run) > before)  # type: ignore[misc]
        time.sleep(chance.uniform(0.0, 1.0))
        process.kill()
        process.communicate()
        if (run / "trials.parquet").exists():
            table = trials_of(run)
            assert table["trial_id"].is_unique
        with sqlite3.connect(run / "search.db") as connection:
            rows = connection.execute(
                "SELECT trial_id, config_id, cost FROM trials WHERE finished_event IS NOT NULL"
            ).fetchall()
        found = {trial_id: (config, cost) for trial_id, config, cost in rows}
        assert known.items() <= found.items(), "a finished trial was lost or changed"
        known = found
    done = naxcli(*arguments)
    assert done.returncode == 0, done.stderr
    table = trials_of(run)
    assert len(table) == 60 and table["trial_id"].is_unique and table["config_id"].is_unique
    recorded = {row.trial_id: (row.config_id, row.cost) for row in table.itertuples()}
    assert known.items() <= recorded.items()


def test_a_worker_that_dies_costs_only_its_trial(tiny_space: Path, tmp_path: Path) -> None:
    broken = (
        '    if config["depth"] == 2 and (config["kind"], config["flag"], config["noise"]) == ("x", "no", "p"):',
        "        os.kill(os.getpid(), signal.SIGSEGV)",
        '    if config["depth"] == 2:',
        '        raise MemoryError("out of memory")',
        '    if config["depth"] == 1:',
        '        raise ValueError("no")',
        '    if config["depth"] == 3:',
        '        return float("nan")',
    )
    text = tiny_space.read_text().replace("    time.sleep(SLEEP_SECONDS)", "\n".join(broken))
    text = text.replace("import time\n", "import os\nimport signal\nimport time\n")
    tiny_space.write_text(text)
    done = naxcli(*search(tiny_space, tmp_path / "run", "--trials", "60"))
    assert done.returncode == 0, done.stderr
    trials = trials_of(tmp_path / "run")
    status = trials.groupby(["config.depth"])["status"].unique().map(set)
    assert status[1] == {"crashed"} and status[2] == {"crashed", "out_of_memory"} and status[3] == {"diverged"}
    assert status[4] == status[5] == {"success"}
    (lost,) = trials[(trials["config.depth"] == 2) & (trials["status"] == "crashed")]["error"]
    assert "2 times" in lost
    assert trials[trials["config.depth"] == 1]["error"].str.contains("ValueError: no").all()


def test_a_hanging_trial_ends_as_timeout(tiny_space: Path, tmp_path: Path) -> None:
    """Promptly: an objective does not look at the clock, so there is no grace to give."""
    text = tiny_space.read_text().replace("time.sleep(SLEEP_SECONDS)", 'time.sleep(60 if config["depth"] == 1 else 0)')
    tiny_space.write_text(text)
    # SMAC's first is the default: depth 1
    flags = ["--trials", "4", "--trial-timeout", "2s"]
    done = naxcli(*search(tiny_space, tmp_path / "run", *flags, searcher="smac"))
    assert done.returncode == 0, done.stderr
    trials = trials_of(tmp_path / "run")
    overdue = trials[trials["config.depth"] == 1]
    assert (overdue["status"] == "timeout").all() and (overdue["seconds"] < TIMEOUT_GRACE_SECONDS).all()
    assert "timeout" in trials["status"].to_list() and "success" in trials["status"].to_list()


def test_the_work_for_a_result_does_not_grow_with_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The identity of a configuration is computed a fixed number of times a trial, whatever the number of trials."""
    (tmp_path / "endless.py").write_text(ENDLESS)
    hashed: list[bytes] = []
    sha256 = hashlib.sha256
    monkeypatch.setattr("naxcli.records.trial.hashlib.sha256", lambda text: hashed.append(text) or sha256(text))
    for number in (20, 80):
        search_inline(tmp_path / "endless.py", tmp_path / str(number), monkeypatch, trials=number)
    counts = Counter(text for text in hashed if text.startswith(b'{"x"'))
    # The same seed gives the same trials, so that the first 20 came up in both runs.
    assert sorted(set(counts.values())) == [4, 8]


def test_what_a_worker_gave_back_of_a_batch_is_run_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "endless.py").write_text(ENDLESS)
    monkeypatch.setattr("naxcli.search.loop.BATCH_SECONDS", 1000.0)  # on however slow a machine
    whole = search_inline(tmp_path / "endless.py", tmp_path / "whole", monkeypatch, trials=60)
    sizes: list[int] = []

    class GivesUpEarly(InlinePool):
        def submit(self, task_id: int, payload: Mapping[str, Any], *, worker: str) -> None:
            sizes.append(len(payload.get(BATCH, [payload])))
            super().submit(task_id, {BATCH: payload[BATCH][:-1]} if BATCH in payload else payload, worker=worker)

    parts = search_inline(tmp_path / "endless.py", tmp_path / "parts", monkeypatch, pool=GivesUpEarly, trials=60)
    assert max(sizes) > 1
    assert parts.incumbent == whole.incumbent
    costs = [trials_of(tmp_path / name).set_index("trial_id")["cost"].sort_index() for name in ("whole", "parts")]
    pd.testing.assert_series_equal(*costs)


@pytest.mark.parametrize("goal", [{"trials": 4}, {"budget_evaluations": 2.0}])
@pytest.mark.parametrize("fits_alone", [True, False])
def test_a_trial_crowded_out_of_its_gpu_counts_only_after_a_try_alone(
    fits_alone: bool, goal: dict[str, float], tiny_space: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    submitted: list[int] = []

    class Crowded(InlinePool):
        shares_devices = True
        is_lone = False

        def lone_worker(self) -> str | None:
            self.is_lone = True
            return self.free_worker()

        def submit(self, task_id: int, payload: Mapping[str, Any], *, worker: str) -> None:
            submitted.append(task_id)
            super().submit(task_id, payload, worker=worker)
            if task_id == 2:
                cut = Result(status=Status.SUCCESS, cost=1.0, grad_accum_steps=2)
                result = cut if self.is_lone and fits_alone else Result(status=Status.OUT_OF_MEMORY)
                self._finished = [Finished(task_id=task_id, outcome=result_to_dict(result))]
            self.is_lone = False

    monkeypatch.setattr("naxcli.search.loop.BATCH_SECONDS", 0.0)
    search_inline(tiny_space, tmp_path / "run", monkeypatch, pool=Crowded, **goal)
    trials = trials_of(tmp_path / "run").set_index("trial_id")["status"].sort_index()
    later = int(next(iter(goal.values()))) - 2
    assert trials.tolist() == ["success", "success" if fits_alone else "out_of_memory"] + later * ["success"]
    assert submitted == [1, 2, 2, 3, 4][: 3 + later]
    assert "crowded_out" in (tmp_path / "run" / "log.jsonl").read_text()
    run = open_directory(str(tmp_path / "run"))
    assert describe_run(run)["num_cut"] == fits_alone
    warnings = report_run(run, ReportRequest(methods=("fanova",), bootstrap=0)).summary["warnings"]
    assert any("1 trial trained with batches cut" in warning for warning in warnings) == fits_alone


@pytest.mark.parametrize(
    ("flags", "is_batched"), [({}, True), ({"searcher": "evolution"}, False), ({"trial_timeout": "9s"}, False)]
)
def test_trials_go_together_only_where_that_changes_nothing(
    flags: dict[str, str], is_batched: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "endless.py").write_text(ENDLESS)
    monkeypatch.setattr("naxcli.search.loop.BATCH_SECONDS", 1000.0)
    batches: list[bool] = []

    class Noting(InlinePool):
        def submit(self, task_id: int, payload: Mapping[str, Any], *, worker: str) -> None:
            batches.append(BATCH in payload)
            super().submit(task_id, payload, worker=worker)

    search_inline(tmp_path / "endless.py", tmp_path / "run", monkeypatch, pool=Noting, trials=60, **flags)
    assert any(batches) == is_batched


def test_a_budget_that_is_left_over_is_said_with_the_length_of_a_trial(
    tiny_space: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    end = search_inline(tiny_space, tmp_path / "run", monkeypatch, trials=2)
    session = open_session(SearchRequest(space=str(tiny_space), flags={"trials": 2}, run=str(tmp_path / "run")))
    end = dataclasses.replace(end, reason=EndReason.BUDGET, seconds_left=12.0, seconds_per_trial=25.0)
    SearchProgress(session, stderr_console()).summarise(end)
    assert "12s left, too little for another trial (about 25s)" in capsys.readouterr().err


def test_evolution_says_until_when_it_is_random(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "endless.py").write_text(ENDLESS)
    said = []
    for trials, searcher in ((3, "evolution"), (10, "evolution"), (11, "evolution"), (3, "random")):
        search_inline(
            tmp_path / "endless.py",
            tmp_path / f"run-{searcher}",
            monkeypatch,
            lambda session: SearchProgress(session, stderr_console()),
            trials=trials,
            searcher=searcher,
        )
        said.append("evolution draws at random until its population of 10 is full" in capsys.readouterr().err)
    assert said == [True, True, False, False]


@pytest.mark.usefixtures("inline")
def test_a_space_that_always_crashes_ends_the_search_with_its_reason(tiny_space: Path, tmp_path: Path) -> None:
    tiny_space.write_text(
        tiny_space.read_text().replace("    time.sleep(SLEEP_SECONDS)", '    raise ValueError("broken objective")')
    )
    done = naxcli(*search(tiny_space, tmp_path / "run", "--trials", "50"))
    assert done.returncode == 1
    assert "broken objective" in done.stderr and "Traceback" not in done.stderr


@pytest.mark.slow
def test_networks_that_are_all_too_slow_end_the_search_with_the_limit(tmp_path: Path) -> None:
    run = tmp_path / "run"
    arguments = [
        "--space",
        "nexception",
        "--data",
        "digits",
        "--set",
        "width=0.02",
        "--max-latency-ms",
        "0.001",
        "--trials",
        "60",
    ]
    done = naxcli("search", *arguments, "--workers", "1", "--searcher", "random", "--run", run)
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert "20 infeasible" in done.stderr and "above the limit of 0.001 ms" in done.stderr
    trials = trials_of(run)
    assert len(trials) == 20 and (trials["latency_ms"] > 0.001).all() and trials["cost"].isna().all()


@pytest.mark.usefixtures("inline")
def test_two_objectives_give_the_front_of_the_records(tiny_space: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    objective = ["--objective", "cost,params", "--trials", "60"]
    assert naxcli(*search(tiny_space, run, *objective, searcher="smac")).returncode == 0
    described = json.loads(naxcli("report", run, "--json", "--bootstrap", "0").stdout)
    front = {(point["num_params"], round(point["cost"], 6)) for point in described["pareto"]}
    # Of the 60 configurations, all tried: depth d has d * 100 parameters and costs at least 0.1 * |d - 4|, plus 0.3 / epochs.
    epochs = trials_of(run)["fidelity"].max()
    assert front == {(100 * depth, round(0.1 * (4 - depth) + 0.3 / epochs, 6)) for depth in (1, 2, 3, 4)}


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--space", "nexcepton", "--trials", "3"], "no space named"),
        (["--space", "missing.py", "--trials", "3"], "no space file"),
        (["--space", "nexception", "--budget", "3 days"], "not a duration"),
        (["--space", "nexception", "--budget", "90"], "90s"),
        (["--space", "nexception", "--data", "digits"], "no end"),
        (["--space", "nexception", "--data", "nothing", "--trials", "3"], "nothing"),
        (["--trials", "3"], "no search space"),
        (["--space", "nexception", "--cluster", "localhost", "--trials", "3"], "tcp://HOST:PORT"),
        (["--space", "nexception", "--epochs", "3", "--fidelity", "1:3:3", "--trials", "3"], "exclude"),
    ],
)
def test_a_users_mistake_exits_with_2_and_a_hint(arguments: list[str], expected: str, tmp_path: Path) -> None:
    done = naxcli("search", "--run", tmp_path / "run", *arguments)
    assert done.returncode == 2, done.stderr
    assert expected in done.stderr and "Traceback" not in done.stderr
    assert not (tmp_path / "run" / "search.db").exists()


def test_a_space_file_that_does_not_import_is_named_with_its_line(tmp_path: Path) -> None:
    broken = tmp_path / "broken.py"
    broken.write_text("import naxcli\nx = undefined_name\n")
    done = naxcli("search", "--space", broken, "--trials", "3", "--run", tmp_path / "run")
    assert done.returncode == 2
    assert "undefined_name" in done.stderr and "line 2" in done.stderr and "Traceback" not in done.stderr


@pytest.mark.parametrize("trials", [13, 15, 17, 19])
def test_a_configuration_that_searcher_and_random_baseline_both_evaluate_is_no_better_for_it(
    trials: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "ten.py"
    file.write_text(
        "from ConfigSpace import Categorical, ConfigurationSpace\n"
        "from naxcli import Space\n"
        "def configspace(seed=None):\n"
        "    space = ConfigurationSpace(seed=seed)\n"
        "    space.add(Categorical('a', list(range(12))))\n"
        "    return space\n"
        "def evaluate(config, *, fidelity, seed):\n"
        "    return abs(config['a'] - 7) / 10\n"
        "SPACE = Space(name='ten', configspace=configspace, evaluate=evaluate)\n"
    )
    flags = {"trials": trials, "random_share": 0.5, "searcher": "evolution"}
    end = search_inline(file, tmp_path / "run", monkeypatch, **flags)
    run = open_run(tmp_path / "run", space=file)
    is_repeated = run.trials.duplicated(["config_id", "seed"])
    assert is_repeated.any()  # the two have met
    assert end.incumbent is not None
    shown = end.incumbent.to_json()
    assert (shown["cost"], shown["num_seeds"]) == (run.trials["cost"].min(), 1)
    reported = run.report(methods=("lpi",), bootstrap=0).to_dict()["incumbent"]
    selected = select(run=str(tmp_path / "run"), trial="best", config=None, space=str(file))
    assert reported == shown
    assert run.status()["incumbent"]["trial_id"] == selected.trial_id == shown["trial_id"]
