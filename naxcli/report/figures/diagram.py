"""Diagram: marks on two axes. A figure that dots and lines can show needs no drawing of its own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from naxcli.report.figures.scales import Scale

# The incumbent's colour; the others are `level-1` (the palest) to `level-5`.
ACCENT = "accent"


@dataclass(frozen=True, slots=True, kw_only=True)
class Dots:
    """Points, those of trials with their ids. `symbol` is a number: series of one figure differ in it."""

    name: str
    x: np.ndarray
    y: np.ndarray
    colour: str
    symbol: int = 0
    trial_ids: np.ndarray | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """A line that stands out, from point to point or in steps; the points of trials are marked as diamonds.

    `spread` is what a band around it extends by, up and down.
    """

    name: str
    x: np.ndarray
    y: np.ndarray
    colour: str = ACCENT
    is_step: bool = False
    trial_ids: np.ndarray | None = None
    spread: np.ndarray | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ThinLines:
    """Many lines of one series, each as its x and y, that stay in the background."""

    name: str
    lines: Sequence[tuple[np.ndarray, np.ndarray]]
    colour: str


Mark = Dots | Line | ThinLines


@dataclass(frozen=True, slots=True, kw_only=True)
class Diagram:
    """Marks in the order in which they are drawn, the last on top. Every mark is in the legend."""

    x: Scale
    y: Scale
    marks: Sequence[Mark]
