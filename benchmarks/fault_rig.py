"""What faults are injected into: a run, the search that goes on in it, a clock that can jump, and a writer killed at a system call."""

from __future__ import annotations

import contextlib
import json
import mmap
import os
import random
import re
import shutil
import signal
import sqlite3
import struct
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import psutil

SPACE = """
import time

from ConfigSpace import Categorical, ConfigurationSpace, OrdinalHyperparameter

from naxcli import Space


def configspace(seed=None):
    space = ConfigurationSpace(seed=seed)
    space.add(OrdinalHyperparameter("depth", list(range(4000))), Categorical("kind", list("abcde")), Categorical("flag", ["n", "y"]))
    return space


def evaluate(config, *, fidelity, seed):
    time.sleep(0.05 + config["depth"] % 6 * 0.05)
    return config["depth"] * 0.001 + (config["kind"] == "c") * 0.2 + (config["flag"] == "n") * 0.1


SPACE = Space(name="faults", configspace=configspace, evaluate=evaluate)
"""
BUDGET_HOURS = 12  # no jump of the clock may end it, nor a trial
# Evolution asks in no time, and has a state that must be kept.
SEARCH_OPTIONS = ("--searcher", "evolution", "--workers", "2", "--budget", f"{BUDGET_HOURS}h", "--trial-timeout", "10m")
LONGEST_TRIAL_SECONDS = 600.0
PATIENCE_SECONDS = 300.0  # on a machine that other work keeps busy

# A search takes the time of day from here: the machine's own, and the seconds in a file that it shares with the benchmark.
CLOCK = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <math.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <time.h>

static double ahead(void) {
    static volatile double *shared;
    if (!shared) {
        int file = open(getenv("FAULTS_CLOCK"), O_RDONLY | O_CLOEXEC);
        void *page = mmap(0, sizeof(double), PROT_READ, MAP_SHARED, file, 0);
        if (page == MAP_FAILED) abort();
        shared = page;
    }
    return *shared;
}

int clock_gettime(clockid_t id, struct timespec *now) {
    static int (*own)(clockid_t, struct timespec *);
    if (!own) own = dlsym(RTLD_NEXT, "clock_gettime");
    int error = own(id, now);
    if (id == CLOCK_REALTIME || id == CLOCK_REALTIME_COARSE) now->tv_sec += (time_t)floor(ahead());
    return error;
}

int gettimeofday(struct timeval *restrict now, void *restrict zone) {
    struct timespec precise;
    (void)zone;
    int error = clock_gettime(CLOCK_REALTIME, &precise);
    now->tv_sec = precise.tv_sec;
    now->tv_usec = precise.tv_nsec / 1000;
    return error;
}

time_t time(time_t *result) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    if (result) *result = now.tv_sec;
    return now.tv_sec;
}
"""

# For each line on stdin it forks a process that waits for another line, then writes; the parent says its id, and how it ended.
WRITER = """
import os, sys
from pathlib import Path
import pandas, pyarrow.parquet
from naxcli.records.database import Records
from naxcli.search_space.recorded import read_space
from naxcli.records.directory import RunDirectory

run = RunDirectory(path=Path(sys.argv[1]))
space = read_space(run.space_file)
for what in iter(sys.stdin.readline, ""):
    child = os.fork()
    if child == 0:
        sys.stdin.readline()
        with Records.open(run) as records:
            records.write_parquet(run, space) if what.strip() == "parquet" else records.back_up()
        os._exit(0)
    print(child, flush=True)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""
# Between two of these nothing on the disk changes, so that a kill at each of them leaves every state that there is.
CHANGING_CALLS = (
    "open,openat,creat,write,writev,pwrite64,pwritev,pwritev2,copy_file_range,sendfile,fallocate,truncate,ftruncate,fsync,fdatasync,"
    "rename,renameat,renameat2,link,linkat,symlink,unlink,unlinkat,mkdir,mkdirat,rmdir,chmod,fchmod,fchmodat"
)

Outcome = tuple[str, str, float | None]  # config_id, status, cost


class NotPossible(Exception):
    """This machine does not allow a fault, or lacks the program that injects it."""


