"""How Matplotlib draws each figure: in blues of different lightness, the incumbent in orange, legible in greyscale."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from naxcli.report import charts
from naxcli.report.data import ReportData
from naxcli.report.text import is_missing, plain, shorten, with_unit

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

LABEL_LENGTH = 30
ACCENT, DARK, MIDDLE, LIGHT = "#c2410c", "#133f73", "#5a8fc6", "#b9cde4"
RAMP = ("#b9cde4", "#8db1d8", "#5a8fc6", "#2c69a8", "#133f73")
MARKERS = ("o", "D", "s", "^", "P", "p")
SIZES = {"num_params": "Parameters", "flops": "Multiply-adds", "latency_ms": "Latency (ms)"}
QUANTITIES = {"val_accuracy": "Validation accuracy", "val_loss": "Validation loss", "train_loss": "Training loss"}


def _colour(index: int, count: int) -> str:
    return RAMP[-1] if count == 1 else RAMP[round(index * (len(RAMP) - 1) / (count - 1))]


def _label(text: Any) -> str:
    return shorten(str(text), LABEL_LENGTH)


def paint_cost_over(figure: Figure, progress: charts.Progress, clock: str, data: ReportData) -> None:
    """Draw every trial as a dot over a clock, and the incumbent's cost as a falling line."""
    axes = figure.subplots()
    fidelities = sorted(progress.dots["fidelity"].unique())
    for index, fidelity in enumerate(fidelities):
        dots = progress.dots[progress.dots["fidelity"] == fidelity]
        # Thousands of dots are one picture inside the vector file.
        axes.scatter(dots["x"], dots["cost"], s=6, alpha=0.7, linewidths=0, color=_colour(index, len(fidelities)),
                     marker=MARKERS[index % len(MARKERS)], label=with_unit(fidelity, data.fidelity_unit), rasterized=True)  # fmt: skip
    axes.step(progress.best_x, progress.best_cost, where="post", color=ACCENT, linewidth=1.8, label="best so far")
    for reference in data.listed("references"):
        if not is_missing(reference.get("cost")):
            axes.axhline(float(reference["cost"]), color="black", linewidth=0.7, linestyle="--")
            axes.annotate(_label(reference["name"]), (1, float(reference["cost"])), xycoords=("axes fraction", "data"), ha="right",
                          xytext=(0, 2), textcoords="offset points")  # fmt: skip
    if len(progress.failures):
        axes.plot(progress.failures["x"], np.full(len(progress.failures), 0.015), "x", color="black", markersize=3, markeredgewidth=0.6,
                  transform=axes.get_xaxis_transform(), label=f"failed ({len(progress.failures)})")  # fmt: skip
    if charts.needs_log(progress.dots["cost"].to_numpy(dtype=float)):
        axes.set_yscale("log")
    what = "Time since the start" if clock == "elapsed" else data.spent_name
    axes.set_xlabel(f"{what} ({progress.unit})")
    axes.set_ylabel("Cost")
    figure.legend(loc="outside upper left", ncols=len(fidelities) + 2)


def paint_bars(figure: Figure, bars: charts.Bars, title: str, data: ReportData) -> None:
    """Draw importance with error bars, one bar per fidelity."""
    axes = figure.subplots()
    count = len(bars.fidelities)
    places = np.arange(len(bars.names))
    thickness = 0.8 / count
    for index, fidelity in enumerate(bars.fidelities):
        offset = (index - (count - 1) / 2) * thickness
        axes.barh(places + offset, np.nan_to_num(bars.mean[index]), thickness, color=_colour(index, count),
                  xerr=np.nan_to_num(np.vstack([bars.below[index], bars.above[index]])), error_kw={"elinewidth": 0.6, "capsize": 1},
                  label=with_unit(fidelity, data.fidelity_unit))  # fmt: skip
    _name_rows(axes, [_label(name) for name in bars.names])
    axes.set_xlabel(title)
    if count > 1:
        figure.legend(loc="outside upper right", ncols=min(count, 4))


