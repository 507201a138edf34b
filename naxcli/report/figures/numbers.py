"""The numbers and axes behind each figure of a run, whichever library draws it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from naxcli.records.trial import CONFIG_PREFIX, NO_FAILURES
from naxcli.report.data import ReportData
from naxcli.report.figures.diagram import Diagram, Dots, Line, Mark, ThinLines
from naxcli.report.figures.figure import Figure
from naxcli.report.figures.scales import Scale, number_text, scale_of
from naxcli.report.text import abridge, is_missing, plain, with_unit

MAX_CURVES = 120
MAX_CATEGORIES = 12
NUM_TICKS = 5
NUM_COLOURS = 5
# From this number on, dots are small and lines thin.
MANY = 300
# A linear axis can show values that differ by this factor; this fraction of the values may differ by more.
LINEAR_RANGE, FEW = 100, 0.1
# Height of the text of a reference's line, as a fraction of the axis.
LINE_HEIGHT = 0.055
QUANTITIES = {"val_accuracy": "Validation accuracy", "val_loss": "Validation loss", "train_loss": "Training loss"}
SIZES = {"num_params": "Parameters", "flops": "Multiply-adds", "latency_ms": "Latency (ms)"}
# Characters of a name in a figure.
LABEL_LENGTH = 30

_TIME_UNITS = ((600, 1, "seconds"), (3 * 3_600, 60, "minutes"), (4 * 86_400, 3_600, "hours"), (np.inf, 86_400, "days"))


def level(index: int, count: int) -> str:
    """Return the colour of one of `count` ordered fidelities, from `level-1` to `level-5`: the highest stands out most.

    The palest is for more fidelities than there are other colours.
    """
    palest = 2 if count < NUM_COLOURS else 1
    place = NUM_COLOURS if count == 1 else palest + round(index * (NUM_COLOURS - palest) / (count - 1))
    return f"level-{place}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Reference:
    """A horizontal line at the cost of one or several references. `lift` keeps its name off those of the lines below."""

    name: str
    cost: float
    lift: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """Cost against a clock: every success as a dot, every failure as a mark, the incumbent's cost as a falling staircase.

    `dots` has columns x, cost, fidelity, trial_id; `failures` has x, status, trial_id.
    """

    x: Scale
    y: Scale
    references: Sequence[Reference]
    dots: pd.DataFrame
    failures: pd.DataFrame
    best_x: Sequence[float]
    best_cost: Sequence[float]
    unit: str


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
    failed = data.trials[~data.trials["status"].isin(NO_FAILURES)]
    last = float(np.nanmax(seconds_of(data.trials)))
    divisor, unit = _time_unit(last)
    dots = successes[["cost", "fidelity"]].assign(x=seconds_of(successes) / divisor, trial_id=data.trial_ids(successes))
    falling = np.minimum.accumulate([float(point["cost"]) for point in trajectory])
    x = [float(point[key]) / divisor for point in trajectory]
    is_log = needs_log(dots["cost"].to_numpy(dtype=float))
    costs = [float(reference["cost"]) for reference in data.full_references()]
    y = scale_of("Cost", [*dots["cost"], *falling, *costs], is_log=is_log)
    what = "Time since the start" if clock == "elapsed" else data.spent_name
    return Progress(
        x=scale_of(f"{what} ({unit})", [last / divisor, *x], from_zero=True),
        y=y,
        references=_references(data, y),
        dots=dots,
        failures=failed[["status"]].assign(x=seconds_of(failed) / divisor, trial_id=data.trial_ids(failed)),
        best_x=[*x, max(last / divisor, x[-1])],
        best_cost=[*map(float, falling), float(falling[-1])],
        unit=data.fidelity_unit,
    )


def cost_over(data: ReportData, clock: str) -> Figure | None:
    """Return cost over wall-clock time (`elapsed`) or over the time spent in trials (`spent`)."""
    found = progress(data, clock)
    if found is None:
        return None
    failures = f" Crosses at the bottom: {len(found.failures):,} failed trials." if len(found.failures) else ""
    return Figure(
        name=f"cost-over-{clock}",
        file=f"cost_over_{clock}_time",
        title=f"Cost over {'wall-clock time' if clock == 'elapsed' else data.seconds_name}",
        caption="Every success is a dot at the moment it ended; the line is the best cost so far at the highest fidelity: it only "
        f"falls.{failures}",
        content=found,
    )


def _references(data: ReportData, y: Scale) -> list[Reference]:
    names: dict[float, list[str]] = {}  # references of equal cost, such as a default that is a baseline, share a line
    for reference in data.full_references():
        if not y.is_log or float(reference["cost"]) > 0:
            names.setdefault(float(reference["cost"]), []).append(abridge(reference["name"], LABEL_LENGTH))
    found: list[Reference] = []
    lowest_free = -np.inf
    for cost, shared in sorted(names.items()):
        low, high, here = np.log([y.low, y.high, cost]) if y.is_log else (y.low, y.high, cost)
        height = float((here - low) / (high - low))
        lift = max(lowest_free - height, 0.0)
        lowest_free = height + lift + LINE_HEIGHT
        found.append(Reference(name=" = ".join(shared), cost=cost, lift=lift))
    return found


def _time_unit(longest_seconds: float) -> tuple[float, str]:
    return next((float(divisor), unit) for limit, divisor, unit in _TIME_UNITS if longest_seconds <= limit)


def needs_log(values: np.ndarray) -> bool:
    """Return whether positive values spread over so many orders of magnitude that a linear axis would hide most of them.

    A few values near zero are no reason: they are at the foot of a linear axis, where they belong.
    """
    finite = values[np.isfinite(values)]
    return bool(
        len(finite) and finite.min() > 0 and finite.max() / np.quantile(finite, FEW, method="lower") > LINEAR_RANGE
    )


def is_number(data: ReportData, name: str, values: Sequence[Any]) -> bool:
    """Return whether values of a hyperparameter belong on a scale of numbers rather than in a row of names.

    What the space searches on a logarithmic scale is shown on one; a few whole numbers are easier to read as names.
    """
    scale = data.scales.get(name)
    if scale is None or not values:
        return False
    return scale == "log" or len(set(values)) > MAX_CATEGORIES or any(value != round(value) for value in values)


def value_text(value: Any) -> str:
    """Return a value of a configuration as text; a number is written as on an axis."""
    return number_text(value) if isinstance(value, float) else plain(value)


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


@dataclass(frozen=True, slots=True, kw_only=True)
class Pareto:
    """Cost against one size, `x`: all trials at the highest fidelity (trial_id, x, cost), and those on the front."""

    x: Scale
    y: Scale
    size: str
    trials: pd.DataFrame
    front: pd.DataFrame


def pareto(data: ReportData) -> Pareto | None:
    """Return cost against measured size; None where no size was measured."""
    size = size_column(data)
    top = at_highest_fidelity(data)
    if size is None or top.empty:
        return None
    points = front(data, size)
    trials = pd.DataFrame({"trial_id": data.trial_ids(top), "x": top[size].astype(float), "cost": top["cost"]})
    best = pd.DataFrame(
        {
            "trial_id": [point.get("trial_id") for point in points],
            "x": [float(point[size]) for point in points],
            "cost": [float(point["cost"]) for point in points],
        }
    )
    costs = np.concatenate([trials["cost"], best["cost"]])
    return Pareto(
        x=scale_of(SIZES[size], np.concatenate([trials["x"], best["x"]]), is_count=size != "latency_ms"),
        y=scale_of("Cost", costs, is_log=needs_log(costs)),
        size=size,
        trials=trials,
        front=best,
    )


def pareto_front(data: ReportData) -> Figure | None:
    """Return cost against measured size with the Pareto front."""
    found = pareto(data)
    if found is None:
        return None
    trials = Dots(
        name="trials",
        x=found.trials["x"].to_numpy(dtype=float),
        y=found.trials["cost"].to_numpy(dtype=float),
        colour="level-3",
        trial_ids=found.trials["trial_id"].to_numpy(),
    )
    front = Line(
        name="Pareto front",
        x=found.front["x"].to_numpy(dtype=float),
        y=found.front["cost"].to_numpy(dtype=float),
        is_step=True,
        trial_ids=found.front["trial_id"].to_numpy(),
    )
    title = SIZES[found.size]
    return Figure(
        name="pareto-front",
        file="pareto_front",
        title=f"Cost against {title[0].lower()}{title[1:]}",
        caption="Trials at the highest fidelity. No trial is both smaller and better than one on the line.",
        content=Diagram(x=found.x, y=found.y, marks=[trials, front]),
    )


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

    x: Scale
    y: Scale
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
    values = kept[quantity].to_numpy(dtype=float)
    return Curves(
        x=scale_of("Epoch", kept["epoch"], is_whole=True),
        y=scale_of(QUANTITIES[quantity], values, is_log=quantity != "val_accuracy" and needs_log(values)),
        quantity=quantity,
        lines=[line for trial_id, line in lines.items() if trial_id != best],
        incumbent=None if best is None else lines.get(int(best)),
        num_trials=len(trial_ids),
    )


def curves_of_trials(data: ReportData) -> Figure | None:
    """Return learning curves, the incumbent's on top."""
    found = learning_curves(data)
    if found is None:
        return None
    marks: list[Mark] = []
    if found.lines:
        marks.append(ThinLines(name="trials", lines=[line[1:] for line in found.lines], colour="level-3"))
    if found.incumbent is not None:
        trial_id, epochs, values = found.incumbent
        marks.append(Line(name=f"incumbent (trial {trial_id})", x=epochs, y=values))
    drawn = len(found.lines) + (found.incumbent is not None)
    is_thinned = drawn < found.num_trials
    which = f"{drawn:,} of {found.num_trials:,} trials, evenly spread over the run." if is_thinned else "Every trial."
    return Figure(
        name="learning-curves",
        file="learning_curves",
        title=f"{QUANTITIES[found.quantity]} after each epoch",
        caption=f"{which} All epochs are in curves.parquet.",
        content=Diagram(x=found.x, y=found.y, marks=marks),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Correlation:
    """Cost at a lower fidelity against that at the highest: a name and the points (columns low, high) per lower fidelity."""

    x: Scale
    y: Scale
    pairs: Sequence[tuple[str, pd.DataFrame]]


def correlation(data: ReportData) -> Correlation | None:
    """Return the costs of the configurations at each lower fidelity and at the highest; None where there are none."""
    found = fidelity_pairs(data)
    if not found:
        return None
    low, high = (np.concatenate([both[column] for both in found.values()]) for column in ("low", "high"))
    return Correlation(
        x=scale_of("Cost at the lower fidelity", low, is_log=needs_log(low)),
        y=scale_of("Cost at the highest", high, is_log=needs_log(high)),
        pairs=[
            (f"{with_unit(fidelity, data.fidelity_unit)} ({len(both):,})", both)
            for fidelity, both in sorted(found.items())
        ],
    )


def fidelity_correlation(data: ReportData) -> Figure | None:
    """Return the cost of each configuration at a lower fidelity against its cost at the highest."""
    found = correlation(data)
    if found is None:
        return None
    marks = [
        Dots(
            name=name,
            x=both["low"].to_numpy(dtype=float),
            y=both["high"].to_numpy(dtype=float),
            # The strongest colour is that of the highest fidelity, which has no dots here.
            colour=level(index, len(found.pairs) + 1),
            symbol=index,
        )
        for index, (name, both) in enumerate(found.pairs)
    ]
    return Figure(
        name="fidelity-correlation",
        file="fidelity_correlation",
        title="Cost at a lower fidelity against the highest",
        caption="One point per configuration evaluated at both. Points that rise from left to right mean that the cheap trial ranks well.",
        content=Diagram(x=found.x, y=found.y, marks=marks),
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
