"""How often the 95 % interval of "one more day of search" holds what the search then gained, on replayed searches.

    python -m benchmarks.one_more_day --searches 20
    python -m benchmarks.one_more_day --searchers smac --searches 4 --tables nas-bench-macro --steps 50:100,100:200

A search is run to its end on a table of real results; after `from` of its trials the report is asked what a day brings that holds as many
trials as are left to `to`, and its answer is compared with what they brought. The bounds are those of the report: no error rate below 0,
and no more trials than there are configurations left.

Tables: `nas-bench-macro` (mean of the seeds), `nas-bench-macro-noisy` (one seed at random), `small` (its first five layers only: 243
networks, so that a search runs out of them), and `lcbench:TASK` (numeric hyperparameters; needs onnxruntime).

Each row: intervals that held of all, gains above (+) and below (-) them, mean width, expected and true gain; the last three in points of
error.
"""

from __future__ import annotations

import argparse
import os
import platform
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from ConfigSpace import Categorical, ConfigurationSpace

from benchmarks import spaces_lcbench, spaces_nas_bench_macro
from benchmarks.results import add_json_option, keep
from naxcli import Space
from naxcli.analysis.anytime import SECONDS_PER_DAY, marginal_value
from naxcli.analysis.table import check_table
from naxcli.search_space.enumeration import count_configurations
from naxcli.searchers import FidelityRange, make_searcher

NUM_SMALL_LAYERS = 5

