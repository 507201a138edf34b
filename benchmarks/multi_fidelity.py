"""Regret against epochs: searchers over several fidelities and baselines that are hard to beat.

    python -m benchmarks.multi_fidelity [--data FOLDER] [--tasks 8] [--seeds 20] [--arms smac,random-top,tpe] [--into FILE] [--plot FILE]
    python -m benchmarks.multi_fidelity --ladder 1:27:3 --arms smac,smac-hyperband
    python -m benchmarks.multi_fidelity --trials experiments/nexception-cpu/records/trials.parquet --space nexception
    python -m benchmarks.multi_fidelity --noise 1

On LCBench's learning curves, on recorded trials as `naxcli space from-trials` makes a space of them, or on NAS-Bench-Macro with noise for
shorter trainings. An arm spends epochs: a promoted trial only those that its lower rung has not trained. Regret is that of the
configuration with the least cost of those that have run to the highest fidelity, 1 being the median of 2,000 random configurations and 0
their best or better; without any it is 1. The table holds the mean over tasks and seeds with its 95 % bootstrap interval after 5, 10 and
20 full trainings' worth of epochs, and paired differences from the first arm; with --into, the same command goes on where an interrupted
one ended, or with more seeds.

Arms: `smac` (the default, a Gaussian process of all rungs), `smac-halving` (brackets that promote more to the highest rung),
`smac-hyperband` (its brackets, which promote fewer), `smac-forest` (a forest of one rung), `smac-forest-hyperband` (both, what the default
was at first), `ensemble` (or `ensemble-halving`), all over LCBench's 2, 10 and 50 epochs, the ladder that is asked for, or the recorded
one; `smac-agreeing` and `smac-misleading`, which start from what such a search has found on another of LCBench's tasks after 20 full
trainings' worth: on that whose costs have the highest correlation with those of the task, or the lowest; `random`, in full; `random-top`,
as many random configurations at the lowest rung as half of the budget pays, and then the best in full; `oracle`, a bound for whoever
draws at random: all epochs go to random configurations at the lowest rung, and the best of them is known without training it on;
`tpe`, Optuna's TPE with its Hyperband pruner, which is left out where Optuna is not installed (`pip install naxcli[bench]`).
"""

from __future__ import annotations

import importlib.util
import itertools
import sys
from collections.abc import Iterator
from typing import Any

import numpy as np

from benchmarks import regret
from benchmarks.regret import OTHER_TASKS, Objective, Step
from naxcli.search_space.domains import choices_of
from naxcli.search_space.earlier import EarlierResult, EarlierResults
from naxcli.search_space.enumeration import sample_configs
from naxcli.searchers import make_searcher
from naxcli.settings.choices import PROMOTIONS, SEARCHER_MODELS

CHECKPOINTS = (1, 2, 3, 5, 7, 10, 14, 20)  # full trainings
SHOWN = (5, 10, 20)
SOURCE_SEEDS = 1_000  # the search on another task has other seeds
OURS = ("smac", "smac-halving", "smac-hyperband", "smac-forest", "smac-forest-hyperband", "ensemble")
ARMS = (*OURS, "random", "random-top", "oracle", "tpe")


def ours(name: str, objective: Objective, seed: int) -> Iterator[Step]:
    """Yield the trials of one of naxcli's searchers."""
    for epochs, result in results(name, objective, seed):
        yield Step(epochs, result.config if result.fidelity == objective.ladder.max else None)


def results(name: str, objective: Objective, seed: int) -> Iterator[tuple[float, EarlierResult]]:
    """Yield what one of naxcli's searchers spends and finds, in turn."""
    searcher, *variants = name.split("-")
    asking = make_searcher(
        searcher,
        space=objective.space,
        configuration_space=objective.space.configuration_space(seed),
        fidelity=objective.ladder,
        seed=seed,
        model=next((model for model in SEARCHER_MODELS if model in variants), SEARCHER_MODELS[0]),
        promotion=next((promotion for promotion in PROMOTIONS if promotion in variants), PROMOTIONS[0]),
        earlier=[earlier(searcher, objective, which, seed) for which in OTHER_TASKS if which in variants],
    )
    trained: dict[str, float] = {}
    while True:
        suggestion = asking.ask()
        assert suggestion is not None
        cost = objective.cost(suggestion.config, suggestion.fidelity, seed)
        asking.tell(suggestion, cost=cost)
        epochs = suggestion.fidelity - trained.get(suggestion.config_id, 0.0)
        trained[suggestion.config_id] = suggestion.fidelity
        yield epochs, EarlierResult(config=suggestion.config, fidelity=suggestion.fidelity, cost=cost)