def _name_rows(axes: Axes, names: Sequence[str]) -> None:
    axes.set_yticks(range(len(names)), names)
    axes.invert_yaxis()
    axes.tick_params(axis="y", length=0)
    axes.grid(visible=False, axis="y")


def paint_pairs(figure: Figure, names: Sequence[str], matrix: np.ndarray) -> None:
    """Draw interactions as a heat map."""
    axes = figure.subplots()
    image = axes.imshow(np.ma.masked_invalid(matrix), cmap="Blues", vmin=0)
    labels = [_label(name) for name in names]
    axes.set_xticks(range(len(names)), labels, rotation=60, ha="right", rotation_mode="anchor")
    axes.set_yticks(range(len(names)), labels)
    axes.grid(visible=False)
    figure.colorbar(image, ax=axes, label="share of variance (fANOVA)", shrink=0.8)


def paint_ablation(figure: Figure, steps: Sequence[Mapping[str, Any]]) -> None:
    """Draw the predicted cost along the path from the default to the incumbent."""
    axes = figure.subplots()
    cost = [float(step["cost"]) for step in steps]
    axes.errorbar(
        cost,
        range(len(steps)),
        xerr=_error_bars(cost, steps),
        fmt="o-",
        color=DARK,
        markersize=4,
        linewidth=1,
        elinewidth=0.6,
        capsize=2,
    )
    axes.plot(cost[-1:], [len(steps) - 1], "D", color=ACCENT, markersize=5, zorder=3)
    _name_rows(
        axes,
        [
            _label(step["name"] if is_missing(step.get("to")) else f"{step['name']} → {plain(step['to'])}")
            for step in steps
        ],
    )
    axes.set_xlabel("Predicted cost")


def paint_shapley(figure: Figure, rows: Sequence[Mapping[str, Any]]) -> None:
    """Draw Shapley values; losses are hatched."""
    axes = figure.subplots()
    values = [float(row["value"]) for row in rows]
    bars = axes.barh(range(len(rows)), values, 0.7, color=[MIDDLE if value >= 0 else ACCENT for value in values],
                     xerr=_error_bars(values, rows), error_kw={"elinewidth": 0.6, "capsize": 2})  # fmt: skip
    for bar, value in zip(bars, values, strict=True):
        if value < 0:
            bar.set_hatch("///")
    axes.axvline(0, color="black", linewidth=0.6)
    _name_rows(axes, [_label(row["name"]) for row in rows])
    axes.set_xlabel("Gain in predicted cost")


def _error_bars(values: Sequence[float], rows: Sequence[Mapping[str, Any]]) -> np.ndarray:
    """Return the lengths of the intervals below and above, shape (2, rows), 0 where there is none."""
    low, high = ([value if is_missing(row.get(key)) else float(row[key]) for value, row in zip(values, rows, strict=True)]
                 for key in ("low", "high"))  # fmt: skip
    return np.clip([np.subtract(values, low), np.subtract(high, values)], 0, None)


def paint_dependence(
    figure: Figure, curves: Sequence[Mapping[str, Any]], config: Mapping[str, Any], num_rows: int
) -> None:
    """Draw one small diagram per hyperparameter, all on one cost axis; the incumbent's value is filled."""
    grid = figure.subplots(num_rows, 4, sharey=True, squeeze=False).ravel()
    for axes, curve in zip(grid, curves, strict=False):
        values, mean, std = curve["values"], np.asarray(curve["mean"]), np.asarray(curve["std"])
        axes.set_title(_label(curve["name"]), fontsize=8)
        if not charts.is_continuous(values):
            places = np.arange(len(values))
            axes.errorbar(
                places,
                mean,
                yerr=std,
                fmt="o:",
                color=DARK,
                markerfacecolor="white",
                markersize=4,
                linewidth=0.7,
                capsize=2,
            )
            chosen = [place for place, value in enumerate(values) if plain(value) == plain(config.get(curve["name"]))]
            axes.plot(places[chosen], mean[chosen], "o", color=ACCENT, markersize=5, zorder=3)
            axes.set_xticks(places, [shorten(plain(value), 10) for value in values])
            axes.margins(x=0.15)
        else:
            axes.plot(values, mean, color=DARK, linewidth=1)
            axes.fill_between(values, mean - std, mean + std, color=LIGHT)
            if charts.needs_log(np.array(values, dtype=float)):
                axes.set_xscale("log")
    for axes in grid[len(curves) :]:
        axes.set_visible(False)
    figure.supylabel("Predicted cost", fontsize=8)


