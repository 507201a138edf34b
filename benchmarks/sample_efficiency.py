"""Sample efficiency on NAS-Bench-Macro: rank of the best configuration after 50, 100 and 200 evaluations.

    python -m benchmarks.sample_efficiency [--data FOLDER] [--seeds 20] [--in-flight 1,8] [--searchers smac,random,tpe]

Every searcher sees the same objective, one result at a time, or with several trials in flight, which end in random
order. Rank 0 is the best of the 6,561 networks; the table holds the median over seeds and the quartiles. How much
accuracy each searcher lacks of the first has an interval over the seeds. `tpe` is Optuna's
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
from collections.abc import Mapping, Sequence
from functools import cache, partial
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from ConfigSpace import ConfigurationSpace
from rich.console import Console
from rich.table import Table

from benchmarks.cells import Cell, add_cell_options, measured_cells
from benchmarks.regret import interval
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


@cache
def table_of_costs(data: Path | None) -> tuple[Space, dict[tuple[Any, ...], float]]:
    """Return the space, and the cost of each of its configurations by `identity`."""
    if data is not None:
        os.environ["NAS_BENCH_MACRO"] = str(data)
    space = load_space(str(SPACE_FILE))
    assert space.evaluate is not None
    objective = space.evaluate
    configs = all_configs(space.configuration_space(0))
    return space, {identity(config): float(objective(config, fidelity=1.0, seed=0)["cost"]) for config in configs}  # type: ignore[index]


def search(cell: tuple[str, int, int], *, data: Path | None) -> dict[str, Any]:
    """Return the rank and the accuracy missing of the best configuration at each checkpoint, and seconds per evaluation.

    Args:
        cell: name of a searcher, trials in flight and a seed.
        data: folder of the table; None for the one that `spaces_nas_bench_macro` finds.
    """
    name, num_in_flight, seed = cell
    space, costs = table_of_costs(data)
    in_order = sorted(costs.values())
    arm, order = make_arm(name, space, seed, num_in_flight), random.Random(seed)
    running: list[tuple[Any, Config]] = []
    best: list[float] = []
    started = time.perf_counter()
    while len(best) < max(CHECKPOINTS):
        while len(running) < num_in_flight:
            running.append(arm.ask())
        handle, config = running.pop(order.randrange(num_in_flight))
        cost = costs[identity(config)]
        arm.tell(handle, cost)
        best.append(min(cost, best[-1]) if best else cost)
    at = [best[number - 1] for number in CHECKPOINTS]
    return {
        "ranks": [bisect_left(in_order, cost) for cost in at],  # of equals, that of the first
        "missing": [cost - in_order[0] for cost in at],
        "seconds": (time.perf_counter() - started) / len(best),
    }


def identity(config: Config) -> tuple[Any, ...]:
    """Return a configuration as a key, whatever the order of its hyperparameters."""
    return tuple(sorted(config.items()))


def all_configs(configuration_space: ConfigurationSpace) -> list[Config]:
    """Return every configuration of the space."""
    from naxcli.search_space.enumeration import enumerate_configurations

    everything = enumerate_configurations(configuration_space)
    assert everything is not None
    return [everything.config(row) for row in range(len(everything))]


def print_tables(found: Mapping[Cell, Mapping[str, Any]], names: Sequence[str], num_in_flight: int) -> None:
    """Print the ranks of each searcher, and what each lacks of the accuracy of the first."""
    of_name = {
        name: [row for (n, flight, _), row in found.items() if (n, flight) == (name, num_in_flight)] for name in names
    }
    num_seeds = len(of_name[names[0]])
    table = Table(title=f"rank of the best of 6,561, {num_seeds} seeds, {num_in_flight} in flight")
    table.add_column("searcher")
    for column in (*(f"after {number}" for number in CHECKPOINTS), "seconds per evaluation"):
        table.add_column(column, justify="right")
    for name, rows in of_name.items():
        at = np.quantile([row["ranks"] for row in rows], [0.5, 0.25, 0.75], axis=0).T
        cells = [f"{median:g} ({low:g} to {high:g})" for median, low, high in at]
        table.add_row(name, *cells, f"{np.mean([row['seconds'] for row in rows]):.3f}")
    Console(width=120).print(table)
    missing = {name: 100 * np.array([row["missing"] for row in rows]) for name, rows in of_name.items()}
    for name in names[1:]:
        # Of the same seeds, at each checkpoint.
        at = [interval(behind[None]) for behind in (missing[name] - missing[names[0]]).T]
        texts = (f"{mean:+.3f} ({low:+.3f} to {high:+.3f})" for mean, low, high in at)
        print(f"{name}: points of accuracy below {names[0]}, mean and 95 % interval: {', '.join(texts)}")


def main() -> None:
    """Measure and print the tables."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", type=Path, help="folder of nas-bench-macro_cifar10.json")
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--in-flight", default="1", help="trials in flight, separated by commas")
    parser.add_argument(
        "--searchers", default="", help=f"of {', '.join(SEARCHERS)}, tpe, smac-facade; separated by commas"
    )
    add_cell_options(parser)
    arguments = parser.parse_args()
    names = arguments.searchers.split(",") if arguments.searchers else [*SEARCHERS, "tpe"]
    if "tpe" in names and importlib.util.find_spec("optuna") is None:
        print("tpe is left out: Optuna is not installed (pip install naxcli[bench])", file=sys.stderr)
        names.remove("tpe")
    flights = [int(number) for number in arguments.in_flight.split(",")]
    cells = [(name, flight, seed) for seed in range(arguments.seeds) for flight in flights for name in names]
    found = measured_cells(arguments, cells, partial(search, data=arguments.data))
    for flight in flights:
        print_tables(found, names, flight)


if __name__ == "__main__":
    main()
