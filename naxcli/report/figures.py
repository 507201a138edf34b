"""The figures of a run on the HTML page: progress, parallel coordinates, Pareto front, learning curves, fidelities."""

from __future__ import annotations

from html import escape
from typing import Any

import numpy as np
import plotly.graph_objects as go

from naxcli.report import charts
from naxcli.report.data import ReportData
from naxcli.report.drawing import ACCENT, MUTED, SURFACE, SYMBOLS, TEXT, Figure, draw, label, level
from naxcli.report.text import is_missing, shorten, with_unit

# Above this number of points, WebGL draws them; below, SVG is sharper and prints.
WEBGL_FROM = 1_500
QUANTITIES = {"val_accuracy": "Validation accuracy", "val_loss": "Validation loss", "train_loss": "Training loss"}
SIZES = {"num_params": "Parameters", "flops": "Multiply-adds", "latency_ms": "Latency (ms)"}


def cost_over(data: ReportData, clock: str) -> Figure | None:
    """Return cost over wall-clock time (`elapsed`) or over the time spent in trials (`spent`)."""
    found = charts.progress(data, clock)
    if found is None:
        return None
    scatter = go.Scattergl if len(found.dots) > WEBGL_FROM else go.Scatter
    fidelities = sorted(found.dots["fidelity"].unique())
    traces: list[Any] = []
    for index, fidelity in enumerate(fidelities):
        dots = found.dots[found.dots["fidelity"] == fidelity]
        traces.append(
            scatter(
                x=dots["x"].to_numpy(dtype=np.float32),
                y=dots["cost"].to_numpy(dtype=np.float32),
                customdata=dots["trial_id"].to_numpy(dtype=np.int32),
                mode="markers",
                name=with_unit(fidelity, data.fidelity_unit),
                marker={
                    "color": level(index, len(fidelities)),
                    "symbol": SYMBOLS[index % len(SYMBOLS)],
                    "size": 5 if len(dots) > WEBGL_FROM else 7,
                    "opacity": 0.55 if len(dots) > WEBGL_FROM else 0.8,
                },
                hovertemplate="trial %{customdata}<br>cost %{y:.4f}",
            )
        )
    traces.append(
        go.Scatter(
            x=found.best_x,
            y=found.best_cost,
            mode="lines",
            name="best so far",
            line={"color": ACCENT, "width": 3, "shape": "hv"},
            hovertemplate="best so far %{y:.4f}",
        )
    )
    layout: dict[str, Any] = {"shapes": [], "annotations": []}
    names: dict[float, list[str]] = {}  # references of equal cost, such as a default that is a baseline, share a line
    for reference in data.listed("references"):
        if not is_missing(reference.get("cost")):
            names.setdefault(float(reference["cost"]), []).append(label(reference["name"]))
    for y, shared in names.items():
        line = {"color": TEXT, "width": 1, "dash": "dash"}
        text = {"text": " = ".join(shared), "x": 1, "xref": "paper", "y": y, "showarrow": False}
        layout["shapes"].append({"type": "line", "xref": "paper", "x0": 0, "x1": 1, "y0": y, "y1": y, "line": line})
        layout["annotations"].append(text | {"xanchor": "right", "yanchor": "bottom"})
    if len(found.failures):
        traces.append(
            scatter(
                x=found.failures["x"].to_numpy(dtype=np.float32),
                y=np.zeros(len(found.failures), dtype=np.int8),
                text=[
                    f"trial {row.trial_id}: {escape(str(row.status)).replace('_', ' ')}"
                    for row in found.failures.itertuples()
                ],
                mode="markers",
                name="failed",
                yaxis="y2",
                marker={"color": TEXT, "symbol": "x-thin-open", "size": 7},
                hovertemplate="%{text}<extra></extra>",
            )
        )
        layout["yaxis2"] = {"domain": [0, 0.05], "visible": False, "fixedrange": True, "range": [-1, 1]}
    is_log = charts.needs_log(found.dots["cost"].to_numpy(dtype=float))
    what = "Time since the start" if clock == "elapsed" else data.spent_name
    clock_words = "wall-clock time" if clock == "elapsed" else data.seconds_name
    drawing = draw(
        *traces,
        height=460,
        xaxis={
            "title": {"text": f"{what} ({found.unit})"},
            "rangemode": "tozero",
            "anchor": "y2" if "yaxis2" in layout else "y",
        },
        yaxis={
            "title": {"text": "Cost"},
            "type": "log" if is_log else "linear",
            "domain": [0.08, 1] if "yaxis2" in layout else [0, 1],
        },
        **layout,
    )
    failures = f" Crosses at the bottom: {len(found.failures):,} failed trials." if len(found.failures) else ""
    return Figure(
        name=f"cost-over-{clock}",
        title=f"Cost over {clock_words}",
        caption="Every success is a dot at the moment it ended; the line is the best cost so far at the highest fidelity: it only "
        f"falls.{failures}",
        drawing=drawing,
        height=460,
    )


