"""How Plotly draws the figures of importance on the HTML page."""

from __future__ import annotations

from typing import Any

import numpy as np
import plotly.graph_objects as go

from naxcli.report.figures import importance_numbers as importance_charts
from naxcli.report.figures import numbers as charts
from naxcli.report.figures.plotly_style import ACCENT, MUTED, SURFACE, TEXT, Drawers, Drawing, draw, label, level
from naxcli.report.text import with_unit

DEPENDENCE_HEIGHT = 210
# Pixels of the heat map: a row, and what a character of a slanted name takes below.
HEAT_ROW, SLANTED_CHARACTER = 30, 6.5
# A name, an arrow and a value.
LONG_LABEL = charts.LABEL_LENGTH + importance_charts.MAX_VALUE_LENGTH + 3


def draw_bars(bars: importance_charts.Bars) -> Drawing:
    """Draw importance with error bars, one bar per fidelity."""
    labels = [label(name) for name in bars.names]
    places = list(range(len(labels)))
    traces = [
        go.Bar(
            y=places,
            text=labels,
            textposition="none",
            x=bars.mean[index],
            orientation="h",
            name=with_unit(fidelity, bars.unit),
            marker={"color": level(index, len(bars.fidelities)), "opacity": importance_charts.BAR_OPACITY},
            error_x={
                "type": "data",
                "symmetric": False,
                "array": np.nan_to_num(bars.above[index]),
                "arrayminus": np.nan_to_num(bars.below[index]),
                "color": TEXT,
                "thickness": 1.2,
                "width": 2,
            },
            hovertemplate="%{text}: %{x:.3f}",
        )
        for index, fidelity in enumerate(bars.fidelities)
    ]
    height = 90 + len(labels) * max(26, 13 * len(bars.fidelities) + 6)
    return draw(
        *traces,
        x=bars.x,
        y=bars.y,
        height=height,
        is_still=True,
        barmode="group",
        yaxis={"ticks": ""},
        legend={
            "orientation": "h",
            "yanchor": "bottom",
            "y": 1.01,
            "xanchor": "left",
            "x": 0,
            "traceorder": "normal",
        },
    )


def draw_pairs(found: importance_charts.PairMatrix) -> Drawing:
    """Draw the interactions of all pairs as a heat map."""
    labels = [label(name) for name in found.names]
    places = list(range(len(labels)))
    heat = go.Heatmap(
        x=places,
        y=places,
        z=found.shares,
        text=[[f"{first} × {second}" for second in labels] for first in labels],
        colorscale=[[0, SURFACE], [1, "var(--level-5)"]],
        zmin=0,
        zmax=found.darkest,
        xgap=1,
        ygap=1,
        hoverongaps=False,
        colorbar={
            "title": {"text": "share of variance", "side": "right"},
            "thickness": 12,
            "outlinewidth": 0,
            "tickformat": ".3~g",
        },
        hovertemplate="%{text}: %{z:.4f}<extra></extra>",
    )
    return draw(
        heat,
        x=found.x,
        y=found.y,
        height=round(60 + HEAT_ROW * len(places) + SLANTED_CHARACTER * max(map(len, found.names))),
        min_width=560,
        is_still=True,
        xaxis={"showgrid": False, "ticks": ""},
        yaxis={"showgrid": False, "ticks": ""},
    )


def draw_steps(found: importance_charts.Steps) -> Drawing:
    """Draw the ablation path as a line from top to bottom, or Shapley values as bars."""
    return _path(found) if found.is_path else _gains(found)


def _path(found: importance_charts.Steps) -> Drawing:
    num_steps = len(found.values)
    height = 110 + 30 * num_steps
    line = go.Scatter(
        x=found.values,
        y=list(range(num_steps)),
        text=_texts(found),
        mode="lines+markers",
        error_x=_error_bars(found),
        line={"color": "var(--level-4)", "width": 2},
        marker={"color": [*["var(--level-5)"] * (num_steps - 1), ACCENT], "size": 10},
        hovertemplate="%{text}: %{x:.4f}<extra></extra>",
    )
    return draw(line, x=found.x, y=found.y, height=height, is_still=True, yaxis={"ticks": ""})


