"""Faults survived: injects faults of many kinds into one run at random moments, goes on after each, and counts what was lost.

    python -m benchmarks.faults --rounds 300 --into FOLDER

A round is one kind of fault, all kinds in turn in a random order. After each, every trial that was ever seen finished must still be
there, unchanged and once, with the cost of its own configuration, and trials.parquet must be readable; at the end the run is
continued to a finish. Prints the table of docs/faults.md. With --into, the same command goes on where an interrupted one ended.
"""

from __future__ import annotations

import argparse
import contextlib
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
from collections.abc import Callable
from pathlib import Path

import psutil
import pyarrow.parquet as pq

from benchmarks.fault_rig import (
    BUDGET_HOURS,
    SPACE,
    InterruptedWriter,
    NotPossible,
    Rig,
    RoundOver,
    kill,
)

MAX_KILLS = 60  # of a writer in one round; the next round goes on behind them
HOUR = 3600.0


# -- processes that end -----------------------------------------------------------------------------------------------------


def kill_search(rig: Rig) -> None:
    search = rig.running()
    rig.wait_for_more()
    rig.leaving(search.family()[1:])
    search.process.kill()
    rig.end(search)


def kill_worker(rig: Rig) -> None:
    search = rig.running()
    rig.wait_for_more()
    kill(rig.random.sample(search.workers(), k=1))
    rig.wait_for_more(3)


def kill_everything(rig: Rig) -> None:
    search = rig.running()
    rig.wait_for_more()
    kill(search.family())
    rig.end(search)


