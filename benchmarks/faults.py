"""Faults survived: kills a search in many ways at random moments, resumes it, and counts what was lost.

    python -m benchmarks.faults --rounds 100

Every round injects one fault into the same run and checks that no finished trial is lost, changed or doubled and that
trials.parquet can be read; at the end the run is continued to a finish. Prints the table of docs/faults.md.
"""

from __future__ import annotations

import argparse
import os
import random
import re
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pandas as pd

SPACE = """
import time

from ConfigSpace import Categorical, ConfigurationSpace, OrdinalHyperparameter

from naxcli import Space


def configspace(seed=None):
    space = ConfigurationSpace(seed=seed)
    space.add(OrdinalHyperparameter("depth", list(range(400))), Categorical("kind", list("abcde")), Categorical("flag", ["n", "y"]))
    return space


def evaluate(config, *, fidelity, seed):
    time.sleep(0.15)
    return config["depth"] * 0.001 + (config["kind"] == "c") * 0.2 + (config["flag"] == "n") * 0.1


SPACE = Space(name="faults", configspace=configspace, evaluate=evaluate)
"""
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "NO_COLOR": "1"}


class Rig:
    """One run and the faults that happen to it."""

    def __init__(self, folder: Path, seed: int) -> None:
        self.space = folder / "space.py"
        self.space.write_text(SPACE)
        self.run = folder / "run"
        self.random = random.Random(seed)
        self.known: dict[int, tuple[str, float]] = {}
        self.fault = ""  # the one under way
        self.problems: list[tuple[str, str]] = []  # (fault, what went wrong)

    def problem(self, text: str) -> None:
        self.problems.append((self.fault, text))

    def start(self, num_trials: int, *more: str) -> subprocess.Popen[str]:
        arguments = [
            "search",
            "--space",
            self.space,
            "--run",
            self.run,
            "--workers",
            "2",
            "--trials",
            num_trials,
            *(more or ("--cluster", "local")),  # a recorded cluster has to be named again, or left
        ]
        command = [sys.executable, "-m", "naxcli", *map(str, arguments)]
        return subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=ENVIRONMENT, start_new_session=True)

    def num_finished(self) -> int:
        return len(self.finished()) if (self.run / "search.db").exists() else 0

    def finished(self) -> dict[int, tuple[str, float]]:
        try:
            with sqlite3.connect(self.run / "search.db", timeout=20) as connection:
                rows = connection.execute(
                    "SELECT trial_id, config_id, cost FROM trials WHERE finished_event IS NOT NULL"
                ).fetchall()
        except sqlite3.DatabaseError:
            return {}
        return {trial_id: (config, cost) for trial_id, config, cost in rows}

    def wait_for_more(self, process: subprocess.Popen[str]) -> None:
        """Wait until the search has recorded something new, then a random moment longer."""
        before, deadline = self.num_finished(), time.monotonic() + 120
        while self.num_finished() <= before and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.05)
        time.sleep(self.random.uniform(0, 0.6))

    def check(self) -> None:
        found = self.finished()
        if not self.known.items() <= found.items():
            self.problem("a finished trial was lost or changed")
        if len({config for config, _ in found.values()}) != len(found):
            self.problem("a configuration was trained twice")
        table = self.run / "trials.parquet"
        if table.exists() and not pd.read_parquet(table)["trial_id"].is_unique:
            self.problem("trials.parquet has a trial twice")
        self.known = found

    def children(self, process: subprocess.Popen[str]) -> list[int]:
        listed = subprocess.run(["pgrep", "-g", str(process.pid)], capture_output=True, text=True, check=False).stdout
        return [int(pid) for pid in listed.split() if int(pid) != process.pid]


def kill_search(rig: Rig) -> None:
    process = rig.start(10_000)
    rig.wait_for_more(process)
    process.kill()
    process.communicate()


def terminate_search(rig: Rig) -> None:
    process = rig.start(10_000)
    rig.wait_for_more(process)
    process.terminate()
    process.communicate()
    if process.returncode != 4:
        rig.problem(f"exit code {process.returncode}")


def kill_worker(rig: Rig) -> None:
    process = rig.start(10_000)
    rig.wait_for_more(process)
    # The search's own processes are its workers and Python's resource tracker, which holds nothing of ours.
    for pid in rig.random.sample(rig.children(process), k=1):
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            continue
    rig.wait_for_more(process)
    process.terminate()
    process.communicate()


def kill_everything(rig: Rig) -> None:
    process = rig.start(10_000)
    rig.wait_for_more(process)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()


def kill_scheduler(rig: Rig) -> None:
    """Run on a scheduler of its own and kill that; the search must say so and end, and go on with workers of its own."""
    dask = [sys.executable, "-m"]
    options = ["--no-dashboard", "--host", "127.0.0.1", "--port", "0"]
    scheduler = subprocess.Popen(
        [*dask, "distributed.cli.dask_scheduler", *options], stderr=subprocess.PIPE, text=True, env=ENVIRONMENT
    )
    assert scheduler.stderr is not None
    address = next(found.group() for line in scheduler.stderr if (found := re.search(r"tcp://127.0.0.1:\d+", line)))
    worker = subprocess.Popen(
        [*dask, "distributed.cli.dask_worker", address, "--nthreads", "1", "--no-dashboard"],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=ENVIRONMENT,
    )  # fmt: skip
    try:
        process = rig.start(10_000, "--cluster", address)
        rig.wait_for_more(process)
        scheduler.kill()
        try:
            errors = process.communicate(timeout=120)[1]
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            errors = process.communicate()[1]
            rig.problem("the search did not notice that its scheduler was gone")
        if process.returncode != 4 or "scheduler" not in errors or "Traceback" in errors:
            rig.problem(f"exit code {process.returncode}, {errors[-300:]}")
    finally:
        for child in (worker, scheduler):
            child.kill()
            child.wait()
        scheduler.stderr.close()


