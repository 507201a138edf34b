"""How Plotly draws the figures of a run on the HTML page: progress, parallel coordinates, and diagrams of dots and lines."""

from __future__ import annotations

import math
from collections.abc import Iterator
from html import escape
from typing import Any

import numpy as np
import plotly.graph_objects as go

from naxcli.report.figures import numbers as charts
from naxcli.report.figures.diagram import Diagram, Dots, Line, Mark, ThinLines
from naxcli.report.figures.parallel_numbers import Parallel
from naxcli.report.figures.plotly_style import (
    ACCENT,
    MUTED,
    SURFACE,
    SYMBOLS,
    TEXT,
    Drawers,
    Drawing,
    colour,
    draw,
    label,
    level,
)
from naxcli.report.figures.studies import Surface
from naxcli.report.text import with_unit

# Above this number of points, WebGL draws them; below, SVG is sharper and prints.
WEBGL_FROM = 1_500
# Height of the axes of cost over time, about, in pixels.
PLOT_HEIGHT = 360
DIAGRAM_HEIGHT = 420
BAND_OPACITY = 0.25
# Parallel axes: pixels of a character of the widest tick, and between ticks.
TICK_CHARACTER, TICK_GAP = 6.5, 12


def draw_progress(found: charts.Progress) -> Drawing:
    """Draw every trial as a dot over a clock, the best cost so far as a falling line, and failures at the bottom."""
    best = go.Scatter(
        x=found.best_x,
        y=found.best_cost,
        mode="lines",
        name="best so far",
        line={"color": ACCENT, "width": 3, "shape": "hv"},
        hovertemplate="best so far %{y:.4f}",
    )
    lines, names = _reference_lines(found)
    layout: dict[str, Any] = {"shapes": lines, "annotations": names}
    if len(found.failures):
        # An axis of their own: the crosses keep their place however the costs are zoomed.
        layout["yaxis2"] = {"domain": [0, 0.05], "visible": False, "fixedrange": True, "range": [-1, 1]}
    return draw(
        *_successes(found),
        best,
        *_failures(found),
        x=found.x,
        y=found.y,
        height=460,
        xaxis={"anchor": "y2" if "yaxis2" in layout else "y"},
        yaxis={"domain": [0.08, 1] if "yaxis2" in layout else [0, 1]},
        **layout,
    )


def _scatter(num_points: int) -> Any:
    """Return the kind of trace that draws so many points well."""
    return go.Scattergl if num_points > WEBGL_FROM else go.Scatter


def _successes(found: charts.Progress) -> Iterator[Any]:
    fidelities = sorted(found.dots["fidelity"].unique())
    for index, fidelity in enumerate(fidelities):
        dots = found.dots[found.dots["fidelity"] == fidelity]
        yield _scatter(len(found.dots))(
            x=dots["x"].to_numpy(dtype=float),
            y=dots["cost"].to_numpy(dtype=float),
            customdata=dots["trial_id"].to_numpy(dtype=np.int32),
            mode="markers",
            name=with_unit(fidelity, found.unit),
            marker={
                "color": level(index, len(fidelities)),
                "symbol": SYMBOLS[index % len(SYMBOLS)],
                "size": 5 if len(dots) > WEBGL_FROM else 7,
                "opacity": 0.55 if len(dots) > WEBGL_FROM else 0.8,
            },
            hovertemplate="trial %{customdata}<br>cost %{y:.4f}",
        )


