"""The numbers and axes behind the parallel coordinates of a run's trials."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from naxcli.records.trial import CONFIG_PREFIX
from naxcli.report import importance
from naxcli.report.data import ReportData
from naxcli.report.figures import numbers as charts
from naxcli.report.figures.figure import Figure
from naxcli.report.figures.scales import RESOLUTION, Scale, Tick, round_ticks, scale_of
from naxcli.report.text import abridge, is_missing

MAX_PARALLEL_LINES = 400
MAX_BEST_LINES = 20
MAX_AXIS_NAMES = 24
# Characters of a value beside a parallel axis.
MAX_TICK_LENGTH = 14
# Height of the lowest number on an axis that has inactive trials at its foot.
INACTIVE_GAP = 0.15


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

    @property
    def x(self) -> Scale:
        names = [(float(place), abridge(axis.name, charts.LABEL_LENGTH)) for place, axis in enumerate(self.axes)]
        return Scale(low=-0.45, high=len(names) - 0.55, ticks=names, slant=-30)

    @property
    def y(self) -> Scale:
        return Scale(low=-0.03, high=1.03, ticks=())

    @property
    def longest_tick(self) -> int:
        """Characters of the longest text beside an axis: its neighbours leave room for it."""
        return max(len(text) for axis in self.axes for _, text in axis.ticks)


def parallel(data: ReportData) -> Parallel | None:
    """Return the parallel coordinates of at most `MAX_PARALLEL_LINES` trials, or None where nothing varies.

    Half of the lines are the best trials, the others are spread evenly over the rest.
    """
    top = charts.at_highest_fidelity(data)
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
    axes = [axis for name in names if (axis := _axis(data, name, ordered[CONFIG_PREFIX + name])) is not None]
    costs = ordered["cost"].to_numpy(dtype=float)
    return (
        None
        if not axes
        else Parallel(
            axes=[_numeric_axis("cost", costs, is_log=charts.needs_log(costs)), *axes],
            trial_ids=data.trial_ids(ordered).to_numpy(),
            costs=costs,
            num_best=max(1, min(total // 10, MAX_BEST_LINES)),
            num_trials=total,
        )
    )


def parallel_coordinates(data: ReportData) -> Figure | None:
    """Return parallel coordinates of the trials at the highest fidelity, the most important axis next to the cost."""
    found = parallel(data)
    if found is None:
        return None
    num_lines = len(found.costs)
    thinned = f" {num_lines:,} of {found.num_trials:,} trials are drawn: the best, and an even sample."
    return Figure(
        name="parallel-coordinates",
        file="parallel_coordinates",
        title="Choices and cost of each trial",
        caption=f"One line per trial at the highest fidelity, the best {found.num_best} on top in the accent colour. Axes go from the most "
        f"important, beside the cost, to the least.{'' if num_lines == found.num_trials else thinned}",
        content=found,
    )


def _axis(data: ReportData, name: str, column: pd.Series) -> Axis | None:
    """Return the axis of a hyperparameter that varies; equal categories are spread a little, so that their number shows."""
    column = column.infer_objects()
    present = column.dropna()
    if column.nunique(dropna=False) < 2:
        return None
    if charts.is_number(data, name, present.tolist()):
        return _numeric_axis(name, column.to_numpy(dtype=float), is_log=data.scales[name] == "log")
    labels = [charts.value_text(value) for value in sorted(present.unique(), key=_sort_key)]
    if len(present) < len(column):
        labels.insert(0, "inactive")  # at the foot, as on an axis of numbers
    place = {label: index for index, label in enumerate(labels)}
    codes = np.array(
        [place["inactive"] if is_missing(value) else place[charts.value_text(value)] for value in column], dtype=float
    )
    jitter = np.random.default_rng(0).uniform(-0.2, 0.2, len(codes))
    step = -(-len(labels) // MAX_AXIS_NAMES)
    shown = list(enumerate(labels))[::step]
    ticks = [((index + 0.5) / len(labels), abridge(label, MAX_TICK_LENGTH)) for index, label in shown]
    return Axis(name=name, heights=(codes + 0.5 + jitter) / len(labels), ticks=ticks)


def _numeric_axis(name: str, values: np.ndarray, *, is_log: bool) -> Axis:
    """Return an axis from the lowest to the highest value; inactive (NaN) is below the lowest."""
    found = scale_of(name, values, is_log=is_log)
    lowest, highest = float(np.nanmin(values)), float(np.nanmax(values))
    low, high = (lowest, highest) if highest - lowest > RESOLUTION * abs(highest) else (found.low, found.high)
    floor = INACTIVE_GAP if np.isnan(values).any() else 0.0

    def height(value: Any) -> Any:
        shown, bottom, top = (np.log(value), np.log(low), np.log(high)) if is_log else (value, low, high)
        return floor + (1 - floor) * (shown - bottom) / (top - bottom)

    ticks: list[Tick] = [(0.0, "inactive")] if floor else []
    ticks += [(float(height(value)), text) for value, text in round_ticks(low, high, charts.NUM_TICKS, is_log=is_log)]
    return Axis(name=name, heights=np.nan_to_num(height(values)), ticks=ticks)


def _sort_key(value: Any) -> tuple[int, float, str]:
    is_number = isinstance(value, int | float | np.number) and not isinstance(value, bool)
    return (0, float(value), "") if is_number else (1, 0.0, str(value))
