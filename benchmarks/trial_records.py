"""What one more trial costs the search process, and whether that grows with the run: cheap trials through the real search.

    python -m benchmarks.trial_records [--trials 100000] [--searcher random] [--workers 2]

A search over an endless space whose objective is a sum, so that all there is to time is the search itself: to ask, record, hand
over, take back, record and tell. Trials a second are those of the search process's CPU, all of its threads included (Dask's
scheduler lives there), which other processes of the machine do not slow down much; those of the clock stand beside them. Bytes are
those of all files of the run, backup and log included.
"""

from __future__ import annotations

import argparse
import os
import platform
import resource
import tempfile
import time
from pathlib import Path

from rich.console import Console

from benchmarks.results import add_json_option, keep
from naxcli.cli.progress import SearchProgress
from naxcli.commands.search import run_session
from naxcli.commands.session import SearchRequest, open_session
from naxcli.records.incumbent import Incumbent
from naxcli.records.trial import Result, Trial

SPACE = """
from ConfigSpace import ConfigurationSpace, Float, Integer
from naxcli import Space

def configspace(seed=None):
    space = ConfigurationSpace(seed=seed)
    space.add(Float("x", (0.0, 1.0)), Float("y", (0.0, 1.0)), Integer("depth", (1, 100)))
    return space

def evaluate(config, *, fidelity, seed):
    return (config["x"] - 0.3) ** 2 + (config["y"] - 0.7) ** 2 + 0.001 * config["depth"]

SPACE = Space(name="cheap", configspace=configspace, evaluate=evaluate)
"""


class Timer(SearchProgress):
    """Says nothing, and notes the clock and the CPU time now and then."""

    every = 1000
    marks: list[tuple[int, float, float]]

    def finished(self, trial: Trial, result: Result, incumbent: Incumbent | None) -> None:
        number = self._num_finished()
        if number % self.every == 0:
            self.marks.append((number, time.perf_counter(), time.process_time()))
            if len(self.marks) > 1:
                print(describe(self.marks[-2:]), flush=True)


def describe(marks: list[tuple[int, float, float]]) -> str:
    """Return the rates between the first and the last of some marks."""
    (first, clock, cpu), (last, clock_then, cpu_then) = marks[0], marks[-1]
    by_cpu, by_clock = (last - first) / (cpu_then - cpu), (last - first) / (clock_then - clock)
    return f"trials {first:>7,} to {last:>7,}: {by_cpu:5.0f} a second of CPU, {by_clock:5.0f} of the clock"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=100_000)
    parser.add_argument("--searcher", default="random")
    parser.add_argument("--workers", type=int, default=2)
    add_json_option(parser)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        space, run = Path(folder) / "cheap.py", Path(folder) / "run"
        space.write_text(SPACE)
        flags = {"trials": arguments.trials, "searcher": arguments.searcher, "workers": arguments.workers}
        session = open_session(SearchRequest(space=str(space), flags=flags, run=str(run)))
        timer = Timer(session, Console(stderr=True), is_quiet=True)
        timer.every, timer.marks = max(1, arguments.trials // 20), []
        run_session(session, timer)
        num_bytes = sum(path.stat().st_size for path in run.rglob("*") if path.is_file())
    machine = f"{platform.processor() or platform.machine()}, {len(os.sched_getaffinity(0))} cores"
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"first: {describe(timer.marks[:2])}")
    print(f"last:  {describe(timer.marks[-2:])}")
    print(f"{num_bytes / arguments.trials:.0f} bytes a trial on disk; {memory:.0f} MB of memory at the most")
    print(f"n = {arguments.trials:,} trials, {arguments.workers} workers, {machine}")
    keep(arguments, marks=timer.marks, bytes_per_trial=num_bytes / arguments.trials, memory_mb=memory, machine=machine)


if __name__ == "__main__":
    main()