Cost = Callable[[Mapping[str, Any], np.random.Generator], float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Replay:
    """A space, and the recorded cost of each of its configurations."""

    space: Space
    cost: Cost


def macro(*, is_noisy: bool) -> Replay:
    def cost(config: Mapping[str, Any], rng: np.random.Generator) -> float:
        result = spaces_nas_bench_macro.table()[spaces_nas_bench_macro.key(config)]
        return 1 - (float(rng.choice(result["test_acc"])) if is_noisy else result["mean_acc"]) / 100

    return Replay(space=spaces_nas_bench_macro.SPACE, cost=cost)


def small() -> Replay:
    """Return NAS-Bench-Macro with its last layers as they are in the best network."""
    rest = [spaces_nas_bench_macro.SPACE.reference["best"][f"layer_{n}"] for n in range(NUM_SMALL_LAYERS + 1, 9)]

    def configspace(seed: int | None = None) -> ConfigurationSpace:
        space = ConfigurationSpace(seed=seed)
        space.add(*(Categorical(f"layer_{layer}", [0, 1, 2]) for layer in range(1, NUM_SMALL_LAYERS + 1)))
        return space

    def cost(config: Mapping[str, Any], rng: np.random.Generator) -> float:
        choices = [config[f"layer_{layer}"] for layer in range(1, NUM_SMALL_LAYERS + 1)]
        return 1 - spaces_nas_bench_macro.table()["".join(map(str, [*choices, *rest]))]["mean_acc"] / 100

    def evaluate(config: Mapping[str, Any], *, fidelity: float, seed: int) -> float:
        return cost(config, np.random.default_rng(seed))

    return Replay(space=Space(name="small", configspace=configspace, evaluate=evaluate), cost=cost)


def lcbench(task: str) -> Replay:
    def cost(config: Mapping[str, Any], rng: np.random.Generator) -> float:
        return float(spaces_lcbench.costs([config], epochs=spaces_lcbench.MAX_EPOCHS, task=task)[0])

    return Replay(space=spaces_lcbench.SPACE, cost=cost)


def replay_of(name: str) -> Replay:
    """Return the table of a name."""
    table, _, task = name.partition(":")
    if table == "lcbench":
        return lcbench(task)
    return small() if table == "small" else macro(is_noisy=table.endswith("noisy"))


def search(replay: Replay, searcher_name: str, num_trials: int, *, seed: int) -> pd.DataFrame:
    """Return the trials of one search, without times."""
    searcher = make_searcher(
        searcher_name,
        space=replay.space,
        configuration_space=replay.space.configuration_space(seed),
        fidelity=FidelityRange(min=1, max=1),
        seed=seed,
        population=50,
        sample=12,
    )
    rng = np.random.default_rng(seed)
    rows: list[dict[str, Any]] = []
    while len(rows) < num_trials and not searcher.is_exhausted:
        suggestion = searcher.ask()
        assert suggestion is not None
        cost = replay.cost(suggestion.config, rng)
        searcher.tell(suggestion, cost=cost)
        rows.append({f"config.{name}": value for name, value in suggestion.config.items()} | {"cost": cost})
    costs = np.array([row["cost"] for row in rows])
    return pd.DataFrame(rows).assign(
        val_accuracy=1 - costs, trial_id=range(len(rows)), fidelity=1.0, seed=0, status="success"
    )


def predicted(
    trials: pd.DataFrame, space: ConfigurationSpace, num_configs: int | None, num_more: int, *, seed: int
) -> dict[str, Any]:
    """Return what the report says of a day of `num_more` trials."""
    times = np.arange(len(trials)) * (SECONDS_PER_DAY / num_more)
    timed = trials.assign(started_at=times, ended_at=times + SECONDS_PER_DAY / num_more)
    found = marginal_value(*check_table(timed, space), num_configs=num_configs, seed=seed)
    assert found is not None
    return found


def measure(
    name: str, searcher: str, steps: Sequence[tuple[int, int]], *, num_searches: int
) -> dict[str, dict[str, float]]:
    """Return the counts of each step on one table."""
    replay = replay_of(name)
    space = replay.space.configuration_space(0)
    num_configs = count_configurations(space)
    rows: dict[str, list[tuple[float, float, float, float]]] = {f"{first}:{last}": [] for first, last in steps}
    for seed in range(num_searches):
        trials = search(replay, searcher, max(last for _, last in steps), seed=seed)
        costs = trials["cost"].to_numpy(dtype=float)
        for first, last in steps:
            if first >= len(trials):
                continue
            found = predicted(trials.iloc[:first], space, num_configs, last - first, seed=seed)
            gain = costs[:first].min() - costs[:last].min()
            rows[f"{first}:{last}"].append((gain, found["per_day_improvement"], found["low"], found["high"]))
    return {step: _counts(np.array(each)) for step, each in rows.items() if each}


def _counts(rows: np.ndarray) -> dict[str, float]:
    gain, expected, low, high = rows.T
    slack = 1e-12
    return {
        "all": len(rows),
        "held": int(((low - slack <= gain) & (gain <= high + slack)).sum()),
        "above": int((gain > high + slack).sum()),
        "width": float((high - low).mean()),
        "expected": float(expected.mean()),
        "gain": float(gain.mean()),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--searches", type=int, default=20, help="searches of each table")
    parser.add_argument("--searchers", default="random,evolution")
    parser.add_argument("--tables", default="nas-bench-macro,nas-bench-macro-noisy,small")
    parser.add_argument("--steps", default="25:50,50:100,100:200,200:400,50:400", help="from:to numbers of trials")
    add_json_option(parser)
    arguments = parser.parse_args()
    steps = [(int(first), int(last)) for first, _, last in (step.partition(":") for step in arguments.steps.split(","))]
    print(
        f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores, {arguments.searches} searches a table"
    )
    measured = {}
    for name in arguments.tables.split(","):
        for searcher in arguments.searchers.split(","):
            found = measure(name, searcher, steps, num_searches=arguments.searches)
            for step, count in found.items():
                below = count["all"] - count["held"] - count["above"]
                print(
                    f"{name}, {searcher}, {step:<8} {count['held']}/{count['all']} (+{count['above']} -{below})  "
                    f"width {100 * count['width']:.2f}, expected {100 * count['expected']:.2f}, "
                    f"true {100 * count['gain']:.2f}",
                    flush=True,
                )
            measured[f"{name}, {searcher}"] = found
    keep(arguments, replays=measured)


if __name__ == "__main__":
    main()
