"""Regret against epochs on LCBench's learning curves: searchers over several fidelities and baselines that are hard to beat.

    python -m benchmarks.multi_fidelity [--data FOLDER] [--tasks 8] [--seeds 20] [--arms smac,smac-forest,random-top,tpe]

An arm spends epochs: a promoted trial only those that its lower rung has not trained. Regret is that of the best configuration that has
run all 50 epochs, 1 being the median of 2,000 random configurations and 0 their best or better; without any it is 1. The table holds
the mean over tasks and seeds with its 95 % bootstrap interval after 5, 10 and 20 full trainings' worth of epochs.

Arms: `smac` (the default, a Gaussian process of all rungs), `smac-forest` (a forest of one rung), `smac-hyperband` (its brackets,
which promote fewer), `ensemble`, all over 2, 10 and 50 epochs; `random`, in full; `random-top`, as many random configurations for 2
epochs as half of the budget pays, and then the best in full; `tpe`, Optuna's TPE with its Hyperband pruner, which is left out where
Optuna is not installed (`pip install naxcli[bench]`).
"""

from __future__ import annotations

import importlib.util
import itertools
import sys
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np

from benchmarks import regret
from benchmarks import spaces_lcbench as lcbench
from benchmarks.regret import LADDER, Step
from benchmarks.results import keep
from naxcli.search_space.enumeration import sample_configs
from naxcli.searchers import make_searcher
from naxcli.settings.choices import PROMOTIONS, SEARCHER_MODELS

CHECKPOINTS = (5, 10, 20)  # full trainings

Evaluate = Callable[[Mapping[str, Any], float], float]


def ours(name: str, evaluate: Evaluate, seed: int) -> Iterator[Step]:
    """Yield the trials of one of naxcli's searchers."""
    searcher, _, variant = name.partition("-")
    asking = make_searcher(
        searcher,
        space=lcbench.SPACE,
        configuration_space=lcbench.configspace(seed),
        fidelity=LADDER,
        seed=seed,
        model=variant if variant in SEARCHER_MODELS else SEARCHER_MODELS[0],
        promotion=variant if variant in PROMOTIONS else PROMOTIONS[0],
    )
    trained: dict[str, float] = {}
    while True:
        suggestion = asking.ask()
        assert suggestion is not None
        cost = evaluate(suggestion.config, suggestion.fidelity)
        spent = suggestion.fidelity - trained.get(suggestion.config_id, 0.0)
        trained[suggestion.config_id] = suggestion.fidelity
        asking.tell(suggestion, cost=cost)
        yield spent, cost if suggestion.fidelity == LADDER.max else None


def random_search(evaluate: Evaluate, seed: int) -> Iterator[Step]:
    """Yield full trainings of random configurations."""
    for config in sample_configs(lcbench.configspace(seed), 10 * max(CHECKPOINTS), seed):
        yield LADDER.max, evaluate(config, LADDER.max)


def random_top(evaluate: Evaluate, seed: int) -> Iterator[Step]:
    """Yield short trainings for half of the budget, and then the full ones of the best of them, best first."""
    number = int(max(CHECKPOINTS) / 2 * LADDER.max / LADDER.min)
    configs = sample_configs(lcbench.configspace(seed), number, seed)
    short = [evaluate(config, LADDER.min) for config in configs]
    yield from itertools.repeat((LADDER.min, None), number)
    for index in np.argsort(short, kind="stable"):
        yield LADDER.max - LADDER.min, evaluate(configs[index], LADDER.max)


def tpe(evaluate: Evaluate, seed: int) -> Iterator[Step]:
    """Yield the rungs of Optuna's trials; a pruned one ends early."""
    import optuna
    from ConfigSpace import UniformIntegerHyperparameter

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    pruner = optuna.pruners.HyperbandPruner(
        min_resource=int(LADDER.min), max_resource=int(LADDER.max), reduction_factor=LADDER.eta
    )
    study = optuna.create_study(sampler=optuna.samplers.TPESampler(seed=seed), pruner=pruner)
    while True:
        trial = study.ask()
        config: dict[str, Any] = {}
        for item in lcbench.HYPERPARAMETERS:
            suggest = trial.suggest_int if isinstance(item, UniformIntegerHyperparameter) else trial.suggest_float
            config[item.name] = suggest(item.name, item.lower, item.upper, log=item.log)  # type: ignore[arg-type]
        trained, cost = 0.0, 0.0
        for fidelity in LADDER.rungs():
            cost = evaluate(config, fidelity)
            yield fidelity - trained, cost if fidelity == LADDER.max else None
            trained = fidelity
            trial.report(cost, int(fidelity))
            if fidelity < LADDER.max and trial.should_prune():
                study.tell(trial, state=optuna.trial.TrialState.PRUNED)
                break
        else:
            study.tell(trial, cost)


def steps(arm: str, task: str, seed: int) -> Iterator[Step]:
    """Return the trials of an arm."""

    def evaluate(config: Mapping[str, Any], epochs: float) -> float:
        return float(lcbench.costs([config], epochs=epochs, task=task)[0])

    baselines = {"random": random_search, "random-top": random_top, "tpe": tpe}
    return baselines[arm](evaluate, seed) if arm in baselines else ours(arm, evaluate, seed)


def main() -> None:
    """Measure and print the table."""
    parser = regret.parser(__doc__, seeds=20, arms="smac,smac-hyperband,smac-forest,ensemble,random,random-top,tpe")
    arguments = parser.parse_args()
    arms = arguments.arms.split(",")
    if "tpe" in arms and importlib.util.find_spec("optuna") is None:
        print("tpe is left out: Optuna is not installed (pip install naxcli[bench])", file=sys.stderr)
        arms.remove("tpe")
    measured = regret.measure(arguments, arms, steps, at=CHECKPOINTS)
    keep(arguments, **measured)
    regret.print_table(arguments, measured["regrets"], at=CHECKPOINTS)


if __name__ == "__main__":
    main()
