"""Figure: a Plotly figure with its words, in the page's colours; and the pieces that every figure shares."""

from __future__ import annotations

from dataclasses import dataclass
from html import escape
from typing import Any

import plotly.graph_objects as go

from naxcli.report.text import shorten

LEVELS = 5
LABEL_LENGTH = 26

ACCENT, TEXT, MUTED, GRID, SURFACE = "var(--accent)", "var(--text)", "var(--muted)", "var(--grid)", "var(--surface)"
TRANSPARENT = "rgba(0,0,0,0)"
SYMBOLS = ("circle", "diamond", "square", "triangle-up", "cross", "pentagon")


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """A drawn figure with the words that stand in for it.

    Args:
        name: identifier of its element on the page.
        title: what it shows.
        caption: how to read it.
        drawing: the Plotly figure.
        height: in pixels.
        min_width: in pixels; a narrower page scrolls the figure sideways.
    """

    name: str
    title: str
    caption: str
    drawing: go.Figure
    height: int
    min_width: int = 0


def label(text: Any) -> str:
    """Return text that Plotly shows literally: it reads HTML-like tags in labels."""
    return escape(shorten(str(text), LABEL_LENGTH), quote=False)


def draw(*traces: Any, height: int, **layout: Any) -> go.Figure:
    axis = {
        "gridcolor": GRID,
        "linecolor": MUTED,
        "zerolinecolor": GRID,
        "automargin": True,
        "ticks": "outside",
        "tickcolor": GRID,
    }
    for name in ("xaxis", "yaxis"):
        layout[name] = axis | layout.get(name, {})
    base = {
        "template": "none",
        "paper_bgcolor": TRANSPARENT,
        "plot_bgcolor": TRANSPARENT,
        "font": {"color": TEXT, "size": 13, "family": "system-ui, sans-serif"},
        "hoverlabel": {"bgcolor": SURFACE, "bordercolor": MUTED, "font": {"color": TEXT}, "align": "left"},
        "legend": {"orientation": "h", "yanchor": "bottom", "y": 1.01, "xanchor": "left", "x": 0},
        "modebar": {"bgcolor": TRANSPARENT, "color": MUTED, "activecolor": TEXT},
        "margin": {"l": 8, "r": 12, "t": 28, "b": 8},
        "height": height,
    }
    return go.Figure(data=list(traces), layout=base | layout)


def level(index: int, count: int) -> str:
    """Return the colour of one of `count` ordered fidelities: the highest stands out most."""
    place = LEVELS if count == 1 else 1 + round(index * (LEVELS - 1) / (count - 1))
    return f"var(--level-{max(place, 2)})" if count <= LEVELS - 1 else f"var(--level-{place})"
