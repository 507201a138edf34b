"""Sample efficiency on NAS-Bench-Macro: rank of the best configuration after 50, 100 and 200 evaluations.

    python -m benchmarks.sample_efficiency [--data FOLDER] [--seeds 20] [--workers 1] [--searchers smac,random,tpe]

Every searcher sees the same objective, one result at a time, or with `--workers N` N trials in flight that end in random
order. Rank 0 is the best of the 6,561 networks; the table holds the median over seeds and the quartiles. `tpe` is Optuna's
default sampler and is left out where Optuna is not installed (`pip install naxcli[bench]`). `smac-facade` is SMAC's own
HyperparameterOptimizationFacade with its defaults, driven by ask and tell; it takes minutes a seed.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import random
import sys
import tempfile
import time
from bisect import bisect_left
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
from ConfigSpace import ConfigurationSpace
from rich.console import Console
from rich.table import Table

from naxcli.records.trial import Config
from naxcli.search_space.contract import Space, load_space, plain_config
from naxcli.searchers import FidelityRange, make_searcher
from naxcli.settings.choices import SEARCHERS

CHECKPOINTS = (50, 100, 200)
SPACE_FILE = Path(__file__).with_name("spaces_nas_bench_macro.py")


class Arm(Protocol):
    """A searcher under test: returns a handle and a configuration, and takes the handle back with a cost."""

    def ask(self) -> tuple[Any, Config]: ...

    def tell(self, handle: Any, cost: float) -> None: ...


class OurSearcher:
    """One of naxcli's searchers."""

    def __init__(self, name: str, space: Space, seed: int, num_workers: int) -> None:
        self._searcher = make_searcher(
            name,
            space=space,
            configuration_space=space.configuration_space(seed),
            fidelity=FidelityRange(min=1, max=1),
            seed=seed,
            max_in_flight=num_workers,
            population=50,
            sample=12,
        )

    def ask(self) -> tuple[Any, Config]:
        suggestion = self._searcher.ask()
        assert suggestion is not None
        return suggestion, suggestion.config

    def tell(self, handle: Any, cost: float) -> None:
        self._searcher.tell(handle, cost=cost)


class OptunaTPE:
    """Optuna's default sampler; `constant_liar`, as its documentation advises, where several trials run at once."""

    def __init__(self, space: Space, seed: int, num_workers: int) -> None:
        import optuna

        optuna.logging.set_verbosity(optuna.logging.ERROR)
        self._choices = {name: hp.choices for name, hp in space.configuration_space(0).items()}
        sampler = optuna.samplers.TPESampler(seed=seed, constant_liar=num_workers > 1)
        self._study = optuna.create_study(sampler=sampler)

    def ask(self) -> tuple[Any, Config]:
        trial = self._study.ask()
        return trial, {name: trial.suggest_categorical(name, choices) for name, choices in self._choices.items()}

    def tell(self, handle: Any, cost: float) -> None:
        self._study.tell(handle, cost)


class SmacFacade:
    """SMAC as it comes, by ask and tell."""

    def __init__(self, space: Space, seed: int, num_workers: int) -> None:
        from smac import HyperparameterOptimizationFacade, Scenario

        self._folder = tempfile.TemporaryDirectory()
        scenario = Scenario(
            space.configuration_space(seed),
            output_directory=Path(self._folder.name),
            deterministic=True,
            seed=seed,
            n_trials=max(CHECKPOINTS),
        )
        intensifier = HyperparameterOptimizationFacade.get_intensifier(scenario, max_config_calls=1)
        self._smac = HyperparameterOptimizationFacade(
            scenario, lambda config, seed=0: 0.0, intensifier=intensifier, logging_level=False
        )

    def ask(self) -> tuple[Any, Config]:
        info = self._smac.ask()
        return info, plain_config(info.config)

    def tell(self, handle: Any, cost: float) -> None:
        from smac.runhistory import TrialValue

        self._smac.tell(handle, TrialValue(cost=cost), save=False)


def make_arm(name: str, space: Space, seed: int, num_workers: int) -> Arm:
    """Return the searcher of a name."""
    if name == "tpe":
        return OptunaTPE(space, seed, num_workers)
    if name == "smac-facade":
        return SmacFacade(space, seed, num_workers)
    return OurSearcher(name, space, seed, num_workers)