class Search:
    """A `naxcli search` under way, and the program that reads what it says, which can go away as `head` does."""

    def __init__(self, arguments: Iterable[object], output: Path, environment: dict[str, str]) -> None:
        self.output = output
        command = [sys.executable, "-m", "naxcli", "search", *map(str, arguments)]
        with output.open("wb") as file:
            self.reader = subprocess.Popen(["cat"], stdin=subprocess.PIPE, stdout=file, start_new_session=True)
        assert self.reader.stdin is not None
        self.process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=self.reader.stdin,
            stderr=subprocess.STDOUT,
            env=environment,
            start_new_session=True,
        )
        self.reader.stdin.close()

    def family(self) -> list[psutil.Process]:
        """Return the process with all that it started, as far as they are there."""
        with contextlib.suppress(psutil.NoSuchProcess):
            process = psutil.Process(self.process.pid)
            return [process, *process.children(recursive=True)]
        return []

    def workers(self) -> list[psutil.Process]:
        """Return the processes in which trials run."""
        workers = []
        for process in self.family()[1:]:
            with contextlib.suppress(psutil.NoSuchProcess):
                if any("spawn_main" in word for word in process.cmdline()):
                    workers.append(process)
        return workers

    def said(self) -> str:
        """Return its output, once it has ended; its workers may hold the pipe a little longer."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.reader.wait(timeout=5)
        self.reader.kill()
        self.reader.wait()
        return self.output.read_text(errors="replace")


class Rig:
    """One run and the faults that happen to it; what was found is kept in a journal, by which a benchmark goes on.

    Args:
        folder: holds the run, its space and the journal.
        seed: of what is random in a round, together with the round's number.
    """

    def __init__(self, folder: Path, seed: int) -> None:
        self.folder = folder
        self.seed = seed
        self.space = folder / "space.py"
        self.space.write_text(SPACE)
        self.run = folder / "run"
        self.journal = folder / "rounds.jsonl"
        self.rounds: list[dict[str, Any]] = []
        if self.journal.exists():
            self.rounds = [json.loads(line) for line in self.journal.read_text().splitlines()]
        self.known: dict[int, Outcome] = {
            trial_id: (config, status, cost) for row in self.rounds for trial_id, config, status, cost in row["new"]
        }
        self.random = random.Random()
        self.fault = ""  # the kind under way
        self.search: Search | None = None  # the one that goes on from round to round
        self._under_way: list[Search] = []
        self._leaving: list[psutil.Process] = []
        self._num_started = 0
        self._environment = {**os.environ, "OMP_NUM_THREADS": "1", "NO_COLOR": "1"}
        self._clock = self._make_clock()
        self._begin_round()

    # -- rounds -------------------------------------------------------------------------------------------------------------

    def _begin_round(self) -> None:
        self.random.seed(f"{self.seed}-{len(self.rounds)}")
        self.problems: list[str] = []
        self.num_lost = 0
        self.num_injected = 1
        self.num_trials_elsewhere = 0
        self._round_started = time.monotonic()

    def end_round(self, *, not_possible: str | None = None) -> None:
        """Check what is there, and add the round to the journal."""
        new = {} if not_possible else self.check()
        row = {
            "fault": self.fault,
            "not_possible": not_possible,
            "seconds": round(time.monotonic() - self._round_started, 1),
            "injected": self.num_injected,
            "lost": self.num_lost,
            "problems": self.problems,
            "trials_elsewhere": self.num_trials_elsewhere,
            "new": [[trial_id, *outcome] for trial_id, outcome in new.items()],
        }
        self.rounds.append(row)
        with self.journal.open("a") as file:
            file.write(json.dumps(row) + "\n")
        self._begin_round()

    def problem(self, text: str) -> None:
        self.problems.append(text)

    def check(self) -> dict[int, Outcome]:
        """Compare the records with all that was ever seen in them, and return the trials that are new."""
        found = self.finished()
        self._note_lost(self.known, found)
        new = {trial_id: outcome for trial_id, outcome in found.items() if trial_id not in self.known}
        rows = self._query("SELECT trial_id, config_id, config, seconds, status, cost FROM trials")
        if twice := [config for config, number in Counter(row[1] for row in rows).items() if number > 1]:
            self.problem(f"{len(twice)} configurations were asked for twice")
        for trial_id, _, config, seconds, status, cost in rows:
            if trial_id not in new:
                continue
            if status == "success" and abs(cost - cost_of(json.loads(config))) > 1e-9:
                self.problem(f"trial {trial_id} has the cost of another configuration")
            if not 0 <= seconds < LONGEST_TRIAL_SECONDS:
                self.problem(f"trial {trial_id} lasted {seconds} s")
        self._check_table(found)
        self.known |= new
        return new

    def _note_lost(self, known: dict[int, Outcome], found: dict[int, Outcome]) -> None:
        lost = [trial_id for trial_id, outcome in known.items() if found.get(trial_id) != outcome]
        self.num_lost += len(lost)
        if lost:
            self.problem(f"{len(lost)} finished trials were lost or changed, such as {lost[:3]}")

    def _check_table(self, found: dict[int, Outcome], *, is_complete: bool = False) -> None:
        table = self.run / "trials.parquet"
        if not table.exists():
            if is_complete:
                self.problem("there is no trials.parquet")
            return
        try:
            trial_ids = pd.read_parquet(table)["trial_id"]
        except (OSError, ValueError) as error:  # pyarrow's errors are of these kinds
            self.problem(f"trials.parquet cannot be read: {error}")
            return
        if not trial_ids.is_unique:
            self.problem("trials.parquet has a trial twice")
        if not set(trial_ids) <= found.keys() or (is_complete and set(trial_ids) != found.keys()):
            self.problem("trials.parquet has other trials than search.db")

    # -- the records --------------------------------------------------------------------------------------------------------

    def _query(self, statement: str, *, run: Path | None = None) -> list[tuple[Any, ...]]:
        database = (run or self.run) / "search.db"
        if not database.exists():
            return []
        try:
            with contextlib.closing(sqlite3.connect(database, timeout=60)) as connection:
                return connection.execute(statement).fetchall()
        except sqlite3.DatabaseError:
            return []

    def num_finished(self) -> int:
        rows = self._query("SELECT COUNT(*) FROM trials WHERE finished_event IS NOT NULL")
        return int(rows[0][0]) if rows else 0

    def finished(self, run: Path | None = None) -> dict[int, Outcome]:
        rows = self._query(
            "SELECT trial_id, config_id, status, cost FROM trials WHERE finished_event IS NOT NULL", run=run
        )
        return {trial_id: (config, status, cost) for trial_id, config, status, cost in rows}

    def active_seconds(self) -> float:
        rows = self._query("SELECT COALESCE(SUM(active_seconds), 0) FROM activity")
        return float(rows[0][0]) if rows else 0.0

    # -- searches -----------------------------------------------------------------------------------------------------------

    def start(self, num_trials: int, *more: str, run: Path | None = None) -> Search:
        """Start a search that nothing else here looks after."""
        self._num_started += 1
        arguments = [
            "--space",
            self.space,
            "--run",
            run or self.run,
            "--trials",
            num_trials,
            *SEARCH_OPTIONS,
            *(more or ("--cluster", "local")),  # a recorded cluster has to be named again, or left
        ]
        search = Search(arguments, self.folder / f"output-{self._num_started}.txt", self._environment)
        self._under_way.append(search)
        return search

    def running(self) -> Search:
        """Return the search that goes on in the run, started where there is none."""
        if self.search is None:
            self.search = self.start(1_000_000)
            self.wait_for_more()
        return self.search

    def end(self, search: Search) -> tuple[int, str]:
        """Wait for the end of a search and return its exit code and what it said."""
        if search is self.search:
            self.search = None
        try:
            search.process.wait(timeout=PATIENCE_SECONDS)
        except subprocess.TimeoutExpired:
            self.problem("the search did not end")
            kill(search.family())
            search.process.wait()
        self._under_way.remove(search)
        said = search.said()
        search.output.unlink()
        if "Traceback" in said:
            self.problem(f"traceback: …{said[-600:]}")
        return search.process.returncode, said

    def stop(self) -> None:
        """End the search that goes on, if one does, politely."""
        if self.search is not None:
            self.interrupt(self.search, signal.SIGTERM)

    def interrupt(self, search: Search, number: signal.Signals, *, with_workers: bool = False) -> None:
        """Ask a search to end by a signal, and check that it said so and that its table is complete.

        Args:
            with_workers: whether its workers get the signal too, as those of a terminal do.
        """
        family = search.family()
        self.leaving(family)
        for process in family if with_workers else family[:1]:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.send_signal(number)
        code, said = self.end(search)
        if code != 4:
            self.problem(f"exit code {code} after {number.name}: …{said[-300:]}")
        self._check_table(self.finished(), is_complete=True)

    def wait_for_more(self, number: int = 1) -> None:
        """Wait until the search has recorded so many further trials, then a random moment longer."""
        assert self.search is not None
        before, deadline = self.num_finished(), time.monotonic() + PATIENCE_SECONDS
        while self.num_finished() < before + number:
            if self.search.process.poll() is not None:
                code, said = self.end(self.search)
                self.problem(f"the search ended by itself with exit code {code}: …{said[-300:]}")
                raise RoundOver
            if time.monotonic() > deadline:
                self.problem(f"the search did not go on for {PATIENCE_SECONDS:.0f} s")
                kill(self.search.family())
                self.end(self.search)
                raise RoundOver
            time.sleep(0.1)
        time.sleep(self.random.uniform(0, 0.4))

    def leaving(self, processes: list[psutil.Process]) -> None:
        """Note processes that have to end by themselves."""
        self._leaving = [process for process in self._leaving if is_alive(process)] + processes

    def left_behind(self) -> list[str]:
        """Return the processes that should have ended, and did not within a while."""
        psutil.wait_procs(self._leaving, timeout=60)
        return [" ".join(process.cmdline())[:120] for process in self._leaving if is_alive(process)]

    def __enter__(self) -> Rig:
        return self

    def __exit__(self, *_: object) -> None:
        for search in self._under_way:
            kill(search.family())

    # -- the clock ----------------------------------------------------------------------------------------------------------

    def _make_clock(self) -> mmap.mmap | None:
        """Give the searches a clock that can be set, where there is a compiler."""
        if not sys.platform.startswith("linux") or shutil.which("cc") is None:
            return None
        source, library, state = (self.folder / name for name in ("clock.c", "clock.so", "clock.state"))
        source.write_text(CLOCK)
        subprocess.run(["cc", "-shared", "-fPIC", "-O2", "-o", library, source, "-ldl", "-lm"], check=True)
        state.write_bytes(struct.pack("d", 0.0))
        self._environment |= {"LD_PRELOAD": str(library.resolve()), "FAULTS_CLOCK": str(state.resolve())}
        with state.open("r+b") as file:
            return mmap.mmap(file.fileno(), 8)

    def set_clock(self, seconds_ahead: float) -> None:
        """Let the time of day of all searches jump to so many seconds before or after the machine's."""
        if self._clock is None:
            raise NotPossible("no C compiler for a clock that can be set")
        self._clock[:8] = struct.pack("d", seconds_ahead)

    # -- interrupted writes -------------------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def copy_of_run(self) -> Iterator[Path]:
        """Yield the run itself where no search goes on in it, else a copy of its records."""
        if self.search is None:
            yield self.run
            return
        copy = self.folder / "copy"
        shutil.rmtree(copy, ignore_errors=True)
        copy.mkdir()
        with (
            contextlib.closing(sqlite3.connect(self.run / "search.db", timeout=60)) as source,
            contextlib.closing(sqlite3.connect(copy / "search.db")) as target,
        ):
            source.backup(target)
        for name in ("space.json", "search.db.backup", "trials.parquet", "curves.parquet"):
            shutil.copy(self.run / name, copy / name)
        yield copy
        shutil.rmtree(copy)


