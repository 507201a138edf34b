"""What the search costs its workers: the share of their time between one trial's end and the next one's start.

    python -m benchmarks.orchestration [--workers 8] [--seconds 30] [--trials 40] [--spread 0.2]

A real search by SMAC over nexception's configurations whose trials only sleep, so that a machine of two cores holds eight
workers. The share is the time between trials over all time from a worker's first start to its last end.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

import pandas as pd

SPACE = """
import random
import time
from spaces import nexception
from naxcli import Space

def evaluate(config, *, fidelity, seed):
    time.sleep({seconds} * (1 + {spread} * (2 * random.random() - 1)))
    return (hash(str(config)) % 1000) / 1000

SPACE = Space(name="sleeping", configspace=nexception.configspace, canonical=nexception.canonical, evaluate=evaluate)
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workers", type=int, default=8)
    parser.add_argument("--seconds", type=float, default=30)
    parser.add_argument("--trials", type=int, default=40)
    parser.add_argument(
        "--spread",
        type=float,
        default=0.0,
        help="0.2: trials take up to a fifth more or less, so that they do not end together",
    )
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        space, run = Path(folder) / "sleeping.py", Path(folder) / "run"
        space.write_text(SPACE.format(seconds=arguments.seconds, spread=arguments.spread))
        flags = ["--workers", str(arguments.workers), "--trials", str(arguments.trials), "--quiet"]
        subprocess.run(
            [sys.executable, "-m", "naxcli", "search", "--space", space, "--run", run, *flags],
            check=True,
            cwd=Path(__file__).parents[1],
        )
        trials = pd.read_parquet(run / "trials.parquet").sort_values("started_at")
    gaps: list[float] = []
    whole = 0.0
    for _, mine in trials.groupby("worker"):
        gaps += list(mine["started_at"].to_numpy()[1:] - mine["ended_at"].to_numpy()[:-1])
        whole += mine["ended_at"].max() - mine["started_at"].min()
    between = pd.Series(gaps)
    share = 100 * between.sum() / whole
    print(
        f"{len(trials)} trials of {arguments.seconds:g} s on {arguments.workers} workers: {share:.2f} % of the workers' time between trials"
    )
    print(f"median {between.median():.2f} s, largest {between.max():.2f} s, n = {len(between)}")


if __name__ == "__main__":
    main()