def best_ranks(
    arm: Arm, *, evaluate: Callable[[Config], float], rank_of: Callable[[Config], int], num_workers: int, seed: int
) -> list[int]:
    """Return the rank of the best evaluated configuration after each evaluation."""
    order = random.Random(seed)
    running: list[tuple[Any, Config]] = []
    best_cost, best_rank = float("inf"), -1
    ranks: list[int] = []
    while len(ranks) < max(CHECKPOINTS):
        while len(running) < num_workers:
            running.append(arm.ask())
        handle, config = running.pop(order.randrange(num_workers))
        cost = evaluate(config)
        arm.tell(handle, cost)
        if cost < best_cost:
            best_cost, best_rank = cost, rank_of(config)
        ranks.append(best_rank)
    return ranks


def measure(names: Sequence[str], *, num_seeds: int, num_workers: int) -> dict[str, tuple[npt.NDArray[np.int_], float]]:
    """Return per searcher the ranks, (num_seeds, evaluations), and seconds per evaluation."""
    space = load_space(str(SPACE_FILE))
    assert space.evaluate is not None
    objective = space.evaluate

    def evaluate(config: Config) -> float:
        return float(objective(config, fidelity=1.0, seed=0)["cost"])  # type: ignore[index]

    costs = {identity(config): evaluate(config) for config in all_configs(space.configuration_space(0))}
    in_order = sorted(costs.values())

    def rank_of(config: Config) -> int:
        return bisect_left(in_order, costs[identity(config)])  # of equals, that of the first

    measured = {}
    for name in names:
        started = time.perf_counter()
        rows = []
        for seed in range(num_seeds):
            arm = make_arm(name, space, seed, num_workers)
            rows.append(best_ranks(arm, evaluate=evaluate, rank_of=rank_of, num_workers=num_workers, seed=seed))
            print(f"{name}: seed {seed + 1} of {num_seeds}", end="\r", file=sys.stderr)
        seconds = time.perf_counter() - started
        measured[name] = (np.array(rows), seconds / (num_seeds * max(CHECKPOINTS)))
    return measured


def identity(config: Config) -> tuple[Any, ...]:
    """Return a configuration as a key, whatever the order of its hyperparameters."""
    return tuple(sorted(config.items()))


def all_configs(configuration_space: ConfigurationSpace) -> list[Config]:
    """Return every configuration of the space."""
    from naxcli.search_space.enumeration import enumerate_configurations

    everything = enumerate_configurations(configuration_space)
    assert everything is not None
    return [everything.config(row) for row in range(len(everything))]


def main() -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", type=Path, help="folder of nas-bench-macro_cifar10.json")
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--workers", type=int, default=1, help="trials in flight")
    parser.add_argument(
        "--searchers", default="", help=f"of {', '.join(SEARCHERS)}, tpe, smac-facade; separated by commas"
    )
    arguments = parser.parse_args()
    if arguments.data is not None:
        os.environ["NAS_BENCH_MACRO"] = str(arguments.data)
    names = arguments.searchers.split(",") if arguments.searchers else [*SEARCHERS, "tpe"]
    if "tpe" in names and importlib.util.find_spec("optuna") is None:
        print("tpe is left out: Optuna is not installed (pip install naxcli[bench])", file=sys.stderr)
        names.remove("tpe")
    table = Table(title=f"rank of the best of 6,561, {arguments.seeds} seeds, {arguments.workers} in flight")
    for column in ("searcher", *(f"after {number}" for number in CHECKPOINTS), "seconds per evaluation"):
        table.add_column(column, justify="left" if column == "searcher" else "right")
    for name, (ranks, seconds) in measure(names, num_seeds=arguments.seeds, num_workers=arguments.workers).items():
        at = [np.quantile(ranks[:, number - 1], [0.5, 0.25, 0.75]) for number in CHECKPOINTS]
        cells = [f"{median:g} ({low:g} to {high:g})" for median, low, high in at]
        table.add_row(name, *cells, f"{seconds:.3f}")
    Console().print(table)


if __name__ == "__main__":
    main()
