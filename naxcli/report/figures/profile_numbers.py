"""The numbers and axes of a profile by block, whichever library draws it."""

from __future__ import annotations

from functools import partial

import numpy as np

from naxcli.report import tenths
from naxcli.report.data import ReportData
from naxcli.report.figures.diagram import ACCENT, Diagram, Line
from naxcli.report.figures.figure import Figure
from naxcli.report.figures.scales import scale_of
from naxcli.report.section import Figures

COLOURS = {"top": ACCENT, "middle": "level-2", "bottom": "level-5"}


def figures(data: ReportData) -> Figures:
    """Return a figure of each profile that the space declared."""
    return Figures(makers=[partial(profile_by_block, data, name) for name in tenths.profile_names(data)])


def profile_by_block(data: ReportData, name: str) -> Figure:
    """Return a profile of the best, the middle and the worst tenth of the configurations against the index of the block."""
    rows = [row for row in tenths.profile_rows(data) if row["profile"] == name]
    marks = [
        Line(
            name=tenths.TITLES[tenth],
            x=np.array([row["block"] for row in rows if row["tenth"] == tenth], dtype=float),
            y=np.array([row["mean"] for row in rows if row["tenth"] == tenth], dtype=float),
            spread=np.array([row["std"] or 0.0 for row in rows if row["tenth"] == tenth], dtype=float),
            colour=COLOURS[tenth],
        )
        for tenth in reversed(tenths.NAMES)
    ]
    ends = np.concatenate(
        [line.y + sign * line.spread for line in marks for sign in (-1, 1) if line.spread is not None]
    )
    return Figure(
        name=f"profile-{name}",
        file=f"profile_{name}",
        title=f"{name.capitalize()} by block",
        caption="Mean over the configurations of each tenth; the bands are one standard deviation wide on each side.",
        content=Diagram(
            x=scale_of("Block", [row["block"] for row in rows], is_whole=True),
            y=scale_of(name.capitalize(), ends),
            marks=marks,
        ),
    )
