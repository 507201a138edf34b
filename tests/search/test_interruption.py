"""What ends a search from outside, and what does not: signals, lost terminals, readers that are gone."""

from __future__ import annotations

import os
import pty
import signal
import sqlite3
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

from naxcli.errors import ExitCode
from naxcli.workers.shutdown import Interruption
from tests.command_line import ENVIRONMENT, naxcli, start
from tests.search.test_search import num_finished, search, trials_of, wait_until


@pytest.mark.parametrize(
    ("number", "code"),
    [
        (signal.SIGINT, ExitCode.INTERRUPTED),
        (signal.SIGTERM, ExitCode.STOPPED),
        (signal.SIGHUP, ExitCode.STOPPED),
    ],
)
def test_a_signal_is_noted_and_has_its_exit_code(number: signal.Signals, code: ExitCode) -> None:
    before = signal.signal(number, signal.SIG_DFL)
    with Interruption() as interruption:
        assert not interruption.is_set
        signal.raise_signal(number)
        assert interruption.is_set and interruption.exit_code is code
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
    assert signal.signal(number, before) is signal.SIG_DFL


def test_a_hang_up_that_nohup_ignores_stays_ignored() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with Interruption() as interruption:
            signal.raise_signal(signal.SIGHUP)
            assert not interruption.is_set
    finally:
        signal.signal(signal.SIGHUP, before)


@pytest.mark.usefixtures("inline")
def test_a_hang_up_stops_a_search_resumably(slow_space: Path, tmp_path: Path) -> None:
    """It comes twice, from the terminal and from the shell, and reaches the workers, too."""
    run = tmp_path / "run"
    process = start(*search(slow_space, run, "--trials", "25"))
    wait_until(lambda: num_finished(run) > 2)
    for _ in range(2):
        os.killpg(process.pid, signal.SIGHUP)
    _, errors = process.communicate(timeout=120)
    assert process.returncode == ExitCode.STOPPED, errors
    assert "resumes" in errors and "Traceback" not in errors
    assert len(trials_of(run)) == num_finished(run)
    with sqlite3.connect(run / "search.db") as connection:
        assert connection.execute("SELECT MAX(attempts) FROM trials").fetchone()[0] == 0
    assert naxcli(*search(slow_space, run, "--trials", "25")).returncode == 0
    assert len(trials_of(run)) == 25


def test_a_search_whose_terminal_goes_stops_resumably(slow_space: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    arguments = map(str, search(slow_space, run, "--trials", "60"))
    child, terminal = pty.fork()
    if not child:
        os.execve(sys.executable, [sys.executable, "-m", "naxcli", *arguments], ENVIRONMENT)
    wait_until(lambda: bool(os.read(terminal, 65536)) and num_finished(run) > 2)  # read, or it would wait for us
    os.close(terminal)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == ExitCode.STOPPED
    assert len(trials_of(run)) == num_finished(run) < 60


def test_a_search_goes_on_where_nobody_reads_what_it_and_its_trials_print(tiny_space: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    printing = "    print('x' * 100_000, flush=True)\n    time.sleep(SLEEP_SECONDS)"
    tiny_space.write_text(tiny_space.read_text().replace("    time.sleep(SLEEP_SECONDS)", printing))
    command = [sys.executable, "-m", "naxcli", *map(str, search(tiny_space, run, "--trials", "12"))]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=ENVIRONMENT
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline().startswith("starting")
        process.stdout.close()
        assert process.wait(timeout=300) == 0
    trials = trials_of(run)
    assert len(trials) == 12 and trials["status"].eq("success").all()


def test_a_search_without_standard_streams_writes_into_no_file_of_its_run(tiny_space: Path, tmp_path: Path) -> None:
    """Closed, their numbers would be those of the next files that are opened."""
    run = tmp_path / "run"
    arguments = [sys.executable, "-m", "naxcli", *map(str, search(tiny_space, run, "--trials", "4", "--json"))]
    command = ["sh", "-c", 'exec "$@" <&- >&- 2>&-', "sh", *arguments]
    assert subprocess.run(command, env=ENVIRONMENT, timeout=300, check=False).returncode == 0
    assert len(pd.read_parquet(run / "trials.parquet")) == 4
    assert (run / "lock").read_text().startswith("process ") and (run / "lock").read_text().count("\n") == 1