def _reference_lines(found: charts.Progress) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Return Plotly's shapes and annotations of the references.

    On a logarithmic axis, Plotly places a line by its value, and a text by its logarithm.
    """
    lines = [
        {
            "type": "line",
            "xref": "paper",
            "x0": 0,
            "x1": 1,
            "y0": reference.cost,
            "y1": reference.cost,
            "line": {"color": TEXT, "width": 1, "dash": "dash"},
        }
        for reference in found.references
    ]
    names = [
        {
            "text": label(reference.name, 3 * charts.LABEL_LENGTH),
            "xref": "paper",
            "x": 1,
            "xanchor": "right",
            "y": math.log10(reference.cost) if found.y.is_log else reference.cost,
            "yanchor": "bottom",
            "yshift": round(reference.lift * PLOT_HEIGHT),
            "showarrow": False,
        }
        for reference in found.references
    ]
    return lines, names


def _failures(found: charts.Progress) -> Iterator[Any]:
    if len(found.failures):
        yield _scatter(len(found.dots))(
            x=found.failures["x"].to_numpy(dtype=float),
            y=np.zeros(len(found.failures), dtype=np.int8),
            text=[
                f"trial {row.trial_id}: {escape(str(row.status)).replace('_', ' ')}"
                for row in found.failures.itertuples()
            ],
            mode="markers",
            name=f"failed ({len(found.failures):,})",
            yaxis="y2",
            marker={"color": TEXT, "symbol": "x-thin-open", "size": 7},
            hovertemplate="%{text}<extra></extra>",
        )


def draw_parallel(found: Parallel) -> Drawing:
    """Draw one line per trial over the axes, the best ones on top."""
    return draw(
        *_trial_lines(found),
        x=found.x,
        y=found.y,
        height=520,
        min_width=round((TICK_CHARACTER * found.longest_tick + TICK_GAP) * len(found.axes)),
        is_still=True,
        annotations=[
            {
                "x": place,
                "y": height,
                "text": label(text),
                "showarrow": False,
                "bgcolor": SURFACE,
                "font": {"size": 11},
                "borderpad": 1,
            }
            for place, axis in enumerate(found.axes)
            for height, text in axis.ticks
        ],
        margin={"l": 8, "r": round(TICK_CHARACTER * len(found.x.all_ticks[-1][1])), "t": 28, "b": 8},
        xaxis={"side": "top", "showline": False, "gridcolor": MUTED},
        yaxis={"visible": False},
        legend={"orientation": "h", "yanchor": "top", "y": -0.02, "xanchor": "left", "x": 0},
    )


def _trial_lines(found: Parallel) -> Iterator[Any]:
    num_axes, num_lines = len(found.axes), len(found.costs)
    heights = np.column_stack([axis.heights for axis in found.axes])
    first_best = num_lines - found.num_best
    others = {"width": 0.7, "opacity": 0.6} if num_lines >= charts.MANY else {"width": 1.2, "opacity": 0.8}
    styles: tuple[tuple[str, slice, dict[str, Any]], ...] = (
        (
            "other trials",
            slice(0, first_best),
            {"line": {"color": "var(--level-3)", "width": others["width"]}, "opacity": others["opacity"]},
        ),
        (f"best {found.num_best}", slice(first_best, None), {"line": {"color": ACCENT, "width": 1.6}}),
    )
    for name, part, style in styles:
        words = [
            f"trial {trial}: cost {cost:.4f}"
            for trial, cost in zip(found.trial_ids[part], found.costs[part], strict=True)
        ]
        yield go.Scatter(
            x=np.tile(np.arange(num_axes + 1, dtype=np.int16), len(words)),
            # NaN ends a line.
            y=np.pad(heights[part], ((0, 0), (0, 1)), constant_values=np.nan).ravel().astype(np.float32),
            text=[text for text in words for _ in range(num_axes + 1)],
            mode="lines",
            name=name,
            hovertemplate="%{text}<extra></extra>",
            **style,
        )


def draw_diagram(found: Diagram) -> Drawing:
    """Draw dots and lines."""
    number = "%{x:.4~s}" if found.x.is_count else "%{x:.4~g}"
    point = f"{number}, %{{y:.4f}}"
    bands = (_band(mark) for mark in found.marks if isinstance(mark, Line) and mark.spread is not None)
    return draw(*bands, *(_trace(mark, point) for mark in found.marks), x=found.x, y=found.y, height=DIAGRAM_HEIGHT)


def _band(mark: Line) -> Any:
    """Return the area around a line, there and back."""
    return go.Scatter(
        x=np.concatenate([mark.x, mark.x[::-1]]),
        y=np.concatenate([mark.y + mark.spread, (mark.y - mark.spread)[::-1]]),
        mode="lines",
        line={"width": 0},
        fill="toself",
        fillcolor=colour(mark.colour),
        opacity=BAND_OPACITY,
        hoverinfo="skip",
        showlegend=False,
    )


def _trace(mark: Mark, point: str) -> Any:
    match mark:
        case Dots():
            num_points = len(mark.x)
            return _scatter(num_points)(
                x=mark.x,
                y=mark.y,
                **_words(mark, point),
                mode="markers",
                name=mark.name,
                showlegend=True,
                marker={
                    "color": colour(mark.colour),
                    "symbol": SYMBOLS[mark.symbol % len(SYMBOLS)],
                    "size": 6 if num_points >= charts.MANY else 8,
                    "opacity": 0.7,
                },
            )
        case Line():
            return go.Scatter(
                x=mark.x,
                y=mark.y,
                **_words(mark, point),
                mode="lines+markers",
                name=mark.name,
                showlegend=True,
                line={"color": colour(mark.colour), "width": 2.5, "shape": "hv" if mark.is_step else "linear"},
                marker={"symbol": "circle" if mark.trial_ids is None else "diamond", "size": 9 if mark.is_step else 6},
                cliponaxis=False,
            )
        case ThinLines():
            # NaN ends a line.
            return go.Scatter(
                x=np.concatenate([np.append(x, np.nan) for x, _ in mark.lines]),
                y=np.concatenate([np.append(y, np.nan) for _, y in mark.lines]),
                mode="lines+markers",
                name=mark.name,
                showlegend=True,
                line={"color": colour(mark.colour), "width": 1},
                marker={"size": 3},
                opacity=0.5,
                hoverinfo="skip",
                connectgaps=False,
            )


def _words(mark: Dots | Line, point: str) -> dict[str, Any]:
    """Return what a point says when it is pointed at."""
    if mark.trial_ids is None:
        return {"hovertemplate": f"{label(mark.name)}: {point}<extra></extra>"}
    # Arrays of numbers are written in base64, at a fraction of the size.
    is_whole = mark.trial_ids.dtype.kind == "i"
    ids = mark.trial_ids.astype(np.int32) if is_whole else mark.trial_ids.tolist()
    return {"customdata": ids, "hovertemplate": f"trial %{{customdata}}<br>{point}<extra></extra>"}


def draw_surface(found: Surface) -> Drawing:
    """Draw a loss over a plane as contours."""
    contours = go.Contour(
        x=found.xs,
        y=found.ys,
        z=[[None if math.isnan(value) else value for value in row] for row in found.z.tolist()],
        contours={"start": found.levels[0], "end": found.levels[-1], "size": found.levels[1] - found.levels[0]},
        colorscale=[[0, SURFACE], [1, "var(--level-5)"]],
        line={"width": 0.5, "color": MUTED},
        colorbar={"title": {"text": found.title, "side": "right"}, "thickness": 12, "outlinewidth": 0},
        hovertemplate="%{x:.3f}, %{y:.3f}: %{z:.4f}<extra></extra>",
    )
    network = go.Scatter(
        x=[0],
        y=[0],
        mode="markers",
        showlegend=False,
        marker={"color": ACCENT, "symbol": "diamond", "size": 9},
        hovertemplate="the network<extra></extra>",
    )
    return draw(contours, network, x=found.x, y=found.y, height=DIAGRAM_HEIGHT)


DRAWERS: Drawers = {
    charts.Progress: draw_progress,
    Parallel: draw_parallel,
    Diagram: draw_diagram,
    Surface: draw_surface,
}
