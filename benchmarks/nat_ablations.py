"""Ablations of `ensemble` on NAS-Bench-Macro: what pretraining, its targets, and a cheap fidelity are worth.

    python -m benchmarks.nat_ablations [--data FOLDER] [--seeds 20] [--arms ensemble,untrained,num_params,flops]

Paper: Ouertatani et al., "Neural Architecture Tuning" (NAT), OLA 2024, which claims good architectures in fewer than 100 full
evaluations. A full evaluation is the mean accuracy of the table's three seeds. An arm has `--evaluations` of them, or what costs as
much, and ends where it finds the best of the 6,561 networks.

Arms of one fidelity: `ensemble`, pretrained as a search has it, on all zero-cost metrics of the table at once; `untrained`, from
random weights; `num_params` and `flops`, pretrained on that one alone; `smac`; `random`. Of two fidelities:

    seeds                           the low one is one of the three seeds, for a third of the cost
    noise, noise-untrained          it is the full result with normal noise of `--noise` points of accuracy, for 12 / 240 of the cost
    smac-noise                      the same for `smac`

The noise stands for what fewer epochs would do, of which the table has none. The trunk that is pretrained does not depend on the
seed of a search, as in a search. Ctrl-C prints the table of the seeds that are complete.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from rich.console import Console
from rich.table import Table

from benchmarks import spaces_nas_bench_macro as macro
from benchmarks.regret import interval
from benchmarks.results import add_json_option, keep
from naxcli.commands.prepare import pretrained_trunk
from naxcli.records.trial import Config
from naxcli.search_space.contract import Space, load_space, space_digest
from naxcli.search_space.prepared import PreparedSpace
from naxcli.search_space.zero_cost import SAMPLE_SEED, config_of, sample_to_measure
from naxcli.searchers import FidelityRange, make_searcher

SHARES = (0.2, 0.5, 1.0)  # of the budget, after which ranks are told
ALL = ("flops", "num_params")
FULL = FidelityRange(min=1, max=1)
SEEDS = FidelityRange(min=1, max=3)
NOISE = FidelityRange(min=12, max=240, eta=20)  # the paper's epochs

Values = npt.NDArray[np.float64]  # (num_seeds,)
Improvements = list[tuple[float, int]]  # of one search: full evaluations spent, and the rank of the best of them


@dataclass(frozen=True, slots=True, kw_only=True)
class Arm:
    """A searcher under test.

    Args:
        searcher: of naxcli.
        metrics: that the ensemble is pretrained on; none for random weights.
        fidelity: whose highest is a full evaluation; a trial costs its share of that.
    """

    searcher: str = "ensemble"
    metrics: tuple[str, ...] = ()
    fidelity: FidelityRange = FULL


ARMS = {
    "random": Arm(searcher="random"),
    "smac": Arm(searcher="smac"),
    "ensemble": Arm(metrics=ALL),
    "untrained": Arm(),
    "num_params": Arm(metrics=("num_params",)),
    "flops": Arm(metrics=("flops",)),
    "seeds": Arm(metrics=ALL, fidelity=SEEDS),
    "noise": Arm(metrics=ALL, fidelity=NOISE),
    "noise-untrained": Arm(fidelity=NOISE),
    "smac-noise": Arm(searcher="smac", fidelity=NOISE),
}


def accuracy(config: Config, fidelity: float, arm: Arm, *, seed: int, noise: float) -> float:
    """Return the accuracy of a trial in percent."""
    result = macro.table()[macro.key(config)]
    if fidelity == arm.fidelity.max:
        return float(result["mean_acc"])
    if arm.fidelity == SEEDS:
        return float(result["test_acc"][seed % len(result["test_acc"])])
    rng = np.random.default_rng([seed, int(macro.key(config), base=3)])
    return float(result["mean_acc"] + noise * rng.standard_normal())


def prepared(space: Space, metrics: Sequence[str]) -> PreparedSpace | None:
    """Return what `naxcli space prepare` would make of some metrics of the space alone, None where there are none."""
    if not metrics:
        return None
    configuration_space = space.configuration_space(SAMPLE_SEED)
    vectors = sample_to_measure(configuration_space)
    measured = [space.cheap_metrics(config_of(space, configuration_space, vector)) for vector in vectors]
    table = np.array([[values[name] for name in metrics] for values in measured], dtype=np.float64)
    return PreparedSpace(
        reference=space.origin,
        name=space.name,
        version=space.version,
        digest=space_digest(space),
        shape={},
        metric_names=tuple(metrics),
        vectors=vectors,
        metrics=table,
        trunk=pretrained_trunk(configuration_space, vectors, table),
    )


def full_results(
    arm: Arm, space: Space, start: PreparedSpace | None, *, seed: int, noise: float
) -> Iterator[tuple[float, Config]]:
    """Yield what was spent, in full evaluations, and the configuration, after each of an arm's full evaluations."""
    searcher = make_searcher(
        arm.searcher,
        space=space,
        configuration_space=space.configuration_space(seed),
        fidelity=arm.fidelity,
        seed=seed,
        prepared=start,
    )
    spent = 0.0
    while True:
        suggestion = searcher.ask()
        assert suggestion is not None
        spent += suggestion.fidelity / arm.fidelity.max
        reached = accuracy(suggestion.config, suggestion.fidelity, arm, seed=seed, noise=noise)
        searcher.tell(suggestion, cost=1 - reached / 100)
        if suggestion.fidelity == arm.fidelity.max:
            yield spent, suggestion.config


