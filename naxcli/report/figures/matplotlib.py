"""How Matplotlib draws each figure: in blues of different lightness, the incumbent in orange, legible in greyscale."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from naxcli.report.figures import importance_numbers as importance_charts
from naxcli.report.figures import numbers as charts
from naxcli.report.figures.diagram import Diagram, Dots, Line, ThinLines
from naxcli.report.figures.parallel_numbers import Parallel
from naxcli.report.figures.scales import Scale, scale_of
from naxcli.report.figures.studies import Surface
from naxcli.report.text import abridge, with_unit

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

ACCENT, DARK, MIDDLE, LIGHT = "#c2410c", "#133f73", "#5a8fc6", "#b9cde4"
COLOURS = {
    "accent": ACCENT,
    "level-1": LIGHT,
    "level-2": "#8db1d8",
    "level-3": MIDDLE,
    "level-4": "#2c69a8",
    "level-5": DARK,
}
MARKERS = ("o", "D", "s", "^", "P", "p")
# Inches of an entry of a legend: its mark, and each character.
LEGEND_MARK, LEGEND_CHARACTER = 0.55, 0.07
# One column and two columns of a two-column paper, inches.
COLUMN, PAGE = 3.5, 7.0
# Inches of a character, of a row of bars, of a cell of the heat map, and of the least heat map that has room for its legend.
CHARACTER, ROW, CELL, LEAST_SIDE = 0.065, 0.2, 0.22, 1.5
PANEL_HEIGHT = 1.5
# Inches of parallel axes: a character of the widest tick, and between ticks.
TICK_CHARACTER, TICK_GAP = 0.048, 0.08
SHORT_NAME = 20
BAND_ALPHA = 0.25
NUM_PANELS = 4
PANEL_TITLE = 22

Size = tuple[float, float]


def _set_axes(axes: Axes, x: Scale, y: Scale) -> None:
    """Give a diagram the ranges, ticks and texts of its scales: Matplotlib's own texts of logarithmic axes are formulas."""
    axes.set(
        xlabel=x.title,
        ylabel=y.title,
        xscale="log" if x.is_log else "linear",
        yscale="log" if y.is_log else "linear",
    )
    axes.minorticks_off()
    axes.set_xticks(*_ticks(x), rotation=-x.slant, ha="right" if x.slant else "center", rotation_mode="anchor")
    axes.set_yticks(*_ticks(y))
    axes.set(xlim=(x.low, x.high), ylim=(y.low, y.high))


def _ticks(scale: Scale) -> tuple[list[float], list[str]]:
    return [value for value, _ in scale.all_ticks], [text for _, text in scale.all_ticks]


def _without_marks(axes: Axes) -> None:
    """Leave out what an axis of rows has no need of."""
    axes.tick_params(axis="y", length=0)
    axes.grid(visible=False, axis="y")


def _add_legend(figure: Figure) -> None:
    """Put the legend above the diagram, never over data, in as many rows as the figure's width asks for."""
    labels = figure.axes[0].get_legend_handles_labels()[1]
    widths = [LEGEND_MARK + LEGEND_CHARACTER * len(label) for label in labels]
    room = float(figure.get_figwidth())
    figure.legend(
        loc="outside upper left",
        ncols=len(labels) if sum(widths) <= room else max(1, int(room / max(widths))),
        handlelength=1.4,
        columnspacing=1.2,
    )


def paint_progress(figure: Figure, found: charts.Progress) -> None:
    """Draw every trial as a dot over a clock, and the incumbent's cost as a falling line."""
    axes = figure.subplots()
    fidelities = sorted(found.dots["fidelity"].unique())
    for index, fidelity in enumerate(fidelities):
        dots = found.dots[found.dots["fidelity"] == fidelity]
        axes.scatter(
            dots["x"],
            dots["cost"],
            s=6 if len(found.dots) >= charts.MANY else 14,
            alpha=0.8,
            linewidths=0,
            color=COLOURS[charts.level(index, len(fidelities))],
            marker=MARKERS[index % len(MARKERS)],
            label=with_unit(fidelity, found.unit),
            # Thousands of dots are one picture inside the vector file.
            rasterized=True,
        )
    axes.step(found.best_x, found.best_cost, where="post", color=ACCENT, linewidth=1.8, label="best so far")
    _set_axes(axes, found.x, found.y)
    height = axes.get_window_extent().height / figure.dpi * 72
    for reference in found.references:
        axes.axhline(reference.cost, color="black", linewidth=0.7, linestyle="--")
        axes.annotate(
            reference.name,
            (1, reference.cost),
            xycoords=("axes fraction", "data"),
            ha="right",
            xytext=(0, 2 + reference.lift * height),
            textcoords="offset points",
            bbox={"facecolor": "white", "edgecolor": "none", "pad": 0.3, "alpha": 0.7},
        )
    if len(found.failures):
        axes.plot(
            found.failures["x"],
            np.full(len(found.failures), 0.015),
            "x",
            color="black",
            markersize=3,
            markeredgewidth=0.6,
            transform=axes.get_xaxis_transform(),
            label=f"failed ({len(found.failures):,})",
            clip_on=False,
        )
    _add_legend(figure)


