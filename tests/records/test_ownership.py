"""A search deletes and writes over its own files only, and no start, kill or second start loses a run."""

from __future__ import annotations

import os
import shutil
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pandas as pd
import pytest

from naxcli.commands.search import _create, _Prepared
from naxcli.commands.session import SearchRequest, Session, open_session
from naxcli.errors import NaxcliError
from naxcli.records.database import Records
from naxcli.records.directory import RunDirectory
from naxcli.records.trial import Result, Status, Suggestion
from naxcli.search.feasibility import Feasibility
from naxcli.search.retention import CheckpointPolicy
from naxcli.settings.fidelity import FidelityRange
from tests.command_line import ENVIRONMENT, naxcli, start
from tests.conftest import REPOSITORY

USERS_FILES = (
    "experiment.toml",
    "space.json",
    "environment.json",
    "search.db",
    "search.db.backup",
    "trials.parquet",
    "curves.parquet",
    "confirmation.json",
    "plan.json",
    "packing.json",
    "trials_per_gpu.json",
    "checkpoints/best.pt",
    "checkpoints/1.pt",
    "checkpoints",
    "log.jsonl",
    "lock",
    "stop",
)
NOBODYS_FILES = ("notes.txt", ".draft.tmp", ".trials.parquet.tmp.orig", "search.db.mine", "1.pt")


def write(path: Path, text: str = "mine") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def contents(folder: Path) -> dict[str, bytes | None]:
    return {
        str(path.relative_to(folder)): path.read_bytes() if path.is_file() else None
        for path in sorted(folder.rglob("*"))
    }


def request(space: Path, run: Path, *, trials: int = 3, overwrite: bool = False) -> SearchRequest:
    flags = {"trials": trials, "searcher": "random", "workers": 1}
    return SearchRequest(space=str(space), flags=flags, run=str(run), overwrite=overwrite)


def create(session: Session) -> None:
    """Make a session's run, as a search does before its first trial."""
    with session.run.locked():
        configuration_space = session.space.configuration_space(0)
        feasibility = Feasibility(session.space, session.experiment.limits, width=1.0, shape=None)
        _create(
            session,
            _Prepared(
                data=None,
                description=None,
                shape=None,
                configuration_space=configuration_space,
                feasibility=feasibility,
            ),
        ).close()


def add_trial(run: RunDirectory) -> None:
    with Records.open(run) as records:
        trial = records.add_trial(
            Suggestion(config={"depth": 1, "kind": "x", "flag": "no", "noise": "p"}, fidelity=1.0, seed=0),
            searcher="random",
            state="{}",
        )
        records.add_result(trial.trial_id, Result(status=Status.SUCCESS, cost=0.5, seconds=1.0, ended_at=1.0))
        records.back_up()


@pytest.fixture
def session(tiny_space: Path, tmp_path: Path) -> Session:
    """The session of a run that was made, and in which a trial has ended."""
    session = open_session(request(tiny_space, tmp_path / "run"))
    create(session)
    add_trial(session.run)
    return session