def _gains(found: importance_charts.Steps) -> Drawing:
    height = 100 + 30 * len(found.values)
    bar = go.Bar(
        y=list(range(len(found.values))),
        text=_texts(found),
        textposition="none",
        x=found.values,
        orientation="h",
        marker={
            "color": ["var(--level-4)" if value >= 0 else ACCENT for value in found.values],
            "pattern": {"shape": ["" if value >= 0 else "/" for value in found.values]},
            "opacity": importance_charts.BAR_OPACITY,
        },
        error_x=_error_bars(found),
        hovertemplate="%{text}: %{x:+.4f}<extra></extra>",
    )
    return draw(
        bar,
        x=found.x,
        y=found.y,
        height=height,
        is_still=True,
        xaxis={"zeroline": True, "zerolinecolor": MUTED},
        yaxis={"ticks": ""},
    )


def draw_dependence(curve: importance_charts.Dependence) -> Drawing:
    """Draw one small diagram; the incumbent's value is filled."""
    return draw(
        *(_band(curve) if curve.is_numeric else _points(curve)),
        x=curve.x,
        y=curve.y,
        height=DEPENDENCE_HEIGHT,
        is_still=True,
        showlegend=False,
        font={"color": TEXT, "size": 11, "family": "system-ui, sans-serif"},
        margin={"l": 8, "r": 12, "t": 8, "b": 8},
        xaxis={"showgrid": False},
        yaxis={"title": {"text": ""}},  # said once, above the panels
    )


def _points(curve: importance_charts.Dependence) -> list[Any]:
    is_chosen = [curve.incumbent is not None and place == curve.incumbent[0] for place in curve.places]
    return [
        go.Scatter(
            x=curve.places,
            y=curve.mean,
            text=[label(text) for text in curve.labels],
            mode="lines+markers",
            line={"color": "var(--level-4)", "width": 1, "dash": "dot"},
            marker={
                "size": 10,
                "color": [ACCENT if flag else SURFACE for flag in is_chosen],
                "line": {"color": [ACCENT if flag else "var(--level-5)" for flag in is_chosen], "width": 2},
            },
            error_y={"type": "data", "array": curve.std, "color": MUTED, "thickness": 1.2, "width": 3},
            hovertemplate="%{text}: %{y:.4f}<extra></extra>",
        )
    ]


def _band(curve: importance_charts.Dependence) -> list[Any]:
    band = {"mode": "lines", "line": {"width": 0}, "hoverinfo": "skip"}
    traces = [
        go.Scatter(x=curve.places, y=curve.mean - curve.std, **band),
        go.Scatter(x=curve.places, y=curve.mean + curve.std, fill="tonexty", fillcolor="var(--level-1)", **band),
        go.Scatter(
            x=curve.places,
            y=curve.mean,
            mode="lines",
            line={"color": "var(--level-5)", "width": 2},
            hovertemplate="%{x:.4~g}: %{y:.4f}<extra></extra>",
        ),
    ]
    if curve.incumbent is not None:
        place, cost = curve.incumbent
        traces.append(
            go.Scatter(
                x=[place],
                y=[cost],
                mode="markers",
                marker={"color": ACCENT, "size": 10},
                hovertemplate="incumbent %{x:.4~g}<extra></extra>",
            )
        )
    return traces


def _texts(steps: importance_charts.Steps) -> list[str]:
    return [label(text, LONG_LABEL) for _, text in steps.y.all_ticks]


def _error_bars(steps: importance_charts.Steps) -> dict[str, Any]:
    """Return Plotly's error bars of the intervals, of no length where there is none."""
    return {
        "type": "data",
        "symmetric": False,
        "array": steps.above,
        "arrayminus": steps.below,
        "color": TEXT,
        "thickness": 1.2,
        "width": 3,
    }


DRAWERS: Drawers = {
    importance_charts.Bars: draw_bars,
    importance_charts.PairMatrix: draw_pairs,
    importance_charts.Steps: draw_steps,
    importance_charts.Dependence: draw_dependence,
}
