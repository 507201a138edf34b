"""Ending trainings that cannot win, on LCBench's learning curves: against none of it, and against successive halving, at equal epochs.

    python -m benchmarks.early_stopping [--data FOLDER] [--tasks 8] [--seeds 5] [--arms never,early-stop,halving]

All arms search with `smac`. `never` trains every configuration for 50 epochs; `early-stop` ends a training after the
epoch at which its chance to beat the incumbent falls below 5 %, and tells the searcher the cost that it was predicted
to reach; `halving` is successive halving over 2, 10 and 50 epochs, in which a promoted trial spends only the epochs
that its lower rung has not. Regret is that of the best configuration that has run all 50 epochs, 1 being the median of
2,000 random configurations and 0 their best or better; without any it is 1. The table holds the mean over tasks and
seeds with its 95 % bootstrap interval, and how `early-stop` went: the share of trainings that it ended, the epochs
that those took, and how many of them would have beaten the incumbent.
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
from rich.console import Console
from rich.table import Table

from benchmarks import spaces_lcbench as lcbench
from benchmarks.multi_fidelity import LADDER, NUM_RANDOM, Step, interval, ours
from benchmarks.results import add_json_option, keep
from naxcli.search.early_stopping import EarlyStopping
from naxcli.search_space.enumeration import sample_configs
from naxcli.searchers import FidelityRange, make_searcher
from naxcli.searchers.forecast import MIN_CHANCE

CHECKPOINTS = (10, 20, 30)  # full trainings
FULL = FidelityRange(min=LADDER.max, max=LADDER.max)

Curve = Callable[[Mapping[str, Any]], list[float]]


def curve_of(config: Mapping[str, Any], *, task: str) -> list[float]:
    """Return the costs of a configuration after each epoch."""
    rows = int(LADDER.max)
    inputs = [[epoch, *(config[item.name] for item in lcbench.HYPERPARAMETERS)] for epoch in range(1, rows + 1)]
    return [float(cost) for cost in lcbench.predicted_costs(inputs, task=task)]


def full_trainings(curve: Curve, seed: int, *, stops: bool, told: list[tuple[int, bool]]) -> Iterator[Step]:
    """Yield the trainings of `smac` over one fidelity, with or without early stopping.

    Args:
        curve: of a configuration.
        seed: of the searcher.
        stops: whether trainings are ended early.
        told: filled with the epochs of each stopped training, and whether it would have beaten the incumbent.
    """
    space = lcbench.configspace(seed)
    searcher = make_searcher("smac", space=lcbench.SPACE, configuration_space=space, fidelity=FULL, seed=seed)
    stopping = EarlyStopping(space, seed=seed)
    incumbent = np.inf
    while True:
        suggestion = searcher.ask()
        assert suggestion is not None
        costs = curve(suggestion.config)
        forecast = stopping.forecast(suggestion.config, incumbent) if stops else None
        epochs, predicted = len(costs), costs[-1]
        if forecast is not None:
            for epoch in range(1, len(costs)):
                if forecast.chance(costs[:epoch]) < MIN_CHANCE:
                    epochs, predicted = epoch, max(incumbent, forecast.end(costs[:epoch]))
                    told.append((epoch, costs[-1] < incumbent))
                    break
        is_complete = epochs == len(costs)
        stopping.add(suggestion.config, predicted, costs if is_complete else None)
        if is_complete:
            incumbent = min(incumbent, costs[-1])
        searcher.tell(suggestion, cost=predicted)
        yield float(epochs), costs[-1] if is_complete else None


def regrets(steps: Iterator[Step], *, median: float, best: float) -> list[float]:
    """Return an arm's normalised regret at each checkpoint."""
    found: list[float] = []
    spent, incumbent = 0.0, median
    for epochs, cost in steps:
        spent += epochs
        while len(found) < len(CHECKPOINTS) and spent > CHECKPOINTS[len(found)] * LADDER.max + 1e-9:
            found.append(max(0.0, (incumbent - best) / (median - best)))
        if len(found) == len(CHECKPOINTS):
            break
        if cost is not None:
            incumbent = min(incumbent, cost)
    return found


def steps_of(arm: str, task: str, seed: int, told: list[tuple[int, bool]]) -> Iterator[Step]:
    """Return the trials of an arm."""
    if arm == "halving":
        return ours("smac", lambda config, epochs: curve_of(config, task=task)[round(epochs) - 1], seed)
    return full_trainings(lambda config: curve_of(config, task=task), seed, stops=arm == "early-stop", told=told)


def describe(told: Sequence[tuple[int, bool]], num_runs: int) -> str:
    """Return in words how the stopped trainings went."""
    if not told:
        return "no training was ended early"
    epochs = np.array([epoch for epoch, _ in told])
    wrong = sum(would_win for _, would_win in told)
    return (
        f"{len(told)} trainings in {num_runs} searches were ended early, after {epochs.mean():.1f} of {LADDER.max:g} epochs "
        f"(quartiles {np.quantile(epochs, 0.25):.0f} and {np.quantile(epochs, 0.75):.0f}); {wrong} ({wrong / len(told):.1%}) would have won"
    )


def main() -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", type=Path, help="folder of YAHPO Gym's surrogate of LCBench")
    parser.add_argument("--tasks", type=int, default=8)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--arms", default="never,early-stop,halving")
    add_json_option(parser)
    arguments = parser.parse_args()
    if arguments.data is not None:
        os.environ["LCBENCH"] = str(arguments.data)
    everything = list(lcbench.tasks())
    tasks = everything[:: len(everything) // arguments.tasks][: arguments.tasks]
    arms = arguments.arms.split(",")
    measured: dict[str, list[list[list[float]]]] = {arm: [] for arm in arms}
    told: list[tuple[int, bool]] = []
    for task, arm in itertools.product(tasks, arms):
        configs = sample_configs(lcbench.configspace(0), NUM_RANDOM, 1)
        costs = lcbench.costs(configs, epochs=LADDER.max, task=task)
        measured[arm].append(
            [
                regrets(steps_of(arm, task, seed, told), median=float(np.median(costs)), best=float(costs.min()))
                for seed in range(arguments.seeds)
            ]
        )
        print(
            f"task {task}, {arm}: {np.mean(measured[arm][-1], axis=0).round(3).tolist()}", file=sys.stderr, flush=True
        )
    keep(arguments, tasks=tasks, regrets=measured, stopped=told)
    table = Table(title=f"normalised regret, {len(tasks)} tasks x {arguments.seeds} seeds")
    for column in ("arm", *(f"after {number} trainings" for number in CHECKPOINTS)):
        table.add_column(column, justify="left" if column == "arm" else "right")
    for arm, values in measured.items():
        rows = np.array(values)
        cells = [interval(rows[:, :, index]) for index in range(len(CHECKPOINTS))]
        table.add_row(arm, *(f"{mean:.3f} ({low:.3f} to {high:.3f})" for mean, low, high in cells))
    Console().print(table)
    print(describe(told, len(tasks) * arguments.seeds))


if __name__ == "__main__":
    main()
