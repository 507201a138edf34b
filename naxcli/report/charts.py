"""The numbers behind each figure, whichever library draws it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from naxcli.report import importance
from naxcli.report.data import CONFIG_PREFIX, ReportData
from naxcli.report.text import is_missing, plain

MAX_BARS = 24
MAX_PAIR_NAMES = 16
MAX_PARALLEL_LINES = 400
MAX_BEST_LINES = 20
MAX_CURVES = 120
MAX_CATEGORIES = 12
NUM_TICKS = 5
# Height of the lowest number on an axis that has inactive trials at its foot.
INACTIVE_GAP = 0.15

_TIME_UNITS = ((600, 1, "seconds"), (3 * 3_600, 60, "minutes"), (4 * 86_400, 3_600, "hours"), (np.inf, 86_400, "days"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """Cost against a clock: every success as a dot, every failure as a mark, the incumbent's cost as a falling staircase.

    `unit` is the clock's unit. `dots` has columns x, cost, fidelity, trial_id; `failures` has x, status, trial_id.
    """

    unit: str
    dots: pd.DataFrame
    failures: pd.DataFrame
    best_x: Sequence[float]
    best_cost: Sequence[float]


def progress(data: ReportData, clock: str) -> Progress | None:
    """Return cost over `elapsed` or over `spent` seconds (the sum over trials); None without a success.

    The incumbent's line starts with the first success at the highest fidelity and ends at the last trial.
    """
    successes = data.successes
    trajectory = data.listed("trajectory")
    key = "elapsed_seconds" if clock == "elapsed" else "trial_seconds_sum"
    if successes.empty or not trajectory or any(is_missing(point.get(key)) for point in trajectory):
        return None
    seconds_of = data.elapsed_seconds if clock == "elapsed" else data.trial_seconds
    failed = data.trials[data.trials["status"] != "success"]
    last = float(np.nanmax(seconds_of(data.trials)))
    divisor, unit = _time_unit(last)
    dots = successes[["cost", "fidelity"]].assign(x=seconds_of(successes) / divisor, trial_id=data.trial_ids(successes))
    falling = np.minimum.accumulate([float(point["cost"]) for point in trajectory])
    x = [float(point[key]) / divisor for point in trajectory]
    return Progress(
        unit=unit,
        dots=dots,
        failures=failed[["status"]].assign(x=seconds_of(failed) / divisor, trial_id=data.trial_ids(failed)),
        best_x=[*x, max(last / divisor, x[-1])],
        best_cost=[*map(float, falling), float(falling[-1])],
    )


def _time_unit(longest_seconds: float) -> tuple[float, str]:
    return next((float(divisor), unit) for limit, divisor, unit in _TIME_UNITS if longest_seconds <= limit)


def needs_log(values: np.ndarray) -> bool:
    """Return whether positive values spread over so many orders of magnitude that a linear axis would hide them."""
    finite = values[np.isfinite(values)]
    return bool(len(finite) and finite.min() > 0 and finite.max() / finite.min() > 100)


@dataclass(frozen=True, slots=True, kw_only=True)
class Bars:
    """Importance of `names` (the most important first) at each of `fidelities`, shape (fidelities, names), NaN where n/a.

    `below` and `above` are the lengths of the error bars: the bootstrap's interval, or the trees' standard deviation without one.
    """

    names: Sequence[str]
    fidelities: Sequence[float]
    mean: np.ndarray
    below: np.ndarray
    above: np.ndarray
    has_intervals: bool


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
    names = sorted(
        {name for rows in tables.values() for name in rows},
        key=lambda name: -_number(ranking.get(name, {}), "mean", 0.0),
    )
    names = names[:MAX_BARS]
    effects = [[rows.get(name, {}) for name in names] for rows in tables.values()]
    mean = np.array([[_number(effect, "mean") for effect in row] for row in effects])
    std = np.array([[_number(effect, "std") for effect in row] for row in effects])
    low = np.array([[_number(effect, "low") for effect in row] for row in effects])
    high = np.array([[_number(effect, "high") for effect in row] for row in effects])
    has_intervals = bool(np.isfinite(low).any())
    below = np.where(np.isfinite(low), mean - low, np.minimum(std, mean))
    above = np.where(np.isfinite(high), high - mean, std)
    return Bars(
        names=names,
        fidelities=list(tables),
        mean=mean,
        # A bootstrap interval need not hold the estimate; an error bar cannot have a negative length.
        below=np.clip(below, 0, None),
        above=np.clip(above, 0, None),
        has_intervals=has_intervals,
    )


def _number(effect: Mapping[str, Any], key: str, missing: float = float("nan")) -> float:
    return missing if is_missing(effect.get(key)) else float(effect[key])


def pair_matrix(entry: Mapping[str, Any]) -> tuple[list[str], np.ndarray] | None:
    """Return names and the symmetric matrix of their interactions, NaN on the diagonal; None without pairs."""
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
    return names, matrix


@dataclass(frozen=True, slots=True, kw_only=True)
class Axis:
    """One axis of the parallel coordinates: where each line crosses it and where its ticks are, between 0 and 1."""

    name: str
    heights: np.ndarray
    ticks: Sequence[tuple[float, str]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Parallel:
    """Parallel coordinates of the highest fidelity: the cost, beside it the most important axis, the least important one last.

    Lines are ordered from the worst trial to the best; the last `num_best` stand out.
    """

    axes: Sequence[Axis]
    trial_ids: np.ndarray
    costs: np.ndarray
    num_best: int
    num_trials: int


def parallel(data: ReportData) -> Parallel | None:
    """Return the parallel coordinates of at most `MAX_PARALLEL_LINES` trials, or None where nothing varies.

    Half of the lines are the best trials, the others are spread evenly over the rest.
    """
    top = at_highest_fidelity(data)
    if len(top) < 2:
        return None
    ordered = top.sort_values("cost", ascending=False, kind="stable")
    total = len(ordered)
    if total > MAX_PARALLEL_LINES:
        half = MAX_PARALLEL_LINES // 2
        spread = np.linspace(0, total - half - 1, half).astype(int)
        ordered = ordered.iloc[[*spread, *range(total - half, total)]]
    ranked = [row["name"] for row in importance.merged_rows(data.importance[-1])] if data.importance else []
    names = [name for name in ranked if name in data.hyperparameters]
    names += [name for name in data.hyperparameters if name not in names]
    axes = [axis for name in names if (axis := _axis(name, ordered[CONFIG_PREFIX + name])) is not None]
    costs = ordered["cost"].to_numpy(dtype=float)
    return None if not axes else Parallel(
        axes=[_numeric_axis("cost", costs, digits=3), *axes],
        trial_ids=data.trial_ids(ordered).to_numpy(),
        costs=costs,
        num_best=max(1, min(total // 10, MAX_BEST_LINES)),
        num_trials=total,
    )  # fmt: skip


def _axis(name: str, column: pd.Series) -> Axis | None:
    """Return the axis of a hyperparameter that varies; equal categories are spread a little, so that their number shows."""
    column = column.infer_objects()
    present = column.dropna()
    if column.nunique(dropna=False) < 2:
        return None
    if is_continuous(present.tolist()):
        return _numeric_axis(name, column.to_numpy(dtype=float), digits=4)
    labels = [plain(value) for value in sorted(present.unique(), key=_sort_key)]
    if len(present) < len(column):
        labels.append("inactive")
    place = {label: index for index, label in enumerate(labels)}
    codes = np.array([place["inactive"] if is_missing(value) else place[plain(value)] for value in column], dtype=float)
    jitter = np.random.default_rng(0).uniform(-0.2, 0.2, len(codes))
    ticks = [((index + 0.5) / len(labels), label) for index, label in enumerate(labels)]
    return Axis(name=name, heights=(codes + 0.5 + jitter) / len(labels), ticks=ticks)


def is_continuous(values: Sequence[Any]) -> bool:
    """Return whether values of a hyperparameter belong on a scale of numbers rather than in a row of names."""
    if not values or not all(
        isinstance(value, int | float | np.number) and not isinstance(value, bool) for value in values
    ):
        return False
    return len(set(values)) > MAX_CATEGORIES or any(float(value) != round(float(value)) for value in values)


def _numeric_axis(name: str, values: np.ndarray, *, digits: int) -> Axis:
    """Return an axis from the lowest to the highest value, logarithmic where they ask for it; inactive (NaN) is below the lowest."""
    is_log = needs_log(values)
    scaled = np.log(values) if is_log else values
    low, high = float(np.nanmin(scaled)), float(np.nanmax(scaled))
    floor = INACTIVE_GAP if np.isnan(values).any() else 0.0
    heights = (
        floor + (1 - floor) * (scaled - low) / (high - low) if high > low else np.where(np.isnan(values), np.nan, 1.0)
    )
    marks = np.linspace(low, high, NUM_TICKS) if high > low else np.array([high])
    places = np.linspace(floor, 1, NUM_TICKS) if high > low else np.array([1.0])
    texts = [f"{mark:.{digits}g}" for mark in (np.exp(marks) if is_log else marks)]
    ticks = [(0.0, "inactive")] if floor else []
    ticks += [(float(place), text) for place, text in zip(places, texts, strict=True)]
    return Axis(name=name, heights=np.nan_to_num(heights), ticks=ticks)


def _sort_key(value: Any) -> tuple[int, float, str]:
    is_number = isinstance(value, int | float | np.number) and not isinstance(value, bool)
    return (0, float(value), "") if is_number else (1, 0.0, str(value))


def at_highest_fidelity(data: ReportData) -> pd.DataFrame:
    """Return the successful trials at the highest fidelity of any success."""
    successes = data.successes
    return successes[successes["fidelity"] == successes["fidelity"].max()] if len(successes) else successes


def size_column(data: ReportData) -> str | None:
    """Return which measured size the Pareto front is drawn against."""
    front = data.listed("pareto")
    objective = data.experiment.get("objective") or ()
    wanted = {"params": "num_params", "flops": "flops", "latency_ms": "latency_ms"}
    candidates = [wanted[name] for name in objective if name in wanted] + ["num_params", "flops", "latency_ms"]
    known = (name for name in candidates if any(not is_missing(point.get(name)) for point in front))
    return next(known, None)


def front(data: ReportData, size: str) -> list[Mapping[str, Any]]:
    """Return the part of the Pareto front that is optimal in cost and this one size, the smallest first.

    The summary's front is the union over all sizes.
    """
    points = [point for point in data.listed("pareto") if not is_missing(point.get(size))]
    kept: list[Mapping[str, Any]] = []
    for point in sorted(points, key=lambda point: (float(point[size]), float(point["cost"]))):
        if not kept or float(point["cost"]) < float(kept[-1]["cost"]):
            kept.append(point)
    return kept


@dataclass(frozen=True, slots=True, kw_only=True)
class Curves:
    """Learning curves: `quantity` per epoch of some trials. `lines` are (trial_id, epochs, values), the incumbent's is apart."""

    quantity: str
    lines: Sequence[tuple[int, np.ndarray, np.ndarray]]
    incumbent: tuple[int, np.ndarray, np.ndarray] | None
    num_trials: int


