"""How often the 95 % intervals of importance hold the truth, counted where the truth is known exactly.

    python -m benchmarks.importance_coverage --searches 4 --trials 50,150,400
    python -m benchmarks.importance_coverage --only nas-bench-macro --searches 5 --first-seed 1000

The truth is enumerated: for NAS-Bench-Macro from its full table, for the made-up functions from their noise-free cost at every value
(16 cells of a number). LPI's truth is that around the incumbent that the search found. For every cell, a function with a noise and a number
of trials, for all of a function, a noise or a number of trials, and for everything it prints of how many samples how many intervals held,
how many truths lay above (+) and below (-), and the mean width: for LPI, fANOVA mains and pairs, and for those of hyperparameters and pairs
that have no effect at all (each also counted among the others). Noise is in units of the standard deviation of the noise-free cost.

With `--all`, the made-up functions have a second, lower fidelity, at which one hyperparameter has no effect, and three kinds more are
counted: tunability (truth enumerated), PED-ANOVA (truth from 20,000 noisy trials) and the difference of fANOVA mains between fidelities.

NAS-Bench-Macro is searched at random and by `smac`, whose trials crowd around the good networks; each trial has the accuracy of one seed.
"""

from __future__ import annotations

import argparse
import functools
import itertools
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations, product
from typing import Any

import numpy as np
import pandas as pd
from ConfigSpace import Categorical, ConfigurationSpace, EqualsCondition, Float, Integer, OrdinalHyperparameter

from benchmarks import spaces_nas_bench_macro
from benchmarks.cells import Cell, add_cell_options, measured_cells
from benchmarks.results import add_json_option, keep
from naxcli.analysis.components import part_codes
from naxcli.analysis.encoding import Encoding, Floats
from naxcli.analysis.lpi import neighbourhood
from naxcli.analysis.ped_anova import Quantiles, ped_anova
from naxcli.analysis.summary import summarise
from naxcli.analysis.table import check_table
from naxcli.analysis.tunability import make_tuning
from naxcli.searchers import FidelityRange, make_searcher

# A share below this is that of a choice without any effect.
NO_EFFECT = 1e-9
NUM_TRUTH_TRIALS = 20_000

SEARCHERS = ("random", "smac")  # of NAS-Bench-Macro

Columns = Mapping[str, Floats]
Interval = tuple[str, float, float, float]  # its kind, the truth, its lower and its upper end


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Problem:
    """A space and its noise-free cost, of the codes of many configurations at once (NaN for inactive ones)."""

    space: ConfigurationSpace
    cost: Callable[[Columns], Floats]

    def cost_of(self, vectors: Floats) -> Floats:
        """Return the costs of rows of ConfigSpace vectors."""
        return self.cost({name: vectors[:, index] for index, name in enumerate(self.space)})


def additive() -> Problem:
    space = ConfigurationSpace()
    space.add(Categorical("a", [0, 1, 2]), Categorical("b", [0, 1]), Categorical("c", [0, 1, 2, 3]))
    space.add(OrdinalHyperparameter("o", [1, 2, 3, 4]), Categorical("none", [0, 1, 2]), Categorical("nothing", [0, 1]))

    def cost(at: Columns) -> Floats:
        return (at["a"] == 2) + 0.6 * at["b"] + 0.3 * (at["c"] == 1) - 0.2 * (at["c"] == 3) + 0.1 * at["o"]

    return Problem(space=space, cost=cost)


def interaction() -> Problem:
    space = ConfigurationSpace()
    space.add(Categorical("a", [0, 1, 2]), Categorical("b", [0, 1, 2]), Categorical("c", [0, 1]))
    space.add(OrdinalHyperparameter("o", [1, 2, 3, 4]), Categorical("d", [0, 1]), Categorical("none", [0, 1, 2]))

    def cost(at: Columns) -> Floats:
        three = 0.5 * (at["a"] == 0) * at["c"] * at["d"]
        return (at["a"] == at["b"]) + 0.4 * (at["a"] == 1) + 0.3 * at["c"] * at["o"] - 0.2 * at["o"] + three

    return Problem(space=space, cost=cost)


