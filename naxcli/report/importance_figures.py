"""The figures of importance on the HTML page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import plotly.graph_objects as go

from naxcli.report import charts, importance
from naxcli.report.data import ReportData
from naxcli.report.drawing import ACCENT, MUTED, SURFACE, TEXT, Figure, draw, label, level
from naxcli.report.text import is_missing, plain, with_unit


def importance_bars(data: ReportData, method: str, *, by_group: bool) -> Figure | None:
    """Return bars of LPI or fANOVA main effects, one per fidelity, with error bars."""
    bars = charts.importance_bars(data, method, by_group=by_group)
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
            height=height,
            barmode="group",
            xaxis={"title": {"text": shown}, "rangemode": "tozero"},
            yaxis=_named_rows(labels),
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
    found = charts.pair_matrix(entry)
    if found is None:
        return None
    names, matrix = found
    labels = [label(name) for name in names]
    places = list(range(len(labels)))
    height = 150 + 30 * len(names)
    heat = go.Heatmap(
        x=places,
        y=places,
        z=matrix,
        text=[[f"{first} × {second}" for second in labels] for first in labels],
        colorscale=[[0, SURFACE], [1, "var(--level-5)"]],
        zmin=0,
        xgap=1,
        ygap=1,
        hoverongaps=False,
        colorbar={"title": {"text": "share"}, "thickness": 12, "outlinewidth": 0, "tickformat": ".3~f"},
        hovertemplate="%{text}: %{z:.4f}<extra></extra>",
    )
    return Figure(
        name=f"{prefix}-pairs",
        title="Interactions of pairs (fANOVA)",
        caption="Share of the variance that two hyperparameters explain together beyond each alone; the table names the strongest.",
        drawing=draw(
            heat,
            height=height,
            xaxis={
                "tickvals": places,
                "ticktext": labels,
                "tickangle": -60,
                "showgrid": False,
                "zeroline": False,
                "ticks": "",
            },
            yaxis=_named_rows(labels) | {"showgrid": False},
        ),
        height=height,
        min_width=560,
    )


def ablation_path(entry: Mapping[str, Any], prefix: str) -> Figure | None:
    """Return the predicted cost after each change from the default to the incumbent, from top to bottom."""
    steps = [step for step in entry.get("ablation") or [] if not is_missing(step.get("cost"))]
    if len(steps) < 2:
        return None
    labels = [
        label(step["name"]) if is_missing(step.get("to")) else f"{label(step['name'])} → {label(plain(step['to']))}"
        for step in steps
    ]
    height = 110 + 30 * len(steps)
    line = go.Scatter(
        x=[float(step["cost"]) for step in steps],
        y=list(range(len(steps))),
        text=labels,
        mode="lines+markers",
        error_x=_error_bars(np.array([float(step["cost"]) for step in steps]), steps),
        line={"color": "var(--level-4)", "width": 2},
        marker={"color": [*["var(--level-5)"] * (len(steps) - 1), ACCENT], "size": 10},
        hovertemplate="%{text}: %{x:.4f}<extra></extra>",
    )
    return Figure(
        name=f"{prefix}-ablation",
        title="Ablation path",
        caption="From the default (top) to the incumbent (bottom): the predicted cost after each change, the most useful first.",
        drawing=draw(
            line,
            height=height,
            xaxis={"title": {"text": "Predicted cost"}},
            yaxis=_named_rows(labels),
        ),
        height=height,
    )


def shapley_bars(entry: Mapping[str, Any], prefix: str) -> Figure | None:
    """Return the Shapley value of each change from the default to the incumbent."""
    rows = list(importance.shapley(entry).rows)
    if not rows:
        return None
    values = np.array([float(row["value"]) for row in rows])
    labels = [label(row["name"]) for row in rows]
    height = 100 + 30 * len(rows)
    bar = go.Bar(
        y=list(range(len(rows))),
        text=labels,
        textposition="none",
        x=values,
        orientation="h",
        marker={"color": ["var(--level-4)" if value >= 0 else ACCENT for value in values],
                "pattern": {"shape": ["" if value >= 0 else "/" for value in values]}},
        error_x=_error_bars(values, rows),
        hovertemplate="%{text}: %{x:+.4f}<extra></extra>",
    )  # fmt: skip
    return Figure(
        name=f"{prefix}-shapley",
        title="Shapley values",
        caption="How much of the predicted gain from the default to the incumbent each change is worth; hatched bars are losses.",
        drawing=draw(
            bar,
            height=height,
            xaxis={"title": {"text": "Gain in predicted cost"}, "zeroline": True, "zerolinecolor": MUTED},
            yaxis=_named_rows(labels),
        ),
        height=height,
    )


def partial_dependence(entry: Mapping[str, Any], incumbent: Mapping[str, Any] | None, prefix: str) -> list[Figure]:
    """Return one small figure per hyperparameter, all on the same cost axis; the incumbent's value is filled."""
    found = charts.dependence_order(entry)
    if not found:
        return []
    lows = [np.min(np.subtract(curve["mean"], curve["std"])) for curve in found]
    highs = [np.max(np.add(curve["mean"], curve["std"])) for curve in found]
    pad = 0.05 * (max(highs) - min(lows) or 1.0)
    y_range = [min(lows) - pad, max(highs) + pad]
    config = (incumbent or {}).get("config") or {}
    return [
        _dependence(curve, config.get(curve["name"]), y_range, f"{prefix}-dependence-{i}")
        for i, curve in enumerate(found)
    ]


