"""Warm start on LCBench: what a search gains from the results of a task that agrees, and loses by those of one that does not.

    python -m benchmarks.warm_start [--data FOLDER] [--tasks 8] [--seeds 20] [--earlier 60] [--evaluations 50]
                                   [--into FILE]

LCBench's seven hyperparameters are on a grid of 28,800 configurations, whose costs after 50 epochs are all known. For each task,
the results of a search of `--earlier` trainings on another one are what a search starts from: of the task whose costs have the
highest Spearman correlation with its own, and of the one that has the lowest. Against a search without a start, the table holds
the rank of the best configuration so far as a share of the grid (median; the goal after 10 evaluations is 0.1 % with a task that
agrees), its normalised regret (mean; 1 is the grid's median, 0 its best), and the paired difference in regret from the search without
a start at the end, each with the 95 % bootstrap interval over seeds. With --into, the same command goes on where an interrupted one
ended, or with more seeds.
"""

from __future__ import annotations

import argparse
import itertools
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from ConfigSpace import ConfigurationSpace, OrdinalHyperparameter
from rich.console import Console
from rich.table import Table
from scipy.stats import spearmanr

from benchmarks import spaces_lcbench as lcbench
from benchmarks.cells import add_cell_options, measured_cells
from benchmarks.results import add_json_option, keep
from naxcli.search_space.contract import Space
from naxcli.search_space.earlier import EarlierResult, EarlierResults
from naxcli.search_space.enumeration import Enumeration, enumerate_configurations
from naxcli.searchers import FidelityRange, make_searcher

EPOCHS = 50.0
CHECKPOINTS = (10, 20, 50)
ARMS = ("cold", "agreeing", "misleading")
NUM_RESAMPLES = 2_000
SOURCE_SEEDS = 1_000  # the search on the other task has other seeds
GRID = {
    "batch_size": [16, 45, 128, 256, 512],
    "learning_rate": [1e-4, 4e-4, 1.6e-3, 6.3e-3, 2.5e-2, 1e-1],
    "momentum": [0.1, 0.4, 0.7, 0.99],
    "weight_decay": [1e-5, 2e-2, 5e-2, 1e-1],
    "num_layers": [1, 3, 5],
    "max_units": [64, 128, 256, 512, 1024],
    "max_dropout": [0.0, 0.3, 0.6, 1.0],
}

Values = npt.NDArray[np.float64]


def configspace(seed: int | None = None) -> ConfigurationSpace:
    space = ConfigurationSpace(seed=seed)
    space.add(*(OrdinalHyperparameter(name, levels) for name, levels in GRID.items()))
    return space


def space_of(table: Enumeration, costs: Values) -> Space:
    """Return the space of the grid whose costs are those of one task, by row of the table."""

    def evaluate(config: Mapping[str, Any], *, fidelity: float, seed: int) -> float:
        row = table.row_of(config)
        assert row is not None
        return float(costs[row])

    return Space(name="lcbench-grid", configspace=configspace, evaluate=evaluate)


def searched(
    table: Enumeration, costs: Values, *, seed: int, number: int, earlier: Sequence[EarlierResults] = ()
) -> list[EarlierResult]:
    """Return the results of a search, in their order."""
    space = space_of(table, costs)
    assert space.evaluate is not None
    searcher = make_searcher(
        "smac",
        space=space,
        configuration_space=configspace(seed),
        fidelity=FidelityRange(min=EPOCHS, max=EPOCHS),
        seed=seed,
        earlier=earlier,
    )
    results = []
    for _ in range(number):
        suggestion = searcher.ask()
        assert suggestion is not None
        cost = space.evaluate(suggestion.config, fidelity=EPOCHS, seed=seed)
        searcher.tell(suggestion, cost=cost)
        results.append(EarlierResult(config=suggestion.config, fidelity=EPOCHS, cost=cost))
    return results


def ranks_and_regrets(results: Sequence[EarlierResult], costs: Values) -> tuple[list[float], list[float]]:
    """Return the share of the grid that is better than the best result so far, and its regret, at each checkpoint."""
    best = np.minimum.accumulate([result.cost for result in results])
    at = [best[number - 1] for number in CHECKPOINTS if number <= len(best)]
    lowest, median = costs.min(), np.median(costs)
    return [float((costs < cost).mean()) for cost in at], [float((cost - lowest) / (median - lowest)) for cost in at]


def shown(values: Values, *, is_share: bool = False) -> str:
    """Return the mean of (num_tasks, num_seeds), or the median in percent, with the 95 % interval of resampled seeds."""
    statistic, scale = (np.median, 100) if is_share else (np.mean, 1)
    rng = np.random.default_rng(0)
    seeds = rng.integers(values.shape[1], size=(NUM_RESAMPLES, *values.shape))
    resampled = np.take_along_axis(np.broadcast_to(values, seeds.shape), seeds, axis=2).reshape(NUM_RESAMPLES, -1)
    low, high = scale * np.quantile(statistic(resampled, axis=1), [0.025, 0.975])
    return f"{scale * float(statistic(values)):.3f} ({low:.3f} to {high:.3f})"