def paint_parallel(figure: Figure, found: charts.Parallel) -> None:
    """Draw one line per trial over the axes, the best ones on top."""
    axes = figure.subplots()
    lines = np.column_stack([axis.heights for axis in found.axes])
    for position, line in enumerate(lines):
        is_best = position >= len(lines) - found.num_best
        axes.plot(
            line,
            color=ACCENT if is_best else MIDDLE,
            alpha=0.9 if is_best else 0.25,
            linewidth=0.8 if is_best else 0.4,
            rasterized=True,
        )
    for place, axis in enumerate(found.axes):
        for height, text in axis.ticks:
            axes.annotate(shorten(text, 10), (place, height), fontsize=6, ha="center", va="center",
                          bbox={"facecolor": "white", "edgecolor": "none", "pad": 0.5, "alpha": 0.85})  # fmt: skip
    names = [_label(axis.name) for axis in found.axes]
    axes.set_xticks(range(len(names)), names, rotation=35, ha="right", rotation_mode="anchor")
    axes.set_xlim(-0.5, len(names) - 0.5)
    axes.set_yticks([])
    axes.spines["left"].set_visible(False)


def paint_pareto(figure: Figure, data: ReportData, size: str) -> None:
    """Draw cost against size with the Pareto front."""
    from matplotlib.ticker import EngFormatter

    axes = figure.subplots()
    trials = charts.at_highest_fidelity(data)
    axes.scatter(
        trials[size].astype(float),
        trials["cost"].astype(float),
        s=8,
        color=MIDDLE,
        alpha=0.7,
        linewidths=0,
        label="trials",
        rasterized=True,
    )
    front = charts.front(data, size)
    axes.step([float(point[size]) for point in front], [float(point["cost"]) for point in front], "D-", where="post", color=ACCENT,
              markersize=4, linewidth=1.2, label="Pareto front")  # fmt: skip
    axes.xaxis.set_major_formatter(EngFormatter(sep=""))
    axes.set_xlabel(SIZES[size])
    axes.set_ylabel("Cost")
    axes.legend()


def paint_curves(figure: Figure, found: charts.Curves) -> None:
    """Draw learning curves, the incumbent's on top."""
    axes = figure.subplots()
    for _, epochs, values in found.lines:
        axes.plot(
            epochs,
            values,
            color=MIDDLE,
            linewidth=0.5,
            alpha=0.5,
            marker="." if len(epochs) == 1 else None,
            markersize=2,
        )
    if found.incumbent is not None:
        axes.plot(
            found.incumbent[1],
            found.incumbent[2],
            color=ACCENT,
            linewidth=1.8,
            label="incumbent",
            marker="." if len(found.incumbent[1]) == 1 else None,
        )
        axes.legend()
    axes.set_xlabel("Epoch")
    axes.set_ylabel(QUANTITIES[found.quantity])


def paint_correlation(figure: Figure, pairs: Mapping[float, Any], data: ReportData) -> None:
    """Draw the cost at lower fidelities against that at the highest."""
    axes = figure.subplots()
    for index, (low, both) in enumerate(sorted(pairs.items())):
        axes.scatter(both["low"], both["high"], s=12, color=_colour(index, len(pairs) + 1), marker=MARKERS[index % len(MARKERS)],
                     edgecolors=DARK, linewidths=0.3, label=f"{with_unit(low, data.fidelity_unit)} ({len(both)})")  # fmt: skip
    axes.set_xlabel("Cost at the lower fidelity")
    axes.set_ylabel("Cost at the highest")
    axes.legend()