def paint_bars(figure: Figure, bars: importance_charts.Bars) -> None:
    """Draw importance with error bars, one bar per fidelity."""
    axes = figure.subplots()
    count = len(bars.fidelities)
    places = np.arange(len(bars.names))
    thickness = 0.8 / count
    for index, fidelity in enumerate(bars.fidelities):
        offset = (index - (count - 1) / 2) * thickness
        axes.barh(
            places + offset,
            np.nan_to_num(bars.mean[index]),
            thickness,
            color=COLOURS[charts.level(index, count)],
            alpha=importance_charts.BAR_OPACITY,
            xerr=np.nan_to_num(np.vstack([bars.below[index], bars.above[index]])),
            error_kw={"elinewidth": 0.6, "capsize": 1},
            label=with_unit(fidelity, bars.unit),
        )
    _set_axes(axes, bars.x, bars.y)
    _without_marks(axes)
    if count > 1:
        _add_legend(figure)


def paint_pairs(figure: Figure, found: importance_charts.PairMatrix) -> None:
    """Draw interactions as a heat map."""
    axes = figure.subplots()
    image = axes.imshow(np.ma.masked_invalid(found.shares), cmap="Blues", aspect="auto", vmin=0, vmax=found.darkest)
    _set_axes(axes, found.x, found.y)
    axes.tick_params(length=0)
    axes.grid(visible=False)
    shares = scale_of("share of variance", [found.darkest], from_zero=True)
    bar = figure.colorbar(image, ax=axes, label=shares.title)
    values, texts = _ticks(shares)
    bar.set_ticks(values, labels=texts)
    bar.ax.set_ylim(0, found.darkest)


def paint_steps(figure: Figure, found: importance_charts.Steps) -> None:
    """Draw the ablation path as a line from top to bottom, or Shapley values as bars; losses are hatched."""
    axes = figure.subplots()
    if found.is_path:
        _paint_path(axes, found)
    else:
        _paint_gains(axes, found)
    _set_axes(axes, found.x, found.y)
    _without_marks(axes)


def _paint_path(axes: Axes, found: importance_charts.Steps) -> None:
    last = len(found.values) - 1
    axes.errorbar(
        found.values,
        range(len(found.values)),
        xerr=[found.below, found.above],
        fmt="o-",
        color=DARK,
        markersize=4,
        linewidth=1,
        elinewidth=0.6,
        capsize=2,
    )
    axes.plot(found.values[-1:], [last], "D", color=ACCENT, markersize=5, zorder=3)


def _paint_gains(axes: Axes, found: importance_charts.Steps) -> None:
    bars = axes.barh(
        range(len(found.values)),
        found.values,
        0.7,
        color=[MIDDLE if value >= 0 else ACCENT for value in found.values],
        alpha=importance_charts.BAR_OPACITY,
        xerr=[found.below, found.above],
        error_kw={"elinewidth": 0.6, "capsize": 2},
    )
    for bar, value in zip(bars, found.values, strict=True):
        if value < 0:
            bar.set_hatch("///")
    axes.axvline(0, color="black", linewidth=0.6)


