"""Workers that the search did not start itself: a running scheduler, and SLURM through a stand-in for sbatch."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pytest

from tests.commands import ENVIRONMENT, naxcli

SLURM_FILE = """
jobs = 2
queue = "gpu"
walltime = "1-00:00:00"
job_cpu = 8
memory = "32GB"
account = "nas"
directives = ["--qos=long"]
prologue = ["export HERE=1"]
"""


def test_the_job_script_asks_for_what_the_file_says(tiny_space: Path, tmp_path: Path) -> None:
    file = tmp_path / "slurm.toml"
    file.write_text(SLURM_FILE)
    arguments = [
        "search",
        "--space",
        tiny_space,
        "--trials",
        "3",
        "--run",
        tmp_path / "run",
        "--cluster",
        f"slurm:{file}",
    ]
    done = naxcli(*arguments, "--dry-run")
    assert done.returncode == 0, done.stderr
    for line in ("-p gpu", "-A nas", "-t 24:00:00", "--cpus-per-task=8", "--gres=gpu:1", "--qos=long", "export HERE=1"):
        assert line in done.stdout
    assert "--lifetime 86100s" in done.stdout and not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    "text", ["jobs = 2", 'jobs = 0\nwalltime = "1h"', 'jobs = 1\nwalltime = "soon"', 'jobs=1\nwalltime="1h"\nx=1']
)
def test_a_wrong_slurm_file_is_refused(text: str, tiny_space: Path, tmp_path: Path) -> None:
    file = tmp_path / "slurm.toml"
    file.write_text(text)
    arguments = [
        "search",
        "--space",
        tiny_space,
        "--trials",
        "3",
        "--run",
        tmp_path / "run",
        "--cluster",
        f"slurm:{file}",
    ]
    done = naxcli(*arguments, "--dry-run")
    assert done.returncode == 2 and "Traceback" not in done.stderr


@pytest.mark.slow
def test_a_search_runs_in_slurm_jobs(tiny_space: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With an sbatch that runs the script here."""
    tools = tmp_path / "bin"
    tools.mkdir()
    pids = tmp_path / "pids"
    (tools / "sbatch").write_text(
        # The real one copies the script too: dask-jobqueue deletes it at once.
        f'#!/bin/bash\njob=$(mktemp -p {tmp_path})\ncp "${{@: -1}}" $job\nsetsid bash $job >/dev/null 2>&1 &\n'
        f'echo $! >> {pids}\necho "Submitted batch job $!"\n'
    )
    (tools / "scancel").write_text("#!/bin/bash\nkill -- -$1 2>/dev/null; true\n")
    for tool in tools.iterdir():
        tool.chmod(0o755)
    monkeypatch.setitem(ENVIRONMENT, "PATH", f"{tools}:{os.environ['PATH']}")
    file = tmp_path / "slurm.toml"
    file.write_text('jobs = 1\nwalltime = "1h"\ngpus = 0\n')
    run = tmp_path / "run"
    try:
        done = naxcli(
            "search",
            "--space",
            tiny_space,
            "--trials",
            "12",
            "--run",
            run,
            "--searcher",
            "random",
            "--cluster",
            f"slurm:{file}",
        )
        assert done.returncode == 0, done.stderr
        assert len(pd.read_parquet(run / "trials.parquet")) == 12
    finally:
        for pid in pids.read_text().split():
            try:
                os.killpg(int(pid), signal.SIGKILL)
            except ProcessLookupError:
                continue


@pytest.mark.slow
def test_a_running_scheduler_is_used_and_a_dead_worker_costs_one_trial(slow_space: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    scheduler = subprocess.Popen(
        [sys.executable, "-m", "distributed.cli.dask_scheduler", "--port", "0", "--no-dashboard", "--host", "127.0.0.1"],
        stderr=subprocess.PIPE, text=True, env=ENVIRONMENT,
    )  # fmt: skip
    workers = []
    try:
        assert scheduler.stderr is not None
        address = next(found.group() for line in scheduler.stderr if (found := re.search(r"tcp://127.0.0.1:\d+", line)))
        command = [
            sys.executable,
            "-m",
            "distributed.cli.dask_worker",
            address,
            "--nthreads",
            "1",
            "--no-nanny",
            "--no-dashboard",
        ]
        workers = [subprocess.Popen(command, stderr=subprocess.DEVNULL, env=ENVIRONMENT) for _ in range(2)]
        arguments = [
            "search",
            "--space",
            slow_space,
            "--trials",
            "40",
            "--run",
            run,
            "--searcher",
            "random",
            "--cluster",
            address,
        ]
        search = subprocess.Popen(
            [sys.executable, "-m", "naxcli", *map(str, arguments)], stderr=subprocess.PIPE, text=True, env=ENVIRONMENT
        )
        deadline = time.monotonic() + 120
        while not (run / "trials.parquet").exists() and time.monotonic() < deadline:
            time.sleep(0.2)
        workers[0].kill()
        _, errors = search.communicate(timeout=180)
        assert search.returncode == 0, errors
        trials = pd.read_parquet(run / "trials.parquet")
        assert len(trials) == 40 and (trials["status"] == "success").all() and trials["config_id"].is_unique
    finally:
        for process in (*workers, scheduler):
            process.kill()
            process.wait()


def test_a_scheduler_that_does_not_answer_is_named(tiny_space: Path, tmp_path: Path) -> None:
    arguments = [
        "search",
        "--space",
        tiny_space,
        "--trials",
        "3",
        "--run",
        tmp_path / "run",
        "--cluster",
        "tcp://127.0.0.1:9",
    ]
    done = naxcli(*arguments)
    assert done.returncode == 2
    assert "tcp://127.0.0.1:9" in done.stderr and "Traceback" not in done.stderr
