"""Regret against epochs, for the benchmarks of searches that do not train everything to its end: on LCBench's learning curves, on recorded
trials, and on NAS-Bench-Macro, whose table holds full trainings alone, with noise for what fewer epochs would do.

An arm yields its trials as `Step`. Regret is that of the configuration with the least cost of those that have run to the highest
fidelity, by the cost that is expected of it: 1 is the median of 2,000 random configurations or worse, and 0 their best or better. It is 1
without any.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from rich.console import Console
from rich.table import Table
from scipy.stats import spearmanr

from benchmarks import spaces_lcbench as lcbench
from benchmarks import spaces_nas_bench_macro as nas_bench_macro
from benchmarks.cells import add_cell_options, measured_cells
from benchmarks.results import add_json_option, keep
from naxcli.records.trial import Config
from naxcli.search_space.contract import Space, load_space
from naxcli.search_space.enumeration import sample_configs
from naxcli.search_space.surrogate_benchmark import read_benchmark
from naxcli.searchers import FidelityRange

NUM_RANDOM = 2_000
NUM_RESAMPLES = 2_000

LCBENCH_LADDER = FidelityRange(min=2, max=50, eta=5)
OTHER_TASKS = {"agreeing": max, "misleading": min}  # of their costs' correlations with a task's


class Step(NamedTuple):
    """A trial of an arm.

    Args:
        epochs: That it spends.
        config: Its configuration where they complete the full training, else None.
        note: Kept beside the regrets; None for nothing.
    """

    epochs: float
    config: Config | None = None
    note: Any = None


Steps = Callable[[str, "Objective", int], Iterator[Step]]  # of an arm, an objective and a seed


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Objective:
    """What is searched.

    Args:
        name: What tables call it.
        space: Of its configurations.
        ladder: Fidelities, in epochs.
        cost: Returns what a training of a configuration to a fidelity gives, in a search with a seed.
        expected: Returns the costs that are expected of configurations at the highest fidelity.
        other: Returns the objective whose costs there agree with these most (`agreeing`) or least (`misleading`), of all that have
            the same space; None where there is none.
    """

    name: str
    space: Space
    ladder: FidelityRange
    cost: Callable[[Config, float, int], float]
    expected: Callable[[Sequence[Config]], npt.NDArray[np.float64]]
    other: Callable[[str], Objective] | None = None


def lcbench_objectives(number: int, ladder: FidelityRange) -> list[Objective]:
    """Return tasks of LCBench, evenly chosen."""
    everything = list(lcbench.tasks())
    return [lcbench_objective(task, ladder) for task in everything[:: len(everything) // number][:number]]


def lcbench_objective(task: str, ladder: FidelityRange) -> Objective:
    """Return a task of LCBench."""

    def cost(config: Config, fidelity: float, seed: int) -> float:
        return float(lcbench.costs([config], epochs=fidelity, task=task)[0])

    def other(which: str) -> Objective:
        agreements = lcbench_agreements(ladder.max)[task]
        return lcbench_objective(OTHER_TASKS[which](agreements, key=agreements.__getitem__), ladder)

    return Objective(
        name=task,
        space=lcbench.SPACE,
        ladder=ladder,
        cost=cost,
        expected=partial(lcbench.costs, epochs=ladder.max, task=task),
        other=other,
    )


@cache
def lcbench_agreements(epochs: float) -> dict[str, dict[str, float]]:
    """Return Spearman's correlation of each task's costs with those of every other one, over random configurations."""
    configs = sample_configs(lcbench.SPACE.configuration_space(0), NUM_RANDOM, 2)
    names = list(lcbench.tasks())
    correlations = spearmanr([lcbench.costs(configs, epochs=epochs, task=name) for name in names], axis=1).statistic
    return {
        name: {other: float(value) for other, value in zip(names, row, strict=True) if other != name}
        for name, row in zip(names, correlations, strict=True)
    }


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
        cost=lambda config, fidelity, seed: benchmark.cost(own.canonicalise(config), fidelity=fidelity, seed=0),
        expected=expected,
    )


def noisy_objective(noise: float, ladder: FidelityRange) -> Objective:
    """Return NAS-Bench-Macro over a ladder: the full result, and below it normal noise whose variance falls as one over the epochs.

    Args:
        noise: standard deviation at the lowest rung, in points of accuracy.
    """
    low, high = ladder.min, ladder.max

    def expected(configs: Sequence[Config]) -> npt.NDArray[np.float64]:
        return np.array([nas_bench_macro.evaluate(config, fidelity=high, seed=0)["cost"] for config in configs])

    def cost(config: Config, fidelity: float, seed: int) -> float:
        rng = np.random.default_rng([int(nas_bench_macro.key(config), 3), int(fidelity), seed])
        deviation = noise / 100 * np.sqrt((1 / fidelity - 1 / high) / (1 / low - 1 / high))
        return float(expected([config])[0] + deviation * rng.standard_normal())

    return Objective(
        name=f"nas-bench-macro, noise {noise:g}",
        space=nas_bench_macro.SPACE,
        ladder=ladder,
        cost=cost,
        expected=expected,
    )


def parser(description: str | None, *, seeds: int, arms: str) -> argparse.ArgumentParser:
    """Return the options that these benchmarks have in common."""
    options = argparse.ArgumentParser(description=(description or "").splitlines()[0])
    options.add_argument("--data", type=Path, help="folder of YAHPO Gym's surrogate of LCBench")
    options.add_argument("--tasks", type=int, default=8)
    options.add_argument("--trials", type=Path, help="a run's trials.parquet, instead of LCBench")
    options.add_argument("--space", help="space that --trials are of (default: the space.json beside them)")
    options.add_argument(
        "--noise",
        type=float,
        help="of the shortest trainings in points of accuracy: NAS-Bench-Macro instead of LCBench",
    )
    options.add_argument(
        "--ladder",
        type=FidelityRange.parse,
        default=LCBENCH_LADDER,
        help="MIN:MAX:ETA in epochs, of LCBench and NAS-Bench-Macro (default: %(default)s)",
    )
    options.add_argument("--seeds", type=int, default=seeds)
    options.add_argument("--arms", default=arms)
    options.add_argument("--plot", type=Path, help="picture that is drawn (needs matplotlib)")
    add_json_option(options)
    add_cell_options(options)
    return options


class Where(NamedTuple):
    """The options of the same names, of `parser`."""

    data: Path | None
    tasks: int
    trials: Path | None
    space: str | None
    noise: float | None
    ladder: FidelityRange


@cache
def objectives(where: Where) -> dict[str, Objective]:
    """Return what the options ask for, by name."""
    if where.data is not None:
        os.environ["LCBENCH"] = str(where.data)
    if where.trials is not None:
        searched = [recorded_objective(where.trials, load_space(where.space) if where.space else None)]
    elif where.noise is not None:
        searched = [noisy_objective(where.noise, where.ladder)]
    else:
        searched = lcbench_objectives(where.tasks, where.ladder)
    return {objective.name: objective for objective in searched}


@cache
def scale_of(objective: Objective) -> tuple[float, float]:
    """Return the median and the least expected cost of random configurations."""
    costs = objective.expected(sample_configs(objective.space.configuration_space(0), NUM_RANDOM, 1))
    return float(np.median(costs)), float(costs.min())


def measure(arguments: argparse.Namespace, arms: Sequence[str], steps: Steps, *, at: Sequence[int]) -> dict[str, Any]:
    """Return the names of the objectives, and of each arm the regrets, (num_objectives, num_seeds, len(at)), and the notes.

    Args:
        arguments: of `parser`.
        arms: names.
        steps: returns the trials of an arm for an objective and a seed; of a module, as worker processes call it.
        at: full trainings whose worth of epochs is spent.
    """
    where = Where(*(getattr(arguments, name) for name in Where._fields))
    names, seeds = list(objectives(where)), range(arguments.seeds)
    cells = [(name, arm, seed) for seed in seeds for name in names for arm in arms]
    found = measured_cells(arguments, cells, partial(search, where=where, steps=steps, at=tuple(at)))
    return {
        "tasks": names,
        "at": list(at),
        "regrets": {arm: [[found[name, arm, seed]["regrets"] for seed in seeds] for name in names] for arm in arms},
        "notes": {
            arm: [note for name in names for seed in seeds for note in found[name, arm, seed]["notes"]] for arm in arms
        },
    }


def search(cell: tuple[str, str, int], *, where: Where, steps: Steps, at: Sequence[int]) -> dict[str, list[Any]]:
    """Return the normalised regrets of a search at each checkpoint, and the notes of its trials."""
    name, arm, seed = cell
    objective = objectives(where)[name]
    median, best = scale_of(objective)
    regrets: list[float] = []
    notes = []
    spent, lowest, reached = 0.0, np.inf, median
    for step in steps(arm, objective, seed):
        spent += step.epochs
        while len(regrets) < len(at) and spent > at[len(regrets)] * objective.ladder.max + 1e-9:
            regrets.append(min(1.0, max(0.0, (reached - best) / (median - best))))
        if len(regrets) == len(at):
            break
        if step.note is not None:
            notes.append(step.note)
        if step.config is not None and (cost := objective.cost(step.config, objective.ladder.max, seed)) < lowest:
            lowest, reached = cost, float(objective.expected([step.config])[0])
    return {"regrets": regrets, "notes": notes}


def interval(values: npt.NDArray[np.float64]) -> tuple[float, float, float]:
    """Return the mean of regrets, (num_tasks, num_seeds), and the interval of resampled seeds."""
    rng = np.random.default_rng(0)
    seeds = rng.integers(values.shape[1], size=(NUM_RESAMPLES, *values.shape))
    means = np.take_along_axis(np.broadcast_to(values, seeds.shape), seeds, axis=2).mean(axis=(1, 2))
    low, high = np.quantile(means, [0.025, 0.975])
    return float(values.mean()), float(low), float(high)


def print_table(measured: Mapping[str, Any], *, at: Sequence[int]) -> None:
    """Print the mean of each arm at some of the checkpoints with its interval, and by how much the others are above the first.

    The differences are paired: arms search the same tasks with the same seeds.
    """
    regrets = {
        arm: np.array(values)[:, :, [measured["at"].index(number) for number in at]]
        for arm, values in measured["regrets"].items()
    }
    first = next(iter(regrets))
    num_tasks, num_seeds, _ = regrets[first].shape
    more = {arm: values - regrets[first] for arm, values in regrets.items() if arm != first}
    titles = (f"normalised regret, {num_tasks} tasks x {num_seeds} seeds", f"normalised regret, less that of {first}")
    for title, rows in zip(titles, (regrets, more), strict=True):
        table = Table(title=title)
        for column in ("arm", *(f"after {number} trainings" for number in at)):
            table.add_column(column, justify="left" if column == "arm" else "right")
        for arm, values in rows.items():
            cells = [interval(values[:, :, index]) for index in range(len(at))]
            table.add_row(arm, *(f"{mean:.3f} ({low:.3f} to {high:.3f})" for mean, low, high in cells))
        if rows:
            Console(width=120).print(table)


def plot(measured: Mapping[str, Any], path: Path) -> None:
    """Draw the mean of each arm against full trainings, with its interval."""
    import matplotlib

    matplotlib.use("agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(7, 4.2), layout="constrained")
    for arm, values in measured["regrets"].items():
        rows = np.array(values)
        means, lows, highs = zip(*(interval(rows[:, :, index]) for index in range(rows.shape[2])), strict=True)
        (line,) = axes.plot(measured["at"], means, marker="o", markersize=3, label=arm)
        axes.fill_between(measured["at"], lows, highs, color=line.get_color(), alpha=0.15, linewidth=0)
    axes.set(xlabel="epochs spent, in full trainings", ylabel="normalised regret", yscale="log")
    axes.set_xlim(0, None)
    axes.grid(alpha=0.3)
    axes.legend(frameon=False, fontsize=8)
    figure.savefig(path, dpi=150)
    plt.close(figure)


def report(arguments: argparse.Namespace, measured: Mapping[str, Any], *, at: Sequence[int]) -> None:
    """Print the table, and write what the options ask for."""
    keep(arguments, **measured)
    print_table(measured, at=at)
    if arguments.plot is not None:
        plot(measured, arguments.plot)