def kill_scheduler(rig: Rig) -> None:
    """Run on a scheduler of its own and kill that; the search must say so and end, and go on with workers of its own."""
    rig.stop()
    dask = [sys.executable, "-m"]
    options = ["--no-dashboard", "--host", "127.0.0.1", "--port", "0"]
    scheduler = subprocess.Popen(
        [*dask, "distributed.cli.dask_scheduler", *options], stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    assert scheduler.stderr is not None
    address = next(found.group() for line in scheduler.stderr if (found := re.search(r"tcp://127.0.0.1:\d+", line)))
    worker = subprocess.Popen(
        [*dask, "distributed.cli.dask_worker", address, "--nthreads", "1", "--no-dashboard", "--no-nanny"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        rig.search = search = rig.start(1_000_000, "--cluster", address)
        rig.wait_for_more()
        scheduler.kill()
        code, said = rig.end(search)
        if code != 4 or "scheduler" not in said:
            rig.problem(f"exit code {code}: …{said[-300:]}")
    finally:
        for child in (worker, scheduler):
            child.kill()
            child.wait()
        scheduler.stderr.close()


def terminate(rig: Rig) -> None:
    search = rig.running()
    rig.wait_for_more()
    rig.interrupt(search, signal.SIGTERM, with_workers=rig.random.random() < 0.5)


def hang_up(rig: Rig) -> None:
    """Close the terminal: the search gets SIGHUP, alone or with all that runs in its session."""
    search = rig.running()
    rig.wait_for_more()
    rig.interrupt(search, signal.SIGHUP, with_workers=rig.random.random() < 0.5)


def close_stdout(rig: Rig) -> None:
    """Let the reader of the search's output go away, as in `naxcli search … 2>&1 | head`; the search goes on."""
    search = rig.running()
    rig.wait_for_more()
    search.reader.kill()
    rig.wait_for_more(4)
    rig.interrupt(search, signal.SIGTERM)


def stall_worker(rig: Rig) -> None:
    """Stop a worker; the search goes on with the other one, and takes it back, does without it, or ends beside it."""
    search = rig.running()
    rig.wait_for_more()
    worker = rig.random.choice(search.workers())
    worker.suspend()
    try:
        rig.wait_for_more(3)
        match rig.random.choice(("goes on", "dies", "search ends", "search dies")):
            case "goes on":
                worker.resume()
                rig.wait_for_more(3)
            case "dies":
                worker.kill()
                rig.wait_for_more(3)
            case "search ends":
                rig.interrupt(search, signal.SIGTERM)
            case "search dies":
                rig.leaving(search.family()[1:])
                search.process.kill()
                rig.end(search)
    finally:
        with contextlib.suppress(psutil.NoSuchProcess):
            worker.resume()


# -- starts that must not be ------------------------------------------------------------------------------------------------


def start_twice(rig: Rig) -> None:
    """Start two searches at once in a new folder, or a second one beside the one that goes on."""
    if rig.random.random() < 0.5:
        search = rig.running()
        code, said = rig.end(rig.start(1_000_000))
        if code != 1 or "another process" not in said:
            rig.problem(f"the second search: exit code {code}: …{said[-300:]}")
        if search is rig.search:
            rig.wait_for_more()
        return
    run = rig.folder / "twice"
    shutil.rmtree(run, ignore_errors=True)
    first, second = rig.start(3, run=run), rig.start(3, run=run)
    # One is held up at a random moment of its start, and goes on when the other has done all.
    deadline = time.monotonic() + 60
    while not run.exists() and time.monotonic() < deadline and rig.random.random() > 0.001:
        time.sleep(0.02)
    late = psutil.Process(second.process.pid)
    late.suspend()
    first_code, first_said = rig.end(first)
    between = rig.finished(run)
    late.resume()
    second_code, second_said = rig.end(second)
    after = rig.finished(run)
    rig.num_trials_elsewhere += len(after)
    for code, said in ((first_code, first_said), (second_code, second_said)):
        if code != 0 and not (code == 1 and "another process" in said):
            rig.problem(f"two at once: exit code {code}: …{said[-300:]}")
    lost = [trial_id for trial_id, outcome in between.items() if after.get(trial_id) != outcome]
    rig.num_lost += len(lost)
    if lost or len(after) != 3 or 0 not in (first_code, second_code):
        rig.problem(f"two at once: {len(between)} trials, then {len(after)}, exit codes {first_code} and {second_code}")
    shutil.rmtree(run, ignore_errors=True)


USER_FILES = (
    "checkpoints/best.pt",
    "log.jsonl",
    ".draft.tmp",
    "experiment.toml",
    "trials.parquet",
    "lock",
    "search.db",
)


def search_in_ordinary_folder(rig: Rig) -> None:
    """Point a search at a folder of the user's own files, some by the names of a run's: it is refused, and nothing is touched."""
    folder = rig.folder / "ordinary"
    shutil.rmtree(folder, ignore_errors=True)
    # A temporary name alone is nobody's run; there, and beside the user's notes, a run may be made.
    chosen = {*rig.random.sample(USER_FILES, k=rig.random.randint(1, 3)), rig.random.choice(USER_FILES[:2])}
    for name in ("notes.txt", *chosen):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(rig.random.randbytes(rig.random.randint(0, 2000)))
    before = contents(folder)
    overwrite = ("--cluster", "local", "--overwrite") if rig.random.random() < 0.5 else ()
    code, said = rig.end(rig.start(1, *overwrite, run=folder))
    if code != 2 or "no run of naxcli" not in said:
        rig.problem(f"{sorted(chosen)}: exit code {code}: …{said[-300:]}")
    if contents(folder) != before:
        rig.num_lost += sum(contents(folder).get(name) != value for name, value in before.items())
        rig.problem(f"{sorted(chosen)}: touched")
    shutil.rmtree(folder)


def contents(folder: Path) -> dict[str, tuple[bytes, int]]:
    """Return the files of a folder by name: what they hold, and when they were written."""
    return {
        str(path.relative_to(folder)): (path.read_bytes(), path.stat().st_mtime_ns)
        for path in folder.rglob("*")
        if path.is_file()
    }


def edit_space(rig: Rig) -> None:
    rig.stop()
    rig.space.write_text(SPACE.replace("0.2", "0.3"))
    code, said = rig.end(rig.start(1_000_000))
    if code != 2 or "edited" not in said:
        rig.problem(f"exit code {code}: …{said[-300:]}")
    rig.space.write_text(SPACE)


# -- damaged files ----------------------------------------------------------------------------------------------------------


def truncate_table(rig: Rig) -> None:
    """Cut trials.parquet short between two sessions: the next one writes it anew."""
    rig.stop()
    table = rig.run / "trials.parquet"
    content = table.read_bytes()
    table.write_bytes(content[: rig.random.randrange(len(content))])
    rig.running()


def damage_database(rig: Rig) -> None:
    """Overwrite the header: the search must refuse with the backup in its hint, which then loses at most the trials since."""
    rig.stop()
    database = rig.run / "search.db"
    good = database.read_bytes()
    database.write_bytes(b"\0" * 512 + good[512:])
    code, said = rig.end(rig.start(1_000_000))
    if code != 1 or "search.db.backup" not in said:
        rig.problem(f"exit code {code}: …{said[-300:]}")
    database.write_bytes(good)


def interrupt_parquet(rig: Rig) -> None:
    """Kill the writer of the tables as it enters a system call that changes the disk: each is the old one or the new one, whole."""
    with rig.copy_of_run() as run, InterruptedWriter(run, "parquet") as writer:
        calls = writer.calls()
        tables = [run / "trials.parquet", run / "curves.parquet"]
        new = [pq.read_table(path) for path in tables]
        old = [table.slice(0, max(0, table.num_rows - 1)) for table in new]
        for call in next_calls(rig, calls):
            for path, table in zip(tables, old, strict=True):
                pq.write_table(table, path)
            if not writer.kill_at(call):
                rig.problem(f"the writer was not killed at {call}")
            for path, *whole in zip(tables, old, new, strict=True):
                with contextlib.suppress(OSError, ValueError):
                    if pq.read_table(path) in whole:
                        continue
                rig.problem(f"{path.name} is neither the old nor the new one after a kill at {call}")
                rig.num_lost += 1


def interrupt_backup(rig: Rig) -> None:
    """The same for search.db.backup, which is a database of its own; search.db does not change."""
    with rig.copy_of_run() as run, InterruptedWriter(run, "backup") as writer:
        backup = run / "search.db.backup"
        old_bytes = backup.read_bytes()
        calls = writer.calls()
        new = rows_of(run / "search.db")
        if rows_of(backup) != new:
            rig.problem("the backup is not a copy")
        backup.write_bytes(old_bytes)
        old = rows_of(backup)
        for call in next_calls(rig, calls):
            backup.write_bytes(old_bytes)
            if not writer.kill_at(call):
                rig.problem(f"the writer was not killed at {call}")
            if rows_of(backup) not in (old, new) or rows_of(run / "search.db") != new:
                rig.problem(f"the backup is neither the old nor the new one after a kill at {call}")
                rig.num_lost += 1


def next_calls(rig: Rig, calls: list[tuple[str, int]]) -> list[tuple[str, int]]:
    """Return the calls to be killed at in this round, so that the rounds of a kind go through all of them in turn."""
    first = sum(row["injected"] for row in rig.rounds if row["fault"] == rig.fault) % len(calls)
    chosen = (calls[first:] + calls[:first])[:MAX_KILLS]
    rig.num_injected = len(chosen)
    return chosen


def rows_of(database: Path) -> list[tuple[object, ...]] | str:
    """Return the trials of a database that is whole, or what is wrong with it."""
    try:
        with contextlib.closing(sqlite3.connect(database, timeout=60)) as connection:
            verdict = str(connection.execute("PRAGMA integrity_check").fetchone()[0])
            return connection.execute("SELECT * FROM trials").fetchall() if verdict == "ok" else verdict
    except sqlite3.DatabaseError as error:
        return str(error)


def fill_disk(rig: Rig) -> None:
    """Continue the run on a file system that is nearly full (needs the right to mount)."""
    rig.stop()
    mount = Path(tempfile.mkdtemp())
    used_kib = sum(path.stat().st_size // 4096 * 4 + 4 for path in rig.run.rglob("*") if path.is_file())
    # It is full at once, or after the copies that a search makes as it starts.
    copies_kib = rig.random.choice((0, 1)) * (rig.run / "search.db").stat().st_size // 1024
    size = f"size={used_kib + copies_kib + rig.random.randint(4, 24)}k"
    if subprocess.run(
        ["mount", "-t", "tmpfs", "-o", size, "tmpfs", mount], capture_output=True, check=False
    ).returncode:
        raise NotPossible("no right to mount a small file system")
    original, rig.run = rig.run, mount / "run"
    try:
        shutil.copytree(original, rig.run)
        code, said = rig.end(rig.start(1_000_000))
        if code != 1 or "disk is full" not in said:
            rig.problem(f"exit code {code}: …{said[-300:]}")
        shutil.rmtree(original)
        shutil.copytree(rig.run, original)
    finally:
        rig.run = original
        subprocess.run(["umount", "--lazy", mount], check=False)
        mount.rmdir()


# -- clocks -----------------------------------------------------------------------------------------------------------------


def jump_clock(rig: Rig) -> None:
    """Set the time of day forwards by more than the budget, back by as much, and right again, while the search goes on."""
    search = rig.running()
    started, active = time.monotonic(), rig.active_seconds()
    ahead, behind = (rig.random.uniform(BUDGET_HOURS + 1, 4 * BUDGET_HOURS) * HOUR for _ in range(2))
    jumps = [ahead, -behind, 0.0] if rig.random.random() < 0.5 else [-behind, ahead, 0.0]
    dies_after = rig.random.randrange(4)
    try:
        for index, jump in enumerate(jumps):
            rig.set_clock(jump)
            if index == dies_after:  # a new worker starts, and connects, at the new time
                kill(rig.random.sample(search.workers(), k=1))
            rig.wait_for_more(3)
    finally:
        rig.set_clock(0.0)
    rig.num_injected = len(jumps)
    spent, passed = rig.active_seconds() - active, time.monotonic() - started
    if not 0 <= spent <= passed + 10:  # it is recorded every few seconds
        rig.problem(f"{spent:.0f} s of the budget were spent in {passed:.0f} s")


def move_recorded_times(rig: Rig) -> None:
    """Make the recorded wall-clock times lie a year ahead, as a wrongly set clock would, and go on."""
    rig.stop()
    with contextlib.closing(sqlite3.connect(rig.run / "search.db")) as connection, connection:
        connection.execute("UPDATE activity SET started_at = started_at + 31536000")
    rig.running()


FAULTS: dict[str, Callable[[Rig], None]] = {
    "SIGKILL of the search": kill_search,
    "SIGKILL of a worker": kill_worker,
    "SIGKILL of search, workers and scheduler together": kill_everything,
    "SIGKILL of a scheduler elsewhere (`--cluster`; the search says so and exits with 4)": kill_scheduler,
    "SIGTERM, to the search or to its workers as well": terminate,
    "SIGHUP, to the search or to its workers as well": hang_up,
    "stdout and stderr closed by their reader (the search goes on)": close_stdout,
    "a worker stalled by SIGSTOP (the search goes on beside it)": stall_worker,
    "two starts at once (one is refused, or goes on after the other)": start_twice,
    "an ordinary folder for `--run` (refused, nothing touched)": search_in_ordinary_folder,
    "space file edited (refused with the difference)": edit_space,
    "trials.parquet truncated (written anew from search.db)": truncate_table,
    "search.db damaged (refused; the backup is in the hint)": damage_database,
    "writing of the Parquet files killed at each system call that changes the disk, in turn": interrupt_parquet,
    "writing of search.db.backup killed likewise": interrupt_backup,
    "disk full (a small file system)": fill_disk,
    "the time of day jumps forwards and back by 13 to 48 hours while the search goes on": jump_clock,
    "recorded times a year ahead": move_recorded_times,
}


def kinds(seed: int, number: int) -> list[str]:
    """Return the kinds of so many rounds: all in turn, in an order drawn anew each time."""
    names: list[str] = []
    while len(names) < number:
        order = list(FAULTS)
        random.Random(f"{seed}-{len(names)}").shuffle(order)
        names += order
    return names[:number]


def play(rig: Rig, num_rounds: int) -> None:
    """Play the rounds that are missing."""
    names = kinds(rig.seed, num_rounds)
    rig.running()
    for index in range(sum(row["fault"] in FAULTS for row in rig.rounds), num_rounds):
        rig.fault, not_possible = names[index], None
        try:
            FAULTS[rig.fault](rig)
        except RoundOver:
            pass
        except NotPossible as reason:
            not_possible = str(reason)
        rig.end_round(not_possible=not_possible)
        row = rig.rounds[-1]
        print(
            f"{index + 1:>4} {row['seconds']:>6.1f} s  {len(rig.known):>5} trials  {rig.fault}"
            + "".join(f"\n     PROBLEM: {text}" for text in row["problems"]),
            file=sys.stderr,
            flush=True,
        )


def finish(rig: Rig) -> None:
    """Continue the run to an end, and check that nothing is left of all the interrupted writing and of the processes."""
    rig.fault = "the end"
    rig.stop()
    search = rig.start(rig.num_finished() + 10)
    code, said = rig.end(search)
    if code != 0:
        rig.problem(f"the run could not be finished: exit code {code}: …{said[-300:]}")
    if leftovers := [path.name for path in rig.run.rglob("*.tmp*")]:
        rig.problem(f"left in the run: {leftovers}")
    if processes := rig.left_behind():
        rig.problem(f"still running: {processes}")
    rig.end_round()


def table(rig: Rig) -> str:
    """Return the Markdown table of all rounds."""
    lines = [
        "| fault | rounds | injected | trials finished meanwhile | lost, changed or doubled | other problems |",
        "|---" * 6 + "|",
    ]
    for name in [*FAULTS, "the end"]:
        rows = [row for row in rig.rounds if row["fault"] == name]
        if not rows:
            continue
        played = [row for row in rows if row["not_possible"] is None]
        if not played:
            lines.append(f"| {name} | not possible here: {rows[0]['not_possible']} | | | | |")
            continue
        num_trials = sum(len(row["new"]) + row["trials_elsewhere"] for row in played)
        num_lost = sum(row["lost"] for row in played)
        num_problems = sum(len(row["problems"]) for row in played)
        lines.append(
            f"| {name} | {len(played)} | {sum(row['injected'] for row in played)} | {num_trials} | {num_lost} | {num_problems} |"
        )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=len(FAULTS))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--into", type=Path, help="folder of the run and of what was found, to go on with later")
    arguments = parser.parse_args()
    with contextlib.ExitStack() as stack:
        folder = arguments.into or Path(stack.enter_context(tempfile.TemporaryDirectory()))
        folder.mkdir(parents=True, exist_ok=True)
        # Under nohup the searches would inherit that SIGHUP is ignored, unless there is a handler.
        signal.signal(signal.SIGHUP, lambda *_: None)
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
        rig = stack.enter_context(Rig(folder.resolve(), arguments.seed))
        play(rig, arguments.rounds)
        finish(rig)
        seconds = sum(row["seconds"] for row in rig.rounds)
        statuses = [status for _, status, _ in rig.known.values()]
        print(
            f"{len(rig.known)} trials finished in one run ({len(statuses) - statuses.count('success')} of them not with success) over "
            f"{sum(row['fault'] in FAULTS and row['not_possible'] is None for row in rig.rounds)} rounds in {seconds / 60:.0f} minutes, "
            f"{os.cpu_count()} CPU cores\n"
        )
        print(table(rig))
        if any(row["problems"] for row in rig.rounds):
            print(
                *(f"{row['fault']}: {text}" for row in rig.rounds for text in row["problems"]),
                sep="\n",
                file=sys.stderr,
            )
            raise SystemExit(1)


if __name__ == "__main__":
    main()
