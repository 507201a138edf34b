"""Drawing: a Plotly figure in the page's colours; and the pieces that every one shares."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from html import escape
from typing import Any

import plotly.graph_objects as go

from naxcli.report.figures import numbers as charts
from naxcli.report.figures.scales import Scale
from naxcli.report.text import abridge

ACCENT, TEXT, MUTED, GRID, SURFACE = "var(--accent)", "var(--text)", "var(--muted)", "var(--grid)", "var(--surface)"
TRANSPARENT = "rgba(0,0,0,0)"
# Right of the axes: the toolbar stands there, and covers nothing.
TOOLBAR = 40
SYMBOLS = ("circle", "diamond", "square", "triangle-up", "cross", "pentagon")


@dataclass(frozen=True, slots=True, kw_only=True)
class Drawing:
    """A drawn diagram.

    Args:
        plot: The Plotly figure.
        height: Height in pixels.
        min_width: Width in pixels; a narrower page scrolls the diagram sideways.
    """

    plot: go.Figure
    height: int
    min_width: int = 0


# Type of a figure's content -> what draws it.
Drawers = dict[type, Callable[[Any], Drawing]]


def label(text: Any, length: int = charts.LABEL_LENGTH) -> str:
    """Return text that Plotly shows literally: it reads HTML-like tags in labels."""
    return escape(abridge(str(text), length), quote=False)


def axis(scale: Scale) -> dict[str, Any]:
    """Return Plotly's axis of a scale."""
    ends = [scale.low, scale.high]
    found: dict[str, Any] = {
        "title": {"text": escape(scale.title, quote=False)},
        "type": "log" if scale.is_log else "linear",
        "range": [math.log10(end) for end in ends] if scale.is_log else ends,
    }
    if scale.ticks is not None:
        found |= {
            "tickvals": [value for value, _ in scale.ticks],
            "ticktext": [label(text) for _, text in scale.ticks],
            "tickangle": scale.slant,
        }
    elif scale.is_count:
        found["tickformat"] = "~s"
    elif scale.is_log:
        # Without a format, the 2 of 0.02 would stand alone, and a small number would be 100µ.
        found["tickformat"] = "~g"
    return found


def draw(
    *traces: Any, x: Scale, y: Scale, height: int, min_width: int = 0, is_still: bool = False, **layout: Any
) -> Drawing:
    """Return a drawing in the page's colours.

    Args:
        traces: What the drawing shows.
        x: Horizontal axis.
        y: Vertical axis.
        height: Height in pixels.
        min_width: Width in pixels below which the page scrolls the drawing sideways.
        is_still: Whether there is nothing to zoom into, and so no toolbar.
        layout: What differs from the other figures; `xaxis` and `yaxis` add to their scales.
    """
    style = {
        "gridcolor": GRID,
        "linecolor": MUTED,
        "zerolinecolor": GRID,
        "zeroline": False,
        "automargin": True,
        # Plotly hides a label that reaches over the edge, rather than make room for it.
        "ticklabeloverflow": "allow",
        "ticks": "outside",
        "tickcolor": GRID,
        # Numbers up to a million and down to a hundred-thousandth are written out, all others as 2e-7: 100µ is no number.
        "exponentformat": "e",
        "minexponent": 5,
        "fixedrange": is_still,
    }
    layout["xaxis"] = style | axis(x) | layout.get("xaxis", {})
    layout["yaxis"] = style | axis(y) | layout.get("yaxis", {})
    base = {
        "template": "none",
        "paper_bgcolor": TRANSPARENT,
        "plot_bgcolor": TRANSPARENT,
        "font": {"color": TEXT, "size": 13, "family": "system-ui, sans-serif"},
        "hoverlabel": {"bgcolor": SURFACE, "bordercolor": MUTED, "font": {"color": TEXT}, "align": "left"},
        "legend": {"orientation": "h", "yanchor": "bottom", "y": 1.01, "xanchor": "left", "x": 0},
        "modebar": {"bgcolor": TRANSPARENT, "color": MUTED, "activecolor": TEXT, "orientation": "v"},
        "dragmode": False if is_still else "zoom",
        "margin": {"l": 8, "r": 12 if is_still else TOOLBAR, "t": 28, "b": 8},
        "height": height,
    }
    return Drawing(plot=go.Figure(data=list(traces), layout=base | layout), height=height, min_width=min_width)


def level(index: int, count: int) -> str:
    """Return the colour of one of `count` ordered fidelities."""
    return colour(charts.level(index, count))


def colour(name: str) -> str:
    """Return the page's variable of a colour."""
    return f"var(--{name})"