def arguments_given() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", type=Path, help="folder of YAHPO Gym's surrogate of LCBench")
    parser.add_argument("--tasks", type=int, default=8)
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--earlier", type=int, default=60, help="evaluations of the search on the other task")
    parser.add_argument("--evaluations", type=int, default=max(CHECKPOINTS))
    add_json_option(parser)
    add_cell_options(parser)
    return parser.parse_args()


@dataclass(frozen=True, slots=True, kw_only=True)
class Tables:
    """What is known of all tasks.

    Args:
        enumeration: Of the grid.
        costs: Per task, (num_configs,), by row of the enumeration.
        agreement: Spearman's correlation of two tasks, (num_tasks, num_tasks), NaN on the diagonal.
    """

    enumeration: Enumeration
    costs: Values
    agreement: Values

    def source(self, task: int, arm: str) -> int:
        """Return the task whose results a search starts from."""
        row = self.agreement[task]
        return int(np.nanargmin(row) if arm == "misleading" else np.nanargmax(row))


@cache
def tables(data: Path | None) -> Tables:
    if data is not None:
        os.environ["LCBENCH"] = str(data)
    enumeration = enumerate_configurations(configspace())
    assert enumeration is not None
    configs = [enumeration.config(row) for row in range(len(enumeration))]
    costs = np.stack([lcbench.costs(configs, epochs=EPOCHS, task=task) for task in lcbench.tasks()])
    agreement = np.array(spearmanr(costs, axis=1).statistic)
    np.fill_diagonal(agreement, np.nan)
    return Tables(enumeration=enumeration, costs=costs, agreement=agreement)


def search(cell: tuple[str, str, int, int, int], *, data: Path | None) -> tuple[list[float], list[float]]:
    """Return the shares and the regrets of a task, a start and a seed, with so many earlier evaluations and new ones."""
    name, arm, seed, num_earlier, number = cell
    known = tables(data)
    names = list(lcbench.tasks())
    task, earlier = names.index(name), []
    if arm != "cold":
        source = known.source(task, arm)
        results = searched(known.enumeration, known.costs[source], seed=SOURCE_SEEDS + seed, number=num_earlier)
        earlier = [EarlierResults(source=names[source], results=tuple(results))]
    results = searched(known.enumeration, known.costs[task], seed=seed, number=number, earlier=earlier)
    return ranks_and_regrets(results, known.costs[task])


def main() -> None:
    """Measure and print the table."""
    arguments = arguments_given()
    known = tables(arguments.data)
    everything, seeds = list(lcbench.tasks()), range(arguments.seeds)
    tasks = everything[:: len(everything) // arguments.tasks][: arguments.tasks]
    numbers = (arguments.earlier, arguments.evaluations)
    cells = [(task, arm, seed, *numbers) for seed in seeds for task in tasks for arm in ARMS]
    found = measured_cells(arguments, cells, partial(search, data=arguments.data))
    ranks, regrets = (
        {arm: [[found[task, arm, seed, *numbers][index] for seed in seeds] for task in tasks] for arm in ARMS}
        for index in (0, 1)
    )
    for task, arm in itertools.product(tasks, ARMS[1:]):
        row = everything.index(task)
        print(f"task {task}, {arm}: correlation {known.agreement[row, known.source(row, arm)]:.2f}", file=sys.stderr)
    keep(arguments, tasks=tasks, ranks=ranks, regrets=regrets)
    print_table(ranks, regrets, num_tasks=len(tasks), num_seeds=arguments.seeds)


def print_table(
    ranks: dict[str, list[list[list[float]]]],
    regrets: dict[str, list[list[list[float]]]],
    *,
    num_tasks: int,
    num_seeds: int,
) -> None:
    shown_table = Table(title=f"warm start, n = {num_tasks} tasks x {num_seeds} seeds")
    cold = np.array(regrets["cold"])
    for column in ("start", "evaluations", "% of the grid better", "regret", "regret less that of cold"):
        shown_table.add_column(column, justify="left" if column == "start" else "right")
    for arm, values in regrets.items():
        rows, shares = np.array(values), np.array(ranks[arm])
        for index, number in enumerate(CHECKPOINTS[: rows.shape[2]]):
            difference = "" if arm == "cold" else shown(rows[:, :, index] - cold[:, :, index])
            regret = shown(rows[:, :, index])
            shown_table.add_row(arm, str(number), shown(shares[:, :, index], is_share=True), regret, difference)
    Console(width=140).print(shown_table)


if __name__ == "__main__":
    main()