def paint_panels(figure: Figure, found: importance_charts.Panels) -> None:
    """Draw one small diagram per hyperparameter, all on one cost axis; the incumbent's value is filled."""
    grid = figure.subplots(-(-len(found.curves) // NUM_PANELS), NUM_PANELS, squeeze=False).ravel()
    for number, (axes, curve) in enumerate(zip(grid, found.curves, strict=False)):
        if curve.is_numeric:
            axes.plot(curve.places, curve.mean, color=DARK, linewidth=1)
            axes.fill_between(curve.places, curve.mean - curve.std, curve.mean + curve.std, color=LIGHT, linewidth=0)
        else:
            axes.errorbar(
                curve.places,
                curve.mean,
                yerr=curve.std,
                fmt="o:",
                color=DARK,
                markerfacecolor="white",
                markersize=4,
                linewidth=0.7,
                capsize=2,
            )
        if curve.incumbent is not None:
            axes.plot(*curve.incumbent, "o", color=ACCENT, markersize=5, zorder=3)
        _set_axes(axes, curve.x, curve.y)
        axes.set_title(abridge(curve.name, PANEL_TITLE), fontsize=8)
        axes.tick_params(labelsize=7)
        axes.grid(visible=False, axis="x")
        if number % NUM_PANELS:
            axes.set_ylabel("")
            axes.tick_params(labelleft=False)
    for axes in grid[len(found.curves) :]:
        axes.set_visible(False)


def paint_parallel(figure: Figure, found: Parallel) -> None:
    """Draw one line per trial over the axes, the best ones on top."""
    axes = figure.subplots()
    lines = np.column_stack([axis.heights for axis in found.axes])
    first_best = len(lines) - found.num_best
    for position, line in enumerate(lines):
        is_best = position >= first_best
        label = "other trials" if position == 0 else None
        label = f"best {found.num_best}" if position == first_best else label
        axes.plot(
            line,
            color=ACCENT if is_best else MIDDLE,
            alpha=0.9 if is_best else 0.3 if len(lines) >= charts.MANY else 0.7,
            linewidth=1.0 if is_best else 0.4 if len(lines) >= charts.MANY else 0.7,
            label=label,
            rasterized=True,
        )
    for place, axis in enumerate(found.axes):
        for height, text in axis.ticks:
            axes.annotate(
                text,
                (place, height),
                fontsize=6,
                ha="center",
                va="center",
                bbox={"facecolor": "white", "edgecolor": "none", "pad": 0.5, "alpha": 0.85},
            )
    _set_axes(axes, found.x, found.y)
    axes.spines["left"].set_visible(False)
    _add_legend(figure)


def paint_diagram(figure: Figure, found: Diagram) -> None:
    """Draw dots and lines."""
    axes = figure.subplots()
    for mark in found.marks:
        match mark:
            case Dots():
                axes.scatter(
                    mark.x,
                    mark.y,
                    s=8 if len(mark.x) >= charts.MANY else 14,
                    color=COLOURS[mark.colour],
                    marker=MARKERS[mark.symbol % len(MARKERS)],
                    alpha=0.7,
                    linewidths=0,
                    label=mark.name,
                    rasterized=True,
                )
            case Line():
                if mark.spread is not None:
                    low, high = mark.y - mark.spread, mark.y + mark.spread
                    axes.fill_between(mark.x, low, high, color=COLOURS[mark.colour], alpha=BAND_ALPHA, linewidth=0)
                axes.plot(
                    mark.x,
                    mark.y,
                    marker=("." if len(mark.x) == 1 else None) if mark.trial_ids is None else "D",
                    drawstyle="steps-post" if mark.is_step else "default",
                    color=COLOURS[mark.colour],
                    markersize=4,
                    linewidth=1.5,
                    label=mark.name,
                    clip_on=False,
                )
            case ThinLines():
                for number, (x, y) in enumerate(mark.lines):
                    axes.plot(
                        x,
                        y,
                        color=COLOURS[mark.colour],
                        linewidth=0.5,
                        alpha=0.6,
                        marker="." if len(x) == 1 else None,
                        markersize=3,
                        label=None if number else mark.name,
                    )
    _set_axes(axes, found.x, found.y)
    _add_legend(figure)


def paint_surface(figure: Figure, found: Surface) -> None:
    """Draw a loss over a plane as contours."""
    axes = figure.subplots()
    z = np.ma.masked_invalid(found.z)
    filled = axes.contourf(found.xs, found.ys, z, levels=found.levels, cmap="Blues")
    axes.contour(found.xs, found.ys, z, levels=found.levels, colors="black", linewidths=0.3)
    axes.plot(0, 0, "D", color=ACCENT, markersize=4)
    _set_axes(axes, found.x, found.y)
    axes.grid(visible=False)
    scale = scale_of(found.title, found.levels)
    bar = figure.colorbar(filled, ax=axes, label=scale.title)
    values, texts = _ticks(scale)
    bar.set_ticks(values, labels=texts)
    bar.ax.set_ylim(found.levels[0], found.levels[-1])


def _rows(scale: Scale, row: float = ROW) -> Size:
    """Return the size of a figure of rows: wider than a column where long names would leave too little of it."""
    longest = max(len(text) for _, text in scale.all_ticks)
    return COLUMN + CHARACTER * max(0, longest - SHORT_NAME), 0.9 + row * len(scale.all_ticks)


def _size_of_bars(bars: importance_charts.Bars) -> Size:
    return _rows(bars.y, max(ROW, 0.09 * len(bars.fidelities) + 0.06))


def _size_of_parallel(found: Parallel) -> Size:
    return max(PAGE, (TICK_CHARACTER * found.longest_tick + TICK_GAP) * len(found.axes)), 3.2


def _size_of_pairs(found: importance_charts.PairMatrix) -> Size:
    names = CHARACTER * max(map(len, found.names))
    side = max(LEAST_SIDE, CELL * len(found.names))
    return side + names + 0.9, side + names * 0.9 + 0.2


def _size_of_panels(found: importance_charts.Panels) -> Size:
    return PAGE, PANEL_HEIGHT * -(-len(found.curves) // NUM_PANELS)


# By the type of a figure's content: its size in inches, and what draws it.
PAINTERS: dict[type, tuple[Size | Callable[[Any], Size], Callable[[Figure, Any], None]]] = {
    charts.Progress: ((PAGE, 3.0), paint_progress),
    Parallel: (_size_of_parallel, paint_parallel),
    Diagram: ((COLUMN, 2.6), paint_diagram),
    Surface: ((COLUMN, 2.9), paint_surface),
    importance_charts.Bars: (_size_of_bars, paint_bars),
    importance_charts.PairMatrix: (_size_of_pairs, paint_pairs),
    importance_charts.Steps: (lambda found: _rows(found.y), paint_steps),
    importance_charts.Panels: (_size_of_panels, paint_panels),
}