def improvements(results: Iterator[tuple[float, Config]], ranks: Mapping[str, int], budget: float) -> Improvements:
    """Return the full evaluations that were better than all before, until the best network or the budget is reached."""
    found: Improvements = []
    for spent, config in results:
        if spent > budget + 1e-9:
            break
        rank = ranks[macro.key(config)]
        if not found or rank < found[-1][1]:
            found.append((spent, rank))
        if rank == 0:
            break
    return found


def measure(names: Sequence[str], *, num_seeds: int, budget: float, noise: float) -> Iterator[dict[str, Improvements]]:
    """Yield what each arm found, one seed after another."""
    space = load_space(macro.__file__)
    ranks = ranks_of_networks()
    starts = {name: prepared(space, ARMS[name].metrics) for name in names}
    for seed in range(num_seeds):
        found = {}
        for name in names:
            results = full_results(ARMS[name], space, starts[name], seed=seed, noise=noise)
            found[name] = improvements(results, ranks, budget)
            print(f"seed {seed}, {name}: {found[name]}", file=sys.stderr, flush=True)
        yield found


def ranks_of_networks() -> dict[str, int]:
    """Return how many networks of the table are better than each: the best two are equal."""
    accuracies = sorted(result["mean_acc"] for result in macro.table().values())
    return {key: len(accuracies) - bisect_right(accuracies, value["mean_acc"]) for key, value in macro.table().items()}


def ranks_after(found: Sequence[Improvements], number: float) -> list[int]:
    """Return the rank that each seed had reached after so many full evaluations."""
    return [min(rank for spent, rank in steps if spent <= number + 1e-9) for steps in found]


def evaluations_to_best(found: Sequence[Improvements], *, otherwise: float) -> Values:
    """Return what each seed had spent when it found the best network, another number where it did not."""
    return np.array([steps[-1][0] if steps[-1][1] == 0 else otherwise for steps in found])


def quartiles(values: Sequence[float] | Values) -> str:
    """Return the median and the quartiles, a dash for what was not reached."""
    low, median, high = (
        f"{value:.4g}" if value < np.inf else "–"
        for value in np.quantile(values, [0.25, 0.5, 0.75], method="inverted_cdf")
    )
    return f"{median} ({low} to {high})"


def print_table(measured: Mapping[str, list[Improvements]], *, budget: float) -> None:
    """Print the ranks, when the best was found, and the mean of how much later than by `ensemble`, where never counts as the budget."""
    num_seeds = len(next(iter(measured.values())))
    table = Table(title=f"rank of the best of {len(macro.table()):,} after full evaluations, n = {num_seeds} seeds")
    numbers = [share * budget for share in SHARES]
    for column in ("arm", *(f"after {number:g}" for number in numbers), "until the best", "later than ensemble"):
        table.add_column(column, justify="left" if column == "arm" else "right")
    for name, found in measured.items():
        cells = [quartiles(ranks_after(found, number)) for number in numbers]
        cells.append(quartiles(evaluations_to_best(found, otherwise=np.inf)))
        if "ensemble" in measured and name != "ensemble":
            later, base = (evaluations_to_best(each, otherwise=budget) for each in (found, measured["ensemble"]))
            mean, low, high = interval((later - base)[None])
            cells.append(f"{mean:.1f} ({low:.1f} to {high:.1f})")
        table.add_row(name, *cells)
    Console(width=140).print(table)


def arguments_given() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", type=Path, help="folder of nas-bench-macro_cifar10.json")
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--evaluations", type=float, default=100, help="what an arm may cost, in full evaluations")
    parser.add_argument("--arms", default=",".join(ARMS))
    parser.add_argument("--noise", type=float, default=1.0, help="standard deviation, in points of accuracy")
    add_json_option(parser)
    return parser.parse_args()


def main() -> None:
    """Measure and print the table."""
    arguments = arguments_given()
    if arguments.data is not None:
        os.environ["NAS_BENCH_MACRO"] = str(arguments.data)
    measured: dict[str, list[Improvements]] = {name: [] for name in arguments.arms.split(",")}
    seeds = measure(list(measured), num_seeds=arguments.seeds, budget=arguments.evaluations, noise=arguments.noise)
    with contextlib.suppress(KeyboardInterrupt):
        for found in seeds:
            for name, steps in found.items():
                measured[name].append(steps)
            keep(arguments, measured=measured)
    print_table(measured, budget=arguments.evaluations)


if __name__ == "__main__":
    main()
