"""Regret against epochs on LCBench's learning curves, for the benchmarks of searches that do not train everything to its end.

An arm yields its trials as `Step`. Regret is that of the best configuration that has run all 50 epochs, 1 being the median of 2,000
random configurations and 0 their best or better; without any it is 1.
"""

from __future__ import annotations

import argparse
import itertools
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from rich.console import Console
from rich.table import Table

from benchmarks import spaces_lcbench as lcbench
from benchmarks.results import add_json_option
from naxcli.search_space.enumeration import sample_configs
from naxcli.searchers import FidelityRange

LADDER = FidelityRange(min=2, max=50, eta=5)
NUM_RANDOM = 2_000
NUM_RESAMPLES = 2_000

Step = tuple[float, float | None]  # epochs spent, cost where they complete a full training


def parser(description: str | None, *, seeds: int, arms: str) -> argparse.ArgumentParser:
    """Return the options that these benchmarks have in common."""
    options = argparse.ArgumentParser(description=(description or "").splitlines()[0])
    options.add_argument("--data", type=Path, help="folder of YAHPO Gym's surrogate of LCBench")
    options.add_argument("--tasks", type=int, default=8)
    options.add_argument("--seeds", type=int, default=seeds)
    options.add_argument("--arms", default=arms)
    add_json_option(options)
    return options


def measure(
    arguments: argparse.Namespace,
    arms: Sequence[str],
    steps: Callable[[str, str, int], Iterator[Step]],
    *,
    at: Sequence[int],
) -> dict[str, Any]:
    """Return the tasks, and the regrets of each arm, (num_tasks, num_seeds, len(at)).

    Args:
        arguments: of `parser`.
        arms: names.
        steps: returns the trials of an arm for a task and a seed.
        at: full trainings whose worth of epochs is spent.
    """
    if arguments.data is not None:
        os.environ["LCBENCH"] = str(arguments.data)
    everything = list(lcbench.tasks())
    tasks = everything[:: len(everything) // arguments.tasks][: arguments.tasks]
    measured: dict[str, list[list[list[float]]]] = {arm: [] for arm in arms}
    configs = sample_configs(lcbench.configspace(0), NUM_RANDOM, 1)
    for task, arm in itertools.product(tasks, arms):
        costs = lcbench.costs(configs, epochs=LADDER.max, task=task)
        scale = {"median": float(np.median(costs)), "best": float(costs.min())}
        measured[arm].append([regrets(steps(arm, task, seed), **scale, at=at) for seed in range(arguments.seeds)])
        means = np.mean(measured[arm][-1], axis=0).round(3).tolist()
        print(f"task {task}, {arm}: {means}", file=sys.stderr, flush=True)
    return {"tasks": tasks, "regrets": measured}


def regrets(trials: Iterator[Step], *, median: float, best: float, at: Sequence[int]) -> list[float]:
    """Return the normalised regret of some trials at each checkpoint."""
    found: list[float] = []
    spent, incumbent = 0.0, median
    for epochs, cost in trials:
        spent += epochs
        while len(found) < len(at) and spent > at[len(found)] * LADDER.max + 1e-9:
            found.append(max(0.0, (incumbent - best) / (median - best)))
        if len(found) == len(at):
            break
        if cost is not None:
            incumbent = min(incumbent, cost)
    return found


def interval(values: npt.NDArray[np.float64]) -> tuple[float, float, float]:
    """Return the mean of regrets, (num_tasks, num_seeds), and the interval of resampled seeds."""
    rng = np.random.default_rng(0)
    seeds = rng.integers(values.shape[1], size=(NUM_RESAMPLES, *values.shape))
    means = np.take_along_axis(np.broadcast_to(values, seeds.shape), seeds, axis=2).mean(axis=(1, 2))
    low, high = np.quantile(means, [0.025, 0.975])
    return float(values.mean()), float(low), float(high)


def print_table(
    arguments: argparse.Namespace, measured: Mapping[str, list[list[list[float]]]], *, at: Sequence[int]
) -> None:
    """Print the mean of each arm at each checkpoint, with its interval."""
    table = Table(title=f"normalised regret, {arguments.tasks} tasks x {arguments.seeds} seeds")
    for column in ("arm", *(f"after {number} trainings" for number in at)):
        table.add_column(column, justify="left" if column == "arm" else "right")
    for arm, values in measured.items():
        rows = np.array(values)
        cells = [interval(rows[:, :, index]) for index in range(len(at))]
        table.add_row(arm, *(f"{mean:.3f} ({low:.3f} to {high:.3f})" for mean, low, high in cells))
    Console().print(table)
