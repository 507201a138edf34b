"""Ending trainings that cannot win, on LCBench's learning curves: against none of it, and against successive halving, at equal epochs.

    python -m benchmarks.early_stopping [--data FOLDER] [--tasks 8] [--seeds 5] [--arms never,early-stop,halving]

All arms search with `smac`. `never` trains every configuration for 50 epochs; `early-stop` ends a training after the
epoch at which its chance to beat the incumbent falls below 5 %, and tells the searcher the cost that it was predicted
to reach; `halving` is successive halving over 2, 10 and 50 epochs that promotes two fifths of each rung, in which a
promoted trial spends only the epochs that its lower rung has not. Regret is that of the best configuration that has
run all 50 epochs, 1 being the median of 2,000 random configurations and 0 their best or better; without any it is 1.
The table holds the mean over tasks and seeds with its 95 % bootstrap interval, and how `early-stop` went: the share of
trainings that it ended, the epochs that those took, and how many of them would have beaten the incumbent.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np

from benchmarks import regret
from benchmarks import spaces_lcbench as lcbench
from benchmarks.multi_fidelity import ours
from benchmarks.regret import LCBENCH_LADDER, Objective, Step
from naxcli.search.early_stopping import EarlyStopping
from naxcli.searchers import FidelityRange, make_searcher
from naxcli.searchers.forecast import MIN_CHANCE

CHECKPOINTS = (2, 5, 10, 15, 20, 25, 30)  # full trainings
SHOWN = (10, 20, 30)
FULL = FidelityRange(min=LCBENCH_LADDER.max, max=LCBENCH_LADDER.max)

Curve = Callable[[Mapping[str, Any]], list[float]]


def curve_of(config: Mapping[str, Any], *, task: str) -> list[float]:
    """Return the costs of a configuration after each epoch."""
    rows = int(LCBENCH_LADDER.max)
    inputs = [[epoch, *(config[item.name] for item in lcbench.HYPERPARAMETERS)] for epoch in range(1, rows + 1)]
    return [float(cost) for cost in lcbench.predicted_costs(inputs, task=task)]


def full_trainings(curve: Curve, seed: int, *, stops: bool) -> Iterator[Step]:
    """Yield the trainings of `smac` over one fidelity, with or without early stopping.

    Args:
        curve: of a configuration.
        seed: of the searcher.
        stops: whether trainings are ended early. The note of one is its epochs, and whether it would have beaten the incumbent.
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
        epochs, predicted, note = len(costs), costs[-1], None
        if forecast is not None:
            for epoch in range(1, len(costs)):
                if forecast.chance(costs[:epoch]) < MIN_CHANCE:
                    epochs, predicted = epoch, max(incumbent, forecast.end(costs[:epoch]))
                    note = (epoch, costs[-1] < incumbent)
                    break
        is_complete = epochs == len(costs)
        stopping.add(suggestion.config, predicted, costs if is_complete else None)
        if is_complete:
            incumbent = min(incumbent, costs[-1])
        searcher.tell(suggestion, cost=predicted)
        yield Step(float(epochs), suggestion.config if is_complete else None, note)


def steps_of(arm: str, objective: Objective, seed: int) -> Iterator[Step]:
    """Return the trials of an arm."""
    if arm == "halving":
        return ours("smac-halving", objective, seed)
    curve = partial(curve_of, task=objective.name)
    return full_trainings(curve, seed, stops=arm == "early-stop")


def describe(told: Sequence[tuple[int, bool]], num_runs: int) -> str:
    """Return in words how the stopped trainings went."""
    if not told:
        return "no training was ended early"
    epochs = np.array([epoch for epoch, _ in told])
    wrong = sum(would_win for _, would_win in told)
    return (
        f"{len(told)} trainings in {num_runs} searches were ended early, after {epochs.mean():.1f} of {LCBENCH_LADDER.max:g} epochs "
        f"(quartiles {np.quantile(epochs, 0.25):.0f} and {np.quantile(epochs, 0.75):.0f}); {wrong} ({wrong / len(told):.1%}) would have won"
    )


def main() -> None:
    """Measure and print the table."""
    arguments = regret.parser(__doc__, seeds=5, arms="never,early-stop,halving").parse_args()
    measured = regret.measure(arguments, arguments.arms.split(","), steps_of, at=CHECKPOINTS)
    regret.report(arguments, measured, at=SHOWN)
    print(describe(measured["notes"].get("early-stop", []), len(measured["tasks"]) * arguments.seeds))


if __name__ == "__main__":
    main()
