"""Importance of the hyperparameters at one fidelity: all methods on one forest, and rank groups of estimates with intervals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from naxcli.analysis.ablation import Step, ablation_path
from naxcli.analysis.encoding import Encoding, Floats
from naxcli.analysis.fanova import Effects, Measure, effects, make_measure, pairs_of
from naxcli.analysis.forest import Forest
from naxcli.analysis.lpi import Neighbourhood, neighbourhood
from naxcli.analysis.methods import METHODS
from naxcli.analysis.shapley import Game, shapley_game
from naxcli.analysis.tunability import Tuning, make_tuning

# What an estimate is of: ("lpi", name), ("fanova", name, ...), ("group lpi", group), ("group fanova", group), ("shapley", name),
# ("ablation", number of the step), ("tunability", name), ("ped_anova", name).
Key = tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """A mean and a spread over trees (None where there is none), the 95 % interval, and whether an effect is shown (None without)."""

    mean: float | None
    std: float | None = None
    low: float | None = None
    high: float | None = None
    matters: bool | None = None


NOT_AVAILABLE = Estimate(mean=None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """What is asked of every forest: the incumbent and default (vector rows) and all that follows from them.

    `lpi_incumbent` is the one that `neighbours` surround. `neighbours`, `measure`, `steps`, `game` and `tuning` are None where their method
    is not wanted or has nothing to say; `best_values` are the codes that the forest says each hyperparameter is to be tuned to.
    """

    encoding: Encoding
    default: Floats
    incumbent: Floats
    lpi_incumbent: Floats
    neighbours: Neighbourhood | None
    measure: Measure | None
    steps: tuple[Step, ...] | None
    game: Game | None
    tuning: Tuning | None
    best_values: Mapping[str, float]


def ask(
    forest: Forest,
    default: Floats,
    incumbent: Floats,
    *,
    groups: Mapping[str, Sequence[str]],
    methods: Sequence[str] = METHODS,
    lpi: str = "naxcli",
    lpi_incumbent: Floats | None = None,
    seed: int = 0,
) -> Question:
    """Return the question for a forest: the ablation path is that of this forest and stays the same for drawn functions.

    Local importance is asked around `lpi_incumbent`, or around the incumbent where that is None.
    """
    encoding = forest.encoding
    centre = incumbent if lpi_incumbent is None else lpi_incumbent
    tuning = make_tuning(encoding, default) if "tunability" in methods else None
    return Question(
        encoding=encoding,
        default=default,
        incumbent=incumbent,
        lpi_incumbent=centre,
        neighbours=neighbourhood(encoding, centre, groups, method=lpi, seed=seed) if "lpi" in methods else None,
        measure=make_measure(encoding, groups, seed=seed) if "fanova" in methods else None,
        steps=tuple(ablation_path(forest, default, incumbent)) if "ablation" in methods else None,
        game=shapley_game(encoding, default, incumbent, seed=seed) if "shapley" in methods else None,
        tuning=tuning,
        best_values={} if tuning is None else tuning.best_codes(forest.predict(tuning.rows), encoding),
    )


def estimate(forest: Forest, question: Question) -> tuple[dict[Key, Estimate], Effects | None]:
    """Return all estimates on one forest, without intervals, and the fANOVA they rest on."""
    found: dict[Key, Estimate] = {}
    if question.neighbours is not None:
        is_variance = question.neighbours.method == "deepcave"
        for name, fractions in question.neighbours.importance(forest).items():
            key = ("group lpi", name.removeprefix("group:")) if name.startswith("group:") else ("lpi", name)
            found[key] = _over_trees(fractions, is_variance=is_variance)
    explained = None
    if question.measure is not None:
        explained = effects(forest, question.measure)
        names = [(domain.name,) for domain in question.encoding.domains]
        for columns, keys in (
            (explained.mains, [("fanova", *name) for name in names]),
            (explained.pairs, [("fanova", *pair) for pair in pairs_of(question.encoding)]),
            (explained.groups, [("group fanova", group) for group in question.measure.groups]),
        ):
            found |= {key: _over_trees(columns[:, number]) for number, key in enumerate(keys)}
    if question.steps is not None:
        path = np.array([question.default, *(step.after for step in question.steps)])
        for number, cost in enumerate(forest.predict(path)):
            found["ablation", str(number)] = Estimate(mean=float(cost))
    if question.game is not None:
        values, errors = question.game.values(forest)
        for number, name in enumerate(question.game.players):
            error = None if errors is None else float(errors[number])
            found["shapley", name] = Estimate(mean=float(values[number]), std=error)
    if question.tuning is not None:
        predictions = forest.predict_trees(question.tuning.rows)
        for name, row in question.tuning.best(predictions.mean(axis=0)).items():
            gains = predictions[:, 0] - predictions[:, row]
            found["tunability", name] = Estimate(mean=float(gains.mean()), std=float(gains.std()))
    return found, explained


def rank_groups(estimates: Sequence[Estimate]) -> list[int | None]:
    """Return the rank group of each estimate: 1 for the largest; estimates whose intervals overlap share one (unresolved).

    What is not shown to matter has the last group to itself: its interval, which begins at 0, would join all others.
    """
    groups: list[int | None] = [None] * len(estimates)
    intervals = [
        (found.high, found.low, number)
        for number, found in enumerate(estimates)
        if found.low is not None and found.high is not None
    ]
    group, lowest = 0, np.inf
    for high, low, number in sorted(intervals, reverse=True):
        if estimates[number].matters is False:
            continue
        if high < lowest:
            group += 1
        lowest = min(lowest, low)
        groups[number] = group
    for *_, number in intervals:
        if estimates[number].matters is False:
            groups[number] = group + 1
    return groups


def ranked_numbers(estimates: Sequence[Estimate]) -> list[dict[str, Any]]:
    """Return the numbers of each estimate with its rank group."""
    return [
        {"mean": e.mean, "std": e.std, "low": e.low, "high": e.high, "rank_group": group, "matters": e.matters}
        for e, group in zip(estimates, rank_groups(estimates), strict=True)
    ]


def _over_trees(fractions: Floats, *, is_variance: bool = False) -> Estimate:
    if len(fractions) == 0:
        return NOT_AVAILABLE
    std = float(fractions.std())
    return Estimate(mean=float(fractions.mean()), std=std**2 if is_variance else std)
