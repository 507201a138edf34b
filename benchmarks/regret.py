"""Regret against epochs, for the benchmarks of searches that do not train everything to its end: on LCBench's learning curves, and on
recorded trials.

An arm yields its trials as `Step`. Regret is that of the configuration with the least cost of those that have run to the highest
fidelity, by the cost that is expected of it: 1 is the median of 2,000 random configurations or worse, and 0 their best or better. It is 1
without any.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from rich.console import Console
from rich.table import Table

from benchmarks import spaces_lcbench as lcbench
from benchmarks.results import add_json_option
from naxcli.records.trial import Config
from naxcli.search_space.contract import Space, load_space
from naxcli.search_space.enumeration import sample_configs
from naxcli.search_space.surrogate_benchmark import read_benchmark
from naxcli.searchers import FidelityRange

NUM_RANDOM = 2_000
NUM_RESAMPLES = 2_000

LCBENCH_LADDER = FidelityRange(min=2, max=50, eta=5)

Step = tuple[float, Config | None]  # epochs spent, and the configuration where they complete its full training


@dataclass(frozen=True, slots=True, kw_only=True)
class Objective:
    """What is searched.

    Args:
        name: What tables call it.
        space: Of its configurations.
        ladder: Fidelities, in epochs.
        cost: Returns what a training of a configuration to a fidelity gives.
        expected: Returns the costs that are expected of configurations at the highest fidelity.
    """

    name: str
    space: Space
    ladder: FidelityRange
    cost: Callable[[Config, float], float]
    expected: Callable[[Sequence[Config]], npt.NDArray[np.float64]]


def lcbench_objectives(number: int) -> list[Objective]:
    """Return tasks of LCBench, evenly chosen."""

    def cost(config: Config, fidelity: float, *, task: str) -> float:
        return float(lcbench.costs([config], epochs=fidelity, task=task)[0])

    everything = list(lcbench.tasks())
    return [
        Objective(
            name=task,
            space=lcbench.SPACE,
            ladder=LCBENCH_LADDER,
            cost=partial(cost, task=task),
            expected=partial(lcbench.costs, epochs=LCBENCH_LADDER.max, task=task),
        )
        for task in everything[:: len(everything) // number][:number]
    ]


def recorded_objective(trials: Path, space: Space | None) -> Objective:
    """Return recorded trials as an objective, as `naxcli space from-trials` makes a space of them."""
    benchmark = read_benchmark(trials, space=space)
    own, ladder = benchmark.as_space("recorded", like=space), FidelityRange.parse(benchmark.ladder)

    def expected(configs: Sequence[Config]) -> npt.NDArray[np.float64]:
        return benchmark.expected_costs([own.canonicalise(config) for config in configs], fidelity=ladder.max)

    return Objective(
        name=str(trials),
        space=own,
        ladder=ladder,
        cost=lambda config, fidelity: benchmark.cost(own.canonicalise(config), fidelity=fidelity, seed=0),
        expected=expected,
    )


def parser(description: str | None, *, seeds: int, arms: str) -> argparse.ArgumentParser:
    """Return the options that these benchmarks have in common."""
    options = argparse.ArgumentParser(description=(description or "").splitlines()[0])
    options.add_argument("--data", type=Path, help="folder of YAHPO Gym's surrogate of LCBench")
    options.add_argument("--tasks", type=int, default=8)
    options.add_argument("--trials", type=Path, help="a run's trials.parquet, instead of LCBench")
    options.add_argument("--space", help="space that --trials are of (default: the space.json beside them)")
    options.add_argument("--seeds", type=int, default=seeds)
    options.add_argument("--arms", default=arms)
    add_json_option(options)
    return options


def objectives(arguments: argparse.Namespace) -> list[Objective]:
    """Return what the options ask for."""
    if arguments.trials is not None:
        return [recorded_objective(arguments.trials, load_space(arguments.space) if arguments.space else None)]
    if arguments.data is not None:
        os.environ["LCBENCH"] = str(arguments.data)
    return lcbench_objectives(arguments.tasks)


def measure(
    arguments: argparse.Namespace,
    arms: Sequence[str],
    steps: Callable[[str, Objective, int], Iterator[Step]],
    *,
    at: Sequence[int],
) -> dict[str, Any]:
    """Return the names of the objectives, and the regrets of each arm, (num_objectives, num_seeds, len(at)).

    Args:
        arguments: of `parser`.
        arms: names.
        steps: returns the trials of an arm for an objective and a seed.
        at: full trainings whose worth of epochs is spent.
    """
    searched = objectives(arguments)
    measured: dict[str, list[list[list[float]]]] = {arm: [] for arm in arms}
    for objective in searched:
        random = objective.expected(sample_configs(objective.space.configuration_space(0), NUM_RANDOM, 1))
        scale = {"median": float(np.median(random)), "best": float(random.min())}
        for arm in arms:
            found = [regrets(steps(arm, objective, seed), objective, **scale, at=at) for seed in range(arguments.seeds)]
            measured[arm].append(found)
            means = np.mean(found, axis=0).round(3).tolist()
            print(f"{objective.name}, {arm}: {means}", file=sys.stderr, flush=True)
    return {"tasks": [objective.name for objective in searched], "regrets": measured}


def regrets(
    trials: Iterator[Step], objective: Objective, *, median: float, best: float, at: Sequence[int]
) -> list[float]:
    """Return the normalised regret of some trials at each checkpoint."""
    found: list[float] = []
    spent, lowest, reached = 0.0, np.inf, median
    for epochs, config in trials:
        spent += epochs
        while len(found) < len(at) and spent > at[len(found)] * objective.ladder.max + 1e-9:
            found.append(min(1.0, max(0.0, (reached - best) / (median - best))))
        if len(found) == len(at):
            break
        if config is not None and (cost := objective.cost(config, objective.ladder.max)) < lowest:
            lowest, reached = cost, float(objective.expected([config])[0])
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
    num_tasks = len(next(iter(measured.values())))
    table = Table(title=f"normalised regret, {num_tasks} tasks x {arguments.seeds} seeds")
    for column in ("arm", *(f"after {number} trainings" for number in at)):
        table.add_column(column, justify="left" if column == "arm" else "right")
    for arm, values in measured.items():
        rows = np.array(values)
        cells = [interval(rows[:, :, index]) for index in range(len(at))]
        table.add_row(arm, *(f"{mean:.3f} ({low:.3f} to {high:.3f})" for mean, low, high in cells))
    Console().print(table)
