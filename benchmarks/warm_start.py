"""Warm start on LCBench: what a search gains from the results of a task that agrees, and loses by those of one that does not.

    python -m benchmarks.warm_start [--data FOLDER] [--tasks 8] [--seeds 20] [--earlier 60]

For each task, the results of a search of `--earlier` full trainings on another one are the start of a search of 50: of the task whose
costs of 2,000 random configurations correlate most with its own, and of the one that correlates least. Against a search without
a start: the share of 20,000 random configurations that are better than the best after 10 evaluations (median, and its 95 %
bootstrap interval over seeds), the normalised regret after 10, 20 and 50 (1 is the median of random configurations, 0 their best
or better), and its paired difference from that without a start.
"""

from __future__ import annotations

import argparse
import itertools
import os
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
from rich.console import Console
from rich.table import Table
from scipy.stats import spearmanr

from benchmarks import spaces_lcbench as lcbench
from benchmarks.results import add_json_option, keep
from naxcli.search_space.earlier import EarlierResult, EarlierResults
from naxcli.search_space.enumeration import sample_configs
from naxcli.searchers import FidelityRange, make_searcher

EPOCHS = 50.0
CHECKPOINTS = (10, 20, 50)
NUM_CORRELATED = 2_000
NUM_RANDOM = 20_000
NUM_RESAMPLES = 2_000
SOURCE_SEEDS = 1_000  # a source's search has other seeds than the target's

Values = npt.NDArray[np.float64]


def searched(task: str, *, seed: int, number: int, earlier: Sequence[EarlierResults] = ()) -> list[EarlierResult]:
    """Return the results of a search, in their order."""
    searcher = make_searcher(
        "smac",
        space=lcbench.SPACE,
        configuration_space=lcbench.configspace(seed),
        fidelity=FidelityRange(min=EPOCHS, max=EPOCHS),
        seed=seed,
        earlier=earlier,
    )
    results = []
    for _ in range(number):
        suggestion = searcher.ask()
        assert suggestion is not None
        cost = float(lcbench.costs([suggestion.config], epochs=EPOCHS, task=task)[0])
        searcher.tell(suggestion, cost=cost)
        results.append(EarlierResult(config=suggestion.config, fidelity=EPOCHS, cost=cost))
    return results


def correlations(tasks: Sequence[str]) -> Values:
    """Return Spearman's correlation of every two tasks, (num_tasks, num_tasks)."""
    configs = sample_configs(lcbench.configspace(0), NUM_CORRELATED, 2)
    costs = np.column_stack([lcbench.costs(configs, epochs=EPOCHS, task=task) for task in tasks])
    found: Values = spearmanr(costs).statistic
    return found


def measured(task: str, source: str | None, *, seed: int, num_earlier: int, random_costs: Values) -> list[float]:
    """Return the share of random configurations that are better after 10 evaluations, and the regret at each checkpoint."""
    earlier = []
    if source is not None:
        results = searched(source, seed=SOURCE_SEEDS + seed, number=num_earlier)
        earlier = [EarlierResults(source=source, results=tuple(results))]
    costs = [result.cost for result in searched(task, seed=seed, number=max(CHECKPOINTS), earlier=earlier)]
    best = np.minimum.accumulate(costs)
    lowest, median = random_costs.min(), np.median(random_costs)
    regrets = [max(0.0, float((best[number - 1] - lowest) / (median - lowest))) for number in CHECKPOINTS]
    return [float((random_costs < best[CHECKPOINTS[0] - 1]).mean()), *regrets]


def shown(values: Values, *, is_median: bool = False, digits: int = 3, scale: float = 1.0) -> str:
    """Return the mean or median of (num_tasks, num_seeds), with the 95 % interval of resampled seeds."""
    statistic = np.median if is_median else np.mean
    rng = np.random.default_rng(0)
    seeds = rng.integers(values.shape[1], size=(NUM_RESAMPLES, *values.shape))
    resampled = np.take_along_axis(np.broadcast_to(values, seeds.shape), seeds, axis=2).reshape(NUM_RESAMPLES, -1)
    low, high = np.quantile(statistic(resampled, axis=1), [0.025, 0.975])
    return " ".join(
        [f"{scale * float(statistic(values)):.{digits}f}", f"({scale * low:.{digits}f} to {scale * high:.{digits}f})"]
    )


def main() -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", type=Path, help="folder of YAHPO Gym's surrogate of LCBench")
    parser.add_argument("--tasks", type=int, default=8)
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--earlier", type=int, default=60, help="evaluations of the search on the other task")
    add_json_option(parser)
    arguments = parser.parse_args()
    if arguments.data is not None:
        os.environ["LCBENCH"] = str(arguments.data)
    everything = list(lcbench.tasks())
    tasks = everything[:: len(everything) // arguments.tasks][: arguments.tasks]
    agreement = correlations(everything)
    np.fill_diagonal(agreement, np.nan)
    arms: dict[str, dict[str, str | None]] = {"cold": {}, "agreeing": {}, "misleading": {}}
    for task in tasks:
        row = agreement[everything.index(task)]
        arms["cold"][task] = None
        arms["agreeing"][task] = everything[int(np.nanargmax(row))]
        arms["misleading"][task] = everything[int(np.nanargmin(row))]
        print(f"task {task}: agreeing {np.nanmax(row):.2f}, misleading {np.nanmin(row):.2f}", file=sys.stderr)
    configs = sample_configs(lcbench.configspace(0), NUM_RANDOM, 1)
    found: dict[str, list[list[list[float]]]] = {arm: [] for arm in arms}
    for task, arm in itertools.product(tasks, arms):
        random_costs = lcbench.costs(configs, epochs=EPOCHS, task=task)
        found[arm].append(
            [
                measured(task, arms[arm][task], seed=seed, num_earlier=arguments.earlier, random_costs=random_costs)
                for seed in range(arguments.seeds)
            ]
        )
        print(f"task {task}, {arm}: {np.mean(found[arm][-1], axis=0).round(4).tolist()}", file=sys.stderr)
    keep(arguments, tasks=tasks, sources=arms, measured=found)
    table = Table(title=f"warm start, n = {len(tasks)} tasks x {arguments.seeds} seeds")
    for column in ("start", "% better after 10", *(f"regret after {number}" for number in CHECKPOINTS), "less cold"):
        table.add_column(column, justify="left" if column == "start" else "right")
    cold = np.array(found["cold"])
    for arm, values in found.items():
        rows = np.array(values)
        cells = [shown(rows[:, :, 1 + index]) for index in range(len(CHECKPOINTS))]
        difference = "" if arm == "cold" else shown(rows[:, :, -1] - cold[:, :, -1])
        table.add_row(arm, shown(rows[:, :, 0], is_median=True, scale=100), *cells, difference)
    Console(width=150).print(table)


if __name__ == "__main__":
    main()