def parallel_coordinates(data: ReportData) -> Figure | None:
    """Return parallel coordinates of the trials at the highest fidelity, the most important axis next to the cost."""
    found = charts.parallel(data)
    if found is None:
        return None
    num_axes, num_lines = len(found.axes), len(found.costs)
    heights = np.column_stack([axis.heights for axis in found.axes])
    first_best = num_lines - found.num_best
    styles: tuple[tuple[str, slice, dict[str, Any]], ...] = (
        ("other trials", slice(0, first_best), {"line": {"color": "var(--level-3)", "width": 0.7}, "opacity": 0.6}),
        (f"best {found.num_best}", slice(first_best, None), {"line": {"color": ACCENT, "width": 1.6}}),
    )
    traces = []
    for name, part, style in styles:
        # NaN ends a line.
        y = np.pad(heights[part], ((0, 0), (0, 1)), constant_values=np.nan).ravel().astype(np.float32)
        words = [
            f"trial {trial}: cost {cost:.4f}"
            for trial, cost in zip(found.trial_ids[part], found.costs[part], strict=True)
        ]
        traces.append(
            go.Scatter(
                x=np.tile(np.arange(num_axes + 1, dtype=np.int16), len(words)),
                y=y,
                text=[text for text in words for _ in range(num_axes + 1)],
                mode="lines",
                name=name,
                hovertemplate="%{text}<extra></extra>",
                **style,
            )
        )
    ticks = [
        {
            "x": place,
            "y": height,
            "text": label(shorten(text, 14)),
            "showarrow": False,
            "bgcolor": SURFACE,
            "font": {"size": 11},
            "borderpad": 1,
        }
        for place, axis in enumerate(found.axes)
        for height, text in axis.ticks
    ]
    drawing = draw(
        *traces,
        height=520,
        annotations=ticks,
        xaxis={
            "tickvals": list(range(num_axes)),
            "ticktext": [label(axis.name) for axis in found.axes],
            "tickangle": -30,
            "side": "top",
            "range": [-0.35, num_axes - 0.65],
            "zeroline": False,
            "showline": False,
            "gridcolor": MUTED,
        },
        yaxis={"visible": False, "range": [-0.03, 1.03]},
        legend={"orientation": "h", "yanchor": "top", "y": -0.02, "xanchor": "left", "x": 0},
    )
    thinned = (
        ""
        if num_lines == found.num_trials
        else f" {num_lines:,} of {found.num_trials:,} trials are drawn: the best, and an even sample."
    )
    return Figure(
        name="parallel-coordinates",
        title="Choices and cost of each trial",
        caption=f"One line per trial at the highest fidelity, the best {found.num_best} on top in the accent colour. Axes go from the most "
        f"important, beside the cost, to the least.{thinned}",
        drawing=drawing,
        height=520,
        min_width=58 * num_axes,
    )