def conditional() -> Problem:
    space = ConfigurationSpace()
    space.add(Categorical("se", ["no", "yes"]), OrdinalHyperparameter("ratio", [2, 4, 8, 16]))
    space.add(Categorical("gate", ["sigmoid", "tanh", "relu"]), Categorical("block", [0, 1, 2]))
    space.add(Categorical("kernel", [3, 5]), Categorical("none", [0, 1, 2]))
    space.add(EqualsCondition(space["ratio"], space["se"], "yes"), EqualsCondition(space["gate"], space["se"], "yes"))

    def cost(at: Columns) -> Floats:
        se = at["se"] == 1
        ratio, gate = np.nan_to_num(at["ratio"]), np.nan_to_num(at["gate"])
        return 0.8 * (at["block"] == 1) - 0.5 * se + 0.25 * se * ratio + 0.3 * se * (gate == 2) * at["kernel"]

    return Problem(space=space, cost=cost)


def mixed() -> Problem:
    space = ConfigurationSpace()
    space.add(Float("lr", (1e-4, 1.0), log=True), Float("drop", (0.0, 0.5)), Integer("depth", (1, 8)))
    space.add(Categorical("block", [0, 1, 2]), Float("none", (0.0, 1.0)))

    def cost(at: Columns) -> Floats:
        valley = 4 * (at["lr"] - 0.5 - 0.2 * (at["block"] == 2)) ** 2
        return valley + 0.3 * at["drop"] + 0.4 * (at["depth"] < 0.4) + 0.2 * (at["block"] == 0) * at["drop"]

    return Problem(space=space, cost=cost)


def nas_bench_macro() -> Problem:
    table = spaces_nas_bench_macro.table()
    costs = np.array(
        [1 - table["".join(map(str, codes))]["mean_acc"] / 100 for codes in product((0, 1, 2), repeat=8)]
    ).reshape((3,) * 8)
    space = spaces_nas_bench_macro.configspace()

    def cost(at: Columns) -> Floats:
        found: Floats = costs[tuple(at[f"layer_{layer}"].astype(int) for layer in range(1, 9))]
        return found

    return Problem(space=space, cost=cost)


PROBLEMS = {"additive": additive, "interaction": interaction, "conditional": conditional, "mixed": mixed}


@functools.cache
def fanova_truth(problem: Problem) -> dict[tuple[str, ...], float]:
    """Return the exact shares of variance of all hyperparameters and pairs, over the uniform product of all domains."""
    encoding = Encoding(problem.space)
    grids = [part_codes(domain) for domain in encoding.domains]
    vectors = np.repeat(encoding.defaults[None], np.prod([len(grid) for grid in grids]), axis=0)
    for domain, codes in zip(encoding.domains, np.meshgrid(*grids, indexing="ij"), strict=True):
        vectors[:, domain.index] = codes.reshape(-1)
    costs = problem.cost_of(encoding.repair(vectors)).reshape([len(grid) for grid in grids])
    axes = range(len(grids))

    def closed(*kept: int) -> float:
        return float(costs.mean(axis=tuple(axis for axis in axes if axis not in kept)).var() / costs.var())

    names = [domain.name for domain in encoding.domains]
    mains = {(names[i],): closed(i) for i in axes}
    return mains | {(names[i], names[j]): closed(i, j) - closed(i) - closed(j) for i, j in combinations(axes, 2)}


def lpi_truth(problem: Problem, incumbent: Mapping[str, Any]) -> dict[str, float]:
    """Return the exact share of the variance around an incumbent for each hyperparameter that is active there."""
    encoding = Encoding(problem.space)
    around = neighbourhood(encoding, encoding.vector(dict(incumbent)), {})
    costs = problem.cost_of(around.rows)
    variances = {name: float(costs[part].var()) for name, part in around.parts.items()}
    total = sum(variances.values())
    return {name: variance / total for name, variance in variances.items()} if total > 0 else {}


def tunability_truth(problem: Problem) -> dict[str, float]:
    """Return by how much the best value of each hyperparameter that is active in the default lowers its noise-free cost."""
    encoding = Encoding(problem.space)
    tuning = make_tuning(encoding, encoding.repair(encoding.defaults[None])[0])
    return {name: float(gains[0]) for name, gains in tuning.gains(problem.cost_of(tuning.rows)[None]).items()}


@functools.cache
def separation_truth(problem: Problem, noise: float) -> dict[str, float]:
    """Return the share of the variance of being among the best that each hyperparameter explains, in a large sample."""
    sample = made_up_trials(problem, NUM_TRUTH_TRIALS, noise, seed=0)
    table, vectors = check_table(sample, problem.space)
    found = ped_anova(
        Encoding(problem.space), vectors, table["cost"].to_numpy(dtype=float), Quantiles(), seed=0, has_intervals=False
    )
    return {name: row.estimate.mean or 0.0 for name, row in found.rows.items()}