def _dependence(curve: Mapping[str, Any], chosen: Any, y_range: list[float], name: str) -> Figure:
    values = curve["values"]
    traces, xaxis = _scale(curve, chosen) if charts.is_continuous(values) else _row_of_names(curve, chosen)
    drawing = draw(
        *traces,
        height=200,
        showlegend=False,
        margin={"l": 8, "r": 12, "t": 8, "b": 8},
        xaxis={"showgrid": False} | xaxis,
        yaxis={"range": y_range, "nticks": 5, "tickformat": ".3~f"},
    )
    return Figure(name=name, title=str(curve["name"]), caption="", drawing=drawing, height=200)


def _row_of_names(curve: Mapping[str, Any], chosen: Any) -> tuple[list[Any], dict[str, Any]]:
    labels = [label(plain(value)) for value in curve["values"]]
    places = list(range(len(labels)))
    is_chosen = [chosen is not None and plain(value) == plain(chosen) for value in curve["values"]]
    trace = go.Scatter(
        x=places,
        y=curve["mean"],
        text=labels,
        mode="lines+markers",
        line={"color": "var(--level-4)", "width": 1, "dash": "dot"},
        marker={
            "size": 10,
            "color": [ACCENT if flag else SURFACE for flag in is_chosen],
            "line": {"color": [ACCENT if flag else "var(--level-5)" for flag in is_chosen], "width": 2},
        },
        error_y={"type": "data", "array": curve["std"], "color": MUTED, "thickness": 1.2, "width": 3},
        hovertemplate="%{text}: %{y:.4f}<extra></extra>",
    )
    return [trace], {"tickvals": places, "ticktext": labels, "range": [-0.4, len(places) - 0.6]}


def _scale(curve: Mapping[str, Any], chosen: Any) -> tuple[list[Any], dict[str, Any]]:
    values, mean, std = (np.array(curve[key], dtype=float) for key in ("values", "mean", "std"))
    band = {"mode": "lines", "line": {"width": 0}, "hoverinfo": "skip"}
    traces = [
        go.Scatter(x=values, y=mean - std, **band),
        go.Scatter(x=values, y=mean + std, fill="tonexty", fillcolor="var(--level-1)", **band),
        go.Scatter(
            x=values,
            y=mean,
            mode="lines",
            line={"color": "var(--level-5)", "width": 2},
            hovertemplate="%{x:.4g}: %{y:.4f}<extra></extra>",
        ),
    ]
    if isinstance(chosen, int | float):
        nearest = int(np.abs(values - chosen).argmin())
        marker = {"color": ACCENT, "size": 10}
        traces.append(
            go.Scatter(
                x=[chosen],
                y=[mean[nearest]],
                mode="markers",
                marker=marker,
                hovertemplate="incumbent %{x:.4g}<extra></extra>",
            )
        )
    return traces, {"type": "log"} if charts.needs_log(values) else {}


def _named_rows(labels: Sequence[str]) -> dict[str, Any]:
    """Return a vertical axis with the first name at the top. Rows are numbers: names that are shortened alike stay apart."""
    return {
        "tickvals": list(range(len(labels))),
        "ticktext": list(labels),
        "range": [len(labels) - 0.5, -0.5],
        "ticks": "",
        "zeroline": False,
    }


def _error_bars(values: np.ndarray, rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return Plotly's error bars of the rows' intervals, of no length where there is none."""
    low, high = (np.array([value if is_missing(row.get(key)) else float(row[key]) for value, row in zip(values, rows, strict=True)])
                 for key in ("low", "high"))  # fmt: skip
    return {
        "type": "data",
        "symmetric": False,
        "array": np.clip(high - values, 0, None),
        "arrayminus": np.clip(values - low, 0, None),
        "color": TEXT,
        "thickness": 1.2,
        "width": 3,
    }