def earlier(searcher: str, objective: Objective, which: str, seed: int) -> EarlierResults:
    """Return what a searcher has found on another task when it has spent as much as the last checkpoint."""
    assert objective.other is not None, f"{objective.name} has no other task to start from"
    source = objective.other(which)
    found, spent = [], 0.0
    for epochs, result in results(searcher, source, SOURCE_SEEDS + seed):
        spent += epochs
        if spent > max(CHECKPOINTS) * source.ladder.max:
            break
        found.append(result)
    return EarlierResults(source=source.name, results=tuple(found))


def random_search(objective: Objective, seed: int) -> Iterator[Step]:
    """Yield full trainings of random configurations."""
    for config in sample_configs(objective.space.configuration_space(seed), 10 * max(CHECKPOINTS), seed):
        yield Step(objective.ladder.max, config)


def random_top(objective: Objective, seed: int) -> Iterator[Step]:
    """Yield short trainings for half of the budget, and then the full ones of the best of them, best first."""
    low, high = objective.ladder.min, objective.ladder.max
    number = int(max(CHECKPOINTS) / 2 * high / low)
    configs = sample_configs(objective.space.configuration_space(seed), number, seed)
    short = [objective.cost(config, low, seed) for config in configs]
    yield from itertools.repeat(Step(low), number)
    for index in np.argsort(short, kind="stable"):
        yield Step(high - low, configs[index])


def oracle(objective: Objective, seed: int) -> Iterator[Step]:
    """Yield random configurations at the cost of the lowest rung, as if each had been trained in full."""
    number = int(max(CHECKPOINTS) * objective.ladder.max / objective.ladder.min) + 1
    for config in sample_configs(objective.space.configuration_space(seed), number, seed):
        yield Step(objective.ladder.min, config)


def tpe(objective: Objective, seed: int) -> Iterator[Step]:
    """Yield the rungs of Optuna's trials; a pruned one ends early."""
    import optuna

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    ladder, configspace = objective.ladder, objective.space.configuration_space(0)
    pruner = optuna.pruners.HyperbandPruner(
        min_resource=int(ladder.min), max_resource=int(ladder.max), reduction_factor=ladder.eta
    )
    # The pruner deals trials to its brackets by the study's name, which is random where none is given.
    study = optuna.create_study(study_name=str(seed), sampler=optuna.samplers.TPESampler(seed=seed), pruner=pruner)
    while True:
        trial = study.ask()
        config = objective.space.canonicalise(suggested(trial, configspace))
        trained, cost = 0.0, 0.0
        for fidelity in ladder.rungs():
            cost = objective.cost(config, fidelity, seed)
            yield Step(fidelity - trained, config if fidelity == ladder.max else None)
            trained = fidelity
            trial.report(cost, int(fidelity))
            if fidelity < ladder.max and trial.should_prune():
                study.tell(trial, state=optuna.trial.TrialState.PRUNED)
                break
        else:
            study.tell(trial, cost)


def suggested(trial: Any, configspace: Any) -> dict[str, Any]:
    """Return the configuration that Optuna suggests, asked for what is active alone."""
    config: dict[str, Any] = {}
    for name, item in configspace.items():  # parents first
        if not all(
            condition.parent.name in config and condition.satisfied_by_value(config)
            for condition in configspace.parent_conditions_of[name]
        ):
            continue
        choices = choices_of(item)
        if choices is not None:
            config[name] = trial.suggest_categorical(name, choices)
        else:
            suggest = trial.suggest_int if isinstance(item.lower, int) else trial.suggest_float
            config[name] = suggest(name, item.lower, item.upper, log=item.log)
    return config


def steps(arm: str, objective: Objective, seed: int) -> Iterator[Step]:
    """Return the trials of an arm."""
    baselines = {"random": random_search, "random-top": random_top, "oracle": oracle, "tpe": tpe}
    return baselines[arm](objective, seed) if arm in baselines else ours(arm, objective, seed)


def main() -> None:
    """Measure and print the table."""
    parser = regret.parser(__doc__, seeds=20, arms=",".join(ARMS))
    arguments = parser.parse_args()
    arms = arguments.arms.split(",")
    if "tpe" in arms and importlib.util.find_spec("optuna") is None:
        print("tpe is left out: Optuna is not installed (pip install naxcli[bench])", file=sys.stderr)
        arms.remove("tpe")
    regret.report(arguments, regret.measure(arguments, arms, steps, at=CHECKPOINTS), at=SHOWN)


if __name__ == "__main__":
    main()