@functools.cache
def at_low_fidelity(problem: Problem) -> Problem:
    """Return a problem in which the first hyperparameter has no effect."""
    first = Encoding(problem.space).domains[0].name

    def cost(at: Columns) -> Floats:
        return problem.cost({**at, first: np.zeros_like(at[first])})

    return Problem(space=problem.space, cost=cost)


def two_fidelities(problem: Problem, num_trials: int, noise: float, *, seed: int) -> pd.DataFrame:
    """Return trials of a problem, and as many at a lower fidelity."""
    high = made_up_trials(problem, num_trials, noise, seed=seed)
    low = made_up_trials(at_low_fidelity(problem), num_trials, noise, seed=seed + 10_000).assign(fidelity=0.5)
    return pd.concat([low, high], ignore_index=True).assign(trial_id=range(2 * num_trials))


def further_intervals(summary: Mapping[str, Any], problem: Problem, noise: float) -> Iterator[Interval]:
    """Yield those of tunability, PED-ANOVA and differences between fidelities."""
    entry = summary["importance"][-1]
    gains, shares = tunability_truth(problem), separation_truth(problem, noise)
    fanova, low = fanova_truth(problem), fanova_truth(at_low_fidelity(problem))
    for row in entry["tunability"]:
        yield "tunability", gains[row["name"]], row["low"], row["high"]
    for row in entry["ped_anova"]:
        yield "PED-ANOVA", shares[row["name"]], row["low"], row["high"]
    for row in summary["importance_changes"][0]["changes"]:
        if row["method"] == "fanova":
            truth = fanova[(row["name"],)] - low[(row["name"],)]
            yield "difference", truth, row["low"], row["high"]


def made_up_trials(problem: Problem, num_trials: int, noise: float, *, seed: int) -> pd.DataFrame:
    """Return random configurations with noisy costs."""
    problem.space.seed(seed)
    rng = np.random.default_rng(seed)
    configurations = problem.space.sample_configuration(num_trials)
    vectors = np.array([configuration.get_array() for configuration in configurations])
    costs = problem.cost_of(vectors)
    many = np.array([c.get_array() for c in problem.space.sample_configuration(2_000)])
    costs = costs + rng.normal(0, noise * problem.cost_of(many).std(), num_trials)
    rows = [{f"config.{name}": dict(c).get(name) for name in problem.space} for c in configurations]
    return pd.DataFrame(rows).assign(cost=costs, fidelity=1.0, seed=0, status="success", trial_id=range(num_trials))


def searched_trials(searcher_name: str, num_trials: int, *, seed: int) -> pd.DataFrame:
    """Return the trials of a search of NAS-Bench-Macro; each has the accuracy of one of the seeds of its network."""
    space = spaces_nas_bench_macro.SPACE
    searcher = make_searcher(
        searcher_name,
        space=space,
        configuration_space=space.configuration_space(seed),
        fidelity=FidelityRange(min=1, max=1),
        seed=seed,
        max_in_flight=1,
    )
    rng = np.random.default_rng(seed)
    rows = []
    for trial_id in range(num_trials):
        suggestion = searcher.ask()
        assert suggestion is not None
        accuracies = spaces_nas_bench_macro.table()[spaces_nas_bench_macro.key(suggestion.config)]["test_acc"]
        cost = 1 - float(rng.choice(accuracies)) / 100
        searcher.tell(suggestion, cost=cost)
        rows.append({f"config.{name}": value for name, value in suggestion.config.items()} | {"cost": cost})
        rows[-1] |= {"trial_id": trial_id, "fidelity": 1.0, "seed": 0, "status": "success"}
    return pd.DataFrame(rows)


@functools.cache
def problem_of(truth: str) -> Problem:
    return nas_bench_macro() if truth not in PROBLEMS else PROBLEMS[truth]()


def cells(arguments: argparse.Namespace) -> list[Cell]:
    """Return what is counted: a truth, a noise, a number of trials, and a seed that no other has."""
    wanted = arguments.only.split(",")
    sizes = [int(number) for number in arguments.trials.split(",")]
    noises = [float(number) for number in arguments.noise.split(",")]
    kinds: list[Cell] = [*product([name for name in PROBLEMS if name in wanted], noises, sizes)]
    if "nas-bench-macro" in wanted:
        kinds += product([f"nas-bench-macro, {searcher}" for searcher in SEARCHERS], [0.0], sizes)
    # An unlucky sample does not count in all of them.
    seeds = itertools.count(arguments.first_seed)
    return [(*kind, next(seeds)) for kind in kinds for _ in range(arguments.searches)]


