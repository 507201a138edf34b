"""How long importance takes: all methods on made-up runs of 15 hyperparameters, four of them conditional.

    python benchmarks/importance_speed.py --repeat 5

Prints the median and the range of wall seconds over the repeats, with the CPU seconds beside them (they tell a busy machine from slow
code): everything but the intervals at 1,000 and 10,000 trials, and with them at 1,000 and 10,000.

With `--rows 50000`, times instead the whole command `naxcli report` on as many rows, without intervals and with ten draws: all of one
fidelity, and three rungs of successive halving with failures. CPU seconds are those of the command, all its threads and imports included.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import sklearn
from ConfigSpace import Categorical, ConfigurationSpace, EqualsCondition, Float, Integer, OrdinalHyperparameter

from naxcli.analysis.summary import summarise


def make_space() -> ConfigurationSpace:
    """Return 15 hyperparameters of every kind; 4 of them hang on a parent."""
    space = ConfigurationSpace(seed=0)
    space.add(*(Categorical(f"choice_{number}", list(range(2 + number % 3))) for number in range(6)))
    space.add(
        Categorical("se", ["no", "yes"]),
        Categorical("optimizer", ["sgd", "lamb"]),
        Integer("depth", (1, 8)),
        OrdinalHyperparameter("width", [32, 64, 128, 256]),
        Float("drop_path", (0.0, 0.5)),
        Integer("ratio", (2, 16)),
        Categorical("gate", ["sigmoid", "tanh", "relu"]),
        Float("momentum", (0.5, 0.99)),
        Float("lr", (1e-4, 1.0), log=True),
    )
    space.add(
        EqualsCondition(space["ratio"], space["se"], "yes"),
        EqualsCondition(space["gate"], space["se"], "yes"),
        EqualsCondition(space["momentum"], space["optimizer"], "sgd"),
        EqualsCondition(space["lr"], space["optimizer"], "sgd"),
    )
    return space


def make_trials(space: ConfigurationSpace, num_trials: int, *, seed: int) -> pd.DataFrame:
    """Return random configurations whose cost depends on six hyperparameters, two interactions, and noise."""
    space.seed(seed)
    rng = np.random.default_rng(seed)
    rows = []
    for trial_id, configuration in enumerate(space.sample_configuration(num_trials)):
        config = dict(configuration)
        cost = 0.6 - 0.1 * (config["choice_0"] == 1) - 0.05 * (config["choice_1"] == 2) * (config["se"] == "yes")
        cost += 0.01 * abs(config["depth"] - 5) + 0.1 * config["drop_path"] - 0.002 * config.get("ratio", 0)
        cost += 0.02 * abs(np.log10(config.get("lr", 1e-2)) + 2) + rng.normal(0, 0.02)
        rows.append({f"config.{name}": config.get(name) for name in space} | {"trial_id": trial_id, "cost": cost})
    return pd.DataFrame(rows).assign(fidelity=9.0, seed=0, status="success")


def measure(
    name: str, run: Callable[[], Any], *, repeat: int, bar: float, clock: Callable[[], float] = time.process_time
) -> None:
    wall, cpu = [], []
    for _ in range(repeat):
        started, started_cpu = time.perf_counter(), clock()
        run()
        wall.append(time.perf_counter() - started)
        cpu.append(clock() - started_cpu)
    spread = f"{min(wall):.2f} to {max(wall):.2f}"
    cpu_seconds = statistics.median(cpu)
    print(f"{name:<46} {statistics.median(wall):6.2f} s  ({spread}; CPU {cpu_seconds:.2f}; n = {repeat}; bar {bar:g})")


def make_rungs(trials: pd.DataFrame, *, seed: int) -> pd.DataFrame:
    """Return as many rows in three rungs, a third of each promoted with new noise, 3 % of them crashed."""
    rng = np.random.default_rng(seed)
    sizes = [len(trials) * 9 // 13, len(trials) * 3 // 13]
    lowest = trials.iloc[: sizes[0]]
    middle = lowest.nsmallest(sizes[1], "cost")
    highest = middle.nsmallest(len(trials) - sum(sizes), "cost")
    rungs = [rows.assign(fidelity=fidelity) for fidelity, rows in ((3.0, lowest), (9.0, middle), (27.0, highest))]
    table = pd.concat(rungs, ignore_index=True)
    table["cost"] += rng.normal(0, 0.01, len(table))
    table.loc[rng.uniform(size=len(table)) < 0.03, ["status", "cost"]] = ["crashed", np.nan]
    return table


def time_command(space: ConfigurationSpace, num_rows: int, *, repeat: int) -> None:
    """Time `naxcli report` on tables of made-up trials."""
    trials = make_trials(space, num_rows, seed=0)
    with tempfile.TemporaryDirectory() as folder:
        space_file = Path(folder) / "space.json"
        space_file.write_text(json.dumps(space.to_serialized_dict()))
        for name, table in (("one fidelity", trials), ("three rungs", make_rungs(trials, seed=1))):
            started = 1.7e9 + 10.0 * np.arange(len(table))
            file = Path(folder) / "trials.parquet"
            table.assign(
                trial_id=np.arange(len(table)),
                searcher=np.where(np.arange(len(table)) % 10 == 0, "random", "smac"),
                num_params=1_000 + np.arange(len(table)) * 7_919 % 99_991,
                seconds=10.0,
                started_at=started,
                ended_at=started + 10,
            ).to_parquet(file)
            for num_draws, bar in ((0, 20), (10, 80)):
                command = [
                    sys.executable,
                    "-m",
                    "naxcli",
                    "report",
                    "--trials",
                    str(file),
                    "--space-json",
                    str(space_file),
                    "--bootstrap",
                    str(num_draws),
                    "--quiet",
                ]
                measure(
                    f"{len(table):,} rows, {name}, {num_draws} draws",
                    lambda command=command: subprocess.run(command, check=True, stdout=subprocess.DEVNULL),  # type: ignore[misc]
                    repeat=repeat,
                    bar=bar,
                    clock=children_seconds,
                )


def children_seconds() -> float:
    """Return the processor seconds of the finished child processes."""
    return sum(resource.getrusage(resource.RUSAGE_CHILDREN)[:2])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument("--draws", type=int, default=100)
    parser.add_argument("--rows", type=int, help="time the whole command on this many rows")
    arguments = parser.parse_args()
    print(
        f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}, "
        f"numpy {np.__version__}, scikit-learn {sklearn.__version__}"
    )
    space = make_space()
    groups = {"choices": [f"choice_{number}" for number in range(6)]}
    if arguments.rows is not None:
        time_command(space, arguments.rows, repeat=arguments.repeat)
        return
    thousand, ten_thousand = (make_trials(space, num, seed=0) for num in (1_000, 10_000))
    measure(
        "1,000 trials, no intervals",
        lambda: summarise(thousand, space, groups=groups, bootstrap=0),
        repeat=arguments.repeat,
        bar=4,
    )
    measure(
        "10,000 trials, no intervals",
        lambda: summarise(ten_thousand, space, groups=groups, bootstrap=0),
        repeat=arguments.repeat,
        bar=10,
    )
    measure(
        f"1,000 trials, {arguments.draws} draws",
        lambda: summarise(thousand, space, groups=groups, bootstrap=arguments.draws),
        repeat=max(1, arguments.repeat // 3),
        bar=10,
    )
    # Their scale is not known, and they are modelled on four.
    spread = (thousand["cost"] - thousand["cost"].mean()) / thousand["cost"].std()
    skewed = thousand.assign(cost=np.exp(2 * spread))
    measure(
        f"1,000 trials of very skewed costs, {arguments.draws} draws",
        lambda: summarise(skewed, space, groups=groups, bootstrap=arguments.draws),
        repeat=max(1, arguments.repeat // 3),
        bar=10,
    )
    measure(
        f"10,000 trials, {arguments.draws} draws",
        lambda: summarise(ten_thousand, space, groups=groups, bootstrap=arguments.draws),
        repeat=max(1, arguments.repeat // 3),
        bar=15,
    )


if __name__ == "__main__":
    main()