def truncate_table(rig: Rig) -> None:
    table = rig.run / "trials.parquet"
    if table.exists():
        content = table.read_bytes()
        table.write_bytes(content[: rig.random.randrange(len(content))])
    process = rig.start(rig.num_finished() + 2)
    process.communicate()


def damage_database(rig: Rig) -> None:
    """Overwrite the header: the search must refuse with the backup in its hint, which then loses at most the trials since."""
    database = rig.run / "search.db"
    good = database.read_bytes()
    database.write_bytes(b"\0" * 512 + good[512:])
    process = rig.start(10_000)
    errors = process.communicate()[1]
    if process.returncode != 1 or "search.db.backup" not in errors:
        rig.problem(f"exit code {process.returncode}, {errors[-200:]}")
    database.write_bytes(good)


def fill_disk(rig: Rig) -> None:
    """Continue the run on a file system that is nearly full (needs the right to mount)."""
    mount = Path(tempfile.mkdtemp())
    size_kib = sum(path.stat().st_size for path in rig.run.rglob("*") if path.is_file()) // 1024 + 140
    if subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={size_kib}k", "tmpfs", mount], capture_output=True, check=False
    ).returncode:
        raise PermissionError("mounting a small file system is not allowed here")
    try:
        shutil.copytree(rig.run, mount / "run")
        original, rig.run = rig.run, mount / "run"
        process = rig.start(10_000)
        errors = process.communicate()[1]
        if process.returncode != 1 or "disk is full" not in errors or "Traceback" in errors:
            rig.problem(f"exit code {process.returncode}, {errors[-300:]}")
        rig.check()
        shutil.rmtree(original)
        shutil.copytree(rig.run, original)
        rig.run = original
    finally:
        subprocess.run(["umount", mount], check=False)


def jump_clock(rig: Rig) -> None:
    """Make the recorded wall-clock times lie a year ahead, as a wrongly set clock would, and go on."""
    if (rig.run / "search.db").exists():
        with sqlite3.connect(rig.run / "search.db") as connection:
            connection.execute("UPDATE activity SET started_at = started_at + 31536000")
    process = rig.start(rig.num_finished() + 2)
    process.communicate()
    if process.returncode != 0:
        rig.problem(f"exit code {process.returncode}")


def edit_space(rig: Rig) -> None:
    rig.space.write_text(SPACE.replace("0.2", "0.3"))
    process = rig.start(10_000)
    errors = process.communicate()[1]
    if process.returncode != 2 or "edited" not in errors:
        rig.problem(f"exit code {process.returncode}")
    rig.space.write_text(SPACE)


FAULTS: dict[str, Callable[[Rig], None]] = {
    "SIGKILL of the search": kill_search,
    "SIGKILL of a worker": kill_worker,
    "SIGKILL of search, workers and scheduler together": kill_everything,
    "SIGKILL of a scheduler elsewhere (--cluster)": kill_scheduler,
    "SIGTERM": terminate_search,
    "trials.parquet truncated": truncate_table,
    "search.db damaged": damage_database,
    "disk full": fill_disk,
    "clock jump": jump_clock,
    "space file edited": edit_space,
}
# The kills differ from round to round by their moment; the others do the same each time.
WEIGHTS = (30, 20, 20, 10, 10, 4, 4, 4, 4, 4)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    done: Counter[str] = Counter()
    skipped: set[str] = set()
    with tempfile.TemporaryDirectory() as folder:
        rig = Rig(Path(folder), arguments.seed)
        rig.fault = next(iter(FAULTS))
        kill_search(rig)
        names = list(FAULTS) + rig.random.choices(list(FAULTS), WEIGHTS, k=max(0, arguments.rounds - len(FAULTS)))
        for name in names[: arguments.rounds]:
            rig.fault = name
            try:
                FAULTS[name](rig)
            except PermissionError:
                skipped.add(name)
                continue
            rig.check()
            done[name] += 1
            print(f"{done.total():>4} {name}: {len(rig.known)} trials", file=sys.stderr, flush=True)
        rig.fault = "the end"
        process = rig.start(len(rig.known) + 10)
        process.communicate()
        rig.check()
        if process.returncode != 0 or len(pd.read_parquet(rig.run / "trials.parquet")) != len(rig.known):
            rig.problem("the run could not be finished")
        print(f"{len(rig.known)} trials finished over {done.total()} faults, problems: {len(rig.problems)}\n")
        print("| fault | rounds | problems |\n|---|---|---|")
        for name in FAULTS:
            num_problems = sum(fault == name for fault, _ in rig.problems)
            print(f"| {name} | {done[name] if name not in skipped else 'not possible here'} | {num_problems} |")
    if rig.problems:
        print("\n".join(f"{fault}: {text}" for fault, text in rig.problems), file=sys.stderr)
        raise SystemExit(1)


if __name__ == "__main__":
    main()
