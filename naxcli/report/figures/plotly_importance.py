"""The figures of importance on the HTML page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import plotly.graph_objects as go

from naxcli.report.data import ReportData
from naxcli.report.figures import importance_numbers as importance_charts
from naxcli.report.figures import numbers as charts
from naxcli.report.figures.plotly_style import ACCENT, MUTED, SURFACE, TEXT, Figure, draw, label, level
from naxcli.report.figures.scales import Scale, rows
from naxcli.report.text import abridge, plain, with_unit

DEPENDENCE_HEIGHT = 210
# Pixels of the heat map: a row, and what a character of a slanted name takes below.
HEAT_ROW, SLANTED_CHARACTER = 30, 6.5
# A name, an arrow and a value.
LONG_LABEL = charts.LABEL_LENGTH + importance_charts.MAX_VALUE_LENGTH + 3


def importance_bars(data: ReportData, method: str, *, by_group: bool) -> Figure | None:
    """Return bars of LPI or fANOVA main effects, one per fidelity, with error bars."""
    bars = importance_charts.importance_bars(data, method, by_group=by_group)
    if bars is None:
        return None
    labels = [label(name) for name in bars.names]
    places = list(range(len(labels)))
    traces = [
        go.Bar(
            y=places,
            text=labels,
            textposition="none",
            x=bars.mean[index],
            orientation="h",
            name=with_unit(fidelity, data.fidelity_unit),
            marker={"color": level(index, len(bars.fidelities))},
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
    shown = {"lpi": "LPI", "fanova": "fANOVA, main effects"}[method]
    kind = "design decision" if by_group else "hyperparameter"
    spread = "95 % bootstrap intervals" if bars.has_intervals else "the standard deviation over the trees"
    return Figure(
        name=f"{method}-{'groups' if by_group else 'hyperparameters'}",
        title=f"{shown} per {kind}",
        caption=f"Share of the variance, {_fidelities(bars.fidelities, data)}; error bars are {spread}.",
        drawing=draw(
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
        ),
        height=height,
    )


def _fidelities(fidelities: Sequence[float], data: ReportData) -> str:
    if len(fidelities) == 1:
        return f"at {with_unit(fidelities[0], data.fidelity_unit)}"
    return f"one bar per fidelity ({', '.join(plain(float(f)) for f in fidelities)}), in the order of the highest"


def pair_heat_map(entry: Mapping[str, Any], prefix: str) -> Figure | None:
    """Return the interactions of all pairs as a heat map."""
    found = importance_charts.pair_matrix(entry)
    if found is None:
        return None
    names, matrix = found
    shown = [abridge(name, charts.LABEL_LENGTH) for name in names]
    labels = [label(name) for name in shown]
    places = list(range(len(labels)))
    height = round(60 + HEAT_ROW * len(names) + SLANTED_CHARACTER * max(map(len, shown)))
    heat = go.Heatmap(
        x=places,
        y=places,
        z=matrix,
        text=[[f"{first} × {second}" for second in labels] for first in labels],
        colorscale=[[0, SURFACE], [1, "var(--level-5)"]],
        zmin=0,
        zmax=importance_charts.darkest_share(matrix),
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
    return Figure(
        name=f"{prefix}-pairs",
        title="Interactions of pairs (fANOVA)",
        caption="Share of the variance that two hyperparameters explain together beyond each alone; the table names the strongest.",
        drawing=draw(
            heat,
            x=Scale(low=-0.5, high=len(names) - 0.5, ticks=list(enumerate(shown)), slant=-60),
            y=rows(shown),
            height=height,
            is_still=True,
            xaxis={"showgrid": False, "ticks": ""},
            yaxis={"showgrid": False, "ticks": ""},
        ),
        height=height,
        min_width=560,
    )


def ablation_path(entry: Mapping[str, Any], prefix: str) -> Figure | None:
    """Return the predicted cost after each change from the default to the incumbent, from top to bottom."""
    found = importance_charts.ablation(entry)
    if found is None:
        return None
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
    return Figure(
        name=f"{prefix}-ablation",
        title="Ablation path",
        caption="From the default (top) to the incumbent (bottom): the predicted cost after each change, the most useful first.",
        drawing=draw(line, x=found.x, y=found.y, height=height, is_still=True, yaxis={"ticks": ""}),
        height=height,
    )


def shapley_bars(data: ReportData, entry: Mapping[str, Any], prefix: str) -> Figure | None:
    """Return the Shapley value of each change from the default to the incumbent."""
    found = importance_charts.shapley(data, entry)
    if found is None:
        return None
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
        },
        error_x=_error_bars(found),
        hovertemplate="%{text}: %{x:+.4f}<extra></extra>",
    )
    return Figure(
        name=f"{prefix}-shapley",
        title="Shapley values",
        caption="How much of the predicted gain from the default to the incumbent each change is worth; hatched bars are losses.",
        drawing=draw(
            bar,
            x=found.x,
            y=found.y,
            height=height,
            is_still=True,
            xaxis={"zeroline": True, "zerolinecolor": MUTED},
            yaxis={"ticks": ""},
        ),
        height=height,
    )


def partial_dependence(data: ReportData, entry: Mapping[str, Any], prefix: str) -> list[Figure]:
    """Return one small figure per hyperparameter, all on the same cost axis; the incumbent's value is filled."""
    found = importance_charts.dependences(data, entry)
    return [_dependence(curve, f"{prefix}-dependence-{number}") for number, curve in enumerate(found)]


def _dependence(curve: importance_charts.Dependence, name: str) -> Figure:
    drawing = draw(
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
    return Figure(name=name, title=curve.name, caption="", drawing=drawing, height=DEPENDENCE_HEIGHT)


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