def learning_curves(data: ReportData) -> Curves | None:
    """Return the curves of at most `MAX_CURVES` trials, evenly spread over the run; None where there are none."""
    curves = data.curves
    if curves is None or curves.empty:
        return None
    quantity = next((name for name in ("val_accuracy", "val_loss", "train_loss") if curves[name].notna().any()), None)
    if quantity is None:
        return None
    known = curves.dropna(subset=[quantity])
    best = (data.incumbent or {}).get("trial_id")
    trial_ids = known["trial_id"].unique()
    chosen = trial_ids[np.unique(np.linspace(0, len(trial_ids) - 1, min(MAX_CURVES, len(trial_ids))).astype(int))]
    kept: pd.DataFrame = known[known["trial_id"].isin([*chosen, best])].sort_values(["trial_id", "epoch"])
    lines = {
        trial_id: (trial_id, rows["epoch"].to_numpy(), rows[quantity].to_numpy(dtype=float))
        for trial_id in kept["trial_id"].unique().astype(int).tolist()
        for rows in [kept[kept["trial_id"] == trial_id]]
    }
    return Curves(
        quantity=quantity,
        lines=[line for trial_id, line in lines.items() if trial_id != best],
        incumbent=None if best is None else lines.get(int(best)),
        num_trials=len(trial_ids),
    )


def fidelity_pairs(data: ReportData) -> dict[float, pd.DataFrame]:
    """Return, per lower fidelity, the mean cost (`low`, `high`) of the configurations evaluated there and at the highest one."""
    successes = data.successes
    if successes.empty:
        return {}
    # By the settings themselves: tables from elsewhere have no config_id. An inactive hyperparameter is a setting like any other.
    config = successes.groupby([CONFIG_PREFIX + name for name in data.hyperparameters], dropna=False).ngroup()
    means = successes.groupby([config, "fidelity"])["cost"].mean().unstack("fidelity")
    top = means.columns.max()
    pairs = {
        float(low): means[[low, top]].dropna().set_axis(["low", "high"], axis=1) for low in means.columns if low != top
    }
    return {low: both for low, both in pairs.items() if len(both) >= 2}


def dependence_order(entry: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Return the partial dependences, that of the most important hyperparameter first."""
    rank = {row["name"]: index for index, row in enumerate(importance.merged_rows(entry))}
    return sorted(entry.get("partial_dependence") or [], key=lambda curve: rank.get(curve["name"], len(rank)))