def measure(cell: tuple[str, float, int, int], *, bootstrap: int, everything: bool) -> list[Interval]:
    """Return the kind, truth, and lower and upper end of every interval of one sample or search.

    Args:
        cell: of `cells`.
        bootstrap: draws.
        everything: of tunability, PED-ANOVA and differences between fidelities too.
    """
    truth, noise, num_trials, seed = cell
    problem = problem_of(truth)
    if truth not in PROBLEMS:
        trials = searched_trials(truth.rpartition(" ")[2], num_trials, seed=seed)
    else:
        trials = (two_fidelities if everything else made_up_trials)(problem, num_trials, noise, seed=seed)
    methods = ("lpi", "fanova", "tunability", "ped_anova") if everything else ("lpi", "fanova")
    summary = summarise(trials, problem.space, bootstrap=bootstrap, methods=methods, seed=seed)
    found = list(intervals(summary, problem))
    return found + list(further_intervals(summary, problem, noise)) if len(summary["importance"]) > 1 else found


def intervals(summary: Mapping[str, Any], problem: Problem) -> Iterator[Interval]:
    """Yield those of LPI and fANOVA."""
    entry, fanova = summary["importance"][-1], fanova_truth(problem)
    lpi = lpi_truth(problem, summary["incumbent"]["config"])
    for row in entry["lpi"]:
        if row["name"] in lpi and row["low"] is not None:
            yield "LPI", lpi[row["name"]], row["low"], row["high"]
    for row in entry["fanova"]:
        if row["low"] is not None:
            yield "mains" if len(row["names"]) == 1 else "pairs", fanova[tuple(row["names"])], row["low"], row["high"]


def held(found: Sequence[Interval]) -> dict[str, dict[str, float]]:
    """Return of each kind how many intervals hold, how many truths lie above, of how many, and the mean width."""
    kinds = defaultdict[str, list[Interval]](list)
    for interval in found:
        kind, truth, *_ = interval
        for group in (kind, f"{kind} without effect") if abs(truth) < NO_EFFECT else (kind,):
            kinds[group].append(interval)
    return {
        kind: {
            "held": sum(low - NO_EFFECT <= truth <= high + NO_EFFECT for _, truth, low, high in of_kind),
            "above": sum(truth > high + NO_EFFECT for _, truth, _, high in of_kind),
            "all": len(of_kind),
            "width": float(np.mean([high - low for *_, low, high in of_kind])),
        }
        for kind, of_kind in sorted(kinds.items())
    }


def describe(counts: Mapping[str, Mapping[str, float]]) -> str:
    """Return the intervals that held of each kind, with how many truths were above and below and the mean width."""
    return "; ".join(
        f"{kind} {count['held']}/{count['all']} "
        f"(+{count['above']} -{count['all'] - count['held'] - count['above']}, {count['width']:.3f})"
        for kind, count in counts.items()
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--searches", type=int, default=4, help="searches of each cell")
    parser.add_argument("--trials", default="50,150,400")
    parser.add_argument("--noise", default="0,0.3,1,3")
    parser.add_argument("--only", default=",".join([*PROBLEMS, "nas-bench-macro"]))
    parser.add_argument(
        "--first-seed", type=int, default=0, help="of the first search; a cell goes on where the last one ended"
    )
    parser.add_argument("--bootstrap", type=int, default=100)
    parser.add_argument(
        "--all", action="store_true", help="tunability, PED-ANOVA and differences between fidelities too"
    )
    add_json_option(parser)
    add_cell_options(parser)
    arguments = parser.parse_args()
    asked = functools.partial(measure, bootstrap=arguments.bootstrap, everything=arguments.all)
    found = measured_cells(arguments, cells(arguments), asked)
    groups = defaultdict[str, list[Interval]](list)
    samples: Counter[str] = Counter()
    for (truth, noise, num_trials, _), intervals_of_cell in found.items():
        made_up = () if truth not in PROBLEMS else (truth, f"noise {noise:g}", f"{num_trials} trials")
        for group in (f"{truth}, noise {noise:g}, {num_trials} trials", *made_up, "all"):
            groups[group] += intervals_of_cell
            samples[group] += 1
    counts = {group: held(of_group) for group, of_group in groups.items()}
    for group, count in sorted(counts.items(), key=lambda item: samples[item[0]]):
        print(f"{group} ({samples[group]}): {describe(count)}")
    keep(arguments, groups=counts)


if __name__ == "__main__":
    main()
