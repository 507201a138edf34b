"""The numbers and axes behind each figure of importance, whichever library draws it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from naxcli.report import importance
from naxcli.report.data import ReportData
from naxcli.report.figures import numbers as charts
from naxcli.report.figures.figure import Figure
from naxcli.report.figures.scales import Scale, panel_names, panel_numbers, round_ticks, rows, scale_of
from naxcli.report.text import abridge, is_missing, plain, with_unit

MAX_BARS = 24
MAX_PAIR_NAMES = 16
# Share of variance of the darkest colour, at the least: rounding errors are no interaction.
LEAST_SHARE = 0.01
MAX_VALUE_LENGTH = 16
BAR_OPACITY = 0.6  # so that error bars are seen on the darkest, too


@dataclass(frozen=True, slots=True, kw_only=True)
class Bars:
    """Importance of `names` (the most important first) at each of `fidelities`, shape (fidelities, names), NaN where n/a.

    `below` and `above` are the lengths of the error bars: the 95 % interval, or the trees' standard deviation without one.
    """

    x: Scale
    y: Scale
    names: Sequence[str]
    fidelities: Sequence[float]
    mean: np.ndarray
    below: np.ndarray
    above: np.ndarray
    has_intervals: bool
    unit: str


def importance_bars(data: ReportData, method: str, *, by_group: bool) -> Bars | None:
    """Return LPI or fANOVA main effects over all fidelities; None where no fidelity has any."""
    rows_of = importance.group_rows if by_group else importance.merged_rows
    tables = {
        float(entry["fidelity"]): {row["name"]: row.get(method) or {} for row in rows_of(entry)}
        for entry in data.importance
    }
    tables = {
        fidelity: rows for fidelity, rows in tables.items() if any(not is_missing(e.get("mean")) for e in rows.values())
    }
    if not tables:
        return None
    ranking = tables[max(tables)]
    # In the order of the tables where they are equal.
    known = dict.fromkeys(name for fidelity in sorted(tables, reverse=True) for name in tables[fidelity])
    names = sorted(known, key=lambda name: -_number(ranking.get(name, {}), "mean", 0.0))[:MAX_BARS]
    effects = [[rows.get(name, {}) for name in names] for rows in tables.values()]
    mean = np.array([[_number(effect, "mean") for effect in row] for row in effects])
    std = np.array([[_number(effect, "std") for effect in row] for row in effects])
    low = np.array([[_number(effect, "low") for effect in row] for row in effects])
    high = np.array([[_number(effect, "high") for effect in row] for row in effects])
    has_intervals = bool(np.isfinite(low).any())
    below = np.where(np.isfinite(low), mean - low, np.minimum(std, mean))
    above = np.where(np.isfinite(high), high - mean, std)
    # An interval of a summary from elsewhere need not hold the estimate; an error bar cannot have a negative length.
    below, above = np.clip(below, 0, None), np.clip(above, 0, None)
    ends = np.concatenate([mean - np.nan_to_num(below), mean + np.nan_to_num(above)], axis=None)
    return Bars(
        x=scale_of(f"{importance.EFFECTS[method]} (share of variance)", ends, from_zero=True, magnitude=1.0),
        y=rows([abridge(name, charts.LABEL_LENGTH) for name in names]),
        names=names,
        fidelities=list(tables),
        mean=mean,
        below=below,
        above=above,
        has_intervals=has_intervals,
        unit=data.fidelity_unit,
    )


def effect_bars(data: ReportData, method: str, *, by_group: bool) -> Figure | None:
    """Return bars of LPI or fANOVA main effects, one per fidelity, with error bars."""
    bars = importance_bars(data, method, by_group=by_group)
    if bars is None:
        return None
    shown = importance.EFFECTS[method] + (", main effects" if method == "fanova" else "")
    spread = "95 % intervals" if bars.has_intervals else "the standard deviation over the trees"
    kind = "groups" if by_group else "hyperparameters"
    return Figure(
        name=f"{method}-{kind}",
        file=f"{method}_{kind}",
        title=f"{shown} per {'design decision' if by_group else 'hyperparameter'}",
        caption=f"Share of the variance, {_fidelities(bars.fidelities, data)}; error bars are {spread}.",
        content=bars,
    )


def _fidelities(fidelities: Sequence[float], data: ReportData) -> str:
    if len(fidelities) == 1:
        return f"at {with_unit(fidelities[0], data.fidelity_unit)}"
    return f"one bar per fidelity ({', '.join(plain(float(f)) for f in fidelities)}), in the order of the highest"


def _number(effect: Mapping[str, Any], key: str, missing: float = float("nan")) -> float:
    return missing if is_missing(effect.get(key)) else float(effect[key])


@dataclass(frozen=True, slots=True, kw_only=True)
class PairMatrix:
    """Interactions of `names` (shortened) with each other, shape (names, names), symmetric, NaN on the diagonal.

    `darkest` is the share of the variance that the darkest colour stands for.
    """

    names: Sequence[str]
    shares: np.ndarray
    darkest: float

    @property
    def x(self) -> Scale:
        return Scale(low=-0.5, high=len(self.names) - 0.5, ticks=list(enumerate(self.names)), slant=-60)

    @property
    def y(self) -> Scale:
        return rows(self.names)


def pair_matrix(entry: Mapping[str, Any]) -> PairMatrix | None:
    """Return the interactions of the most important hyperparameters; None without pairs."""
    pairs = importance.all_pairs(entry)
    if not pairs:
        return None
    involved = {name for pair in pairs for name in pair["names"]}
    names = [row["name"] for row in importance.merged_rows(entry) if row["name"] in involved][:MAX_PAIR_NAMES]
    place = {name: index for index, name in enumerate(names)}
    matrix = np.full((len(names), len(names)), np.nan)
    for pair in pairs:
        first, second = pair["names"]
        if first in place and second in place:
            value = _number(pair, "mean")
            matrix[place[first], place[second]] = matrix[place[second], place[first]] = value
    known = matrix[np.isfinite(matrix)]
    return PairMatrix(
        names=[abridge(name, charts.LABEL_LENGTH) for name in names],
        shares=matrix,
        darkest=max(float(known.max()), LEAST_SHARE) if len(known) else LEAST_SHARE,
    )


def pair_heat_map(entry: Mapping[str, Any], section: str) -> Figure | None:
    """Return the interactions of all pairs as a heat map."""
    found = pair_matrix(entry)
    if found is None:
        return None
    return Figure(
        name=f"{section}-pairs",
        file=f"pairs_{plain(float(entry['fidelity']))}",
        title="Interactions of pairs (fANOVA)",
        caption="Share of the variance that two hyperparameters explain together beyond each alone; the table names the strongest.",
        content=found,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Steps:
    """Values in rows, with the lengths of their error bars.

    `is_path` tells the costs along a path, whose last one is the incumbent's, from gains, which are above or below zero.
    """

    x: Scale
    y: Scale
    values: np.ndarray
    below: np.ndarray
    above: np.ndarray
    is_path: bool


def ablation(entry: Mapping[str, Any]) -> Steps | None:
    """Return the predicted cost after each change from the default to the incumbent; None without a change."""
    steps = [step for step in entry.get("ablation") or [] if not is_missing(step.get("cost"))]
    if len(steps) < 2:
        return None
    labels = [
        abridge(step["name"], charts.LABEL_LENGTH)
        if is_missing(step.get("to"))
        else f"{abridge(step['name'], charts.LABEL_LENGTH)} → {abridge(charts.value_text(step['to']), MAX_VALUE_LENGTH)}"
        for step in steps
    ]
    return _steps("Predicted cost", steps, "cost", labels, is_path=True)


def ablation_path(entry: Mapping[str, Any], section: str) -> Figure | None:
    """Return the predicted cost after each change from the default to the incumbent, from top to bottom."""
    found = ablation(entry)
    if found is None:
        return None
    return Figure(
        name=f"{section}-ablation",
        file=f"ablation_{plain(float(entry['fidelity']))}",
        title="Ablation path",
        caption="From the default (top) to the incumbent (bottom): the predicted cost after each change, the most useful first.",
        content=found,
    )


def shapley(data: ReportData, entry: Mapping[str, Any]) -> Steps | None:
    """Return the Shapley value of each change from the default to the incumbent; None where there is none."""
    found = list(importance.shapley(entry).rows)
    if not found:
        return None
    labels = [abridge(row["name"], charts.LABEL_LENGTH) for row in found]
    cost = abs(float((data.incumbent or {}).get("cost") or 0.0))
    return _steps("Gain in predicted cost", found, "value", labels, is_path=False, from_zero=True, magnitude=cost)


def shapley_bars(data: ReportData, entry: Mapping[str, Any], section: str) -> Figure | None:
    """Return the Shapley value of each change from the default to the incumbent."""
    found = shapley(data, entry)
    if found is None:
        return None
    return Figure(
        name=f"{section}-shapley",
        file=f"shapley_{plain(float(entry['fidelity']))}",
        title="Shapley values",
        caption="How much of the predicted gain from the default to the incumbent each change is worth; hatched bars are losses.",
        content=found,
    )


def _steps(
    title: str, given: Sequence[Mapping[str, Any]], key: str, labels: Sequence[str], *, is_path: bool, **kind: Any
) -> Steps:
    values = np.array([float(row[key]) for row in given])
    low, high = (
        np.array(
            [value if is_missing(row.get(end)) else float(row[end]) for value, row in zip(values, given, strict=True)]
        )
        for end in ("low", "high")
    )
    return Steps(
        x=scale_of(title, np.concatenate([values, low, high]), **kind),
        y=rows(labels),
        values=values,
        below=np.clip(values - low, 0, None),
        above=np.clip(high - values, 0, None),
        is_path=is_path,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Dependence:
    """Predicted cost over the values of one hyperparameter.

    Args:
        name: Name of the hyperparameter.
        x: Axis of numbers or of names; names are at 0, 1, 2 and so on.
        y: Axis of the cost, the same for all hyperparameters of a fidelity.
        is_numeric: Whether the values are numbers on a scale.
        places: Where the values are on the axis, shape (values,).
        labels: The values as text.
        mean: Predicted cost at each value.
        std: Standard deviation of the predicted cost over the trees.
        incumbent: The incumbent's place and the cost there; None where it is inactive or not among the values.
    """

    name: str
    x: Scale
    y: Scale
    is_numeric: bool
    places: np.ndarray
    labels: Sequence[str]
    mean: np.ndarray
    std: np.ndarray
    incumbent: tuple[float, float] | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Panels:
    """Small diagrams on one cost axis."""

    curves: Sequence[Dependence]


def dependences(data: ReportData, entry: Mapping[str, Any]) -> list[Dependence]:
    """Return the partial dependences, that of the most important hyperparameter first; one of a single value shows nothing."""
    curves = [curve for curve in dependence_order(entry) if sum(not is_missing(cost) for cost in curve["mean"]) > 1]
    if not curves:
        return []
    mean, std = (np.concatenate([np.asarray(curve[key], dtype=float) for curve in curves]) for key in ("mean", "std"))
    y = scale_of("Predicted cost", np.concatenate([mean - std, mean + std]))
    y = replace(y, ticks=round_ticks(y.low, y.high, charts.NUM_TICKS, is_log=False))
    config = (data.incumbent or {}).get("config") or {}
    return [_dependence(data, curve, config.get(curve["name"]), y) for curve in curves]


def _dependence(data: ReportData, curve: Mapping[str, Any], chosen: Any, y: Scale) -> Dependence:
    name, values = str(curve["name"]), curve["values"]
    labels = [abridge(charts.value_text(value), charts.LABEL_LENGTH) for value in values]
    mean, std = (np.asarray(curve[key], dtype=float) for key in ("mean", "std"))
    is_numeric = charts.is_number(data, name, values)
    incumbent = None
    if is_numeric:
        is_log = data.scales[name] == "log"
        places = np.asarray(values, dtype=float)
        shown = places if is_missing(chosen) else np.append(places, float(chosen))
        x = panel_numbers(list(shown), is_log=is_log)
        if not is_missing(chosen):
            at, known = (np.log(float(chosen)), np.log(places)) if is_log else (float(chosen), places)
            incumbent = (float(chosen), float(np.interp(at, known, mean)))
    else:
        places = np.arange(len(values), dtype=float)
        x = panel_names(labels)
        texts = [plain(value) for value in values]
        if not is_missing(chosen) and plain(chosen) in texts:
            place = texts.index(plain(chosen))
            incumbent = (float(place), float(mean[place]))
    return Dependence(
        name=name,
        x=x,
        y=y,
        is_numeric=is_numeric,
        places=places,
        labels=labels,
        mean=mean,
        std=std,
        incumbent=incumbent,
    )


def partial_dependence(data: ReportData, entry: Mapping[str, Any], section: str) -> Figure | None:
    """Return one small diagram per hyperparameter, all on the same cost axis; the incumbent's value is filled."""
    found = dependences(data, entry)
    if not found:
        return None
    return Figure(
        name=f"{section}-dependence",
        file=f"partial_dependence_{plain(float(entry['fidelity']))}",
        title="Partial dependence",
        caption="Predicted cost at each value, averaged over everything else, ± the standard deviation over the trees; all on one "
        "axis. Filled: the incumbent's value.",
        content=Panels(curves=found),
    )


def dependence_order(entry: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Return the partial dependences, that of the most important hyperparameter first."""
    rank = {row["name"]: index for index, row in enumerate(importance.merged_rows(entry))}
    return sorted(entry.get("partial_dependence") or [], key=lambda curve: rank.get(curve["name"], len(rank)))