class RoundOver(Exception):
    """A fault had a result that leaves nothing more to try; it is among the problems."""


class InterruptedWriter:
    """A process that writes a file of a run, killed at one of its system calls. Use as a context manager.

    Args:
        run: the folder.
        what: `parquet` or `backup`.
    """

    def __init__(self, run: Path, what: str) -> None:
        if shutil.which("strace") is None:
            raise NotPossible("no strace")
        self._what = what
        self._log = run.parent / "strace.log"
        self._server = subprocess.Popen(
            [sys.executable, "-c", WRITER, run], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def __enter__(self) -> InterruptedWriter:
        return self

    def __exit__(self, *_: object) -> None:
        self._server.kill()
        self._server.communicate()
        self._log.unlink(missing_ok=True)

    def calls(self) -> list[tuple[str, int]]:
        """Let it write undisturbed and return the system calls by which it changes the disk: name, and how many of the name before."""
        if self._write() != 0:
            raise NotPossible("strace must not attach here")
        counts: dict[str, Counter[str]] = {}
        for process, name in re.findall(r"^(\d+) +(\w+)\(", self._log.read_text(), re.MULTILINE):
            counts.setdefault(process, Counter())[name] += 1
        largest: Counter[str] = Counter()
        for counter in counts.values():  # strace counts for each thread by itself
            largest |= counter
        return [(name, index) for name, number in largest.items() for index in range(number)]

    def kill_at(self, call: tuple[str, int]) -> bool:
        """Let it write and kill it as it enters a call; return whether it got there."""
        name, index = call
        return self._write("-e", f"inject={name}:signal=KILL:when={index + 1}") == -signal.SIGKILL

    def _write(self, *options: str) -> int:
        assert self._server.stdin is not None and self._server.stdout is not None
        self._say(self._what)
        child = self._server.stdout.readline().strip()
        command = ["strace", "-f", "-o", self._log, "-e", f"trace={CHANGING_CALLS}", *options, "-p", child]
        with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as strace:
            assert strace.stderr is not None
            strace.stderr.readline()  # "Process … attached", or why not
            self._say("go")
            code = int(self._server.stdout.readline())
            strace.communicate()
        return code if strace.returncode in (0, -signal.SIGKILL) else 1

    def _say(self, line: str) -> None:
        assert self._server.stdin is not None
        self._server.stdin.write(line + "\n")
        self._server.stdin.flush()


def cost_of(config: dict[str, Any]) -> float:
    """Return what the space's `evaluate` returns."""
    return float(config["depth"] * 0.001 + (config["kind"] == "c") * 0.2 + (config["flag"] == "n") * 0.1)


def kill(processes: list[psutil.Process]) -> None:
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()


def is_alive(process: psutil.Process) -> bool:
    with contextlib.suppress(psutil.NoSuchProcess):
        return bool(process.is_running() and process.status() != psutil.STATUS_ZOMBIE)
    return False