def pareto_front(data: ReportData) -> Figure | None:
    """Return cost against measured size with the Pareto front."""
    size = charts.size_column(data)
    trials = charts.at_highest_fidelity(data)
    if size is None or trials.empty:
        return None
    front = charts.front(data, size)
    scatter = go.Scattergl if len(trials) > WEBGL_FROM else go.Scatter
    dots = scatter(
        x=trials[size].to_numpy(dtype=float),
        y=trials["cost"].to_numpy(dtype=float),
        customdata=data.trial_ids(trials).to_numpy(dtype=np.int32),
        mode="markers",
        name="trials",
        marker={"color": "var(--level-3)", "size": 6, "opacity": 0.7},
        hovertemplate="trial %{customdata}<br>%{x:.4~s}, cost %{y:.4f}<extra></extra>",
    )
    line = go.Scatter(
        x=[float(point[size]) for point in front],
        y=[float(point["cost"]) for point in front],
        customdata=[point.get("trial_id") for point in front],
        mode="lines+markers",
        name="Pareto front",
        line={"color": ACCENT, "width": 2, "shape": "hv"},
        marker={"symbol": "diamond", "size": 9},
        hovertemplate="trial %{customdata}<br>%{x:.4~s}, cost %{y:.4f}<extra></extra>",
    )
    return Figure(
        name="pareto-front",
        title=f"Cost against {SIZES[size].lower()}",
        caption="Trials at the highest fidelity. No trial is both smaller and better than one on the line.",
        drawing=draw(dots, line, height=420, xaxis={"title": {"text": SIZES[size]}}, yaxis={"title": {"text": "Cost"}}),
        height=420,
    )


def learning_curves(data: ReportData) -> Figure | None:
    """Return learning curves, the incumbent's on top."""
    found = charts.learning_curves(data)
    if found is None:
        return None
    x: list[float | None] = []
    y: list[float | None] = []
    for _, epochs, values in found.lines:
        x += [*map(float, epochs), None]
        y += [*map(float, values), None]
    traces = [go.Scatter(x=x, y=y, mode="lines+markers", name="trials", line={"color": "var(--level-3)", "width": 1},
                         marker={"size": 3}, opacity=0.5, hoverinfo="skip", connectgaps=False)]  # fmt: skip
    if found.incumbent is not None:
        trial_id, epochs, values = found.incumbent
        traces.append(
            go.Scatter(
                x=epochs,
                y=values,
                mode="lines+markers",
                name=f"incumbent (trial {trial_id})",
                line={"color": ACCENT, "width": 3},
                hovertemplate="epoch %{x}: %{y:.4f}<extra></extra>",
            )
        )
    drawn = len(found.lines) + (found.incumbent is not None)
    thinned = (
        f"{drawn:,} of {found.num_trials:,} trials, evenly spread over the run."
        if drawn < found.num_trials
        else "Every trial."
    )
    return Figure(
        name="learning-curves",
        title=f"{QUANTITIES[found.quantity]} after each epoch",
        caption=f"{thinned} All epochs are in curves.parquet.",
        drawing=draw(
            *traces,
            height=420,
            xaxis={"title": {"text": "Epoch"}},
            yaxis={"title": {"text": QUANTITIES[found.quantity]}},
        ),
        height=420,
    )


def fidelity_correlation(data: ReportData) -> Figure | None:
    """Return the cost of each configuration at a lower fidelity against its cost at the highest."""
    pairs = charts.fidelity_pairs(data)
    if not pairs:
        return None
    traces = [
        go.Scatter(
            x=both["low"].to_numpy(dtype=float),
            y=both["high"].to_numpy(dtype=float),
            mode="markers",
            name=f"{with_unit(low, data.fidelity_unit)} ({len(both)})",
            marker={
                "color": level(index, len(pairs) + 1),
                "symbol": SYMBOLS[index % len(SYMBOLS)],
                "size": 8,
                "opacity": 0.85,
            },
            hovertemplate="%{x:.4f} → %{y:.4f}",
        )
        for index, (low, both) in enumerate(sorted(pairs.items()))
    ]
    return Figure(
        name="fidelity-correlation",
        title="Cost at a lower fidelity against the highest",
        caption="One point per configuration evaluated at both. Points that rise from left to right mean that the cheap trial ranks well.",
        drawing=draw(
            *traces,
            height=400,
            xaxis={"title": {"text": "Cost at the lower fidelity"}},
            yaxis={"title": {"text": "Cost at the highest"}},
        ),
        height=400,
    )