@pytest.mark.parametrize("overwrite", [False, True])
@pytest.mark.parametrize("name", USERS_FILES)
def test_a_folder_with_a_file_of_our_names_but_no_run_is_refused(
    name: str, overwrite: bool, tiny_space: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "folder"
    for file in (name, *NOBODYS_FILES):
        write(folder / file)
    before = contents(folder)
    with pytest.raises(NaxcliError, match="and no run of naxcli") as refused:
        open_session(request(tiny_space, folder, overwrite=overwrite))
    assert name.split("/", maxsplit=1)[0] in refused.value.what and "--run" in refused.value.hint
    assert contents(folder) == before


def test_settings_and_a_database_of_somebody_else_are_no_run(tiny_space: Path, tmp_path: Path) -> None:
    """The settings could be an experiment file that the user keeps there."""
    folder = tmp_path / "folder"
    write(folder / "experiment.toml", 'space = "nexception"\ntrials = 3\n')
    with sqlite3.connect(folder / "search.db") as connection:
        connection.execute("CREATE TABLE trials (id INTEGER)")
    before = contents(folder)
    for overwrite in (False, True):
        with pytest.raises(NaxcliError, match="and no run of naxcli"):
            open_session(request(tiny_space, folder, overwrite=overwrite))
    assert contents(folder) == before


@pytest.mark.parametrize("more", [(), ("--overwrite",)])
def test_the_command_refuses_an_ordinary_folder_and_touches_nothing(
    more: tuple[str, ...], tiny_space: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "folder"
    for name in ("checkpoints/best.pt", "log.jsonl", ".draft.tmp", "stop", "lock", "search.db.notes"):
        write(folder / name)
    before = contents(folder)
    refused = naxcli(
        "search", "--space", tiny_space, "--run", ".", "--trials", "2", "--workers", "1", *more, cwd=folder
    )
    assert refused.returncode == 2 and "Traceback" not in refused.stderr
    assert all(name in refused.stderr for name in ("checkpoints/", "log.jsonl", "stop", "lock", "why:", "hint:"))
    assert contents(folder) == before


def test_plan_refuses_an_ordinary_folder_too(tiny_space: Path, tmp_path: Path) -> None:
    write(tmp_path / "folder" / "plan.json", '{"holidays": 3}')
    refused = naxcli("plan", "--space", tiny_space, "--run", tmp_path / "folder", "--budget", "20s", "--workers", "1")
    assert refused.returncode == 2 and "plan.json" in refused.stderr
    assert contents(tmp_path / "folder") == {"plan.json": b'{"holidays": 3}'}


def test_a_folder_with_other_files_becomes_a_run_and_keeps_them(tiny_space: Path, tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    for name in NOBODYS_FILES:
        write(folder / name)
    write(folder / "plan.json", '{"settings": {}, "rungs": []}')  # as `naxcli plan` leaves it
    session = open_session(request(tiny_space, folder))
    create(session)
    create(open_session(request(tiny_space, folder, overwrite=True)))
    assert all((folder / name).read_text() == "mine" for name in NOBODYS_FILES)
    assert (folder / "plan.json").exists() and not open_session(request(tiny_space, folder)).is_new


def test_overwriting_a_run_deletes_what_naxcli_wrote_and_nothing_else(session: Session, tiny_space: Path) -> None:
    run = session.run.path
    kept = ("checkpoints/best.pt", "checkpoints/7.pt.txt", "checkpoints/²3.pt", "checkpoints/mine/7.pt", *NOBODYS_FILES)
    own = (
        "checkpoints/7.pt",
        "checkpoints/.7.pt.abcd_123.tmp",
        "checkpoints/.7.pt.99.tmp",
        ".trials.parquet.99.tmp",
        ".search.db.99.tmp",
        ".search.db.backup.tmp",
        "trials.parquet",
        "log.jsonl",
        "stop",
        "confirmation.json",
    )
    for name in (*kept, *own):
        write(run / name)
    (run / "checkpoints" / "9.pt").mkdir()  # a folder is nobody's checkpoint
    create(open_session(request(tiny_space, run, overwrite=True)))
    assert all((run / name).read_text() == "mine" for name in kept)
    assert not [name for name in own if (run / name).exists()]
    assert (run / "checkpoints" / "9.pt").is_dir()
    with Records.open(session.run) as records:
        assert not records.has_trials()


def test_a_linked_folder_of_checkpoints_stays_with_all_that_is_in_it(
    session: Session, tiny_space: Path, tmp_path: Path
) -> None:
    elsewhere = tmp_path / "elsewhere"
    for name in ("best.pt", "1.pt"):
        write(elsewhere / name)
    session.run.checkpoints.rmdir()
    session.run.checkpoints.symlink_to(elsewhere)
    create(open_session(request(tiny_space, session.run.path, overwrite=True)))
    assert session.run.checkpoints.is_symlink()
    assert contents(elsewhere) == {"1.pt": b"mine", "best.pt": b"mine"}


def test_pruning_checkpoints_leaves_files_of_others(session: Session) -> None:
    with Records.open(session.run) as records:
        finished = records.finished()
    for name in ("1.pt", "01.txt", "best.pt", "²3.pt"):
        write(session.run.checkpoints / name)
    # That of trial 1 is not needed where it is not the incumbent's.
    CheckpointPolicy(run=session.run, fidelity=FidelityRange(min=1, max=1), finished=finished, incumbent=None)
    assert sorted(path.name for path in session.run.checkpoints.iterdir()) == ["01.txt", "best.pt", "²3.pt"]


@pytest.mark.usefixtures("inline")
def test_a_run_that_lost_settings_and_records_keeps_the_rest_and_is_restored_as_it_is_told(
    tiny_space: Path, tmp_path: Path
) -> None:
    run = tmp_path / "a run"
    arguments = ["search", "--space", tiny_space, "--run", run, "--searcher", "random", "--workers", "1", "--trials"]
    assert naxcli(*arguments, "3").returncode == 0
    with Records.open(RunDirectory(path=run)) as records:
        records.back_up()
    for name in ("experiment.toml", "search.db"):
        (run / name).unlink()
    before = contents(run)
    for more in ((), ("--overwrite",)):
        refused = naxcli(*arguments, "5", *more)
        assert refused.returncode == 1 and "search.db.backup" in refused.stderr and "Traceback" not in refused.stderr
        assert contents(run) == before
    restore = (
        next(line for line in refused.stderr.splitlines() if "hint: " in line).split("hint: ")[1].split(", and")[0]
    )
    subprocess.run(restore, shell=True, check=True)
    assert naxcli(*arguments, "5").returncode == 0
    trials = pd.read_parquet(run / "trials.parquet")
    assert len(trials) == 5 and (run / "experiment.toml").exists()


def test_a_run_that_lost_its_settings_takes_them_from_its_records(session: Session, tiny_space: Path) -> None:
    session.run.experiment_file.unlink()
    again = open_session(request(tiny_space, session.run.path))
    assert not again.is_new and again.experiment == session.experiment
    with pytest.raises(NaxcliError, match="other settings"):
        open_session(SearchRequest(space=str(tiny_space), flags={"trials": 3, "seed": 5}, run=str(session.run.path)))


def test_records_of_an_older_version_without_settings_are_kept(session: Session, tiny_space: Path) -> None:
    session.run.experiment_file.unlink()
    with sqlite3.connect(session.run.database) as connection:
        connection.execute("DELETE FROM meta WHERE key = 'experiment'")
    with pytest.raises(NaxcliError, match=r"records but no experiment\.toml"):
        open_session(request(tiny_space, session.run.path))
    assert open_session(request(tiny_space, session.run.path, overwrite=True)).is_new


def test_a_damaged_database_with_its_copy_is_still_a_run(session: Session, tiny_space: Path) -> None:
    session.run.database.write_bytes(b"\0" * 512)
    assert not open_session(request(tiny_space, session.run.path)).is_new
    with pytest.raises(NaxcliError, match="is damaged") as refused:
        Records.open(session.run)
    assert "search.db.backup" in refused.value.hint


def die_before(number: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let this process end, as SIGKILL ends it, before so many files have been renamed, deleted or made."""
    calls = [0]

    def counted(function: Callable[..., object]) -> Callable[..., object]:
        def call(*arguments: object, **named: object) -> object:
            calls[0] += 1
            if calls[0] == number:
                os.kill(os.getpid(), signal.SIGKILL)
            return function(*arguments, **named)

        return call

    for name in ("replace", "unlink", "mkdir"):
        monkeypatch.setattr(Path, name, counted(getattr(Path, name)))
    monkeypatch.setattr(sqlite3, "connect", counted(sqlite3.connect))
    monkeypatch.setattr(os, "fdopen", counted(os.fdopen))


def killed_at_every_step(work: Callable[[], None], monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    """Do the work in child processes that are killed earlier and later; yield after each death, until one lives to the end."""
    for number in range(1, 200):
        child = os.fork()
        if not child:
            die_before(number, monkeypatch)
            try:
                work()
            finally:
                os._exit(0)
        if os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) != -signal.SIGKILL:
            return
        yield number


def test_a_run_whose_making_was_killed_at_any_step_is_made_by_the_same_command(
    tiny_space: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = tmp_path / "run"
    wanted = request(tiny_space, run)
    steps = 0
    for _ in killed_at_every_step(lambda: create(open_session(wanted)), monkeypatch):
        steps += 1
        create(open_session(wanted))
        assert not open_session(wanted).is_new
        assert not list(run.glob(".*"))
        shutil.rmtree(run)
    assert steps >= 8


def test_a_run_whose_overwriting_was_killed_at_any_step_is_whole_or_gone(
    session: Session, tiny_space: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = session.run.path
    for name in ("trials.parquet", "curves.parquet", "log.jsonl", "checkpoints/1.pt"):
        write(run / name)
    shutil.copytree(run, tmp_path / "original")
    ends = set()
    for _ in killed_at_every_step(lambda: create(open_session(request(tiny_space, run, overwrite=True))), monkeypatch):
        again = open_session(request(tiny_space, run))
        with Records.open(session.run) as records:
            ends.add((again.is_new, len(records.finished())))
        shutil.rmtree(run)
        shutil.copytree(tmp_path / "original", run)
    assert ends == {(False, 1), (True, 0)}


# A search in two steps: what it does before it holds the run, and, once told to, the rest.
GATED = """
import sys
from naxcli.cli.output import stderr_console
from naxcli.cli.progress import SearchProgress
from naxcli.errors import NaxcliError
from naxcli.commands.search import run_session
from naxcli.commands.session import SearchRequest, open_session
from naxcli.workers import pool
from tests.inline import InlinePool

pool.WorkerPool = InlinePool
space, run, trials, overwrite = sys.argv[1:]
flags = {"trials": int(trials), "searcher": "random", "workers": 1}
session = open_session(SearchRequest(space=space, flags=flags, run=run, overwrite=overwrite == "yes"))
print("decided", flush=True)
sys.stdin.readline()
try:
    end = run_session(session, SearchProgress(session, stderr_console(), is_quiet=True))
    print(f"finished {end.num_finished}", flush=True)
except NaxcliError as error:
    print(error, flush=True)
"""


class Gated:
    """A search in a process of its own that has decided what it does, and waits; its trials run in that process."""

    def __init__(self, space: Path, run: Path, *, trials: int = 3, overwrite: bool = False) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-c", GATED, space, run, str(trials), "yes" if overwrite else "no"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**ENVIRONMENT, "PYTHONPATH": str(REPOSITORY)},
        )
        assert self._process.stdout is not None and self._process.stdout.readline() == "decided\n"

    def finish(self) -> str:
        return self._process.communicate("go\n", timeout=300)[0]


def trials_of(run: Path) -> list[tuple[int, float]]:
    table = pd.read_parquet(run / "trials.parquet")
    return list(zip(table["trial_id"], table["ended_at"], strict=True))


@pytest.mark.parametrize("overwrite", [False, True])
def test_a_run_that_another_search_made_meanwhile_is_not_erased(
    overwrite: bool, tiny_space: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    late, early = (Gated(tiny_space, run, overwrite=overwrite) for _ in range(2))
    assert early.finish() == "finished 3\n"
    before = trials_of(run)
    assert "another process searched in" in late.finish()
    assert trials_of(run) == before and len(before) == 3


def test_overwriting_spares_the_trials_of_a_search_that_ended_meanwhile(tiny_space: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    assert Gated(tiny_space, run).finish() == "finished 3\n"
    late = Gated(tiny_space, run, overwrite=True)
    assert Gated(tiny_space, run, trials=6).finish() == "finished 6\n"
    assert "another process searched in" in late.finish()
    assert len(trials_of(run)) == 6


@pytest.mark.slow
def test_a_search_resumes_what_another_one_added_meanwhile(tiny_space: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    assert Gated(tiny_space, run).finish() == "finished 3\n"
    late = Gated(tiny_space, run, trials=8)
    assert Gated(tiny_space, run, trials=6).finish() == "finished 6\n"
    six = trials_of(run)
    assert late.finish() == "finished 8\n"
    assert trials_of(run)[:6] == six


@pytest.mark.parametrize("more", [(), ("--overwrite",)])
def test_of_two_searches_started_at_once_one_runs_and_no_trial_is_lost(
    more: tuple[str, ...], tiny_space: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    arguments = [
        "search",
        "--space",
        tiny_space,
        "--run",
        run,
        "--searcher",
        "random",
        "--workers",
        "1",
        "--trials",
        "4",
    ]
    first, second = (start(*arguments, *more) for _ in range(2))
    errors = [process.communicate(timeout=300)[1] for process in (first, second)]
    codes = [process.returncode for process in (first, second)]
    assert 0 in codes and set(codes) <= {0, 1}, errors
    assert "Traceback" not in "".join(errors)
    for code, text in zip(codes, errors, strict=True):
        assert code == 0 or "another process" in text
    assert [trial_id for trial_id, _ in trials_of(run)] == [1, 2, 3, 4]
